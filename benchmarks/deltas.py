"""Size, speed and exactness of task deltas, against what else a task could be kept as.

    python benchmarks/deltas.py sizes results/minilm-l6 --output benchmarks/results/delta-sizes.json
    python benchmarks/deltas.py speed --output benchmarks/results/delta-speed.json

`sizes` recodes the learnt masks under a folder of records. `speed` needs the extra `peft` and takes some minutes: on a
model of BERT-base's size it puts random masks with the paper's sparsities, made-up structured ones, and a learnt one if
there is one, beside a LoRA and a SHiRA. Every time is the median of several runs in this one process and is also given
as a multiple of the time that copying the masked weights once takes. Both print a Markdown table and write what it is
made of as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import zstandard
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

import supermask
from supermask.core import entropy_bits
from supermask.deltas import KeepMask, TaskDelta, base_fingerprint, named_tensors
from supermask.training.provenance import current_environment

# Table 5's sparsities, from RTE to MNLI, and no zeros at all.
PAPER_SPARSITIES = (0.0, 0.010, 0.013, 0.022, 0.029, 0.074, 0.103, 0.126, 0.129)
REPEATS = 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    sizes = verbs.add_parser("sizes", help="bytes of learnt masks")
    sizes.add_argument("results", type=Path, nargs="+", help="folders with *.delta.safetensors")
    sizes.add_argument("--base", help="where the base is, if not where the deltas say")
    sizes.set_defaults(do=measure_sizes)
    speed = verbs.add_parser("speed", help="bytes, seconds and exactness at BERT-base's size")
    speed.add_argument("--sparsities", type=float, nargs="+", default=PAPER_SPARSITIES)
    speed.add_argument("--delta", type=Path, nargs="*", default=[], help="learnt deltas of that size, with --base")
    speed.add_argument("--base", help="the base of --delta")
    speed.set_defaults(do=measure_speed)
    for verb in (sizes, speed):
        verb.add_argument("--output", type=Path, required=True, help="JSON file to write")
        verb.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = list(arguments.do(arguments))
    record = {"environment": current_environment().model_dump(), "repeats": REPEATS, "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    print_table(rows)
    return 0


# Sizes


def measure_sizes(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a learnt mask, and the mean over those with 1% zeros or more."""
    rows = []
    for folder in arguments.results:
        for path in sorted(folder.glob("*/*.delta.safetensors")):
            rows.append(
                size_row(TaskDelta.load(path), path.parent.name + " " + path.name.split(".")[0], arguments.base)
            )
            print(rows[-1], file=sys.stderr, flush=True)
    yield from rows
    counted = [row for row in rows if row["zeros, %"] >= 1]
    if not counted:
        return
    mean: dict[str, Any] = {"mask": f"mean of {len(counted)} with 1% zeros or more"}
    for name in rows[0]:
        if name.startswith("ours / "):
            mean[name] = round(statistics.fmean(row[name] for row in counted), 4)
    yield mean


def size_row(delta: TaskDelta, name: str, base_name: str | None) -> dict[str, Any]:
    base = load_base_of(delta, base_name)
    coded, alone = delta.recode(base), delta.recode(base, self_contained=True)
    masks = {key: change.keep for key, change in delta.changes_for(base).items() if isinstance(change, KeepMask)}
    entropy = delta.weights * entropy_bits(delta.sparsity) / 8
    return {
        "mask": name,
        "weights": delta.weights,
        "zeros, %": round(100 * delta.sparsity, 3),
        "N·H(s), bytes": round(entropy),
        "ours, bytes": coded.nbytes_on_disk(),
        "bits a weight": round(8 * coded.nbytes_on_disk() / delta.weights, 4),
        "ours / N·H(s)": round(coded.nbytes_on_disk() / entropy, 4),
        "ours / N·H(s), masks alone": round(mask_bytes(coded) / entropy, 4),
        "ours / N·H(s), without the base": round(alone.nbytes_on_disk() / entropy, 4),
        "raw bits": raw_bits(masks),
        "zstd -19 of raw bits": len(zstandard.ZstdCompressor(level=19).compress(packed_bits(masks))),
        "safetensors of uint8": uint8_safetensors(masks),
    }


def mask_bytes(delta: TaskDelta) -> int:
    return sum(change.keep_nbytes or 0 for change in delta.document.changes)


def load_base_of(delta: TaskDelta, base_name: str | None) -> nn.Module:
    base = supermask.load_base(
        base_name or str(delta.document.base.name),
        num_labels=len(delta.task.label_names) or 1,
        regression=delta.task.kind == "regression",
        dtype=delta.document.base.dtype,
    )
    return base.model


def packed_bits(masks: Mapping[str, Tensor]) -> bytes:
    import numpy as np

    return b"".join(np.packbits(keep.numpy()).tobytes() for keep in masks.values())


def raw_bits(masks: Mapping[str, Tensor]) -> int:
    return sum(-(-keep.numel() // 8) for keep in masks.values())


def uint8_safetensors(masks: Mapping[str, Tensor]) -> int:
    return len(save_safetensors({name: keep.to(torch.uint8) for name, keep in masks.items()}))


# Speed


def measure_speed(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a sparsity, one a learnt delta, and one a kind of adapter."""
    model = bert_base()
    names = [name for name, tensor in model.named_parameters() if is_masked(name, tensor)]
    weights = {name: tensor.detach() for name, tensor in model.named_parameters() if name in set(names)}
    fingerprint = base_fingerprint(model)
    # Compile, and fill caches, before anything is timed.
    timed_row(model, random_delta(weights, fingerprint, 0.01), copying(weights), "warming up", repeats=1)
    copy = copying(weights)
    for sparsity in arguments.sparsities:
        delta = random_delta(weights, fingerprint, sparsity)
        yield shown(timed_row(model, delta, copy, f"random mask, {100 * sparsity:.1f}% zeros"))
    for sparsity in (0.01, 0.13):
        delta = structured_delta(weights, fingerprint, sparsity)
        yield shown(timed_row(model, delta, copy, f"made-up structured mask, {100 * delta.sparsity:.1f}% zeros"))
    for kind in ("LoRA r=8", "SHiRA r=8"):
        yield shown(adapter_row(kind, copy))
    for path in arguments.delta:
        stored = TaskDelta.load(path)
        learnt = load_base_of(stored, arguments.base)
        masked = {change.name for change in stored.document.changes if change.keep}
        chosen = {name: tensor for name, tensor in named_tensors(learnt).items() if name in masked}
        name = f"learnt mask, {stored.task['name']}, {100 * stored.sparsity:.1f}% zeros"
        yield shown(timed_row(learnt, stored.recode(learnt), copying(chosen), name))


def bert_base(seed: int = 0) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig()).eval()


def is_masked(name: str, tensor: Tensor) -> bool:
    return ".layer." in name and tensor.ndim == 2


def random_delta(weights: Mapping[str, Tensor], fingerprint: Any, sparsity: float) -> TaskDelta:
    generator = torch.Generator().manual_seed(1)
    masks = {
        name: KeepMask(torch.rand(tensor.shape, generator=generator) >= sparsity) for name, tensor in weights.items()
    }
    return TaskDelta.create(masks, base=fingerprint, base_tensors=weights)


def structured_delta(weights: Mapping[str, Tensor], fingerprint: Any, sparsity: float) -> TaskDelta:
    """Zeros that follow rows, columns and one signed product, so that the model of a learnt mask has work to do."""
    generator = torch.Generator().manual_seed(3)
    masks = {}
    for name, tensor in weights.items():
        row, left = torch.randn(2, tensor.shape[0], 1, generator=generator)
        column, right = torch.randn(2, 1, tensor.shape[1], generator=generator)
        log_odds = (
            math.log(0.55 * sparsity / (1 - sparsity)) + 0.6 * (row + column) + tensor.sign() * left * right * 0.6
        )
        masks[name] = KeepMask(torch.rand(tensor.shape, generator=generator) >= torch.sigmoid(log_odds))
    return TaskDelta.create(masks, base=fingerprint, base_tensors=weights)


def copying(weights: Mapping[str, Tensor]) -> float:
    """Seconds that copying the weights once takes."""
    targets = {name: torch.empty_like(tensor) for name, tensor in weights.items()}

    def copy() -> None:
        for name, tensor in weights.items():
            targets[name].copy_(tensor)

    return seconds(copy, repeats=5 * REPEATS)


def timed_row(model: nn.Module, delta: TaskDelta, copy: float, name: str, repeats: int = REPEATS) -> dict[str, Any]:
    before = {key: tensor.detach().clone() for key, tensor in named_tensors(model).items()}
    entropy = delta.weights * entropy_bits(delta.sparsity) / 8
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "delta.safetensors"
        started = time.perf_counter()
        again = delta.recode(model)
        coding = time.perf_counter() - started
        saving = seconds(lambda: again.save(path, overwrite=True), repeats)
        size = path.stat().st_size
        loading = seconds(lambda: TaskDelta.load(path), repeats)
        loaded = TaskDelta.load(path)
    applying = seconds(lambda: loaded.apply_(model, verify=False), repeats, then=lambda: loaded.remove_(model))
    verified = seconds(lambda: loaded.apply_(model), repeats, then=lambda: loaded.remove_(model))
    decoded = loaded.decode(model, verify=False)

    def apply_again() -> None:
        loaded.apply_(model, decoded, verify=False)

    again_applying = seconds(apply_again, repeats, then=lambda: loaded.remove_(model))
    removing = seconds(lambda: loaded.remove_(model), repeats, first=apply_again)
    return {
        "what": name,
        "bytes": size,
        "bits a weight": round(8 * size / delta.weights, 4),
        "/ N·H(s)": round(size / entropy, 4) if entropy else None,
        "masks alone / N·H(s)": round(mask_bytes(loaded) / entropy, 4) if entropy else None,
        "code, s": round(coding, 2),
        "save, s": round(saving, 4),
        "load, s": round(loading, 4),
        "decode and apply, s": round(applying, 4),
        "/ copy": round(applying / copy, 1),
        "the same with the base verified, s": round(verified, 4),
        "apply decoded, s": round(again_applying, 4),
        "apply decoded / copy": round(again_applying / copy, 2),
        "remove, s": round(removing, 4),
        "weights changed afterwards": changed_weights(model, before),
        "copy, s": round(copy, 4),
    }


def adapter_row(kind: str, copy: float) -> dict[str, Any]:
    """The same for an adapter with random weights, merged and unmerged as PEFT does it."""
    import peft

    model = bert_base()
    before = {key: tensor.detach().clone() for key, tensor in named_tensors(model).items()}
    settings: dict[str, Any] = {"target_modules": r".*\.layer\..*\.(query|key|value|dense)", "r": 8}
    config = peft.LoraConfig(**settings) if kind.startswith("LoRA") else peft.ShiraConfig(**settings)
    tuned: Any = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad and ("lora_B" in name or "shira" in name):
                parameter.normal_(0.0, 0.01, generator=generator)
    with tempfile.TemporaryDirectory() as scratch:
        saving = seconds(lambda: tuned.save_pretrained(scratch))
        size = (Path(scratch) / "adapter_model.safetensors").stat().st_size
        loading = seconds(lambda: peft.PeftModel.from_pretrained(bert_base(), scratch), repeats=3)
        building = seconds(bert_base, repeats=3)
    merging = seconds(tuned.merge_adapter, then=tuned.unmerge_adapter)
    removing = seconds(tuned.unmerge_adapter, first=tuned.merge_adapter)
    restored = tuned.unload()
    return {
        "what": f"{kind}, all linears, saved by PEFT",
        "bytes": size,
        "save, s": round(saving, 4),
        "load, s": round(max(loading - building, 0.0), 4),
        "decode and apply, s": round(merging, 4),
        "/ copy": round(merging / copy, 1),
        "remove, s": round(removing, 4),
        "weights changed afterwards": changed_weights(restored, before),
        "copy, s": round(copy, 4),
    }


def changed_weights(model: nn.Module, before: Mapping[str, Tensor]) -> int:
    """How many values are not, bit for bit, what they were."""
    after = named_tensors(model)
    return sum(
        int((after[name].detach().view(torch.int32) != tensor.view(torch.int32)).sum())
        for name, tensor in before.items()
        if tensor.dtype is torch.float32
    )


def seconds(
    do: Callable[[], Any],
    repeats: int = REPEATS,
    *,
    first: Callable[[], Any] | None = None,
    then: Callable[[], Any] | None = None,
) -> float:
    """The median of several runs; what comes before and after each is not timed."""
    times = []
    for _ in range(repeats):
        if first:
            first()
        gc.collect()
        started = time.perf_counter()
        do()
        times.append(time.perf_counter() - started)
        if then:
            then()
    return statistics.median(times)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    print(row, file=sys.stderr, flush=True)
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(names) + " |")
    print("|---" * len(names) + "|")
    for row in rows:
        print("| " + " | ".join(cell(row.get(name)) for name in names) + " |")


def cell(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
