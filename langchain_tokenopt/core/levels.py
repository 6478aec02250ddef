"""What each level does with each part of a call: the one table that everybody reads.

``optimize(level=)``, ``PromptCompressor(level=)``, ``token_scope(level=)`` and ``optimize_agent``
take their settings from here, and so do the tables of the documentation.

``none`` changes no byte. ``balanced`` loses nothing: whatever it leaves out, the model can get back
by itself. ``aggressive`` and ``maximum`` leave out more, also what nobody can get back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

__all__ = ["LEVELS", "PARTS", "Level", "LevelPart", "Setting", "check_level"]

Level = Literal["none", "balanced", "aggressive", "maximum"]
"""How much a preset leaves out."""

LEVELS: Final[tuple[Level, ...]] = get_args(Level)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a part does at one level."""

    words: str
    """For people: a short phrase."""
    arguments: Mapping[str, Any] | None = None
    """Of its stage; ``None``: the part is off."""


@dataclass(frozen=True, slots=True)
class LevelPart:
    """One part of the path that a call takes."""

    name: str
    """Of the argument of ``optimize_agent``."""
    does: str
    """Why one has it."""
    may_change: str
    """What is no longer as it was without it."""
    settings: Mapping[Level, Setting]


def _at_all_levels(words: str) -> dict[Level, Setting]:
    return {level: Setting(words) for level in LEVELS}


_OFF: Final = Setting("off")

PARTS: Final[tuple[LevelPart, ...]] = (
    LevelPart(
        "cache",
        "answers what was asked before",
        "answers may be old ones",
        _at_all_levels("only yours"),
    ),
    LevelPart(
        "tools",
        "shows the tools that are needed",
        "what tools it sees; it can search for others",
        {
            "none": _OFF,
            "balanced": Setting("where cheaper", {}),
            "aggressive": Setting("15, where cheaper", {"max_tools": 15, "slim": True}),
            "maximum": Setting("8, where cheaper", {"max_tools": 8, "slim": True}),
        },
    ),
    LevelPart(
        "context",
        "sends less of a long conversation",
        "how much of old turns it sees; it can fetch them",
        {
            "none": _OFF,
            "balanced": Setting("where cheaper", {}),
            "aggressive": Setting("32,000 tokens", {"max_tokens": 32_000}),
            "maximum": Setting("12,000 tokens", {"max_tokens": 12_000}),
        },
    ),
    LevelPart(
        "compression",
        "shortens passages and data",
        "how JSON is written; above balanced, which passages stay",
        {
            "none": _OFF,
            "balanced": Setting("without loss", {"keep": 1.0}),
            "aggressive": Setting("keeps 0.5", {"keep": 0.5}),
            "maximum": Setting("keeps 0.3", {"keep": 0.3}),
        },
    ),
    LevelPart(
        "routing",
        "asks the cheapest model that will do",
        "which model answers",
        _at_all_levels("only yours"),
    ),
    LevelPart(
        "limits",
        "keeps answers short",
        "how long answers are; longer ones are cut",
        {
            "none": _OFF,
            "balanced": _OFF,
            "aggressive": _OFF,
            "maximum": Setting("150 words", {"max_words": 150}),
        },
    ),
    LevelPart(
        "plan",
        "spends no more than you allow",
        "when little is left, all gets shorter; in the end none is asked",
        _at_all_levels("only yours"),
    ),
)
"""In the order in which a call meets them."""


def check_level(level: object) -> Level:
    """Return *level*, which is one.

    Raises:
        ValueError: It is none.

    Example:
        >>> check_level("much")
        Traceback (most recent call last):
        ...
        ValueError: level must be one of none, balanced, aggressive, maximum; got 'much'.
    """
    for known in LEVELS:
        if level == known:
            return known
    raise ValueError(f"level must be one of {', '.join(LEVELS)}; got {level!r}.")
