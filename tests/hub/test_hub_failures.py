"""Whatever goes wrong ends in a retry or in one clear error, with nothing half-published."""

import re

import pytest
from failures import Failures, FullDisk
from hub_models import card_of, mlp, mlp_bytes
from safetensors.numpy import load_file, save_file

from rebasin_hub.errors import InputError, OutputError, RebasinError
from rebasin_hub.pipeline.hub import Publication, pull, push, resolve

RETRIED = (
    *("whoami 500", "whoami 429 2", "create 503", "create lose", "info 500 x2", "info 429 1"),
    *("preupload 500", "preupload 429 3", "preupload lose", "batch 503", "batch cut 5"),
    *("upload 500 x2", "upload 429 1", "upload cut 100", "upload lose", "verify 500"),
    *(
        "commit 500",
        "commit 503 x2",
        "commit 429 2",
        "commit cut 40",
        "commit lose",
        "commit corrupt",
    ),
    *("validate 500", "upload slow 0.05", "commit slow 0.05"),
)
REFUSED = {
    "whoami 500 x*": "the Hub failed (500) each time",
    "create 500 x*": "the Hub failed (500) each time",
    "preupload 503 x*": "the Hub failed (503) each time",
    "batch 500 x*": "the Hub failed (500) each time",
    "upload 500 x*": "the Hub failed (500) each time",
    "upload cut 100 x*": "the Hub cannot be reached",
    "upload corrupt": "does not have the promised SHA-256",
    "verify 500 x*": "the Hub failed (500) each time",
    "commit 500 x*": "the Hub failed (500) each time",
    "commit cut 40 x*": "the Hub cannot be reached",
    "commit 429 3600": "try again in 3600 seconds",
    "commit stale": "has moved on",
    "commit expire": "does not accept the token",
    "preupload expire": "does not accept the token",
    "upload expire": "does not accept the token",
    "validate expire": "",
}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(mlp(0), path, {"format": "pt"})
    return path


def published(hub, name="ada/mlp"):
    """Return the files of main, without what the Hub adds."""
    files = hub.files(name)
    files.pop(".gitattributes", None)
    return files


def test_the_language_of_failures():
    failures = Failures()
    failures.plan("upload cut 100 x2\n commit 500 x*")
    assert [failures.take("upload") is not None for _ in range(3)] == [True, True, False]
    assert all(failures.take("commit").what == "500" for _ in range(9))
    assert failures.take("info") is None
    with pytest.raises(ValueError, match="not a failure"):
        failures.plan("upload explode")


@pytest.mark.parametrize(
    ("failure", "new"),
    [(f, True) for f in RETRIED]
    + [(f, False) for f in RETRIED if f.startswith(("commit", "preupload"))],
)
def test_what_passes_is_tried_again(hub, machine, model, failure, new):
    if not new:
        hub.put("ada/mlp", {"notes.md": b"first"})
    hub.failures.plan(failure)
    done = push(Publication(model, "ada/mlp", license="mit"))
    assert hub.failures.happened
    repo = hub.repos["ada/mlp"]
    assert repo.refs["main"] == done.commit
    assert len(repo.commits) == (2 if new else 3)
    assert published(hub)["model.safetensors"] == model.read_bytes()
    assert hub.leaks == []


@pytest.mark.parametrize(("failure", "words"), REFUSED.items())
def test_what_stays_wrong_is_one_error_and_publishes_nothing(hub, machine, model, failure, words):
    hub.put("ada/mlp", {"model.safetensors": b"\0old"})
    if failure.startswith("create"):
        del hub.repos["ada/mlp"]
    before = hub.state()
    hub.failures.plan(failure)
    with pytest.raises(RebasinError) as error:
        push(Publication(model, "ada/mlp", license="mit"))
    text = str(error.value)
    assert words in text
    assert "nothing was published" in text
    assert not re.search(r"hf_\w+|signature=\w", text)
    assert hub.failures.happened
    if failure == "commit stale":
        assert "'Add notes' by bob" in text
        assert published(hub)["model.safetensors"] == b"\0old"
    else:
        assert hub.state() == before


def test_a_commit_of_which_nothing_is_heard_again(hub, machine, model):
    hub.put("ada/mlp", {"notes.md": b"x"})
    plan, original = "commit lose", hub.failures.take

    def take(route):
        found = original(route)
        if route == "commit":
            hub.failures.plan("info 500 x*")
        return found

    hub.failures.plan(plan)
    hub.failures.take = take
    with pytest.raises(OutputError, match="does not tell whether it was made; push again later"):
        push(Publication(model, "ada/mlp", license="mit"))
    hub.failures.clear()
    state = hub.state()
    assert push(Publication(model, "ada/mlp", license="mit")).sent == 0
    assert hub.state() == state


def test_a_second_try_sends_nothing_again(hub, machine, model):
    hub.failures.plan("commit 500 x4")
    with pytest.raises(OutputError):
        push(Publication(model, "ada/mlp", license="mit"))
    assert hub.sent() == model.stat().st_size
    done = push(Publication(model, "ada/mlp", license="mit"))
    assert hub.sent() == model.stat().st_size
    assert (done.sent, done.kept) == (0, model.stat().st_size)


def test_what_is_published_already_makes_no_commit(hub, machine, model):
    first = push(Publication(model, "ada/mlp", license="mit"))
    state = hub.state()
    again = push(Publication(model, "ada/mlp", license="mit"))
    assert again.commit == first.commit
    assert again.plan.unchanged == tuple(file.name for file in again.plan.files)
    assert hub.state() == state


def test_equal_weights_under_another_name_are_not_sent_again(hub, machine, model):
    push(Publication(model, "ada/one", license="mit"))
    hub.forget()
    assert push(Publication(model, "ada/two", license="mit")).sent == 0
    assert hub.sent() == 0


def test_a_lost_answer_to_a_pull_request_makes_no_second_one(hub, machine, model):
    hub.put("bob/mlp", {"README.md": card_of("mit")}, author="bob")
    hub.failures.plan("commit lose")
    done = push(Publication(model, "bob/mlp", license="mit", pull_request=True))
    assert done.pull_request.endswith("/discussions/1")
    assert [ref for ref in hub.repos["bob/mlp"].refs if "pr" in ref] == ["refs/pr/1"]


def test_an_equal_commit_of_somebody_else_is_not_taken_for_ours(hub, machine, model):
    push(Publication(model, "ada/other", license="mit"))
    hub.put("ada/mlp", {"notes.md": b"x"})
    files = push(Publication(model, "ada/mlp", license="mit"), dry_run=True).files
    contents = {
        f.name: f.source if isinstance(f.source, bytes) else f.source.read_bytes() for f in files
    }
    original, calls = hub.failures.take, []

    def take(route):
        if route == "commit" and not calls:
            calls.append(route)
            hub.put("ada/mlp", contents, author="bob", title="The same")
            hub.failures.plan("commit 500")
        return original(route)

    hub.failures.take = take
    with pytest.raises(OutputError, match="'The same' by bob"):
        push(Publication(model, "ada/mlp", license="mit"))


def test_large_files_can_go_in_parts(hub, machine, model):
    hub.multipart = 200
    hub.failures.plan("upload 500\nupload cut 10")
    push(Publication(model, "ada/mlp", license="mit"))
    assert published(hub)["model.safetensors"] == model.read_bytes()
    assert hub.leaks == []


def test_a_branch_that_is_not_there(hub, machine, model):
    hub.put("ada/mlp", {"notes.md": b"x"})
    with pytest.raises(OutputError, match="no such branch"):
        push(Publication(model, "ada/mlp", license="mit", branch="draft"))


def test_a_repository_of_somebody_else(hub, machine, model):
    hub.put("bob/mlp", {"notes.md": b"x"}, author="bob")
    before = hub.state()
    with pytest.raises(OutputError, match="the token does not allow this"):
        push(Publication(model, "bob/mlp", license="mit"))
    with pytest.raises(OutputError, match="may make repositories there"):
        push(Publication(model, "bob/new", license="mit"))
    assert hub.state() == before


def test_without_a_token(hub, machine, model):
    machine.token(None)
    with pytest.raises(OutputError, match="hf auth login"):
        push(Publication(model, "ada/mlp", license="mit"))
    assert hub.repos == {}


# Fetching

FETCH_RETRIED = (
    *("info 500 x2", "info 429 1", "tree 500", "head 500", "head 429 1", "resolve 500"),
    *("resolve cut 10", "download 500", "download 429 1", "download cut 100", "download 503 x2"),
    *("download corrupt", "resolve corrupt", "tree cut 5", "download slow 0.05"),
)
FETCH_REFUSED = {
    "info 500 x*": "the Hub failed (500) each time",
    "info expire": "",
    "download 500 x*": "the Hub failed (500) each time",
    "download corrupt x*": "came with other content than the Hub promises, twice",
    "download cut 0 x*": "the Hub cannot be reached",
    "resolve 503 x*": "the Hub failed (503) each time",
    "info 429 3600": "try again in 3600 seconds",
}


@pytest.mark.parametrize("failure", FETCH_RETRIED)
def test_a_download_goes_on(hub, machine, tmp_path, failure):
    content = mlp_bytes(0, tmp_path)
    files = {"model.safetensors": content, "config.json": b"{}", "README.md": card_of("mit")}
    hub.put("ada/mlp", files, private=True)
    hub.failures.plan(failure)
    done = pull("ada/mlp", tmp_path / "out")
    assert hub.failures.happened
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == content
    assert (tmp_path / "out" / "config.json").read_bytes() == b"{}"
    assert done.reference.revision == hub.repos["ada/mlp"].refs["main"]
    assert hub.leaks == []


@pytest.mark.parametrize(("failure", "words"), FETCH_REFUSED.items())
def test_a_download_that_fails_leaves_nothing(hub, machine, tmp_path, failure, words):
    content = mlp_bytes(0, tmp_path)
    hub.put("ada/mlp", {"model.safetensors": content, "config.json": b"{}"}, private=True)
    hub.failures.plan(failure)
    with pytest.raises(InputError) as error:
        pull("ada/mlp", tmp_path / "out")
    assert words in str(error.value)
    assert not re.search(r"hf_\w+|signature=\w", str(error.value))
    assert not (tmp_path / "out").exists()
    assert set(machine.cached.values()) <= {content, b"{}"}
    hub.failures.clear()
    machine.hub.tokens["hf_good"] = "ada"
    pull("ada/mlp", tmp_path / "out")  # and the cache is not spoiled
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == mlp(0).keys()


def test_a_full_disk_is_told_and_leaves_no_file(hub, machine, tmp_path, monkeypatch):
    from huggingface_hub import file_download

    content = mlp_bytes(0, tmp_path, (6, 64, 64, 3))
    hub.put("ada/mlp", {"model.safetensors": content})
    original = file_download.http_get

    def full(url, temp_file, **options):
        original(url, FullDisk(temp_file, 1000), **options)

    # The first bytes come by range, and are not written by the client.
    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(InputError, match="the disk is full"):
        resolve("ada/mlp")
    monkeypatch.undo()
    machine.use(machine.home)
    assert resolve("ada/mlp").joinpath("model.safetensors").read_bytes() == content
