"""Studies of a few seconds: a tiny random base, probes, arms that take 2 steps, and runs made in this process."""

import io
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import BertModel

from supermask.models.loading import quiet_transformers
from supermask.settings import RunSettings
from supermask.study import Study
from supermask.study.execution import Executor, StudyReport, run_plan
from supermask.study.orders import RunOrder
from supermask.study.plan import Plan, plan_studies
from supermask.study.progress import StudyProgress
from supermask.study.worker import execute
from supermask.tasks.probes import load_probe
from tiny_bases import tiny_tokenizer
from tiny_models import tiny_config

FULL = {"name": "full", "label": "Full", "method": {"kind": "freezing"}}
MASK = {"name": "mask", "label": "Mask", "method": {"kind": "supermask", "init_logit": 0.1}}
TASK = "probe-paraphrase"
PROBES = (TASK, "probe-similarity")


@final
class InlineExecutor(Executor):
    """Makes one run after the other in this process: for tiny runs, where starting a process takes longer."""

    slots = 1

    def submit(self, order: RunOrder) -> Future[int]:
        order.work.mkdir(parents=True, exist_ok=True)
        future: Future[int] = Future()
        future.set_result(execute(order))
        return future

    def stop(self) -> None:
        pass


def tiny_study(base: Path | str, **settings: Any) -> Study:
    """A study of one mask and one full fine-tuning on `TASK`."""
    content: dict[str, Any] = {
        "version": 1,
        "name": "tiny",
        "title": "A tiny study",
        "shows": "table",
        "paper": "none",
        "claim": "None.",
        "tasks": [TASK],
        "arms": [MASK, FULL],
        "draws": 2,
        "base": str(base),
        "config": {"max_steps": 2, "batch_size": 8, "max_length": 24, "logging_steps": 1},
    }
    return Study(**{**content, **settings})


def changed(study: Study, **settings: Any) -> Study:
    """A study with some of its settings replaced."""
    return Study(**{**dict(study), **settings})


def yaml_of(study: Study) -> str:
    """The study as a spec file."""
    return json.dumps(study.model_dump(mode="json"), indent=1)  # JSON is YAML


def tiny_plan(studies: Study | list[Study], results: Path, **settings: Any) -> Plan:
    """What is to be done on 16 examples, on the CPU."""
    chosen = {"limit": 16, "dev_limit": 12, "use_cpu": True, **settings}
    return plan_studies([studies] if isinstance(studies, Study) else studies, RunSettings(results=results, **chosen))


def carried_out(plan: Plan, executor: Executor | None = None) -> tuple[StudyReport, str]:
    """What came of a plan, and what was said meanwhile; made in this process if no executor is given."""
    said = io.StringIO()
    report = run_plan(plan, StudyProgress(Console(file=said)), executor or InlineExecutor())
    return report, said.getvalue()


def weights_with(record: Path, base: Path) -> dict[str, Tensor]:
    """Every tensor of the base with the delta that lies beside a record."""
    from supermask.deltas import TaskDelta
    from supermask.study.measuring import load_base_model
    from supermask.study.records import delta_path

    model = load_base_model(str(base))
    with TaskDelta.load(delta_path(record)).applied(model):
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def make_tiny_base(folder: Path) -> Path:
    """Save a random BERT of 3 blocks, 32 wide, and a tokenizer that knows the words of the probes."""
    texts = []
    for probe in PROBES:
        for examples in load_probe(probe, train_size=240, dev_size=240).splits.values():
            texts += [*examples.first, *(examples.second or ())]
    words = sorted({word for text in texts for word, _ in Whitespace().pre_tokenize_str(text)})
    tokenizer = tiny_tokenizer(words, max_length=32)
    config = tiny_config("bert", vocab_size=len(tokenizer), num_hidden_layers=3, max_position_embeddings=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
