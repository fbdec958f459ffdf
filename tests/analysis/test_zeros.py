import pytest
import torch

from supermask.analysis import ZeroCount, zeros_by_place
from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError
from supermask.methods import Freezing, Pruning, Supermask
from tiny_models import tiny_model


def extracted(method: Pruning | Freezing | Supermask) -> TaskDelta:
    return method.attach_(tiny_model("bert")).extract()


def test_the_table_counts_what_the_masks_hold() -> None:
    attachment = Supermask(select=["matrices", "pooler"]).attach_(tiny_model("bert"))
    generator = torch.Generator().manual_seed(0)
    expected: dict[tuple[str | None, int | None], int] = {}
    for info in attachment.parameters.infos:
        if info.name in attachment.masks:
            logits = attachment.masks[info.name].mask_logits
            logits.data = torch.randn(logits.shape, generator=generator)
            expected[info.role and info.role.value, info.block] = int((logits <= 0).sum())
    table = zeros_by_place(attachment.extract().document.changes)
    assert {place: count.zeros for place, count in table.cells.items()} == expected
    assert table.total == ZeroCount(sum(expected.values()), sum(count.weights for count in table.cells.values()))
    assert table.of_role("value").zeros == expected["value", 0] + expected["value", 1]
    assert table.of_block(None) == table.cells["pooler", None]
    assert table.blocks == (0, 1, None)
    assert table.total.sparsity == pytest.approx(0.5, abs=0.02)


def test_a_delta_without_masks_has_no_table() -> None:
    with pytest.raises(ConfigurationError, match="masks no tensor"):
        zeros_by_place(extracted(Freezing.head_only()).document.changes)
