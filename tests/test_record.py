"""Records are read back as they were written, and what is no record is refused with its reason."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import pytest
import record_examples as examples
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rebasin_hub.errors import InputError, OutputError
from rebasin_hub.record import Record, load, save
from rebasin_hub.record.model import MatchRecord
from rebasin_hub.record.schema import schema_text
from rebasin_hub.record.select import at_midpoint, columns

SCHEMA = Path(__file__).parents[1] / "schemas" / "rebasin.schema.json"
RECORDS = (
    examples.barrier_record,
    examples.null_record,
    examples.plane_record,
    examples.hostile_record,
)


@pytest.mark.parametrize("make", RECORDS)
def test_load_after_save_is_the_identity(make, tmp_path) -> None:
    record = make()
    save(record, tmp_path / "rebasin.json")
    assert load(tmp_path / "rebasin.json") == record


@pytest.mark.parametrize("make", RECORDS)
def test_what_is_saved_fits_the_schema(make) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(make().model_dump_json()))


def test_the_schema_is_the_one_that_the_model_makes() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
        "run: python -m rebasin_hub.record.schema > schemas/rebasin.schema.json"
    )


def test_the_schema_refuses_other_keys() -> None:
    document = {**json.loads(examples.barrier_record().model_dump_json()), "extra": 1}
    assert not jsonschema.Draft202012Validator(json.loads(schema_text())).is_valid(document)


def test_a_record_is_not_replaced_unless_told(tmp_path) -> None:
    path = tmp_path / "rebasin.json"
    save(examples.barrier_record(), path)
    with pytest.raises(OutputError, match="exists already"):
        save(examples.null_record(), path)
    save(examples.null_record(), path, force=True)
    assert load(path) == examples.null_record()


@given(st.floats())
def test_numbers_that_are_not_finite_become_null(value: float) -> None:
    match = MatchRecord(permutation="p", naive=[max(-1.0, min(1.0, value))], aligned=[math.inf])
    assert match.aligned == [None]
    figure = examples.Figure(value=value, low=-math.inf, high=math.nan)
    assert figure.value == (value if math.isfinite(value) else None)
    assert (figure.low, figure.high) == (None, None)


def test_cosines_keep_four_decimals() -> None:
    match = MatchRecord(permutation="p", naive=[0.123456], aligned=[1.0000001])
    assert (match.naive, match.aligned) == ([0.1235], [1.0])
    with pytest.raises(ValidationError):
        MatchRecord(permutation="p", naive=[1.1], aligned=[0.0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rebasin": 2}, "rebasin: Input should be 1, found 2"),
        ({"rebasin": True}, "rebasin: Input should be 1"),
        ({"verdict": None}, "verdict: Input should be a valid string, found None"),
        ({"extra": 1}, "extra: Extra inputs are not permitted, found 1"),
        ({"lambdas": [0.0, 1.0]}, "has not one value for each of the lambdas"),
        ({"lambdas": [0.5] * 25}, "lambdas do not rise"),
        (
            {"baselines": [{"name": "A", "split": "tset", "loss": 1.0, "error": 0.1}]},
            r"split 'tset' is not one of the task's \['test', 'train'\]",
        ),
        (
            {"matches": [{"permutation": "p", "naive": [0.1], "aligned": []}]},
            "matches of p: naive and aligned differ in length",
        ),
    ],
)
def test_what_is_no_record_is_refused_by_the_key(change, words, tmp_path) -> None:
    document = {**json.loads(examples.barrier_record().model_dump_json()), **change}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=words) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: is not a record of version 1")


def test_a_column_stands_once() -> None:
    record = examples.barrier_record()
    with pytest.raises(ValidationError, match=r"curve \(test, naive, as is\) is there twice"):
        examples.barrier_record(curves=[*record.curves, record.curves[0]])


def test_a_plane_has_all_its_values() -> None:
    plane = examples.plane("naive")
    short = plane.model_copy(update={"loss": plane.loss[1:]})
    lost = plane.model_copy(update={"corners": {"A": (0.0, 0.0)}})
    for bad, words in ((short, "each x and y"), (lost, "where A, B and C are")):
        with pytest.raises(ValidationError, match=words):
            examples.plane_record(planes=[bad])


def test_what_cannot_be_read_is_said_in_words(tmp_path) -> None:
    with pytest.raises(InputError, match=r"is a directory; give the rebasin\.json in it"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"no\.json"):
        load(tmp_path / "no.json")
    (tmp_path / "bad.json").write_bytes(b"\xff{")
    with pytest.raises(InputError, match=r"bad\.json: is not JSON"):
        load(tmp_path / "bad.json")


def test_columns_stand_in_the_order_of_the_report() -> None:
    record = examples.barrier_record()
    turned = examples.barrier_record(curves=record.curves[::-1])
    found = [(c.numbering, c.treatment) for c in columns(turned, "train")]
    assert found == list(examples.HILLS)
    assert {c.split for c in columns(turned, "train")} == {"train"}


def test_the_midpoint_lies_between_its_neighbours() -> None:
    assert at_midpoint([0.0, 0.5, 1.0], [1.0, 7.0, 2.0]) == 7.0
    assert at_midpoint([0.0, 0.4, 0.6, 1.0], [0.0, 1.0, 2.0, 0.0]) == pytest.approx(1.5)
    assert at_midpoint([0.0, 0.5, 1.0], [1.0, None, 2.0]) is None
    assert at_midpoint([], []) is None


def test_a_record_holds_every_kind_of_example() -> None:
    record = examples.barrier_record()
    assert isinstance(record, Record)
    assert len(record.curves) == 16
    assert max(len(match.aligned) for match in record.matches) == 2000
