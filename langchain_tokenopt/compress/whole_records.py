"""Passages of a prompt whose edges leave whole what must be whole.

The marks by which passages are found also stand inside of code, data and JSON. There they are no
edges: a record is joined with its neighbour, or its edge moves to the end of the line or block.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

from langchain_tokenopt.compress.json_units import json_units
from langchain_tokenopt.compress.quoted_records import Record
from langchain_tokenopt.compress.segments import Segment
from langchain_tokenopt.compress.unit import Kind, Unit
from langchain_tokenopt.compress.units import units_of

__all__ = [
    "add_json_passages", "has_title_behind", "holds_one_value", "json_around", "whole_records",
]  # fmt: skip

_WHOLE: Final = frozenset({"block", "code", "diff", "json"})
"""No edge stands inside of these."""
_BY_UNIT: Final = frozenset({"data", "table", "log"})
"""Edges inside of these stand between rows, entries and records."""
_BY_ITEM: Final = frozenset({"list", "turn"})
"""Passages begin where an item or turn begins, and their text anywhere in it."""


def whole_records(
    text: str,
    records: Sequence[Record],
    segments: Sequence[Segment],
    *,
    cuts_strings: bool = False,
) -> list[Record]:
    """Return *records* with no edge inside of what is whole; fewer where they were joined.

    Args:
        text: What the records and segments are parts of.
        records: In order, without overlaps.
        segments: Those in which edges are not free.
        cuts_strings: Whether the texts are strings of data, which may be cut within a record.
    """
    structured = _structured(text, segments)
    if not structured:
        return list(records)
    edges = _Edges(text, structured)
    made: list[Record] = []
    for record in records:
        joins = made and (not edges.may_begin(record.start) or record.start < made[-1].end)
        start, end = edges.before(record.start), edges.behind(record.end)
        if joins:
            last = made.pop()
            tail = last.tail if last.tail > last.body and end == last.end else end
            made.append(Record(last.start, last.body, max(tail, last.body), max(end, last.end)))
            continue
        if cuts_strings and start == record.start and not text[record.end : end].strip():
            made.append(Record(start, record.body, record.tail, end))
            continue
        body = min(max(edges.body(record.body), start), end)
        tail = min(max(edges.tail(record.tail, end), body), end)
        made.append(Record(start, body, tail, end))
    return made


def _structured(text: str, segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments in which edges are not free; a file and its changes are one."""
    found: list[Segment] = []
    for segment in segments:
        last = found[-1] if found else None
        if segment.kind == "diff" and last and (last.kind, last.end) == ("diff", segment.start):
            found[-1] = Segment("diff", last.start, segment.end)
        elif segment.kind in _WHOLE | _BY_UNIT | _BY_ITEM or (
            segment.kind == "heading" and "\n" in text[segment.start : segment.end].strip()
        ):
            found += _around_fences(text, segment)
    return found


_FENCE: Final = re.compile(
    r"^[ \t]*(?P<mark>```|~~~)[^\n]*\n[\s\S]*?^[ \t]*(?P=mark)[^\n]*\n?", re.MULTILINE
)


def _around_fences(text: str, segment: Segment) -> list[Segment]:
    """Return a segment, or the parts of a list between the fences in it, with those."""
    if segment.kind != "list" or text.find("```", segment.start, segment.end) < 0:
        return [segment]
    made, at = [], segment.start
    for fence in _FENCE.finditer(text, segment.start, segment.end):
        if fence.start() > at:
            made.append(Segment("list", at, fence.start()))
        made.append(Segment("code", *fence.span()))
        at = fence.end()
    return [*made, Segment("list", at, segment.end)] if at < segment.end else made


class _Edges:
    """Where edges may stand."""

    def __init__(self, text: str, segments: Sequence[Segment]) -> None:
        self._text = text
        self._segments = segments
        self._starts = [segment.start for segment in segments]
        self._units: list[int] = []
        self._free: set[int] = set()
        for segment in segments:
            if not self._is_whole(segment):
                for unit in units_of(text, [segment]):
                    self._units.append(unit.start)
                    if unit.bound < 0 and (unit.head < 0 or segment.kind == "table"):
                        self._free.add(unit.start)

    def _is_whole(self, segment: Segment) -> bool:
        if segment.kind == "data":  # elements of markup stand within others
            return self._text[segment.start : segment.end].lstrip()[:1] == "<"
        return segment.kind in _WHOLE or segment.kind == "heading"

    def _around(self, at: int) -> Segment | None:
        """Return the segment that *at* stands inside of, neither at its begin nor end."""
        number = bisect_right(self._starts, at) - 1
        if number < 0:
            return None
        segment = self._segments[number]
        return segment if segment.start < at < segment.end else None

    def may_begin(self, at: int) -> bool:
        """Say whether a passage may begin at *at* and another end there."""
        return self._around(at) is None or at in self._free

    def before(self, at: int) -> int:
        """Return the nearest place for a beginning that is not behind *at*."""
        segment = self._around(at)
        return at if segment is None or at in self._free else segment.start

    def behind(self, at: int) -> int:
        """Return the nearest place for an end that is not before *at*."""
        segment = self._around(at)
        if segment is None or at in self._free:
            return at
        later = bisect_right(self._units, at)
        while later < len(self._units) and self._units[later] < segment.end:
            if self._units[later] in self._free:
                return self._units[later]
            later += 1
        return segment.end

    def body(self, at: int) -> int:
        """Return where the text of a passage may begin: *at*, or before it."""
        segment = self._around(at)
        if segment is None:
            return at
        if segment.kind in _BY_ITEM:
            return at if self._is_in_item(at) else segment.start
        if segment.kind == "heading":  # of a letter
            return segment.end
        if self._is_whole(segment):
            return segment.start
        return self._units[bisect_right(self._units, at) - 1]

    def tail(self, at: int, end: int) -> int:
        """Return where the text of a passage may end: *at*, or else *end*."""
        segment = self._around(at)
        if segment is not None and segment.kind in _BY_ITEM:
            return at if self._is_in_item(at) else end
        return at if segment is None or at in self._units else end

    def _is_in_item(self, at: int) -> bool:
        """Say whether *at* stands in an item that stands under no other."""
        return self._units[bisect_right(self._units, at) - 1] in self._free


# --- JSON ----------------------------------------------------------------------------------------


def json_around(records: Sequence[Record], segments: Sequence[Segment]) -> Segment | None:
    """Return the JSON value that holds all *records*, or ``None``."""
    for segment in segments:
        if segment.kind == "json" and segment.start <= records[0].body < segment.end:
            return segment if records[-1].tail <= segment.end else None
    return None


def holds_one_value(record: Record, segments: Sequence[Segment]) -> bool:
    """Say whether the string of *record* stands in no JSON, or in one value that is all of it."""
    first = bisect_right(segments, record.start, key=attrgetter("end"))
    values = []
    for segment in segments[first:]:
        if segment.start >= record.end:
            break
        if segment.kind == "json":
            values.append(segment)
    if not values:
        return True
    value = values[0]
    return len(values) == 1 and record.start <= value.start <= record.body <= value.end


def add_json_passages(
    text: str,
    segment: Segment,
    records: Sequence[Record],
    units: list[Unit],
    cuts: Callable[[Record], Sequence[int]],
) -> None:
    """Add the units of a JSON value, each member of the list of *records* as a passage of its own.

    What a member opens with, its id or title, is the title of the passage; the rest of it is one
    piece, unless it is long.

    Args:
        text: What the value is part of.
        segment: Where it stands.
        records: The passages that were found in it.
        units: Where to add.
        cuts: Where the string that is the text of a record may be cut; nowhere, or up to its tail.
    """
    begin = segment.start
    begin += len(text[begin : segment.end]) - len(text[begin : segment.end].lstrip())
    cut: list[Unit] = []
    json_units(text, begin, segment.end, cut)
    cut[0].start = segment.start
    outer = _list_of(cut, records)
    closing = {unit.bound: at for at, unit in enumerate(cut) if unit.bound >= 0}
    bodies = [record.body for record in records]
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
        last = closing.get(at, at)
        end = cut[last].end
        found = bisect_right(bodies, end) - bisect_right(bodies, unit.start)
        record = records[bisect_right(bodies, unit.start)] if found == 1 else None
        ends = cuts(record) if begins and record is not None and record.tail < end else ()
        if record is not None and ends:
            _cut_member(text, unit, record, ends, end, moved[at], units)
            at = last
        elif begins and last > at and end - unit.start <= LONGEST_WHOLE_PASSAGE:
            _keep_member(unit, end, moved[at], units)
            at = last
        at += 1


def _keep_member(unit: Unit, end: int, at: int, units: list[Unit]) -> None:
    """A member that is kept or dropped whole, its title apart."""
    if unit.frame:
        unit.end, unit.frame = end, False
    else:
        unit.kind = "heading"
        units.append(Unit(unit.end, end, "json", passage=unit.passage, bound=at))


def has_title_behind(text: str, record: Record) -> bool:
    """Whether more letters stand behind the text than before it."""
    before = sum(map(str.isalpha, text[record.start : record.body]))
    return sum(map(str.isalpha, text[record.tail : record.end])) > before


def _cut_member(
    text: str, unit: Unit, record: Record, ends: Sequence[int], end: int, at: int, units: list[Unit]
) -> None:
    """A member of whose text sentences may go; what stands around the text stays with it."""
    is_behind = has_title_behind(text, Record(unit.start, record.body, record.tail, end))
    unit.kind, unit.end, unit.frame = "quote" if is_behind else "heading", record.body, is_behind
    start = record.body
    for cut in ends:
        units.append(Unit(start, cut, "quote", passage=unit.passage, head=at))
        start = cut
    kind: Kind = "heading" if is_behind else "quote"
    units.append(Unit(start, end, kind, passage=unit.passage, bound=at, frame=True))


def _list_of(units: Sequence[Unit], records: Sequence[Record]) -> int:
    """Return the unit that opens the list or object which the records are members of."""
    starts = [unit.start for unit in units]
    above: list[list[int]] = []
    for record in (records[0], records[-1]):
        at = bisect_right(starts, record.body) - 1
        chain = []
        while at >= 0:
            chain.append(at)
            at = units[at].bound if units[at].bound >= 0 else units[at].head
        above.append(chain)
    shared = [at for at in above[0][1:] if at in set(above[1])]
    return shared[0] if shared else -1


LONGEST_WHOLE_PASSAGE: Final = 3_000
"""Characters; of longer members parts may be kept."""
