"""Small checkpoints, and the program run as a user runs it."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_models import gpt2, mlp
from safetensors.numpy import save_file

from rebasin_hub import app

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a run of the program left."""

    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the program in this process, inside an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["rebasin-hub", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            app.main()
        done = Done(stop.value.code or 0, *capsys.readouterr())
        assert code is None or done.code == code, done
        return done

    return call


@pytest.fixture
def start(tmp_path):
    """Start the program as a process of its own, inside the same empty folder."""

    def call(*arguments):
        command = [sys.executable, "-m", "rebasin_hub", *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=take_interrupts,  # noqa: PLW1509 - no thread runs yet
        )

    return call


def take_interrupts():
    """Undo what a shell does to its background jobs, whose children ignore Ctrl-C otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def models(tmp_path):
    """Write a.safetensors and b.safetensors, two chains of the same widths; return the folder."""
    for number, name in enumerate("ab"):
        save_file(mlp(number), tmp_path / f"{name}.safetensors", {"format": "pt"})
    return tmp_path


@pytest.fixture
def gpt2_folder(tmp_path):
    """Write a Hugging Face directory with two shards; return a function that does."""

    def write(name="gpt2", seed=0, **options):
        folder = tmp_path / name
        folder.mkdir()
        tensors = gpt2(seed, **options)
        names = sorted(tensors)
        shards = {
            "model-00001-of-00002.safetensors": names[::2],
            "model-00002-of-00002.safetensors": names[1::2],
        }
        for file, chosen in shards.items():
            save_file({n: tensors[n] for n in chosen}, folder / file, {"format": "pt"})
        index = {
            "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
            "weight_map": {n: file for file, chosen in shards.items() for n in chosen},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        (folder / "config.json").write_text(
            json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_head": 3})
        )
        (folder / "tokenizer.json").write_text("{}")
        return folder

    return write
