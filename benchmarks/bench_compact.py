"""A fine-tuned model takes about 0.28 of its bytes as a difference, a renumbered copy next to none.

Trained SCEPTR models, from the package of that name (`requirements-checkpoints.txt`), are
registered with `--compact`; a share is what the store grew by, of the bytes of the version's files.
Beside it, what other codecs make of the weights of the fine-tuned model, each against the weights
that it was tuned from: bits subtracted as ordered integers or by XOR, in byte planes, compressed by
zlib (as in the registry), bz2 or lzma.

    python benchmarks/bench_compact.py
"""

from __future__ import annotations

import bz2
import importlib.util
import lzma
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _record import record
from numpy.typing import NDArray

from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.convert import Wish, convert
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.pipeline.models import Choice
from rebasin_hub.pipeline.registry import Adding, add
from rebasin_hub.registry import Kept, Registry
from rebasin_hub.registry.delta import decode, encode

Bits = NDArray[np.uint32]

SPEC = Choice(str(Path(__file__).parents[1] / "docs" / "examples" / "sceptr.yaml"))
REPEATS = 15
SEED = 3
CODECS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda plane: zlib.compress(plane, 6),
    "bz2": bz2.compress,
    "lzma": lzma.compress,
}


def models() -> Path:
    """Return the folder of the SCEPTR models."""
    spec = importlib.util.find_spec("sceptr")
    if spec is None or spec.origin is None:
        raise SystemExit("sceptr is missing: pip install --no-deps -r requirements-checkpoints.txt")
    return Path(spec.origin).parent / "_model_saves"


def versions(folder: Path) -> dict[str, Path]:
    """Return the checkpoints to register, made below a folder."""
    made = {}
    for name in ("SCEPTR", "SCEPTR_finetuned", "SCEPTR_shuffled_data"):
        made[name] = Path(shutil.copytree(models() / name, folder / name)) / "state_dict.pt"
    for name in ("SCEPTR", "SCEPTR_finetuned"):
        permutations = folder / f"{name}.safetensors"
        shuffle = Matching("random", "cpu", SEED)
        align_models(made[name], made[name], permutations, choice=SPEC, matching=shuffle)
        copy = folder / f"{name}-copy" / "state_dict.pt"
        shutil.copytree(made[name].parent, copy.parent, ignore=shutil.ignore_patterns("*.pt"))
        apply_file(permutations, made[name], copy, choice=SPEC)
        made[f"{name}, renumbered"] = copy
    other = folder / "SCEPTR-safetensors" / "model.safetensors"
    shutil.copytree(made["SCEPTR"].parent, other.parent, ignore=shutil.ignore_patterns("*.pt"))
    convert(made["SCEPTR, renumbered"], other, Wish(choice=SPEC))
    made["SCEPTR, renumbered, safetensors"] = other
    return made


def share(registry: Registry, name: str, path: Path) -> dict[str, object]:
    """Register a version as a difference to SCEPTR; return what it takes."""
    adding = Adding(keep=Kept.COMPACT, base="SCEPTR")
    model = "-".join(name.replace(",", "").split())
    added = add(registry, path, model, adding, choice=SPEC, matching=Matching(device="cpu"))
    return {
        "kept": added.version.kept.value,
        "bytes": added.version.nbytes,
        "share": round(added.stored_bytes / added.version.nbytes, 4),
        "notes": list(added.notes),
    }


def bits(path: Path) -> Bits:
    """Return the bits of all weights, one tensor behind the other."""
    with open_checkpoint(path) as opened:
        arrays = [np.ascontiguousarray(opened.read(name)).view("<u4") for name in opened.header]
    return np.concatenate([array.reshape(-1) for array in arrays])


def codecs(target: Bits, base: Bits) -> dict[str, dict[str, float]]:
    """Return the share of the bytes that each codec leaves, and its seconds."""
    whole = encode(target, None)
    found = {"without a base": {"share": len(whole) / target.nbytes}}
    packed, seconds = timed(lambda: encode(target, base))
    if not np.array_equal(decode(memoryview(packed), base, target.dtype, len(target)), target):
        raise AssertionError("a difference does not lead back")
    found["the registry's"] = {"share": len(packed) / target.nbytes, "seconds": seconds}
    for how, difference in (("ordered", ordered(target, base)), ("xor", target ^ base)):
        planes = [plane.tobytes() for plane in difference.view(np.uint8).reshape(-1, 4).T]
        for name, codec in CODECS.items():
            sizes, seconds = timed(
                lambda codec=codec, planes=planes: [
                    min(len(plane), len(codec(plane))) for plane in planes
                ]
            )
            found[f"{how}, {name}"] = {"share": sum(sizes) / target.nbytes, "seconds": seconds}
    return {k: {n: round(x, 4) for n, x in figures.items()} for k, figures in found.items()}


def ordered(target: Bits, base: Bits) -> Bits:
    """Return the folded difference of bits as integers in the order of the numbers."""

    def integers(x: Bits) -> NDArray[np.int64]:
        top = np.uint32(1 << 31)
        return np.where(x & top, ~x, x | top).astype(np.int64)

    difference = (integers(target) - integers(base)).astype(np.int32)  # modulo 2³²
    return ((difference << 1) ^ (difference >> 31)).view(np.uint32)


def timed(work: Callable[[], object]) -> tuple[object, float]:
    """Return what work returns, and the least processor seconds that it took."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = versions(folder)
        base = made.pop("SCEPTR")
        registry = Registry(folder / "registry")
        add(registry, base, "SCEPTR", Adding(keep=Kept.STORED), choice=SPEC)
        shares = {name: share(registry, name, path) for name, path in made.items()}
        target = bits(made["SCEPTR_finetuned"])
        measured = codecs(target, bits(base))
    rate = target.nbytes / measured["the registry's"]["seconds"] / 1e6
    record(
        "compact",
        (__doc__ or "").splitlines()[0],
        {
            "seed": SEED,
            "weights": "float32",
            "mb_per_second": round(rate, 1),
            "shares": shares,
            "codecs": measured,
        },
    )


if __name__ == "__main__":
    main()
