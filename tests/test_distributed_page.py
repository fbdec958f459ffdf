"""docs/distributed.md shows what there is: commands that parse, code that is the example's, and the example runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_bases import save_tiny_base

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "fsdp_loop.py"
COMMANDS = [block.replace("\\\n", " ").strip() for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL)]


def test_launchers_know_the_options_of_the_page() -> None:
    from accelerate.commands.launch import launch_command_parser

    launches = [shlex.split(command) for command in COMMANDS if command.startswith("accelerate launch")]
    assert len(launches) == 2
    for words in launches:
        arguments = launch_command_parser().parse_args(words[2:])
        assert arguments.module and arguments.multi_gpu
        assert arguments.training_script == "supermask"


def test_the_code_of_the_page_is_that_of_the_example() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block in EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_runs_in_two_processes(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    code = f"import runpy; runpy.run_path({str(EXAMPLE)!r})['main']({str(base)!r}, steps=2)"
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", tmp_path / "script.py"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"of \d[\d,]* weights switched off", done.stdout)) == 1
