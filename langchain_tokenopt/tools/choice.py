"""How many tools a request gets: as many as it probably needs, and no more than there is room."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.tools.ranking import Ranked
from langchain_tokenopt.tools.tool_reading import ToolCard

__all__ = ["Selected", "choose"]

FEW_TOOLS: Final = 8
"""Up to so many tools nothing is done, unless they have to fit somewhere."""
FEW_TOKENS: Final = 1_000
"""Nor where all schemas together are no more than this."""
_MISSED: Final = 0.01
"""The probability that the tool which is needed is left out."""
_MOST: Final = 15
"""Tools that are enough for any request that does not set a number of its own."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A tool that is shown to the model, and why."""

    card: ToolCard
    score: float
    reason: str
    position: int
    tool: Any = None
    """The tool itself, as it was given."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.card.name

    @property
    def tokens(self) -> int:
        """What its schema adds to a request."""
        return self.card.tokens


def choose(
    ranked: Sequence[Ranked],
    *,
    max_tools: int | None = None,
    max_tokens: int | None = None,
    always_include: Collection[str] = (),
) -> list[Selected]:
    """Return the tools to show, best first.

    Args:
        ranked: All tools, from :meth:`ToolRanking.rank`.
        max_tools: How many at most, those of *always_include* not counted.
        max_tokens: What their schemas may take together, those of *always_include* included.
        always_include: Names of tools that are shown whatever they are needed for.
    """
    found = [_selected(each) for each in ranked]
    if max_tools is None and max_tokens is None:
        total = sum(each.card.tokens for each in ranked)
        if len(ranked) <= FEW_TOOLS or total <= FEW_TOKENS:
            return found
    kept = [one for one in found if one.card.name in always_include]
    room = float("inf") if max_tokens is None else max_tokens - sum(o.card.tokens for o in kept)
    most = _MOST if max_tools is None else max_tools
    others = [one for one in found if one.card.name not in always_include]
    total_score, seen = sum(one.score for one in others), 0.0
    for one in others:
        if most <= 0 or (total_score and seen >= (1 - _MISSED) * total_score):
            break
        seen += one.score
        if one.card.tokens <= room:
            kept.append(one)
            room -= one.card.tokens
            most -= 1
    return sorted(kept, key=lambda one: (-one.score, one.position))


def _selected(ranked: Ranked) -> Selected:
    return Selected(ranked.card, ranked.score, ranked.reason, ranked.position)
