from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from rebasin_hub.formats.mapped import MappedFile

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")


@pytest.mark.parametrize("name", ["plain", "with a space", "ünï"])
def test_the_file_is_read_behind_an_address(tmp_path: Path, name: str):
    page = mmap.ALLOCATIONGRANULARITY
    content = np.random.default_rng(0).integers(0, 256, 3 * page, np.uint8)
    path, link = tmp_path / name, tmp_path / "link"
    path.write_bytes(content.tobytes())
    link.symlink_to(path)
    with path.open("rb") as file:
        view = mmap.mmap(file.fileno(), 2 * page, access=mmap.ACCESS_READ, offset=page)
    shown = np.frombuffer(view, np.uint8)
    memory = np.empty(100, np.uint8)
    for given in (path, link):
        found = MappedFile(given)
        assert found.fill(memory, shown.ctypes.data + page - 50)
        assert memory.tolist() == content[2 * page - 50 : 2 * page + 50].tolist()
        assert not found.fill(memory, shown.ctypes.data + 2 * page - 50)
        assert not found.fill(memory, memory.ctypes.data)
        found.close()
