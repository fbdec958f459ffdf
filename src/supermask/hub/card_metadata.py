"""The head of a model card: what the hub indexes a delta by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, final

from supermask.deltas.document import DeltaDocument
from supermask.hub.client import import_client
from supermask.hub.escaping import one_line, slug

__all__ = ["RecordedScore", "as_mapping", "card_metadata", "hub_id_of_base", "recorded_scores"]

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_FROM_HUB: Final = re.compile(r"hub:([\w.-]+/[\w.-]+)/([\w.-]+)@[0-9a-f]+/([\w.-]+)")
_METRIC_IDS: Final = {"matthews": "matthews_correlation", "spearman": "spearmanr", "pearson": "pearsonr"}
# Where a delta was learnt on the official files of these, its splits are those of the hub's data set.
_GLUE: Final = "nyu-mll/glue"
_GLUE_TASKS: Final = frozenset({"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"})
_MOST_SCORES: Final = 32


@final
@dataclass(frozen=True)
class RecordedScore:
    """One score in a delta's document, with the conditions it was measured under.

    Args:
        split: the split's name.
        metric: the metric's name.
        value: as a fraction.
        rows: how many examples it is over, if that is recorded.
        official_rows: how many the official split has, if that is known.
    """

    split: str
    metric: str
    value: float
    rows: int | None
    official_rows: int | None

    @property
    def is_subset(self) -> bool:
        """Whether it is known to be over another number of examples than the official split has."""
        return None not in (self.rows, self.official_rows) and self.rows != self.official_rows


def recorded_scores(document: DeltaDocument) -> list[RecordedScore]:
    """The scores that a delta's document records, the first few dozen of them; whatever else stands there is skipped.

    Args:
        document: the delta's.

    Returns:
        The scores, split by split, the task's main metric first.
    """
    found = [
        RecordedScore(split, metric, value, *_rows(document, split))
        for split, scores in document.training.scores.items()
        for metric, value in sorted(scores.items(), key=lambda pair: _rank(document, pair[0]))
    ]
    return found[:_MOST_SCORES]


def hub_id_of_base(document: DeltaDocument) -> str | None:
    """The hub id of a delta's base, if it came from the hub: only then is a revision recorded.

    Args:
        document: the delta's.
    """
    name, revision = document.base.name, document.base.revision
    return name if name is not None and revision is not None and _HUB_ID.fullmatch(name) else None


def card_metadata(document: DeltaDocument, *, name: str, license: str | None) -> Any:
    """What the hub indexes.

    Args:
        document: the delta's.
        name: what the model is called among the evaluation results.
        license: the licence's identifier, if one was chosen.

    Returns:
        `huggingface_hub.ModelCardData`.

    Raises:
        MissingDependencyError: if huggingface_hub is not installed.
    """
    client = import_client("a model card")
    scores = recorded_scores(document)
    results = [_result(client, document, score) for score in scores]
    data_sets = {result.dataset_type for result in results if "/" in result.dataset_type}
    base = hub_id_of_base(document)
    tags = ["supermask", "task-delta", *filter(None, [slug(document.method.kind or "")])]
    return client.ModelCardData(
        base_model=base,
        base_model_relation="adapter" if base else None,
        datasets=sorted(data_sets) or None,
        eval_results=results or None,
        library_name="supermask",
        license=license,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name if results else None,
        pipeline_tag="text-classification" if _is_of_texts(document) else None,
        tags=list(dict.fromkeys(tags)),
    )


def _is_of_texts(document: DeltaDocument) -> bool:
    # To the hub a regression over texts, as STS-B is, is text classification too.
    return document.task.kind in ("classification", "regression")


def _result(client: Any, document: DeltaDocument, score: RecordedScore) -> Any:
    data_set, config, split, title = _data_set(document, score)
    if score.is_subset:
        title += f" ({score.rows} of {score.official_rows} rows)"
    counts = {"rows": score.rows, "official_rows": score.official_rows}
    conditions = {
        "mask": "thresholded" if document.method.kind == "supermask" else None,
        "precision": one_line(document.training.precision) if document.training.precision else None,
    }
    return client.EvalResult(
        task_type="text-classification" if _is_of_texts(document) else "other",
        dataset_type=data_set,
        dataset_name=title,
        dataset_config=config,
        dataset_split=split,
        dataset_args=_told(counts),
        metric_type=_METRIC_IDS.get(score.metric, slug(score.metric) or "score"),
        metric_name=one_line(score.metric),
        metric_args=_told(conditions),
        metric_value=round(score.value, 6),
    )


def _data_set(document: DeltaDocument, score: RecordedScore) -> tuple[str, str | None, str, str]:
    """Identifier, configuration, split and title of the data that a score is over."""
    task = one_line(document.task.name or "unnamed task")
    told = document.training.data.get(score.split)
    source = told.source if told else None
    if source is not None and (found := _FROM_HUB.fullmatch(source)):
        return found[1], found[2], found[3], _title(found[1], found[2])
    if task in _GLUE_TASKS and score.official_rows is not None:
        return _GLUE, task, score.split.replace("dev", "validation", 1), _title(_GLUE, task)
    return slug(task) or "unnamed-task", None, one_line(score.split), task


def _title(data_set: str, config: str) -> str:
    return f"GLUE {config.upper()}" if data_set == _GLUE else f"{data_set} {config}"


def _rows(document: DeltaDocument, split: str) -> tuple[int | None, int | None]:
    told = document.training.data.get(split)
    return (told.examples, told.official_size) if told else (None, None)


def _told(values: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


def _rank(document: DeltaDocument, metric: str) -> tuple[int, str]:
    order = document.task.metrics
    return (order.index(metric) if metric in order else len(order)), metric


def as_mapping(value: Any) -> dict[str, Any]:
    """A JSON object as it is, and anything else as an empty one."""
    return value if isinstance(value, dict) else {}
