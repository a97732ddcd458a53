"""Small checkpoints, and the program run as a user runs it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
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
        assert done.code == code, done
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
        )

    return call


def mlp(seed, widths=(6, 8, 7, 3)):
    """Return the tensors of a chain of linear layers."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        tensors[f"fc{number + 1}.weight"] = rng.normal(size=(outputs, inputs)).astype(np.float32)
        tensors[f"fc{number + 1}.bias"] = rng.normal(size=outputs).astype(np.float32)
    return tensors


def forward(tensors, x):
    """Run a chain of linear layers with ReLU between them, in float64."""
    count = len(tensors) // 2
    for number in range(1, count + 1):
        x = x @ tensors[f"fc{number}.weight"].astype(float).T + tensors[f"fc{number}.bias"]
        x = np.maximum(x, 0) if number < count else x
    return x


@pytest.fixture
def models(tmp_path):
    """Write a.safetensors and b.safetensors, two chains of the same widths; return the folder."""
    for number, name in enumerate("ab"):
        save_file(mlp(number), tmp_path / f"{name}.safetensors", {"format": "pt"})
    return tmp_path


def gpt2(seed, *, vocab=11, layers=2, embed=12):
    """Return the tensors of a small GPT-2."""
    rng = np.random.default_rng(seed)
    shapes = {"wte.weight": (vocab, embed), "wpe.weight": (9, embed)}
    for layer in range(layers):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{layer}.{norm}.{part}": (embed,) for part in ("weight", "bias")}
        for name, size in {
            "attn.c_attn": (embed, 3 * embed),
            "attn.c_proj": (embed, embed),
            "mlp.c_fc": (embed, 4 * embed),
            "mlp.c_proj": (4 * embed, embed),
        }.items():
            shapes |= {f"h.{layer}.{name}.weight": size, f"h.{layer}.{name}.bias": size[1:]}
    shapes |= {"ln_f.weight": (embed,), "ln_f.bias": (embed,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


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
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_head": 3}))
        (folder / "tokenizer.json").write_text("{}")
        return folder

    return write
