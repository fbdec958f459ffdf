import pytest

from supermask.errors import DataError
from supermask.tasks.table import Table, absent_columns, faults_of, numbered_lines, refuse


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("a\u2028b\r\nc\x85d\x0be\x1cf\rg\n\nlast", ["a\u2028b", "c\x85d\x0be\x1cf\rg", "", "last"]),
        ("\ufeffa\n\ufeffb\n", ["a", "\ufeffb"]),  # the byte order mark goes from the first line alone
        ("a\nb\n\r\n\n", ["a", "b"]),  # blank lines at the end are dropped
    ],
)
def test_only_line_feeds_end_lines(tmp_path, content, lines):
    path = tmp_path / "odd.tsv"
    path.write_bytes(content.encode())
    assert list(numbered_lines(path)) == list(enumerate(lines, start=1))


def test_a_file_of_another_encoding_or_none_is_refused_with_line_and_remedy(tmp_path):
    path = tmp_path / "latin.tsv"
    path.write_bytes("ok\ncaf\u00e9 noir\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.tsv:2: byte 0xe9 \(byte 4 of the line\) is not UTF-8; save the file"):
        list(numbered_lines(path))
    with pytest.raises(DataError, match="cannot read"):
        list(numbered_lines(tmp_path / "none.tsv"))


def test_one_fault_is_one_line_and_many_are_told_together():
    with pytest.raises(DataError) as one:
        refuse(["only this"])
    assert str(one.value) == "only this"
    assert faults_of(one.value) == ["only this"]
    with pytest.raises(DataError) as many:
        refuse([f"fault {i}" for i in range(20)])
    assert str(many.value).splitlines()[0] == "20 faults in the data:"
    assert faults_of(many.value) == [*(f"fault {i}" for i in range(8)), "... and 12 more"]


def test_absent_columns_name_what_exists_and_a_row_is_told_by_line_or_by_number(tmp_path):
    path = tmp_path / "a.csv"
    (fault,) = absent_columns(path, ["text", "labl"], ["text", "label"])
    assert fault == f"{path}: no column 'label'; did you mean 'labl'? the columns are: text, labl"
    (fault,) = absent_columns(path, ["text", "text"], ["text"])
    assert "2 times" in fault
    assert Table(path, {"x": ["1", "2"]}, [2, 5]).where(1) == f"{path}:5"
    assert Table(path, {"x": ["1", "2"]}, None).where(1) == f"{path}, row 2"
