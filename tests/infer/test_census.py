"""The census: small configurations, classes in processes of their own, taken up again, a page."""

import json
import os
import sys
import time

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import census  # noqa: E402
import census_page  # noqa: E402
import census_workers  # noqa: E402
from census_small import Small, Way  # noqa: E402
from census_trace import without_grids  # noqa: E402
from transformers import PreTrainedConfig  # noqa: E402

from rebasin_hub.errors import InputError  # noqa: E402

# Processes are forked, of which newer versions of Python warn where there are threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Inner(PreTrainedConfig):
    width: int = 512
    depth: int = 24


class Outer(PreTrainedConfig):
    """Settings of many kinds; others are kept as they are given."""

    hidden_size: int = 768
    num_attention_heads: int = 12
    num_key_value_heads: int = 12
    head_dim: int | None = None
    projection_dim: int | None = None
    num_hidden_layers: int = 6
    layer_types: list | None = None
    vocab_size: int = 30_000
    pad_token_id: int = 29_999
    image_token_id: int = 29_998
    video_token_id: int = 29_997
    audio_token_id: int = -1
    end_token_id: int = 7
    router_coefficient: float = 8.0
    odd: int = 771
    use_bias: bool = True
    inner: PreTrainedConfig | None = None

    def __post_init__(self, **others):
        self.inner = self.inner or Inner()
        super().__post_init__(**others)


FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


def small(way=Way(), **settings):  # noqa: B008 - a value
    return Small(way, sections=False).of(Outer(**settings))


def test_sizes_are_set_by_name():
    found = small()
    assert isinstance(found, Outer)
    assert isinstance(found.inner, Inner)
    assert (found.hidden_size, found.num_attention_heads, found.num_key_value_heads) == (32, 4, 2)
    assert (found.head_dim, found.num_hidden_layers, found.vocab_size) == (8, 2, 80)
    assert (found.odd, found.use_bias, found.router_coefficient) == (771, True, 1.0)
    assert (found.inner.width, found.inner.depth) == (32, 2)


def test_no_size_grows():
    sizes = {"hidden_size": 20, "vocab_size": 50, "num_hidden_layers": 1}
    maker, values = Small(Way(), sections=False), Outer(**sizes)
    assert {key: maker.number(key, n, vars(values), 2) for key, n in sizes.items()} == sizes


def test_widths_are_divided_by_one_number():
    found = small(Way(by_name=False), head_dim=96)
    assert (found.hidden_size, found.head_dim, found.num_attention_heads) == (96, 12, 12)
    assert (found.num_hidden_layers, found.vocab_size, found.inner.width) == (2, 80, 64)
    assert small(Way(by_name=False)).head_dim is None


def test_as_many_heads_of_keys_as_of_queries_stay_as_many():
    assert small(Way(alike=True)).num_key_value_heads == 4
    assert small(Way(alike=True), num_key_value_heads=6).num_key_value_heads == 2


def test_settings_without_a_value_get_one_if_that_is_the_way():
    assert (small().projection_dim, small().layer_types) == (None, None)
    found = small(Way(unset=True))
    assert (found.projection_dim, found.layer_types) == (32, [FULL, FULL])


def test_tokens_lie_in_the_small_vocabulary_and_stay_apart():
    found = small()
    assert (found.pad_token_id, found.end_token_id, found.audio_token_id) == (0, 7, -1)
    tokens = [found.image_token_id, found.video_token_id]
    assert len(set(tokens)) == 2
    assert all(found.end_token_id < token < found.vocab_size for token in tokens)


def test_one_layer_of_each_kind_is_left():
    kinds = [FULL, SLIDING, SLIDING, FULL, SLIDING, LINEAR]
    found = small(layer_types=kinds)
    assert (found.layer_types, found.num_hidden_layers) == ([FULL, SLIDING, LINEAR], 3)
    found = small(layer_types=[FULL] * 6)
    assert (found.layer_types, found.num_hidden_layers) == ([FULL, FULL], 2)
    # Where they are left away, the class fills them in itself.
    maker, values = Small(Way(kinds=False), sections=False), vars(Outer(layer_types=kinds))
    assert maker.layers(values) == 2
    assert maker.items("layer_types", kinds, values, 2) is None


def test_the_layers_that_are_looked_at_are_there():
    found = small(out_indices=[1, 3, 5])
    assert (found.out_indices, found.num_hidden_layers) == ([0, 1, 2], 3)
    found = small(out_indices=[2, 4, 6])
    assert (found.out_indices, found.num_hidden_layers) == ([1, 2, 3], 3)


def test_stages_become_narrow_and_short():
    assert small(depths=[3, 4, 6, 3]).depths == [1, 2, 1, 1]
    assert small(hidden_sizes=(64, 128, 256)).hidden_sizes == (8, 16, 32)
    assert small(blocks=[[64, 3], [128, 5]]).blocks == [[64, 1], [128, 1]]
    assert small(num_heads=[3, 6, 12], embed_dim=96).num_heads == [2, 4, 8]
    assert small(hidden_sizes=(64, 128), num_layers=[3, 4]).num_layers == [1, 2]
    # Twelve is not divided by eight, these are no widths, or the way is another one.
    assert small(hidden_sizes=(12, 100)).hidden_sizes == (12, 100)
    assert small(seeds=[64, 128]).seeds == [64, 128]
    assert small(Way(lists=False), hidden_sizes=(64, 128)).hidden_sizes == (64, 128)


class Gridded(torch.nn.Module):
    """Sums the vectors of each picture, whose number of rows and columns is an input."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)

    def forward(self, patches, grid_thw):
        counts = grid_thw.prod(1).tolist()
        starts = [sum(counts[:n]) for n in range(len(counts))]
        vectors = self.layer(patches)
        sums = [
            sum(vectors[at + n] for n in range(c)) for at, c in zip(starts, counts, strict=True)
        ]
        return torch.stack(sums)


def test_a_trace_knows_grids_by_heart():
    inputs = {"patches": torch.randn(6, 3), "grid_thw": torch.tensor([[1, 2, 2], [1, 1, 2]])}
    module = Gridded()
    expected = module(**inputs)
    with pytest.raises(Exception, match=r"(?i)data.dependent"):
        torch.export.export(module, (), inputs, strict=False)
    known = without_grids(module, inputs)
    assert known.keys() == {"patches"}
    assert torch.equal(module(**known), expected)
    program = torch.export.export(module, (), known, strict=False)
    assert torch.allclose(program.module()(**known), expected)
    assert without_grids(module, known) == known


FOREVER = 30


def fake(model_type, name):
    """Examine a class that is none."""
    match name:
        case "Raises":
            raise ValueError("first line\nsecond line")
        case "Ends":
            os._exit(3)
        case "Works":
            while time.process_time() < FOREVER:
                pass
        case "Sleeps":
            time.sleep(FOREVER)
    os.write(1, b"noise")
    done = {"outcome": "certified", "permutations": 1, "pid": os.getpid()}
    return {"class": name, "model_type": model_type, **done}


def test_each_class_has_a_process_with_limits(monkeypatch, capfd):
    monkeypatch.setattr(census_workers, "SECONDS", 1)
    names = ["Good", "Raises", "Ends", "Works", "Better"]
    rows = {r["class"]: r for r in census_workers.run(fake, [("t", n) for n in names], 3)}
    assert rows.keys() == set(names)
    assert {row["model_type"] for row in rows.values()} == {"t"}
    assert len({os.getpid(), rows["Good"]["pid"], rows["Better"]["pid"]}) == 3
    failed = {name: (row["stage"], row["reason"]) for name, row in rows.items() if "stage" in row}
    assert failed == {
        "Raises": ("crash", "ValueError: first line"),
        "Ends": ("crash", "the process ended with 3"),
        "Works": ("time", "takes more than 1 s"),
    }
    assert capfd.readouterr() == ("", "")


def test_a_process_that_waits_is_ended_by_the_clock(monkeypatch):
    monkeypatch.setattr(census_workers, "SECONDS", 0.2)
    monkeypatch.setattr(census_workers.resource, "setrlimit", lambda *_: None)
    (row,) = census_workers.run(fake, [("t", "Sleeps")], 1)
    assert (row["class"], row["stage"]) == ("Sleeps", "time")


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Return a function that runs the census over three classes, and says which were examined."""
    results = tmp_path / "census.jsonl"
    everything = [("t", "Good"), ("t", "Raises"), ("t", "Better")]
    monkeypatch.setattr(census, "examine", fake)
    monkeypatch.setattr(census, "classes", lambda **_: everything)
    monkeypatch.setattr(census, "write_page", lambda rows, *_: pages.append(rows))
    pages = []

    def start(*args):
        before = len(results.read_text().splitlines()) if results.exists() else 0
        monkeypatch.setattr(sys, "argv", ["census.py", "--results", str(results), *args])
        census.main()
        lines = results.read_text().splitlines()
        assert {row["class"] for row in pages[-1]} == {json.loads(n)["class"] for n in lines}
        return [json.loads(line)["class"] for line in lines[before:]]

    start.results = results
    return start


def test_a_census_is_taken_up_where_it_was_stopped(started):
    assert started() == ["Good", "Raises", "Better"]
    assert started() == []
    assert started("--again") == ["Raises"]
    assert started("Good") == ["Good"]
    assert started("--page", "Good") == []


def test_a_line_that_was_not_finished_is_examined_anew(started):
    started()
    text = started.results.read_text()
    started.results.write_text(text[: text.rindex("{") + 40])
    before = text.splitlines()[:2]
    assert started.results.read_text().count("\n") == 2
    assert census.stored(started.results).keys() == {"Good", "Raises"}
    started()
    assert started.results.read_text().splitlines()[:2] == before
    assert census.stored(started.results).keys() == {"Good", "Raises", "Better"}


def test_rows_count_for_their_versions_and_the_last_of_each_class(tmp_path):
    rows = [
        {"class": "A", "versions": census.VERSIONS, "outcome": "failed"},
        {"class": "B", "versions": {**census.VERSIONS, "torch": "0.1"}, "outcome": "certified"},
        {"class": "A", "versions": census.VERSIONS, "outcome": "certified"},
    ]
    path = tmp_path / "census.jsonl"
    assert census.stored(path) == {}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert census.stored(path) == {"A": rows[2]}


def test_a_class_is_inferred_and_certified():
    row = census.examine("bert", "BertModel")
    assert (row["outcome"], row["removed"], row["unruled"]) == ("certified", {}, {})
    assert (row["permutations"], row["factors"]) == (4, 8)
    assert row["shipped"] == ["bert-encoder", "equal"]
    row = census.examine("t", "NoSuchModel")
    assert (row["outcome"], row["stage"]) == ("failed", "configuration")


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (["configuration", "inputs", "configuration"], "inputs 1"),
        (["inputs", "inputs"], "inputs 0"),
        (["configuration", "configuration"], "configuration 0"),
        ([], "no small configuration"),
    ],
)
def test_the_smallest_that_can_be_built_tells_what_is_wrong(monkeypatch, stages, told):
    def runnable(name, config):
        raise census.UnbuiltError(stages[config], f"{stages[config]} {config}")

    monkeypatch.setattr(census, "small_configs", lambda _: iter(range(len(stages))))
    monkeypatch.setattr(census, "runnable", runnable)
    with pytest.raises(census.UnbuiltError, match=told) as caught:
        census.small_model("Any")
    assert caught.value.stage == told.split()[0].replace("no", "configuration")


def test_a_model_that_cannot_be_traced_with_all_inputs_gets_the_main_one(monkeypatch):
    """An error with one input alone is told; with several, it is a reason to try one."""

    def refuse(*args):
        raise InputError("cannot be exported")

    monkeypatch.setattr(census, "from_model", refuse)
    assert census.exported_source(None, {}, {}, several=True) is None
    with pytest.raises(InputError):
        census.exported_source(None, {}, {}, several=False)


def row(name, **others):
    done = {"inputs": ["input_ids"], "permutations": 2, "factors": 4, "share": 0.5, "removed": {}}
    seconds = {"export": 1.0, "rules": 0.25, "certificate": 1.0}
    base = {"class": name, "model_type": name.lower(), "date": "2026-01-02", "deviation": 1e-15}
    return {**base, **done, "outcome": "certified", "seconds": seconds, **others}


def failed(name, stage, reason):
    base = {"class": name, "model_type": "t", "date": "2026-01-03", "outcome": "failed"}
    return {**base, "stage": stage, "reason": reason}


def test_the_page_counts_what_was_found(monkeypatch, tmp_path):
    monkeypatch.setattr(census_page, "PAGE", tmp_path / "census.md")
    rows = [
        row("beta", shipped=["bert", "equal"]),
        row("Alpha", model_type="beta", outcome="nothing found"),
        row("Gamma", removed={"ff": 0.1}),
        failed("Delta", "inputs", "x | y < z: shape\nof another;" + " long" * 40),
        failed("Epsilon", "time", "takes more than 120 s"),
    ]
    census_page.write_page(rows, {"torch": "2.0"}, total=9)
    page = (tmp_path / "census.md").read_text()
    lines = page.splitlines()
    for line in [
        "Written by `benchmarks/census.py` on 2026-01-02 to 2026-01-03 with torch 2.0.",
        "| main classes of all architectures | 9 |",
        "| looked at so far | 5 |",
        "| inferred and certified | 2 (2 model types) |",
        "| ran, but no permutation was found | 1 |",
        "| certificate failed, whatever was taken out | 0 |",
        "| failed: it does not run on the inputs that were tried | 1 |",
        "| failed: it takes too long | 1 |",
        "Permutations that certificates took out: 1.",
        "Beside a shipped spec that fits the same model, the inferred one is equal for 1.",
        "| sizes that do not fit each other | 1 |",
        "| takes too long | 1 |",
        "| beta | input_ids | 2 (4) | 50% | 1e-15 | 0 | 1.0 + 1.2 | equal (bert) |",
    ]:
        assert line in lines
    names = [n.split(" | ")[0] for n in lines if n.startswith(("| Alpha", "| beta", "| Gamma"))]
    assert names == ["| Alpha (nothing found)", "| beta", "| Gamma"]
    (told,) = [line for line in lines if line.startswith("| Delta")]
    assert told.startswith("| Delta | inputs | x \\| y &lt; z: shape of another; long long")
    assert told.endswith("… |")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("ImportError: requires the timm library", "needs a package that is not installed"),
        ("missing 1 required positional argument: 'x'", "lacks an argument"),
        ("KeyError: 'type'", "its default configuration is not whole"),
        ("the model is not small: 90 parameters", "no rule makes a small model of it"),
        ("of unheard kind", "something else"),
    ],
)
def test_reasons_have_causes(reason, told):
    assert census_page.cause(reason) == told
