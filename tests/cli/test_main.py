"""The console script: starting it is cheap, and its help can be read and typed from."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from supermask import __version__
from supermask.cli.app import EXAMPLES, VERBS, make_command
from supermask.cli.main import main
from tiny_command import Command

ALL_EXAMPLES = [*EXAMPLES, *(example for _, examples in VERBS.values() for example in examples)]


def run_script(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_help_and_version_load_no_heavy_library() -> None:
    done = run_script(
        "import sys; from supermask.cli.app import run\n"
        "codes = [run(arguments) for arguments in (['--version'], ['--help'], ['train', '--help'])]\n"
        "heavy = {'torch', 'transformers', 'numpy', 'matplotlib', 'numba', 'yaml'} & set(sys.modules)\n"
        "print(len(sys.modules), file=sys.stderr)\n"
        "print(codes, sorted(heavy), file=sys.stderr)"
    )
    *_, modules, outcome = done.stderr.splitlines()
    assert outcome == "[0, 0, 0] []"
    assert done.stdout.startswith(f"supermask {__version__}\n")
    # typer and rich are most of them; what takes time beyond is more modules, and counting does not depend on a clock.
    assert int(modules) < 500


def test_without_typer_the_script_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "supermask.cli.app")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "pip install 'supermask[cli]'" in said and len(said.splitlines()) == 1


def test_python_m_supermask_is_the_command_and_its_exit_code_reaches_the_shell() -> None:
    done = subprocess.run([sys.executable, "-m", "supermask", "inspect"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: missing argument 'DELTA'; see: supermask inspect --help\n"


def test_no_verb_prints_the_help(supermask: Command) -> None:
    outcome = supermask()
    assert outcome.exit_code == 0
    assert all(verb in outcome.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_ends_with_examples_within_80_columns(
    verb: str, supermask: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = supermask(verb, "--help")
    assert outcome.exit_code == 0
    lines = [line.rstrip() for line in outcome.stdout.splitlines() if line.strip()]
    assert max(map(len, lines)) <= 80
    examples = VERBS[verb][1]
    assert [line.strip() for line in lines[-len(examples) - 1 :]] == ["Examples", *examples]
    assert "…" not in outcome.stdout  # nothing is cut off


@pytest.mark.parametrize("example", ALL_EXAMPLES)
def test_every_example_parses(example: str) -> None:
    *_, words = (shlex.split(part) for part in example.split("|"))
    assert words.pop(0) == "supermask"
    group = make_command()
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:])
