"""Checks of arguments: one sentence with the value and the fix."""

from __future__ import annotations

__all__ = ["check_choice", "check_fraction", "check_whole"]


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
        raise ValueError(f"{name} must be a whole number of at least {least:,}; got {value!r}.")
    return value


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
        raise ValueError(f"{name} must be a fraction above 0 and up to 1; got {value!r}.")
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
        raise ValueError(f"{name} must be {listed}; got {value!r}.")
