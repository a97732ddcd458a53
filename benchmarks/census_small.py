"""Configurations of transformers, made small by rules over the names of their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from transformers import PreTrainedConfig, ResNetConfig, TimmBackboneConfig

__all__ = ["SECTIONS", "Small", "Way"]

Settings: TypeAlias = Mapping[str, Any]

VOCABULARY = 80
LAST_TOKEN = VOCABULARY - 1
SIZES: Mapping[str, int] = {
    r"qk_rope_head_dim|qk_nope_head_dim|v_head_dim|index_head_dim": 8,
    r"qk_head_dim": 16,
    r"(.*_)?(head_dim|d_kv|d_head|head_size|dim_head|attention_head_size|rotary_dim)": 8,
    r"image_embedding_size": 4,
    r"num_mel_bins|model_in_dim": 16,
    r"(.*_)?(hidden_size|d_model|n_embd|embedding_size|hidden_dimension|dim|width)": 32,
    r"num_filters": 8,
    r"(.*_)?(base_channels|upsample_groups)": 32,
    r"hidden_sizes?_per_layer_input|.*_proj_size": 16,
    r"moe_intermediate_size|expert_(intermediate|ffn_hidden)_size": 24,
    r"(.*_)?(intermediate_size|d_ff|n_inner|hidden_ff|ffn_size|dim_feedforward|ff_size)": 40,
    r"(.*_)?(num_attention_heads|n_heads?|num_heads|attention_heads)": 4,
    r"(.*_)?num_key_value_heads|num_kv_heads|n_kv_heads": 2,
    r"(.*_)?(num_hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|depth)": 2,
    r"(.*_)?(num_(encoder|decoder)_layers|num_blocks|num_res_blocks|resampler_depth)": 2,
    r"(num_kv_shared|first_k_dense)_(layers|replace)|num_nextn_predict_layers": 0,
    r"(.*_)?(num_(local_)?experts|n_routed_experts|moe_num_experts)": 4,
    r"n_shared_experts": 1,
    r"(.*_)?(num_experts_per_tok(en)?|moe_topk|moe_k|top_k(_experts)?)": 2,
    r"n_group|num_expert_group|num_groups|norm_num_groups": 2,
    r"topk_group": 1,
    r"q_lora_rank": 12,
    r"kv_lora_rank": 20,
    r"index_topk": 4,
    r"(.*_)?(image_size|img_size)": 32,
    r"patch_size": 8,
    r"(.*_)?vocab(_size.*)?": VOCABULARY,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length": 64,
    r"max_(source|target)_positions": 24,
    r"sliding_window|attention_window|index_kpool|prediction_length": 4,
    r"num_queries|num_object_queries|num_query_tokens": 5,
    r"mamba_d_state|state_size|ssm_state_size": 4,
    r"(mamba_)?time_step_rank|mamba_dt_rank": 3,
    r"linear_num_(key|value)_heads": 2,
    r"num_frames": 4,
}
"""Sizes of a small model by the whole name of a setting; where several fit, the first counts."""

PATTERNS = [(re.compile(pattern), size) for pattern, size in SIZES.items()]
TOKEN = re.compile(r"(?!num_).*(_token_(id|index)|_token|_idx)")
FIRST_TOKENS = {"pad": 0, "bos": 1, "eos": 2, "decoder_start": 2, "sep": 2, "cls": 1}
LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
KINDS = {"layer_types": "full_attention", "mlp_layer_types": "sparse"}
"""Of layers, where a configuration says none."""
SECTIONS = "mrope_section"
HEAD_DIM = 8
"""Of rotary settings too, whose sections cover half of a head."""
MOST_LAYERS = 4
STAGES = 5
"""Of a residual network, with its stem."""
DIVISOR = 8
NARROWEST = 64


@dataclass(frozen=True)
class Way:
    """One way to make a configuration small.

    Attributes:
        by_name: every size is set by its name; else all widths are divided by one number, which
            keeps what depends on their ratios.
        kinds: lists of the layers' kinds are cut to one of each; else they are left away.
        alike: where there are as many heads of keys as of queries, so it stays.
        unset: sizes that have no value are set as well.
        lists: lists of widths are divided by one number.

    """

    by_name: bool = True
    kinds: bool = True
    alike: bool = False
    unset: bool = False
    lists: bool = True


class Small:
    """Makes configurations small in one way."""

    def __init__(self, way: Way, *, sections: bool) -> None:
        self.way = way
        self.sections = sections
        self.token = LAST_TOKEN

    def of(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return a small configuration of the same class."""
        if isinstance(config, TimmBackboneConfig):
            return self.of(_resnet(config))
        values = {key.lstrip("_"): value for key, value in vars(config).items()}
        layers = self.layers(values)
        changed = {
            key: found
            for key, value in values.items()
            if (found := self.setting(key, value, values, layers)) is not None and found != value
        }
        return _filled(type(config)(**changed), config)

    def setting(self, key: str, value: object, values: Settings, layers: int) -> object:
        """Return what one setting becomes; None to leave it as it is."""
        found: object = None
        match value:
            case PreTrainedConfig():
                found = self.of(value)
            case None:
                found = self.missing(key, layers)
            case float() if key.endswith("_coefficient"):
                found = min(value, 1.0)
            case int() if not isinstance(value, bool):
                found = self.number(key, value, values, layers)
            case list() | tuple() if value:
                items = self.items(key, list(value), values, layers)
                found = None if items is None else type(value)(items)
            case dict() if key.startswith("rope"):
                found = _rope(value, sections=self.sections)
        return found

    def layers(self, values: Settings) -> int:
        """Return the number of layers: one of each kind, those looked at, and two at least."""
        count = 2
        for key, value in values.items():
            if not isinstance(value, list | tuple) or not value:
                continue
            if _chosen_layers(key, value, values):
                count = max(count, len(value))
            elif self.way.kinds and isinstance(value[0], str):
                whole = len(value) == _depth(values)
                count = max(count, len(set(value)) if whole else 0)
        return min(count, MOST_LAYERS)

    def missing(self, key: str, layers: int) -> object:
        """Return what a setting without a value gets, if anything."""
        if key == "head_dim" and self.way.by_name:
            return HEAD_DIM
        if not self.way.unset:
            return None
        if TOKEN.fullmatch(key):
            return self.token_id(key, VOCABULARY)
        if key in KINDS:
            return [KINDS[key]] * layers
        return next((size for pattern, size in PATTERNS if pattern.fullmatch(key)), None)

    def number(self, key: str, value: int, values: Settings, layers: int) -> int:
        """Return the size that stands for a number."""
        if TOKEN.fullmatch(key):
            return self.token_id(key, value)
        if key in LAYERS:
            return min(value, layers) if _depth(values) else value
        by_name = self.way.by_name
        if self.way.alike and "key_value_heads" in key:
            heads = key.replace("key_value", "attention")
            if values.get(heads) == value:
                return self.number(heads, value, values, layers)
        for pattern, size in PATTERNS:
            if pattern.fullmatch(key):
                kept = by_name or size <= MOST_LAYERS or size == VOCABULARY
                if kept and (by_name or "head" not in key):
                    return min(value, size)
                break
        if by_name or value < NARROWEST or value % DIVISOR:
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

    def items(self, key: str, value: list[Any], values: Settings, layers: int) -> list[Any] | None:
        """Return a list made small: kinds of layers, depths, widths; None to leave it as it is."""
        if len(value) == _depth(values) and len(value) > layers:
            return self.kinds_of_layers(value, layers)
        if all(isinstance(item, list) and item and isinstance(item[-1], int) for item in value):
            # Some kinds of layers, and how often they come again.
            return [[*item[:-1], 1] for item in value]
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in value):
            return None
        if _chosen_layers(key, value, values):
            # Some count from the embedding, and some from the first layer.
            last = layers - _depth(values) + max(value)
            return [last - number for number in reversed(range(len(value)))]
        if re.search("depths|num_layers|layers_per|blocks_per|num_blocks", key):
            return [min(n, 1 + (index == 1)) for index, n in enumerate(value)]
        return self.widths(key, value, values)

    def kinds_of_layers(self, value: list[Any], layers: int) -> list[Any] | None:
        """Return one layer of each kind; None to leave the list away."""
        if not self.way.kinds:
            return None
        kinds = list(dict.fromkeys(value)) if isinstance(value[0], str) else value
        return (kinds + [kinds[-1]] * layers)[:layers]

    def widths(self, key: str, value: list[int], values: Settings) -> list[int] | None:
        """Return widths, or numbers of heads, of stages; None to leave them as they are."""
        if "heads" in key and "embed_dim" in values and all(n % value[0] == 0 for n in value):
            # Stages double their width, and begin with one that is set by its name.
            return [2 * n // value[0] for n in value] if self.way.by_name else None
        wide = max(value) > NARROWEST and all(n > DIVISOR and n % DIVISOR == 0 for n in value)
        named = re.search("hidden_sizes|embed_dim|channels|dims|conv_dim|widths", key)
        return [n // DIVISOR for n in value] if self.way.lists and wide and named else None


def _chosen_layers(key: str, value: Sequence[Any], values: Settings) -> bool:
    """Say whether a list tells the layers whose states are taken, the last of them too."""
    depth = _depth(values)
    return "indices" in key and depth > 0 and value[-1] in {depth - 1, depth}


def _depth(values: Settings) -> int:
    """Return the number of layers; 0 if there are stages of them, or it is not stated."""
    if "depths" in values:
        return 0
    return next((n for key in LAYERS if isinstance(n := values.get(key), int)), 0)


def _filled(small: PreTrainedConfig, config: PreTrainedConfig) -> PreTrainedConfig:
    """Set what the configuration around another one gave it, and its own class does not know."""
    for key, value in vars(config).items():
        if value is not None and getattr(small, key, None) is None:
            setattr(small, key, value)
    return small


def _resnet(config: TimmBackboneConfig) -> ResNetConfig:
    """Return a backbone with the same stages that needs no other package."""
    stages = [index for index in config.out_indices or (-1,) if index != 0]
    return ResNetConfig(out_indices=[index % STAGES for index in stages])


def _rope(value: Settings, *, sections: bool) -> dict[str, Any]:
    """Return rotary settings for heads of eight dimensions, for each kind of layers if need be."""
    inner = {k: v for k, v in value.items() if isinstance(v, dict)}
    if inner:
        return {**value, **{k: _rope(v, sections=sections) for k, v in inner.items()}}
    if not sections and SECTIONS not in value:
        return dict(value)
    half = int(HEAD_DIM * value.get("partial_rotary_factor", 1)) // 2
    return {**value, SECTIONS: [half - half // 4 * 2, half // 4, half // 4]}
