"""Options that the verbs of `supermask study` share, and what they choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from supermask.cli.options import argument, option

if TYPE_CHECKING:
    from supermask.study import Study

__all__ = ["ALL", "Base", "Results", "Seeds", "StudyName", "Tasks", "chosen_studies"]

ALL = "all"

StudyName = Annotated[
    str, argument("STUDY", "Name of a study (`supermask study list`), all, or a YAML file of your own.")
]
Base = Annotated[str | None, option(None, "NAME_OR_DIR", "Another base than the study's.")]
Tasks = Annotated[str | None, option(None, "NAMES", "Only these tasks, such as mrpc,rte.")]
Seeds = Annotated[str | None, option(None, "NUMBERS", "These seeds, such as 0,1,2 or 0-4.")]
Results = Annotated[Path | None, option(None, "DIR", "Folder of the records. \\[default: results/BASE]")]


def chosen_studies(
    name: str,
    *,
    base: str | None,
    tasks: str | None,
    seeds: str | None,
    results: Path | None,
    limit: int | None = None,
) -> tuple[list[Study], Path]:
    """The studies that are meant, narrowed as asked, and the folder of their records.

    Args:
        name: of one study, a file, or `all`.
        base: another base.
        tasks: names with commas between. One study is run on just these; of all studies, each on those that it has.
        seeds: numbers and ranges with commas between.
        results: the folder, if it is not the base's own.
        limit: how many examples are trained on, if not all: such records lie apart.
    """
    from supermask.errors import ConfigurationError
    from supermask.study import load_study, overridden, study_names
    from supermask.study.expansion import narrowed
    from supermask.study.records import default_results

    numbers = None if seeds is None else _numbers(seeds)
    names = None if tasks is None else tasks.replace(",", " ").split()
    if names == []:
        raise ConfigurationError("--tasks names no task; write them as mrpc,rte")
    studies = [load_study(each) for each in (study_names() if name == ALL else (name,))]
    if name == ALL and names is not None:
        studies = [study for study in (narrowed(study, names) for study in studies) if study is not None]
        names = None
        if not studies:
            raise ConfigurationError(f"no study is on any of these tasks: {tasks}")
    studies = [overridden(study, base=base, tasks=names, seeds=numbers) for study in studies]
    return studies, results if results is not None else default_results(studies[0].base, limit)


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
