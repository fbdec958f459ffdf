"""`supermask study`: the paper's tables and figures, run and shown."""

from __future__ import annotations

from supermask.cli import study_measure, study_run, study_show, study_status

__all__ = ["ABOUT", "EXAMPLES", "VERBS"]

ABOUT = """Reproduce the paper: each of its tables and figures is a study.

A study is many runs; what is recorded already is not run again, and a run
that was cut off goes on where it stopped.
"""

EXAMPLES = (
    "supermask study list",
    "supermask study run table5 --data-dir glue --tasks mrpc",
    "supermask study status",
)

VERBS = {
    "list": (study_status.list_studies, study_status.LIST_EXAMPLES),
    "run": (study_run.run, study_run.EXAMPLES),
    "status": (study_status.status, study_status.EXAMPLES),
    "measure": (study_measure.measure, study_measure.EXAMPLES),
    "table": (study_show.table, study_show.TABLE_EXAMPLES),
    "figure": (study_show.figure, study_show.FIGURE_EXAMPLES),
    "report": (study_show.report, study_show.REPORT_EXAMPLES),
}
