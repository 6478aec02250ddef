"""Cut segments into units: what is kept or dropped as a whole.

A unit is a sentence of prose Units cover the text without gaps and never
cross a segment. Line breaks belong to the unit before them, spaces to the unit after them, as
byte-pair tokenizers see it, so the tokens of units add up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from langchain_tokenopt.compress.segments import (
    ITEM,
    LABEL,
    LOG,
    TURN,
    Kind,
    Segment,
    segments_of,
)
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts

__all__ = ["Unit", "element_ends", "json_frames", "units_of", "without_head"]


@dataclass(slots=True)
class Unit:
    """The smallest piece that is kept or dropped as a whole."""

    start: int
    end: int
    kind: Kind = "prose"
    source: int = 0
    """Which text it stands in."""
    passage: int = 0
    """Which passage it belongs to; units of a passage are ranked together."""
    head: int = -1
    """Index of the unit without which this one makes no sense: a title, a table's header."""
    bound: int = -1
    """Index of the unit together with which this one is kept or dropped: an end tag its start."""
    required: bool = False
    tokens: int = 0
    overhead: int = 0
    """Tokens around the text that are paid with it, such as a message's frame."""

    def within(self, text: str) -> str:
        """Return the unit's part of *text*."""
        return text[self.start : self.end]


def without_head(units: list[Unit], at: int) -> None:
    """Let a unit stand without its label or title; rows still need the head of their table."""
    head = units[at].head
    if head >= 0 and units[head].kind not in ("table", "json"):
        units[at].head = -1


def units_of(text: str, segments: list[Segment] | None = None) -> list[Unit]:
    r"""Cut *text* into units; they cover it without gaps.

    Example:
        >>> text = "It rained. We stayed.\n- tea\n- cake\n"
        >>> [text[u.start:u.end] for u in units_of(text)]
        ['It rained.', ' We stayed.\n', '- tea\n', '- cake\n']
    """
    units: list[Unit] = []
    for segment in segments_of(text) if segments is None else segments:
        kind, start = segment.kind, segment.start
        if units and text[start : segment.end].isspace():
            units[-1].end = segment.end
        elif kind == "prose":
            for end in sentence_cuts(text, start, segment.end):
                units.append(Unit(start, end))
                start = end
        elif kind == "table":
            _table_units(text, segment, units)
        elif kind == "label":
            _split_unit(text, segment, _label_end(text, segment), units)
        elif kind == "heading":
            _split_unit(text, segment, _heading_end(text, segment), units)
        elif kind == "json":
            _json_units(text, segment, units)
        elif kind in ("list", "log", "turn"):
            for end in _line_ends(text, segment):
                units.append(Unit(start, end, kind))
                start = end
        else:
            units.append(Unit(start, segment.end, kind))
    return units


def _split_unit(text: str, segment: Segment, cut: int, units: list[Unit]) -> None:
    """The heading or label, then the sentences that stand behind it on the same line."""
    if not text[cut : segment.end].strip():
        cut = segment.end
    head = len(units)
    units.append(Unit(segment.start, cut, segment.kind))
    if cut < segment.end:
        for end in sentence_cuts(text, cut, segment.end):
            units.append(Unit(cut, end, head=head))
            cut = end


def _label_end(text: str, segment: Segment) -> int:
    found = LABEL.match(text, segment.start, segment.end)
    return found.end() if found else segment.end


_NUMBERED = re.compile(
    r"(?:[^\W\d_]+ )?(?:[^\W\d_]+[ #]*)?\[?\d{1,4}\]?"
    r"(?: ?\([^()\n]{0,200}(?:\([^()\n]{0,100}\)[^()\n]{0,200})?\)| ?[:.：])?"
)
LONGEST_TITLE = 140
"""Characters; what stands behind a number on a longer line is text rather than a title."""


def _heading_end(text: str, segment: Segment) -> int:
    """Return where a heading ends when text follows it on the same line."""
    if segment.end - segment.start <= LONGEST_TITLE and text[segment.start] == "#":
        return segment.end
    found = _NUMBERED.match(text, segment.start, segment.end)
    if found is None:
        return segment.end
    has_title = text[found.end() - 1] == ")"
    return found.end() if has_title or segment.end - segment.start > LONGEST_TITLE else segment.end


def _line_ends(text: str, segment: Segment) -> Iterator[int]:
    """Yield the end of each item, log line or turn, with the lines that continue it."""
    begins = {"list": ITEM, "log": LOG, "turn": TURN}[segment.kind]
    position = segment.start
    for line in text[segment.start : segment.end].splitlines(keepends=True):
        if position > segment.start and begins.match(line):
            yield position
        position += len(line)
    yield segment.end


def _table_units(text: str, segment: Segment, units: list[Unit]) -> None:
    """A unit per row; the header with its rule is the head of the rows."""
    rows = text[segment.start : segment.end].splitlines(keepends=True)
    has_rule = len(rows) > 1 and not rows[1].strip("|:- \t\r\n")
    header = 2 if has_rule else 0
    position, head = segment.start, -1
    if header:
        head = len(units)
        units.append(Unit(position, position + len(rows[0]) + len(rows[1]), "table"))
        position = units[-1].end
    for row in rows[header:]:
        units.append(Unit(position, position + len(row), "table", head=head))
        position += len(row)


def json_frames(units: Sequence[Unit]) -> frozenset[int]:
    """Return the units that open and close JSON: alone they would say that it is empty."""
    closing = [at for at, unit in enumerate(units) if unit.kind == "json" and unit.bound >= 0]
    return frozenset([*closing, *(units[at].bound for at in closing)])


LONGEST_WHOLE_JSON: Final = 400
"""Characters. Longer JSON is kept or dropped element by element."""


def _json_units(text: str, segment: Segment, units: list[Unit]) -> None:
    """A unit per element of the list or object that most of the value is in.

    What opens and closes that list is kept with any of its elements, so what is left is JSON.
    """
    long = segment.end - segment.start > LONGEST_WHOLE_JSON
    cuts = element_ends(text, segment.start) if long else []
    head, start = len(units), segment.start
    for cut in cuts:
        units.append(Unit(start, cut, "json", head=-1 if start == segment.start else head))
        start = cut
    units.append(Unit(start, segment.end, "json", bound=head if cuts else -1))


def element_ends(text: str, start: int) -> list[int]:
    """Return where the elements of the JSON value at *start* end, each with its comma.

    The first of them is where what stands before the elements ends. Elements are those of the
    outermost list or object, or of an inner one that makes up more than half of it.

    Example:
        >>> text = '{"users": [{"id": 1}, {"id": 2}]}'
        >>> from itertools import pairwise
        >>> [text[a:b] for a, b in pairwise(element_ends(text, 0))]
        ['{"id": 1}, ', '{"id": 2}']
    """
    elements = _elements(text, start)
    if len(elements) < 1:
        return []
    first, last = elements[0][0], elements[-1][2]
    value, end = max(((v, e) for _, v, e in elements), key=lambda span: span[1] - span[0])
    if text[value] in "[{" and end - value > (last - first) / 2:
        return element_ends(text, value)
    if len(elements) < 2:
        return []
    return [first, *(begin for begin, _, _ in elements[1:]), last]


_decoder: Final = json.JSONDecoder()
_PUNCTUATION: Final = re.compile(r"[\s,:]*")


def _elements(text: str, start: int) -> list[tuple[int, int, int]]:
    """Return begin, begin of the value and end of each member of the list or object at *start*."""
    found = []
    at = _behind_punctuation(text, start + 1)
    while text[at] not in "]}":
        begin = value = at
        if text[start] == "{":
            value = _behind_punctuation(text, _decoder.raw_decode(text, begin)[1])
        end = _decoder.raw_decode(text, value)[1]
        found.append((begin, value, end))
        at = _behind_punctuation(text, end)
    return found


def _behind_punctuation(text: str, at: int) -> int:
    found = _PUNCTUATION.match(text, at)
    return found.end() if found else at
