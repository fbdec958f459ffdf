"""From options to the method and the training's settings; all faults of both are told together."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from supermask.cli.train_options import METHODS_IN_WORDS
from supermask.errors import ConfigurationError, SupermaskError, UnknownNameError
from supermask.methods import METHODS, Freezing, Method
from supermask.training import TrainingConfig

__all__ = ["make_settings"]

# Where an option says more than the setting, because on the command line no class name stands before it.
_SETTING_OF: Final = {
    "--also-train": "train",
    "--mask-learning-rate": "learning_rate",
    "--mask-eps": "eps",
    "--pruning-begin": "begin",
    "--pruning-end": "end",
    "--pruning-period": "period",
}


def make_settings(
    method: str, *, method_options: Mapping[str, Any], training_options: Mapping[str, Any]
) -> tuple[Method, TrainingConfig]:
    """Make a method and the settings of its training out of what was given on the command line.

    Args:
        method: name of the method.
        method_options: option to value; None is what was not given.
        training_options: setting of `TrainingConfig` to value; None or False is what was not given.

    Returns:
        The method, and the settings.

    Raises:
        SupermaskError: naming every fault of both.
    """
    faults: list[SupermaskError] = []
    try:
        chosen = _make_method(method, {name: value for name, value in method_options.items() if value is not None})
    except SupermaskError as error:
        faults.append(error)
    try:
        # Zero is a value and equals False, so what was not given is told by identity.
        set_here = {name: value for name, value in training_options.items() if value is not None and value is not False}
        config = TrainingConfig(**set_here)
    except SupermaskError as error:
        faults.append(error)
    if faults:
        raise type(faults[0])("; ".join(map(str, faults)))
    return chosen, config


def _make_method(name: str, given: Mapping[str, Any]) -> Method:
    if name == "full" or name == "head-only":
        if given:
            raise ConfigurationError(
                f"the method {name} has no settings, but received {', '.join(given)}; leave them out, or use "
                "--method freezing --exclude SELECTOR to train a part"
            )
        return Freezing() if name == "full" else Freezing.head_only()
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS_IN_WORDS, n=1)
        hint = f" did you mean {close[0]}?" if close else ""
        raise UnknownNameError(f"no method is called {name!r};{hint} methods are: {', '.join(METHODS_IN_WORDS)}")
    kind = METHODS[name]
    strangers = [option for option in given if _setting(option) not in kind.model_fields]
    if strangers:
        raise ConfigurationError("; ".join(_stranger(option, name, given) for option in strangers))
    if kind is Freezing and "--exclude" not in given:
        raise ConfigurationError(
            "freezing without --exclude freezes nothing; name what to freeze, or use --method full to train everything"
        )
    try:
        return kind(**{_setting(option): value for option, value in given.items()})
    except ConfigurationError as error:
        renamed = [f"{_setting(option)} is {option} here" for option in given if option in _SETTING_OF]
        raise ConfigurationError("; ".join([str(error), *renamed])) from None


def _setting(option: str) -> str:
    return _SETTING_OF.get(option, option.removeprefix("--").replace("-", "_"))


def _stranger(option: str, method: str, given: Mapping[str, Any]) -> str:
    owners = [name for name, kind in METHODS.items() if _setting(option) in kind.model_fields]
    remedy = f"leave it out or use --method {owners[0]}"
    if (option, method) == ("--sparsity", "supermask"):
        remedy = f"use --initial-sparsity, which steers a supermask's zeros, or --method {owners[0]}"
    return f"{option} is no option of the method {method} but of {' and '.join(owners)}; {remedy}"
