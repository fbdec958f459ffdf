"""The console script: starting it is cheap, and its help can be read and typed from."""

import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest

from supermask import __version__
from supermask.cli.app import EXAMPLES, VERBS
from supermask.cli.main import main
from tiny_command import call, command_of, refused, said, understood

MODULES: dict[str, Any] = {verb: import_module(f"supermask.cli.{verb}") for verb in VERBS}
PAGES: dict[tuple[str, ...], Sequence[str]] = {
    (): EXAMPLES,
    **{(verb,): module.EXAMPLES for verb, module in MODULES.items()},
    **{(group, verb): examples for group in ("store", "study") for verb, (_, examples) in MODULES[group].VERBS.items()},
}


def run_script(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "lean"), [("['--version'], ['--help']", ["pydantic"]), ("['train', '--help'],", [])]
)
def test_help_and_version_load_no_heavy_library(arguments: str, lean: list[str]) -> None:
    done = run_script(
        f"import sys; from supermask.cli.app import run\ncodes = [run(each) for each in ({arguments})]\n"
        f"heavy = {{*{lean}, 'torch', 'transformers', 'numpy', 'matplotlib', 'numba', 'yaml'}} & set(sys.modules)\n"
        "print(len(sys.modules), {*codes}, sorted(heavy), file=sys.stderr)"
    )
    modules, outcome = done.stderr.splitlines()[-1].split(maxsplit=1)
    assert outcome == "{0} []"
    assert "pydantic" in lean or "--epochs" in done.stdout
    # typer and rich are most of them; what takes time beyond is more modules, and counting does not depend on a clock.
    assert int(modules) < (400 if lean else 500)


def test_the_version_is_the_packages() -> None:
    assert call("--version").stdout == f"supermask {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_the_line_that_lists_a_verb_is_the_first_of_its_help(verb: str) -> None:
    assert command_of().commands[verb].help == VERBS[verb] == command_of(verb).help.split("\n\n")[0]


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


@pytest.mark.parametrize("group", [(), ("store",), ("study",)])
def test_no_verb_prints_the_help(group: tuple[str, ...]) -> None:
    outcome = call(*group)
    assert (outcome.exit_code, outcome.stdout) == (0, call(*group, "--help").stdout)
    assert all(page[-1] in outcome.stdout for page in PAGES if page[:-1] == group and page)
    refused(call(*group, "lst", "x"), " ".join(("supermask", *group, "--help")))


@pytest.mark.parametrize(("page", "examples"), PAGES.items())
def test_help_ends_with_examples_within_80_columns_and_each_parses(
    page: tuple[str, ...], examples: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = said(*page, "--help")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert max(map(len, lines)) <= 80
    assert [line.strip() for line in lines[-len(examples) - 1 :]] == ["Examples", *examples]
    assert "…" not in text  # nothing is cut off
    for example in examples:
        understood(example.rpartition("| ")[2])
