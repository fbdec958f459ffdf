"""What docs/studies.md shows is so."""

import re
from pathlib import Path

from supermask.study import runs_of
from supermask.study.catalogue import parse_study
from tiny_command import call

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def test_the_spec_on_the_page_loads() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    study = parse_study(text, source="mine.yaml")
    assert len(runs_of(study)) == 6


def test_the_options_on_the_page_exist() -> None:
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - {"--head", "--address"}  # of `ray start`
    told -= {"--multi_gpu", "--num_processes", "--nproc_per_node", "--multi", "--num", "--nproc"}
    help_text = call("study", "run", "--help").stdout + call("study", "report", "--help").stdout
    assert told and {option for option in told if option not in help_text} == set()
