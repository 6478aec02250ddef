"""Put the units of a text that were kept together again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_tokenopt.compress.unit import Unit

__all__ = ["render"]

_MARGIN = re.compile(r"[ \t>]*")
_ENDS_STATEMENT = re.compile(r";?\s*\Z")
"""What closes rows of SQL: the last one that is kept must not be followed by a comma."""
_BLANK_LINE = re.compile(r"\n[ \t]*\r?\n")


def render(
    text: str, units: Sequence[Unit], kept: Sequence[bool], among: Sequence[Unit] | None = None
) -> str:
    """Put the kept units of one text together again, in their order.

    Neighbours stay exactly as they were. Where something is missing between two units, a space, a
    line break or a blank line stands if there was one; what began a line begins a line, and what
    has lost the beginning of its line gets the line's margin.

    Example:
        >>> from langchain_tokenopt.compress.units import units_of
        >>> text = "It rained. We stayed. It was late."
        >>> render(text, units_of(text), [True, False, True])
        'It rained. It was late.'
    """
    if not units or all(kept):
        return text[units[0].start : units[-1].end] if units else ""
    pieces: list[str] = []
    end = 0
    for unit, keep in zip(units, kept, strict=True):
        if not keep or unit.end <= unit.start:
            continue
        if unit.start == end:
            pieces.append(unit.within(text))
        elif unit.frame and unit.bound >= 0 and _ENDS_STATEMENT.match(text, unit.start, unit.end):
            pieces[-1] = pieces[-1].rstrip().removesuffix(",")
            pieces.append(unit.within(text))
        elif _is_inside_json(text, units if among is None else among, unit):
            if unit.frame and unit.bound >= 0 and unit.within(text).lstrip()[:1] in ("]", "}"):
                pieces[-1] = pieces[-1].rstrip().removesuffix(",")
            pieces.append(unit.within(text))
        else:
            pieces.append(_rejoined(text, unit, end, pieces[-1] if pieces else ""))
        end = unit.end
    whole = "".join(pieces)
    if end < len(text) and not text[-1:].isspace():
        whole = whole.rstrip()
    return whole


def _is_inside_json(text: str, units: Sequence[Unit], unit: Unit) -> bool:
    """What stands inside of JSON brings its own commas and white space."""
    if unit.kind not in ("json", "quote", "heading"):
        return False
    if unit.bound >= 0:
        return unit.kind != "heading"
    head = units[unit.head] if unit.head >= 0 else None
    return head is not None and (
        head.kind in ("json", "quote") or (head.kind == "heading" and text[head.start] in "{[")
    )


def _rejoined(text: str, unit: Unit, end: int, before: str) -> str:
    """Return a unit with what must stand between it and *before*, which ended at *end*."""
    piece = unit.within(text)
    between = text[end : unit.start]
    begins_line = unit.start == 0 or text[unit.start - 1] in "\r\n"
    if not begins_line and before and before[-1] not in "\r\n" and "\n" not in between:
        if piece[:1].isspace() or before[-1].isspace():
            return piece
        spaced = between.isascii() or any(char.isspace() for char in between)
        return f" {piece}" if spaced else piece
    if not begins_line:
        margin = _MARGIN.match(text, text.rfind("\n", 0, unit.start) + 1)
        piece = (margin.group() if margin else "") + piece.lstrip(" \t")
    if not before:
        return piece
    newline = "\r\n" if "\r\n" in between else "\n"
    gap = "" if before[-1] in "\r\n" else newline
    new_paragraph = _BLANK_LINE.search(text, max(0, end - 1), unit.start)
    if new_paragraph and not before.rstrip(" \t").endswith(("\n\n", "\n\r\n")):
        gap += newline
    return gap + piece
