"""docs/analysis.md: its Python runs and prints what it says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from supermask.analysis import __all__ as exported

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")


def test_the_examples_print_what_the_page_says() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) >= 7
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/analysis.md", "docs/analysis.md", 0)
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
    assert runner.tries > 25


def test_names_are_those_of_the_library() -> None:
    functions = set(re.findall(r"`([a-z_]+)(?:\([^`]*\))?` (?:gives|counts|compares|turn|prunes|reads|draws)", PAGE))
    assert functions and functions <= {*exported, "compare_checkpoints"}
