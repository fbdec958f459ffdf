"""A table as a value, and as Markdown, CSV, HTML and text for the terminal."""

import csv
import io
import itertools
from xml.etree import ElementTree

import pytest
from rich.console import Console

from supermask.errors import ConfigurationError
from supermask.report.tables import Table, TableCell, table_csv, table_html, table_markdown, terminal_table
from supermask.report.tables.table import TableColumn, TableRow

WHOLE = TableCell(
    text="84.8 ± 0.5",
    value=84.8,
    seeds=2,
    seed_sd=0.5,
    draw_sd=0.7,
    paper="91.3",
    paper_value=91.3,
    records=("mrpc/a.json", "mrpc/b.json"),
    strong=True,
)
MISSING = TableCell(paper="68.8", paper_value=68.8, missing=("rte/supermask-seed0",))
PARTIAL = TableCell(text="1.5", value=1.5, seeds=1, records=("x.json",), missing=("rte/supermask-seed1",))
TABLE = Table(
    name="table9",
    title="Table 9. Scores | zeros",
    corner="",
    columns=(TableColumn("mrpc", "MRPC", "F1"), TableColumn("rte", "RTE")),
    rows=(
        TableRow("sampled", "supermask <sampled>", (WHOLE, MISSING)),
        TableRow("zeros", "zeros", (PARTIAL, TableCell()), minor=True),
    ),
    notes=("A note | with a bar.",),
    missing=("supermask: RTE (seed 0)",),
    command="supermask study run table9",
)


def test_the_state_of_a_cell() -> None:
    assert [cell.state for cell in (WHOLE, MISSING, PARTIAL, TableCell())] == ["whole", "missing", "partial", "empty"]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="row 'zeros' has 1 cells for 2 columns"):
        Table(name="t", title="", corner="", columns=TABLE.columns, rows=(TableRow("zeros", "zeros", (WHOLE,)),))


def test_markdown() -> None:
    assert table_markdown(TABLE) == (
        "**Table 9. Scores \\| zeros**\n\n"
        "|  | MRPC, F1 | RTE |\n"
        "|:---|---:|---:|\n"
        "| supermask &lt;sampled> | **84.8 ± 0.5** (91.3) | *missing* (68.8) |\n"
        "| zeros | 1.5 |  |\n\n"
        "A note \\| with a bar.\n\n"
        "Missing: supermask: RTE (seed 0).\n"
    )


def test_csv_has_a_line_a_cell() -> None:
    lines = list(csv.DictReader(io.StringIO(table_csv(TABLE))))
    states = {(line["row"], line["column"]): line["state"] for line in lines}
    cells = itertools.product(("sampled", "zeros"), ("mrpc", "rte"))
    assert states == dict(zip(cells, ("whole", "missing", "partial", "empty"), strict=True))
    numbers = {"value": "84.8", "seeds": "2", "seed_sd": "0.5", "draw_sd": "0.7", "paper": "91.3"}
    assert numbers.items() <= lines[0].items() and lines[0]["records"] == "mrpc/a.json; mrpc/b.json"
    assert {"value": "", "paper": "68.8", "missing": "rte/supermask-seed0"}.items() <= lines[1].items()


def test_html_marks_headers_and_what_is_missing() -> None:
    # Well-formed as XML, but for the line break before an interval.
    element = ElementTree.fromstring(table_html(TABLE))
    heads = [(head.attrib["scope"], "".join(head.itertext())) for head in element.iter("th")]
    assert heads == [("col", ""), ("col", "MRPCF1"), ("col", "RTE"), ("row", "supermask <sampled>"), ("row", "zeros")]
    cells = [(cell.get("class"), "".join(cell.itertext())) for cell in element.iter("td")]
    texts = ((None, "84.8 ± 0.5paper: 91.3"), ("missing", "missingpaper: 68.8"), ("partial", "1.5"), (None, ""))
    assert cells == list(texts)
    told = ("missing: rte/supermask-seed0", "missing: rte/supermask-seed1")
    assert [cell.get("title") for cell in element.iter("td")] == [None, *told, None]


def test_html_escapes_what_could_be_markup() -> None:
    hostile = '"><script>alert(1)</script>'
    cell = TableCell(text=hostile, paper=hostile, missing=(hostile,))
    row = TableRow("r", hostile, (cell,))
    column = TableColumn("c", hostile, hostile)
    html = table_html(Table(name="t", title=hostile, corner=hostile, columns=(column,), rows=(row,)))
    assert "<script" not in html and html.count("&lt;script&gt;") == 8 and "&amp;" not in html  # once


def test_the_terminal_shows_both_numbers() -> None:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(terminal_table(TABLE))
    text = captured.get()
    assert "84.8 ± 0.5" in text and "(91.3)" in text and "missing" in text and "(68.8)" in text


def test_html_puts_an_interval_under_its_number_and_leaves_a_range_whole() -> None:
    cells = (TableCell(text="−0.3 [−0.8, +0.3]", value=-0.3), TableCell(text="[0.09, 0.62]"))
    table = Table(name="t", title="T", corner="", columns=TABLE.columns, rows=(TableRow("r", "r", cells),))
    assert "−0.3 <br>[−0.8, +0.3]" in table_html(table) and ">[0.09, 0.62]<" in table_html(table)
