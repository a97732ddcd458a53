"""Tables, the files of splits, and the settings of text tasks: read strictly, refused clearly."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.errors import InputError
from rebasin_hub.tasks import Options
from rebasin_hub.tasks.text import text_task
from rebasin_hub.tasks.text.sources import drawn, split_files
from rebasin_hub.tasks.text.tables import read_table

COLUMNS = {"sentence": ['He said "no".', "two\u2028lines", "ünï, cödé"], "label": ["0", "1", "0"]}


def write_table(path, columns, kind=str):
    """Write columns in the form that a path's ending says; numbers by `kind`."""
    rows = list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(dict(columns)), path)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(dict(zip(columns, row, strict=True))) for row in rows)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        quote = path.suffix == ".csv"
        cells = [
            mark.join('"' + str(c).replace('"', '""') + '"' if quote else str(c) for c in row)
            for row in rows
        ]
        path.write_text("\n".join([mark.join(columns), *cells]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_table_reads_the_same(tmp_path, ending) -> None:
    table = read_table(write_table(tmp_path / f"a.{ending}", COLUMNS))
    assert {name: list(cells) for name, cells in table.columns.items()} == COLUMNS
    assert len(table) == 3
    assert table.texts("sentence") == COLUMNS["sentence"]


def test_quoted_cells_keep_line_breaks_and_lines_are_counted(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufefftext,label\n"one\ntwo",0\n\nthree,1\n', encoding="utf-8")
    table = read_table(path)
    assert table.columns == {"text": ["one\ntwo", "three"], "label": ["0", "1"]}
    assert [table.place(row) for row in (0, 1)] == [f"{path}:2", f"{path}:5"]


def test_quotation_marks_of_a_tsv_quote_nothing(tmp_path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"Oh\t0\nfive " marks\t1\n', encoding="utf-8")
    assert read_table(path).columns["text"] == ['"Oh', 'five " marks']


BAD_TABLES = {
    "empty": ("a.csv", b"", r"a\.csv: is empty"),
    "head only": ("a.csv", b"text,label\n", r"a\.csv: has no rows"),
    "no rows": ("a.jsonl", b"\n\n", r"a\.jsonl: has no rows"),
    "cells": ("a.csv", b"text,label\na,b,1\n", r"a\.csv:2: has 3 cells, the head has 2"),
    "open quote": ("a.csv", b'text,label\n"a,1\n', r"a\.csv:2: cannot be read as a table"),
    "twice": ("a.tsv", b"text\ttext\na\tb\n", r"a\.tsv:1: names the column 'text' twice"),
    "bytes": ("a.csv", b"text\nM\xfcnchen\n", r"a\.csv: is not UTF-8: byte 0xfc at offset 6"),
    "json": ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a\.jsonl:2: is not valid JSON"),
    "array": ("a.jsonl", b'["a"]\n', r"a\.jsonl:1: expected an object, found list"),
    "deep": ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: is not valid JSON"),
    "parquet": ("a.parquet", b"PAR1 no more", r"a\.parquet: cannot be read as parquet"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_damaged_table_is_refused(tmp_path, case) -> None:
    name, content, message = BAD_TABLES[case]
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name)


BAD_CELLS = {
    "missing": ({"txt": "a"}, r"a\.jsonl: has no column 'text'; did you mean 'txt'\?; it has txt"),
    "null": ({"text": None}, r"a\.jsonl:1: column 'text': expected text, found nothing"),
    "number": ({"text": 7}, r"a\.jsonl:1: column 'text': expected text, found int 7"),
    "surrogate": ({"text": "\ud800"}, r"a\.jsonl:1: column 'text': holds half of a UTF-16 pair"),
}


@pytest.mark.parametrize("case", BAD_CELLS)
def test_a_cell_that_is_no_text_is_refused(tmp_path, case) -> None:
    row, message = BAD_CELLS[case]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(InputError, match=message):
        read_table(path).texts("text")


def test_a_key_that_one_row_lacks_is_named(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n\n{"label": 1}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:3: column 'text': expected text, found noth"):
        read_table(path).texts("text")


# The files of splits


def touch(folder, *names):
    for name in names:
        (folder / name).write_text("x")
    return folder


def names_of(found):
    return {split: [path.name for path in paths] for split, paths in found.items()}


def test_splits_are_files_by_name_with_the_test_first(tmp_path) -> None:
    touch(tmp_path, "train.txt", "test.txt", "valid.txt", "README.md", "notes.txt", "test.bin")
    found = names_of(split_files(tmp_path, None, plain=True))
    assert list(found.items()) == [
        ("test", ["test.txt"]),
        ("valid", ["valid.txt"]),
        ("train", ["train.txt"]),
    ]


def test_shards_of_a_split_are_joined_in_their_order(tmp_path) -> None:
    shards = [f"test-0000{n}-of-00002.parquet" for n in range(2)]
    touch(tmp_path, *shards[::-1], "validation_matched.parquet")
    found = names_of(split_files(tmp_path, None, plain=False))
    assert found == {"test": shards, "validation_matched": ["validation_matched.parquet"]}


def test_chosen_splits_come_in_the_chosen_order(tmp_path) -> None:
    touch(tmp_path, "train.csv", "test.csv", "dev.csv")
    assert list(split_files(tmp_path, ["train", "dev"], plain=False)) == ["train", "dev"]


BAD_FILES = {
    "ending": (["a.md"], "a.md", None, r"a\.md: ends with none of \.txt, \.csv, \.tsv"),
    "nothing": (["notes.txt"], "", None, r"holds no test, validation or train with the ending"),
    "two": (["test.csv", "test.txt"], "", None, r"the split 'test' in 2 files \(test\.csv, test"),
    "unknown": (["test.txt"], "", ["tset"], r"no split 'tset'; did you mean 'test'\?; it has test"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_make_no_split_are_refused(tmp_path, case) -> None:
    names, given_, wanted, message = BAD_FILES[case]
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        split_files(tmp_path / given_, wanted, plain=True)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_samples_are_drawn_without_repeats_in_their_order(available, limit, seed) -> None:
    rows = drawn(available, limit, seed)
    assert len(rows) == min(available, limit)
    assert (np.diff(rows) > 0).all()
    assert set(rows) <= set(range(available))
    assert np.array_equal(rows, drawn(available, limit, seed))


def test_another_seed_draws_others() -> None:
    assert not np.array_equal(drawn(1000, 10, 0), drawn(1000, 10, 1))


# Settings


BAD_SETTINGS = {
    "unknown": ({"contxt": 3}, r"setting 'contxt': is no setting .*; did you mean 'context'\?"),
    "zero": ({"context": 0}, r"--task text: setting 'context': expected a number above 0"),
    "bool": ({"stride": True}, r"'stride': expected a whole number"),
    "tokenizer": ({"tokenizer": 3}, r"'tokenizer': expected text"),
    "split": ({"split": []}, r"'split': is empty"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_a_wrong_setting_is_refused_before_the_data_is_read(tmp_path, case) -> None:
    values, message = BAD_SETTINGS[case]
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=message):
        text_task("text", Options(tmp_path / "a.txt", settings=values))


def test_a_wrong_setting_of_a_classification_is_refused(tmp_path) -> None:
    touch(tmp_path, "a.csv")
    with pytest.raises(InputError, match=r"setting 'labels\.yes': expected 0 or more"):
        text_task("glue", Options(tmp_path / "a.csv", settings={"labels": {"yes": -1}}))
    with pytest.raises(InputError, match=r"'columns': has more than 2 entries"):
        text_task("glue", Options(tmp_path / "a.csv", settings={"columns": ["a", "b", "c"]}))
    with pytest.raises(InputError, match=r"'bytes' is for --task text alone"):
        text_task("glue", Options(tmp_path / "a.csv", settings={"tokenizer": "bytes"}))


def test_a_task_without_data_says_what_it_needs(tmp_path) -> None:
    with pytest.raises(InputError, match=r"--task text needs data: give --data FILE\.txt"):
        text_task("text", Options())
    with pytest.raises(InputError, match=r"nowhere: is not there"):
        text_task("glue", Options(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"no text task 'txt'; did you mean 'text'\?"):
        text_task("txt", Options())


def test_reading_the_data_needs_no_torch(tmp_path) -> None:
    write_table(tmp_path / "a.csv", {"text": ["a"], "label": ["0"]})
    code = (
        "import sys; from pathlib import Path\n"
        "from rebasin_hub.tasks import Options; from rebasin_hub.tasks.text import text_task\n"
        "for name in ('text', 'glue'): text_task(name, Options(Path(sys.argv[1])))\n"
        "assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.csv")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


# What the rows of a table mean


def task_of(path, **settings):
    return text_task("glue", Options(path, settings=settings))


PAIRS = [
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
]


@pytest.mark.parametrize("names", [*PAIRS, ("sentence",), ("text",)])
def test_columns_of_glue_are_found(tmp_path, names) -> None:
    columns = {"idx": ["0"], **{name: [name] for name in names}, "label": ["1"]}
    task = task_of(write_table(tmp_path / "a.csv", columns))
    assert [sample.texts for sample in task._samples["test"]] == [names]


def test_columns_can_be_named(tmp_path) -> None:
    path = write_table(tmp_path / "a.csv", {"text": ["a"], "review": ["b"], "stars": ["5"]})
    task = task_of(path, columns="review", label="stars", labels={5: 1})
    (sample,) = task._samples["test"]
    assert (sample.texts, sample.label) == (("b",), "5")
    assert task.settings["labels"] == {"5": 1}


def test_digests_tell_texts_labels_and_the_drawn_rows_apart(tmp_path) -> None:
    def digest(columns, name="a.jsonl", **options):
        path = write_table(tmp_path / name, columns)
        return text_task("glue", Options(path, **options)).splits["test"].digest

    base = {"text": ["a", "b", "c"], "label": [0, 1, 0]}
    same = digest(base)
    assert digest(base, "b.jsonl") == same
    assert digest({"text": ["a", "b", "d"], "label": [0, 1, 0]}) != same
    assert digest({"text": ["a", "b", "c"], "label": [0, 1, 1]}) != same
    assert digest(base, limit=2) != same
    two = {"sentence1": ["ab"], "sentence2": ["c"], "label": [0]}
    assert digest(two) != digest({**two, "sentence1": ["a"], "sentence2": ["bc"]})


BAD_ROWS = {
    "no texts": ({"words": ["a"], "label": ["0"]}, {}, r"none of the columns .* it has words, la"),
    "no label": ({"text": ["a"], "stars": ["0"]}, {}, r"no column label or labels, only text, st"),
    "label": ({"text": ["a"], "label": ["0"]}, {"label": "lable"}, r"'lable'; did you mean 'lab"),
    "empty": ({"text": ["a"], "label": [""]}, {}, r":2: column 'label': .* name, found nothing"),
    "hidden": ({"text": ["a"], "label": ["-1"]}, {}, r"csv:2: column 'label': the label is -1, wh"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_without_texts_or_labels_are_refused(tmp_path, case) -> None:
    columns, settings, message = BAD_ROWS[case]
    with pytest.raises(InputError, match=message):
        task_of(write_table(tmp_path / "a.csv", columns), **settings)


@pytest.mark.parametrize("label", [2.5, 0.0])
def test_a_label_that_is_a_fraction_is_refused(tmp_path, label) -> None:
    path = write_table(tmp_path / "a.jsonl", {"text": ["a"], "label": [label]})
    with pytest.raises(InputError, match=rf"jsonl:1: column 'label': .* found float {label}"):
        task_of(path)


def test_a_test_split_without_labels_points_at_those_that_have_them(tmp_path) -> None:
    write_table(tmp_path / "test.jsonl", {"text": ["a"], "label": [-1]})
    write_table(tmp_path / "validation.jsonl", {"text": ["a"], "label": [1]})
    with pytest.raises(InputError, match=r"GLUE's test sets; .* 'split' \(validation\)"):
        task_of(tmp_path)
    assert list(task_of(tmp_path, split="validation").splits) == ["validation"]
