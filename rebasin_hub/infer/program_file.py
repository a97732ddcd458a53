"""Files of torch.export, looked through before PyTorch reads them.

`torch.export.load` runs what a file tells it to: it unpickles objects, evaluates expressions as
Python, calls whatever attribute of the module `torch` a node names, and loads compiled libraries.
Here a file passes only if it holds nothing of that kind. What is left is a program of PyTorch's own
operators, with its tensors as plain bytes.
"""

from __future__ import annotations

import io
import json
import operator
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from rebasin_hub.errors import FormatError

__all__ = ["read_program"]

WHERE = "[^/]+/"
MEMBERS = re.compile(
    rf"{WHERE}(archive_format|archive_version|byteorder|version|\.data/[a-z_]+|\.format_version"
    r"|models/[^/]+\.json|data/(weights|constants)/[^/]+|data/sample_inputs/[^/]+\.pt)"
)
OPERATORS = re.compile(r"torch\.ops\.(aten|prims|prim|higher_order)(\.[A-Za-z_][A-Za-z0-9_]*)+")
FORBIDDEN = re.compile(r"\.__|\.from_file\b")
"""Parts of an operator's name: what Python keeps for itself, and files that are read or made."""

PLAIN = frozenset(
    name
    for name in dir(operator)
    if not name.startswith("_") and name not in {"attrgetter", "itemgetter", "methodcaller", "call"}
)
"""Functions of Python's module operator, but those that look up or call anything."""

FUNCTIONS = re.compile(
    "(Python)?Mod|(Floor|Ceil|True|Clean)Div|(Int|Float)TrueDiv|Max|Min|Abs|Eq|Ne|Lt|Le|Gt|Ge|And"
    "|Or|Not|ToFloat|TruncTo(Int|Float)|(Floor|Ceil|Round)ToInt|PowByNatural|FloatPow"
    "|ModularIndexing|Where|Identity|(int_)?oo|Symbol|Integer|Float|Rational|Add|Mul|Pow|Equality"
    "|Unequality|(Strict)?(Less|Greater)Than|True|False|positive|nonnegative|integer|real|precision"
)
"""Names that PyTorch writes into the sizes of dynamic axes, besides those of symbols."""

TOKEN = re.compile(
    r"\s+|\d+(\.\d+)?(e[+-]?\d+)?|[A-Za-z_]\w*|\*\*\d(?!\d|\s*\*\*)|\*(?!\*)|[-+/%(),<>=!&|~]"
    r"|'([a-z]{1,4}\d+|-?\d+(\.\d+)?)'"
)
SYMBOL = re.compile(r"[a-z]{1,4}\d+")
LARGEST_TEXT = 1 << 29
LARGEST_POWER, MOST_POWERS = 64, 4


def read_program(path: Path) -> io.BytesIO:
    """Return the content of a program's file, if reading it runs nothing.

    Raises:
        FormatError: it is no such file, is damaged, or holds what would be run.

    """
    try:
        content = path.read_bytes()
        _check(path, content)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, ValueError, LookupError, NotImplementedError, EOFError) as error:
        raise FormatError(f"{path}: is no program that torch.export.save wrote: {error}") from error
    except RecursionError:
        raise FormatError(f"{path}: is nested too deeply") from None
    return io.BytesIO(content)


def _check(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = _names(path, archive)
        if not any("/models/" in name for name in names):
            raise FormatError(
                f"{path}: holds no program; one of an older PyTorch has to be exported anew"
            )
        for name in names:
            if not MEMBERS.fullmatch(name):
                raise _unsafe(path, f"'{name}', which is no part of a plain program")
            if name.endswith(".json"):
                _check_text(path, name, archive)
            elif "/data/sample_inputs/" in name:
                _check_inputs(path, name, archive.read(name))
            elif "/data/constants/" in name and not name.rpartition("/")[2].startswith("tensor_"):
                raise _unsafe(path, f"'{name}', an object that is no tensor")


def _names(path: Path, archive: zipfile.ZipFile) -> list[str]:
    """Return what an archive holds, which PyTorch stores as it is."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise _unsafe(path, "two members of one name")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise FormatError(
                f"{path}: '{member.filename}' is compressed, which torch.export.save never does; "
                "export the program anew"
            )
    return names


def _unsafe(path: Path, what: str) -> FormatError:
    return FormatError(
        f"{path}: holds {what}; PyTorch would run code out of this file, so it was not loaded. "
        "If you trust it, load it yourself in a Python file, and give FILE.py:FUNCTION"
    )


def _check_inputs(path: Path, name: str, content: bytes) -> None:
    """Refuse example inputs that are more than tensors and numbers in plain containers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _names(path, archive)
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise _unsafe(path, f"'{name}', which unpickles objects that are no tensors") from error


def _check_text(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    if archive.getinfo(name).file_size > LARGEST_TEXT:
        raise FormatError(f"{path}: '{name}' is larger than any program")
    document = json.loads(archive.read(name))
    for key, value in _entries(document):
        if key == "use_pickle" and value is not False:
            raise _unsafe(path, f"a pickled object ('{name}')")
        if key in {"target", "as_operator"} and isinstance(value, str) and "." in value:
            _check_operator(path, value)
        if key == "as_custom_obj" and value is not None:
            raise _unsafe(path, "an object that is no tensor")
        if key == "expr_str":
            _check_expression(path, value)
        if key.endswith("spec") and isinstance(value, str) and "__enum__" in value:
            raise _unsafe(path, "an import of a Python module")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON
    """Yield every key with its value, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _check_operator(path: Path, target: str) -> None:
    head, _, name = target.partition(".")
    fine = (
        (OPERATORS.fullmatch(target) and not FORBIDDEN.search(target))
        or (head == "_operator" and name in PLAIN)
        or (head == "math" and name.isidentifier())
        or re.fullmatch(r"torch\.sym_[a-z_]+", target)
        or re.fullmatch(r"torch\._sym_[a-z_]+", target)
    )
    if not fine:
        raise _unsafe(path, f"a call of '{target[:80]}'")


def _check_expression(path: Path, text: object) -> None:
    """Refuse what is more than arithmetic of symbols: SymPy gives expressions to `eval`."""
    if not isinstance(text, str):
        raise _unsafe(path, "an expression that is no text")
    place, numbers = 0, [0]
    while place < len(text):
        found = TOKEN.match(text, place)
        word = found.group() if found else ""
        named = word[:1].isalpha() or word.startswith("_")
        if not found or (named and not FUNCTIONS.fullmatch(word) and not SYMBOL.fullmatch(word)):
            raise _unsafe(path, f"the expression '{text[:80]}'")
        numbers += [int(word)] if word.isdigit() else []
        place = found.end()
    powers = text.count("Pow")
    if powers > 1 or (powers and max(numbers) > LARGEST_POWER) or text.count("**") > MOST_POWERS:
        raise _unsafe(path, f"powers of powers: the expression '{text[:80]}'")
