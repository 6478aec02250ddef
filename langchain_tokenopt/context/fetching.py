"""What is fetched: the whole, or as much of it as there is room for, and how to get the rest.

A handle may name where to begin: ``1a2b3c4d_31960`` is the original of ``1a2b3c4d`` from its
character 31,960 on. So parts may be of any size, and one after the other they are the original to
the byte. Several messages that were set aside together come as a list of them, with the beginnings
of the long ones, and handles by which each can be fetched alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_tokenopt.context.levels import gist, handle_of
from langchain_tokenopt.core.messages import text_of

__all__ = ["LEAST_PART", "LISTED_TOKENS", "fetched_part", "listed", "parted", "titles_of"]

LEAST_PART: Final = 96
"""Tokens, the line included, in which a part of an original is worth being sent."""
LISTED_TOKENS: Final = 160
"""A longer message has a line in a list of several, and a handle of its own."""
_LISTED_WHERE: Final = 2_000
"""Tokens of several messages from which on they come as a list."""
_BEGINNINGS: Final = 3_000
"""Characters of all beginnings in a list together, where they are not few or very many."""
_BEGINNING: Final = (40, 400)
"""Bounds of the characters of one."""
_TITLE: Final = 20
_PART: Final = re.compile(r"(\w+?)_(\d{1,9})")
_NOTE_TOKENS: Final = 64
"""Of the line behind a part."""
_FURTHER_TOKENS: Final = 160
"""Of what it says of the rest, where a part has several times as many."""
_WAYPOINTS: Final = 6
_GIST: Final = 24
_FROM: Final = 0.8
"""A part ends at the last line break, or else space, behind this share of it."""

Count = Callable[[str], int]


def parted(handle: str) -> tuple[str, int]:
    """Return a handle as it was given, and where to begin.

    Example:
        >>> parted("1a2b3c4d"), parted("1a2b3c4d_31960")
        (('1a2b3c4d', 0), ('1a2b3c4d', 31960))
    """
    found = _PART.fullmatch(handle)
    return (found[1], int(found[2])) if found else (handle, 0)


def fetched_part(
    text: str, handle: str, start: int, most: int, count: Count, tool: str
) -> str | None:
    r"""Return an original from a character on: all of it, or a part and the line that says so.

    Args:
        text: The original.
        handle: By which it is fetched.
        start: Where to begin.
        most: Tokens that may be sent, the line included.
        count: Counts the tokens of a text.
        tool: Name of the tool that fetches.

    Returns:
        ``None`` where there is no room for a part that is worth it.

    Example:
        >>> text = "".join(f"Gate {n} opens at noon.\n" for n in range(40))
        >>> made = fetched_part(text, "1a2b3c4d", 0, 110, lambda text: len(text) // 4, "expand")
        >>> print(made.partition("[")[2])
        44 of 227 tokens, characters 1 to 176 of 910; 183 left out, expand("1a2b3c4d_176") goes on]
    """
    rest = text[start:]
    tokens = count(rest)
    if tokens <= most:
        return rest or f"The original ends at character {len(text):,}."
    if most < LEAST_PART:
        return None
    tells = most > 4 * _FURTHER_TOKENS
    room = most - _NOTE_TOKENS - (_FURTHER_TOKENS if tells else 0)
    end = start + _fitting(rest, tokens, room, count)
    part, left = text[start:end], count(text[end:])
    whole = count(text) if start else tokens
    line = (
        f"{count(part):,} of {whole:,} tokens, characters {start + 1:,} to {end:,} of "
        f'{len(text):,}; {left:,} left out, {tool}("{handle}_{end}") goes on'
    )
    further = _further(text, end, end - start) if tells else ""
    made = (f"{part}\n[{line}{more}]" for more in (further, ""))
    return next((each for each in made if count(each) <= most), None)


def _fitting(rest: str, tokens: int, room: int, count: Count) -> int:
    """Return how many characters of *rest* have so many tokens, to the end of a line or word."""
    low, high = 1, min(len(rest), 1 + 2 * room * len(rest) // tokens)
    while high - low > low // 64:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(rest[:middle]) <= room else (low, middle - 1)
    ends = (rest.rfind(mark, int(low * _FROM), low) for mark in ("\n", " "))
    return next((at + 1 for at in ends if at >= 0), low)


def _further(text: str, end: int, size: int) -> str:
    """Return where to go on elsewhere in the rest, and what stands there."""
    step = max(size, (len(text) - end) // (_WAYPOINTS + 1))
    places = range(end + step, len(text) - size // 4, step)
    begins = (text.rfind("\n", at - step // 4, at) + 1 or at for at in places)
    told = (f'{at} "{gist(text[at:], _GIST)}"' for at in begins)
    said = ", ".join(told)
    return f"; or from character {said}" if said else ""


def listed(messages: Sequence[BaseMessage], tokens: Sequence[int], tool: str) -> str:
    """Return the original of several messages that were set aside together.

    Args:
        messages: What was set aside.
        tokens: Of each.
        tool: Name of the tool that fetches.
    """
    texts = [text_of(message) for message in messages]
    is_long = [size > LISTED_TOKENS for size in tokens]
    if len(texts) > 1 and sum(tokens) > _LISTED_WHERE and any(is_long):
        least, most = _BEGINNING
        size = min(most, max(least, _BEGINNINGS // sum(is_long)))
        texts = [
            f'{gist(text, size)} [{whole:,} tokens in all: {tool}("{handle_of(text)}")]'
            if one_is_long
            else text
            for text, whole, one_is_long in zip(texts, tokens, is_long, strict=True)
        ]
    return "\n\n".join(text for text in texts if text or len(texts) == 1)


def titles_of(messages: Iterable[BaseMessage], most: int, count: Count) -> str:
    """Return a line that tells which tool results there were; empty where there are none.

    Args:
        messages: What was set aside.
        most: Tokens of the line.
        count: Counts the tokens of a text.

    Example:
        >>> logs = [ToolMessage(f"Log of gate {n}: 502", tool_call_id=f"{n}") for n in range(9)]
        >>> titles_of(logs, 20, lambda text: len(text) // 4)
        'Results: Log of gate 0: 502; Log of gate 1: 502; Log of gate 2: 502; 6 more'
    """
    found = (gist(text_of(m), _TITLE) for m in messages if isinstance(m, ToolMessage))
    titles = [*dict.fromkeys(title for title in found if title)]
    for shown in range(len(titles), 0, -1):
        more = [f"{len(titles) - shown} more"] if shown < len(titles) else []
        line = f"Results: {'; '.join([*titles[:shown], *more])}"
        if count(line) <= most:
            return line
    return ""
