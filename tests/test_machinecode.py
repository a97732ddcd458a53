"""Compiled code is left out where numba is missing, or does not run."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

import pytest

from rebasin_hub import machinecode


class Failing(MetaPathFinder, Loader):
    """Finds numba, whose import fails."""

    def __init__(self, error: ImportError) -> None:
        self.error = error

    def find_spec(self, fullname, path, target=None):  # noqa: ARG002 - as finders are called
        return ModuleSpec(fullname, self) if fullname == "numba" else None

    def exec_module(self, module):  # noqa: ARG002 - as loaders are called
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'numba'", name="numba"),
        ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite"),
        ImportError("Numba needs NumPy 2.2 or less. Got NumPy 2.4."),
    ],
)
def test_without_a_numba_that_runs_there_is_no_compiled_code(error, monkeypatch):
    caches = (machinecode.loaded, machinecode._numba)
    with monkeypatch.context() as patched:
        for name in ("numba", "rebasin_hub.merge.kernels"):
            patched.delitem(sys.modules, name, raising=False)
        patched.setattr(sys, "meta_path", [Failing(error), *sys.meta_path])
        for cache in caches:
            cache.cache_clear()
        assert machinecode.loaded("rebasin_hub.merge.kernels") is None
    for cache in caches:
        cache.cache_clear()


def test_other_modules_that_are_missing_are_mistakes():
    pytest.importorskip("numba")
    with pytest.raises(ModuleNotFoundError, match="nosuch"):
        machinecode.loaded("rebasin_hub.merge.nosuch")
