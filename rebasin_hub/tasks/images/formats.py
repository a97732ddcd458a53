"""Tell the format of images from what lies there."""

from __future__ import annotations

from pathlib import Path

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.images.cifar import cifar_parts
from rebasin_hub.tasks.images.find import places
from rebasin_hub.tasks.images.folder import folder_parts
from rebasin_hub.tasks.images.idx import idx_parts
from rebasin_hub.tasks.images.known import Known
from rebasin_hub.tasks.images.npz import npz_parts
from rebasin_hub.tasks.images.parquet import parquet_parts
from rebasin_hub.tasks.images.part import Part

__all__ = ["find_parts"]

EXPECTED = (
    "folders train/CLASS and test/CLASS, train-*.parquet and test-*.parquet, an .npz of x_train, "
    "y_train, x_test and y_test, pairs of …images-idx3-ubyte and …labels-idx1-ubyte, or the "
    "binary files of CIFAR"
)
PICKLES = {"batches.meta": "data_batch_1", "meta": "test"}
"""Files of CIFAR's Python versions that lie beside one another."""


def find_parts(path: Path, known: Known | None = None) -> dict[str, Part]:
    """Find the images of a file or folder, and read their labels.

    Args:
        path: what the user named.
        known: the data set that is expected; its published files are looked for first.

    Raises:
        InputError: nothing is found, or it is damaged.

    """
    if not path.exists():
        raise InputError(f"{path}: does not exist; give --data the file or folder of the images")
    avoided = known.others if known else ()
    try:
        if path.is_file():
            return _file_parts(path)
        for read in [known.read, _any_format] if known else [_any_format]:
            for place in places(path, avoided):
                if parts := read(place):
                    return parts
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem})") from problem
    raise InputError(
        f"{path}: no images were found there or in folders up to three levels below; looked for "
        f"{f'{known.files}; or ' if known else ''}{EXPECTED}{_pickled(path)}"
    )


def _any_format(folder: Path) -> dict[str, Part]:
    return (
        folder_parts(folder)
        or idx_parts(folder)
        or cifar_parts(folder)
        or parquet_parts(folder)
        or _only_npz(folder)
    )


def _only_npz(folder: Path) -> dict[str, Part]:
    files = sorted(folder.glob("*.npz"))
    if len(files) > 1:
        raise InputError(f"{folder}: holds {len(files)} .npz files; give --data one of them")
    return npz_parts(files[0]) if files else {}


def _file_parts(path: Path) -> dict[str, Part]:
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PAR1":
        return parquet_parts(path)
    if head[:2] == b"PK":
        return npz_parts(path)
    raise InputError(f"{path}: is neither parquet nor .npz; give --data the folder for {EXPECTED}")


def _pickled(path: Path) -> str:
    for place in places(path):
        if any((place / a).is_file() and (place / b).is_file() for a, b in PICKLES.items()):
            return (
                f". {place} holds the Python version of CIFAR: pickles, which can run code and "
                "are not read; take the binary version"
            )
    return ""
