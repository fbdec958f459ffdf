"""The settings of a supermask adapter, as PEFT keeps them in `adapter_config.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, final

from peft import PeftConfig

from supermask.configuration import Configuration
from supermask.core.straight_through import GradientConvention
from supermask.errors import ConfigurationError
from supermask.methods import Supermask
from supermask.settings import SupermaskSettings, TrainingConfig

__all__ = ["SupermaskConfig", "SupermaskPeftType"]

MASK_FORMAT = 1
"""The version of `pack_keep_mask`'s layout; an adapter's configuration states it."""


@final
class SupermaskPeftType(str, Enum):
    """The name of the method, in the form that PEFT gives its own: equal to the string, and as a key the same."""

    SUPERMASK = "SUPERMASK"


def _setting(name: str, settings: type[Configuration] = SupermaskSettings) -> Any:
    """A field with the default and the help that the setting has elsewhere."""
    known = settings.model_fields[name]
    return field(default=known.default, metadata={"help": known.description})


@final
@dataclass
class SupermaskConfig(PeftConfig):  # type: ignore[misc]  # peft is not typed
    """Settings of a supermask adapter, for `peft.get_peft_model`.

    Args:
        target_modules: modules whose weights are masked: names, or the ends of names, in a list; a regular expression
            over full names; `"all-linear"`; by default the matrices that `supermask.methods.Supermask` masks. Linear
            layers, embeddings and `transformers`' `Conv1D` can be.
        exclude_modules: modules to leave out of these, in the same forms.
        modules_to_save: modules that train by value and are stored whole. The task head is added to them: all of it,
            where PEFT adds what is called `classifier` or `score`.
        initial_sparsity, init_logit, gradient: as of `supermask.Supermask`; an adapter that is loaded without its
            logits to train further goes on from ν = ±init_logit.
        seed: keys every draw.
        save_logits: store ν as well, at 4 bytes a weight, so that training can go on exactly where it was. Checkpoints
            of a Trainer with a `SupermaskCallback` do so whatever this says.
        verify_base: store the base's fingerprint, and refuse another base when the adapter is loaded. It reads every
            weight of the base once.
        record: what is known of the delta that the adapter was converted from; it is filled in, and dropped when the
            adapter trains on.
        base_digest, mask_format: the fingerprint's digest, and the version of the packed masks; they are filled in.

    Raises:
        ConfigurationError: if a setting is outside its range, or the adapter comes from a later version.

    Example:
        >>> SupermaskConfig(task_type="SEQ_CLS", target_modules=["query", "value"]).init_logit
        5.0
    """

    # PEFT stores the whole embedding of the base beside an adapter that targets it, unless this is set, even if to
    # nothing. A mask needs no copy of what it masks.
    trainable_token_indices: ClassVar[dict[str, list[int]]] = {}

    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules whose weights are masked."})
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to leave out of these."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules that train by value."})
    initial_sparsity: float = _setting("initial_sparsity")
    init_logit: float = _setting("init_logit")
    gradient: GradientConvention = _setting("gradient")  # noqa: RUF009 - it is a field
    seed: int = _setting("seed", TrainingConfig)
    save_logits: bool = field(default=False, metadata={"help": "Store the mask logits as well."})
    verify_base: bool = field(default=True, metadata={"help": "Check the base's fingerprint."})
    base_digest: str | None = field(default=None, metadata={"help": "Digest of the base's fingerprint."})
    record: dict[str, Any] | None = field(default=None, metadata={"help": "Of the delta it was converted from."})
    mask_format: int = field(default=MASK_FORMAT, metadata={"help": "Version of the packed masks."})

    def __post_init__(self) -> None:
        """Check the settings that no other part checks."""
        super().__post_init__()
        self.peft_type = SupermaskPeftType.SUPERMASK
        Supermask(**self.method)  # it knows the ranges
        if self.mask_format != MASK_FORMAT:
            raise ConfigurationError(
                f"this adapter's masks are packed in format {self.mask_format}, and this version of supermask knows "
                f"format {MASK_FORMAT}; install the version that wrote it"
            )
        for name in ("target_modules", "exclude_modules"):
            modules = getattr(self, name)
            if isinstance(modules, list | tuple | set):
                setattr(self, name, set(modules))
        if self.modules_to_save is not None:
            self.modules_to_save = list(dict.fromkeys(self.modules_to_save))

    @property
    def method(self) -> dict[str, Any]:
        """What the adapter says of its method, in the words of `supermask.Supermask`."""
        return {name: getattr(self, name) for name in ("initial_sparsity", "init_logit", "gradient")}

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them, in an order that does not change from run to run."""
        settings: dict[str, Any] = super().to_dict()
        return {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}
