import subprocess
import sys
from pathlib import Path

from importlinter import configuration
from importlinter.application import use_cases

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "supermask"
PYPROJECT = ROOT / "pyproject.toml"
# The package's own front doors, which may use every room.
FRONT = {"__init__", "__main__"}


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the linter changes the import path and the logging of the one it runs in."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    return subprocess.run([sys.executable, "-c", code, str(config)], cwd=ROOT, capture_output=True, text=True)


def test_imports_run_one_way_and_the_linter_sees_what_is_there(tmp_path: Path) -> None:
    finished = lint_imports(PYPROJECT)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "0 broken" in finished.stdout
    # A contract that the package must break: if this one held, the real ones would prove nothing.
    config = tmp_path / "upside_down.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "supermask"\n'
        '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\n'
        'layers = ["supermask.errors", "supermask.core", "supermask.methods"]\n'
    )
    finished = lint_imports(config)
    assert finished.returncode == 1
    assert "1 broken" in finished.stdout


def test_every_room_has_its_place_in_the_import_order() -> None:
    configuration.configure()
    contracts = use_cases.read_user_options(str(PYPROJECT)).contracts_options
    named = {
        module.strip(" ()").removeprefix("supermask.")
        for contract in contracts
        for key in ("layers", "source_modules", "forbidden_modules")
        for entry in contract.get(key, [])
        for module in entry.replace("|", ":").split(":")
    }
    present = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()
    }
    assert present - FRONT <= named, "a new room or root module needs a layer in pyproject.toml's import contracts"


def test_files_have_names_that_say_something_and_a_length_one_can_read() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        assert not {"utils", "helpers", "common", "other"} & {*place.parts[:-1], path.stem}, place
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 600, place
