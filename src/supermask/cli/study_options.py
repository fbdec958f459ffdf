"""Options that the verbs of `supermask study` share, and what they choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from supermask.study import Study

__all__ = ["ALL", "Base", "Results", "Seeds", "StudyName", "Tasks", "chosen_studies", "results_folder"]

ALL = "all"

StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="Name of a study (`supermask study list`), all, or a YAML file of your own.",
        show_default=False,
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="NAME_OR_DIR", help="Another base than the study's.", show_default=False),
]
Tasks = Annotated[
    str | None,
    typer.Option("--tasks", metavar="NAMES", help="Only these tasks, such as mrpc,rte.", show_default=False),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="NUMBERS", help="These seeds, such as 0,1,2 or 0-4.", show_default=False),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results", metavar="DIR", help="Folder of the records. \\[default: results/BASE]", show_default=False
    ),
]


def chosen_studies(
    name: str, *, base: str | None = None, tasks: str | None = None, seeds: str | None = None
) -> list[Study]:
    """The studies that are meant, narrowed as asked.

    Args:
        name: of one study, a file, or `all`.
        base: another base.
        tasks: names with commas between. One study is run on just these; of all studies, each on those that it has.
        seeds: numbers and ranges with commas between.

    Raises:
        SupermaskError: naming what is not there.
    """
    from supermask.errors import ConfigurationError
    from supermask.study import load_study, overridden, study_names
    from supermask.study.expansion import narrowed

    numbers = None if seeds is None else _numbers(seeds)
    names = None if tasks is None else [part for part in tasks.replace(",", " ").split() if part]
    if names == []:
        raise ConfigurationError("--tasks names no task; write them as mrpc,rte")
    if name == ALL:
        studies = [load_study(each) for each in study_names()]
        if names is not None:
            studies = [study for study in (narrowed(study, names) for study in studies) if study is not None]
        names = None
        if not studies:
            raise ConfigurationError(f"no study is on any of these tasks: {tasks}")
    else:
        studies = [load_study(name)]
    return [overridden(study, base=base, tasks=names, seeds=numbers) for study in studies]


def results_folder(given: Path | None, studies: Sequence[Study], limit: int | None = None) -> Path:
    """The folder of the records: what was given, else the one of the base."""
    from supermask.study.runner import default_results

    return given if given is not None else default_results(studies[0].base, limit)


def _numbers(text: str) -> list[int]:
    from supermask.errors import ConfigurationError

    numbers: list[int] = []
    for part in text.replace(",", " ").split():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigurationError(f"--seeds {text!r}: {part!r} is no number; write 0,1,2 or 0-4")
        if dash and not 0 <= int(last) - int(first) < 1000:
            raise ConfigurationError(f"--seeds {text!r}: {part!r} is no range of at most 1000 seeds")
        numbers += range(int(first), int(last if dash else first) + 1)
    if not numbers:
        raise ConfigurationError("--seeds names no seed; write 0,1,2 or 0-4")
    return numbers
