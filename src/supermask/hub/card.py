"""The model card of a delta: what it is, how good, how to use it, and how it was learnt."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

from supermask.deltas.document import DeltaDocument
from supermask.errors import ConfigurationError
from supermask.hub.card_metadata import card_metadata, recorded_scores
from supermask.hub.client import import_client
from supermask.hub.escaping import as_code, as_fenced_json, as_python_string, one_line, slug

__all__ = ["CARD_FILE", "model_card", "require_license"]

CARD_FILE: Final = "README.md"
_LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_MOST_LABELS: Final = 12
_MOST_ROLES: Final = 24
_MOST_SETTINGS: Final = 4000  # characters


def model_card(document: DeltaDocument, *, nbytes: int, address: str | None = None, license: str | None = None) -> str:
    """Write the model card of a delta from what its document says.

    All texts of the document are shown as code, so that none of them can be markup.

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
    if license is not None:
        require_license(license)
    client = import_client("a model card")
    name = slug((address or "").partition("@")[0].rpartition("/")[2]) or _default_name(document)
    metadata = card_metadata(document, name=name, license=license)
    sections = (
        _headline(document, nbytes),
        _scores(document),
        _usage(document, address or "OWNER/NAME"),
        _by_role(document),
        _training(document),
        _license(license),
    )
    body = "\n\n".join("\n".join(lines) for lines in sections if lines)
    return str(client.ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}\n"))


def require_license(license: str) -> None:
    """Refuse what cannot be a licence's identifier.

    Raises:
        ConfigurationError: saying what one looks like.
    """
    if not _LICENSE.fullmatch(license):
        raise ConfigurationError(
            f"{license!r} is no identifier of a licence on the hub; these are written like apache-2.0, mit or other"
        )


def _headline(document: DeltaDocument, nbytes: int) -> list[str]:
    base, task = document.base, document.task
    labels = task.label_names
    kind = as_code(task.kind or "unknown kind") + (" of pairs of texts" if task.paired else "")
    rows = {
        "task": f"{_task(document)}: {kind}{_labels(labels) if labels else ''}",
        "base": f"{_base(document)}, {as_code(base.architecture)} in {as_code(base.dtype)}",
        "base's fingerprint": as_code(base.digest),
        "method": as_code(document.method.kind or "not recorded"),
        "zeros": _zeros(document),
        "size": f"{nbytes:,} bytes",
        "delta's digest": as_code(document.digest),
    }
    return [
        f"# {_task(document)} as a task delta",
        "",
        f"This turns {_base(document)} into a model of the task {_task(document)}, and comes off again bit for bit. It "
        "holds no code and no copy of the base.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]


def _scores(document: DeltaDocument) -> list[str]:
    scores = recorded_scores(document)
    if not scores:
        return []
    rows = []
    for score in scores:
        count = f"{score.rows:,}" if score.rows is not None else "not recorded"
        if score.official_rows is not None:
            count += f" of {score.official_rows:,}, **a subset**" if score.is_subset else ", all of the official split"
        rows.append(f"| {as_code(score.split)} | {count} | {as_code(score.metric)} | {100 * score.value:.2f} |")
    return [
        "## Scores",
        "",
        "| split | rows | metric | score, % |",
        "|---|---|---|---:|",
        *rows,
        "",
        f"As recorded in training: {', '.join(_conditions(document))}.",
    ]


def _conditions(document: DeltaDocument) -> Iterator[str]:
    masked = document.method.kind == "supermask"
    yield "thresholded mask (the stored one; no sampling)" if masked else "the stored weights"
    training, config = document.training, document.training.config
    yield f"arithmetic {as_code(training.precision)}" if training.precision else "arithmetic not recorded"
    if "max_length" in config:
        yield f"texts cut at {_figure(config['max_length'])} tokens"
    yield f"seed {_figure(config['seed'])}, one run" if "seed" in config else "one run"


def _usage(document: DeltaDocument, address: str) -> list[str]:
    task, base = document.task, document.base
    labels = task.label_names
    regression = task.kind == "regression"
    outputs = len(labels) if labels else _outputs_of_head(document)
    options = [
        f"num_labels={outputs or 'NUMBER'}",
        *(["regression=True"] if regression else []),
        *([f"revision={as_python_string(base.revision)}"] if base.revision else []),
        *([f"dtype={as_python_string(base.dtype)}"] if base.dtype != "float32" else []),
    ]
    second = ' --second "another text"' if task.paired else ""
    return [
        "## Use",
        "",
        "```python",
        "# pip install 'supermask[train,cli]'",
        "import supermask",
        "",
        f"delta = supermask.TaskDelta.from_pretrained({as_python_string(address)})",
        f"base = supermask.load_base({as_python_string(_place_of_base(document))}, {', '.join(options)})",
        "delta.apply_(base.model)  # now the task's model; another base is refused",
        "delta.remove_(base.model)  # the base again, bit for bit",
        "```",
        "",
        "```console",
        f'$ supermask predict {shlex.quote(one_line(address, longest=1000))} --sentence "a text"{second}',
        "```",
    ]


def _outputs_of_head(document: DeltaDocument) -> int | None:
    shapes = [change.shape for change in document.changes if change.name in document.head]
    return shapes[-1][0] if shapes and shapes[-1] else None


def _by_role(document: DeltaDocument) -> list[str]:
    counts: dict[str, list[int]] = {}
    for change in document.changes:
        row = counts.setdefault(change.role or "unnamed", [0, 0, 0])
        if change.zeros is not None:
            row[0] += change.zeros
            row[1] += change.weights
        if change.kind != "keep_mask":
            row[2] += change.weights - (change.zeros or 0)
    rows = []
    for role, (zeros, weights, values) in counts.items():
        masked = f"{zeros:,} | {weights:,} | {_percent(zeros, weights)}" if weights else "– | – | –"
        rows.append(f"| {as_code(role)} | {masked} | {f'{values:,}' if values else '–'} |")
    left_out = [f"| {len(rows) - _MOST_ROLES} more | | | | |"] if len(rows) > _MOST_ROLES else []
    return [
        "## What changes, by role",
        "",
        "| role | zeros | of weights | % | new values |",
        "|---|---:|---:|---:|---:|",
        *rows[:_MOST_ROLES],
        *left_out,
    ]


def _training(document: DeltaDocument) -> list[str]:
    training, config = document.training, document.training.config
    facts = [f"{_figure(training.steps)} steps"] if training.steps is not None else []
    data = training.data.get("train")
    if data is not None and data.examples is not None:
        whole = f" of {_figure(data.official_size)}" if data.official_size not in (None, data.examples) else ""
        facts.append(f"{_figure(data.examples)}{whole} training examples")
    facts += [f"supermask {as_code(training.supermask)}"] if training.supermask else []
    shown = as_fenced_json({"method": document.method.describe(), **({"training": config} if config else {})})
    if len(shown) > _MOST_SETTINGS:
        shown = "They are long: see `delta_config.json`."
    return [
        "## Training",
        "",
        *([f"{', '.join(facts)}.", ""] if facts else []),
        "<details>",
        "<summary>Settings</summary>",
        "",
        shown,
        "",
        "</details>",
    ]


def _license(license: str | None) -> list[str]:
    stated = f"The delta is under {as_code(license)}." if license else "None was chosen for the delta."
    return ["## Licence", "", f"{stated} The base's licence holds for the base, which is not part of this repository."]


def _task(document: DeltaDocument) -> str:
    return as_code(document.task.name or "unnamed task")


def _base(document: DeltaDocument) -> str:
    name, revision = document.base.name, document.base.revision
    if name is None:
        return "a base without a name"
    return as_code(_last_part(name)) + (f" at revision {as_code(revision)}" if revision else "")


def _place_of_base(document: DeltaDocument) -> str:
    """What to load the base by: its name; for a folder on somebody's machine, a blank to fill in."""
    name = document.base.name
    if name is None:
        return "PATH/TO/BASE"
    return name if _last_part(name) == name else f"PATH/TO/{_last_part(name)}"


def _last_part(name: str) -> str:
    """A path on somebody's machine is nobody else's business: its last part; a name or hub id as it is."""
    parts = [part for part in re.split(r"[/\\]", name) if part]
    is_path = name.startswith((".", "~", "/")) or "\\" in name or len(parts) > 2
    return parts[-1] if is_path and parts else name


def _labels(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
    return f", labels {', '.join(as_code(label) for label in labels[:_MOST_LABELS])}{more}"


def _zeros(document: DeltaDocument) -> str:
    if not document.weights:
        return "none: values alone were trained"
    share = _percent(document.zeros, document.weights)
    return f"{share} % ({document.zeros:,} of {document.weights:,} weights with a mask)"


def _percent(zeros: int, weights: int) -> str:
    return f"{100 * zeros / weights:.2f}"


def _figure(value: object) -> str:
    """A small whole number as people write it; anything else is a text like any other."""
    return f"{value:,}" if type(value) is int and abs(value) < 1 << 53 else as_code(value)


def _default_name(document: DeltaDocument) -> str:
    return f"{slug(document.task.name or '') or 'unnamed-task'}-delta"
