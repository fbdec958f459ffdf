"""What there is to learn: GLUE as rows of data, your own files, probes generated offline; metrics and submissions."""

from supermask.tasks.examples import Examples
from supermask.tasks.files import load_files, load_texts
from supermask.tasks.glue import load_glue
from supermask.tasks.metrics import score
from supermask.tasks.registry import find_task, known_tasks, load_task
from supermask.tasks.submission import write_submission
from supermask.tasks.task import Task, TaskData
from supermask.tasks.tsv import tsv_line

__all__ = [
    "Examples",
    "Task",
    "TaskData",
    "find_task",
    "known_tasks",
    "load_files",
    "load_glue",
    "load_task",
    "load_texts",
    "score",
    "tsv_line",
    "write_submission",
]
