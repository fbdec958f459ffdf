"""What the pages say holds: their Python runs, programs take their commands, and their links lead somewhere."""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers

import supermask.analysis
from supermask.core.magnitude import zeros_at
from supermask.deltas import SparseValues, TaskDelta
from supermask.methods import make_optimizer
from supermask.training import TrainingConfig
from tiny_bases import save_tiny_base
from tiny_command import understood
from tiny_hub import WRITER, connect, running_hub
from tiny_models import same_bits, snapshot, tiny_batch, tiny_model
from tiny_tasks import take_steps, tiny_data

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]
ANALYSIS, DISTRIBUTED = ROOT / "docs" / "analysis.md", ROOT / "docs" / "distributed.md"
EXAMPLE = ROOT / "examples" / "fsdp_loop.py"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def python_of(page: Path) -> list[str]:
    found = re.findall(r"^( *)```python\n(.*?)^\1```$", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def command_lines() -> list[str]:
    lines = []
    for page in PAGES:
        if page != CONTRIBUTING:  # which trains with a method that the reader is to write
            text = re.sub(r"\s+#.*$", "", text_of(page), flags=re.MULTILINE).replace("\\\n", " ")
            lines += re.findall(r"^(?:\$ |.+ -m )(supermask .+)$", text, flags=re.MULTILINE)
            lines += [re.sub(r"\s+", " ", found) for found in re.findall(r"`(supermask [a-z][^`]*--[^`]*)`", text)]
    return lines


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line: str) -> None:
    understood(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(page))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


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
        for code in python_of(README):
            exec(compile(code, "README.md", "exec"), found)
    assert found["delta"] == found["run"].delta


# CONTRIBUTING.md: the first method is a real one.


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_first_method_learns_is_stored_and_comes_off(architecture, tmp_path, monkeypatch):
    (code,) = python_of(CONTRIBUTING)
    page = ModuleType("first_method")
    monkeypatch.setitem(sys.modules, page.__name__, page)  # where pydantic looks up its names
    exec(compile(code, "CONTRIBUTING.md", "exec"), page.__dict__)
    model = tiny_model(architecture)
    batch, before = tiny_batch(model), snapshot(model)
    attachment = page.OneShot(sparsity=0.25, exclude="block-0").attach_(model)
    attachment.begin_training(total_steps=2)
    take_steps(attachment, make_optimizer(attachment, head_learning_rate=1e-2), range(2))
    with attachment.evaluating():
        learnt = model(**batch).logits
    assert attachment.statistics()["sparsity"] == pytest.approx(0.25, abs=1e-3)
    attachment.extract().save(tmp_path / "delta")
    attachment.detach_()
    assert all(same_bits(tensor, before[name]) for name, tensor in snapshot(model).items())

    delta = TaskDelta.load(tmp_path / "delta")
    masks = {name: change.keep for name, change in delta.changes_for(model).items() if isinstance(change, SparseValues)}
    assert masks
    for name, keep_mask in masks.items():
        weight = before[name].abs()
        assert int((~keep_mask).sum()) == zeros_at(0.25, weight.numel())
        assert float(weight[~keep_mask].max()) <= float(weight[keep_mask].min())
    with delta.applied(model), torch.no_grad():
        assert torch.equal(model.eval()(**batch).logits, learnt)


def test_every_file_that_contributing_names_is_there() -> None:
    examples = {"src/supermask/methods/one_shot.py", "tests/methods/test_one_shot.py"}
    named = set(re.findall(r"`((?:src|tests|docs)/[\w/.]+)`", text_of(CONTRIBUTING)))
    assert len(named) > 8
    assert {path for path in named - examples if not (ROOT / path).exists()} == set()


# docs/analysis.md: its Python prints what it says.


def test_the_analyses_print_what_the_page_says() -> None:
    blocks = python_of(ANALYSIS)
    assert len(blocks) >= 7
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/analysis.md", "docs/analysis.md", 0)
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
    assert runner.tries > 25


def test_names_of_analyses_are_those_of_the_library() -> None:
    verbs = "gives|counts|compares|turn|prunes|reads|draws"
    functions = set(re.findall(rf"`([a-z_]+)(?:\([^`]*\))?` (?:{verbs})", text_of(ANALYSIS)))
    assert functions and functions <= {*supermask.analysis.__all__, "compare_checkpoints"}


# docs/distributed.md: launchers take its commands, and its code is the example's, which runs.


def test_launchers_know_the_options_of_the_page() -> None:
    from accelerate.commands.launch import launch_command_parser

    blocks = re.findall(r"```console\n(accelerate launch.*?)```", text_of(DISTRIBUTED), flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        arguments = launch_command_parser().parse_args(shlex.split(block.replace("\\\n", " "))[2:])
        assert arguments.module and arguments.multi_gpu
        assert arguments.training_script == "supermask"


def test_the_code_of_the_page_is_that_of_the_example() -> None:
    (block,) = python_of(DISTRIBUTED)
    assert block in text_of(EXAMPLE)


@pytest.mark.slow
def test_the_example_runs_in_two_processes(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    code = f"import runpy; runpy.run_path({str(EXAMPLE)!r})['main']({str(base)!r}, steps=2)"
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*command, tmp_path / "script.py"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"of \d[\d,]* weights switched off", done.stdout)) == 1
