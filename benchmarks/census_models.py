"""Every architecture of transformers, and configurations that make small models of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import transformers
from census_small import SECTIONS, Small, Way
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto

__all__ = ["classes", "small_configs"]

HEADS = (
    *("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "CTC"),
    *("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "IMAGE_CLASSIFICATION", "VIDEO_CLASSIFICATION"),
    *("AUDIO_CLASSIFICATION", "SEMANTIC_SEGMENTATION", "OBJECT_DETECTION", "DEPTH_ESTIMATION"),
    *("ZERO_SHOT_IMAGE_CLASSIFICATION", "PRETRAINING", "TOKEN_CLASSIFICATION"),
    *("SEQUENCE_CLASSIFICATION", "QUESTION_ANSWERING"),
)
"""Tasks; the first that an architecture has gives its main class."""


def classes(heads: bool) -> list[tuple[str, str]]:
    """Return model types with the name of a class: the main one of each, or all others too."""
    maps: list[Mapping[str, Any]] = [
        getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in HEADS
    ]
    maps.append(modeling_auto.MODEL_MAPPING_NAMES)
    main: dict[str, str] = {}
    others: dict[str, str] = {}
    for kinds in maps:
        for model_type, named in kinds.items():
            name = named[0] if isinstance(named, tuple | list) else named
            if model_type in main:
                others.setdefault(name, model_type)
            else:
                main[model_type] = name
    found = {name: model_type for model_type, name in sorted(main.items(), reverse=True)}
    rows = [(model_type, name) for name, model_type in reversed(found.items())]
    if heads:
        rows += [(kind, name) for name, kind in sorted(others.items()) if name not in found]
    return rows


WAYS = (
    Way(),
    Way(alike=True),
    Way(unset=True),
    Way(alike=True, unset=True),
    Way(kinds=False),
    Way(kinds=False, alike=True),
    Way(lists=False),
    Way(by_name=False),
    Way(by_name=False, kinds=False),
)
"""The smallest first."""


def small_configs(name: str) -> Iterator[PreTrainedConfig]:
    """Yield different configurations of a class, the smallest first; the last is the default."""
    model = getattr(transformers, name)
    default = model.config_class()
    source = inspect.getsource(inspect.getmodule(model) or model)
    seen: list[dict[str, Any]] = []
    for way in WAYS:
        small = Small(way, sections=SECTIONS in source)
        try:
            config = small.of(default)
            values = config.to_dict()
        except Exception:  # noqa: BLE001 - a configuration raises anything
            continue
        if values not in seen:
            seen.append(values)
            yield config
    yield default
