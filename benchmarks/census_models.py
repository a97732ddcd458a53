"""Every architecture of transformers, and configurations that make small models of them."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import transformers
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

SIZES: Mapping[str, int] = {
    r"(.*_)?(hidden_size|d_model|n_embd|embed_dim|hidden_dim|model_dim|embedding_size)": 32,
    r"(.*_)?(dim|word_embed_proj_dim|output_dim|emb_dim|embedding_dim|width|hid_dim)": 32,
    r"hidden_sizes?_per_layer_input|projection_dim|.*_proj_size|.*_proj_dim": 16,
    r"(.*_)?(intermediate_size|ffn_dim|d_ff|ff_dim|mlp_dim|n_inner|ffn_hidden_size|hidden_ff)": 40,
    r"(.*_)?(ffn_size|ffn_intermediate_size|dim_feedforward|ff_size)": 40,
    r"(.*_)?(moe_intermediate_size|expert_intermediate_size|expert_ffn_hidden_size)": 24,
    r"(.*_)?(num_attention_heads|n_heads?|num_heads|attention_heads)": 4,
    r"(.*_)?num_key_value_heads|num_kv_heads|n_kv_heads": 2,
    r"(.*_)?(head_dim|d_kv|d_head|head_size|dim_head|attention_head_size|rotary_dim)": 8,
    r"(.*_)?(num_hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|depth)": 2,
    r"(.*_)?(num_(encoder|decoder)_layers|num_blocks|num_res_blocks|resampler_depth)": 2,
    r"(.*_)?(num_(local_)?experts|n_routed_experts|moe_num_experts)": 4,
    r"(.*_)?(num_experts_per_tok(en)?|moe_topk|moe_k|top_k)": 2,
    r"n_group|num_groups|norm_num_groups": 2,
    r"topk_group": 1,
    r"q_lora_rank": 12,
    r"kv_lora_rank": 20,
    r"qk_rope_head_dim|qk_nope_head_dim|v_head_dim|index_head_dim": 8,
    r"qk_head_dim": 16,
    r"index_topk": 4,
    r"index_n_heads": 4,
    r"(.*_)?(image_size|img_size)": 32,
    r"patch_size": 8,
    r"(.*_)?vocab_size.*": 80,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length": 64,
    r"max_(source|target)_positions": 24,
    r"num_mel_bins": 16,
    r"sliding_window|attention_window": 4,
    r"num_queries|num_object_queries|num_query_tokens": 5,
    r"mamba_d_state|state_size|ssm_state_size": 4,
    r"(mamba_)?time_step_rank|mamba_dt_rank": 3,
    r"linear_(key|value)_head_dim": 8,
    r"linear_num_(key|value)_heads": 2,
    r"num_frames": 4,
}
"""Sizes of a small model by the whole name of a setting; where several fit, the first counts."""

PATTERNS = [(re.compile(pattern), size) for pattern, size in SIZES.items()]
TOKEN = re.compile(r".*_token_(id|index)|.*_token|.*_idx")
FIRST_TOKENS = {"pad": 0, "bos": 1, "eos": 2, "decoder_start": 2, "sep": 2, "cls": 1}
LAST_TOKEN = 79
SECTIONS = "mrope_section"
HEAD_DIM = 8
"""Of rotary settings too, whose sections cover half of a head."""
MOST_LAYERS = 4
DIVISOR = 8
NARROWEST = 64


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


def small_configs(name: str) -> Iterator[PreTrainedConfig]:
    """Yield configurations of a class, the smallest first.

    First every size is set by its name, with lists of layers' kinds cut to one of each; then
    without these lists; then all widths are divided by one number, which keeps what depends on
    their ratios; the last is the default.
    """
    model = getattr(transformers, name)
    default = model.config_class()
    source = inspect.getsource(inspect.getmodule(model) or model)
    for by_name, kinds in itertools.product((True, False), (True, False)):
        small = _Small(by_name=by_name, kinds=kinds, sections=SECTIONS in source)
        try:
            yield small.of(default)
        except Exception:  # noqa: BLE001 - a configuration raises anything
            continue
    yield default


class _Small:
    """One way to make configurations small."""

    def __init__(self, *, by_name: bool, kinds: bool, sections: bool) -> None:
        self.by_name = by_name
        self.sections = sections
        self.kinds = kinds
        self.token = LAST_TOKEN

    def of(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return a small configuration of the same class."""
        changed: dict[str, Any] = {}
        values = {key.lstrip("_"): value for key, value in vars(config).items()}
        layers = self.layers(values)
        for key, value in values.items():
            if isinstance(value, PreTrainedConfig):
                changed[key] = self.of(value)
            elif key == "head_dim" and value is None and self.by_name:
                changed[key] = HEAD_DIM
            elif isinstance(value, bool) or value is None or key in {"id2label", "label2id"}:
                continue
            elif isinstance(value, int):
                size = self.number(key, value, layers)
                if size != value:
                    changed[key] = size
            elif isinstance(value, list | tuple) and value:
                items = self.items(key, list(value), values, layers)
                if items is not None and items != list(value):
                    changed[key] = type(value)(items)
            elif isinstance(value, dict) and key.startswith("rope"):
                changed[key] = _rope(value, sections=self.sections)
        return type(config)(**changed)

    def layers(self, values: Mapping[str, Any]) -> int:
        """Return the number of layers: one of each kind, and two at least."""
        count = 2
        if self.kinds:
            for value in values.values():
                listed = isinstance(value, list | tuple) and value and isinstance(value[0], str)
                if listed and len(value) == values.get("num_hidden_layers"):
                    count = max(count, len(set(value)))
        return min(count, MOST_LAYERS)

    def number(self, key: str, value: int, layers: int) -> int:
        if TOKEN.fullmatch(key):
            return self.token_id(key, value)
        if re.fullmatch("num_hidden_layers|n_layers?|num_layers", key):
            return min(value, layers)
        for pattern, size in PATTERNS:
            if pattern.fullmatch(key):
                kept = self.by_name or size <= MOST_LAYERS or size == SIZES[r"(.*_)?vocab_size.*"]
                if kept and (self.by_name or "head" not in key):
                    return min(value, size)
                break
        if self.by_name or value < NARROWEST or value % DIVISOR:
            return value
        return value // DIVISOR if re.search("size|dim|d_|embd|channels|width", key) else value

    def token_id(self, key: str, value: int) -> int:
        """Return a token of the small vocabulary: the last ones for places of other inputs."""
        first = FIRST_TOKENS.get(key.rpartition("_token")[0])
        if first is not None:
            return first
        if 0 <= value <= LAST_TOKEN - 20:
            return value
        self.token -= 1
        return self.token + 1 if value >= 0 else value

    def items(
        self, key: str, value: list[Any], values: Mapping[str, Any], layers: int
    ) -> list[Any] | None:
        """Return a list made small: kinds of layers, depths, widths; None to leave it away."""
        if len(value) == values.get("num_hidden_layers") and len(value) > layers:
            if not self.kinds:
                return None
            kinds = list(dict.fromkeys(value)) if isinstance(value[0], str) else value
            return (kinds + [kinds[-1]] * layers)[:layers]
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in value):
            return None
        if re.search("depths|num_layers|layers_per|blocks_per|num_blocks", key):
            return [min(n, 1 + (index == 1)) for index, n in enumerate(value)]
        wide = max(value) > NARROWEST and all(n > DIVISOR and n % DIVISOR == 0 for n in value)
        if wide and re.search("hidden_sizes|embed_dims|channels|dims|conv_dim|widths", key):
            return [n // DIVISOR for n in value]
        return None


def _rope(value: Mapping[str, Any], *, sections: bool) -> dict[str, Any]:
    """Return rotary settings for heads of eight dimensions, for each kind of layers if need be."""
    inner = {k: v for k, v in value.items() if isinstance(v, dict)}
    if inner:
        return {**value, **{k: _rope(v, sections=sections) for k, v in inner.items()}}
    return {**value, SECTIONS: [2, 1, 1]} if sections or SECTIONS in value else dict(value)
