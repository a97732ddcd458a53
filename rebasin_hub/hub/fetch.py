"""Read models from the Hub: what there is, headers by byte ranges, then only the needed files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import FormatError, InputError
from rebasin_hub.formats.directory import find_weights, read_index
from rebasin_hub.formats.folder import survey
from rebasin_hub.formats.header import MAX_HEADER
from rebasin_hub.hub.client import explained, patiently
from rebasin_hub.hub.reference import HubReference

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = [
    "Peeked",
    "Remote",
    "RemoteFile",
    "ask",
    "fetch",
    "file_digest",
    "look_up",
    "peek",
    "read_text",
]

_LENGTH = 8
_FIRST = 1 << 16
"""Bytes that are asked for first: enough for the header of most files."""
_CHUNK = 1 << 20
_CONNECTIONS = 8


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its size and its digest, where they are known.

    `digest` is the SHA-256 of a large file, and of a small one the SHA-1 that git gives it.
    """

    size: int | None
    digest: str | None
    large: bool = False


@dataclass(frozen=True)
class Remote:
    """A repository at one commit; `card` is what its card's front matter says."""

    reference: HubReference
    files: Mapping[str, RemoteFile]
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peeked:
    """What is known of a model before its weights are fetched.

    `path` is a checkpoint whose headers are real and whose tensors are holes in the file, good
    for binding a spec and nothing else; None where headers cannot be had (torch files). `names`
    are the files that a whole checkpoint needs, `main` the one to open; empty for the folder.
    """

    path: Path | None
    names: tuple[str, ...]
    main: str


def look_up(api: HfApi, reference: HubReference) -> Remote:
    """Return a repository at the commit that a reference means now.

    Offline, both come from the client's cache.

    Raises:
        InputError: there is no such repository or revision, or it cannot be asked.

    """
    from huggingface_hub import constants

    with explained(str(reference)):
        offline = constants.is_offline_mode()
        # This notes the commit in the cache, where it is looked for offline.
        resolved = patiently(
            lambda: api.resolve_revision(
                reference.repo, revision=reference.revision, local_files_only=offline
            )
        )
        pinned = reference.at(resolved.resolved)
        if offline:
            return Remote(pinned, _cached_files(pinned))
        return ask(api, pinned)


def ask(api: HfApi, reference: HubReference) -> Remote:
    """Return a repository as the Hub describes it now, whatever is cached.

    Errors are the client's own.
    """
    info = patiently(
        lambda: api.model_info(reference.repo, revision=reference.revision, files_metadata=True)
    )
    pinned = reference.at(str(info.sha))
    files = {
        one.rfilename: RemoteFile(one.size, one.lfs.sha256, large=True)
        if one.lfs is not None
        else RemoteFile(one.size, one.blob_id)
        for one in info.siblings or ()
    }
    for name in files:
        if not name.isprintable() or "\\" in name or {"", ".", ".."} & set(name.split("/")):
            raise InputError(f"{pinned}: holds a file '{name}'; do not trust this repository")
    card = info.card_data.to_dict() if info.card_data is not None else {}  # type: ignore[no-untyped-call]
    return Remote(pinned, files, card)


def _cached_files(pinned: HubReference) -> dict[str, RemoteFile]:
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        tree = get_cached_repo_tree(pinned.repo, revision=pinned.revision)
    except CachedRepoTreeNotFoundError:
        raise InputError(
            f"{pinned}: is not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub; fetch it "
            "once online"
        ) from None
    return {one.path: RemoteFile(one.size, None) for one in tree}


@contextmanager
def peek(api: HfApi, remote: Remote) -> Iterator[Peeked]:
    """Read headers and configuration of a model by byte ranges, without its weights.

    Raises:
        InputError: it has no weights, or they cannot be read.
        FormatError: a header is damaged.

    """
    reference = remote.reference
    with TemporaryDirectory(prefix="rebasin-peek-") as temporary:
        # Messages about the skeleton then name the model.
        folder = Path(temporary, *f"{reference.repo}@{(reference.revision or '')[:12]}".split("/"))
        folder.mkdir(parents=True)
        main, weights, sides = _parts(api, remote, folder)
        names = (*weights, *sides)
        if not all(name.endswith(".safetensors") for name in weights):
            yield Peeked(None, names, main)
            return
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for _ in pool.map(lambda name: _hollow(api, remote, name, folder / name), weights):
                pass
        yield Peeked(folder / main if main else folder, names, main)


def _parts(api: HfApi, remote: Remote, folder: Path) -> tuple[str, list[str], list[str]]:
    """Return the file to open, the weights, and what goes along; write what is small to a folder.

    Weights are chosen as in a folder on the disk: of empty files with the same names.
    """
    for name in remote.files:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    main = remote.reference.file or ""
    if main:
        if main not in remote.files:
            raise InputError(f"{remote.reference}: the repository has no file '{main}'")
        beside = str(Path(main).with_name("config.json"))
        sides = [beside] if beside in remote.files else []
        weights = [main]
    else:
        found = _weights(remote, folder)
        index = found.name.endswith(".index.json")
        if index:
            shutil.copyfile(_cached(api, remote, found.name), found)
        weights = sorted(set(read_index(found).shards.values())) if index else [found.name]
        sides = survey(folder, {*weights, found.name})[0] + ([found.name] if index else [])
    for name in sides:
        if Path(name).name == "config.json":
            shutil.copyfile(_cached(api, remote, name), folder / name)
    return main, weights, sides


def _weights(remote: Remote, folder: Path) -> Path:
    try:
        return find_weights(folder)
    except FormatError as problem:
        reason = str(problem).partition(": ")[2]
        raise InputError(
            f"{remote.reference}: {reason.partition('; ')[0]}; "
            f"name a file as hf://{remote.reference.repo}/FILE"
        ) from None


def _cached(api: HfApi, remote: Remote, name: str) -> Path:
    """Return a small file, fetched into the client's cache."""
    return fetch(api, remote, (name,)) / name


def read_text(api: HfApi, remote: Remote, name: str) -> bytes | None:
    """Return the content of a small file, None where there is none of this name."""
    return _cached(api, remote, name).read_bytes() if name in remote.files else None


def _hollow(api: HfApi, remote: Remote, name: str, place: Path) -> None:
    """Write a safetensors file's header, and a hole where its tensors are."""
    from huggingface_hub import constants, try_to_load_from_cache

    reference = remote.reference
    found = try_to_load_from_cache(reference.repo, name, revision=reference.revision)
    if isinstance(found, str):
        place.unlink()
        place.symlink_to(found)
        return
    if constants.is_offline_mode():
        raise InputError(
            f"{reference}: '{name}' is not in the cache, and HF_HUB_OFFLINE forbids to ask the "
            "Hub; fetch it once online"
        )
    with explained(f"{reference.repo}/{name}"):
        head, total = patiently(lambda: _range(api, remote, name, 0, _FIRST))
        length = _LENGTH + int.from_bytes(head[:_LENGTH], "little")
        # A length that is none is for the reader of the file to complain of.
        if len(head) < length <= min(total, _LENGTH + MAX_HEADER):
            rest, _ = patiently(lambda: _range(api, remote, name, len(head), length))
            head += rest
    with place.open("wb") as file:
        file.write(head[:length])
        file.truncate(total)


def _range(api: HfApi, remote: Remote, name: str, start: int, end: int) -> tuple[bytes, int]:
    """Return bytes of a file and its whole size; a Hub that ignores ranges is not read further."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    reference = remote.reference
    url = hf_hub_url(reference.repo, name, revision=reference.revision, endpoint=api.endpoint)
    headers = {
        **build_hf_headers(
            token=api.token, library_name=api.library_name, library_version=api.library_version
        ),
        "Range": f"bytes={start}-{end - 1}",
        "Accept-Encoding": "identity",
    }
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    # The client takes the token out of the headers where it is led to another host.
    with get_session().stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=timeout
    ) as response:
        hf_raise_for_status(response)
        partial = response.status_code == 206  # noqa: PLR2004
        skipped, found = (0 if partial else start), bytearray()
        for chunk in response.iter_bytes(_CHUNK):
            found += chunk
            if len(found) >= skipped + end - start:
                break
        shown = response.headers.get("Content-Range", "").rpartition("/")[2]
        total = int(shown) if partial else int(response.headers["Content-Length"])
    return bytes(found[skipped : skipped + end - start]), total


def fetch(api: HfApi, remote: Remote, names: tuple[str, ...]) -> Path:
    """Fetch files of a repository into the client's cache; return their folder there.

    What is fetched now has the digests that the Hub promises, or is fetched once more.

    Raises:
        InputError: a file cannot be fetched, or comes with other content twice.

    """
    from huggingface_hub import try_to_load_from_cache

    reference = remote.reference
    new = [
        name
        for name in names
        if not isinstance(
            try_to_load_from_cache(reference.repo, name, revision=reference.revision), str
        )
    ]
    folder = _snapshot(api, remote, names)
    for again in (False, True):
        wrong = [name for name in new if not _is_sound(folder / name, remote.files[name])]
        if not wrong:
            return folder
        for name in wrong:
            _forget(folder / name)
        if not again:
            folder = _snapshot(api, remote, names)
    raise InputError(
        f"{reference}: '{wrong[0]}' came with other content than the Hub promises, twice; "
        "nothing of it was kept; try again later"
    )


def _snapshot(api: HfApi, remote: Remote, names: tuple[str, ...]) -> Path:
    reference = remote.reference
    with explained(str(reference)):
        found = patiently(
            lambda: api.snapshot_download(
                reference.repo,
                revision=reference.revision,
                allow_patterns=[_literal(name) for name in names],
            )
        )
    return Path(found)


def _literal(name: str) -> str:
    """Return a pattern of the shell that means one name."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _is_sound(path: Path, file: RemoteFile) -> bool:
    return file.digest is None or file_digest(path, large=file.large) == file.digest


def file_digest(path: Path, *, large: bool = True) -> str:
    """Return the SHA-256 of a file, or of one that is not `large` the SHA-1 that git gives it."""
    with path.open("rb") as file:
        if large:
            return hashlib.file_digest(file, "sha256").hexdigest()
        content = file.read()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def _forget(path: Path) -> None:
    """Remove a file from the client's cache, the link and what it leads to."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    content.unlink(missing_ok=True)
