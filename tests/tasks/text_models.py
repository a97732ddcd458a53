"""Tiny Hugging Face directories, made offline: random weights and a tokenizer of a few words."""

import json
from contextlib import contextmanager

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from rebasin_hub.pipeline.models import AUTOMATIC, open_model
from rebasin_hub.tasks import Subject

WORDS = [
    *("the", "a", "cat", "dog", "tree", "bird", "sat", "ran", "slept", "flew"),
    *("on", "under", "near", "old", "small", "red", "and", "then", ".", ","),
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = len(SPECIAL) + len(WORDS)
POSITIONS = 16

CONFIGS = {
    "gpt2": lambda **more: transformers.GPT2Config(
        n_embd=12, n_head=3, n_layer=2, n_positions=POSITIONS, **more
    ),
    "llama": lambda **more: transformers.LlamaConfig(
        hidden_size=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=20,
        num_hidden_layers=2,
        max_position_embeddings=POSITIONS,
        **more,
    ),
    "bert": lambda **more: transformers.BertConfig(
        hidden_size=12,
        num_attention_heads=3,
        intermediate_size=20,
        num_hidden_layers=2,
        max_position_embeddings=POSITIONS,
        **more,
    ),
}
GENERATING = "AutoModelForCausalLM"
CLASSIFYING = "AutoModelForSequenceClassification"


def sentences(count, seed=0, words=9):
    """Return sentences of random words, of up to `words` words."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda high: int(torch.randint(high, (), generator=generator))  # noqa: E731
    return [" ".join(WORDS[draw(len(WORDS))] for _ in range(1 + draw(words))) for _ in range(count)]


def tokenizer(*, pairs=False, padding=True, longest=POSITIONS):
    """Return a tokenizer that knows WORDS; with `pairs` it writes [CLS] a [SEP] b [SEP]."""
    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if pairs:
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
        )
    names = {"unk_token": "[UNK]", **({"pad_token": "[PAD]"} if padding else {})}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=longest,
        model_input_names=["input_ids", "attention_mask", *["token_type_ids"] * pairs],
        **names,
    )


def network(kind, head, seed=0, **more):
    """Return a network with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    values = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, **more}
    config = CONFIGS[kind](**values)
    module = getattr(transformers, head).from_config(config).eval()
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return module


def saved(module, folder, words=None):
    """Save a network and its tokenizer as transformers does."""
    module.save_pretrained(folder)
    if words is not None:
        words.save_pretrained(folder)
    return folder


def rewritten(folder, change):
    """Replace the stored tensors of a directory by what `change` makes of them."""
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})
    return folder


def reconfigured(folder, **values):
    """Change values of config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@contextmanager
def opened(folder, choice=AUTOMATIC):
    """Yield what a task may know of a checkpoint, and how its tensors are read."""
    with open_model(folder, choice) as model:
        checkpoint = model.checkpoint
        yield (
            Subject(folder, model.binding, checkpoint.config, checkpoint.tied),
            model.read,
        )


def scored(task, folder, split="test", *, together=None, batch=None):
    """Return the scores of one model on a split of a task."""
    with opened(folder) as (subject, read):
        network_ = task.network(subject, "cpu")
        if together is not None:
            network_.together = together
        if batch is not None:
            network_.batch = batch
        return network_.score([network_.state(read)], split)[0]


def notes_of(task, folder):
    """Return what a network of a task tells its user."""
    with opened(folder) as (subject, _):
        return task.network(subject, "cpu").notes
