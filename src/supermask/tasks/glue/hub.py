"""GLUE from the hub's data set, through the library `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supermask.errors import DataError, MissingDependencyError, UnknownNameError
from supermask.tasks.glue.rows import HUB_DATASET, HUB_REVISION, GlueRow
from supermask.tasks.task import Examples

__all__ = ["examples_from_hub", "fetch_hub_splits"]


def fetch_hub_splits(row: GlueRow) -> Mapping[str, Any]:
    """Fetch a task's configuration of the hub's data set at the pinned revision (or take it from the local cache).

    Returns:
        The hub's name of a split to its table.
    """
    remedy = "give a folder with the official TSV files with --data-dir FOLDER"
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependencyError(
            f"the task {row.task.name!r} comes from the hub through the library `datasets`, which is not installed: "
            f"pip install 'supermask[hub]', or {remedy}"
        ) from error
    try:
        fetched: Mapping[str, Any] = load_dataset(HUB_DATASET, row.hub_config, revision=HUB_REVISION)
    # What the library and its HTTP client raise changes between releases; the advice to the person is the same for all.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"cannot fetch the task {row.task.name!r} from the hub's {HUB_DATASET!r} "
            f"({type(error).__name__}: {reason}); connect to the network, or {remedy}"
        ) from error
    return fetched


def examples_from_hub(row: GlueRow, fetched: Mapping[str, Any], split: str) -> Examples:
    """Read one split out of the fetched data set.

    Returns:
        The examples; without labels for a test split.
    """
    task = row.task
    source = f"hub:{HUB_DATASET}/{row.hub_config}@{HUB_REVISION[:8]}/{row.hub_splits[split]}"
    if row.hub_splits[split] not in fetched:
        raise UnknownNameError(f"{source}: no such split; there are: {', '.join(fetched)}")
    table = fetched[row.hub_splits[split]]
    wanted = [row.hub_first, *([row.hub_second] if row.hub_second else []), "label", "idx"]
    absent = [name for name in wanted if name not in table.features]
    if absent:
        raise DataError(f"{source}: no column {', '.join(absent)}; the columns are: {', '.join(table.features)}")
    if task.label_names and tuple(table.features["label"].names) != task.label_names:
        raise DataError(f"{source}: the classes are {table.features['label'].names}, expected {list(task.label_names)}")
    labels: tuple[int, ...] | tuple[float, ...] | None = None
    if split not in task.test_splits:
        # The hub keeps scores as float32; the files have at most three decimals, so rounding gives their values back.
        labels = tuple(round(label, 3) for label in table["label"])
    return Examples(
        first=tuple(table[row.hub_first]),
        second=tuple(table[row.hub_second]) if row.hub_second else None,
        labels=labels,
        ids=tuple(str(value) for value in table["idx"]),
        source=source,
    )
