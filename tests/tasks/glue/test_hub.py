import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from supermask.errors import DataError, MissingDependencyError, UnknownNameError
from supermask.tasks import load_glue
from supermask.tasks.glue import HUB_DATASET, HUB_REVISION, glue_row

from .official_layout import write_glue


class HubTable:
    """What a split of a hub data set shows of itself: columns and their features."""

    def __init__(self, columns, names=None):
        self.columns = columns
        self.features = {name: SimpleNamespace(names=names) if name == "label" else None for name in columns}

    def __getitem__(self, column):
        return self.columns[column]


def pair(labels, names, count):
    return HubTable(
        {
            "sentence1": [f"first {i}" for i in range(count)],
            "sentence2": [f"second {i}" for i in range(count)],
            "label": labels,
            "idx": list(range(count)),
        },
        names,
    )


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the library `datasets` that gives `hub.fetched` or raises `hub.error`, and records the call."""
    state = SimpleNamespace(fetched={}, error=None, calls=[])

    def load_dataset(*args, **kwargs):
        state.calls.append((args, kwargs))
        if state.error is not None:
            raise state.error
        return state.fetched

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return state


def test_the_data_set_is_asked_for_at_the_pinned_revision(hub):
    names = ["entailment", "not_entailment"]
    hub.fetched = {"train": pair([0, 1], names, 2), "validation": pair([1], names, 1), "test": pair([-1], names, 1)}
    data = load_glue("rte")
    assert hub.calls == [((HUB_DATASET, "rte"), {"revision": HUB_REVISION})]
    assert len(HUB_REVISION) == 40
    assert (data.train.first, data.train.second) == (("first 0", "first 1"), ("second 0", "second 1"))
    assert (data.train.labels, data["dev"].labels, data["test"].labels) == ((0, 1), (1,), None)
    assert data["test"].ids == ("0",)
    assert data.train.source == f"hub:nyu-mll/glue/rte@{HUB_REVISION[:8]}/train"


def test_scores_are_those_of_the_files_again(hub, tmp_path):
    folder = load_glue("stsb", write_glue(tmp_path), splits=["train", "dev"])
    tables = {}
    for ours, theirs in (("train", "train"), ("dev", "validation")):
        rows = folder[ours]
        columns = {"sentence1": list(rows.first), "sentence2": list(rows.second), "idx": list(range(len(rows)))}
        tables[theirs] = HubTable({**columns, "label": [float(np.float32(label)) for label in rows.labels]})
    assert tables["validation"]["label"] != [3.8]
    hub.fetched = tables
    from_hub = load_glue("stsb", splits=["train", "dev"])
    assert from_hub["dev"].labels == (3.8,)
    assert from_hub.content_hashes == folder.content_hashes


def test_single_sentences_and_mnlis_own_columns(hub):
    names = ["entailment", "neutral", "contradiction"]
    table = HubTable({"premise": ["p"], "hypothesis": ["h"], "label": [2], "idx": [4]}, names)
    hub.fetched = dict.fromkeys(glue_row("mnli").hub_splits.values(), table)
    data = load_glue("mnli", splits=["dev_mismatched"])
    assert data["dev_mismatched"].first == ("p",) and data["dev_mismatched"].second == ("h",)
    assert data["dev_mismatched"].labels == (2,) and data["dev_mismatched"].ids == ("4",)
    hub.fetched = {
        "train": HubTable({"sentence": ["s"], "label": [1], "idx": [0]}, ["unacceptable", "acceptable"]),
    }
    assert load_glue("cola", splits=["train"]).train.second is None


def test_a_data_set_of_another_shape_is_refused(hub):
    hub.fetched = {"train": pair([0], ["not_entailment", "entailment"], 1)}
    with pytest.raises(DataError, match=r"the classes are \['not_entailment', 'entailment'\], expected \['entail"):
        load_glue("rte", splits=["train"])
    hub.fetched = {"train": HubTable({"text": ["a"], "label": [0], "idx": [0]}, ["entailment", "not_entailment"])}
    with pytest.raises(DataError, match="no column sentence1, sentence2; the columns are: text, label, idx"):
        load_glue("rte", splits=["train"])
    with pytest.raises(UnknownNameError, match="no such split; there are: train"):
        load_glue("rte", splits=["dev"])


def test_a_hub_out_of_reach_is_one_line_with_the_remedy(hub):
    hub.error = ConnectionError("Couldn't reach the hub\nwith a long tail")
    with pytest.raises(DataError) as caught:
        load_glue("rte")
    assert str(caught.value) == (
        "cannot fetch the task 'rte' from the hub's 'nyu-mll/glue' (ConnectionError: Couldn't reach the hub); "
        "connect to the network, or give a folder with the official TSV files with --data-dir FOLDER"
    )


def test_without_the_library_the_extra_and_the_folder_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'supermask\[hub\]', or give a folder .* --data-dir"):
        load_glue("rte")
