"""The mask of one adapter over one weight."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from supermask.core import threshold_keep_mask, zero_count
from supermask.core.kernels.masked_linear import masked_linear
from supermask.core.kernels.ops import MaskKey, masked_by_logits
from supermask.deltas.coding import decode_mask, encode_mask, mask_needs_base
from supermask.deltas.keep_mask import KeepMask, MaskPositions, Overwritten
from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import DeltaFormatError, DeltaStateError
from supermask.methods.draw_clock import DrawClock
from supermask.methods.mask_parametrization import keeps_logits_in_float32
from supermask.methods.supermask import initial_mask_logits

if TYPE_CHECKING:
    from supermask.interop.peft.config import SupermaskConfig

__all__ = ["AdapterMask", "pack_keep_mask", "unpack_keep_mask"]

_HEADER = struct.Struct("<QQQ")


@final
class AdapterMask(nn.Module):
    """Mask logits that train, or a fixed keep mask, over one weight. A tied weight has one for all its layers.

    Args:
        weight: the base's weight.
        name: its full name in the model, which keys its draws.
        config: the adapter's settings. With `inference_mode` the mask is fixed, and has to be loaded before use.
        clock: says which draw is due.
    """

    mask_logits: nn.Parameter | None
    keep: Tensor | None

    def __init__(self, weight: Tensor, *, name: str, config: SupermaskConfig, clock: DrawClock) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.clock = clock
        self.shape = tuple(weight.shape)
        self.saves_logits = False
        self.recompute = True
        self._merges = 0
        self._overwritten: tuple[torch.dtype, Overwritten] | None = None
        logits = None
        if not config.inference_mode:
            logits = nn.Parameter(
                initial_mask_logits(
                    weight.detach(), initial_sparsity=config.initial_sparsity, init_logit=config.init_logit
                )
            )
        self.register_parameter("mask_logits", logits)
        self.register_buffer("keep", None, persistent=False)

    @property
    def trains(self) -> bool:
        """Whether there are logits that take gradients. A mask that does not train is never drawn at random."""
        return self.mask_logits is not None and self.mask_logits.requires_grad

    @property
    def is_loaded(self) -> bool:
        """Whether there is a mask at all."""
        return self.mask_logits is not None or self.keep is not None

    def keep_mask(self) -> Tensor:
        """The mask outside training: the fixed one, or ν > 0; it must have been loaded."""
        if self.mask_logits is not None:
            return threshold_keep_mask(self._logits())
        if self.keep is None:
            raise DeltaStateError(
                f"the mask of {self.name} was not in the adapter's file, or no file was loaded; load the adapter with "
                "PeftModel.from_pretrained or load_adapter"
            )
        return self.keep

    def masked(self, weight: Tensor, *, sampled: bool, dtype: torch.dtype | None = None) -> Tensor:
        """The weight, the base's or what another mask has left of it, masked; in `dtype` if there are logits."""
        self._check(weight)
        if self.mask_logits is None:
            zero = torch.zeros((), dtype=weight.dtype, device=weight.device)
            return torch.where(self.keep_mask(), weight, zero)
        key = self._due() if sampled else None
        through = self.config.gradient == "through"
        return masked_by_logits(weight, self._logits(), key, dtype=dtype or weight.dtype, through=through)

    def linear(self, inputs: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Tensor:
        """The output of a linear layer over the weight under the mask that is due; see `core.kernels.masked_linear`."""
        self._check(weight)
        return masked_linear(
            inputs,
            weight,
            self._logits(),
            bias,
            self._due(),
            through=self.config.gradient == "through",
            transposed=transposed,
            recompute=self.recompute,
        )

    def merge_(self, weight: Tensor) -> None:
        """Zero the dropped weights of the base in place; the layers of a tied weight each call it, once it is done."""
        if self._merges == 0:
            overwritten = Overwritten(as_bits(weight), KeepMask(self.keep_mask()))
            overwritten.put_on_(as_bits(weight))
            self._overwritten = (weight.dtype, overwritten)
        self._merges += 1

    def unmerge_(self, weight: Tensor) -> None:
        """Give the base's weight back to the last bit, on whatever device it is by now, when the last layer asks."""
        if self._merges == 1 and self._overwritten is not None:
            dtype, overwritten = self._overwritten
            if (weight.dtype, tuple(weight.shape)) != (dtype, self.shape):
                raise DeltaStateError(
                    f"the model was converted while a mask was merged into it: {self.name} is {weight.dtype} of shape "
                    f"{tuple(weight.shape)} now; convert it back before unmerging, or load the base again"
                )
            overwritten.take_off_(as_bits(weight))
            self._overwritten = None
        self._merges -= 1

    def packed(self) -> Tensor:
        """The mask outside training as a file holds it: uint8, one-dimensional."""
        return pack_keep_mask(self.keep_mask())

    @torch.no_grad()
    def load(self, weight: Tensor, *, packed: Tensor, logits: Tensor | None) -> None:
        """Take over what a file holds, which must not contradict itself; without logits training goes on from ±ν."""
        try:
            keep = unpack_keep_mask(packed, self.shape).to(weight.device)
        except DeltaFormatError as error:
            raise DeltaFormatError(f"the mask of {self.name}: {error}") from None
        if self.mask_logits is None:
            self.keep = keep
            return
        if logits is None:
            logits = torch.where(keep, self.config.init_logit, -self.config.init_logit)
        logits = logits.to(device=weight.device, dtype=torch.float32)
        if logits.shape != keep.shape or not torch.equal(threshold_keep_mask(logits), keep):
            raise DeltaFormatError(f"the mask of {self.name}: its logits and its packed mask contradict each other")
        if self.mask_logits.is_meta:
            self.mask_logits = nn.Parameter(logits, requires_grad=self.mask_logits.requires_grad)
        else:
            self.mask_logits.copy_(logits)

    def fix(self, keep: Tensor, *, device: torch.device) -> None:
        """Set a fixed mask: boolean, the weight's shape."""
        self.keep = keep.to(device)

    def _due(self) -> MaskKey:
        return self.clock.mask_key(self.name, training=True, seed=self.config.seed)

    def _check(self, weight: Tensor) -> None:
        if weight.is_meta:
            raise DeltaStateError(
                f"{self.name} is on the meta device, offloaded to the CPU or the disk; load the base without offloading"
            )

    def _logits(self) -> Tensor:
        logits = self.mask_logits
        if logits is None or logits.is_meta:
            raise DeltaStateError(f"the mask logits of {self.name} are on the meta device; load the adapter first")
        return logits

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> AdapterMask:
        super()._apply(keeps_logits_in_float32(fn), recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        """What `print(model)` shows of it."""
        kind = "fixed" if self.mask_logits is None else "mask logits"
        return f"{kind}, {'x'.join(str(size) for size in self.shape)}"


def pack_keep_mask(keep_mask: Tensor) -> Tensor:
    """Code a keep mask as one row of bytes, as an adapter's file holds it, in about N·H(s) bits, base not needed.

    First rows and columns of the weight and the number of zeros, 8 bytes each, little-endian; the rest is the mask,
    entropy-coded as docs/FORMAT.md, section "Keep masks", specifies.

    Example:
        >>> keep_mask = torch.ones(32, 32, dtype=torch.bool)
        >>> keep_mask[3, 5] = False
        >>> packed = pack_keep_mask(keep_mask)
        >>> packed.dtype, len(packed), torch.equal(unpack_keep_mask(packed, (32, 32)), keep_mask)
        (torch.uint8, 30, True)
    """
    rows, columns = keep_mask.shape
    content = _HEADER.pack(rows, columns, zero_count(keep_mask)) + encode_mask(MaskPositions.of(keep_mask))
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def unpack_keep_mask(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The keep mask that `pack_keep_mask` coded.

    Example:
        >>> unpack_keep_mask(pack_keep_mask(torch.ones(2, 3, dtype=torch.bool)), (3, 2))
        Traceback (most recent call last):
        supermask.errors.DeltaFormatError: the mask is for a weight of shape (2, 3), and the model's is (3, 2)
    """
    if packed.dtype is not torch.uint8 or packed.dim() != 1 or packed.numel() < _HEADER.size:
        raise DeltaFormatError(
            f"a packed mask is a row of at least {_HEADER.size} uint8, received {packed.dtype} of shape "
            f"{tuple(packed.shape)}"
        )
    content = packed.detach().cpu().contiguous().numpy().tobytes()
    rows, columns, zeros = _HEADER.unpack_from(content)
    if (rows, columns) != tuple(shape):
        raise DeltaFormatError(
            f"the mask is for a weight of shape {(rows, columns)}, and the model's is {tuple(shape)}"
        )
    payload = content[_HEADER.size :]
    if mask_needs_base(payload):
        raise DeltaFormatError("the mask is coded against its base's weights, and a packed one is read alone")
    return decode_mask(payload, shape, zeros).keep
