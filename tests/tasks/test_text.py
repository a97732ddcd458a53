"""Language models and classifiers of transformers: the same figures as transformers' own."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import text_models as tiny  # noqa: E402

from rebasin_hub.errors import IncompatibleError, InputError  # noqa: E402
from rebasin_hub.pipeline.models import Choice  # noqa: E402
from rebasin_hub.tasks import Options, Split  # noqa: E402
from rebasin_hub.tasks.network import IGNORED  # noqa: E402
from rebasin_hub.tasks.text import models, text_task  # noqa: E402
from rebasin_hub.tasks.text.windows import Windows, window_starts  # noqa: E402

TEXT = "\n".join(tiny.sentences(24))


@pytest.fixture
def text(tmp_path):
    """Return a file of text."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def generating(kind, folder, seed=0, **more):
    return tiny.saved(tiny.network(kind, tiny.GENERATING, seed, **more), folder, tiny.tokenizer())


def task_of(path, **settings):
    return text_task("text", Options(path, settings=settings))


def loaded(folder, head=tiny.GENERATING):
    """Load a directory as transformers does."""
    return getattr(transformers, head).from_pretrained(folder, dtype=torch.float32).eval()


def own_loss(folder, context, stride):
    """Return nats a token by transformers' own loss, window after window.

    transformers' windows leave out the first token of each; one more token gives it back.
    """
    module, words = loaded(folder), transformers.AutoTokenizer.from_pretrained(folder)
    ids = words(TEXT, return_tensors="pt").input_ids[0]
    total, predicted = 0.0, 0
    for start in range(0, len(ids) - 1, stride):
        end = min(start + context, len(ids) - 1)
        labels = ids[start + 1 : end + 1].clone()
        new = end - predicted
        labels[: len(labels) - new] = -100
        with torch.no_grad():
            logits = module(ids[start:end][None]).logits
            # `labels` shifts by itself; `shift_labels` takes targets as they are.
            loss = module.loss_function(
                logits, None, vocab_size=logits.shape[-1], shift_labels=labels[None]
            )
        total, predicted = total + float(loss) * new, end
        if end == len(ids) - 1:
            return total / predicted
    raise AssertionError


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(("context", "stride"), [(16, 16), (9, 4), (5, 1)])
def test_the_loss_is_that_of_transformers(tmp_path, text, kind, context, stride) -> None:
    folder = generating(kind, tmp_path / "model")
    scores = tiny.scored(task_of(text, context=context, stride=stride), folder)
    assert scores.loss == pytest.approx(own_loss(folder, context, stride), rel=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_whole_text_in_one_window_is_forward_with_labels(tmp_path, kind) -> None:
    folder = generating(kind, tmp_path / "model")
    path = tmp_path / "short.txt"
    path.write_text("the cat sat on a tree and the dog ran .")
    ids = transformers.AutoTokenizer.from_pretrained(folder)(path.read_text(), return_tensors="pt")
    with torch.no_grad():
        output = loaded(folder)(**ids, labels=ids["input_ids"])
    scores = tiny.scored(task_of(path), folder)
    assert math.exp(scores.loss) == pytest.approx(math.exp(float(output.loss)), rel=1e-6)
    wrong = output.logits[0, :-1].argmax(-1) != ids["input_ids"][0, 1:]
    assert scores.error == pytest.approx(float(wrong.double().mean()))


@given(
    tokens=st.integers(2, 60),
    context=st.integers(1, 20),
    share=st.floats(0, 1),
    size=st.integers(1, 7),
)
def test_windows_predict_every_token_once(tokens, context, share, size) -> None:
    stride = max(1, round(share * context))
    ids = np.arange(1000, 1000 + tokens)
    starts = window_starts(tokens, context, stride)
    windows = Windows(Split("test", 0, 0, "", ""), ids, starts, context, stride)
    predicted, count = [], 0
    for batch in windows.batches(size):
        inputs, targets = batch.inputs["input_ids"], batch.targets
        assert inputs.shape == targets.shape
        assert inputs.shape[1] <= context
        count += len(batch)
        kept = targets != IGNORED
        assert (targets[kept] == inputs[kept] + 1).all()
        predicted += targets[kept].tolist()
    assert predicted == list(range(1001, 1000 + tokens))
    assert count == len(starts)
    assert windows.predicted == tokens - 1


def test_a_window_gives_every_prediction_the_context_that_there_is() -> None:
    windows = Windows(Split("test", 0, 0, "", ""), np.arange(30), window_starts(30, 10, 4), 10, 4)
    (batch,) = windows.batches(99)
    seen = torch.arange(batch.targets.shape[1])[(batch.targets[1:-1] != IGNORED).any(0)]
    assert seen.min() == 6


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_padding_changes_no_loss(tmp_path, text, kind) -> None:
    """The last window alone is not padded where it is the whole text."""
    folder = generating(kind, tmp_path / "model")
    words = (tmp_path / "text.txt").read_text().split()
    assert len(words) % 16 != 1
    last = 16 * ((len(words) - 1) // 16)
    rest = tmp_path / "rest.txt"
    rest.write_text(" ".join(words[last:]))
    whole, alone = tiny.scored(task_of(text), folder), tiny.scored(task_of(rest), folder)
    assert whole.counts[-1] == len(words) - 1 - last < 16
    assert whole.losses[-1] == pytest.approx(alone.losses[0], rel=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_size_of_a_batch_does_not_matter(tmp_path, text, kind) -> None:
    folder = generating(kind, tmp_path / "model")
    one, many = (tiny.scored(task_of(text), folder, batch=size) for size in (1, 64))
    np.testing.assert_allclose(one.losses, many.losses, rtol=1e-6)
    assert np.array_equal(one.errors, many.errors)


def several(task, folders):
    """Return the scores of several models, one at a time and together."""
    found = []
    with tiny.opened(folders[0]) as (subject, read):
        network = task.network(subject, "cpu")
        states = [network.state(read)]
        for folder in folders[1:]:
            with tiny.opened(folder) as (_, read_other):
                states.append(network.state(read_other))
        for together in (1, 3):
            network.together = together
            found.append(network.score(states, "test"))
    return found


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_language_models_are_scored_together_as_one_by_one(tmp_path, text, kind) -> None:
    folders = [generating(kind, tmp_path / f"{seed}", seed) for seed in range(3)]
    single, together = several(task_of(text), folders)
    for one, other in zip(single, together, strict=True):
        np.testing.assert_allclose(one.tempered, other.tempered, rtol=1e-5)
    assert single[0].loss != pytest.approx(single[1].loss, rel=1e-3)


def test_windows_are_drawn_by_the_seed(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    task = text_task("text", Options(text, limit=3, seed=5))
    scores, whole = tiny.scored(task, folder), tiny.scored(task_of(text), folder)
    split = task.splits["test"]
    assert (split.count, split.available) == (3, len(whole.losses))
    places = [np.flatnonzero(np.isclose(whole.losses, loss, rtol=1e-6)) for loss in scores.losses]
    assert [len(place) for place in places] == [1, 1, 1]
    assert (np.diff(np.concatenate(places)) > 0).all()
    assert np.concatenate(places).tolist() != [0, 1, 2]
    assert tiny.notes_of(task, folder) == (
        f"test: 48 of {int(whole.counts.sum())} tokens are predicted, in 3 windows.",
    )


def test_a_folder_and_tables_hold_the_same_text(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.txt").write_text(TEXT[:200])
    (data / "test.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in TEXT.split("\n")))
    task = task_of(data)
    assert list(task.splits) == ["test", "train"]
    scores = tiny.scored(task, folder)
    assert task.splits["train"].available < task.splits["test"].available
    assert scores.loss == pytest.approx(tiny.scored(task_of(text), folder).loss, rel=1e-6)
    joined = tmp_path / "joined.txt"
    joined.write_text(TEXT.replace("\n", "\n\n"))
    assert task.splits["test"].digest == task_of(joined).splits["test"].digest
    assert task.splits["test"].digest != task_of(text).splits["test"].digest
    assert task.settings == {"tokenizer": None, "context": 16, "stride": 16}


def test_bytes_are_tokens(tmp_path, text) -> None:
    module = tiny.network("gpt2", tiny.GENERATING, vocab_size=256)
    folder = tiny.saved(module, tmp_path / "model")
    scores = tiny.scored(task_of(text, tokenizer="bytes"), folder)
    assert scores.counts.sum() == len(TEXT.encode()) - 1
    ids = torch.tensor(list(TEXT.encode()[:17]))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(module(ids[None, :-1]).logits[0], ids[1:])
    assert scores.losses[0] / 16 == pytest.approx(float(expected), rel=1e-6)


def test_a_tokenizer_can_lie_elsewhere(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    expected = tiny.scored(task_of(text), folder)
    words = tmp_path / "words"
    words.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(folder / name, words / name)
    with pytest.raises(InputError, match=r"model: holds no tokenizer .* setting 'tokenizer'"):
        tiny.scored(task_of(text), folder)
    assert tiny.scored(task_of(text, tokenizer=str(words)), folder).loss == expected.loss
    # One file beside its config.json stands for its directory.
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(words / name, folder / name)
    assert tiny.scored(task_of(text), folder / "model.safetensors").loss == expected.loss


# Names, ties and types


def without_prefix(tensors):
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def test_a_missing_prefix_and_a_tied_head_change_nothing(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    expected = tiny.scored(task_of(text), folder)
    bare = tiny.rewritten(folder, without_prefix)
    with tiny.opened(bare, Choice("gpt2")) as (subject, read):
        assert "wte.weight" in subject.binding.header
        assert "lm_head.weight" not in subject.binding.header
        network = task_of(text).network(subject, "cpu")
        (scores,) = network.score([network.state(read)], "test")
    assert np.array_equal(scores.losses, expected.losses)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_head_that_is_stored_is_the_one_that_runs(tmp_path, text, kind) -> None:
    """Also where config.json says that it is tied."""
    folder = generating(kind, tmp_path / "model", tie_word_embeddings=False)
    expected = tiny.scored(task_of(text), folder)
    tied = tiny.reconfigured(folder, tie_word_embeddings=True)
    assert np.array_equal(tiny.scored(task_of(text), tied).losses, expected.losses)


def test_a_tied_head_that_is_stored_twice_changes_nothing(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    expected = tiny.scored(task_of(text), folder)
    state = loaded(folder).state_dict()
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert np.array_equal(tiny.scored(task_of(text), folder).losses, expected.losses)


def test_bfloat16_is_computed_in_float32(tmp_path, text) -> None:
    folder = tiny.saved(
        tiny.network("llama", tiny.GENERATING).bfloat16(), tmp_path / "model", tiny.tokenizer()
    )
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    with tiny.opened(folder) as (subject, read):
        network = task_of(text).network(subject, "cpu")
        state = network.state(read)
        assert {info.dtype for info in subject.binding.header.values()} == {"BF16"}
        assert {tensor.dtype for tensor in state.values()} == {torch.float32}
        assert {x.dtype for x in network.module.parameters()} == {torch.float32}
        (scores,) = network.score([state], "test")
    assert scores.loss == pytest.approx(own_loss(folder, 16, 16), rel=1e-6)


def test_what_a_network_does_not_use_is_said_or_refused(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    with tiny.opened(folder) as (subject, _):
        info = next(iter(subject.binding.header.values()))
        header = subject.binding.header
        object.__setattr__(subject.binding, "header", {**header, "transformer.pooler.weight": info})
        task = task_of(text)
        network = task.network(subject, "cpu")
        assert network.notes[0] == "GPT2LMHeadModel does not use transformer.pooler.weight."
        object.__setattr__(subject.binding, "header", {**header, "adapter.weight": info})
        with pytest.raises(IncompatibleError, match=r"adapter\.weight: is not used by the network"):
            task.network(subject, "cpu")


# What cannot be measured


def refused(folder, task, message, error=IncompatibleError):
    with tiny.opened(folder) as (subject, _), pytest.raises(error, match=message):
        task.network(subject, "cpu")


def test_a_missing_head_is_named(tmp_path, text) -> None:
    folder = generating("llama", tmp_path / "model", tie_word_embeddings=False)

    def headless(tensors):
        return {name: x for name, x in tensors.items() if name != "lm_head.weight"}

    tiny.rewritten(folder, headless)
    refused(
        folder,
        task_of(text),
        r"no head of a causal language model: lacks lm_head\.weight \(config\.json: tie_word_.* "
        r"says that it is LlamaForCausalLM, and LlamaForCausalLM is needed",
    )


@pytest.mark.checkpoints
def test_minilm_has_no_head(minilm, text, tmp_path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na,0\n")
    refused(
        minilm,
        text_task("glue", Options(rows)),
        r"no head of a sequence classifier: lacks classifier\.weight, classifier\.bias; "
        r"config\.json says that it is BertModel, and BertForSequenceClassification is needed",
    )
    refused(minilm, task_of(text), r"no head of a causal language model: lacks cls\.predictions")


def test_an_encoder_that_sees_what_it_predicts_is_refused(tmp_path, text) -> None:
    folder = tiny.saved(
        tiny.network("bert", "AutoModelForMaskedLM"), tmp_path / "model", tiny.tokenizer()
    )
    refused(folder, task_of(text), r"BertLMHeadModel sees the token that it should predict")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_does_not_look_ahead(kind) -> None:
    assert not models.looks_ahead(tiny.network(kind, tiny.GENERATING), tiny.VOCABULARY)


def test_an_encoder_looks_ahead() -> None:
    assert models.looks_ahead(tiny.network("bert", "AutoModelForMaskedLM"), tiny.VOCABULARY)


CONFIGS = {
    "no type": ({"model_type": None}, r"config\.json: lacks 'model_type'"),
    "unknown": ({"model_type": "gpt9"}, r"no causal language model of the type 'gpt9'"),
    "no text": ({"model_type": "vit"}, r"no causal language model of the type 'vit'"),
    "value": ({"n_head": 5}, r"of the type 'gpt2' from config\.json: "),
    "shape": ({"vocab_size": 30}, r"has the shape \[24, 12\], the network \[30, 12\]"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_that_fits_nothing_is_refused(tmp_path, text, case) -> None:
    values, message = CONFIGS[case]
    folder = generating("gpt2", tmp_path / "model")
    with tiny.opened(folder) as (subject, _):
        tiny.reconfigured(folder, **values)
        changed = json.loads((folder / "config.json").read_text())
        object.__setattr__(subject, "config", changed)
        with pytest.raises(InputError, match=message):
            task_of(text).network(subject, "cpu")
        object.__setattr__(subject, "config", None)
        with pytest.raises(InputError, match=r"has no config\.json, by which its network is built"):
            task_of(text).network(subject, "cpu")


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    expected = tiny.scored(task_of(text), folder)
    (folder / "evil.py").write_text("raise SystemExit('run')\n")
    tiny.reconfigured(folder, auto_map={"AutoModelForCausalLM": "evil.Model"})
    assert tiny.scored(task_of(text), folder).loss == expected.loss


def test_texts_that_cannot_be_measured_are_refused(tmp_path) -> None:
    folder = generating("gpt2", tmp_path / "model")
    path = tmp_path / "text.txt"
    path.write_text("cat")
    refused(folder, task_of(path), r"text\.txt: has 1 tokens; predicting one takes 2", InputError)
    path.write_text(" \n")
    with pytest.raises(InputError, match=r"text\.txt: is empty"):
        task_of(path)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"text\.txt: is not UTF-8: byte 0xe9 at offset 3"):
        task_of(path)


def test_windows_that_cannot_be_are_refused(tmp_path, text) -> None:
    folder = generating("gpt2", tmp_path / "model")
    refused(folder, task_of(text, context=17), r"takes 16 tokens at most; .* found 17")
    refused(folder, task_of(text, context=4, stride=5), r"5 is more than the context", InputError)


def test_tokenizers_that_do_not_fit_are_refused(tmp_path, text) -> None:
    small = tiny.saved(
        tiny.network("gpt2", tiny.GENERATING, vocab_size=20), tmp_path / "small", tiny.tokenizer()
    )
    refused(small, task_of(text), r"its tokenizer has 24 tokens, .* has embeddings of 20; give")
    refused(small, task_of(text, tokenizer="bytes"), r"embeddings of 20 tokens, and bytes are 256")
    words = tiny.tokenizer()
    words.add_tokens(["extra"])
    folder = tiny.saved(tiny.network("gpt2", tiny.GENERATING), tmp_path / "model", words)
    tiny.scored(task_of(text), folder)  # where no text holds it, a token too many does no harm
    text.write_text("the cat extra")
    refused(folder, task_of(text), r"embeddings of 24 tokens, the data holds the token 24")
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, task_of(text), r"model: its tokenizer cannot be loaded", InputError)


# Classification


ROWS = [
    {"sentence1": a, "sentence2": b, "label": number % 3}
    for number, (a, b) in enumerate(
        zip(tiny.sentences(20, words=6), tiny.sentences(20, seed=1, words=6), strict=True)
    )
]


@pytest.fixture
def rows(tmp_path):
    """Return a table of pairs of sentences."""
    return written(tmp_path / "rows.jsonl", ROWS)


def written(path, rows_):
    path.write_text("\n".join(map(json.dumps, rows_)), encoding="utf-8")
    return path


def classifying(kind, folder, seed=0, **more):
    module = tiny.network(kind, tiny.CLASSIFYING, seed, **{"num_labels": 3, **more})
    return tiny.saved(module, folder, tiny.tokenizer(pairs=kind == "bert"))


def classes_of(path, **settings):
    return text_task("glue", Options(path, settings=settings))


KINDS = [("bert", {}), ("gpt2", {"pad_token_id": 0}), ("llama", {}), ("gpt2", {})]


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_a_classifier_scores_as_transformers_does_row_by_row(tmp_path, rows, kind, more) -> None:
    folder = classifying(kind, tmp_path / "model", **more)
    scores = tiny.scored(classes_of(rows), folder)
    module = loaded(folder, tiny.CLASSIFYING)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    for row, loss, error in zip(ROWS, scores.losses, scores.errors, strict=True):
        made = words(
            row["sentence1"], row["sentence2"], truncation=True, max_length=16, return_tensors="pt"
        )
        with torch.no_grad():
            output = module(**made, labels=torch.tensor([row["label"]]))
        assert loss == pytest.approx(float(output.loss), rel=1e-5)
        assert error == float(output.logits.argmax() != row["label"])


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_batches_of_rows_do_not_matter(tmp_path, rows, kind, more) -> None:
    folder = classifying(kind, tmp_path / "model", **more)
    one, many = (tiny.scored(classes_of(rows), folder, batch=size) for size in (1, 64))
    np.testing.assert_allclose(one.losses, many.losses, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_classifiers_are_scored_together_as_one_by_one(tmp_path, rows, kind) -> None:
    folders = [classifying(kind, tmp_path / f"{seed}", seed) for seed in range(3)]
    single, together = several(classes_of(rows), folders)
    for one, other in zip(single, together, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)


def test_without_a_padding_token_rows_go_one_by_one(tmp_path, rows) -> None:
    folder = tiny.saved(
        tiny.network("gpt2", tiny.CLASSIFYING, num_labels=3),
        tmp_path / "model",
        tiny.tokenizer(padding=False),
    )
    with tiny.opened(folder) as (subject, read):
        network = classes_of(rows).network(subject, "cpu")
        assert network.batch == 1
        (scores,) = network.score([network.state(read)], "test")
    expected = tiny.scored(classes_of(rows), classifying("gpt2", tmp_path / "padded"))
    np.testing.assert_allclose(scores.losses, expected.losses, rtol=1e-5)


def test_long_rows_are_cut_and_counted(tmp_path, rows) -> None:
    folder = classifying("bert", tmp_path / "model")
    task = classes_of(rows, context=7)
    tiny.scored(task, folder)
    long = sum(len(f"{row['sentence1']} {row['sentence2']}".split()) > 7 - 3 for row in ROWS)
    assert 0 < long < len(ROWS)
    assert tiny.notes_of(task, folder) == (f"test: {long} rows are cut to 7 tokens.",)
    refused(folder, classes_of(rows, context=17), r"takes 16 tokens at most")


def test_names_of_labels_are_those_of_the_model_or_of_the_user(tmp_path) -> None:
    folder = classifying(
        "bert",
        tmp_path / "model",
        id2label={0: "no", 1: "maybe", 2: "yes"},
        label2id={"no": 0, "maybe": 1, "yes": 2},
    )
    names = ["no", "maybe", "yes"]
    numbers = written(tmp_path / "numbers.jsonl", ROWS)
    named = written(
        tmp_path / "named.jsonl", [{**row, "label": names[row["label"]]} for row in ROWS]
    )
    strings = written(
        tmp_path / "strings.jsonl", [{**row, "label": str(row["label"])} for row in ROWS]
    )
    expected = tiny.scored(classes_of(numbers), folder)
    for path, settings in (
        (named, {}),
        (strings, {}),
        (named, {"labels": {"no": 0, "maybe": 1, "yes": 2}}),
    ):
        found = tiny.scored(classes_of(path, **settings), folder)
        assert np.array_equal(found.losses, expected.losses)
    swapped = tiny.scored(classes_of(named, labels={"no": 1, "maybe": 0, "yes": 2}), folder)
    assert swapped.loss != expected.loss
    refused(
        folder,
        classes_of(written(tmp_path / "x.jsonl", [{"text": "a", "label": "mabye"}])),
        r"x\.jsonl:1: the label 'mabye' is not known; did you mean 'maybe'\?; there are maybe, no",
        InputError,
    )
    refused(
        folder,
        classes_of(written(tmp_path / "x.jsonl", [{"text": "a", "label": 3}])),
        r"x\.jsonl:1: the label 3 is class 3, the network has 3 classes \(0 to 2\)",
        InputError,
    )


def test_a_network_that_predicts_one_number_is_refused(tmp_path, rows) -> None:
    folder = classifying("bert", tmp_path / "model", num_labels=1)
    refused(folder, classes_of(rows), r"predicts one number .* num_labels is 1")


def test_a_row_without_tokens_is_refused(tmp_path) -> None:
    folder = classifying("gpt2", tmp_path / "model")
    path = written(tmp_path / "rows.jsonl", [{"text": " ", "label": 0}])
    refused(folder, classes_of(path), r"rows\.jsonl:1: has no tokens", InputError)


def test_names_that_transformers_gave_up_are_understood(tmp_path, rows) -> None:
    folder = classifying("bert", tmp_path / "model")
    expected = tiny.scored(classes_of(rows), folder)

    def old(tensors):
        pairs = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
        for new, former in pairs:
            tensors = {name.replace(new, former): x for name, x in tensors.items()}
        return tensors

    scores = tiny.scored(classes_of(rows), tiny.rewritten(folder, old))
    assert np.array_equal(scores.losses, expected.losses)


# Memory


def test_a_forward_pass_stays_below_its_bytes() -> None:
    module = tiny.network("gpt2", tiny.GENERATING)
    size = models.fit(module, "cpu", batch=256, length=1024, classes=1024 * 50257)
    assert size == models.Fit(1, None)
    size = models.fit(module, "cpu", batch=256, length=128, classes=128 * 5000)
    assert 0.9 < size.batch * 4 * 128 * 5000 / models.BATCH_BYTES <= 1
    # Attention weights, (samples, heads, length, length), can be more than the logits.
    size = models.fit(module, "cpu", batch=256, length=1024, classes=2)
    assert 0.9 < size.batch * 4 * 3 * 1024**2 / models.BATCH_BYTES <= 1
    assert models.fit(module, "cpu", batch=8, length=4, classes=2).batch == 8
