import json

import pytest

from supermask.errors import DataError
from supermask.tasks.table import faults_of
from supermask.tasks.tsv import read_tsv, tsv_line


def write(tmp_path, content: str, name: str = "x.tsv"):
    path = tmp_path / name
    path.write_bytes(content.encode())
    return path


def test_columns_are_read_by_name_and_quotes_stay(tmp_path):
    path = write(tmp_path, 'id\ta\tb\r\n1\t"open\tshe said ""no""\r\n2\t\' x \t"\r\n')
    table = read_tsv(path, ["b", "a"], optional=["id", "nothing"])
    assert table.columns == {"b": ['she said ""no""', '"'], "a": ['"open', "' x "], "id": ["1", "2"]}
    assert list(table.lines) == [2, 3]


def test_rows_of_another_width_are_faults_with_line_and_counts(tmp_path):
    path = write(tmp_path, "a\tb\n1\t2\n3\n4\t5\t6\n\n7\t8\n\n\n")  # a blank line in the middle is one, too
    with pytest.raises(DataError) as caught:
        read_tsv(path, ["a"])
    assert faults_of(caught.value) == [
        f"{path}:{line} where the header has 2 (a, b); repair the row or take it out"
        for line in ("3: 1 column", "4: 3 columns", "5: 1 column")
    ]


@pytest.mark.parametrize(
    ("content", "header", "message"),
    [
        ("", None, r"x\.tsv: the file is empty; it should begin with a header line naming a"),
        ("\n\n", None, r"x\.tsv: the file is empty"),
        ("a\tb\n", None, r"x\.tsv: the file has no rows"),
        ("", ("a", "b"), r"x\.tsv: the file has no rows; .* a, b"),
        ("\n", ("a", "b"), r"x\.tsv: the file has no rows"),
        ("b\tc\n1\t2\n", None, r"no column 'a'; the columns are: b, c"),
        ("a\ta\n1\t2\n", None, r"the column 'a' stands 2 times"),
    ],
)
def test_files_without_content_or_column_are_refused(tmp_path, content, header, message):
    with pytest.raises(DataError, match=message):
        read_tsv(write(tmp_path, content), ["a"], header=header)


def test_no_cell_forges_a_row_or_a_column(tmp_path):
    cells = ["plain", "a\tb", "a\nb\r\nc", "\u2028\x85\x0b", "back\\slash", "\x1b[2J", "grün \U0001f600", "\ud800"]
    line = tsv_line(cells)
    assert line.count("\t") == len(cells) - 1 and line.replace("\t", "").isprintable()
    read = [json.loads('"' + cell.replace('"', '\\"') + '"') for cell in line.split("\t")]
    assert read == cells
    assert tsv_line(["plain", "grün"]) == "plain\tgrün"
