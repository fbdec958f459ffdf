"""What every method is: settings that can be put to work on a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from supermask.settings import MethodSettings

if TYPE_CHECKING:
    from torch import nn

    from supermask.methods.attachment import Attachment

__all__ = ["Method"]


class Method(MethodSettings, ABC):
    """A way to learn a task while constraining what may change.

    A method is settings alone; `attach_` puts them to work on a live model. Methods compose through `exclude`: whatever
    the method does elsewhere, excluded weights stay at their pretrained values and are neither trained, masked nor
    pruned. The task head is always trained and never constrained.
    """

    kind: ClassVar[str]

    @field_validator("exclude", "select", "train", mode="before", check_fields=False)
    @classmethod
    def _listed(cls, selectors: Any) -> Any:
        """One selector may be given as it is, several as any sequence."""
        if isinstance(selectors, str):
            return (selectors,)
        return tuple(selectors) if isinstance(selectors, list) else selectors

    @abstractmethod
    def attach_(self, model: nn.Module, *, seed: int = 0) -> Attachment:
        """Put the method to work on a model, in place.

        Args:
            model: a base with its task head, as `AutoModelForSequenceClassification` gives it.
            seed: keys every random draw of the method.

        Returns:
            The attachment, through which training, extraction and `detach_` go.

        Raises:
            SelectionError: if a selector matches nothing, or nothing is left to constrain.
            DeltaStateError: if a method is attached to the model already.
        """

    def describe(self) -> dict[str, Any]:
        """The method as JSON: its kind and every setting."""
        return {"kind": self.kind, **self.model_dump(mode="json")}
