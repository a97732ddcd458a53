"""Names of models on the Hub."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rebasin_hub.errors import InputError
from rebasin_hub.hub import HubReference, name_of
from rebasin_hub.pipeline.hub import on_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
words = st.from_regex(r"[A-Za-z0-9_]([\w.-]{0,8}[A-Za-z0-9_])?", fullmatch=True).map(
    lambda w: w.encode("ascii", "ignore").decode() or "x"
)
revisions = st.none() | st.sampled_from(["main", COMMIT, "v1.0", "refs/pr/3", "feature/x"])
files = st.none() | st.sampled_from(["model.safetensors", "sub/model-00001-of-00002.safetensors"])


@given(words, words, revisions, files)
def test_what_is_written_reads_back(org, name, revision, file):
    assume("--" not in org + name and ".." not in org + name and not name.endswith(".git"))
    reference = HubReference(f"{org}/{name}", revision, file)
    assert HubReference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", HubReference("org/name")),
        ("org/name@v1", HubReference("org/name", "v1")),
        ("org/name@refs/pr/3", HubReference("org/name", "refs/pr/3")),
        ("hf://org/name", HubReference("org/name")),
        ("hf://models/org/name@v1", HubReference("org/name", "v1")),
        ("hf://org/name@refs/pr/3/a.bin", HubReference("org/name", "refs/pr/3", "a.bin")),
        ("hf://org/name@a%2Fb/c/d.bin", HubReference("org/name", "a/b", "c/d.bin")),
    ],
)
def test_forms(text, expected):
    assert HubReference.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "name",
            "org/",
            "/name",
            "org/name/more",
            "org/name@",
            "org/na me",
            "org/-x",
            "o--o/x",
        ),
        *("org/name.git", "org/..", "org/name@a b", "org/name@-x", "org/name@a..b", "org/näme"),
        *("hf://org", "hf://datasets/org/name", "hf://org/name/../x", "hf://org/name//x"),
        *("hf://org/name@v1/a\\b", "hf://org/name/a\nb", "org/name@\x1b[31m", "o/" + "x" * 96),
        *("hf://", "hf://org/name@", "org/name@a%2Fb"),
    ],
)
def test_what_is_no_name_is_refused_in_one_sentence(text):
    with pytest.raises(InputError, match=r"name|branch|path|model"):
        HubReference.parse(text)


@given(st.text())
def test_any_text_is_a_name_or_an_input_error(text):
    for one in (text, f"hf://{text}", f"org/name@{text}"):
        try:
            found = HubReference.parse(one)
        except InputError:
            continue
        assert str(found).isprintable()


def test_a_path_that_exists_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert on_hub("org/name") is None
    assert on_hub("hf://org/name") == HubReference("org/name")
    assert on_hub(Path("hf://org/name@v1/x.bin")) == HubReference("org/name", "v1", "x.bin")
    assert on_hub("org/other") == HubReference("org/other")


@pytest.mark.parametrize(
    "text", ["./a/b", "../a/b", "/a/b", "~/a/b", "a", "a/b/c", "a/b.safetensors", "a/b.pt"]
)
def test_what_is_meant_to_be_a_path(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert on_hub(text) is None


def test_a_cached_model_is_called_by_its_commit(tmp_path):
    snapshot = tmp_path / "models--org--na.me" / "snapshots" / COMMIT
    assert name_of(snapshot) == f"org/na.me@{COMMIT}"
    assert name_of(snapshot / "model.safetensors") == f"org/na.me@{COMMIT}"
    assert name_of(tmp_path / "model.safetensors") == "model.safetensors"
