"""Original Llama checkpoints in tensor-parallel parts: `consolidated.00.pth` and its companions.

Each part holds a slice of every matrix, as the layers of fairscale cut them: those that read the
residual stream lie in it by their rows, those that write to it by their columns, and vectors are
there as a whole. A part can be told from a whole model by its shapes, with params.json beside it.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import read_json
from rebasin_hub.formats.folder import is_weights
from rebasin_hub.formats.raw import blank
from rebasin_hub.formats.torch import TorchCheckpoint
from rebasin_hub.tensors import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rebasin_hub.formats.raw import Array
    from rebasin_hub.tensors import Header

__all__ = ["PartsCheckpoint", "check_whole", "find_parts", "params_of"]

PARAMS = "params.json"
"""What lies beside original Llama checkpoints in the place of config.json."""
_PART = re.compile(r"consolidated\.(\d+)\.pth")
_STREAM = "norm.weight"
"""A vector that every part has as a whole: as long as the residual stream is wide."""
_TOKENS, _QUERIES, _KEYS = "tok_embeddings.weight", "attention.wq.weight", "attention.wk.weight"
_AXES: Mapping[str, int] = {
    _QUERIES: 0, _KEYS: 0, "attention.wv.weight": 0, "attention.wo.weight": 1,
    "feed_forward.w1.weight": 0, "feed_forward.w2.weight": 1, "feed_forward.w3.weight": 0,
    "output.weight": 0,
}  # fmt: skip
"""By the end of a matrix's name the axis that is cut; the other one is the residual stream."""


class PartsCheckpoint(Checkpoint):
    """One model in parts, whose matrices are joined as they are read."""

    format = "torch"

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path, self.files = path, tuple(files)
        self.metadata, self.tied, self.config = {}, {}, None
        with ExitStack() as opened:
            self._parts = [
                opened.enter_context(TorchCheckpoint(file, alone=False)) for file in files
            ]
            first = self._parts[0].header
            for part in self._parts[1:]:
                if part.header != first:
                    raise _odd(part.path, first, part.header)
            self._axes = {name: _axis(path, name, first) for name in first}
            self.header = {
                name: _joined(info, self._axes[name], len(files)) for name, info in first.items()
            }
            self.notes = (f"joined of {len(files)} parts, each with a slice of every matrix",)
            check_whole(self)
            self._opened = opened.pop_all()

    def read(self, name: str) -> Array:  # noqa: D102
        axis = self._axes[name]
        if axis is None:
            return self._same(name)
        array, _ = blank(self.header[name])
        places = np.split(array, len(self._parts), axis)  # views
        for place, part in zip(places, self._parts, strict=True):
            place[...] = part.read(name)
        return array

    def _same(self, name: str) -> Array:
        """Return what all parts have as a whole."""
        first = self._parts[0].read(name)
        for part in self._parts[1:]:
            if part.read(name).tobytes() != first.tobytes():
                raise FormatError(
                    f"{part.path}: tensor {name!r} is another one than in "
                    f"{self._parts[0].path.name}; these are parts of different models"
                )
        return first

    def close(self) -> None:  # noqa: D102
        self._opened.close()


def find_parts(directory: Path) -> list[Path]:
    """Return the parts of one model in a directory; none where there is anything else to take.

    Raises:
        FormatError: one of them is missing.

    """
    try:
        names = [entry.name for entry in directory.iterdir() if is_weights(entry.name)]
    except OSError as error:
        raise FormatError(f"{directory}: cannot be listed: {error.strerror}") from None
    if len(names) < 2 or not all(map(_PART.fullmatch, names)):  # noqa: PLR2004
        return []
    by_number = {int(name.split(".")[1]): name for name in names}
    if sorted(by_number) != list(range(len(names))):
        raise FormatError(
            f"{directory}: of the parts consolidated.NN.pth there are {len(names)}, but not those "
            f"from 0 to {len(names) - 1}; download what is missing"
        )
    return [directory / by_number[number] for number in range(len(names))]


def params_of(source: Checkpoint) -> Mapping[str, Any]:
    """Return params.json beside the weights of a checkpoint; empty without one."""
    path = source.files[0].parent / PARAMS
    return read_json(path) if path.is_file() else {}


def check_whole(source: Checkpoint) -> None:
    """Refuse a part of a Llama model, or too few of them; other checkpoints pass.

    Raises:
        FormatError: queries have fewer rows than params.json, or the width of the residual stream,
            says; or keys have more, as parts of models with few heads of keys repeat them.

    """
    header, params = source.header, params_of(source)
    layer = next((name for name in header if name.endswith(f".{_QUERIES}")), "")
    looked_at = [_STREAM, layer, layer.replace(_QUERIES, _KEYS)]
    shapes = [header[name].shape for name in looked_at if name in header]
    if [len(shape) for shape in shapes] != [1, 2, 2]:
        return  # none of Llama's
    (width,), (rows, _), (keys, _) = shapes
    heads = _number(params, "n_heads")
    if heads is None:
        cut, expected = 0 < rows < width and width % rows == 0, f"{width} rows"
    else:
        size = _number(params, "head_dim") or width // heads
        cut, expected = rows < heads * size, f"{heads} heads of {size} rows"
    if cut:
        raise FormatError(
            f"{source.path}: holds a slice of every matrix: {layer!r} has {rows} rows, in a whole "
            f"model {expected}; give the directory with all parts, and {PARAMS} beside them"
        )
    pairs = _number(params, "n_kv_heads")
    if heads and pairs and keys * heads != rows * pairs:
        raise FormatError(
            f"{source.path}: {looked_at[-1]!r} has {keys} rows, which are not {pairs} heads beside "
            f"{rows} rows for {heads}; parts that repeat the heads of keys are not put together: "
            "convert them with the program that wrote them"
        )


def _number(params: Mapping[str, Any], key: str) -> int | None:
    value = params.get(key)
    return value if type(value) is int and value > 0 else None


def _axis(path: Path, name: str, header: Header) -> int | None:
    """Return the axis along which a tensor is cut; None for a vector."""
    shape = header[name].shape
    if len(shape) < 2:  # noqa: PLR2004
        return None
    width = header[_STREAM].shape[0] if _STREAM in header else 0
    if name == _TOKENS:  # by its features, or from Llama 3 on by its tokens
        return 0 if shape[1] == width else 1
    axis = next((axis for end, axis in _AXES.items() if f".{name}".endswith(f".{end}")), None)
    if axis is None or len(shape) != 2 or shape[1 - axis] != width:  # noqa: PLR2004
        raise FormatError(
            f"{path}: is in parts, and nothing tells how {name!r} {list(shape)} was cut; only "
            "those of Llama are put together: join the parts with the program that wrote them"
        )
    return axis


def _joined(info: TensorInfo, axis: int | None, count: int) -> TensorInfo:
    shape = (size * (count if n == axis else 1) for n, size in enumerate(info.shape))
    return TensorInfo(info.dtype, tuple(shape))


def _odd(path: Path, first: Header, other: Header) -> FormatError:
    name = next(name for name in [*first, *other] if first.get(name) != other.get(name))
    return FormatError(
        f"{path}: its {name!r} is not stored as in the first part; these are parts of different "
        "models, or one was damaged: download them again"
    )
