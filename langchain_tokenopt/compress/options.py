"""The options of a compressor, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from langchain_tokenopt.core.argument_checks import check_fraction, check_whole
from langchain_tokenopt.core.levels import PARTS, Level, check_level

__all__ = [
    "DEFAULT_MODEL", "OnInfeasible", "Patterns", "ToolResults", "check_choice", "check_target",
    "compiled", "share_kept",
]  # fmt: skip

OnInfeasible = Literal["raise", "drop_lowest", "truncate"]
ToolResults = Literal["keep", "lossless", "select"]
Patterns: TypeAlias = tuple[re.Pattern[str], ...]

DEFAULT_MODEL: Final = "o200k_base"
"""Counts with the vocabulary of OpenAI's current models when no model is given."""


def check_target(max_tokens: int | None, keep: float | None, level: str | None) -> None:
    """Check that exactly one of the targets is given, and that it can be met.

    Raises:
        ValueError: None or several are given, or one is out of range.
    """
    given = [
        f"{name}={value!r}"
        for name, value in (("max_tokens", max_tokens), ("keep", keep), ("level", level))
        if value is not None
    ]
    if len(given) != 1:
        raise ValueError(
            f"Give exactly one of max_tokens, keep and level; got {', '.join(given) or 'none'}."
        )
    if max_tokens is not None:
        check_whole("max_tokens", max_tokens)
    if keep is not None:
        check_fraction("keep", keep)
    if level is not None:
        check_level(level)


def share_kept(level: Level) -> float | None:
    """Return which share of the compressible tokens a level keeps; ``None``: it changes nothing."""
    settings = next(part.settings[level] for part in PARTS if part.name == "compression")
    return None if settings.arguments is None else settings.arguments["keep"]


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that *value* is one of *choices*.

    Raises:
        ValueError: It is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")


def compiled(
    name: str, patterns: str | re.Pattern[str] | Iterable[str | re.Pattern[str]], flags: int = 0
) -> Patterns:
    """Compile the regular expressions that the option *name* was given.

    Raises:
        ValueError: One of them is invalid.
    """
    if isinstance(patterns, str | re.Pattern):
        patterns = (patterns,)
    made = []
    for pattern in patterns:
        try:
            made.append(re.compile(pattern, flags) if isinstance(pattern, str) else pattern)
        except re.error as error:
            raise ValueError(
                f"{name} holds {pattern!r}, which is no regular expression: {error}. "
                f"Use re.escape(...) for a literal text."
            ) from error
    return tuple(made)
