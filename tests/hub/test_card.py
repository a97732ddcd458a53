"""Model cards: what programs read of them, and that no name can break them."""

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rebasin_hub.card import (
    Base,
    Card,
    License,
    Permutations,
    card_text,
    license_of,
    resolve_license,
)
from rebasin_hub.errors import InputError
from tests.record_examples import barrier_record

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "ab" * 32
EVIL = [
    "\n---\n# Owned",
    "\r---\r",
    "`</code><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "| a | b |\n| - | - |",
    "``` \n```sh\nrm -rf /",
    "- item\n# heading",
    "!!python/object/apply:os.system [ls]",
    "a: b # c",
    "&anchor *alias",
    "\u2028\u202e\x00\x1b[31m\ud800",
    "' \" \\",
    "",
    " ",
    "null",
    "1e3",
]
texts = st.sampled_from(EVIL) | st.text(max_size=40) | st.text(st.characters(categories=["Cs"]))
texts |= st.lists(st.sampled_from(EVIL), min_size=2, max_size=3).map("".join)
HEADINGS = ["org/name", "Base models", "How it was made", "Permutations", "Loss barrier"]
HEADINGS += ["Check it", "Files"]


def whole_card(text, **changes):
    """Return a card in which every text of others is `text`."""
    record = barrier_record()
    record = record.model_copy(
        update={
            "models": {k: m.model_copy(update={"name": text}) for k, m in record.models.items()},
            "command": text,
            "verdict": text,
            "task": record.task.model_copy(update={"name": text, "loss": text}),
        }
    )
    values = {
        "repo": "org/name",
        "kind": "model",
        "tool": "rebasin-hub 1",
        "digest": DIGEST,
        "files": {"model.safetensors": DIGEST, text: DIGEST},
        "bases": [
            Base("org/base", COMMIT, DIGEST, License("other", text, text)),
            Base(text),
        ],
        "license": License("other", text, text),
        "library": "transformers",
        "provenance": {
            "method": text,
            "spec": text,
            "weights": [{"weights": [0.5, 0.5], "tensors": "all"}],
            "alignment": {"method": text, "strategy": text, "seed": 0},
            "repair": text,
        },
        "permutations": Permutations("p.safetensors", text, text, DIGEST, DIGEST, 1, 2),
        "record": record,
        "picture": "barrier.png",
        "recipe": text,
        "notes": [text],
        **changes,
    }
    return Card(**values)


def front_and_body(text):
    assert text.startswith("---\n")
    front, body = text[4:].split("\n---\n", 1)
    return yaml.safe_load(front), body


def tokens(body):
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    found = []
    for token in parser.parse(body):
        found.append(token)
        found += token.children or ()
    return found


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_no_name_breaks_a_card(text):
    written = card_text(whole_card(text))
    written.encode()
    front, body = front_and_body(written)
    assert set(front) == {
        *("license", "license_name", "license_link", "library_name", "tags", "base_model"),
        *("base_model_relation", "rebasin", "model-index"),
    }
    assert front["base_model"] == ["org/base"]
    assert ModelCard(written).data.base_model == ["org/base"]
    parsed = tokens(body)
    kinds = {token.type for token in parsed}
    assert not kinds & {"html_inline", "html_block", "hr", "bullet_list_open", "em_open"}
    headings = [
        parsed[k + 1].content.strip("`")
        for k, token in enumerate(parsed)
        if token.type == "heading_open"
    ]
    assert headings == HEADINGS
    links = {token.attrs["href"] for token in parsed if token.type == "link_open"}
    assert all(link.startswith("https://") for link in links)
    assert len(links) == 3
    images = [token.attrs["src"] for token in parsed if token.type == "image"]
    assert images == ["barrier.png"]
    assert written.count("\n## ") == len(HEADINGS) - 1
    assert all(c.isprintable() or c == "\n" for c in written)


@settings(max_examples=40)
@given(texts)
def test_tables_keep_their_columns(text):
    _, body = front_and_body(card_text(whole_card(text)))
    width = 0
    for token in tokens(body):
        if token.type == "tr_open":
            cells = 0
        elif token.type in {"td_open", "th_open"}:
            cells += 1
        elif token.type == "tr_close":
            width = width or cells
            assert cells == width
        elif token.type == "table_close":
            width = 0


def test_the_front_matter_is_what_the_hub_reads():
    data = ModelCard(card_text(whole_card("x"))).data
    assert (data.license, data.license_name) == ("other", "x")
    assert data.to_dict()["base_model_relation"] == "merge"
    assert {"merge", "git-rebasin"} <= set(data.tags)
    found = {(r.metric_type, r.dataset_split, r.metric_value) for r in data.eval_results}
    record = barrier_record()
    claims = {
        ("loss-barrier", c.split, c.entezari.loss.value)
        for c in record.curves
        if c.treatment == "as is"
    }
    assert claims <= found
    assert data.to_dict()["rebasin"]["base_models"] == [{"model": "org/base", "revision": COMMIT}]


def test_a_barrier_that_is_not_finite_is_no_metric():
    from tests.record_examples import null_record

    text = card_text(whole_card("x", record=null_record()))
    metrics = [
        metric
        for result in front_and_body(text)[0]["model-index"][0]["results"]
        for metric in result["metrics"]
    ]
    assert all(metric["value"] is not None for metric in metrics)
    assert "not finite" in text


# Licenses


def hub_model(license_, name="org/x"):
    return Base(name, COMMIT, None, None if license_ is None else License(license_))


@pytest.mark.parametrize(
    ("bases", "expected"),
    [
        ([], None),
        ([hub_model("mit"), hub_model("mit")], License("mit")),
        ([hub_model("mit"), Base("mine.safetensors")], License("mit")),
        ([Base("mine.safetensors")], None),
    ],
)
def test_the_license_of_all(bases, expected):
    assert resolve_license(bases, None) == expected


@pytest.mark.parametrize(
    "licenses", [("mit", "apache-2.0"), ("mit", None), (None, None), ("other", "mit")]
)
def test_licenses_that_disagree_are_refused_unless_one_is_chosen(licenses):
    bases = [hub_model(one, f"org/m{k}") for k, one in enumerate(licenses)]
    with pytest.raises(InputError, match="--license") as error:
        resolve_license(bases, None)
    assert "org/m0" in str(error.value)
    assert "org/m1" in str(error.value)
    assert resolve_license(bases, "gpl-3.0") == License("gpl-3.0")


def test_other_licenses_are_the_same_only_by_name():
    one, two = (
        Base("org/x", COMMIT, None, license_of({"license": "other", "license_name": name}))
        for name in ("llama3", "gemma")
    )
    assert resolve_license([one, one], None) == License("other", "llama3")
    with pytest.raises(InputError, match=r"llama3.*gemma"):
        resolve_license([one, two], None)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"license": "MIT "}, License("mit")),
        ({"license": ["mit", "bsd"]}, License("mit")),
        ({"license": []}, None),
        ({"license": 3}, None),
        ({"license": ""}, None),
        ({}, None),
    ],
)
def test_what_a_card_says_of_its_license(card, expected):
    assert license_of(card) == expected
