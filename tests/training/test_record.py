import statistics
from pathlib import Path

import pytest

from supermask.errors import DataError
from supermask.training import RunRecord, TrainingConfig
from supermask.training.provenance import current_environment, source_digest
from supermask.training.record import BaseInfo, DataInfo, RunInputs, differing_inputs, spread


def inputs(**config: object) -> RunInputs:
    return RunInputs(
        base=BaseInfo(name="tiny", revision=None, architecture="Tiny", fingerprint="0" * 64, parameters=3),
        task="tiny",
        task_version=1,
        data={"dev": DataInfo(examples=5, source="here", content_hash="ab", official_size=7)},
        method={"kind": "freezing", "exclude": []},
        config=TrainingConfig(**config),  # type: ignore[arg-type]
    )


def record() -> RunRecord:
    return RunRecord(
        status="completed",
        inputs=inputs(),
        environment=current_environment(),
        precision="fp32",
        started="2024-01-01T00:00:00+00:00",
        steps=3,
        train_seconds=1.5,
    )


def test_a_record_comes_back_as_it_was_and_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record().save(path)
    assert RunRecord.load(path) == record()
    path.write_text(record().model_dump_json().replace('"steps":3', '"steps":3,"luck":1'))
    with pytest.raises(DataError, match=r"record\.json: is no run record: .*luck"):
        RunRecord.load(path)


def test_inputs_that_differ_are_named_and_a_subset_is_known_as_one() -> None:
    assert differing_inputs(inputs(), inputs()) == []
    assert differing_inputs(inputs(), inputs(seed=1, epochs=5)) == ["config.epochs", "config.seed"]
    assert inputs().data["dev"].is_subset


def test_spread_is_mean_and_sample_deviation() -> None:
    values = [0.5, 0.7, 0.9]
    result = spread([{"f1": value} for value in values])["f1"]
    assert result.mean == pytest.approx(statistics.mean(values))
    assert result.sd == pytest.approx(statistics.stdev(values))
    assert spread([{"f1": 0.5}])["f1"].sd == 0.0
    assert spread([]) == {}


def test_the_source_digest_is_of_this_code() -> None:
    assert source_digest() == source_digest()
    assert len(source_digest()) == 16
