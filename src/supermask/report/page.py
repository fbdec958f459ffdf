"""The report: one page, self-contained, from records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from supermask.analysis import noise_floor
from supermask.atomic import write_atomically
from supermask.errors import MissingDependencyError
from supermask.report.content import (
    RunRow,
    coverage,
    data_rows,
    environment_rows,
    failure_rows,
    run_command,
    run_rows,
    summary,
)
from supermask.report.figures.figure_value import points_csv
from supermask.report.figures.files import figure_bytes
from supermask.report.figures.study_figures import study_figure
from supermask.report.inline_svg import inline_svg
from supermask.report.reading import Finding, read_results
from supermask.report.results import StudyResults, collect
from supermask.report.tables import study_table, table_html
from supermask.study.records import RecordStore
from supermask.study.spec import Study

__all__ = ["Section", "report_html", "write_report"]

_FIGURE_PIXELS = 460


@final
@dataclass(frozen=True, kw_only=True)
class Section:
    """One study on the page.

    Args:
        study: what it is.
        results: what is recorded.
        body: the table or the figure, HTML.
        kind: which of the two.
        caption: how to read a figure.
        notes: what stands below.
        missing: what is not there, in words.
        points: what a figure plots, as CSV.
        findings: what its records say.
        runs: every run, with its record and command.
        command: what makes all of them.
    """

    study: Study
    results: StudyResults
    body: str
    kind: str
    caption: str
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    points: str
    findings: tuple[Finding, ...]
    runs: tuple[RunRow, ...]
    command: str

    @property
    def recorded(self) -> int:
        """How many runs are recorded."""
        return sum(run.path is not None for run in self.runs)


def report_html(
    studies: Sequence[Study],
    store: RecordStore,
    *,
    more_seeds: bool = True,
    progress: Callable[[str], None] = lambda name: None,
) -> str:
    """The page: what was run, on what, all tables and figures, and a plain reading of where they agree with the paper.

    Nothing is loaded from elsewhere: styles and figures are in the page. The same records give the same page.

    Args:
        studies: in the order in which they stand on the page, overridden as they may be.
        store: the records.
        more_seeds: also take recorded seeds that the studies do not ask for.
        progress: is told the name of each study that is drawn.

    Raises:
        MissingDependencyError: if jinja2 or matplotlib is not installed.
        DataError: if measures cannot be read.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingDependencyError("the report needs jinja2; install it: pip install 'supermask[study]'") from None
    results = {study.name: collect(study, store, more_seeds=more_seeds) for study in studies}
    findings = read_results(results)
    sections = []
    for study in studies:
        progress(study.name)
        sections.append(_section(results[study.name], findings, store))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("supermask.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = _tight
    bases = _bases(results)
    return environment.get_template("page.html").render(
        title=f"The paper, reproduced on {', '.join(bases) or studies[0].base}",
        bases=bases,
        folder=store.folder.as_posix(),
        summary=summary(results, findings),
        findings=findings,
        sections=sections,
        coverage=coverage(results),
        data=data_rows(results),
        environments=environment_rows(results),
        failures=failure_rows(store),
        floor=f"{100 * noise_floor():.3f}",
        record_count=len(store.records),
        titles={study.name: _short_title(study) for study in studies},
        everything=run_command(studies[0], store).replace(f" {studies[0].name}", " all", 1),
    )


def write_report(
    studies: Sequence[Study],
    store: RecordStore,
    path: Path,
    *,
    more_seeds: bool = True,
    progress: Callable[[str], None] = lambda name: None,
) -> int:
    """Write the page, whole or not at all.

    Args:
        studies: in the order in which they stand on the page.
        store: the records.
        path: where to.
        more_seeds: also take recorded seeds that the studies do not ask for.
        progress: is told the name of each study that is drawn.

    Returns:
        Its size in bytes.

    Raises:
        MissingDependencyError: if jinja2 or matplotlib is not installed.
        OutputError: if it cannot be written.
    """
    content = report_html(studies, store, more_seeds=more_seeds, progress=progress).encode()
    write_atomically(path, content)
    return len(content)


def _short_title(study: Study) -> str:
    """What a link to a study says; `Table 5` stays on one line."""
    return study.title if study.paper == "ours" else study.paper.replace(" ", "\u00a0")


def _tight(text: str) -> str:
    """Text in which a percent sign stays with its number, wherever the line breaks."""
    return text.replace(" %", "\u00a0%")


def _section(results: StudyResults, findings: Sequence[Finding], store: RecordStore) -> Section:
    study = results.study
    shared = {
        "study": study,
        "results": results,
        "findings": tuple(finding for finding in findings if finding.study == study.name),
        "runs": run_rows(results, store),
        "command": run_command(study, store),
    }
    if study.shows == "table":
        table = study_table(results)
        return Section(
            **shared,  # type: ignore[arg-type]
            kind="table",
            body=table_html(table),
            caption="",
            notes=table.notes,
            missing=table.absent,
            points="",
        )
    figure = study_figure(results)
    svg = figure_bytes(figure.draw(), "svg", transparent=True)
    return Section(
        **shared,  # type: ignore[arg-type]
        kind="figure",
        body=inline_svg(svg, name=study.name, alt=f"{figure.title}. {figure.alt}", width_pixels=_FIGURE_PIXELS),
        caption=figure.caption,
        notes=figure.notes,
        missing=figure.missing,
        points=points_csv(figure.points),
    )


def _bases(results: Mapping[str, StudyResults]) -> dict[str, dict[str, object]]:
    """The bases of the recorded runs by name: architecture, fingerprint, parameters, revision."""
    found: dict[str, dict[str, object]] = {}
    for study in results.values():
        for cell in study.cells:
            if cell.record is not None:
                base = cell.record.inputs.base
                found.setdefault(base.name or base.fingerprint[:12], base.model_dump())
    return found
