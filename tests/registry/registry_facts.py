"""Facts of models that do not exist."""

import hashlib
from pathlib import Path

from rebasin_hub.registry import Facts, FileFacts


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def made_up(text, path=None):
    """Return facts that depend on a text alone; `path` is the one file, if it exists."""
    data = path.read_bytes() if path is not None else text.encode()
    stat = path.stat() if path is not None else None
    file = FileFacts(
        name="model.safetensors",
        path=path or Path("/nowhere/model.safetensors"),
        digest=hashlib.sha256(data).hexdigest(),
        nbytes=len(data),
        mtime_ns=stat.st_mtime_ns if stat else 0,
        weights=True,
    )
    return Facts(
        files=(file,),
        main=file.name,
        format="safetensors",
        digest=sha(f"plain {text}"),
        canonical=sha(f"canonical {text}"),
        exact=True,
        spec="mlp",
        spec_digest=sha("spec"),
        signature=sha("signature"),
        sizes={"hidden[1]": 8},
        dtypes={"F32": 100},
        parameters=100,
        nbytes=len(data),
    )
