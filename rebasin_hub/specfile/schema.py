"""The structure of a spec file: pydantic models, and the JSON Schema that is made of them.

`rebasin-hub spec schema > specs/schema.json` writes the schema anew. What a pattern,
a template or a size says is checked when a spec is compiled (`compile`); here stands which keys
there are and what kind of value each has.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, JsonValue, Tag

from rebasin_hub import yamlfile
from rebasin_hub.yamlfile import Strict

__all__ = ["SpecFile", "schema_text"]

SCHEMA_ID = "urn:rebasin-hub:spec:1"

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
NAME_PATTERN = f"^{_NAME}$"
PERMUTATION_PATTERN = rf"^{_NAME}(\[ *{_NAME}( *, *{_NAME})* *\])?$"
SPEC_NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
MAX_LINES = 10_000
MAX_WORDS = 1_000


def _listed(value: object) -> object:
    """Take a single entry for a list of one."""
    return value if isinstance(value, list) else [value]


def _spelled(value: object) -> object:
    """Take patterns and sizes that are whole numbers for their text."""
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return str(value) if number else value


Word: TypeAlias = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=2_000)]
Template: TypeAlias = Annotated[str, Field(min_length=1, max_length=2_000)]
Pattern: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2_000,
        examples=["ff embed", "(kv group rope) embed", "channel channel[<conv] 3 3", "scalar"],
    ),
]
Patterns: TypeAlias = Annotated[
    list[Pattern],
    BeforeValidator(
        lambda value: _spelled(_listed(value)),
        json_schema_input_type=Pattern | Annotated[int, Field(ge=1)] | list[Pattern],
    ),
    Field(min_length=1, max_length=16),
]
Size: TypeAlias = Annotated[
    Annotated[str, Field(min_length=1, max_length=200)] | None,
    BeforeValidator(
        _spelled,
        json_schema_input_type=Annotated[int, Field(ge=1)]
        | Annotated[str, Field(min_length=1, max_length=200)]
        | None,
    ),
]
LayoutName: TypeAlias = Annotated[str, Field(pattern=SPEC_NAME_PATTERN, max_length=64)]
PermutationKey: TypeAlias = Annotated[
    str,
    Field(pattern=PERMUTATION_PATTERN, max_length=200),
]


class PermutationEntry(Strict):
    """One renumbering; without any keys, a plain one."""

    within: Word | None = None
    """The permutation that this one depends on: there is one of it for each index of that one."""
    parts: Annotated[list[Word], Field(max_length=64)] | None = None
    """Words for consecutive parts, which stand in one sum: `[lo, hi]` for `(lo + stage1 + hi)`."""
    from_: Annotated[Pattern | None, Field(alias="from")] = None
    """A chain's beginning: what `hidden[<layer]` is at the first layer, such as `input`."""
    to: Word | None = None
    """A chain's end: the fixed word that the permutation of the last layer is, such as `output`."""
    group: Literal["permutation", "signed", "orthogonal", "scale"] = "permutation"
    """The kind of symmetry; only `permutation` is supported yet, the others are reserved."""


class Match(Strict):
    """How a checkpoint is known besides its tensor names."""

    model_type: Annotated[list[Text], Field(max_length=200)] = []
    """Values of `model_type` in config.json."""
    architectures: Annotated[list[Text], Field(max_length=200)] = []
    """Classes in `architectures` in config.json, where tensor names do not tell them apart."""


class TransformersExample(Strict):
    """A small model of the transformers package."""

    transformers: Word
    """The model's class, such as LlamaForCausalLM."""
    config: dict[str, JsonValue] = {}
    """Arguments of its configuration class; small ones make a quick proof."""


class ZooExample(Strict):
    """A small model that comes with this package."""

    zoo: Word
    """The builder's name in rebasin_hub.zoo, such as resnet."""
    arguments: dict[str, JsonValue] = {}
    """Its arguments."""


def _kind(value: object) -> str | None:
    """Tell which kind of example is meant by the key that each must have."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    keys = value if isinstance(value, dict) else {}
    kinds = {"transformers": "TransformersExample", "zoo": "ZooExample"}
    return next((kind for key, kind in kinds.items() if key in keys), None)


Example: TypeAlias = Annotated[
    Annotated[TransformersExample, Tag("TransformersExample")]
    | Annotated[ZooExample, Tag("ZooExample")],
    Discriminator(_kind),
]


class LayoutTensor(Strict):
    """What becomes of a tensor in another layout."""

    name: Template
    """Its name there, with the same variables and as many alternatives."""
    axes: Annotated[Pattern | None, Field(examples=["out in -> in out"])] = None
    """Its axes here, `->`, and its axes there, over the same words."""


LayoutLine: TypeAlias = Annotated[
    LayoutTensor,
    BeforeValidator(
        lambda value: {"name": value} if isinstance(value, str) else value,
        json_schema_input_type=Template | LayoutTensor,
    ),
]


class LayoutEntry(Strict):
    """Another layout of the same tensors, such as Flax's, for `rebasin-hub convert`."""

    description: Annotated[str, Field(max_length=2_000)] = ""
    """What is stored like this."""
    sizes: Annotated[dict[Word, Size], Field(max_length=MAX_WORDS)] = {}
    """Where sizes of the words in `axes` come from that the shapes do not tell."""
    prefixes: Annotated[dict[Text, Text], Field(max_length=64)] = {}
    """Text that may stand before every name here, and what stands in its place there."""
    tensors: Annotated[dict[Template, LayoutLine], Field(min_length=1, max_length=MAX_LINES)]
    """For each tensor name here its name there, and where its axes go, if they do."""
    missing: Annotated[dict[Template, Text], Field(max_length=MAX_LINES)] = {}
    """Tensors of one of the two layouts that the other lacks, each with the reason."""


class SpecFile(Strict):
    """Which axes of which tensors of an architecture are renumbered by which permutation."""

    model_config = ConfigDict(title="rebasin-hub spec")

    # To Python, true is 1.
    spec: Annotated[
        Literal[1], BeforeValidator(lambda value: value if value is not True else "true")
    ]
    """The version of the spec language."""
    name: Annotated[str, Field(pattern=SPEC_NAME_PATTERN, max_length=64)]
    """The architecture's name, in lower case: letters, digits, '.', '_' and '-'."""
    description: Annotated[str, Field(max_length=2_000)] = ""
    """What models it describes."""
    source: Annotated[str, Field(max_length=2_000)] = ""
    """Where the architecture is defined."""
    match: Match = Match()
    """How a checkpoint is known besides its tensor names."""
    prefixes: Annotated[list[Text], Field(max_length=64)] = []
    """Text that may stand before every tensor's name, such as `bert.`."""
    sizes: Annotated[dict[Word, Size], Field(max_length=MAX_WORDS)] = {}
    """Where sizes come from that the shapes do not tell: a number, an expression over config.json
    such as `num_key_value_heads | num_attention_heads`, or nothing (solved from the shapes)."""
    permutations: Annotated[
        dict[PermutationKey, PermutationEntry | None], Field(max_length=MAX_WORDS)
    ]
    """The renumberings: `embed:`, or `ff[layer]:` for one for each layer."""
    tensors: Annotated[dict[Template, Patterns], Field(min_length=1, max_length=MAX_LINES)]
    """For each tensor name what stands on its axes, in stored order."""
    statistics: Annotated[dict[Template, Patterns], Field(max_length=MAX_LINES)] = {}
    """Like `tensors`, for running statistics: renumbered, but not compared when aligning."""
    ignore: Annotated[dict[Template, Text], Field(max_length=MAX_LINES)] = {}
    """Tensors that hold nothing to renumber, each with the reason."""
    example: Annotated[
        list[Example],
        BeforeValidator(_listed, json_schema_input_type=Example | list[Example]),
        Field(max_length=16),
    ] = []
    """Small models that the spec is proven on."""
    layouts: Annotated[dict[LayoutName, LayoutEntry], Field(max_length=64)] = {}
    """Other layouts of the same tensors, which `rebasin-hub convert` leads to and from."""


def schema_text() -> str:
    """Return the JSON Schema as it is shipped in specs/schema.json."""
    return yamlfile.schema_text(SpecFile, SCHEMA_ID)
