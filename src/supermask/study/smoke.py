"""Every study end to end in a minute: a tiny random base, probes for tasks, a few steps a run. It shows that all parts
fit together; the numbers mean nothing."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from supermask.study.executors import InlineExecutor
from supermask.study.expansion import overridden
from supermask.study.progress import Reporter
from supermask.study.runner import Prepared, RunSettings, StudyReport, prepare, run_prepared
from supermask.study.spec import Arm, Study

__all__ = ["SMOKE_TASKS", "make_tiny_base", "run_smoke", "show_smoke", "smoke_study"]

SMOKE_TASKS: Final = {"mrpc": "probe-paraphrase", "stsb": "probe-similarity"}
"""The probes that stand for tasks of GLUE; the other tasks are left out."""

_SEEDS: Final = 2
_DRAWS: Final = 2
_EXAMPLES: Final = 24
_CONFIG: Final = {
    "max_steps": 3,
    "batch_size": 8,
    "head_learning_rate": 0.01,
    "max_length": 24,
    "precision": "fp32",
    "logging_steps": 1,
}


def smoke_study(study: Study, base: str) -> Study:
    """A study made tiny: the same arms on probes, with few steps, seeds and draws.

    Mask logits start near 0, so that a few steps move some of them across.

    Args:
        study: the study.
        base: the tiny base.
    """
    tasks = [SMOKE_TASKS[task] for task in study.tasks if task in SMOKE_TASKS]
    tiny = overridden(
        study, base=base, tasks=tasks, seeds=study.seeds[:_SEEDS], draws=_DRAWS, config={**study.config, **_CONFIG}
    )
    arms = tuple(Arm(**{**dict(arm), "method": _loosened(arm.method)}) for arm in tiny.arms)
    return Study(**{**{name: getattr(tiny, name) for name in Study.model_fields}, "arms": arms})


def run_smoke(studies: Sequence[Study], folder: Path, reporter: Reporter) -> tuple[Prepared, StudyReport]:
    """Run studies on a tiny base in this process.

    Args:
        studies: the studies, as they are loaded.
        folder: gets the records, and the base in a hidden folder.
        reporter: hears of everything.

    Returns:
        The tiny studies with their records, and what came of the runs.
    """
    base = make_tiny_base(folder / ".base")
    settings = RunSettings(results=folder, limit=_EXAMPLES, dev_limit=_EXAMPLES, use_cpu=True)
    prepared = prepare([smoke_study(study, str(base)) for study in studies], settings)
    # A training ends with a collection of garbage, which looks at every object of the imported libraries: half a second
    # a run, and more than the run itself takes.
    gc.freeze()
    try:
        return prepared, run_prepared(prepared, reporter, InlineExecutor())
    finally:
        gc.unfreeze()


def show_smoke(prepared: Prepared, folder: Path) -> tuple[Path, ...]:
    """Write the tables, the figures and the report of what was run.

    Args:
        prepared: what `run_smoke` gave.
        folder: gets `tables/`, `figures/` and `report.html`.

    Returns:
        The files.
    """
    from supermask.atomic import write_atomically
    from supermask.report import write_report
    from supermask.report.figures import study_figure, write_study_figure
    from supermask.report.results import collect
    from supermask.report.tables import study_table, table_csv, table_html, table_markdown

    written: list[Path] = []
    for study in prepared.studies:
        results = collect(study, prepared.store)
        if study.shows == "figure":
            written += write_study_figure(study_figure(results), folder / "figures")
        else:
            table = study_table(results)
            for ending, text in (("md", table_markdown(table)), ("csv", table_csv(table)), ("html", table_html(table))):
                written.append(folder / "tables" / f"{study.name}.{ending}")
                write_atomically(written[-1], text.encode())
    written.append(folder / "report.html")
    write_report(prepared.studies, prepared.store, written[-1])
    return tuple(written)


def make_tiny_base(folder: Path) -> Path:
    """Save a random BERT of 3 blocks, 32 wide, and a tokenizer that knows the words of the probes.

    Args:
        folder: where; a base that is there is kept.

    Returns:
        The folder.
    """
    import torch
    from transformers import BertConfig, BertModel

    if (folder / "model.safetensors").exists() and (folder / "tokenizer.json").exists():
        return folder
    words = sorted({word for text in _texts() for word in _split(text)})
    tokenizer = _tokenizer(words)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    from supermask.models.loading import quiet_transformers

    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _loosened(method: dict[str, Any]) -> dict[str, Any]:
    return {**method, "init_logit": 0.1} if method["kind"] == "supermask" else method


def _texts() -> list[str]:
    from supermask.tasks.probes import load_probe

    texts = []
    for probe in SMOKE_TASKS.values():
        for examples in load_probe(probe, train_size=240, dev_size=240).splits.values():
            texts += [*examples.first, *(examples.second or ())]
    return texts


def _split(text: str) -> list[str]:
    return [word for word, _ in _whitespace().pre_tokenize_str(text)]


def _whitespace() -> Any:
    from tokenizers.pre_tokenizers import Whitespace

    return Whitespace()


def _tokenizer(words: Sequence[str]) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    made = Tokenizer(WordLevel({word: index for index, word in enumerate((*special, *words))}, unk_token="[UNK]"))
    made.pre_tokenizer = _whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        model_max_length=32,
    )
