"""Fixtures of the format tests: small checkpoints of every layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "fc1.weight": rng.normal(size=(4, 3)).astype(np.float32),
        "fc1.bias": rng.normal(size=4).astype(np.float16),
        "fc2.weight": rng.normal(size=(2, 4)),
        "steps": np.array(7, np.int64),
    }


@pytest.fixture
def single(tmp_path: Path, weights: dict[str, np.ndarray]) -> Path:
    """A folder of its own with one safetensors file."""
    path = tmp_path / "in" / "model.safetensors"
    path.parent.mkdir()
    save_file(weights, path, {"format": "pt"})
    return path


@pytest.fixture
def sharded(tmp_path: Path, weights: dict[str, np.ndarray]) -> Path:
    """A Hugging Face directory with two shards, side files, a subfolder, and foreign weights."""
    path = tmp_path / "sharded"
    (path / "1_Pooling").mkdir(parents=True)
    (path / "onnx").mkdir()
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    names = sorted(weights)
    homes = {name: first if name in names[:2] else second for name in names}
    for shard in (first, second):
        kept = {name: weights[name] for name in names if homes[name] == shard}
        save_file(kept, path / shard, {"format": "pt"})
    total = sum(array.nbytes for array in weights.values())
    index = {"metadata": {"total_size": total, "total_parameters": 25}, "weight_map": homes}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (path / "model.safetensors.index.json").write_text(text)
    (path / "config.json").write_text('{"model_type": "mlp", "hidden_size": 4}')
    (path / "tokenizer.json").write_text("{}")
    (path / "README.md").write_text("# ä")
    (path / "1_Pooling" / "config.json").write_text("{}")
    (path / "pytorch_model.bin").write_bytes(b"other weights")
    (path / "onnx" / "model.onnx").write_bytes(b"other weights")
    (path / ".cache").mkdir()
    (path / ".cache" / "lock").write_text("")
    return path
