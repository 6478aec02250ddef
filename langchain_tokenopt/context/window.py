"""What a model's window is, and what of it a request may fill."""

from __future__ import annotations

from typing import Any, Final

from langchain_tokenopt.core.argument_checks import check_fraction, check_whole

__all__ = ["SURELY", "check_size", "in_tokens", "window_of"]

SURELY: Final = 1.1
"""How much an estimate of tokens may be off."""


def window_of(model: Any) -> int | None:
    """Return the input tokens that a model takes, by its profile; ``None``: nobody says.

    Source: https://docs.langchain.com/oss/python/langchain/models#model-profiles (2026-11-30).

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> window_of(FakeListChatModel(responses=["a"])) is None
        True
    """
    profile = getattr(model, "profile", None)
    most = profile.get("max_input_tokens") if isinstance(profile, dict) else None
    return most if isinstance(most, int) and most > 0 else None


def check_size(name: str, value: object) -> None:
    """Check that *value* is a number of tokens, a share of the window, or ``None``.

    Raises:
        ValueError: It is neither.

    Example:
        >>> check_size("trigger", 0.8)
        >>> check_size("trigger", 1.5)
        Traceback (most recent call last):
        ...
        ValueError: trigger must be a fraction above 0 and up to 1; got 1.5.
    """
    if isinstance(value, float):
        check_fraction(name, value)
    elif value is not None:
        check_whole(name, value)


def in_tokens(size: float | None, window: int | None) -> int | None:
    """Return a size in tokens; ``None``: there is none, or it is a share of an unknown window.

    Example:
        >>> in_tokens(0.5, 128_000), in_tokens(900, None), in_tokens(0.5, None)
        (64000, 900, None)
    """
    if isinstance(size, float):
        return None if window is None else int(size * window)
    return None if size is None else int(size)
