"""Merge recipes in YAML: mergekit's keys where they mean the same, ours under `rebasin`.

`python -m rebasin_hub.recipefile > schemas/recipe.schema.json` writes the JSON Schema anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    WithJsonSchema,
)
from pydantic_core import core_schema

from rebasin_hub.align import METHODS as ALIGN_METHODS
from rebasin_hub.align.many import STRATEGIES
from rebasin_hub.errors import FileError, Problem
from rebasin_hub.merge import METHODS, Rule, Setting, Weighting
from rebasin_hub.spec.check import nearest
from rebasin_hub.yamlfile import Strict, load, schema_text

__all__ = ["SCHEMA_ID", "RecipeFile", "RecipeModel", "TaskEntry", "load_recipe"]

SCHEMA_ID = "urn:rebasin-hub:recipe:1"

STORED = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
"""What mergekit and torch call the types that a merge is stored in."""

_FILE = re.compile(r"\.(yaml|yml|onnx|py:\w+)$")
"""What a spec or a task is named by where it is a file."""

MERGEKIT_METHODS = (
    *("arcee_fusion", "breadcrumbs", "breadcrumbs_ties", "dare_linear", "dare_ties", "della"),
    *("della_linear", "karcher", "model_stock", "multislerp", "nearswap", "nuslerp"),
    *("passthrough", "ram", "ramplus_tl", "sce", "task_arithmetic", "ties"),
)
"""Those of mergekit 0.1.5 that are not here."""


@dataclass(frozen=True)
class _Refused:
    """Marks a key of mergekit's that is refused by name, with the reason."""

    reason: str

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Refuse every value but null."""
        return core_schema.no_info_before_validator_function(self._refuse, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Allow no value."""
        del schema, handler
        return {"not": {}, "description": f"Not taken: {self.reason}."}

    def _refuse(self, value: object) -> object:
        if value is not None:
            raise ValueError(f"is a key of mergekit that is not taken: {self.reason}")
        return value


_OtherMethods: TypeAlias = Annotated[None, _Refused("it belongs to methods that are not here")]
_Layers: TypeAlias = Annotated[
    None, _Refused("layers of several models are not stacked; name whole `models`")
]
_Tokenizer: TypeAlias = Annotated[
    None, _Refused("models with other tokenizers are not merged, so there is nothing to choose")
]
_SideFile: TypeAlias = Annotated[
    None, _Refused("side files are those of the base model, unchanged")
]
_OfOneModel: TypeAlias = Annotated[
    None, _Refused("it says how far the way from base_model goes; put it under outer `parameters`")
]


class Condition(Strict):
    """A value for tensors whose name holds a text."""

    value: float | Annotated[list[float], Field(min_length=1)]
    """A number, or a list of numbers along the layers."""
    filter: Annotated[str, Field(min_length=1)] | None = None
    """Part of a tensor's name; without it the value is for all that are left."""


def _reachable(value: Any) -> Any:  # noqa: ANN401 - of any of the forms
    if isinstance(value, list):
        for number, entry in enumerate(value[:-1]):
            if isinstance(entry, Condition) and entry.filter in {None, "*"}:
                raise ValueError(
                    f"entry {number + 1} has no filter, so that those after it never count; "
                    "put it last"
                )
    return value


Parameter: TypeAlias = Annotated[
    float
    | Condition
    | Annotated[list[float], Field(min_length=1)]
    | Annotated[list[Condition], Field(min_length=1)],
    AfterValidator(_reachable),
]


class _Unknown(Strict):
    """Parameters of mergekit's other methods."""

    density: _OtherMethods = None
    gamma: _OtherMethods = None
    epsilon: _OtherMethods = None
    lambda_: _OtherMethods = Field(default=None, alias="lambda")
    rescale: _OtherMethods = None
    int8_mask: _OtherMethods = None


class ModelParameters(_Unknown):
    """What is said of one model."""

    weight: Parameter | None = None
    """Its share (linear)."""
    t: _OfOneModel = None


class Parameters(_Unknown):
    """What holds for all models."""

    weight: Parameter | None = None
    """The share of models that name none of their own (linear)."""
    t: Parameter | None = None
    """From 0, base_model, to 1, the other model (slerp)."""
    normalize: bool = True
    """Divide the weights of each tensor by their sum (linear)."""


class ModelEntry(Strict):
    """One model."""

    model: Annotated[str, Field(min_length=1)]
    """A checkpoint, from the recipe's own directory on."""
    parameters: ModelParameters = ModelParameters()


def _one_of(value: str, known: Collection[str]) -> str:
    if value not in known:
        raise ValueError(f"expected one of {', '.join(known)}{nearest(value, known)}")
    return value


def _align_method(value: str) -> str:
    return _one_of(value, ALIGN_METHODS)


def _strategy(value: str) -> str:
    return _one_of(value, STRATEGIES)


class AlignEntry(Strict):
    """How the models are brought into one numbering before they are merged."""

    method: Annotated[str, AfterValidator(_align_method)] = "weight"
    """As of the command `align`."""
    strategy: Annotated[str, AfterValidator(_strategy)] = "reference"
    """Each to the first model, as a tree of pairs, or each to the mean of the others."""
    restarts: Annotated[int, Field(ge=1)] | None = None
    """Searches from different starts, of which the best counts."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of everything random."""


class TaskEntry(Strict):
    """What a merge is measured on."""

    name: Annotated[str, Field(min_length=1)]
    """As of `--task`."""
    data: str | None = None
    """The samples, from the recipe's own directory on."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Measure this many samples of each split."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Samples of one forward pass."""
    set: dict[str, JsonValue] = Field(default={})
    """What only some tasks know."""


class Ours(Strict):
    """What mergekit has no keys for."""

    align: bool | AlignEntry = True
    """Whether, and how, the models are brought into one numbering."""
    spec: str | None = None
    """A shipped spec's name, or a file, from the recipe's own directory on."""
    sizes: dict[str, Annotated[int, Field(ge=1)]] = Field(default={})
    """Sizes that neither shapes nor config.json tell, such as `head: 12`."""
    task: TaskEntry | None = None
    """What the merge is measured on, for `select_weight`, `select_layer_weights` and `repair`."""
    select_weight: bool = False
    """Take the weight with the least loss on the task, of 25 between two models."""
    select_layer_weights: bool = False
    """Take a weight for each layer, by gradient descent on the task's loss; on average they stay
    the weights that are given for the models."""
    repair: Literal["recompute", "repair"] | None = None
    """Correct the statistics, or each channel's mean and deviation, of the merged network."""


def _method(value: str) -> str:
    if value in MERGEKIT_METHODS:
        raise ValueError(
            f"'{value}' is a method of mergekit that rebasin-hub does not have; it has "
            f"{', '.join(METHODS)}"
        )
    return _one_of(value, METHODS)


class RecipeModel(Strict):
    """How checkpoints are merged."""

    models: Annotated[list[ModelEntry], Field(min_length=1)]
    """Two or more, base_model among them or beside them."""
    merge_method: Annotated[str, AfterValidator(_method), WithJsonSchema({"enum": list(METHODS)})]
    """linear or slerp."""
    base_model: Annotated[str, Field(min_length=1)] | None = None
    """The model whose numbering, format, side files and metadata are taken over; the first one."""
    parameters: Parameters = Parameters()
    dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = None
    """The type in which the merge is stored; that of the base model by default."""
    out_dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = None
    """The same as dtype, which then has to be float32, in which sums are made, or absent."""
    rebasin: Ours = Ours()
    slices: _Layers = None
    modules: _Layers = None
    tokenizer_source: _Tokenizer = None
    tokenizer: _Tokenizer = None
    chat_template: _SideFile = None


@dataclass(frozen=True)
class RecipeFile:
    """A recipe that was read: what it says, with paths from where the recipe lies.

    `models` has the base model first, `weighting` is in that order; `dtype` is a key of `DTYPES`.
    """

    models: tuple[Path, ...]
    method: str
    weighting: Weighting | None
    dtype: str | None
    align: AlignEntry | None
    spec: str | None
    sizes: Mapping[str, int] = field(default_factory=dict)
    task: TaskEntry | None = None
    data: Path | None = None
    select_weight: bool = False
    select_layer_weights: bool = False
    repair: Literal["recompute", "repair"] | None = None


def load_recipe(path: Path) -> RecipeFile:
    """Read a recipe.

    Raises:
        FileError: with every problem, its line and the nearest key.

    """
    content = load(path, RecipeModel, "recipe")
    if problems := list(_conflicts(content)):
        raise FileError([Problem(str(path), 0, key, message) for key, message in problems])
    entries, ours = _entries(content), content.rebasin
    align = AlignEntry() if ours.align is True else ours.align or None
    task = ours.task
    if task is not None and _FILE.search(task.name):
        task = task.model_copy(update={"name": str(path.parent / task.name)})
    data = task.data if task is not None else None
    return RecipeFile(
        models=tuple(path.parent / Path(entry.model).expanduser() for entry in entries),
        method=content.merge_method,
        weighting=_weighting(content, entries),
        dtype=STORED.get(content.out_dtype or content.dtype or ""),
        align=align,
        spec=_spec(path, ours.spec),
        sizes=ours.sizes,
        task=task,
        data=None if data is None else path.parent / Path(data).expanduser(),
        select_weight=ours.select_weight,
        select_layer_weights=ours.select_layer_weights,
        repair=ours.repair,
    )


def _conflicts(content: RecipeModel) -> Iterator[tuple[str, str]]:
    """Find what single keys do not show."""
    shared, method = content.parameters, content.merge_method
    count = len(_entries(content))
    weighted = shared.weight is not None or any(
        m.parameters.weight is not None for m in content.models
    )
    ours = content.rebasin
    if count < 2:  # noqa: PLR2004
        yield "models", "a merge takes two models or more"
    if method == "slerp" and count > 2:  # noqa: PLR2004
        yield "models", f"slerp merges two models, {count} were given"
    if method == "slerp" and weighted:
        yield "parameters.weight", "slerp has no weights; it takes `parameters: {t: …}`"
    if method == "slerp" and not shared.normalize:
        yield "parameters.normalize", "slerp has no weights that it could leave as they are"
    if method != "slerp" and shared.t is not None:
        yield "parameters.t", f"belongs to slerp; {method} takes a weight for each model"
    if content.out_dtype is not None and content.dtype not in {None, "float32"}:
        yield (
            "dtype",
            (
                f"'{content.dtype}' beside out_dtype would round every model first; sums are made "
                "in float32, so remove it"
            ),
        )
    if ours.select_weight and (weighted or shared.t is not None):
        yield "rebasin.select_weight", "chooses the weights itself; remove those that are given"
    yield from _task_conflicts(ours, method)


def _task_conflicts(ours: Ours, method: str) -> Iterator[tuple[str, str]]:
    """Find what does not go together of what is measured."""
    if ours.task is None:
        for key in ("select_weight", "select_layer_weights", "repair"):
            if getattr(ours, key):
                yield f"rebasin.{key}", "needs a task; name one under `rebasin: {task: …}`"
    if ours.select_weight and ours.select_layer_weights:
        yield "rebasin.select_layer_weights", "select one weight or one for each layer, not both"
    if ours.select_layer_weights and method != "linear":
        yield "rebasin.select_layer_weights", f"goes with the method linear, not with {method}"


def _entries(content: RecipeModel) -> list[ModelEntry]:
    """Return the models, base_model first."""
    base = content.base_model
    if base is None:
        return list(content.models)
    first = [entry for entry in content.models if entry.model == base][:1]
    others = [entry for entry in content.models if entry not in first]
    return [*(first or [ModelEntry(model=base)]), *others]


def _weighting(content: RecipeModel, entries: Sequence[ModelEntry]) -> Weighting | None:
    shared = content.parameters
    if content.merge_method == "slerp":
        if shared.t is None:
            return None
        away, there = _setting(shared.t, lambda t: 1 - t), _setting(shared.t)
        return Weighting(((away,), (there,)))
    common = [] if shared.weight is None else [_setting(shared.weight)]
    own = [entry.parameters.weight for entry in entries]
    if not common and all(weight is None for weight in own):
        if shared.normalize:
            return None
        return Weighting(tuple(((Rule((1.0,)),),) for _ in own), normalize=False)
    settings = ((*([] if weight is None else [_setting(weight)]), *common) for weight in own)
    return Weighting(tuple(settings), shared.normalize)


def _setting(value: Any, of: Callable[[float], float] = float) -> Setting:  # noqa: ANN401
    """Return a parameter as rules, each number mapped by `of`."""
    match value:
        case Condition():
            values = value.value if isinstance(value.value, list) else [value.value]
            return (Rule(tuple(of(v) for v in values), value.filter),)
        case [Condition(), *_]:
            return tuple(rule for entry in value for rule in _setting(entry, of))
        case list():
            return (Rule(tuple(of(v) for v in value)),)
        case _:
            return (Rule((of(value),)),)


def _spec(recipe: Path, spec: str | None) -> str | None:
    """Return a spec's name as it is, and a file's path from the recipe's directory on."""
    if spec is not None and _FILE.search(spec):
        return str(recipe.parent / spec)
    return spec


if __name__ == "__main__":
    sys.stdout.write(schema_text(RecipeModel, SCHEMA_ID))
