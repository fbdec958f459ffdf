import torch

from supermask.training.head_bias import start_head_at_base_rate_
from tiny_models import snapshot, tiny_model
from tiny_tasks import tiny_data


def test_only_the_last_bias_of_the_head_is_set_if_there_is_one() -> None:
    model = tiny_model("roberta")
    head = ["classifier.dense.bias", "classifier.out_proj.weight", "classifier.out_proj.bias"]
    before = snapshot(model)
    assert start_head_at_base_rate_(model, head, tiny_data().task, [0, 0, 0, 1])
    changed = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.out_proj.bias"}
    assert not start_head_at_base_rate_(tiny_model("llama"), ["score.weight"], tiny_data().task, [0, 1])
