"""Checks of arguments: one sentence with the value and the fix."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from numbers import Real
from os import PathLike
from typing import Any, TypeVar, cast

__all__ = [
    "check_amount",
    "check_choice",
    "check_flag",
    "check_fraction",
    "check_name",
    "check_path",
    "check_whole",
    "did_you_mean",
    "is_amount",
    "is_finite",
    "is_number",
    "names_what",
    "refuse_class",
    "shown",
    "takes_names",
]

_MOST_SHOWN = 60
_LARGEST_AMOUNT = 1e300
"""Millions of them can be added up."""
_Call = TypeVar("_Call", bound=Callable[..., Any])


def shown(value: object) -> str:
    """Return how an error shows *value*: short, and a class as a class.

    Example:
        >>> shown(dict), shown("ada"), len(shown("x" * 1_000)), shown(10**5_000)
        ('the class dict', "'ada'", 60, 'an object of int that cannot be shown')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  of somebody's object, or of more digits than Python writes
        return f"an object of {type(value).__name__} that cannot be shown"
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


def is_number(value: object) -> bool:
    """Say whether *value* is a number, which a truth value is not here.

    Example:
        >>> is_number(0.5), is_number(True), is_number("60")
        (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Say whether *value* is a number with which can be reckoned: no infinity, nothing too large.

    Example:
        >>> is_finite(60), is_finite(float("inf")), is_finite(10**400), is_finite("60")
        (True, False, False, False)
    """
    most = sys.float_info.max
    return isinstance(value, int | float) and is_number(value) and -most <= value <= most


def check_path(name: str, value: object) -> None:
    """Check that *value* names a file.

    Raises:
        TypeError: It is something else.

    Example:
        >>> check_path("path", 300)
        Traceback (most recent call last):
        ...
        TypeError: path must be the name of a file; got 300.
    """
    if not isinstance(value, str | PathLike):
        raise TypeError(f"{name} must be the name of a file; got {shown(value)}.")


def check_name(name: str, value: object) -> str:
    """Return *value*, a text that is not empty.

    Raises:
        TypeError: It is something else.

    Example:
        >>> check_name("key", 5)
        Traceback (most recent call last):
        ...
        TypeError: key must be a name; got 5.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} must be a name; got {shown(value)}.")
    return value


def check_flag(name: str, value: object) -> bool:
    """Return *value*, which is true or false.

    Raises:
        TypeError: It is something else.

    Example:
        >>> check_flag("learn", "no")
        Traceback (most recent call last):
        ...
        TypeError: learn must be True or False; got 'no'.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {shown(value)}.")
    return value


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """Return a question that names the choice nearest to *word*; nothing where none is near.

    Example:
        >>> did_you_mean("thread", ["user", "thread_id"]), did_you_mean("colour", ["user"])
        (' Did you mean thread_id?', '')
    """
    choices, word = list(choices), str(word)
    begins = [one for one in choices if len(word) > 2 and one.startswith(word)]
    near = begins or get_close_matches(word, choices, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def refuse_class(name: str, value: object) -> None:
    """Refuse a class where one of its objects is needed: parentheses were forgotten.

    Raises:
        TypeError: *value* is a class.

    Example:
        >>> refuse_class("a stage", dict)
        Traceback (most recent call last):
        ...
        TypeError: a stage is needed, and dict is a class. Make one of it: dict(...).
    """
    if isinstance(value, type):
        raise TypeError(
            f"{name} is needed, and {value.__name__} is a class. Make one of it: "
            f"{value.__name__}(...)."
        )


def takes_names(call: _Call) -> _Call:
    """Let a function say which names it takes, where it is given others or too many values.

    Example:
        >>> @takes_names
        ... def limit(words, *, agent=None):
        ...     return words
        >>> limit(60, agnt="news")
        Traceback (most recent call last):
        ...
        TypeError: limit() takes no 'agnt'. Did you mean agent? It takes words, agent.
        >>> limit(60, "news")
        Traceback (most recent call last):
        ...
        TypeError: limit() takes 'news' only by its name, which is one of agent=.
    """
    own = [each for each in signature(call).parameters.values() if each.name != "self"]
    kinds = [each.kind for each in own]
    at_places = [each.name for each in own if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    by_name = [each.name for each in own if each.kind is Parameter.KEYWORD_ONLY]
    is_method = next(iter(signature(call).parameters), "") == "self"
    most = None if Parameter.VAR_POSITIONAL in kinds else len(at_places) + is_method
    name = f"{call.__qualname__.removesuffix('.__init__')}()"
    names = {*at_places, *by_name}

    @wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= names:
            unknown = next(each for each in kwargs if each not in names)
            raise TypeError(
                f"{name} takes no {unknown!r}.{did_you_mean(unknown, names)} "
                f"It takes {', '.join((*at_places, *by_name))}."
            )
        if most is not None and len(args) > most and by_name:
            listed = ", ".join(f"{each}=" for each in by_name)
            raise TypeError(
                f"{name} takes {shown(args[most])} only by its name, which is one of {listed}."
            )
        return call(*args, **kwargs)

    return cast("_Call", checked)


def names_what(everything: str) -> Callable[[_Call], _Call]:
    """Let a function that forgets refuse to forget what is not named.

    ``forget(user=current_user)`` with nobody signed in would forget everybody.

    Args:
        everything: The call that is made to forget everything.

    Example:
        >>> @names_what("clear()")
        ... def forget(*, user=None, tool=None):
        ...     return f"{user or 'all'} forgotten"
        >>> forget(user="ann")
        'ann forgotten'
        >>> forget(user=None, tool="mail")
        Traceback (most recent call last):
        ...
        TypeError: forget(user=None) names nothing, and would forget that of all: give a name.
        >>> forget()
        Traceback (most recent call last):
        ...
        ValueError: forget() names nothing: give user or tool; clear() forgets everything.
    """

    def checking(call: _Call) -> _Call:
        shape, name = signature(call), call.__qualname__
        others = [each for each in shape.parameters if each != "self"]

        @wraps(call)
        def checked(*args: Any, **kwargs: Any) -> Any:
            named = dict(shape.bind(*args, **kwargs).arguments)
            named.pop("self", None)
            for each in [each for each in named if isinstance(named[each], dict)]:
                named.update(named.pop(each))  # of **labels
            if not named:
                raise ValueError(
                    f"{name}() names nothing: give {' or '.join(others)}; {everything} forgets "
                    f"everything."
                )
            for each, value in named.items():
                if value is None:
                    raise TypeError(
                        f"{name}({each}=None) names nothing, and would forget that of all: give a "
                        f"name."
                    )
            return call(*args, **kwargs)

        return cast("_Call", checked)

    return checking


def check_whole(name: str, value: object, *, least: int = 1) -> int:
    """Return *value*, a whole number of at least *least*.

    ``True`` is a number to Python, and a mistake here.

    Raises:
        ValueError: It is something else.

    Example:
        >>> check_whole("max_tokens", 500)
        500
        >>> check_whole("max_tokens", 0)
        Traceback (most recent call last):
        ...
        ValueError: max_tokens must be a whole number of at least 1; got 0.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f"{name} must be a whole number of at least {least:,}; got {shown(value)}."
        )
    return value


def is_amount(value: object) -> bool:
    """Say whether *value* is a finite number of at least 0; numpy's are, truth values are not.

    Example:
        >>> is_amount(0.5), is_amount(-1), is_amount(float("inf")), is_amount("60")
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Real):
        return False
    try:
        return 0 <= float(value) <= _LARGEST_AMOUNT
    except OverflowError:
        return False


def check_amount(name: str, value: object) -> None:
    """Check that *value* is a finite number of at least 0.

    Raises:
        ValueError: It is something else.

    Example:
        >>> check_amount("input_tokens", float("inf"))
        Traceback (most recent call last):
        ...
        ValueError: input_tokens must be a finite number of at least 0; got inf.
    """
    if not is_amount(value):
        raise ValueError(f"{name} must be a finite number of at least 0; got {shown(value)}.")


def check_fraction(name: str, value: object) -> float:
    """Return *value*, a fraction above 0 and up to 1.

    Raises:
        ValueError: It is something else.

    Example:
        >>> check_fraction("keep", 70)
        Traceback (most recent call last):
        ...
        ValueError: keep must be a fraction above 0 and up to 1; got 70.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a fraction above 0 and up to 1; got {shown(value)}.")
    return float(value)


def check_choice(name: str, value: object, *choices: str) -> None:
    """Check that *value* is one of *choices*.

    Raises:
        ValueError: It is something else.

    Example:
        >>> check_choice("on_exceed", "stop", "degrade", "raise")
        Traceback (most recent call last):
        ...
        ValueError: on_exceed must be "degrade" or "raise"; got 'stop'.
    """
    if value not in choices:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {listed}; got {shown(value)}.")
