"""The rows of benchmarks/training.py: one way of adapting a model each, as a step that can be timed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supermask.methods import Attachment, Freezing, Pruning, Supermask, make_optimizer
from supermask.models import MATRICES, MATRICES_IF_PRESENT, load_base, map_parameters, select_parameters

__all__ = ["MODELS", "PHASES", "ROWS", "Step", "build", "make_batches", "masked_weights"]

PHASES = ("forward", "backward", "clip and update", "zero_grad")
FROZEN_GROUPS = ("key", "top-2-blocks", "word_embedding")
FULL, SAME = "full fine-tuning", "same matrices"


class Step:
    """One training step of one row: forward, backward, clipping, optimizer, zero_grad."""

    def __init__(self, model: nn.Module, optimizer: Any, clip: Callable[[], None], precision: str) -> None:
        self.model, self.optimizer, self.clip, self.precision = model.train(), optimizer, clip, precision
        self.device = next(model.parameters()).device
        self.attachment: Attachment | None = None
        self.backend: str | None = None
        self.count = 0

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Take the step; seconds by phase (on a CUDA device these are launching times)."""
        with _backend(self.backend):
            times = [time.perf_counter()]
            if self.attachment is not None:
                self.attachment.begin_step(self.count)
            with _autocast(self.device, self.precision):
                loss = self.model(**batch).loss
            times.append(time.perf_counter())
            loss.backward()
            times.append(time.perf_counter())
            self.clip()
            self.optimizer.step()  # ours clips within
            times.append(time.perf_counter())
            self.optimizer.zero_grad(set_to_none=True)
            times.append(time.perf_counter())
        self.count += 1
        return {name: times[place + 1] - times[place] for place, name in enumerate(PHASES)}

    def amortised_seconds(self) -> float:
        """What a step costs on average beside what every step does."""
        return 0.0


class PruningStep(Step):
    """Ranks in one step of each `period`; the timed steps are between two rankings."""

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        self.count = 0
        return super().__call__(batch)

    def amortised_seconds(self) -> float:
        """The time of ranking, spread over the steps between two rankings."""
        assert self.attachment is not None
        period = Pruning().period
        spent = []
        for step in (0, period - 1):
            self.attachment.begin_step(step)
            start = time.perf_counter()
            self.attachment.after_step()
            _wait(self.device)
            spent.append(time.perf_counter() - start)
        return max(spent[1] - spent[0], 0.0) / period


@contextlib.contextmanager
def _backend(name: str | None) -> Iterator[None]:
    """Force a backend by the environment, which holds in autograd's own threads too."""
    before = os.environ.get("SUPERMASK_BACKEND")
    if name is not None:
        os.environ["SUPERMASK_BACKEND"] = name
    try:
        yield
    finally:
        if name is not None:
            os.environ.pop("SUPERMASK_BACKEND")
            os.environ.update({} if before is None else {"SUPERMASK_BACKEND": before})


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# Models and batches


def _minilm() -> nn.Module:
    return load_base("minilm-l6", num_labels=2).model


def _bert(**settings: int) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**settings))


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "minilm-l6": _minilm,
    "bert-base": _bert,  # random weights: the time of a step does not depend on their values
    "tiny": lambda: _bert(
        vocab_size=120, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64
    ),
}


def make_batches(model: nn.Module, *, size: int, length: int, count: int = 4) -> list[dict[str, Tensor]]:
    """Batches without padding, on the model's device."""
    generator = torch.Generator().manual_seed(1)
    vocabulary: int = model.config.vocab_size  # type: ignore[union-attr,assignment]
    batches = []
    for _ in range(count):
        ids = torch.randint(5, vocabulary, (size, length), generator=generator)
        labels = torch.randint(2, (size,), generator=generator)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        batches.append({name: tensor.to(next(model.parameters()).device) for name, tensor in batch.items()})
    return batches


def masked_weights(model: nn.Module) -> int:
    """How many weights a mask covers by default."""
    parameters = map_parameters(model)
    chosen = set(select_parameters(MATRICES, parameters, optional=MATRICES_IF_PRESENT))
    return sum(info.numel for info in parameters.infos if info.name in chosen)


# Rows


def _full(model: nn.Module) -> Attachment:
    return _without_copies(Freezing().attach_(model))


def _same_matrices(model: nn.Module) -> Attachment:
    parameters = map_parameters(model)
    kept = {*select_parameters(MATRICES, parameters, optional=MATRICES_IF_PRESENT), *parameters.head}
    others = [info.name for info in parameters.infos if info.name not in kept]
    return _without_copies(Freezing(exclude=others).attach_(model))


def _without_copies(attachment: Attachment) -> Attachment:
    """Plain fine-tuning keeps no pretrained values to go back to, so the rows that others are held against do not."""
    attachment._pretrained.clear()
    return attachment


def _supermask(model: nn.Module) -> Attachment:
    attachment = Supermask().attach_(model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for mask in attachment.masks.values():  # type: ignore[attr-defined]
            # Spread as after some training, 2% below zero, so that no kernel is flattered by one value everywhere.
            drawn = torch.empty(mask.mask_logits.shape).normal_(5.0, 2.5, generator=generator)
            mask.mask_logits.copy_(drawn)
    return attachment


def _supermask_keeping(model: nn.Module) -> Attachment:
    """Masked weights are kept from forward to backward, not drawn again."""
    attachment = _supermask(model)
    attachment.recompute = False  # type: ignore[attr-defined]
    return attachment


def _method_step(attach: Callable[[nn.Module], Attachment], kind: type[Step] = Step, **settings: Any) -> Any:
    def make(model: nn.Module, precision: str) -> Step:
        attachment = attach(model)
        attachment.begin_training(total_steps=1000)
        step = kind(model, make_optimizer(attachment, **settings), lambda: None, precision)
        step.attachment = attachment
        return step

    return make


def _on_backend(make: Any, backend: str) -> Any:
    def made(model: nn.Module, precision: str) -> Step:
        step: Step = make(model, precision)
        step.backend = backend
        return step

    return made


def _lora(model: nn.Module, precision: str) -> Step:
    import peft

    layers = r".*\.(query|key|value|dense)"
    tuned: Any = peft.get_peft_model(
        model, peft.LoraConfig(r=8, target_modules=layers, modules_to_save=["classifier"], lora_dropout=0.0)
    )
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)
    return Step(tuned, optimizer, lambda: _clip(trained), precision)


def _clip(parameters: list[nn.Parameter]) -> None:
    nn.utils.clip_grad_norm_(parameters, 1.0)


ROWS: Mapping[str, Callable[[nn.Module, str], Step]] = {
    FULL: _method_step(_full),
    SAME: _method_step(_same_matrices),
    "supermask, eager": _on_backend(_method_step(_supermask), "eager"),
    "supermask, fused": _method_step(_supermask),
    "supermask, fused, mask kept": _method_step(_supermask_keeping),
    "supermask, fused, 8-bit state": _method_step(_supermask, mask_state="8bit"),
    "pruning": _method_step(lambda model: Pruning().attach_(model), PruningStep),
    "freezing": _method_step(lambda model: Freezing(exclude=FROZEN_GROUPS).attach_(model)),
    "LoRA r=8": _lora,
    "head-only": _method_step(lambda model: Freezing.head_only().attach_(model)),
}


def build(model_name: str, row: str, *, device: str, precision: str) -> Step:
    """A row's step on a model of its own."""
    return ROWS[row](MODELS[model_name]().to(device), precision)


@contextlib.contextmanager
def saved_bytes(model: nn.Module) -> Iterator[dict[str, int]]:
    """Bytes that autograd keeps for backward within, parameters and buffers apart; the answer is under `bytes`."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    holding: list[Tensor] = []  # alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
            holding.append(tensor.detach())
        return tensor

    answer = {"bytes": 0}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield answer
    answer["bytes"] = sum(kept.values())
