"""Supermask as a method of PEFT: adapters of packed masks, and deltas as adapters; see docs/peft.md.

Importing this package makes the method known to PEFT, so import it before `PeftModel.from_pretrained` reads one.
"""

from __future__ import annotations

from supermask.errors import MissingDependencyError

try:
    import peft
    import transformers  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        f"supermask.interop.peft needs {error.name or 'peft'}; pip install 'supermask[peft]'"
    ) from None

from supermask.interop.peft.register import check_peft_version, register

check_peft_version(peft.__version__)

from supermask.interop.peft.config import SupermaskConfig  # noqa: E402
from supermask.interop.peft.convert import (  # noqa: E402
    adapter_to_delta,
    delta_to_adapter,
    delta_to_peft,
    peft_to_delta,
)
from supermask.interop.peft.model import PREFIX, SupermaskModel  # noqa: E402
from supermask.interop.peft.training import (  # noqa: E402
    SupermaskCallback,
    make_optimizer,
    supermask_tuner,
)

__all__ = [
    "SupermaskCallback",
    "SupermaskConfig",
    "SupermaskModel",
    "adapter_to_delta",
    "delta_to_adapter",
    "delta_to_peft",
    "make_optimizer",
    "peft_to_delta",
    "supermask_tuner",
]

register(peft, name="SUPERMASK", config=SupermaskConfig, tuner=SupermaskModel, prefix=PREFIX)
