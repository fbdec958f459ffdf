"""Probes: controlled tasks that the package writes itself, one in each shape of GLUE.

A probe is generated from a grammar, without any file and the same on every machine. Its dev split is made of nouns,
verbs and adjectives that its train split never shows, and what could tell the label without knowing those words
(function words, length, position, overlap of two sentences) is the same for every label. So a model that knew nothing
of the language before training can learn the train split by heart and stays near chance on dev; a pretrained one does
not.

The sentences are grammatical but not always sensible ("the chef washed the engine"): what they hold fixed matters more.

| probe | input | label | metrics | chance |
|---|---|---|---|---|
| `probe-acceptability` | sentence | 2 classes | Matthews, accuracy | 0, 0.5 |
| `probe-sentiment` | sentence | 2 classes | accuracy | 0.5 |
| `probe-paraphrase` | pair | 2 classes | F1, accuracy | 0.67 (one answer to all), 0.5 |
| `probe-similarity` | pair | 0 to 5 | Spearman, Pearson | 0 |
| `probe-entailment` | pair | 3 classes | accuracy | 0.333 |
"""

from __future__ import annotations

import difflib
from typing import Final

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.tasks.probes.acceptability import ACCEPTABILITY
from supermask.tasks.probes.entailment import ENTAILMENT
from supermask.tasks.probes.grammar import Probe, draw_examples
from supermask.tasks.probes.paraphrase import PARAPHRASE
from supermask.tasks.probes.sentiment import SENTIMENT
from supermask.tasks.probes.similarity import SIMILARITY
from supermask.tasks.task import Task, TaskData

__all__ = ["DEV_SIZE", "LARGEST_SIZE", "PROBES", "TRAIN_SIZE", "load_probe"]

_PROBES: Final[dict[str, Probe]] = {
    probe.task.name: probe for probe in (ACCEPTABILITY, SENTIMENT, PARAPHRASE, SIMILARITY, ENTAILMENT)
}

PROBES: Final[tuple[Task, ...]] = tuple(probe.task for probe in _PROBES.values())
"""The tasks of all probes."""

# Both hold every label equally often, whether there are two, three or six.
TRAIN_SIZE: Final = 1536
DEV_SIZE: Final = 384
LARGEST_SIZE: Final = 10_000


def load_probe(name: str, *, train_size: int = TRAIN_SIZE, dev_size: int = DEV_SIZE, seed: int = 0) -> TaskData:
    """Write the rows of a probe.

    A larger split begins with the rows of a smaller one, and neither size changes the rows of the other split.

    Args:
        name: one of `PROBES`, for example `probe-sentiment`.
        train_size: number of training rows, from one for each label to `LARGEST_SIZE`.
        dev_size: number of development rows, in the same range.
        seed: which rows; the vocabularies of the splits do not depend on it.

    Returns:
        The task with its splits `train` and `dev`: labels balanced to within one row, no row twice.

    Raises:
        UnknownNameError: there is no such probe.
        ConfigurationError: a size is out of range, or the seed is not an integer; all faults together.

    Example:
        >>> data = load_probe("probe-sentiment", train_size=100, dev_size=20)
        >>> len(data["train"]), len(data["dev"]), sum(data["dev"].labels)
        (100, 20, 10)
    """
    if name not in _PROBES:
        close = difflib.get_close_matches(name, _PROBES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UnknownNameError(f"no probe is called {name!r}{hint}; probes are: {', '.join(_PROBES)}")
    probe = _PROBES[name]
    faults = [
        f"{argument} must be an integer from {probe.rows_per_round} (one row for each label) to {LARGEST_SIZE}, "
        f"received {size!r}"
        for argument, size in (("train_size", train_size), ("dev_size", dev_size))
        if type(size) is not int or not probe.rows_per_round <= size <= LARGEST_SIZE
    ]
    if type(seed) is not int:
        faults.append(f"seed must be an integer, received {seed!r}")
    if faults:
        raise ConfigurationError(f"{name}: " + "; ".join(faults))
    return TaskData(
        probe.task,
        {
            "train": draw_examples(probe, "train", size=train_size, seed=seed),
            "dev": draw_examples(probe, "dev", size=dev_size, seed=seed),
        },
    )
