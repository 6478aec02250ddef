"""How many tools a request gets: as many as it probably needs, and no more than there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.tools.ranking import Ranked, Ranking
from langchain_tokenopt.tools.tool_reading import ToolCard

__all__ = ["FEW_TOKENS", "FEW_TOOLS", "Selected", "choose", "chosen_of"]

FEW_TOOLS: Final = 8
"""Up to so many tools nothing is done, unless they have to fit somewhere."""
FEW_TOKENS: Final = 1_000
"""Nor where all schemas together are no more than this: to select could save less than the tool
costs that searches for the others."""
_MISSED: Final = 0.01
"""Needed tools that are expected among those left out."""
_LEAST: Final = 5
"""Tools that are shown though fewer seem to be enough: schemas are short beside a second call."""
_MOST: Final = 24
"""Tools that are shown though more could be needed: the model may search for the others."""
_MOST_SHARE: Final = 0.04
"""The same for large sets, as a share of the set. Of the functions that BFCL's even cases need it
loses 1 in 100, at 2 % of the tokens; with 24 tools 2."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A tool that is shown to the model, and why."""

    card: ToolCard
    score: float
    reason: str
    position: int
    """Where it stood among the tools that were given."""
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
    ranked: Ranking,
    *,
    max_tools: int | None = None,
    max_tokens: int | None = None,
    always_include: Collection[str] = (),
) -> list[Selected]:
    """Return the tools to show, best first.

    Without *max_tools* as many as it takes until what is left out is expected to hold next to
    nothing that is needed. Of tools that say nearly the same at most every second place is taken,
    so that they do not leave the others out; a reason says which ones that were.

    Args:
        ranked: All tools, from :meth:`~langchain_tokenopt.tools.ranking.ToolRanking.rank`.
        max_tools: How many at most, those of *always_include* not counted.
        max_tokens: What their schemas may take together, those of *always_include* included.
        always_include: Names of tools that are shown whatever they are needed for.

    Example:
        >>> from langchain_tokenopt.tools.ranking import ToolRanking
        >>> from langchain_tokenopt.tools.tool_reading import read_tool
        >>> cards = [read_tool({"name": n}) for n in ("send_mail", "get_weather", "add")]
        >>> found = choose(ToolRanking().rank("Weather in Oslo?", cards), max_tools=1)
        >>> [(one.card.name, one.reason) for one in found]
        [('get_weather', 'words: weather')]
    """
    room = {"max_tools": max_tools, "max_tokens": max_tokens}
    kept = chosen_of(ranked, **room, always_include=always_include)
    shown = {one.position for one in kept}
    return [_told(one, ranked, shown) for one in kept]


def chosen_of(
    ranked: Ranking,
    *,
    max_tools: int | None = None,
    max_tokens: int | None = None,
    always_include: Collection[str] = (),
) -> list[Ranked]:
    """Return what :func:`choose` does, without saying of which tools others were left out."""
    is_free = max_tools is None and max_tokens is None
    if is_free and (len(ranked) <= FEW_TOOLS or ranked.tokens <= FEW_TOKENS):
        return [*ranked]
    kept = ranked.named(always_include)
    fixed = {one.position for one in kept}
    room = float("inf") if max_tokens is None else max_tokens - sum(o.card.tokens for o in kept)
    usual = max(_MOST, int(_MOST_SHARE * len(ranked)))
    most = (usual if max_tools is None else max_tools) + len(kept)
    missed = ranked.expected - sum(one.score for one in kept)
    for one in _without_crowds(one for one in ranked if one.position not in fixed):
        if len(kept) >= most:
            break
        if max_tools is None and missed <= _MISSED and len(kept) - len(fixed) >= _LEAST:
            break
        if one.card.tokens <= room:
            kept.append(one)
            room -= one.card.tokens
            missed -= one.score
    return sorted(kept, key=lambda one: (-one.score, one.position))


def _without_crowds(ranked: Iterable[Ranked]) -> Iterator[Ranked]:
    """Yield all tools in an order in which no group has more than every second place so far.

    Who asks for one tool more gets the same ones and one more.
    """
    waiting: list[Ranked] = []
    taken: Counter[int] = Counter()
    count = 0
    for one in ranked:
        waiting.append(one)
        while True:
            free = (at for at, each in enumerate(waiting) if 2 * taken[each.group] <= count)
            at = next(free, None)
            if at is None:
                break
            found = waiting.pop(at)
            taken[found.group] += 1
            count += 1
            yield found
    yield from waiting


def _told(one: Ranked, ranked: Ranking, shown: Collection[int]) -> Selected:
    """Say of which tools others that are nearly the same were left out."""
    reason = one.reason
    alike = ranked.alike(one, shown)
    if alike:
        more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
        reason = f"{reason}; nearly the same: {', '.join(alike[:3])}{more}"
    return Selected(one.card, one.score, reason, one.position)
