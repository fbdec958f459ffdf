from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from supermask.errors import SupermaskError
from supermask.report.results import collect
from supermask.study import RecordStore, Study
from supermask.study.executors import InlineExecutor
from supermask.study.measuring import measure_deltas, measure_store, pairs_to_measure
from supermask.study.progress import SilentReporter
from supermask.study.records import delta_path, measures_path
from supermask.study.runner import RunSettings, load_base_model, prepare, run_prepared
from tiny_command import call, refused
from tiny_studies import FULL, MASK, tiny_study

PROBES = ("probe-paraphrase", "probe-similarity")


@pytest.fixture(scope="module")
def study(tiny_base: Path) -> Study:
    return tiny_study(tiny_base, tasks=PROBES, measures=["overlap"])


@pytest.fixture(scope="module")
def results(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a study, with all their deltas, and its pair of masks compared."""
    folder = tmp_path_factory.mktemp("measured") / "results"
    settings = RunSettings(results=folder, limit=16, dev_limit=12, use_cpu=True, keep_deltas="all")
    report = run_prepared(prepare([study], settings), SilentReporter(), InlineExecutor())
    assert report.measured.pairs == ("pairs/probe-paraphrase-mask-seed0--probe-similarity-mask-seed0.json",)
    return folder


@pytest.fixture
def bare(results: Path, tmp_path: Path) -> tuple[RecordStore, Path, dict[str, Any]]:
    """A store of the records alone; a folder with their deltas; what the measures were."""
    store, deltas = tmp_path / "store", tmp_path / "deltas"
    shutil.copytree(results, store)
    shutil.rmtree(store / "pairs")
    before: dict[str, Any] = {}
    for path in sorted(store.rglob("*.measures.json")):
        before[path.relative_to(store).as_posix()] = json.loads(path.read_text())
        path.unlink()
    for path in sorted(store.rglob("*.delta.safetensors")):
        folder = deltas / path.parent.name / path.name.partition(".")[0]
        folder.mkdir(parents=True)
        path.rename(folder / "delta.safetensors")
    return RecordStore(store), deltas, before


def measured(store: RecordStore) -> dict[str, Any]:
    paths = sorted(store.folder.rglob("*.measures.json"))
    return {path.relative_to(store.folder).as_posix(): json.loads(path.read_text()) for path in paths}


def test_given_deltas_find_their_records(bare: tuple[RecordStore, Path, dict[str, Any]]) -> None:
    store, deltas, before = bare
    given = [*sorted(deltas.glob("*/mask-*")), *sorted(deltas.glob("*/full-*/delta.safetensors"))]
    told = measure_deltas(store, given, load_base_model)
    assert told.faults == () and set(told.runs) == {stored.path for stored in store.records} and len(told.runs) == 4
    assert measured(store) == before
    kept = {path.name for path in store.folder.rglob("*.delta.safetensors")}
    assert kept == {"mask-seed0.delta.safetensors"}  # of masks alone, unless all are asked for
    assert measure_deltas(store, given, load_base_model).runs == ()  # measured already
    assert len(measure_deltas(store, given, load_base_model, again=True, keep_deltas="all").runs) == 4
    assert len(list(store.folder.rglob("*.delta.safetensors"))) == 4


def test_a_delta_of_another_run_is_refused(bare: tuple[RecordStore, Path, dict[str, Any]], tmp_path: Path) -> None:
    store, deltas, _ = bare
    (mask,) = deltas.glob("probe-paraphrase/mask-*")
    record = store.folder / "probe-paraphrase" / "mask-seed0.json"
    content = json.loads(record.read_text())
    content["scores"]["dev"]["f1"] += 0.01
    record.write_text(json.dumps(content))
    store.rescan()
    (tmp_path / "junk.safetensors").write_bytes(b"no delta")
    told = measure_deltas(store, [mask, tmp_path / "junk.safetensors", tmp_path / "nowhere"], load_base_model)
    assert told.runs == () and len(told.faults) == 3
    assert f"none of the 4 records in {store.folder} say the same" in told.faults[0]
    assert not measured(store)


def test_deltas_that_lie_beside_are_measured_and_compared(
    bare: tuple[RecordStore, Path, dict[str, Any]], results: Path, study: Study
) -> None:
    store, deltas, before = bare
    for folder in deltas.glob("*/*"):
        target = store.folder / folder.parent.name / f"{folder.name}.json"
        shutil.copyfile(folder / "delta.safetensors", delta_path(target))
    masks = [stored for stored in store.records if stored.method["kind"] == "supermask"]
    groups = pairs_to_measure(masks)
    assert [[stored.record.inputs.task for stored in group] for group in groups] == [list(PROBES)]
    bases: list[str] = []

    def base(name: str) -> object:
        bases.append(name)
        return load_base_model(name)

    told = measure_store(store, base, pairs_of=groups)  # type: ignore[arg-type]
    assert len(told.runs) == 4 and len(told.pairs) == 1 and told.faults == () and len(bases) == 1
    assert measured(store) == before
    assert json.loads((store.folder / told.pairs[0]).read_text()) == json.loads((results / told.pairs[0]).read_text())
    (pair,) = collect(study, store).pairs
    assert (pair.first, pair.second) == tuple(f"{task}/mask-seed0" for task in PROBES)
    again = measure_store(store, base, pairs_of=groups)  # type: ignore[arg-type]
    assert again == type(again)() and len(bases) == 1


def test_a_damaged_delta_costs_its_own_measures_alone(bare: tuple[RecordStore, Path, dict[str, Any]]) -> None:
    store, deltas, _ = bare
    for folder in deltas.glob("*/mask-*"):
        target = delta_path(store.folder / folder.parent.name / f"{folder.name}.json")
        content = bytearray((folder / "delta.safetensors").read_bytes())
        if folder.parent.name == "probe-paraphrase":
            content[-1] ^= 1
        target.write_bytes(content)
    groups = pairs_to_measure(stored for stored in store.records if stored.method["kind"] == "supermask")
    told = measure_store(store, load_base_model, pairs_of=groups)
    assert told.runs == ("probe-similarity/mask-seed0.json",) and told.pairs == ()
    assert [fault.partition(":")[0] for fault in told.faults] == [
        "probe-paraphrase/mask-seed0.json",
        "probe-paraphrase/mask-seed0.json with probe-similarity/mask-seed0.json",
    ]


def test_only_masks_of_one_method_seed_and_base_are_compared(tiny_base: Path, tmp_path: Path) -> None:
    arms = [MASK, {**MASK, "name": "other", "method": {"kind": "supermask", "init_logit": 0.2}}]
    study = tiny_study(tiny_base, tasks=PROBES, arms=arms, seeds=[0, 1])
    from supermask.study import runs_of
    from tiny_records import tiny_record

    for run in runs_of(study):
        tiny_record(run).save(tmp_path / run.task / f"{run.label}.json")
    groups = pairs_to_measure(RecordStore(tmp_path).records)
    assert len(groups) == 4
    for group in groups:
        assert [stored.record.inputs.task for stored in group] == list(PROBES)
        assert len({stored.record.inputs.config.seed for stored in group}) == 1
        assert len({json.dumps(stored.method) for stored in group}) == 1


def test_the_verb_measures(bare: tuple[RecordStore, Path, dict[str, Any]]) -> None:
    store, deltas, before = bare
    outcome = call("study", "measure", *sorted(deltas.glob("*/*")), "--results", store.folder)
    assert outcome.exit_code == 0, outcome.stderr
    assert measured(store) == before
    assert outcome.stdout.splitlines()[-1] == (
        "measured: pairs/probe-paraphrase-mask-seed0--probe-similarity-mask-seed0.json"
    )
    again = call("study", "measure", "--results", store.folder, "--json")
    assert json.loads(again.stdout) == {"results": str(store.folder), "runs": [], "pairs": [], "faults": []}
    wrong = call("study", "measure", store.folder / "nothing", "--results", store.folder)
    assert wrong.exit_code == 1 and "not measured: " in wrong.stderr


def test_a_base_that_is_gone_is_told(bare: tuple[RecordStore, Path, dict[str, Any]]) -> None:
    store, deltas, _ = bare
    mask = next(deltas.glob("*/mask-*"))
    outcome = call("study", "measure", mask, "--results", store.folder, "--base", store.folder / "no-base")
    assert outcome.exit_code == 1 and "no-base" in outcome.stderr
    assert FULL["name"] == "full" and measures_path(Path("a.json")).name == "a.measures.json"
    with pytest.raises(SupermaskError):
        load_base_model(str(store.folder / "no-base"))
    refused(call("study", "measure", "--keep-deltas", "some"), "--keep-deltas")
