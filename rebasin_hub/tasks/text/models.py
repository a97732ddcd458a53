"""transformers' networks for a checkpoint, by its config.json. Importing this imports torch.

Only the architecture comes from transformers: weights are read by the program itself, so that
nothing is downloaded and no code of a checkpoint is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
import transformers
from torch import nn

from rebasin_hub.errors import IncompatibleError, InputError
from rebasin_hub.tasks.network import STATES_ON_CUDA, names_of, torch_device
from rebasin_hub.tasks.task import Subject
from rebasin_hub.tensors import Header

__all__ = ["Built", "Fit", "Module", "build", "fit", "looks_ahead", "positions", "quiet"]

Module: TypeAlias = Any
"""A PreTrainedModel of transformers, which is not typed."""
Kind: TypeAlias = Literal["causal language model", "sequence classifier"]

_AUTO: Mapping[Kind, Any] = {
    "causal language model": transformers.AutoModelForCausalLM,
    "sequence classifier": transformers.AutoModelForSequenceClassification,
}
# The module is of float32 whatever is stored; auto_map names code that comes with a checkpoint.
_LEFT_OUT = {"auto_map", "dtype", "model_type", "torch_dtype", "transformers_version"}
# Constants, and parts that only other uses of a checkpoint need.
_HARMLESS = re.compile(
    r"(^|\.)(pooler\..*|position_ids|rotary_emb\.inv_freq|attn\.(masked_)?bias|seq_relationship\..*)$"
)
# What LayerNorm's weight and bias are called in checkpoints that were converted from TensorFlow.
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
SHOWN = 5

BATCH_BYTES = 1 << 28
"""Of the largest float32 array of one forward pass: logits, or attention weights of one layer."""
STATES_BYTES = 1 << 32
"""Of the weights that are stacked to score several states at once."""


@dataclass(frozen=True, eq=False)
class Built:
    """A network with the checkpoint's names of its tensors, and notes for the user."""

    module: Module
    names: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def vocabulary(self) -> int:
        """How many tokens have an embedding."""
        return len(self.module.get_input_embeddings().weight)


def build(subject: Subject, kind: Kind) -> Built:
    """Build the network that runs a checkpoint, and match its tensors by name.

    The checkpoint's names may have or lack the prefix of the base model (`transformer.`, `bert.`).

    Raises:
        InputError: config.json is missing, or transformers knows no such network.
        IncompatibleError: the checkpoint has no head, or its tensors do not fit.

    """
    module = _module(subject, kind)
    header = subject.binding.header
    renamed = _renamed(module, header)
    _require_head(module, subject, renamed, kind)
    _untie(module, header, renamed)
    used = {renamed.get(name, name) for name in module.state_dict()}
    unused = [
        name
        for name in header
        if name not in used and name not in subject.binding.ignored and _HARMLESS.search(name)
    ]
    ignored = {**subject.binding.ignored, **dict.fromkeys(unused, "not used by the network")}
    known = replace(subject, binding=replace(subject.binding, ignored=ignored))
    return Built(module, names_of(module, known, renamed), tuple(_unused_note(module, unused)))


def _unused_note(module: nn.Module, unused: list[str]) -> Iterator[str]:
    if unused:
        more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
        yield f"{type(module).__name__} does not use {', '.join(unused[:SHOWN])}{more}."


def _module(subject: Subject, kind: Kind) -> Module:
    config = subject.config
    if config is None:
        raise InputError(
            f"{subject.path}: has no config.json, by which its network is built; give the "
            "directory that transformers saved, or --task FILE.py:NAME with a network of your own"
        )
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{subject.path}: config.json: lacks 'model_type'; restore it")
    model_type = config["model_type"]
    values = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    values |= {"use_cache": False, "return_dict": True}
    # Whatever transformers says of values that it cannot take, in one message.
    try:
        with quiet():
            settings = transformers.AutoConfig.for_model(model_type, **values)
            # Eager attention is the one that vmap has rules for on every device.
            module = _AUTO[kind].from_config(
                settings, attn_implementation="eager", trust_remote_code=False
            )
    except Exception as error:  # noqa: BLE001
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{subject.path}: transformers {transformers.__version__} builds no {kind} of the "
            f"type '{model_type}' from config.json: {reason:.200}"
        ) from None
    return module.eval()


def _renamed(module: Module, header: Header) -> dict[str, str]:
    """Return the stored name of each of the module's tensors that has another one."""
    stored = {_modern(name): name for name in header}
    prefix = f"{module.base_model_prefix}."
    renamed = {}
    for name in module.state_dict():
        for candidate in (name, name.removeprefix(prefix)):
            if candidate in stored:
                renamed[name] = stored[candidate]
                break
    return renamed


def _modern(name: str) -> str:
    before, dot, last = name.rpartition(".")
    return before + dot + _OLD_NAMES.get(last, last)


def _require_head(module: Module, subject: Subject, renamed: Mapping[str, str], kind: Kind) -> None:
    state, prefix = module.state_dict(), f"{module.base_model_prefix}."
    there = {tensor.data_ptr() for name, tensor in state.items() if name in renamed}
    missing = [
        name
        for name, tensor in state.items()
        if not name.startswith(prefix) and tensor.data_ptr() not in there
    ]
    if not missing:
        return
    config = subject.config or {}
    untied = config.get("tie_word_embeddings") is False and kind == "causal language model"
    raise IncompatibleError(
        f"{subject.path}: has no head of a {kind}: lacks {', '.join(missing[:SHOWN])}"
        f"{' (config.json: tie_word_embeddings is false)' * untied}; config.json says that it is "
        f"{' or '.join(config.get('architectures') or ['of no known class'])}, and "
        f"{type(module).__name__} is needed"
    )


def _untie(module: nn.Module, header: Header, renamed: Mapping[str, str]) -> None:
    """Give tensors that share memory their own where the checkpoint stores each of them.

    Then each is run as it is stored, whether or not the stored ones are equal.
    """
    owners: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if renamed.get(name, name) not in header:
            continue
        if tensor.data_ptr() in owners:
            owner, _, last = name.rpartition(".")
            setattr(module.get_submodule(owner), last, nn.Parameter(tensor.detach().clone()))
        owners.add(tensor.data_ptr())


def looks_ahead(module: Module, vocabulary: int) -> bool:
    """Tell whether a network's logits depend on later tokens, as an encoder's do."""
    length = min(4, positions(module) or 4)
    first = torch.zeros(1, length, dtype=torch.int64)
    second = first.clone()
    second[0, -1] = min(1, vocabulary - 1)
    with torch.no_grad():
        logits = module(input_ids=torch.cat([first, second])).logits[:, :-1]
    return not torch.allclose(logits[0], logits[1], rtol=1e-5, atol=1e-6 * logits.abs().max())


def positions(module: Module) -> int | None:
    """Return how many tokens a network takes at most; None where nothing says so."""
    config = module.config.get_text_config()
    longest: int | None = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        return None
    for name, part in module.named_modules():
        # RoBERTa counts its positions from behind the padding's.
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            return longest - int(part.padding_idx) - 1
    return longest


@dataclass(frozen=True)
class Fit:
    """How much is computed at once: samples of a forward pass, and states (None: one)."""

    batch: int
    together: int | None


def fit(module: Module, device: str, *, batch: int, length: int, classes: int) -> Fit:
    """Return what fits into memory.

    Args:
        module: the network.
        device: as `--device` has it.
        batch: samples of a forward pass that the user wants at most.
        length: tokens of a sample.
        classes: numbers of logits of a sample, all positions together.

    """
    heads = getattr(module.config.get_text_config(), "num_attention_heads", None) or 1
    sample = 4 * max(classes, heads * length * length)
    samples = max(1, min(batch, BATCH_BYTES // sample))
    if torch_device(device).type != "cuda":
        return Fit(samples, None)
    weights = 4 * sum(parameter.numel() for parameter in module.parameters())
    states = min(STATES_BYTES // weights, STATES_BYTES // (sample * samples), STATES_ON_CUDA)
    return Fit(samples, max(1, states))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from logging what is no news here, such as a missing generation config."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
