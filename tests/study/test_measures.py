"""Measures to the disk and back."""

import json
from pathlib import Path

import pytest

from study.tiny_measured import delta_of, keeps
from supermask.deltas import KeepMask
from supermask.errors import DataError
from supermask.study.measures import PairMeasures, RunMeasures
from supermask.study.measuring import measure_pair, measure_run
from tiny_models import tiny_model

COMMITTED = Path(__file__).parents[2] / "results" / "minilm-l6"


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    model = tiny_model("bert")
    method = {"kind": "supermask", "nothing": None}
    deltas = [
        delta_of(model, {n: KeepMask(k) for n, k in keeps(model, density, 0).items()}, method=method)
        for density in (0.1, 0.3)
    ]
    run = measure_run(model, deltas[0])
    run.save(tmp_path / "new" / "one.measures.json")
    assert RunMeasures.load(tmp_path / "new" / "one.measures.json") == run
    lines = (tmp_path / "new" / "one.measures.json").read_text().splitlines()
    assert sum('"name"' in line for line in lines) == len(run.tensors)  # one tensor a line
    assert json.loads("\n".join(lines))["method"] == method
    pair = measure_pair(model, *deltas, first_label="a", second_label="b")
    pair.save(tmp_path / "pair.json")
    assert PairMeasures.load(tmp_path / "pair.json") == pair
    empty = measure_run(model, delta_of(model, {}))
    empty.save(tmp_path / "empty.json")
    assert RunMeasures.load(tmp_path / "empty.json") == empty


def test_files_that_are_no_measures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"schema_version": 2}')
    for kind in (RunMeasures, PairMeasures):
        with pytest.raises(DataError, match="cannot be read"):
            kind.load(tmp_path / "nothing.json")
        with pytest.raises(DataError, match=r"is no measures file: .*schema_version"):
            kind.load(tmp_path / "wrong.json")


@pytest.mark.parametrize(("kind", "pattern"), [(RunMeasures, "*/*.measures.json"), (PairMeasures, "pairs/*.json")])
def test_committed_measures_are_read_and_written_as_they_are(
    tmp_path: Path, kind: type[RunMeasures] | type[PairMeasures], pattern: str
) -> None:
    paths = sorted(COMMITTED.glob(pattern))
    assert len(paths) > 5
    for path in paths:
        kind.load(path).save(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes(), path.name


def test_files_of_a_large_model_are_small(tmp_path: Path) -> None:
    """As pruning leaves BERT-base: 73 matrices masked, and 126 other tensors moved."""
    model = tiny_model("bert")
    mask = {name: KeepMask(keep) for name, keep in keeps(model, 0.1, 0).items()}
    run = measure_run(model, delta_of(model, mask))
    longest = max(run.tensors, key=lambda one: len(one.model_dump_json()))
    matrix = longest.model_copy(update={"shape": (3072, 768), "changed": 2_359_296, "zeros": 1_234_567})
    vector = {"shape": (3072,), "zeros": None, "zeroed_max": None, "zeroed_mean": None, "largest_column_sum": None}
    others = longest.model_copy(update={**vector, "largest_row_sum": None})
    run.model_copy(update={"tensors": (matrix,) * 73 + (others,) * 126}).save(tmp_path / "large.json")
    assert (tmp_path / "large.json").stat().st_size < 60_000
