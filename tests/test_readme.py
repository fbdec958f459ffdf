"""The README's examples: the Python runs, on a tiny base, and every command line is one that the program takes."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers

from supermask.training import TrainingConfig
from tiny_bases import save_tiny_base
from tiny_hub import WRITER, connect, running_hub
from tiny_tasks import tiny_data

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]


def command_lines() -> list[str]:
    lines = []
    for page in PAGES[:-1]:  # CONTRIBUTING trains with a method that the reader is to write
        text = re.sub(r"\s+#.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
        lines += re.findall(r"^(?:\$ |.+ -m )(supermask .+)$", text, flags=re.MULTILINE)
        lines += [re.sub(r"\s+", " ", found) for found in re.findall(r"`(supermask [a-z][^`]*--[^`]*)`", text)]
    return lines


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")  # huggingface_hub's own
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny_base(tmp_path / "base")
    auto = transformers.AutoModelForSequenceClassification
    load = auto.from_pretrained
    monkeypatch.setattr(auto, "from_pretrained", lambda name, **options: load(folder, **options))
    monkeypatch.setattr(sys.modules["supermask.training.train"], "load_task", lambda name, **_: tiny_data())
    monkeypatch.setattr(TrainingConfig.model_fields["max_steps"], "default", 2)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    with running_hub() as hub:
        connect(hub, tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("HF_TOKEN", WRITER)
        for code in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
            exec(compile(code, "README.md", "exec"), found)
    assert found["delta"] == found["run"].delta


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line: str) -> None:
    from supermask.cli.app import make_command

    command: Any = make_command()
    verb, *arguments = shlex.split(line)[1:]
    command = command.commands[verb]
    if hasattr(command, "commands"):
        verb, *arguments = arguments
        command = command.commands[verb]
    command.make_context(verb, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
