"""A registry in an empty folder, and models to put into it."""

import json
import sys
from dataclasses import dataclass

import pytest
import typer
from registry_models import mlp, renumbered, tuned
from safetensors.numpy import save_file

from rebasin_hub.app.registry import group
from rebasin_hub.errors import RebasinError
from rebasin_hub.pipeline.registry import add
from rebasin_hub.registry import Registry


@pytest.fixture
def registry(tmp_path):
    with Registry(tmp_path / "registry") as opened:
        yield opened


@pytest.fixture
def write(tmp_path):
    """Write tensors to a safetensors file in a folder of its own; return its path."""

    def save(name, tensors, **metadata):
        path = tmp_path / "models" / name / "model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, metadata or None)
        return path

    return save


@pytest.fixture
def models(write):
    """Write a, its renumbered and its fine-tuned copy, and b, which was made apart."""
    return {
        "a": write("a", mlp(0)),
        "copy": write("copy", renumbered(mlp(0), 1)),
        "tuned": write("tuned", renumbered(tuned(mlp(0), 3), 2)),
        "b": write("b", mlp(1)),
    }


@pytest.fixture
def added(registry, models):
    """Register a and b, and a once more; return the registry."""
    for name in ("a", "b", "a"):
        add(registry, models[name], name)
    return registry


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run `registry …` in this process."""
    import rebasin_hub.report.registry  # noqa: F401 - registers its texts

    monkeypatch.setenv("REBASIN_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    command = typer.main.get_command(group)

    def call(*arguments, code=0):
        capsys.readouterr()
        error = ""
        try:
            found = command.main(list(map(str, arguments)), "registry", standalone_mode=False) or 0
        except RebasinError as problem:
            found, error = 1, str(problem)
        except SystemExit as stop:
            found = stop.code
        except Exception as problem:
            if type(problem).__name__ not in {"BadParameter", "UsageError"}:
                raise
            found, error = 2, str(problem)
        out, err = capsys.readouterr()
        done = Done(found, out, err + error)
        assert done.code == code, done
        return done

    yield call
    sys.stdout.flush()
