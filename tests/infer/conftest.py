"""Nothing here needs a network or a GPU; without the extras there is nothing to test."""

import pytest

pytest.importorskip("torch")
