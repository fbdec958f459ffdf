"""Measures of runs and of pairs against numpy; and of deltas that are given, or lie beside their records."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from study.tiny_measured import HEAD, delta_of, keeps, masked_names
from supermask.analysis import MAGNITUDE_BINS, count_overlap, distances
from supermask.deltas import (
    Change,
    DenseValues,
    KeepMask,
    SparseValues,
    named_tensors,
)
from supermask.errors import BaseMismatchError, ConfigurationError
from supermask.models import map_parameters
from supermask.study import RecordStore, runs_of
from supermask.study.measuring import load_base_model, measure_pair, measure_run, measure_store, pairs_to_measure
from supermask.study.records import delta_path
from supermask.training.provenance import current_environment
from tiny_command import call, refused
from tiny_models import tiny_model
from tiny_records import tiny_record
from tiny_studies import MASK, PROBES, carried_out, tiny_plan, tiny_study


def test_measures_of_masks() -> None:
    model = tiny_model("bert")
    masks = keeps(model, 0.1, 0)
    method = {"kind": "supermask", "initial_sparsity": 0.0, "nothing": None}
    delta = delta_of(model, {name: KeepMask(keep) for name, keep in masks.items()}, method=method)
    found = measure_run(model, delta)
    assert (found.task, found.method, found.seed, found.base_name) == ("toy", method, 3, "tiny")
    assert (found.delta, found.base) == (delta.digest, delta.base.digest)
    assert found.source == current_environment().source
    tensors = named_tensors(model)
    assert [one.name for one in found.tensors] == masked_names(model)  # and not the head
    infos = {info.name: info for info in map_parameters(model).infos}
    size = np.abs(np.concatenate([tensors[name].detach().numpy().ravel() for name in masks])).astype(np.float64)
    dropped = ~np.concatenate([keep.numpy().ravel() for keep in masks.values()])
    for one in found.tensors:
        weight, keep = tensors[one.name].detach().double().numpy(), masks[one.name].numpy()
        assert (one.role, one.block) == (str(infos[one.name].role), infos[one.name].block)
        assert one.zeros == one.changed == (~keep).sum()
        assert one.sparsity == one.zeros / weight.size and one.weights == weight.size
        off = np.abs(weight * ~keep)
        assert one.l1 == pytest.approx(off.sum() / math.sqrt(off.size), rel=1e-8)
        assert one.largest_column_sum == pytest.approx(np.linalg.norm(off, 1), rel=1e-8)
        assert one.largest_row_sum == pytest.approx(np.linalg.norm(off, np.inf), rel=1e-8)
        angle = math.acos((weight * weight * keep).sum() / np.linalg.norm(weight) / np.linalg.norm(weight * keep))
        assert one.angular == pytest.approx(angle / math.pi, rel=1e-7)
        assert one.zeroed_max == pytest.approx(off.max(), rel=1e-8)
        assert one.zeroed_mean == pytest.approx(off[~keep].mean(), rel=1e-8)
    assert found.zeroed is not None and found.masked is not None
    assert (found.zeros, found.masked_weights, found.sparsity) == (delta.zeros, delta.weights, delta.sparsity)
    assert found.masked.mean == pytest.approx(size.mean(), rel=1e-8)
    edges = np.array([0.0, *MAGNITUDE_BINS, np.inf])
    assert list(found.zeroed.histogram) == np.histogram(size[dropped], bins=edges)[0].tolist()
    smallest = np.argsort(size, kind="stable")[: dropped.sum()]
    pruning = found.against_magnitude()
    assert pruning is not None and pruning.scope == "global"
    assert pruning.shared == dropped[smallest].sum()
    assert pruning.pruned.max == pytest.approx(size[smallest].max(), rel=1e-8)
    within = found.against_magnitude("tensor")
    assert within is not None and within.pruned.weights == delta.zeros and within.shared != pruning.shared
    table = found.zeros_by_place()
    assert table.total.zeros == delta.zeros and len(table.blocks) == 3


def test_measures_of_pruning_and_of_values() -> None:
    model = tiny_model("bert")
    masks = keeps(model, 0.5, 1)
    tensors = named_tensors(model)
    values = {name: tensors[name].detach() + 0.01 for name in masks}
    bias = "bert.encoder.layer.0.output.dense.bias"
    changes: dict[str, Change] = {name: SparseValues(keep, values[name][keep]) for name, keep in masks.items()}
    changes[bias] = DenseValues(tensors[bias].detach() + 0.25)
    delta = delta_of(model, changes, method={"kind": "pruning"})
    found = measure_run(model, delta)
    other = tiny_model("bert")
    delta.apply_(other)
    wanted = {one.name: one for one in distances(tiny_model("bert"), other)}
    for one in found.tensors:
        assert one.changed == wanted[one.name].changed
        for name in ("l1", "largest_column_sum", "largest_row_sum", "angular"):
            exact = getattr(wanted[one.name], name)
            assert getattr(one, name) == (None if exact is None else pytest.approx(exact, rel=1e-8))
    moved = next(one for one in found.tensors if one.name == bias)
    assert (moved.zeros, moved.sparsity, moved.zeroed_max, moved.largest_column_sum) == (None, None, None, None)
    assert found.zeros == delta.zeros and found.masked_weights == delta.weights


def test_a_head_alone_and_values_alone_have_no_zeros() -> None:
    model = tiny_model("bert")
    alone = measure_run(model, delta_of(model, {}, training={}))
    assert (alone.tensors, alone.zeros, alone.sparsity, alone.masked_weights, alone.seed) == ((), None, None, 0, None)
    assert alone.against_magnitude() is None
    with pytest.raises(ConfigurationError, match="masks no tensor"):
        alone.zeros_by_place()
    name = masked_names(model)[0]
    values = measure_run(model, delta_of(model, {name: DenseValues(model.get_parameter(name).detach() * 2)}))
    assert (values.zeroed, values.masked, values.magnitude_pruning) == (None, None, ())
    assert values.tensors[0].angular == pytest.approx(0.0, abs=1e-7)


def test_a_mask_without_zeros() -> None:
    model = tiny_model("bert")
    masks = {name: KeepMask(torch.ones_like(keep)) for name, keep in keeps(model, 0.0, 0).items()}
    found = measure_run(model, delta_of(model, masks))
    assert (found.zeros, found.sparsity) == (0, 0.0)
    assert found.against_magnitude() is not None and found.against_magnitude().overlap is None  # type: ignore[union-attr]
    assert {one.zeroed_mean for one in found.tensors} == {None}


def test_the_base_is_checked_and_its_head_is_not() -> None:
    model = tiny_model("bert", num_labels=2)
    name = masked_names(model)[0]
    delta = delta_of(model, {name: KeepMask(keeps(model, 0.2, 0)[name])})
    other_head = tiny_model("bert", num_labels=3)
    other_head.load_state_dict({n: t for n, t in model.state_dict().items() if n not in HEAD}, strict=False)
    assert measure_run(other_head, delta) == measure_run(model, delta)
    assert measure_run({n: t for n, t in named_tensors(model).items() if n not in HEAD}, delta).delta == delta.digest
    with torch.no_grad():
        model.get_parameter("bert.pooler.dense.weight")[0, 0] += 1.0
    with pytest.raises(BaseMismatchError, match="not the base"):
        measure_run(model, delta)
    assert measure_run(model, delta, verify=False).delta == delta.digest
    with pytest.raises(BaseMismatchError, match=f"no tensor {name}"):
        measure_run({}, delta)
    with pytest.raises(BaseMismatchError, match="1 of 1 tensors differ"):
        measure_run({name: torch.zeros(2, 2)}, delta)


def test_pairs() -> None:
    model = tiny_model("bert")
    masks = [keeps(model, 0.2, seed) for seed in (0, 1)]
    first, second = (delta_of(model, {name: KeepMask(keep) for name, keep in mask.items()}) for mask in masks)
    found = measure_pair(model, first, second, first_label="toy/one", second_label="toy/two")
    assert (found.first, found.second) == ("toy/one", "toy/two")
    assert (found.first_delta, found.second_delta, found.base) == (first.digest, second.digest, first.base.digest)
    counts = {name: count_overlap(masks[0][name], masks[1][name]) for name in masks[0]}
    for tensor in found.tensors:
        wanted = counts[tensor.name]
        assert tensor.count.shared == wanted.shared and tensor.count.expected == pytest.approx(wanted.expected)
        assert tensor.expected_given_rows_and_columns == pytest.approx(wanted.expected_given_rows_and_columns, rel=1e-8)
    assert found.total.shared == sum(count.shared for count in counts.values())
    assert found.total.chance == pytest.approx(second.sparsity, rel=0.01)
    value = "bert.encoder.layer.0.attention.self.value.weight"
    assert found.within(role="value", block=0).shared == counts[value].shared
    assert found.within(block=0).weights == sum(c.weights for name, c in counts.items() if ".layer.0." in name)
    assert found.significance(role="value", block=0).exact
    assert found.significance().z == found.total.z
    assert 1e-3 < found.significance().p_more < 1 - 1e-3  # masks at random share what chance gives
    with pytest.raises(ConfigurationError, match=r"both mask no tensor of key block 7; they both mask: query, key"):
        found.within(role="key", block=7)


def test_pairs_that_share_no_mask_are_refused() -> None:
    model = tiny_model("bert")
    mask = delta_of(model, {name: KeepMask(keep) for name, keep in keeps(model, 0.2, 0).items()})
    with pytest.raises(ConfigurationError, match="no tensor that both a/b and c/d mask"):
        measure_pair(model, mask, delta_of(model, {}), first_label="a/b", second_label="c/d")


Bare = tuple[RecordStore, Path, dict[str, Any]]
PAIR = "pairs/probe-paraphrase-mask-seed0--probe-similarity-mask-seed0.json"


@pytest.fixture(scope="module")
def results(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a study, with all their deltas, and its pair of masks compared."""
    folder = tmp_path_factory.mktemp("measured") / "results"
    study = tiny_study(tiny_base, tasks=PROBES, measures=["overlap"])
    report, _ = carried_out(tiny_plan(study, folder, keep_deltas="all"))
    assert report.measured.pairs == (PAIR,)
    return folder


@pytest.fixture
def bare(results: Path, tmp_path: Path) -> Bare:
    """A store of the records alone; a folder with their deltas; what the measures were."""
    store, deltas = tmp_path / "store", tmp_path / "deltas"
    shutil.copytree(results, store)
    shutil.rmtree(store / "pairs")
    before = measured(store)
    for path in store.rglob("*.measures.json"):
        path.unlink()
    for path in store.rglob("*.delta.safetensors"):
        folder = deltas / path.parent.name / path.name.partition(".")[0]
        folder.mkdir(parents=True)
        path.rename(folder / "delta.safetensors")
    return RecordStore(store), deltas, before


def measured(store: Path) -> dict[str, Any]:
    paths = store.rglob("*.measures.json")
    return {path.relative_to(store).as_posix(): json.loads(path.read_text()) for path in paths}


def lay_beside(store: RecordStore, folder: Path) -> Path:
    target = delta_path(store.folder / folder.parent.name / f"{folder.name}.json")
    return Path(shutil.copyfile(folder / "delta.safetensors", target))


def test_given_deltas_find_their_records(bare: Bare) -> None:
    store, deltas, before = bare
    given = [*sorted(deltas.glob("*/mask-*")), *sorted(deltas.glob("*/full-*/delta.safetensors"))]
    told = measure_store(store, deltas=given)
    assert told.faults == () and set(told.runs) == {stored.path for stored in store.records} and len(told.runs) == 4
    assert measured(store.folder) == before
    kept = {path.name for path in store.folder.rglob("*.delta.safetensors")}
    assert kept == {"mask-seed0.delta.safetensors"}  # of masks alone, unless all are asked for
    assert measure_store(store, deltas=given).runs == ()  # measured already
    assert len(measure_store(store, deltas=given, again=True, keep_deltas="all").runs) == 4
    assert len(list(store.folder.rglob("*.delta.safetensors"))) == 4


def test_a_delta_of_another_run_and_a_base_that_is_gone_are_told(bare: Bare, tmp_path: Path) -> None:
    store, deltas, _ = bare
    (mask,) = deltas.glob("probe-paraphrase/mask-*")
    gone = call("study", "measure", mask, "--results", store.folder, "--base", tmp_path / "no-base")
    assert gone.exit_code == 1 and gone.stderr.startswith("not measured: ") and "no-base" in gone.stderr
    record = store.folder / "probe-paraphrase" / "mask-seed0.json"
    content = json.loads(record.read_text())
    content["scores"]["dev"]["f1"] += 0.01
    record.write_text(json.dumps(content))
    (tmp_path / "junk.safetensors").write_bytes(b"no delta")
    given = [mask, tmp_path / "junk.safetensors", tmp_path / "nowhere"]
    told = measure_store(RecordStore(store.folder), deltas=given)
    assert told.runs == () and len(told.faults) == 3
    assert f"none of the 4 records in {store.folder} say the same" in told.faults[0]
    assert not measured(store.folder)


def test_deltas_that_lie_beside_are_measured_and_compared(bare: Bare, results: Path) -> None:
    store, deltas, before = bare
    for folder in deltas.glob("*/*"):
        lay_beside(store, folder)
    masks = [stored for stored in store.records if stored.method["kind"] == "supermask"]
    bases: list[str] = []

    def base(name: str) -> Any:
        bases.append(name)
        return load_base_model(name)

    told = measure_store(store, base, compare=masks)
    assert len(told.runs) == 4 and told.pairs == (PAIR,) and told.faults == () and len(bases) == 1
    assert measured(store.folder) == before
    assert json.loads((store.folder / PAIR).read_text()) == json.loads((results / PAIR).read_text())
    again = measure_store(store, base, compare=masks)
    assert again == type(again)() and len(bases) == 1


def test_a_damaged_delta_costs_its_own_measures_alone(bare: Bare) -> None:
    store, deltas, _ = bare
    for folder in deltas.glob("*/mask-*"):
        target = lay_beside(store, folder)
        if folder.parent.name == "probe-paraphrase":
            content = target.read_bytes()
            target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    told = measure_store(store, compare=[stored for stored in store.records if stored.method["kind"] == "supermask"])
    assert told.runs == ("probe-similarity/mask-seed0.json",) and told.pairs == ()
    assert [fault.partition(":")[0] for fault in told.faults] == [
        "probe-paraphrase/mask-seed0.json",
        "probe-paraphrase/mask-seed0.json with probe-similarity/mask-seed0.json",
    ]


def test_only_masks_of_one_method_seed_and_base_are_compared(tmp_path: Path) -> None:
    arms = [MASK, {**MASK, "name": "other", "method": {"kind": "supermask", "init_logit": 0.2}}]
    for run in runs_of(tiny_study("b", tasks=PROBES, arms=arms, seeds=[0, 1])):
        tiny_record(run).save(tmp_path / run.task / f"{run.label}.json")
    pairs = pairs_to_measure(RecordStore(tmp_path).records)
    assert len(pairs) == 4
    for pair in pairs:
        assert [stored.record.inputs.task for stored in pair] == list(PROBES)
        assert len({(stored.record.inputs.config.seed, json.dumps(stored.method)) for stored in pair}) == 1


def test_the_verb_measures(bare: Bare) -> None:
    store, deltas, before = bare
    outcome = call("study", "measure", *sorted(deltas.glob("*/*")), "--results", store.folder)
    assert outcome.exit_code == 0, outcome.stderr
    assert measured(store.folder) == before
    assert outcome.stdout.splitlines()[-1] == f"measured: {PAIR}"
    again = call("study", "measure", "--results", store.folder, "--json")
    assert json.loads(again.stdout) == {"results": str(store.folder), "runs": [], "pairs": [], "faults": []}
    refused(call("study", "measure", "--keep-deltas", "some"), "--keep-deltas")
