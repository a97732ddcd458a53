"""Small language models on plain text, trained and stored as Hugging Face directories."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from data import cache, data
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from rebasin_hub.training import Trained, stored
from rebasin_hub.training.device import autocast, compiled, seeded
from rebasin_hub.training.store import Log

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["LanguageModel"]

END = "<|endoftext|>"


@dataclass(frozen=True)
class LanguageModel:
    """A GPT-2 with its own tokenizer, trained on the text of one data set from one seed.

    shape: of `transformers.GPT2Config`: n_layer, n_embd, n_head, n_positions (the context).
    vocabulary: tokens of the byte-level BPE, which is trained on the text for training; it does
        not depend on the seed.
    batch: contexts of one step.
    rate: the peak of one cycle of AdamW with weight decay 0.1, a tenth of it rising.
    seed: decides the initial weights, and how the text is cut and shuffled.
    """

    name: str
    data: str
    shape: Mapping[str, int]
    vocabulary: int
    epochs: int
    batch: int
    rate: float
    seed: int

    def trained(self, device: str = "cpu") -> Trained:
        """Train it, or return what an earlier run has left."""
        kept = stored(
            f"{self.name}-s{self.seed}",
            {**asdict(self), "device": torch.device(device).type},
            lambda folder: self._train(folder / "model", torch.device(device)),
            cache() / "checkpoints",
        )
        return Trained(kept.folder / "model", kept.log)

    def _train(self, path: Path, device: torch.device) -> Log:
        from transformers import GPT2Config, GPT2LMHeadModel

        texts = {
            split: (data(self.data) / f"{split}.txt").read_text(encoding="utf-8")
            for split in ("train", "test")
        }
        tokenizer = _tokenizer(texts["train"], self.vocabulary, self.shape["n_positions"])
        config = GPT2Config(
            vocab_size=len(tokenizer),
            **self.shape,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            use_cache=False,
        )
        model = seeded(lambda: GPT2LMHeadModel(config), self.seed)
        model.to(device)
        encode = tokenizer.backend_tokenizer.encode  # which does not mind how long a text is
        tokens = {split: torch.tensor(encode(text).ids) for split, text in texts.items()}
        epochs = self._fit(model, tokens["train"].to(device))
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        loss = _evaluate(model, tokens["test"].to(device), self.shape["n_positions"])
        return {
            "test": {"loss": round(loss, 6), "perplexity": round(math.exp(loss), 3)},
            "epochs": epochs,
            "tokens": {split: len(ids) for split, ids in tokens.items()},
            "device": str(device),
        }

    def _fit(self, model: nn.Module, tokens: Tensor) -> list[Log]:
        device, context = tokens.device, self.shape["n_positions"]
        optimizer = AdamW(model.parameters(), lr=self.rate, weight_decay=0.1, fused=True)
        steps = self.epochs * -(-(len(tokens) // context - 1) // self.batch)
        schedule = OneCycleLR(optimizer, self.rate, total_steps=steps + 1, pct_start=0.1)
        forward = compiled(model, device, steps=steps)
        generator = Generator().manual_seed(self.seed)
        log: list[Log] = []
        model.train()
        for _ in range(self.epochs):
            started, losses = time.monotonic(), []
            for chosen in torch.split(_windows(tokens, context, generator), self.batch):
                with autocast(device):
                    loss = _loss(forward(chosen).logits, chosen)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            mean = round(torch.stack(losses).mean().item(), 6)
            log.append({"loss": mean, "seconds": round(time.monotonic() - started, 3)})
        return log


def _tokenizer(text: str, vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(text.splitlines(keepends=True), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, model_max_length=context)


def _windows(tokens: Tensor, context: int, generator: Generator) -> Tensor:
    """Cut tokens into contexts from a random place on, and shuffle these: (contexts, context)."""
    count = len(tokens) // context - 1
    begin = int(torch.randint(context, (), generator=generator))
    order = torch.randperm(count, generator=generator).to(tokens.device)
    return tokens[begin : begin + count * context].reshape(count, context)[order]


def _loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean cross-entropy of each next token, nats."""
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@torch.no_grad()
def _evaluate(model: nn.Module, tokens: Tensor, context: int, batch: int = 32) -> float:
    """Return the mean loss over whole contexts that do not overlap."""
    model.eval()
    whole = tokens[: len(tokens) // context * context].reshape(-1, context)
    parts = torch.split(whole, batch)
    total = math.fsum(_loss(model(part).logits, part).item() * len(part) for part in parts)
    return total / len(whole)
