"""A tiny tokenizer and tiny tasks for tests of training: words are `w0` ... `w99`, and a label can be read off them."""

import random
from typing import Any

import torch

import supermask
import tiny_bases
from supermask import Method, TrainingConfig
from supermask.methods import Attachment
from supermask.tasks import Examples, Task, TaskData
from tiny_models import FIRST_WORD, VOCABULARY, tiny_batch, tiny_model


def tiny_tokenizer() -> Any:
    """The tiny bases' tokenizer, without the token types that not every architecture takes."""
    tokenizer = tiny_bases.tiny_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def tiny_data(*, train: int = 24, dev: int = 12, regression: bool = False, seed: int = 0) -> TaskData:
    """Sentences of 3 to 9 words; the label says whether the first word is of the lower half, or how low it is."""
    task = Task(
        name="tiny-regression" if regression else "tiny",
        kind="regression" if regression else "classification",
        label_names=() if regression else ("high", "low"),
        metrics=("spearman",) if regression else ("accuracy",),
    )
    generator, words = random.Random(seed), VOCABULARY - FIRST_WORD
    splits = {}
    for split, count in (("train", train), ("dev", dev)):
        rows = [[generator.randrange(words) for _ in range(generator.randint(3, 9))] for _ in range(count)]
        splits[split] = Examples(
            first=tuple(" ".join(f"w{word}" for word in row) for row in rows),
            second=None,
            labels=tuple(5.0 * row[0] / words if regression else int(row[0] < words // 2) for row in rows),
            ids=tuple(str(index) for index in range(count)),
            source=f"tiny {split}",
        )
    return TaskData(task, splits)


def tiny_run(
    method: Method, config: TrainingConfig, *, model: Any = None, data: TaskData | None = None, **options: Any
) -> supermask.Run:
    """A training, of a tiny BERT on `tiny_data()` where nothing else is given, without sampled scores."""
    data = data or tiny_data()
    model = model or tiny_model("bert", num_labels=data.task.num_labels, regression=data.task.regression)
    options = {"tokenizer": tiny_tokenizer(), "draws": 0, "quiet": True, "use_cpu": True} | options
    return supermask.train(model, task=data, method=method, config=config, **options)


def take_steps(attachment: Attachment, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """A loop of one's own over one batch; `steps` are those that this part of the training takes."""
    batch = tiny_batch(attachment.model)
    for step in steps:
        attachment.begin_step(step)
        attachment.model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
