"""Which kinds of tools there are in a set, by what the tools say themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.tools.tool_reading import ToolCard

__all__ = ["groups_of"]

_SHARED: Final = 0.8
"""The share of a set that one name may cover and still tell tools apart."""


def groups_of(cards: Sequence[ToolCard]) -> list[str]:
    """Return the name of each tool's group.

    It is the server, toolkit or module that the tool's name says; where all say the same or
    nothing, the first or last word of the name that most tools share (``github_...``,
    ``..._invoice``); else the tool itself.

    Example:
        >>> from langchain_tokenopt.tools.tool_reading import read_tool
        >>> names = ("create_invoice", "send_invoice", "create_user", "delete_user", "ping")
        >>> groups_of([read_tool({"name": name}) for name in names])
        ['invoice', 'invoice', 'user', 'user', 'ping']
    """
    own = Counter(card.group for card in cards)
    telling = {group for group, count in own.items() if group and count <= _SHARED * len(cards)}
    ends = Counter(word for card in cards for word in {*card.words[:1], *card.words[-1:]})
    # The last word mostly names a thing, the first one what is done with it.
    lasts = Counter(card.words[-1] for card in cards if card.words)
    found = []
    for card in cards:
        if card.group in telling:
            found.append(card.group)
            continue
        words = [
            w for w in (*card.words[-1:], *card.words[:1]) if 1 < ends[w] <= _SHARED * len(cards)
        ]
        best = max(words, key=lambda w: (lasts[w] > 1, ends[w]), default="")
        found.append(best or card.name)
    return found
