"""The report: one page, self-contained, from records alone."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from supermask.analysis import noise_floor
from supermask.atomic import write_atomically
from supermask.methods import METHODS
from supermask.report.drawing import figure_bytes
from supermask.report.figures import points_csv, study_figure
from supermask.report.html import inline_svg, templates
from supermask.report.reading import Finding, read_results
from supermask.report.results import Cell, StudyResults, collect
from supermask.report.tables import study_table
from supermask.report.wording import display_name, number_ranges
from supermask.study.expansion import RunSpec
from supermask.study.records import RecordStore, default_results
from supermask.study.spec import Study
from supermask.tasks import find_task
from supermask.training import RunRecord
from supermask.training.record import BaseInfo

__all__ = ["report_html", "write_report"]

_FIGURE_PIXELS = 460


def report_html(studies: Sequence[Study], store: RecordStore, *, more_seeds: bool = True) -> str:
    """The page: what was run, on what, all tables and figures, and where they agree with the paper; it loads nothing.

    Args:
        studies: in the order in which they stand on the page, overridden as they may be.
        store: the records.
        more_seeds: also take recorded seeds that the studies do not ask for.

    Raises:
        MissingDependencyError: if jinja2 or matplotlib is not installed.
        DataError: if measures cannot be read.
    """
    page = templates().get_template("page.html")
    results = {study.name: collect(study, store, more_seeds=more_seeds) for study in studies}
    findings = read_results(results)
    cells = _distinct(results)
    records = [cell.record for cell in cells if cell.record is not None]
    bases: dict[str, BaseInfo] = {}
    for base in (record.inputs.base for record in records):
        bases.setdefault(base.name or base.fingerprint[:12], base)
    return page.render(
        title=f"The paper, reproduced on {', '.join(bases) or studies[0].base}",
        bases=bases,
        folder=store.folder.as_posix(),
        summary=_summary(cells, records, findings),
        findings=findings,
        sections=[_section(results[study.name], findings, store) for study in studies],
        coverage=_coverage(cells),
        data=_data(records),
        environments=_environments(records),
        failures=list(_failures(store)),
        floor=f"{100 * noise_floor():.3f}",
        record_count=len(store.records),
        # `Table 5` stays on one line.
        titles={s.name: s.title if s.paper == "ours" else s.paper.replace(" ", "\u00a0") for s in studies},
        everything=_command(studies[0], store).replace(f" {studies[0].name}", " all", 1),
    )


def write_report(studies: Sequence[Study], store: RecordStore, path: Path, *, more_seeds: bool = True) -> int:
    """Write the page of `report_html`, whole or not at all, and tell its size in bytes.

    Raises:
        MissingDependencyError: if jinja2 or matplotlib is not installed.
        OutputError: if it cannot be written.
    """
    content = report_html(studies, store, more_seeds=more_seeds).encode()
    write_atomically(path, content)
    return len(content)


def _section(results: StudyResults, findings: Sequence[Finding], store: RecordStore) -> dict[str, Any]:
    study = results.study
    section: dict[str, Any] = {
        "study": study,
        "findings": [finding for finding in findings if finding.study == study.name],
        "runs": [_run(cell, results, store) for cell in results.cells],
        "recorded": len(results.paths),
        "command": _command(study, store),
    }
    if study.shows == "table":
        return {**section, "shown": study_table(results), "points": ""}
    figure = study_figure(results)
    svg = figure_bytes(figure.draw(), "svg", transparent=True)
    drawing = inline_svg(svg, name=study.name, alt=f"{figure.title}. {figure.alt}", width_pixels=_FIGURE_PIXELS)
    return {**section, "shown": figure, "drawing": drawing, "points": points_csv(figure.points)}


def _run(cell: Cell, results: StudyResults, store: RecordStore) -> dict[str, Any]:
    return {
        "arm": results.study.arm(cell.spec.arm).label,
        "task": display_name(cell.spec.task),
        "seed": cell.spec.seed,
        "path": cell.path,
        "measured": cell.measures is not None,
        "score": "" if cell.record is None else _score(cell.record),
        "command": _command(results.study, store, f"--tasks {cell.spec.task}", f"--seeds {cell.spec.seed}"),
    }


def _score(record: RunRecord) -> str:
    task = find_task(record.inputs.task)
    for split in task.report_splits:
        if task.primary_metric in record.scores.get(split, {}):
            text = f"{100 * record.scores[split][task.primary_metric]:.1f}"
            spread = record.sampled_scores.get(split, {}).get(task.primary_metric)
            return text if spread is None else f"{text}, drawn {100 * spread.mean:.1f}"
    return ""


def _command(study: Study, store: RecordStore, *narrowed: str) -> str:
    words = ["supermask study run", study.name]
    if study.base != Study.model_fields["base"].default:
        words.append(f"--base {study.base}")
    words += narrowed
    if default_results(study.base).name != store.folder.resolve().name:
        words.append(f"--results {store.folder}")
    return " ".join(words)


def _summary(cells: Sequence[Cell], records: Sequence[RunRecord], findings: Sequence[Finding]) -> dict[str, Any]:
    dates = sorted(record.started[:10] for record in records)
    tasks = dict.fromkeys(display_name(record.inputs.task) for record in records)
    return {
        "recorded": len(records),
        "planned": len(cells),
        "seeds": number_ranges(record.inputs.config.seed for record in records) or "none",
        "tasks": ", ".join(tasks) or "none",
        "train_hours": sum(record.train_seconds for record in records) / 3600,
        "first": dates[0] if dates else "",
        "last": dates[-1] if dates else "",
        "verdicts": collections.Counter(finding.verdict for finding in findings),
    }


def _coverage(cells: Sequence[Cell]) -> dict[str, Any]:
    """What is recorded of every arm on every task: arm, method, and a cell a task of recorded, planned, and state."""
    tasks = dict.fromkeys(cell.spec.task for cell in cells)
    methods: dict[str, str] = {}
    there: dict[tuple[str, str], list[bool]] = collections.defaultdict(list)
    for cell in cells:
        methods.setdefault(cell.spec.arm, _method_in_words(cell.spec))
        there[cell.spec.arm, cell.spec.task].append(cell.record is not None)
    states = {place: "whole" if all(of) else "partial" if any(of) else "missing" for place, of in there.items()}
    rows = []
    for arm, words in methods.items():
        places = [(arm, task) for task in tasks]
        rows.append((arm, words, [(sum(there[at]), len(there[at]), states.get(at, "none")) for at in places]))
    return {"tasks": [display_name(task) for task in tasks], "rows": rows}


def _method_in_words(run: RunSpec) -> str:
    """A method's settings that differ from its defaults."""
    kind = str(run.method["kind"])
    plain = METHODS[kind]().describe()
    words = [f"{name} {_shown(value)}" for name, value in run.method.items() if plain.get(name) != value]
    if run.config.learning_rate != type(run.config)().learning_rate:
        words.append(f"learning rate of weights {run.config.learning_rate:g}")
    return ", ".join([kind, *words])


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _data(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for record in records:
        for split, info in record.inputs.data.items():
            row = {"task": display_name(record.inputs.task), "split": split, **info.model_dump(), "runs": 0}
            found.setdefault(tuple(row.values()), row)["runs"] += 1
    return list(found.values())


def _environments(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """The machines and versions that the recorded runs were made with, most runs first."""
    found: dict[tuple[object, ...], tuple[dict[str, Any], list[str]]] = {}
    for record in records:
        row = {**record.environment.model_dump(exclude={"source"}), "precision": record.precision}
        found.setdefault(tuple(row.values()), (row, []))[1].append(record.environment.source)
    groups = sorted(found.values(), key=lambda group: len(group[1]), reverse=True)
    return [{**row, "sources": len(set(sources)), "runs": len(sources)} for row, sources in groups]


def _failures(store: RecordStore) -> Iterator[dict[str, Any]]:
    completed = {stored.key for stored in store.records if stored.record.status == "completed"}
    for stored in (stored for stored in store.records if stored.record.status != "completed"):
        inputs = stored.record.inputs
        run = f"{display_name(inputs.task)}, {inputs.method['kind']}, seed {inputs.config.seed}"
        yield {
            "path": stored.path,
            "what": f"{run}, step {stored.record.steps:,}",
            "reason": stored.record.error or "no reason was recorded",
            "later_completed": stored.key in completed,
        }
    for skipped in store.skipped:
        yield {"path": skipped.path, "what": "no record", "reason": skipped.reason, "later_completed": False}


def _distinct(results: Mapping[str, StudyResults]) -> list[Cell]:
    """Every run of all studies once, by its key; a record beats none."""
    found: dict[str, Cell] = {}
    for cell in (cell for study in results.values() for cell in study.cells):
        if cell.spec.key not in found or found[cell.spec.key].record is None:
            found[cell.spec.key] = cell
    return list(found.values())
