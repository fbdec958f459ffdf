"""The report: its structure, that it stands alone, and that nothing which is missing or failed is silent."""

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from supermask.report import report_html, write_report
from supermask.report.tables import study_table
from supermask.study import RecordStore, load_study, overridden, study_names
from tiny_records import fill, results_of, tiny_record

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A page's elements; complains about those that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self.open), data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for path, text in self.texts if not {"style", "script"} & set(path))


# Figures take most of the time, so two stand for the nine; `slow` makes the page with all.
SHOWN = [name for name in study_names() if not name.startswith("figure") or name in ("figure7", "figure9")]


@pytest.fixture(scope="module")
def content(recorded: Path) -> str:
    return report_html([load_study(name) for name in SHOWN], RecordStore(recorded))


@pytest.fixture(scope="module")
def page(content: str) -> Page:
    return Page(content)


def test_the_page_is_well_formed_and_its_headings_in_order(content: str, page: Page) -> None:
    assert content.startswith('<!doctype html>\n<html lang="en">')
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    targets = [str(attributes["href"]).removeprefix("#") for attributes in page.all("a")]
    assert targets and set(targets) <= set(identifiers)
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_page_loads_nothing(content: str, page: Page) -> None:
    assert not page.all("link") and not page.all("img") and not page.all("iframe")
    for name, attributes in page.elements:
        assert not attributes.get("src"), name
        assert str(attributes.get("href") or "#").startswith("#"), attributes
    assert "@import" not in content and "url(http" not in content and "http://" not in content


def test_every_study_has_its_place_with_records_and_commands(page: Page, recorded: Path) -> None:
    assert [attributes["id"] for attributes in page.all("article")] == sections(SHOWN)
    svgs = [str(attributes["aria-label"]) for attributes in page.all("svg")]
    assert len(svgs) == 2 and all(label.startswith("Figure ") for label in svgs)
    for path in recorded.glob("mrpc/*-seed?.json"):
        if "pruning" not in path.name:  # Figure 8's
            assert path.relative_to(recorded).as_posix() in page.text
    assert "supermask study run table5 --tasks mrpc --seeds 0" in page.text
    assert "supermask study run all" in page.text


def sections(names: list[str]) -> list[str]:
    """In the order of the page: tables, figures, our own."""
    kinds = [(study.paper == "ours", study.shows == "figure", study.name) for study in map(load_study, names)]
    return [name for _, _, name in sorted(kinds, key=lambda kind: kind[:2])]


@pytest.mark.slow
def test_all_studies_are_on_one_page(recorded: Path) -> None:
    page = Page(report_html([load_study(name) for name in study_names()], RecordStore(recorded)))
    assert [attributes["id"] for attributes in page.all("article")] == sections(list(study_names()))
    assert len(page.all("svg")) == 9


def test_what_is_missing_stands_in_the_tables_and_below_them(content: str, page: Page) -> None:
    table5 = content[content.index('<article id="table5"') : content.index('<article id="table6"')]
    assert len(re.findall(r'<td class="missing"', table5)) >= 9
    assert "full, full-lr1e-4, supermask: QNLI (seed 0)" in table5
    assert "supermask-init90: QNLI, RTE (seed 0)" in page.text
    assert "subset of 392,702" in page.text and "No run failed" in page.text


def test_numbers_stand_on_the_page_as_in_the_tables(content: str, recorded: Path) -> None:
    for name in ("table2", "table5"):
        for _, _, cell in study_table(results_of(name, recorded)).placed():
            assert not cell.text or f">{cell.text}<" in content, cell.text
            assert not cell.paper or f"</span>{cell.paper}</span>" in content, cell.paper


def test_the_same_records_give_the_same_page(recorded: Path, tmp_path: Path) -> None:
    few = [load_study(name) for name in ("table5", "figure9")]
    path = tmp_path / "new" / "report.html"
    size = write_report(few, RecordStore(recorded), path)
    content = report_html(few, RecordStore(recorded)).encode()
    assert path.read_bytes() == content and size == len(content)


def test_failures_and_files_that_are_no_records_are_told(tmp_path: Path) -> None:
    folder, study, failing = tmp_path / "minilm-l6", load_study("table6"), "supermask-lr2e-02"
    fill(folder, [study], change=lambda run, one: tiny_record(run, status="failed") if run.arm == failing else one)
    (folder / "mrpc" / "broken.json").write_text("{<b>")
    page = Page(report_html([study], RecordStore(folder)))
    assert "the loss is not finite" in page.text and "mrpc/supermask-lr2e-02-seed0.json" in page.text
    assert "mrpc/broken.json" in page.text
    assert "supermask-lr2e-02: MRPC (seed 0)" in page.text


def hostile(run: Any, record: Any) -> Any:
    base = record.inputs.base.model_copy(update={"revision": "<script>alert(1)</script>"})
    data = {split: info.model_copy(update={"source": "a</td><b>&"}) for split, info in record.inputs.data.items()}
    environment = record.environment.model_copy(update={"device": '"><img src=http://x>'})
    inputs = record.inputs.model_copy(update={"base": base, "data": data})
    return record.model_copy(update={"inputs": inputs, "environment": environment})


def test_text_from_records_cannot_become_markup(tmp_path: Path) -> None:
    study = load_study("table6")
    fill(tmp_path / "minilm-l6", [study], change=hostile)
    page = Page(report_html([study], RecordStore(tmp_path / "minilm-l6")))
    assert len(page.all("script")) == 1 and not page.all("img") and not page.all("b")
    assert "<script>alert(1)</script>" in page.text and "a</td><b>&" in page.text


def test_no_records_at_all(tmp_path: Path) -> None:
    few = [load_study(name) for name in ("table1", "table3", "table5", "figure4", "figure7")]
    page = Page(report_html(few, RecordStore(tmp_path / "minilm-l6")))
    assert "0 of " in page.text and "Every number on this page comes from 0 of the 0 records" in page.text
    verdicts = [str(attributes["class"]) for attributes in page.all("span") if "chip" in str(attributes.get("class"))]
    # Table 1 alone is computed; all other claims are open.
    assert verdicts.count("chip agrees") == 3 and set(verdicts) == {"chip agrees", "chip open", "chip ours"}


def test_only_the_seeds_that_are_asked_for(recorded: Path) -> None:
    study = overridden(load_study("table3"), seeds=[1])
    text = Page(report_html([study], RecordStore(recorded), more_seeds=False)).text
    assert "mrpc/full-seed1.json" in text and "mrpc/full-seed0.json" not in text


def test_commands_name_base_and_folder_where_they_are_not_the_usual(tmp_path: Path) -> None:
    study = overridden(load_study("table6"), base="my-bert")
    usual = report_html([study], RecordStore(tmp_path / "my-bert"))
    assert "supermask study run table6 --base my-bert</code>" in usual
    other = report_html([study], RecordStore(tmp_path / "elsewhere"))
    assert f"supermask study run table6 --base my-bert --results {tmp_path / 'elsewhere'}</code>" in other
