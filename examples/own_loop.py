"""A training loop of your own: attach, parameter groups, extract, detach.

python examples/own_loop.py
"""

from __future__ import annotations

import torch

import supermask
from supermask import Supermask, make_optimizer

SENTENCES = ["a warm and funny film", "dull from start to end", "a joy to watch", "nobody should sit through this"] * 8
LABELS = torch.tensor([1, 0, 1, 0] * 8)


def main(base_name: str = "minilm-l6", steps: int = 5) -> supermask.TaskDelta:
    base = supermask.load_base(base_name, num_labels=2)
    model, tokenizer = base.model, base.tokenizer
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")

    attachment = Supermask(select=["value", "ffn_out"]).attach_(model, seed=0)
    optimizer = make_optimizer(attachment)  # clips before each step, keeps the constraint after it
    attachment.begin_training(total_steps=steps)
    model.train()
    for step in range(steps):
        attachment.begin_step(step)  # keys this step's mask
        loss = model(**batch, labels=LABELS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: loss {loss.item():.3f}, {attachment.statistics()}")

    delta = attachment.extract(base_name=base.name)
    attachment.detach_()  # the model is the base again, bit for bit
    return delta


if __name__ == "__main__":
    print(main())
