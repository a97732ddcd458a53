"""Convert a checkpoint: read each tensor once, turn it, cast it, write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_hub.digest import digest_of, tensor_digest
from rebasin_hub.errors import InputError, OutputError
from rebasin_hub.formats import Target, check_output, open_checkpoint
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.export import Export, check_kind, export, kind_of
from rebasin_hub.formats.onnx import OnnxCheckpoint
from rebasin_hub.formats.shards import deal_out
from rebasin_hub.formats.supply import Supply
from rebasin_hub.formats.torch_parts import PartsCheckpoint, find_parts
from rebasin_hub.pipeline.convert.cast import Cast, cast
from rebasin_hub.pipeline.convert.plan import Piece, Pieces, Wish, into_graph, plan_pieces
from rebasin_hub.pipeline.progress import Progress, stage
from rebasin_hub.rearrange import Array
from rebasin_hub.stream import A_FEW, Bound, ready
from rebasin_hub.tensors import dtype_of

__all__ = ["ConversionPlan", "Converted", "convert"]


@dataclass(frozen=True)
class ConversionPlan:
    """What a conversion will do, known from headers alone.

    `renamed`, `turned` and `cast` count tensors; `tied` maps names to those whose values they
    share; `shards` counts files of weights.
    """

    source: Path
    output: Path
    source_format: str
    format: str
    tensors: int
    nbytes: int
    shards: int
    renamed: int
    turned: int
    cast: int
    tied: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Converted:
    """A checkpoint that was converted and written.

    `casts` has every tensor of which the type changed; the digests are plain ones.
    """

    plan: ConversionPlan
    output: Path
    files: tuple[Path, ...]
    nbytes: int
    casts: tuple[Cast, ...]
    source_digest: str
    digest: str
    notes: tuple[str, ...] = ()


@dataclass
class _Maker:
    """Makes the tensors of the output, and keeps account of what was read and lost."""

    source: Checkpoint
    pieces: Mapping[str, Piece]
    graph: Checkpoint | None
    casts: dict[str, Cast] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """Of the tensors read."""

    def __call__(self, name: str) -> Array:
        piece = self.pieces.get(name)
        if piece is None:
            assert self.graph is not None
            return self.graph.read(name)
        array = self.read(piece.source)
        for turn in piece.turns:
            array = turn.apply(array)
        if dtype_of(array) != piece.info.dtype:
            array, self.casts[name] = cast(array, piece.info.dtype, name)
        return array

    def _digest(self, name: str) -> None:
        self.read(name)

    def read(self, name: str) -> Array:
        array = self.source.read(name)
        if name not in self.digests:
            self.digests[name] = tensor_digest(array, self.source.header[name].dtype)
        return array

    def cost(self, name: str) -> int:
        """Return the bytes in memory while a tensor is made: as read, turned, and cast."""
        piece = self.pieces.get(name)
        if piece is None:
            return 2 * self.graph.header[name].nbytes if self.graph is not None else 0
        return 2 * self.source.header[piece.source].nbytes + piece.info.nbytes

    def source_digest(self, bound: Bound) -> str:
        """Return the plain digest of the source; what was left out is read for it."""
        header, known = self.source.header, self.digests.keys() | self.source.tied.keys()
        left = [name for name in header if name not in known]
        ready(left, self._digest, cost=lambda name: header[name].nbytes, bound=bound)
        return digest_of(self.source.header, self.digests, self.source.tied)


def convert(
    path: Path,
    output: Path,
    wish: Wish | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    bound: Bound = A_FEW,
    progress: Progress | None = None,
) -> ConversionPlan | Converted:
    """Convert a checkpoint to the format that the output's name asks for.

    Law: converting there and back, with a layout or to another format, gives the same digest,
    unless numbers were lost in a cast or tensors left out.

    Args:
        path: the checkpoint, or a directory of a Llama model in parts; it is never changed.
        output: a .safetensors, .pt, .npz, .msgpack or .onnx file, or a directory.
        wish: what else to change.
        force: replace an existing output.
        dry_run: only return the plan.
        bound: how many bytes of tensors are held at a time.
        progress: told how far it has come.

    Raises:
        InputError: the checkpoint, a layout or a name cannot be used.
        OutputError: the output exists or cannot be written.

    """
    wish = wish or Wish()
    kind = kind_of(output)
    _check_options(output, kind, wish)
    with _opened(path) as source, _graph(wish.into) as graph:
        others = [] if graph is None else [graph]
        target = check_output(source, output, others=others, kind=kind, force=force)
        pieces = plan_pieces(source, wish)
        if graph is not None:
            pieces = into_graph(pieces, graph)
        stored = _stored(pieces, kind)
        check_kind(kind, stored.header, output)
        steps = _plan(source, target, pieces, stored, wish)
        if dry_run:
            return steps
        maker = _Maker(source, pieces.made, graph)
        _check_ties(maker, wish)
        header = dict(stored.header if graph is None else graph.header)
        supply = Supply(header, maker, stage(progress, "converting"), cost=maker.cost, bound=bound)
        plan = Export(stored.tied, wish.shard_size, graph)
        saved = export(source, target, supply, plan, force=force)
        return Converted(
            plan=steps,
            output=target.path,
            files=saved.files,
            nbytes=saved.nbytes,
            casts=tuple(maker.casts[name] for name in header if name in maker.casts),
            source_digest=maker.source_digest(bound),
            digest=digest_of(header, saved.tensors, stored.tied),
            notes=(*source.notes, *steps.notes, *saved.notes),
        )


def _opened(path: Path) -> Checkpoint:
    parts = find_parts(path) if path.is_dir() else []
    return PartsCheckpoint(path, parts) if parts else open_checkpoint(path)


def _check_options(output: Path, kind: str, wish: Wish) -> None:
    if wish.shard_size is not None and kind != "directory":
        raise OutputError(f"{output}: only a directory has shards; name one without ending")
    if kind == "onnx" and wish.into is None:
        raise OutputError(
            f"{output}: weights alone are no ONNX model; give the model whose graph they belong to "
            "with --into"
        )
    if kind != "onnx" and wish.into is not None:
        raise OutputError(f"{output}: with --into the output is an .onnx file; name it so")


@contextmanager
def _graph(path: Path | None) -> Iterator[OnnxCheckpoint | None]:
    if path is None:
        yield None
        return
    with open_checkpoint(path) as graph:
        if not isinstance(graph, OnnxCheckpoint):
            raise InputError(f"{path}: is no ONNX model; give one with --into")
        yield graph


def _stored(pieces: Pieces, kind: str) -> Pieces:
    """Leave out names that share the values of others, where a format has no way to say so."""
    if kind == "torch":
        return pieces
    made = {name: piece for name, piece in pieces.made.items() if name not in pieces.tied}
    notes = tuple(
        f"{name} shares {first}'s values and is left out" for name, first in pieces.tied.items()
    )
    return Pieces(made, {}, (*pieces.notes, *notes))


def _plan(
    source: Checkpoint, target: Target, pieces: Pieces, stored: Pieces, wish: Wish
) -> ConversionPlan:
    made = stored.made
    dtypes = {name: source.header[piece.source].dtype for name, piece in made.items()}
    shards = deal_out(stored.header, wish.shard_size) if target.kind == "directory" else [""]
    return ConversionPlan(
        source=source.path,
        output=target.path,
        source_format=source.format,
        format=target.kind,
        tensors=len(made),
        nbytes=sum(piece.info.nbytes for name, piece in made.items() if name not in stored.tied),
        shards=len(shards),
        renamed=sum(name != piece.source for name, piece in made.items()),
        turned=sum(bool(piece.turns) for piece in made.values()),
        cast=sum(dtypes[name] != piece.info.dtype for name, piece in made.items()),
        tied=pieces.tied,
        notes=stored.notes,
    )


def _check_ties(maker: _Maker, wish: Wish) -> None:
    """Refuse to tie tensors that differ, before anything is written.

    Raises:
        InputError: they differ.

    """
    for name, first in wish.tie.items():
        one, other = (
            tensor_digest(maker(tensor), maker.pieces[tensor].info.dtype)
            for tensor in (name, first)
        )
        if one != other:
            raise InputError(f"--tie {name}={first}: their values differ, so both are needed")
