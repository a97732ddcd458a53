"""Tables in csv, tsv, jsonl and parquet files, and text that must be UTF-8."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.spec.check import nearest

__all__ = ["ENDINGS", "Table", "read_bytes", "read_table", "read_text", "utf8"]

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Table:
    """Named columns of equal length; `lines` are those of the file (1-based), empty if it has none.

    Cells of csv and tsv are strings, those of jsonl and parquet what they are there; None where
    there is nothing.
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """Return where a row (from 0) is, for messages."""
        return f"{self.path}:{self.lines[row]}" if self.lines else f"{self.path} row {row + 1}"

    def require(self, name: str) -> Sequence[Any]:
        """Return a column.

        Raises:
            InputError: there is none of that name.

        """
        if name not in self.columns:
            raise InputError(
                f"{self.path}: has no column '{name}'{nearest(name, self.columns)}; it has "
                f"{', '.join(self.columns)}"
            )
        return self.columns[name]

    def texts(self, name: str) -> list[str]:
        """Return a column of texts.

        Raises:
            InputError: there is none of that name, or a cell is no text.

        """
        column = self.require(name)
        for row, cell in enumerate(column):
            if not isinstance(cell, str):
                raise InputError(
                    f"{self.place(row)}: column '{name}': expected text, found {_what(cell)}"
                )
            if not cell.isascii() and any("\ud800" <= letter <= "\udfff" for letter in cell):
                raise InputError(
                    f"{self.place(row)}: column '{name}': holds half of a UTF-16 pair, which is "
                    "no character; correct it"
                )
        return list(column)


def _what(cell: object) -> str:
    return "nothing" if cell is None else f"{type(cell).__name__} {cell!r:.40}"


def read_table(path: Path) -> Table:
    """Read a table by its ending.

    Raises:
        InputError: it cannot be read, is damaged, or has no rows.
        MissingExtraError: pyarrow, which reads parquet, is not installed.

    """
    table = _READERS[path.suffix.lower()](path)
    if not len(table):
        raise InputError(f"{path}: has no rows; give a table with some")
    return table


def read_bytes(path: Path) -> bytes:
    """Read a whole file; an InputError says why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """Read a file as UTF-8, without a byte order mark.

    Raises:
        InputError: it cannot be read, or is not UTF-8.

    """
    return utf8(read_bytes(path), path)


def utf8(content: bytes, path: Path) -> str:
    """Decode a file's bytes; an InputError says where they are not UTF-8."""
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not UTF-8: byte {content[error.start]:#04x} at offset {error.start}; "
            "convert it (iconv -t utf-8)"
        ) from None


def _csv(path: Path) -> Table:
    return _separated(path, delimiter=",", quoted=True)


def _tsv(path: Path) -> Table:
    # GLUE's files have sentences with single quotation marks, which quote nothing.
    return _separated(path, delimiter="\t", quoted=False)


def _separated(path: Path, *, delimiter: str, quoted: bool) -> Table:
    text = io.StringIO(read_text(path), newline="")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    rows, lines, end = [], [], 0
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(end + 1)
            end = reader.line_num
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: cannot be read as a table: {error}") from None
    if not rows:
        raise InputError(f"{path}: is empty; expected a line with the names of the columns")
    head, *body = rows
    if len(set(head)) < len(head):
        twice = next(name for name in head if head.count(name) > 1)
        raise InputError(f"{path}:{lines[0]}: names the column '{twice}' twice; rename one")
    for row, line in zip(body, lines[1:], strict=True):
        if len(row) != len(head):
            raise InputError(
                f"{path}:{line}: has {len(row)} cells, the head has {len(head)} "
                f"({', '.join(head)}); quote cells that hold the delimiter"
            )
    columns = {name: [row[number] for row in body] for number, name in enumerate(head)}
    return Table(path, columns, lines[1:])


def _jsonl(path: Path) -> Table:
    rows, lines = [], []
    # Not splitlines(): JSON may hold U+2028 and its like within a string.
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{line}: is not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{line}: expected an object, found {type(row).__name__}")
        rows.append(row)
        lines.append(line)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(path, {name: [row.get(name) for row in rows] for name in names}, lines)


def _parquet(path: Path) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise MissingExtraError("reading parquet files", "data") from None
    content = io.BytesIO(read_bytes(path))
    try:
        table = pq.read_table(content)
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read as parquet: {reason}") from None
    return Table(path, columns, ())


_READERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}
