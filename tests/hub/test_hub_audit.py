"""A published barrier is measured again, and found out if it is not what was measured."""

import json
from hashlib import sha256

import pytest
from hub_models import card_of, mlp_bytes

from rebasin_hub.hub.reference import name_of
from rebasin_hub.pipeline.barrier import Request, measure_barrier
from rebasin_hub.pipeline.hub import Publication, audit, push, resolve_all
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.merging import merge
from rebasin_hub.record import save
from rebasin_hub.record.model import ModelRecord
from rebasin_hub.tasks import Options

pytest.importorskip("sklearn")
WIDTHS = (64, 12, 12, 10)
OPTIONS = Options(limit=40)


@pytest.fixture
def published(hub, machine, tmp_path):
    """Publish a merge of two models of the Hub, with the record between them."""
    for seed in (0, 1):
        files = {
            "model.safetensors": mlp_bytes(seed, tmp_path, WIDTHS),
            "README.md": card_of("mit"),
        }
        hub.put(f"bob/m{seed}", files)
    paths = resolve_all(["bob/m0", "bob/m1"])
    merge(paths, tmp_path / "merged")
    folder = tmp_path / "barrier"
    request = Request(
        tuple(paths), "digits", OPTIONS, matching=Matching(device="cpu"), points=3,
        treatments=("as is",),
    )  # fmt: skip
    record = measure_barrier(request, folder, command="rebasin-hub barrier bob/m0 bob/m1")
    models = {
        letter: ModelRecord(name=name_of(path), digest=model.digest)
        for (letter, model), path in zip(record.models.items(), paths, strict=True)
    }
    save(record.model_copy(update={"models": models}), folder / "rebasin.json", force=True)
    bases = ("bob/m0", "bob/m1")
    return push(Publication(tmp_path / "merged", "ada/merged", record=folder, bases=bases))


def test_a_true_claim_is_confirmed(hub, machine, published):
    machine.move("elsewhere")
    found = audit("ada/merged", task="digits", options=OPTIONS, device="cpu")
    assert found.holds
    measured = [check for check in found.checks if "barrier" in check.claim]
    assert len(measured) == 8  # two splits, two numberings, loss and error
    assert {check.outcome for check in measured} == {"confirmed"}
    assert str(found.reference) == f"ada/merged@{published.commit}"


def test_a_false_claim_is_refuted(hub, machine, published):
    files = hub.files("ada/merged")
    record = json.loads(files["rebasin.json"])
    curve = next(c for c in record["curves"] if c["numbering"] == "naive")
    curve["entezari"]["loss"] = {"value": 123.0, "low": 122.0, "high": 124.0}
    text = json.dumps(record).encode()
    manifest = json.loads(files["rebasin-hub.json"])
    manifest["files"]["rebasin.json"] = sha256(text).hexdigest()
    hub.put("ada/merged", {"rebasin.json": text, "rebasin-hub.json": json.dumps(manifest).encode()})
    found = audit("ada/merged", task="digits", options=OPTIONS, device="cpu")
    wrong = [check.claim for check in found.checks if check.outcome == "refuted"]
    assert len(wrong) == 1
    assert "naive" in wrong[0]


def test_without_a_task_the_barrier_is_not_checked(hub, machine, published):
    found = audit("ada/merged")
    assert found.holds
    assert [c.outcome for c in found.checks if c.claim == "barrier"] == ["not checked"]


def test_the_card_has_the_barrier_and_its_picture(hub, machine, published):
    files = hub.files("ada/merged")
    assert files["barrier.png"].startswith(b"\x89PNG")
    text = files["README.md"].decode()
    assert "](barrier.png)" in text
    assert "type: loss-barrier" in text
    assert files["b-to-a.safetensors"]


def test_a_dry_run_touches_nothing(hub, machine, published, tmp_path):
    before = hub.state()
    hub.forget()
    plan = push(
        Publication(tmp_path / "merged", "ada/new", record=tmp_path / "barrier", license="mit"),
        dry_run=True,
    )
    assert hub.state() == before
    assert {r.method for r in hub.requests} <= {"GET", "HEAD"}
    assert "# `ada/new`" in plan.card
