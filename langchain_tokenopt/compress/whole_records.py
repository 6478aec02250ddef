"""Passages of a prompt whose edges leave whole what must be whole.

The marks by which passages are found also stand inside of code, data and JSON. There they are no
edges: a record is joined with its neighbour, or its edge moves to the end of the line or block.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.compress.json_units import json_units
from langchain_tokenopt.compress.quoted_records import Record
from langchain_tokenopt.compress.segments import Segment
from langchain_tokenopt.compress.unit import Unit

__all__ = ["add_json_passages", "json_around", "whole_records"]

_WHOLE: Final = frozenset({"code", "diff", "json"})
"""No edge stands inside of these."""
_BY_LINE: Final = frozenset({"data", "table"})
"""Edges inside of these stand between lines."""


def whole_records(
    text: str, records: Sequence[Record], segments: Sequence[Segment]
) -> list[Record]:
    """Return *records* with no edge inside of what is whole; fewer where they were joined.

    Args:
        text: What the records and segments are parts of.
        records: In order, without overlaps.
        segments: All of the text.
    """
    if all(s.kind not in _WHOLE and s.kind not in _BY_LINE for s in segments):
        return list(records)
    edges = _Edges(text, segments)
    made: list[Record] = []
    for record in records:
        start, end = edges.before(record.start), edges.behind(record.end)
        if made and (edges.is_inside(record.start) or start < made[-1].end):
            last = made.pop()
            tail = last.tail if last.tail > last.body and end == last.end else end
            made.append(Record(last.start, last.body, max(tail, last.body), max(end, last.end)))
            continue
        body = start if edges.is_inside(record.body) else edges.before(record.body)
        tail = end if edges.is_inside(record.tail) else edges.behind(record.tail)
        body = min(max(body, start), end)
        made.append(Record(start, body, min(max(tail, body), end), end))
    return made


class _Edges:
    """Where edges may stand."""

    def __init__(self, text: str, segments: Sequence[Segment]) -> None:
        self._text = text
        self._segments = segments
        self._starts = [segment.start for segment in segments]

    def _around(self, at: int) -> Segment | None:
        """Return the segment that *at* stands inside of, neither at its begin nor end."""
        number = bisect_right(self._starts, at) - 1
        if number < 0:
            return None
        segment = self._segments[number]
        return segment if segment.start < at < segment.end else None

    def is_inside(self, at: int) -> bool:
        """Say whether an edge at *at* would tear something whole."""
        segment = self._around(at)
        return segment is not None and segment.kind in _WHOLE

    def before(self, at: int) -> int:
        """Return the nearest place for an edge that is not behind *at*."""
        segment = self._around(at)
        if segment is None:
            return at
        if segment.kind in _WHOLE:
            return segment.start
        if segment.kind in _BY_LINE:
            return max(segment.start, self._text.rfind("\n", 0, at) + 1)
        return at

    def behind(self, at: int) -> int:
        """Return the nearest place for an edge that is not before *at*."""
        segment = self._around(at)
        if segment is None:
            return at
        if segment.kind in _WHOLE:
            return segment.end
        if segment.kind in _BY_LINE and self._text[at - 1] != "\n":
            line = self._text.find("\n", at) + 1
            return min(segment.end, line) if line else segment.end
        return at


# --- JSON ----------------------------------------------------------------------------------------


def json_around(records: Sequence[Record], segments: Sequence[Segment]) -> Segment | None:
    """Return the JSON value that holds all *records*, or ``None``."""
    for segment in segments:
        if segment.kind == "json" and segment.start <= records[0].body < segment.end:
            return segment if records[-1].tail <= segment.end else None
    return None


def add_json_passages(text: str, segment: Segment, units: list[Unit]) -> None:
    """Add the units of a JSON value, each member of its longest list as a passage of its own.

    What a member opens with, its id or title, is the title of the passage; the rest of it is one
    piece, unless it is long.
    """
    begin = segment.start
    begin += len(text[begin : segment.end]) - len(text[begin : segment.end].lstrip())
    cut: list[Unit] = []
    json_units(text, begin, segment.end, cut)
    cut[0].start = segment.start
    heads = Counter(unit.head for unit in cut if unit.head >= 0)
    outer = heads.most_common(1)[0][0] if heads else -1
    closing = {unit.bound: at for at, unit in enumerate(cut) if unit.bound >= 0}
    moved = {-1: -1}
    at, number = 0, 0
    while at < len(cut):
        unit = cut[at]
        begins = at > 0 and unit.head == outer and unit.bound < 0
        number += begins
        unit.passage = number or -1
        unit.head, unit.bound = moved[unit.head], moved[unit.bound]
        moved[at] = len(units)
        units.append(unit)
        last = closing.get(at)
        if begins and last is not None and cut[last].end - unit.start <= LONGEST_WHOLE_PASSAGE:
            if unit.frame:
                unit.end, unit.frame = cut[last].end, False
            else:
                unit.kind = "heading"
                rest = Unit(unit.end, cut[last].end, "json", passage=number, bound=moved[at])
                units.append(rest)
            at = last
        at += 1


LONGEST_WHOLE_PASSAGE: Final = 3_000
"""Characters; of longer members parts may be kept."""
