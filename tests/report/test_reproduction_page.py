"""The tables of docs/reproduction.md say what the committed records say."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "studies" / "reproduction_page.py"), run_name="page")


def test_no_table_is_stale() -> None:
    assert SCRIPT["main"](["--check"]) == 0, "run studies/reproduction_page.py"


def test_every_table_is_on_the_page() -> None:
    found = [
        match["name"] for match in SCRIPT["BLOCK"].finditer((ROOT / "docs" / "reproduction.md").read_text("utf-8"))
    ]
    assert sorted(found) == sorted(SCRIPT["TABLES"])
