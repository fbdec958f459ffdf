"""The tables of docs/reproduction.md and docs/results.md: what `supermask study table` shows of the committed records.

    python studies/pages.py            # fill them in
    python studies/pages.py --check    # say whether they are what the records say

A table stands between `<!-- supermask study table NAME ... -->` and `<!-- end of table -->`; what lies between is
overwritten with the table alone, without its title and notes.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from supermask.report.results import collect
from supermask.report.tables import study_table, table_markdown
from supermask.study import RecordStore, load_study, overridden

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "reproduction.md", ROOT / "docs" / "results.md")
BLOCK = re.compile(r"(<!-- supermask study table (?P<arguments>[^>]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; the exit code is 1 if a table is stale")
    given = parser.parse_args(arguments)
    stale = 0
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda found: f"{found[1]}\n{table(found['arguments'])}\n\n{found[3]}", before)
        stale += before != after
        if not given.check:
            page.write_text(after, encoding="utf-8")
    return int(given.check and stale > 0)


def table(arguments: str) -> str:
    """The lines of a table that a command shows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study")
    parser.add_argument("--tasks", type=lambda text: text.split(","))
    parser.add_argument("--base")
    parser.add_argument("--results", default="results/minilm-l6")
    given = parser.parse_args(shlex.split(arguments))
    study = load_study(ROOT / given.study if given.study.endswith(".yaml") else given.study)
    study = overridden(study, tasks=given.tasks, base=given.base)
    shown = table_markdown(study_table(collect(study, RecordStore(ROOT / given.results))))
    return "\n".join(line for line in shown.splitlines() if line.startswith("|"))


if __name__ == "__main__":
    sys.exit(main())
