"""Carry a merge out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rebasin_hub.align import Alignment
from rebasin_hub.align.many import Joint, Step
from rebasin_hub.errors import InputError
from rebasin_hub.formats import check_output, save_like
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.merging.combined import Combined
from rebasin_hub.pipeline.merging.joint import align_models
from rebasin_hub.pipeline.merging.layerwise import Layered, select_layers
from rebasin_hub.pipeline.merging.measured import Corrected, Meter, Selected, correct, select
from rebasin_hub.pipeline.merging.plan import (
    MergePlan,
    WeightGroup,
    Weights,
    disk_of,
    estimate_of,
)
from rebasin_hub.pipeline.merging.provenance import Digesting, Facts, provenance
from rebasin_hub.pipeline.merging.recipe import Recipe
from rebasin_hub.pipeline.merging.vocabulary import check_vocabularies
from rebasin_hub.pipeline.models import (
    AUTOMATIC,
    Choice,
    Model,
    open_like,
    open_model,
    require_averages,
)
from rebasin_hub.pipeline.progress import Progress, stage
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.stream import A_FEW, Bound
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["Merged", "merge"]


@dataclass(frozen=True)
class Merged:
    """A merge that was written.

    steps: every alignment that was made, in order; models count from 0.
    distances: what `align.many.spread` says, with merge-many: after aligning to the first model
        and after each round.
    selected: how the weight was chosen on a task.
    layered: how a weight for each layer was.
    """

    plan: MergePlan
    output: Path
    nbytes: int
    steps: tuple[Step, ...]
    distances: tuple[float, ...]
    selected: Selected | None
    notes: tuple[str, ...]
    layered: Layered | None = None

    @property
    def alignments(self) -> tuple[Alignment, ...]:
        """Every alignment that was made, in order."""
        return tuple(step.alignment for step in self.steps)


@dataclass(frozen=True, eq=False)
class _Work:
    """Open models with what is to be done to them."""

    recipe: Recipe
    matching: Matching
    models: tuple[Model, ...]
    header: Header
    weights: Weights
    plan: MergePlan
    bound: Bound
    digests: bool

    @property
    def first(self) -> Model:
        return self.models[0]


def merge(
    paths: Sequence[Path],
    output: Path,
    recipe: Recipe | None = None,
    *,
    choice: Choice = AUTOMATIC,
    matching: Matching = WEIGHT_MATCHING,
    force: bool = False,
    dry_run: bool = False,
    bound: Bound = A_FEW,
    digests: bool = True,
    progress: Progress | None = None,
) -> MergePlan | Merged:
    """Merge checkpoints of one architecture, in one numbering.

    Args:
        paths: the checkpoints; numbering, format, side files and metadata come from the first.
        output: where to write.
        recipe: method, weights, dtype, whether and how to align, and what is measured.
        choice: the spec; found by itself by default.
        matching: how to align.
        force: replace an existing output.
        dry_run: only return the plan; no weight is read, but for a few to see how fast that is.
        bound: how many bytes of tensors are held at a time; measuring takes more, and so does
            aligning by a method that holds two models.
        digests: whether what is merged is hashed, so that the result names it by its weights.
        progress: told of each stage.

    Raises:
        InputError: a checkpoint, the spec, the recipe or the task cannot be used.
        IncompatibleError: the models do not have the same tensors, or not the same tokens.
        OutputError: the output exists, does not fit on its disk, or cannot be written.

    """
    recipe = recipe or Recipe()
    matching.check()
    matching = matching if bound.nbytes is None else replace(matching, bound=bound)
    weighting = recipe.weighting(len(paths))
    with ExitStack() as stack:
        first = stack.enter_context(open_model(paths[0], choice))
        require_averages(first)
        others = [stack.enter_context(open_like(path, first)) for path in paths[1:]]
        notes = [n for m in others for n in check_vocabularies(first.checkpoint, m.checkpoint)]
        check_output(
            first.checkpoint, output, others=[model.checkpoint for model in others], force=force
        )
        weights = weighting.resolved(first.binding)
        header = _merged_header(first.header, recipe.dtype)
        models = (first, *others)
        plan = _plan(models, output, recipe, header=header, weights=weights, notes=notes)
        plan.disk.check(output)
        if recipe.select_layer_weights and plan.weights is None:
            raise InputError(
                "the weights of layers are selected, so give none by tensor; one for each model "
                "says what they are on average"
            )
        work = _Work(recipe, matching, models, header, weights, plan, bound, digests)
        if dry_run:
            return replace(plan, estimate=estimate_of(models, header, recipe, matching, bound))
        return _carried_out(work, force=force, progress=progress)


def _merged_header(header: Header, dtype: str | None) -> Header:
    if dtype is None:
        return header
    return {
        name: replace(info, dtype=dtype) if DTYPES[info.dtype].floating else info
        for name, info in header.items()
    }


def _plan(
    models: tuple[Model, ...],
    output: Path,
    recipe: Recipe,
    *,
    header: Header,
    weights: Weights,
    notes: Sequence[str],
) -> MergePlan:
    first, groups = models[0], WeightGroup.of(weights, header)
    dtypes: dict[str, int] = {}
    for info in header.values():
        dtypes[info.dtype] = dtypes.get(info.dtype, 0) + 1
    return MergePlan(
        models=tuple(model.checkpoint.path for model in models),
        weights=_shared(groups),
        groups=groups,
        method=recipe.method,
        align=recipe.align,
        strategy=recipe.strategy,
        output=output,
        spec=first.binding.spec.name,
        dtypes=dtypes,
        tensors=len(header),
        parameters=first.parameters,
        read_bytes=sum(model.nbytes for model in models),
        write_bytes=sum(info.nbytes for info in header.values()),
        disk=disk_of(first.checkpoint, output, header),
        task=recipe.measured.task if recipe.measured is not None else None,
        repair=recipe.repair,
        notes=tuple(notes),
    )


def _shared(groups: Sequence[WeightGroup]) -> tuple[float, ...] | None:
    """Return the weights that all tensors have."""
    return groups[0].weights if len(groups) == 1 else None


def _carried_out(work: _Work, *, force: bool, progress: Progress | None) -> Merged:
    recipe = work.recipe
    meter = None
    if recipe.measured is not None:  # before the long work: its data may be wrong
        meter = Meter.of(recipe.measured, work.first, work.matching.device)
    digesting = [Digesting(model, digests=work.digests) for model in work.models]
    joint = None
    if recipe.align:
        binding = work.first.binding
        seen = None if meter is None else (meter.task, meter.network)
        joint = align_models(
            binding,
            digesting,
            recipe.strategy,
            work.matching,
            progress,
            evidence=work.matching.evidence(work.first, seen),
        )
    readers = _readers(work, digesting, joint)
    selected = None
    if meter is not None and recipe.select_weight:
        at = lambda value: _combined(work, _between(work, value), readers)  # noqa: E731
        selected = select(meter, at, progress)
        work = _with_weights(work, _between(work, selected.value))
    layered = None
    if meter is not None and recipe.select_layer_weights:
        assert work.plan.weights is not None  # `merge` has refused others
        mean, seed = work.plan.weights[1], work.matching.seed
        layered = select_layers(meter, work.first, readers, mean=mean, seed=seed, progress=progress)
        work = _with_weights(work, layered.weights(work.header))
    combined = _combined(work, work.weights, readers)
    corrected = _corrected(work, meter, combined, readers)
    facts = Facts(work.plan, recipe, work.matching, joint, _found(meter, recipe, selected, layered))
    saved = save_like(
        work.first.checkpoint,
        work.plan.output,
        lambda name: corrected.tensors[name] if name in corrected.tensors else combined(name),
        header=work.header,
        attachment=provenance(facts, digesting, work.header),
        cost=combined.cost,
        bound=work.bound,
        force=force,
        progress=stage(progress, "merging"),
    )
    notes = (
        *work.first.checkpoint.notes,
        *(note for model in work.models[1:] for note in model.borrowed),
        *saved.notes,
        *work.plan.notes,
        *combined.notes(),
        *(selected.notes if selected is not None else ()),
        *(layered.notes if layered is not None else ()),
        *corrected.notes,
        *(_caveats(work.first) if not corrected.tensors else ()),
    )
    return Merged(
        plan=work.plan,
        output=work.plan.output,
        nbytes=saved.nbytes,
        steps=joint.steps if joint is not None else (),
        distances=joint.distances if joint is not None else (),
        selected=selected,
        notes=notes,
        layered=layered,
    )


def _readers(work: _Work, models: Sequence[Read], joint: Joint | None) -> list[Read]:
    if joint is None:
        return list(models)
    pairs = zip(work.models, models, joint.elements, strict=True)
    group = work.first.binding.group
    return [
        read if group.is_identity(element) else rearranged(model.binding, element, read)
        for model, read, element in pairs
    ]


def _combined(work: _Work, weights: Weights, readers: Sequence[Read]) -> Combined:
    return Combined(readers, weights, work.models, work.header, work.recipe)


def _between(work: _Work, value: float) -> Weights:
    """Return the same weights of two models for every tensor."""
    return dict.fromkeys(work.header, (1 - value, value))


def _with_weights(work: _Work, weights: Weights) -> _Work:
    groups = WeightGroup.of(weights, work.header)
    plan = replace(work.plan, weights=_shared(groups), groups=groups)
    return replace(work, weights=weights, plan=plan)


def _corrected(
    work: _Work, meter: Meter | None, combined: Combined, readers: Sequence[Read]
) -> Corrected:
    if meter is None or work.recipe.repair is None:
        return Corrected({}, ())
    return correct(
        meter,
        work.recipe.repair,
        combined,
        models=readers,
        weights=work.weights,
        header=work.header,
        seed=work.matching.seed,
    )


def _found(
    meter: Meter | None, recipe: Recipe, selected: Selected | None, layered: Layered | None
) -> Mapping[str, object]:
    """Return what the provenance says of the task."""
    if meter is None:
        return {}
    found: dict[str, object] = {"task": meter.facts}
    if selected is not None:
        found["selected"] = {
            "split": selected.split,
            "lambdas": selected.lambdas,
            "losses": selected.losses,
        }
    if layered is not None:
        found["layer_weights"] = {
            "loss": layered.loss_name,
            "samples": layered.samples,
            "mean": layered.mean,
            "history": layered.history,
        }
    if recipe.repair is not None:
        found["repair"] = recipe.repair
    return found


def _caveats(model: Model) -> tuple[str, ...]:
    statistics = [tensor for tensor in model.binding.tensors if tensor.statistic]
    if not statistics:
        return ()
    return (
        f"{len(statistics)} running statistics were averaged like weights; a merged network needs "
        "them computed again on data before it is judged",
    )
