"""What was trained is kept, whole or not at all."""

from __future__ import annotations

import time

import pytest

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.training import stored
from rebasin_hub.training.store import digest_of_settings
from rebasin_hub.workers import Workers


def trainer(calls, log=None):
    def train(folder):
        calls.append(folder)
        (folder / "a.bin").write_bytes(b"weights")
        return log or {"loss": 1.0}

    return train


def test_the_same_settings_are_trained_once(tmp_path) -> None:
    calls = []
    first = stored("net", {"width": 4, "rate": 0.1}, trainer(calls), tmp_path / "new" / "store")
    again = stored("net", {"rate": 0.1, "width": 4}, trainer(calls), tmp_path / "new" / "store")
    assert len(calls) == 1
    assert first.folder == again.folder
    assert (again.folder / "a.bin").read_bytes() == b"weights"
    assert again.log == first.log
    assert again.log["settings"] == {"width": 4, "rate": 0.1}
    assert again.log["loss"] == 1.0
    other = stored("net", {"width": 5, "rate": 0.1}, trainer(calls), tmp_path / "new" / "store")
    assert len(calls) == 2
    assert other.folder != first.folder


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_what_was_stopped_leaves_nothing(tmp_path, stop) -> None:
    def train(folder):
        (folder / "a.bin").write_bytes(b"half")
        raise stop

    with pytest.raises(stop):
        stored("net", {}, train, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_machine_may_finish_first(tmp_path) -> None:
    def train(folder):
        other = tmp_path / f"net-{digest_of_settings({})[:12]}"
        other.mkdir()
        (other / "log.json").write_text('{"loss": 2.0}')
        return {"loss": 3.0}

    assert stored("net", {}, train, tmp_path).log["loss"] == 2.0
    assert len(list(tmp_path.iterdir())) == 1


def slowly_stored(job):
    """Train for half a second, and note it."""
    number, folder = job

    def train(made):
        (folder / f"trained-{number}").touch()
        time.sleep(0.5)
        return {"loss": float(number)}

    return stored("net", {}, train, folder / "store").log["loss"]


def test_a_second_process_waits_for_the_first(tmp_path) -> None:
    found = dict(Workers("local", 3).run(slowly_stored, [(n, tmp_path) for n in range(3)]))
    assert len(list(tmp_path.glob("trained-*"))) == 1
    assert len(set(found.values())) == 1
    assert [path.name[:4] for path in (tmp_path / "store").iterdir()] == ["net-"]


def test_a_damaged_log_names_the_remedy(tmp_path) -> None:
    kept = stored("net", {}, trainer([]), tmp_path)
    (kept.folder / "log.json").write_text("{")
    with pytest.raises(FormatError, match=r"remove .* to train it again"):
        stored("net", {}, trainer([]), tmp_path)


def test_a_store_that_cannot_be_made_is_an_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        stored("net", {}, trainer([]), tmp_path / "file" / "store")


def test_a_digest_tells_values_apart_and_not_the_order_of_keys() -> None:
    assert digest_of_settings({"a": 1, "b": [2]}) == digest_of_settings({"b": [2], "a": 1})
    assert digest_of_settings({"a": 1}) != digest_of_settings({"a": "1"})
    with pytest.raises(ValueError, match="JSON compliant"):
        digest_of_settings({"a": float("nan")})
