"""The eight GLUE tasks as rows of data: columns, labels, metrics, official sizes, and their places in folder and hub.

WNLI is left out, as in the paper. A change to a row that makes the same files read differently raises the task's
`version`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from supermask.tasks.task import Task

__all__ = ["GLUE_ROWS", "HUB_DATASET", "HUB_REVISION", "GlueRow"]

HUB_DATASET: Final = "nyu-mll/glue"
HUB_REVISION: Final = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@final
@dataclass(frozen=True)
class GlueRow:
    """Where the sentences and labels of one GLUE task stand, in the official TSV files and in the hub's data set.

    Args:
        task: the task itself.
        folder: the official name of its folder.
        first: column of the first sentence, in every file of the task.
        second: column of the second sentence, or None.
        label: column of the label, in the labelled files.
        label_texts: how the files write the classes, in the order of `task.label_names`; empty for regression.
        hub_first: the hub's column of the first sentence.
        hub_second: the hub's column of the second sentence, or None.
        identifier: column that numbers the examples, in the files that have it.
        files: split to file name.
        hub_splits: split to the hub's name of it.
        labelled_header: column names of the labelled files where these have no header line.
        empty_sentences: whether the official files have a few empty sentences, which are kept.
        broken_train_rows: whether an official train file has rows with too few columns, which are skipped and counted.
    """

    task: Task
    folder: str
    first: str
    second: str | None
    label: str
    label_texts: tuple[str, ...]
    hub_first: str
    hub_second: str | None
    identifier: str = "index"
    files: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}, hash=False
    )
    hub_splits: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"}, hash=False
    )
    labelled_header: tuple[str, ...] | None = None
    empty_sentences: bool = False
    broken_train_rows: bool = False

    @property
    def hub_config(self) -> str:
        """The name of the hub data set's configuration: that of the task."""
        return self.task.name


_COLA: Final = GlueRow(
    task=Task(
        name="cola",
        title="Corpus of Linguistic Acceptability",
        kind="classification",
        label_names=("unacceptable", "acceptable"),
        # The paper's column says accuracy; its baseline of 55.2 is BERT's Matthews correlation.
        metrics=("matthews", "accuracy"),
        test_splits=("test",),
        expected_sizes={"train": 8551, "dev": 1043, "test": 1063},
        submission_files={"test": "CoLA.tsv"},
        submission_labels=("0", "1"),
    ),
    folder="CoLA",
    first="sentence",
    second=None,
    label="label",
    label_texts=("0", "1"),
    hub_first="sentence",
    hub_second=None,
    labelled_header=("source", "label", "original_mark", "sentence"),
)

_SST2: Final = GlueRow(
    task=Task(
        name="sst2",
        title="Stanford Sentiment Treebank",
        kind="classification",
        label_names=("negative", "positive"),
        metrics=("accuracy",),
        test_splits=("test",),
        expected_sizes={"train": 67349, "dev": 872, "test": 1821},
        submission_files={"test": "SST-2.tsv"},
        submission_labels=("0", "1"),
    ),
    folder="SST-2",
    first="sentence",
    second=None,
    label="label",
    label_texts=("0", "1"),
    hub_first="sentence",
    hub_second=None,
)

_MRPC: Final = GlueRow(
    task=Task(
        name="mrpc",
        title="Microsoft Research Paraphrase Corpus",
        kind="classification",
        label_names=("not_equivalent", "equivalent"),
        metrics=("f1", "accuracy"),
        paired=True,
        test_splits=("test",),
        expected_sizes={"train": 3668, "dev": 408, "test": 1725},
        submission_files={"test": "MRPC.tsv"},
        submission_labels=("0", "1"),
    ),
    folder="MRPC",
    first="#1 String",
    second="#2 String",
    label="Quality",
    label_texts=("0", "1"),
    hub_first="sentence1",
    hub_second="sentence2",
)

_STSB: Final = GlueRow(
    task=Task(
        name="stsb",
        title="Semantic Textual Similarity Benchmark",
        kind="regression",
        label_names=(),
        metrics=("spearman", "pearson"),
        paired=True,
        test_splits=("test",),
        expected_sizes={"train": 5749, "dev": 1500, "test": 1379},
        score_range=(0.0, 5.0),
        submission_files={"test": "STS-B.tsv"},
    ),
    folder="STS-B",
    first="sentence1",
    second="sentence2",
    label="score",
    label_texts=(),
    hub_first="sentence1",
    hub_second="sentence2",
)

_QQP: Final = GlueRow(
    task=Task(
        name="qqp",
        title="Quora Question Pairs",
        kind="classification",
        label_names=("not_duplicate", "duplicate"),
        metrics=("f1", "accuracy"),
        paired=True,
        test_splits=("test",),
        # Of the train file's two releases: the one with broken rows has a few good rows more than these.
        expected_sizes={"train": 363846, "dev": 40430, "test": 390965},
        submission_files={"test": "QQP.tsv"},
        submission_labels=("0", "1"),
    ),
    folder="QQP",
    first="question1",
    second="question2",
    label="is_duplicate",
    label_texts=("0", "1"),
    hub_first="question1",
    hub_second="question2",
    identifier="id",
    empty_sentences=True,
    broken_train_rows=True,
)

_MNLI: Final = GlueRow(
    task=Task(
        name="mnli",
        title="Multi-Genre Natural Language Inference",
        kind="classification",
        label_names=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        paired=True,
        report_splits=("dev_matched", "dev_mismatched"),
        test_splits=("test_matched", "test_mismatched"),
        expected_sizes={
            "train": 392702,
            "dev_matched": 9815,
            "dev_mismatched": 9832,
            "test_matched": 9796,
            "test_mismatched": 9847,
        },
        submission_files={"test_matched": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
        submission_labels=("entailment", "neutral", "contradiction"),
    ),
    folder="MNLI",
    first="sentence1",
    second="sentence2",
    label="gold_label",
    label_texts=("entailment", "neutral", "contradiction"),
    hub_first="premise",
    hub_second="hypothesis",
    files={
        "train": "train.tsv",
        "dev_matched": "dev_matched.tsv",
        "dev_mismatched": "dev_mismatched.tsv",
        "test_matched": "test_matched.tsv",
        "test_mismatched": "test_mismatched.tsv",
    },
    hub_splits={
        "train": "train",
        "dev_matched": "validation_matched",
        "dev_mismatched": "validation_mismatched",
        "test_matched": "test_matched",
        "test_mismatched": "test_mismatched",
    },
    empty_sentences=True,
)

_QNLI: Final = GlueRow(
    task=Task(
        name="qnli",
        title="Question Natural Language Inference",
        kind="classification",
        label_names=("entailment", "not_entailment"),
        metrics=("accuracy",),
        paired=True,
        test_splits=("test",),
        expected_sizes={"train": 104743, "dev": 5463, "test": 5463},
        submission_files={"test": "QNLI.tsv"},
        submission_labels=("entailment", "not_entailment"),
    ),
    folder="QNLI",
    first="question",
    second="sentence",
    label="label",
    label_texts=("entailment", "not_entailment"),
    hub_first="question",
    hub_second="sentence",
)

_RTE: Final = GlueRow(
    task=Task(
        name="rte",
        title="Recognizing Textual Entailment",
        kind="classification",
        label_names=("entailment", "not_entailment"),
        metrics=("accuracy",),
        paired=True,
        test_splits=("test",),
        expected_sizes={"train": 2490, "dev": 277, "test": 3000},
        submission_files={"test": "RTE.tsv"},
        submission_labels=("entailment", "not_entailment"),
    ),
    folder="RTE",
    first="sentence1",
    second="sentence2",
    label="label",
    label_texts=("entailment", "not_entailment"),
    hub_first="sentence1",
    hub_second="sentence2",
)

GLUE_ROWS: Final = (_COLA, _SST2, _MRPC, _STSB, _QQP, _MNLI, _QNLI, _RTE)
