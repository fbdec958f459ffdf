"""`supermask inspect`."""

import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from supermask import TaskDelta
from supermask.analysis import ZeroCount, ZerosTable
from supermask.cli.heat import zeros_map
from supermask.prediction import stored_base
from tiny_command import call, refused, said, told


def test_numbers_are_those_of_the_masks(trained: Path) -> None:
    document = told("inspect", trained)
    delta = TaskDelta.load(trained / "delta")
    changes = delta.changes_for(stored_base(delta.document, None, None, None).model)
    zeros = {
        (record.role, record.block): int(torch.logical_not(changes[record.name].keep).sum())  # type: ignore[union-attr]
        for record in delta.document.changes
        if record.kind == "keep_mask"
    }
    assert {(row["role"], row["block"]): row["zeros"] for row in document["zeros_by_place"]} == zeros
    assert document["zeros"] == sum(zeros.values())
    share = document["zeros"] / document["masked_weights"]
    assert document["sparsity"] == share
    assert document["entropy_bits_per_weight"] == pytest.approx(
        -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    )
    coded = sum(len(parts.keep) for parts in delta.payloads.values())
    assert document["bits_per_masked_weight"] == 8 * coded / document["masked_weights"]
    assert "tensors" not in document["base"]


def test_table_reads_without_colour(trained: Path) -> None:
    text = said("inspect", trained)
    assert "\x1b" not in text
    document = TaskDelta.load(trained / "delta").document
    for words in (
        "own-data",
        "classes: high, low",
        "learning_rate=9.0",
        f"({document.zeros:,} of",
        "classifier.weight",
    ):
        assert words in text
    outside = next(line for line in text.splitlines() if line.strip().startswith("outside"))
    pooler = next(change for change in document.changes if change.role == "pooler")
    assert outside.split()[1] == f"{100 * (pooler.zeros or 0) / pooler.weights:.1f}"


def test_only_the_header_is_read(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "delta.safetensors"
    content = bytearray((trained / "delta" / "delta.safetensors").read_bytes())
    content[-1] ^= 1  # a payload, which would be refused if it were read
    file.write_bytes(content)
    assert call("inspect", file).exit_code == 0


def test_figure(trained: Path, paired: Path, tmp_path: Path) -> None:
    figure = tmp_path / "zeros.svg"
    outcome = call("inspect", trained, "--figure", figure)
    assert outcome.stdout.splitlines()[-1] == f"figure: {figure}"
    assert "<svg" in figure.read_text()
    refused(call("inspect", trained, "--figure", tmp_path / "zeros.bmp"), "png, svg, pdf", "'.bmp'")
    refused(call("inspect", paired, "--figure", tmp_path / "none.png"), "no zeros to show")


def test_values_alone(paired: Path) -> None:
    outcome = call("inspect", paired)
    assert "none, as values alone were trained" in outcome.stdout
    assert "values that moved" in outcome.stdout
    assert told("inspect", paired)["bits_per_masked_weight"] is None


def test_pruned_weights_are_called_pruned(regression: Path) -> None:
    assert "50.00 % (8,704 of 17,408 pruned weights)" in call("inspect", regression).stdout


def test_map_of_a_large_model_fits_80_columns_and_is_coloured_on_a_terminal() -> None:
    roles = ("word_embedding", "query", "key", "value", "attention_output", "ffn_in", "ffn_out", "pooler")
    cells = {(role, block): ZeroCount(block, 1000) for role in roles[1:7] for block in range(24)}
    cells |= {("word_embedding", None): ZeroCount(1000, 1000), ("pooler", None): ZeroCount(0, 10)}
    table = ZerosTable(roles=roles, blocks=(*range(24), None), cells=cells)
    screen = io.StringIO()
    Console(file=screen, width=80, force_terminal=True, color_system="truecolor", markup=False).print(zeros_map(table))
    assert "\x1b[" in screen.getvalue()
    plain = io.StringIO()
    Console(file=plain, width=80, markup=False).print(zeros_map(table))
    text = plain.getvalue()
    assert "…" not in text
    assert next(line for line in text.splitlines() if line.strip().startswith("23 ")).split() == ["23", *["2.30"] * 7]
    assert next(line for line in text.splitlines() if line.strip().startswith("outside")).split() == [
        "outside",
        "100",
        "0",
        "99.0",
    ]
