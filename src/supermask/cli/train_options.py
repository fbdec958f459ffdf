"""The options that are settings: made of the fields of the settings classes, and made into settings again."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from supermask.cli.options import option, spelt
from supermask.errors import ConfigurationError, SupermaskError, UnknownNameError
from supermask.settings import MethodSettings, PruningSettings, SupermaskSettings, TrainingConfig

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from supermask.methods import Method

__all__ = ["METHODS_IN_WORDS", "make_settings", "setting_option", "settings_of_training", "with_options"]

_SETTINGS_OF: Final[Mapping[str, type[MethodSettings]]] = {
    "supermask": SupermaskSettings,
    "pruning": PruningSettings,
    "freezing": MethodSettings,
}
METHODS_IN_WORDS = (*_SETTINGS_OF, "full", "head-only")

# Where an option says more than the setting, because on the command line no class name stands before it.
_OPTION_OF: Final = {
    "train": "also_train",
    "learning_rate": "mask_learning_rate",
    "eps": "mask_eps",
    "begin": "pruning_begin",
    "end": "pruning_end",
    "period": "pruning_period",
}
_SETTING_OF: Final = {option: setting for setting, option in _OPTION_OF.items()}

_Verb = TypeVar("_Verb", bound=Callable[..., None])


def with_options(options: Iterable[inspect.Parameter]) -> Callable[[_Verb], _Verb]:
    """Give a verb these options in place of its `**settings`."""

    def replaced(verb: _Verb) -> _Verb:
        own = inspect.signature(verb, eval_str=True)
        named = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        verb.__signature__ = own.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
        return verb

    return replaced


def settings_of_training() -> Iterator[inspect.Parameter]:
    """An option for each setting of the methods and of the training, whose default is left to the library."""
    for name, found in _method_options().items():
        yield setting_option("Method", name, *found)
    for name, field in TrainingConfig.model_fields.items():
        yield setting_option("Training", name, field)


def make_settings(method: str, given: Mapping[str, Any]) -> tuple[Method, TrainingConfig]:
    """A method and the settings of its training out of such options, or an error that names every fault of both."""
    # Zero is a value and equals False, so what was not given is told by identity.
    told = {option: value for option, value in given.items() if value is not None and value is not False}
    training = {option: told.pop(option) for option in TrainingConfig.model_fields if option in told}
    faults: list[SupermaskError] = []
    try:
        chosen = _make_method(method, told)
    except SupermaskError as error:
        faults.append(error)
    try:
        config = TrainingConfig(**training)
    except SupermaskError as error:
        faults.append(error)
    if faults:
        raise type(faults[0])("; ".join(map(str, faults)))
    return chosen, config


def _method_options() -> dict[str, tuple[FieldInfo, list[str]]]:
    """Each option that is a setting of methods: the field, and whose it is."""
    options: dict[str, tuple[FieldInfo, list[str]]] = {}
    for method, kind in _SETTINGS_OF.items():
        for setting, field in kind.model_fields.items():
            options.setdefault(_OPTION_OF.get(setting, setting), (field, []))[1].append(method)
    return options


def setting_option(panel: str, name: str, field: FieldInfo, owners: Sequence[str] = ()) -> inspect.Parameter:
    """An option for a setting, with its name, type, default and description; not given, it is None or False."""
    kind: Any = field.annotation
    metavar, default = None, field.default
    words = (field.description or "").partition(". ")[0].rstrip(".")
    if get_origin(kind) in (Union, UnionType):  # with None, for a setting that need not be
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        *choices, last = get_args(kind)
        kind, metavar, words = str, "WORD", f"{words}: {', '.join(choices)} or {last}"
    if 0 < len(owners) < len(_SETTINGS_OF):
        words += f"; {' and '.join(owners)}"
    words += "."
    if get_origin(kind) is tuple:
        kind, metavar, default, words = list[str], "SELECTOR", ", ".join(default), f"{words} Repeatable."
    if kind is bool:
        metavar = ""
    elif default not in (None, ""):
        words += f" \\[default: {default}]"
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if kind is bool else None,
        annotation=Annotated[kind, option(panel, metavar, words)],
    )


def _make_method(name: str, given: Mapping[str, Any]) -> Method:
    from supermask.methods import METHODS, Freezing

    if name in ("full", "head-only"):
        if given:
            raise ConfigurationError(
                f"the method {name} has no settings, but received {', '.join(map(spelt, given))}; leave them out, or "
                "use --method freezing --exclude SELECTOR to train a part"
            )
        return Freezing() if name == "full" else Freezing.head_only()
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS_IN_WORDS, n=1)
        hint = f" did you mean {close[0]}?" if close else ""
        raise UnknownNameError(f"no method is called {name!r};{hint} methods are: {', '.join(METHODS_IN_WORDS)}")
    owners = {option: owners for option, (_, owners) in _method_options().items() if option in given}
    if strangers := [_stranger(option, name, owners[option]) for option in owners if name not in owners[option]]:
        raise ConfigurationError("; ".join(strangers))
    if name == "freezing" and not given:
        raise ConfigurationError(
            "freezing without --exclude freezes nothing; name what to freeze, or use --method full to train everything"
        )
    try:
        return METHODS[name](**{_SETTING_OF.get(option, option): value for option, value in given.items()})
    except ConfigurationError as error:
        renamed = [f"{_SETTING_OF[option]} is {spelt(option)} here" for option in given if option in _SETTING_OF]
        raise ConfigurationError("; ".join([str(error), *renamed])) from None


def _stranger(option: str, method: str, owners: Sequence[str]) -> str:
    remedy = f"leave it out or use --method {owners[0]}"
    if (option, method) == ("sparsity", "supermask"):
        remedy = f"use --initial-sparsity, which steers a supermask's zeros, or --method {owners[0]}"
    return f"{spelt(option)} is no option of the method {method} but of {' and '.join(owners)}; {remedy}"
