"""A tiny base, tiny tasks as files, and a run that the tests of the verbs share."""

from pathlib import Path

import pytest

from tiny_bases import save_tiny_base
from tiny_command import Outcome, Place, call, said
from tiny_tasks import tiny_data


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A base, another one of the same shape, and files of three tasks."""
    root = tmp_path_factory.mktemp("tiny")
    data = tiny_data()
    files = {}
    for split in ("train", "dev"):
        rows = zip(data[split].first, data[split].labels or (), strict=True)
        files[split] = root / f"{split}.csv"
        files[split].write_text("sentence,label\n" + "".join(f"{text},{'low' if y else 'high'}\n" for text, y in rows))
    pairs, numbers = root / "pairs.csv", root / "numbers.jsonl"
    pairs.write_text("one,two,label\n" + "".join(f"w{i},w{i + 1},{i % 2}\n" for i in range(12)))
    numbers.write_text("".join(f'{{"sentence": "w{i} w{i + 1}", "label": {i / 4}}}\n' for i in range(12)))
    other = save_tiny_base(root / "other-base")
    _change_one_weight(other)
    return Place(save_tiny_base(root / "base"), other, files["train"], files["dev"], pairs, numbers)


def _change_one_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.attention.self.query.weight"][0, 0] += 1.0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="session")
def training(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder of a run, a supermask learnt on the tiny task in two steps, and what its command said."""
    output = tmp_path_factory.mktemp("runs") / "my run"
    outcome = call(*place.train_arguments(output))
    assert outcome.exit_code == 0, outcome.stderr
    return output, outcome


@pytest.fixture(scope="session")
def trained(training: tuple[Path, Outcome]) -> Path:
    """The folder of that run."""
    return training[0]


@pytest.fixture(scope="session")
def paired(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on pairs, learnt by training values."""
    output = tmp_path_factory.mktemp("runs") / "pairs"
    columns = ("--text", "one", "--text-pair", "two", "--name", "twos")
    said(*place.short_run(place.pairs, output, *columns, "--method", "head-only", "--validation", 0.25))
    return output


@pytest.fixture(scope="session")
def regression(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that learns a number by pruning."""
    output = tmp_path_factory.mktemp("runs") / "numbers"
    said(*place.short_run(place.numbers, output, "--regression", "--method", "pruning"))
    return output
