import csv
import sys

import pytest

from supermask.errors import DataError, MissingDependencyError
from supermask.tasks.formats import read_csv, read_jsonl, read_parquet, read_table
from supermask.tasks.table import faults_of


def write(tmp_path, name: str, content: str | bytes):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_honours_quotes_commas_and_line_ends_inside_cells(tmp_path):
    content = '\ufefftext,label\r\n"one, two",1\r\n"she said ""no""\nand left",0\r\nlast\u2028one,1\r\n\r\n'
    table = read_csv(write(tmp_path, "a.csv", content), ["label", "text"])
    assert table.columns == {"label": ["1", "0", "1"], "text": ["one, two", 'she said "no"\nand left', "last\u2028one"]}
    # The third record begins on line 5 because the second one is two lines long.
    assert list(table.lines) == [2, 3, 5]


def test_csv_rows_of_another_width_are_told_by_the_line_they_begin_on(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"two\nlines",1\nunquoted, comma,0\n\nlast,1\n')
    with pytest.raises(DataError) as caught:
        read_csv(path, ["text"])
    assert faults_of(caught.value) == [
        f"{path}:4: 3 columns where the header has 2 (text, label); put cells that hold commas in quotes",
        f"{path}:5: 0 columns where the header has 2 (text, label); put cells that hold commas in quotes",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,label\n"never closed,1\nmore,0\n', r"a\.csv:2: not CSV \(unexpected end of data\); close every"),
        ('text,label\nok,1\n"a" b,1\n', r"a\.csv:3: not CSV .*double those inside"),
        ("text;label\na;1\n", r"a\.csv:1: the cells are separated by ';'; separate them by commas"),
        ("text\tlabel\na\t1\n", r"separated by '\\t'"),
        ("", r"a\.csv: empty, or the first line is; it should be a header naming text"),
        ("words,label\na,1\n", r"no column 'text'; the columns are: words, label"),
        ("text,text\na,1\n", r"the column 'text' stands 2 times"),
        ("\ntext,label\na,1\n", r"the first line is; it should be a header"),
        (b"text\ncaf\xe9\n", r"a\.csv: byte 0xe9 is not UTF-8"),
    ],
)
def test_malformed_csv_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_csv(write(tmp_path, "a.csv", content), ["text"])


def test_a_long_cell_is_read_and_the_limit_of_the_process_put_back(tmp_path):
    before = csv.field_size_limit()
    table = read_csv(write(tmp_path, "a.csv", f"text\n{'x' * 200_000}\n"), ["text"])
    assert len(table.columns["text"][0]) == 200_000
    with pytest.raises(DataError):
        read_csv(write(tmp_path, "b.csv", "other\n1\n"), ["text"])
    assert csv.field_size_limit() == before == 131_072


def test_jsonl_keeps_types_and_reads_by_key(tmp_path):
    path = write(tmp_path, "a.jsonl", '\ufeff{"t": "a\\u2028", "l": 1}\r\n{"l": true, "t": "b\u2028", "x": 0}\n\n')
    table = read_jsonl(path, ["t"], optional=["l", "x"])
    assert table.columns == {"t": ["a\u2028", "b\u2028"], "l": [1, True]}
    with pytest.raises(DataError, match=r"no column 'text'; did you mean 'texts'\? the columns are: texts, label"):
        read_jsonl(write(tmp_path, "b.jsonl", '{"texts": "a", "label": 1}\n'), ["text"])


def test_malformed_jsonl_tells_every_line(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"t": "a"}\n{"t": \n["a"]\n{"u": 1}\n"t"\n\n{"t": "z"}\n')
    with pytest.raises(DataError) as caught:
        read_jsonl(path, ["t"])
    faults = faults_of(caught.value)
    assert [fault.split(": ")[0] for fault in faults] == [f"{path}:{line}" for line in (2, 3, 4, 5, 6)]
    assert "not JSON" in faults[0] and "write one object a line" in faults[0]
    assert "a JSON list where an object" in faults[1]
    assert "no key 't'" in faults[2]


def test_parquet_is_read_by_column(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"t": ["a", None], "l": [1.5, 2.5], "x": [[0], [1]]}), path)
    table = read_parquet(path, ["t"], optional=["l", "m"])
    assert table.columns == {"t": ["a", None], "l": [1.5, 2.5]}
    assert table.where(1) == f"{path}, row 2"
    with pytest.raises(DataError, match=r"no column 'text'; .*the columns are: t, l, x"):
        read_parquet(path, ["text"])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_parquet(write(tmp_path, "b.parquet", "text\n"), ["text"])


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"supermask\[parquet\]"):
        read_parquet(tmp_path / "a.parquet", ["t"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", r"should end in one of \.csv, \.tsv, \.jsonl, \.ndjson, \.parquet"),
        ("a.json", r"one JSON object a line is \.jsonl"),
        ("a.csv", "does not exist"),
        ("folder.csv", "is not a file"),
    ],
)
def test_what_is_no_data_file_is_refused(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name, ["t"])


@pytest.mark.parametrize(("name", "content"), [("a.csv", "t\n"), ("a.tsv", "t\n"), ("a.jsonl", "\n"), ("a.jsonl", "")])
def test_a_file_without_rows_is_refused(tmp_path, name, content):
    with pytest.raises(DataError, match="the file has no rows"):
        read_table(write(tmp_path, name, content), ["t"])
