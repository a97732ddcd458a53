"""What becomes of each tensor in a conversion, known from headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_hub.errors import IncompatibleError, InputError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.pipeline.convert.cast import CASTABLE
from rebasin_hub.pipeline.convert.layouts import find_moves
from rebasin_hub.pipeline.models import AUTOMATIC, Choice
from rebasin_hub.spec.layout import Moves, Solved
from rebasin_hub.tensors import TensorInfo

__all__ = ["Piece", "Pieces", "Wish", "into_graph", "plan_pieces"]

_SHOWN = 5


@dataclass(frozen=True)
class Wish:
    """What a user wants changed.

    Args:
        dtype: the element type of all floating numbers; as they are by default.
        shard_size: bytes of the largest shard of a directory.
        tie: names of the output that share the values of others, which must be equal.
        untie: names of the output that get values of their own, equal to those of others.
        layout: the output's layout, by a spec's `layouts`; the input's by default.
        from_layout: the input's layout; the spec's own by default.
        into: the ONNX model that an .onnx output is a copy of.
        choice: the spec that has the layouts, and sizes that neither shapes nor config.json tell.

    """

    dtype: str | None = None
    shard_size: int | None = None
    tie: Mapping[str, str] = field(default_factory=dict)
    untie: Mapping[str, str] = field(default_factory=dict)
    layout: str | None = None
    from_layout: str | None = None
    into: Path | None = None
    choice: Choice = AUTOMATIC


@dataclass(frozen=True)
class Piece:
    """How one tensor of the output is made: read, turned, cast."""

    source: str
    info: TensorInfo
    turns: tuple[Solved, ...] = ()


@dataclass(frozen=True)
class Pieces:
    """All tensors of the output by name, those tied to others, and what stays behind."""

    made: Mapping[str, Piece]
    tied: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def header(self) -> dict[str, TensorInfo]:
        """Each tensor's type and shape."""
        return {name: piece.info for name, piece in self.made.items()}


def plan_pieces(source: Checkpoint, wish: Wish) -> Pieces:
    """Return what becomes of each tensor of an open checkpoint.

    Raises:
        InputError: a name, layout or type that there is not.

    """
    if wish.dtype is not None and wish.dtype not in CASTABLE:
        raise InputError(f"'{wish.dtype}' is none of {', '.join(CASTABLE)}; choose one")
    found = Pieces({name: Piece(name, info) for name, info in source.header.items()}, source.tied)
    for name, back in ((wish.from_layout, True), (wish.layout, False)):
        if name is not None:
            moves = find_moves(name, found.header, source, wish.choice, back=back)
            found = _moved(found, moves)
    found = _untied(found, wish.untie)
    found = _tied(found, wish.tie)
    made = {name: _typed(piece, wish.dtype) for name, piece in found.made.items()}
    return Pieces(made, found.tied, found.notes)


def _moved(pieces: Pieces, moves: Moves) -> Pieces:
    made = {}
    for old, move in moves.moves.items():
        piece = pieces.made[old]
        turns = (*piece.turns, move.turn) if move.turn is not None else piece.turns
        made[move.name] = Piece(piece.source, TensorInfo(piece.info.dtype, move.shape), turns)
    tied, apart = {}, []
    for old, first in pieces.tied.items():
        if old in moves.moves and first in moves.moves:
            name, other = moves.moves[old].name, moves.moves[first].name
            if made[name].turns == made[other].turns:
                tied[name] = other
            else:
                apart.append(f"{name} is no longer tied to {other}: it is stored in another way")
    reasons = [f"left out: {name} ({reason})" for name, reason in moves.left_out.items()]
    return Pieces(made, tied, (*pieces.notes, *_few(reasons), *apart))


def _few(notes: list[str]) -> list[str]:
    more = len(notes) - _SHOWN
    return notes if more <= 0 else [*notes[:_SHOWN], f"left out: {more} more tensors like these"]


def _untied(pieces: Pieces, untie: Mapping[str, str]) -> Pieces:
    made, tied = dict(pieces.made), dict(pieces.tied)
    for name, first in untie.items():
        _require(made, first, "untie")
        if name in made and name not in tied:
            raise InputError(f"--untie {name}={first}: {name!r} has values of its own already")
        if tied.pop(name, first) != first:
            raise InputError(f"--untie {name}={first}: {name!r} is tied to {pieces.tied[name]!r}")
        made[name] = made[first]
    return Pieces(made, tied, pieces.notes)


def _tied(pieces: Pieces, tie: Mapping[str, str]) -> Pieces:
    made, tied = dict(pieces.made), dict(pieces.tied)
    for name, first in tie.items():
        _require(made, name, "tie")
        _require(made, first, "tie")
        if first == name or first in tied or first in tie:
            raise InputError(f"--tie {name}={first}: {first!r} is tied itself, or the same")
        if made[name].info != made[first].info:
            raise InputError(f"--tie {name}={first}: they differ in type or shape")
        tied[name] = first
    return Pieces(made, tied, pieces.notes)


def _require(made: Mapping[str, Piece], name: str, option: str) -> None:
    if name not in made:
        raise InputError(f"--{option}: the output has no tensor {name!r}; check the name")


def _typed(piece: Piece, dtype: str | None) -> Piece:
    if dtype is None or piece.info.dtype not in CASTABLE:
        return piece
    return Piece(piece.source, TensorInfo(dtype, piece.info.shape), piece.turns)


def into_graph(pieces: Pieces, graph: Checkpoint) -> Pieces:
    """Return the pieces as the weights of an ONNX model, in its element types.

    Raises:
        IncompatibleError: the model has no such weight, or one of another shape or kind.

    """
    made, problems = {}, []
    for name, piece in pieces.made.items():
        info = graph.header.get(name)
        if info is None:
            if name not in pieces.tied:
                problems.append(f"{name}: is no weight of the graph")
        elif info.shape != piece.info.shape:
            problems.append(
                f"{name}: is {list(piece.info.shape)}, the graph takes {list(info.shape)}"
            )
        elif info.dtype != piece.info.dtype and not {info.dtype, piece.info.dtype} <= {*CASTABLE}:
            problems.append(f"{name}: is {piece.info.dtype}, the graph takes {info.dtype}")
        else:
            made[name] = Piece(piece.source, info, piece.turns)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise IncompatibleError(
            f"the weights do not fit {graph.path} ({len(problems)} differ):\n{lines}{more}\nThe "
            "graph has to be exported with its weights as they are, under their names"
        )
    kept = [name for name in graph.header if name not in made]
    notes = (f"kept as the graph has them: {len(kept)} tensors, such as {kept[0]}",) if kept else ()
    return Pieces(made, {}, (*pieces.notes, *notes))
