"""Tools that say nearly the same of themselves: old and new versions, one tool of two servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.tools.tool_reading import ToolCard
from langchain_tokenopt.tools.tool_text import roots_of

__all__ = ["duplicates_of"]

_TELLING: Final = 4
"""Words that a description needs for another tool with the same one to be a duplicate."""
_VERSIONS: Final = frozenset({"v", "new", "old", "legacy", "beta", "deprecated", "latest"})


def duplicates_of(cards: Sequence[ToolCard]) -> list[int]:
    """Return a number for each tool, equal for those that say nearly the same of themselves.

    That is: the same words in the description, in any order; or the same name but for its group,
    its writing and a version.

    Example:
        >>> from langchain_tokenopt.tools.tool_reading import read_tool
        >>> names = ("search_flights", "searchFlightsV2", "travel__search_flights", "book_flight")
        >>> duplicates_of([read_tool({"name": name}) for name in names])
        [0, 0, 0, 1]
    """
    parent = list(range(len(cards)))

    def first(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    seen: dict[tuple[str, ...], int] = {}
    for at, card in enumerate(cards):
        said = tuple(sorted(set(roots_of(card.description))))
        name = tuple(
            w for w in roots_of(" ".join(card.words)) if not w.isdigit() and w not in _VERSIONS
        )
        for key in ((("says", *said) if len(said) >= _TELLING else ()), (("named", *name))):
            if len(key) > 1:
                parent[first(at)] = first(seen.setdefault(key, at))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(first(at), len(numbers)) for at in range(len(cards))]
