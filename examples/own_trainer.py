"""A `transformers.Trainer` of your own: one callback, one optimizer.

python examples/own_trainer.py
"""

from __future__ import annotations

import tempfile

from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import supermask
from supermask import MethodCallback, Pruning, make_optimizer

SENTENCES = ["a warm and funny film", "dull from start to end", "a joy to watch", "nobody should sit through this"] * 8
LABELS = [1, 0, 1, 0] * 8


def main(base_name: str = "minilm-l6", steps: int = 5) -> supermask.TaskDelta:
    base = supermask.load_base(base_name, num_labels=2)
    rows = [{**base.tokenizer(text), "labels": label} for text, label in zip(SENTENCES, LABELS, strict=True)]

    attachment = Pruning(sparsity=0.3, period=1).attach_(base.model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=base.model,
            args=TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                max_grad_norm=0.0,  # the optimizer clips
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(base.tokenizer),
            callbacks=[MethodCallback(attachment)],
            optimizers=(make_optimizer(attachment), None),
        )
        trainer.train()

    delta = attachment.extract(base_name=base.name)
    attachment.detach_()
    return delta


if __name__ == "__main__":
    print(main())
