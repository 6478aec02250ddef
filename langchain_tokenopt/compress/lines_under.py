"""What a line stands under, whatever a text was taken for: a line less deep, a title of more.

A call of a trace is nothing without its error, a finding without its file, and a section without
the one that it is part of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from langchain_tokenopt.compress.unit import Unit

__all__ = ["ITEM", "put_under"]

ITEM: Final = re.compile(
    r"[ \t]*(?:[-*+•‣]|(?:\[[ xX]\][ \t]+)?(?:\d{1,3}[.)]|\(?[a-z]{1,3}[.)]|\(\d{1,3}\)))[ \t]+\S"
)
_DEEPER_LINE: Final = re.compile(r"\n[ \t]+\S|\nCaused by: ")
_GOES_ON: Final = re.compile(r"Caused by: |During handling of |The above exception ")
"""What follows at the margin of its error, and is part of it."""
_OF_LINES: Final = frozenset({"list", "table", "log", "turn", "heading", "tag"})
_MAY_BE_TITLE: Final = frozenset({"heading", "prose", "tag", "label", "list"})
_TITLE: Final = re.compile(r"\s*(?P<marks>#{1,6})[ \t]+\S")
_TITLES: Final = re.compile(r"^#{2,6}[ \t]+\S", re.MULTILINE)


def put_under(text: str, units: list[Unit]) -> None:
    r"""Give units the head that lines above them are, where that is clear from the page.

    Example:
        >>> text = "a.js\n  1:2 unused\n  3:4 unsafe\nb.js\n  5:6 unused\n"
        >>> units = [Unit(0, 5), Unit(5, 18, "list"), Unit(18, 31, "list"), Unit(31, 36)]
        >>> put_under(text, units)
        >>> [unit.head for unit in units]
        [-1, 0, 0, -1]
    """
    if _DEEPER_LINE.search(text):
        for at, above, is_item in _deeper(text, units):
            unit = units[at]
            head = units[unit.head]
            is_part = is_item and head.kind == "prose"  # a paragraph that goes on with the item
            is_free = unit.head < above or is_part or not head.within(text).strip()
            if unit.bound < 0 and is_free:
                unit.head = above
    if _TITLES.search(text):
        _nest_titles(text, units)


def _deeper(text: str, units: Sequence[Unit]) -> Iterator[tuple[int, int, bool]]:
    """Yield units that begin with a line deeper than one above it, its unit, and if it is an item.

    Paragraphs of prose begin so, too: only below an item they go on with it.
    """
    above: list[tuple[float, int, bool]] = []
    """Margins that grow, the units of their lines, and whether they are items of a list."""
    for at, unit in enumerate(units):
        lines = text[unit.start : unit.end].splitlines()
        begins = unit.start == 0 or text[unit.start - 1] in "\r\n"
        is_first = begins
        for line in lines:
            body = line.lstrip(" \t")
            if not body or not begins:
                if not body and begins:
                    above = [entry for entry in above if entry[2]]
                begins = True
                continue
            margin = len(line) - len(body) or (0.5 if _GOES_ON.match(body) else 0)
            while above and above[-1][0] >= margin:
                above.pop()
            is_under = is_first and above and above[-1][1] != at
            if is_under and (unit.kind in _OF_LINES or (unit.kind == "prose" and above[-1][2])):
                yield at, *above[-1][1:]
            is_first = False
            above.append((margin, at, ITEM.match(body) is not None))


def _nest_titles(text: str, units: list[Unit]) -> None:
    """Let titles stand under those of fewer marks, and text under the last title above it."""
    opened: list[tuple[int, int]] = []
    closed: set[int] = set()
    for at, unit in enumerate(units):
        title = _TITLE.match(text, unit.start, unit.end) if unit.kind in _MAY_BE_TITLE else None
        if title is None:
            if unit.head in closed and unit.bound < 0:
                unit.head = opened[-1][1] if opened else -1
            continue
        level = len(title["marks"])
        while opened and opened[-1][0] >= level:
            closed.add(opened.pop()[1])
        if unit.head in closed or unit.head < 0:
            unit.head = opened[-1][1] if opened else -1
        opened.append((level, at))
