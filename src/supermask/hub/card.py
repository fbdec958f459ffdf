"""The model card of a delta: what it is, how good, how to use it, and how it was learnt.

`card.md.jinja` is the page; whatever it shows passes `as_markdown`, unless it is quoted for Python, JSON or a shell.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, final

from supermask.deltas.document import DataRecord, DeltaDocument
from supermask.errors import ConfigurationError
from supermask.hub.client import import_client
from supermask.hub.escaping import Source, as_markdown, one_line, slug

__all__ = ["CARD_FILE", "model_card", "require_license"]

CARD_FILE: Final = "README.md"
_LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_FROM_HUB: Final = re.compile(r"hub:([\w.-]+/[\w.-]+)/([\w.-]+)@[0-9a-f]+/([\w.-]+)")
_METRIC_IDS: Final = {"matthews": "matthews_correlation", "spearman": "spearmanr", "pearson": "pearsonr"}
# Where a delta was learnt on the official files of these, its splits are those of the hub's data set.
_GLUE: Final = "nyu-mll/glue"
_GLUE_TASKS: Final = frozenset({"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"})
_TEXT_KINDS: Final = ("classification", "regression")  # to the hub, STS-B too is text classification
_MOST_SCORES: Final = 32


def model_card(document: DeltaDocument, *, nbytes: int, address: str | None = None, license: str | None = None) -> str:
    """Write the model card of a delta from what its document says.

    Args:
        document: the delta's.
        nbytes: the size of its safetensors file.
        address: where it can be loaded from; without it the card leaves a blank to fill in.
        license: the identifier of a licence on the hub, such as `apache-2.0`; without it the card says that none was
            chosen.

    Returns:
        Markdown, with the YAML that the hub reads before it.

    Raises:
        ConfigurationError: if the licence is no identifier.
        MissingDependencyError: if huggingface_hub is not installed.
    """
    import jinja2

    require_license(license)
    client = import_client("a model card")
    environment = jinja2.Environment(
        finalize=as_markdown, undefined=jinja2.StrictUndefined, line_statement_prefix="%", keep_trailing_newline=True
    )
    environment.filters |= {
        "percent": lambda fraction: Source(f"{100 * fraction:.2f}"),
        "python": lambda text: Source(json.dumps(text)),
        "shell": lambda text: Source(shlex.quote(one_line(text, longest=1000))),
    }
    task, method, training = document.task, document.method, document.training
    scores = _recorded_scores(document)
    settings = {"method": method.describe(), **({"training": training.config} if training.config else {})}
    body = environment.from_string(files("supermask.hub").joinpath("card.md.jinja").read_text("utf-8")).render(
        document=document,
        training=training,
        examples=training.data.get("train") or DataRecord(),
        task=task.name or "unnamed task",
        labels=task.label_names,
        base=_last_part(document.base.name) if document.base.name else Source("a base without a name"),
        masked=method.kind == "supermask",
        scores=scores,
        roles=_by_role(document),
        address=address or "OWNER/NAME",
        place_of_base=_place_of_base(document.base.name),
        outputs=Source(len(task.label_names) or _outputs_of_head(document) or "NUMBER"),
        settings=Source(json.dumps(settings, indent=2, sort_keys=True)),
        nbytes=nbytes,
        license=license,
    )
    name = slug((address or "").partition("@")[0].rpartition("/")[2]) or f"{slug(task.name) or 'unnamed-task'}-delta"
    metadata = _metadata(client, document, scores, name=name, license=license)
    return str(client.ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}"))


def require_license(license: str | None) -> None:
    """Refuse what cannot be a licence's identifier."""
    if license is not None and not _LICENSE.fullmatch(license):
        raise ConfigurationError(
            f"{license!r} is no identifier of a licence on the hub; these are written like apache-2.0, mit or other"
        )


@final
@dataclass(frozen=True)
class _Score:
    """A score, how many examples it is over, and how many the official split has, as far as that is recorded."""

    split: str
    metric: str
    value: float
    rows: int | None
    official_rows: int | None

    @property
    def is_subset(self) -> bool:
        return None not in (self.rows, self.official_rows) and self.rows != self.official_rows


def _recorded_scores(document: DeltaDocument) -> list[_Score]:
    """Split by split, the task's main metric first."""
    order = {metric: place for place, metric in enumerate(document.task.metrics)}
    found = []
    for split, scores in document.training.scores.items():
        data = document.training.data.get(split) or DataRecord()
        for metric in sorted(scores, key=lambda metric: (order.get(metric, len(order)), metric)):
            found.append(_Score(split, metric, scores[metric], data.examples, data.official_size))
    return found[:_MOST_SCORES]


def _by_role(document: DeltaDocument) -> list[tuple[str, Counter[str]]]:
    roles: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for change in document.changes:
        counted, masked = roles[change.role or "unnamed"], change.zeros is not None
        counted["zeros"] += change.zeros or 0
        counted["weights"] += change.weights * masked
        counted["new"] += 0 if change.kind == "keep_mask" else change.weights - (change.zeros or 0)
    return list(roles.items())


def _outputs_of_head(document: DeltaDocument) -> int | None:
    shapes = [change.shape for change in document.changes if change.name in document.head]
    return shapes[-1][0] if shapes and shapes[-1] else None


def _place_of_base(name: str | None) -> str:
    """What to load the base by: its name; for a folder on somebody's machine, a blank to fill in."""
    if name is None:
        return "PATH/TO/BASE"
    return name if _last_part(name) == name else f"PATH/TO/{_last_part(name)}"


def _last_part(name: str) -> str:
    """A path on somebody's machine is nobody else's business: its last part; a name or hub id as it is."""
    parts = [part for part in re.split(r"[/\\]", name) if part]
    is_path = name.startswith((".", "~", "/")) or "\\" in name or len(parts) > 2
    return parts[-1] if is_path and parts else name


def _metadata(client: Any, document: DeltaDocument, scores: list[_Score], *, name: str, license: str | None) -> Any:
    """What the hub indexes, a `huggingface_hub.ModelCardData`."""
    base = document.base
    # Only of a base from the hub is a revision recorded.
    hub_id = base.name if base.name and base.revision and _HUB_ID.fullmatch(base.name) else None
    results = [_result(client, document, score) for score in scores]
    method = slug(document.method.kind)
    return client.ModelCardData(
        base_model=hub_id,
        base_model_relation="adapter" if hub_id else None,
        datasets=sorted({result.dataset_type for result in results if "/" in result.dataset_type}) or None,
        eval_results=results or None,
        library_name="supermask",
        license=license,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name if results else None,
        pipeline_tag="text-classification" if document.task.kind in _TEXT_KINDS else None,
        tags=list(dict.fromkeys(["supermask", "task-delta", *([method] if method else [])])),
    )


def _result(client: Any, document: DeltaDocument, score: _Score) -> Any:
    data_set, config, split, title = _data_set(document, score)
    if score.is_subset:
        title += f" ({score.rows} of {score.official_rows} rows)"
    precision = document.training.precision
    conditions = {
        "mask": "thresholded" if document.method.kind == "supermask" else None,
        "precision": one_line(precision) if precision else None,
    }
    return client.EvalResult(
        task_type="text-classification" if document.task.kind in _TEXT_KINDS else "other",
        dataset_type=data_set,
        dataset_name=title,
        dataset_config=config,
        dataset_split=split,
        dataset_args=_told({"rows": score.rows, "official_rows": score.official_rows}),
        metric_type=_METRIC_IDS.get(score.metric, slug(score.metric) or "score"),
        metric_name=one_line(score.metric),
        metric_args=_told(conditions),
        metric_value=round(score.value, 6),
    )


def _data_set(document: DeltaDocument, score: _Score) -> tuple[str, str | None, str, str]:
    """Identifier, configuration, split and title of the data that a score is over."""
    task = one_line(document.task.name or "unnamed task")
    told = document.training.data.get(score.split)
    if found := _FROM_HUB.fullmatch(told.source if told and told.source else ""):
        data_set, config, split = found.groups()
    elif task in _GLUE_TASKS and score.official_rows is not None:
        data_set, config, split = _GLUE, task, score.split.replace("dev", "validation", 1)
    else:
        return slug(task) or "unnamed-task", None, one_line(score.split), task
    return data_set, config, split, f"GLUE {config.upper()}" if data_set == _GLUE else f"{data_set} {config}"


def _told(values: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None
