"""The bases that mutated deltas are put on: small, with a tensor of every dtype, layout and tie."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from supermask.deltas import named_tensors

HEAD = ("head.weight", "head.bias")

BASES = ("every", "long")
"""`every` has all dtypes and layouts, `long` a tensor of more values than one frame holds."""

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@final
@dataclass(frozen=True)
class FuzzBase:
    """A model that deltas are put on."""

    name: str
    model: nn.Module
    tensors: Mapping[str, Tensor]
    bits: Mapping[str, bytes]

    @property
    def learnt_on(self) -> dict[str, Tensor]:
        """The tensors without the head's."""
        return {name: tensor for name, tensor in self.tensors.items() if name not in HEAD}


def bits_of(tensor: Tensor) -> bytes:
    """Every bit of a tensor, in row-major order."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


@functools.cache
def base_named(name: str) -> FuzzBase:
    """One of the bases; the same object each time."""
    model = every_model() if name == "every" else long_model()
    tensors = named_tensors(model)
    return FuzzBase(name, model, tensors, {key: bits_of(tensor) for key, tensor in tensors.items()})


def every_model() -> nn.Module:
    source = torch.Generator().manual_seed(5)
    model = nn.Module()

    def add(name: str, tensor: Tensor, *, parameter: bool = True) -> None:
        if parameter:
            model.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        else:
            model.register_buffer(name, tensor)

    for dtype in FLOATS:
        add(f"matrix_{str(dtype)[6:]}", (torch.randn(24, 32, generator=source) * 0.1).to(dtype))
    add("large", torch.randn(48, 64, generator=source) * 0.1)
    add("cube", torch.randn(6, 4, 3, 2, generator=source))
    add("row", torch.randn(40, generator=source))
    add("scalar", torch.tensor(0.5))
    add("empty", torch.zeros(0, 4))
    add("across", torch.randn(9, 20, generator=source).t())
    add("odd", odd_values())
    for dtype in EIGHT_BITS:
        add(str(dtype)[6:], torch.randn(10, 6, generator=source).to(dtype))
    for dtype in WHOLE:
        add(str(dtype)[6:], torch.randint(0, 100, (5, 7), generator=source).to(dtype), parameter=False)
    model.embedding, model.decoder = nn.Embedding(12, 8), nn.Linear(8, 12, bias=False)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.randn(12, 8, generator=source))
    model.decoder.weight = model.embedding.weight
    return with_head(model)


def long_model() -> nn.Module:
    """2^18 values and a few more, of 1 and of 2 bytes, and a matrix that a mask takes a moment for."""
    source = torch.Generator().manual_seed(6)
    model = nn.Module()
    model.register_buffer("bytes", torch.randint(0, 256, ((1 << 18) + 5,), generator=source, dtype=torch.uint8))
    halves = torch.randn(3, (1 << 17) + 1, generator=source).to(torch.float16)
    model.register_parameter("halves", nn.Parameter(halves, requires_grad=False))
    return with_head(model)


def with_head(model: nn.Module) -> nn.Module:
    model.head = nn.Linear(8, 3)
    with torch.no_grad():
        model.head.weight.fill_(0.25)
        model.head.bias.fill_(-1.0)
    return model.eval()


def odd_values() -> Tensor:
    """Infinities, NaN with payloads, subnormals and -0, twelve of each."""
    bits = [0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 1, 0x80000000, 0x007FFFFF, 0x7F7FFFFF]
    signed = [value - (value >> 31 << 32) for value in bits * 12]
    return torch.tensor(signed, dtype=torch.int32).view(torch.float32).reshape(8, 12)
