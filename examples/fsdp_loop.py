"""FSDP2: each process keeps its share of the base, of the mask logits and of Adam's moments.

torchrun --nproc-per-node 2 examples/fsdp_loop.py
"""

from __future__ import annotations

import os

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard

import supermask
from supermask import Supermask, make_optimizer

SENTENCES = ["a warm and funny film", "dull from start to end", "a joy to watch", "nobody should sit through this"] * 8
LABELS = torch.tensor([1, 0, 1, 0] * 8)


def main(base_name: str = "minilm-l6", steps: int = 5) -> supermask.TaskDelta:
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    rank, count = distributed.get_rank(), distributed.get_world_size()

    base = supermask.load_base(base_name, num_labels=2)
    model = base.model.to(device)
    attachment = Supermask(select=["value", "ffn_out"]).attach_(model, seed=0)
    for module in (*model.bert.encoder.layer, model.classifier):
        fully_shard(module)
    fully_shard(model)
    optimizer = make_optimizer(attachment)  # after sharding, which replaces parameters

    # Every process takes its part of the batch, all of one size, so that the mean of their means is the batch's.
    batch = base.tokenizer(SENTENCES[rank::count], padding=True, return_tensors="pt").to(device)
    labels = LABELS[rank::count].to(device)
    attachment.begin_training(total_steps=steps)
    model.train()
    for step in range(steps):
        attachment.begin_step(step)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    delta = attachment.extract()  # gathers what is spread, so every process must ask; all get the same
    if rank == 0:
        print(f"{delta.zeros:,} of {delta.weights:,} weights switched off")
    distributed.destroy_process_group()
    return delta


if __name__ == "__main__":
    main()
