"""`supermask study table`, `figure` and `report`: what the records of a study show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from supermask.cli.options import AsJson, argument, option
from supermask.cli.printing import answer, note, print_lines, show, shown_bytes
from supermask.cli.study_options import ALL, Base, Results, Seeds, Tasks, chosen_studies
from supermask.cli.study_status import warn_of_skipped

if TYPE_CHECKING:
    from supermask.report.tables import Table
    from supermask.study import RecordStore, Study

__all__ = ["FIGURE_EXAMPLES", "REPORT_EXAMPLES", "TABLE_EXAMPLES", "figure", "report", "table"]

TABLE_EXAMPLES = (
    "supermask study table table5",
    "supermask study table table3 --format markdown",
    "supermask study table all --format csv --output tables",
)
FIGURE_EXAMPLES = (
    "supermask study figure figure7 --output figures",
    "supermask study figure all --results results/minilm-l6 --output figures",
)
REPORT_EXAMPLES = (
    "supermask study report --output report.html",
    "supermask study report --results results/minilm-l6 --tasks mrpc,rte",
)

Format = Literal["text", "markdown", "csv", "html"]
_ENDINGS: dict[str, str] = {"text": "txt", "markdown": "md", "csv": "csv", "html": "html"}
_StudyOrAll = Annotated[
    str, argument("STUDY", "Name of a study (`supermask study list`), all of the kind, or a YAML file of your own.")
]


def table(
    study: _StudyOrAll,
    base: Base = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    results: Results = None,
    kind: Annotated[Format, option(None, None, "How to write it.", name="--format")] = "text",
    output: Annotated[
        Path | None, option(None, "PATH", "File to write; with all, a folder. \\[default: standard output]")
    ] = None,
) -> None:
    """Show a study as a table: our numbers, and the paper's in parentheses.

    What is missing says so. A figure's study can be shown, too: a row an arm.
    """
    from supermask.report.results import collect
    from supermask.report.tables import study_table

    studies, store = _studies_and_records(study, "table", base, tasks, seeds, results)
    made = [study_table(collect(one, store, more_seeds=seeds is None)) for one in studies]
    if output is None:
        for one in made:
            _print_table(one, kind)
        return
    from supermask.atomic import write_atomically

    several = study == ALL
    for one in made:
        path = output / f"{one.name}.{_ENDINGS[kind]}" if several else output
        write_atomically(path, (_as_text(one, kind).rstrip("\n") + "\n").encode())
        note(f"{path}: {_gaps(len(one.missing))}")
    print_lines([str(output)])


def figure(
    study: _StudyOrAll,
    output: Annotated[Path, option(None, "DIR", "Folder to write to.")] = Path("figures"),
    base: Base = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Draw a study's figure: SVG, PNG, and what is plotted as CSV.

    One column wide (3.3 inches). The same records give the same files.
    """
    from supermask.report.figures import study_figure, write_study_figure
    from supermask.report.results import collect

    studies, store = _studies_and_records(study, "figure", base, tasks, seeds, results)
    written: list[Path] = []
    for one in studies:
        drawn = study_figure(collect(one, store, more_seeds=seeds is None))
        written += write_study_figure(drawn, output)
        note(f"{drawn.title}: {_gaps(len(drawn.missing))}")
        for missing in drawn.missing:
            note(f"  missing: {missing}")
    files = [str(path) for path in written]
    answer({"files": files}, files, as_json=as_json)


def report(
    output: Annotated[Path, option(None, "FILE", "Page to write.")] = Path("report.html"),
    study: Annotated[str, option(None, "STUDY", "Only this study.")] = ALL,
    base: Base = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Write everything on one HTML page, from records alone.

    What was run on what, all tables and figures, where they agree with the
    paper and where not, and what is missing. The page loads nothing else.
    """
    from supermask.report import write_report

    studies, store = _studies_and_records(study, None, base, tasks, seeds, results)
    warn_of_skipped(store)
    size = write_report(studies, store, output, more_seeds=seeds is None)
    document = {"report": str(output), "bytes": size, "records": len(store.records)}
    told = [f"{output}: {shown_bytes(size)}, from {len(store.records)} records in {store.folder}"]
    answer(document, told, as_json=as_json)


def _studies_and_records(
    name: str, shows: str | None, base: str | None, tasks: str | None, seeds: str | None, results: Path | None
) -> tuple[list[Study], RecordStore]:
    """The studies that are meant, on the base that the records are of if no other is named, and the records."""
    from supermask.errors import ConfigurationError
    from supermask.study import RecordStore, overridden

    studies, folder = chosen_studies(name, base=base, tasks=tasks, seeds=seeds, results=results)
    if name == ALL and shows is not None:
        studies = [study for study in studies if study.shows == shows]
    store = RecordStore(folder)
    if not store.records:
        raise ConfigurationError(
            f"{store.folder} holds no records; `supermask study run` makes them; --results names another folder"
        )
    bases = sorted({stored.record.inputs.base.name or "" for stored in store.records})
    if base is None and studies[0].base not in bases:
        if len(bases) > 1:
            raise ConfigurationError(
                f"{store.folder} has records of several bases; name one by --base: {', '.join(bases)}"
            )
        studies = [overridden(study, base=bases[0]) for study in studies]
    return studies, store


def _print_table(made: Table, kind: Format) -> None:
    from supermask.report.tables import terminal_table

    if kind != "text":
        print_lines(_as_text(made, kind).splitlines())
        return
    print_lines([made.title])
    show(terminal_table(made))
    print_lines([*made.notes, *_absent(made), ""])


def _as_text(made: Table, kind: Format) -> str:
    from supermask.report.tables import table_csv, table_html, table_markdown, terminal_table

    if kind == "markdown":
        return table_markdown(made)
    if kind == "csv":
        return table_csv(made)
    if kind == "html":
        return table_html(made)
    from rich.console import Console

    console = Console(width=10_000, force_terminal=False, no_color=True, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(terminal_table(made))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([made.title, *lines, *made.notes, *_absent(made)])


def _absent(made: Table) -> list[str]:
    return [f"Missing: {'; '.join(made.missing)}. Make them: {made.command}"] if made.missing else []


def _gaps(count: int) -> str:
    return "everything is recorded" if not count else "something is missing"
