"""The units of a prompt whose passages are found, and what of it must be kept."""

from __future__ import annotations

import re
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from operator import attrgetter, itemgetter

from langchain_tokenopt.compress.bare_code import is_text
from langchain_tokenopt.compress.blocks import bind_marks, part_marks
from langchain_tokenopt.compress.frame import Frame, Span
from langchain_tokenopt.compress.lines_under import ITEM
from langchain_tokenopt.compress.prompt_lines import LONG_LINE, behind_blanks, is_prose_block
from langchain_tokenopt.compress.prompt_structure import Structure
from langchain_tokenopt.compress.protect import is_required, matches_any
from langchain_tokenopt.compress.question import (
    LONGEST_CUE,
    SHORT_OUTSIDE,
    SHORT_PARAGRAPH,
    asked_in,
    asks,
    is_about,
)
from langchain_tokenopt.compress.quoted_records import Record
from langchain_tokenopt.compress.segments import Kind, Segment, segments_of
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts
from langchain_tokenopt.compress.speech import holds_cues
from langchain_tokenopt.compress.unit import add_units
from langchain_tokenopt.compress.units import Unit, units_of
from langchain_tokenopt.compress.whole_records import (
    add_json_passages,
    has_title_behind,
    holds_one_value,
    json_around,
    whole_records,
)

__all__ = [
    "SHORT_OUTSIDE",
    "PromptParts",
    "attach_headings",
    "page_parts",
    "passage_parts",
    "require_matches",
    "require_outside",
]


_END = attrgetter("end")


@dataclass(slots=True)
class PromptParts:
    """A text cut into units, with what is required and what is asked."""

    units: list[Unit]
    question: str | None = None

    def copy(self) -> PromptParts:
        """Return parts whose units may be changed without these."""
        return PromptParts([unit.copy() for unit in self.units], self.question)


def passage_parts(
    text: str,
    segments: Sequence[Segment],
    structure: Structure,
    patterns: Sequence[re.Pattern[str]],
    spans: Sequence[Span],
    *,
    cut_data: bool = True,
    may_ask: bool = True,
) -> PromptParts:
    """Make units of passages, which stand in *spans*, and of what is around them and *may_ask*."""
    units: list[Unit] = []
    outside: list[int] = []
    value = json_around(structure.records, segments) if structure.quoted else None
    if value is not None:
        stretches = [(0, value.start), (value.end, len(text))]
        outside += _add_outside(text, segments, units, *stretches[0])
        is_cut = cut_data and structure.is_long
        cuts = partial(_quoted_cuts, text) if is_cut else _no_cuts
        add_json_passages(text, value, structure.records, units, cuts)
        outside += _add_outside(text, segments, units, *stretches[1])
    else:
        if structure.quoted and not all(holds_one_value(r, segments) for r in structure.records):
            structure.is_long = False  # strings of several values: none is cut open
        outside, stretches = _add_passages(text, segments, structure, units)
    if structure.quoted:
        spans = _without_edge_lines(text, spans, structure.records)
    moved = part_marks(text, units)
    outside = [moved[at] for at in outside]
    bind_marks(text, units)
    if not may_ask:
        require_matches(text, units, patterns)
        return PromptParts(units)
    leads = bool(stretches) and stretches[0][0] == 0
    material = " ".join(text[r.body : r.tail] for r in structure.records)
    question = asked_in([text[a:b] for a, b in stretches], leads, material)
    if value is not None and not is_about(question, material):
        question = _asked_in_data(text, value, structure.records, units, material) or question
        if not any(text[a:b].strip() for a, b in stretches):
            _require_fields(units)
    require_outside(text, units, _of_caller(text, units, outside, spans), patterns)
    require_matches(text, units, patterns)
    return PromptParts(units, question)


def _without_edge_lines(
    text: str, material: Sequence[Span], records: Sequence[Record]
) -> list[Span]:
    """Leave out what stands on the lines of data beside it: it may be an instruction."""
    first, last = records[0].start, records[-1].end
    before, behind = text.rfind("\n", 0, first) + 1, text.find("\n", last)
    edges = [(0, before), (first, last), (behind if behind >= 0 else len(text), len(text))]
    parts = [(max(a, start), min(b, end)) for a, b in material for start, end in edges]
    return sorted({(first, last), *(part for part in parts if part[0] < part[1])})


def _of_caller(
    text: str, units: Sequence[Unit], outside: Sequence[int], material: Sequence[Span]
) -> list[int]:
    """Return the units outside of passages that the caller says; others are material, too."""
    own = []
    for at in outside:
        units[at].passage = -1
        said = units[at].end - len(units[at].within(text).lstrip())
        number = bisect_right(material, said, key=itemgetter(0)) - 1
        if number < 0 or said >= material[number][1]:
            own.append(at)
    return own


def page_parts(
    text: str, segments: Sequence[Segment], frame: Frame, patterns: Sequence[re.Pattern[str]]
) -> PromptParts:
    """Make units of a page, each section and block of it ranked on its own, and of what asks."""
    units: list[Unit] = []
    outside: list[int] = []
    around: list[str] = []
    position = 0
    for start, end in _whole_spans(text, segments, frame):
        outside += _add_outside(text, segments, units, position, start)
        around.append(text[position:start])
        inside = units_of(text, _clipped(text, segments, start, end, opens=False))
        _rank_apart(inside, len(units))
        add_units(units, inside)
        position = end
    outside += _add_outside(text, segments, units, position, len(text))
    around.append(text[position:])
    bind_marks(text, units)
    if frame.is_guessed:
        question: str | None = " ".join(part.strip() for part in around)
    else:
        material = " ".join(text[a:b] for a, b in frame.material)
        question = asked_in(around, leads=True, material=material)
    require_outside(text, units, outside, patterns)
    require_matches(text, units, patterns)
    return PromptParts(units, question)


def _whole_spans(text: str, segments: Sequence[Segment], frame: Frame) -> list[Span]:
    """Return where a page stands, with no edge inside of what is whole."""
    records = [Record(a, a, b, b) for a, b in frame.material]
    tables = [s for s in segments if s.kind in ("table", "data")]  # rows would lose their header
    made: list[Span] = []
    for whole in whole_records(text, records, _held_whole(segments, frame)):
        start, end = whole.start, whole.end
        for s in tables:
            if s.start < start < s.end or s.start < end < s.end:
                start, end = min(s.start, start), max(s.end, end)
        if made and start <= made[-1][1]:
            start = made.pop()[0]
        made.append((start, end))
    return made


_CUT_BY_LINES = frozenset({"prose", "list", "turn"})


def _held_whole(segments: Sequence[Segment], frame: Frame) -> list[Segment]:
    """Return what a page holds as a whole; a page that ends with a line may end in a list."""
    free = {"prose"} if frame.is_guessed else _CUT_BY_LINES
    return [s for s in segments if s.kind not in free]


_BLOCKS = frozenset({"code", "json", "diff", "table"})


def _rank_apart(units: list[Unit], before: int) -> None:
    """Headings lead what stands under them; a block is no part of what is around it."""
    attach_headings(units)
    for unit in units:
        unit.passage += before
    for at, unit in enumerate(units):
        if unit.kind in _BLOCKS:
            goes_on = at > 0 and units[at - 1].kind == unit.kind
            unit.passage = units[at - 1].passage if goes_on else before + len(units) + at


def attach_headings(units: list[Unit]) -> None:
    """Make each heading the head of what follows it; a passage per heading."""
    head, passage = -1, 0
    for at, unit in enumerate(units):
        if unit.kind == "heading":
            head, passage = at, passage + 1
        elif head >= 0 and 0 <= unit.bound == units[head].head:
            head = units[unit.bound].head  # what it stands in closes
        elif unit.head < 0 or (head >= 0 and unit.bound < 0 and unit.head == units[head].head):
            unit.head = head
        unit.passage = passage


def _asked_in_data(
    text: str, value: Segment, records: Sequence[Record], units: list[Unit], material: str
) -> str | None:
    """Return what a field beside the passages asks; the field is kept."""
    fields = [text[value.start : records[0].start], text[records[-1].end : value.end]]
    lines = [_NEXT_FIELD.sub('"\n"', part) for part in fields]
    found = asked_in(lines, leads=True, material=material)
    found = found.strip('"\\,{}[] ') if found else None
    at = text.find(found, value.start, records[0].start) if found else -1
    at = text.find(found, records[-1].end, value.end) if found and at < 0 else at
    for number, unit in enumerate(units):
        if unit.start <= at < unit.end:
            unit.required = True
            if held := next((u for u in units[number + 1 :] if u.head == number), None):
                held.required = True  # an empty string would say that there is nothing
    return found if at >= 0 else None


def _is_element(text: str, record: Record) -> bool:
    """Say whether a passage is one element, so that others stay balanced without it."""
    found = _OPENING_TAG.match(text, record.start)
    if found is None:
        return False
    return text[record.start : record.end].rstrip().endswith(f"</{found['name']}>")


_OPENING_TAG = re.compile(r"<(?P<name>[A-Za-z][\w:.-]*)")


def _is_part(text: str, segment: Segment, records: Sequence[Record], quoted: bool) -> bool:
    """Say whether what seems to be a log, or code or a list, is a part of the list of *records*."""
    if sum(segment.start < r.start < segment.end for r in records) < 2:
        return False
    if segment.kind == "log":
        is_tagged = _TAGS.match(text, segment.start, segment.end) is not None
        return (
            not is_tagged
            and is_prose_block(text, segment)
            and not holds_cues(text, segment.start, segment.end)
        )
    return quoted and segment.kind in ("code", "list")


_TAGS = re.compile(r"\s*(?:[A-Z][A-Z0-9]{1,3} *- [^\n]*\n){3}")
"""Fields of an entry of a list of literature, which is whole."""


def _require_fields(units: Sequence[Unit]) -> None:
    """Where a prompt is nothing but data, short fields beside the passages instruct."""
    for unit in units:
        is_short = unit.end - unit.start <= SHORT_PARAGRAPH
        unit.required |= unit.passage < 0 and is_short and not unit.frame


_NEXT_FIELD = re.compile(r'"\s*,\s*"')


def _add_passages(
    text: str, segments: Sequence[Segment], structure: Structure, units: list[Unit]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Add the units of all passages; return those outside, and where those stand."""
    outside: list[int] = []
    stretches: list[tuple[int, int]] = []
    records: Sequence[Record] = structure.records
    free = _MAY_BE_PROSE if structure.is_prose else frozenset()
    are_elements = all(_is_element(text, record) for record in records)
    edges = {Segment("data", record.start, record.end) for record in records}
    whole = [
        s
        for s in segments
        if s.kind not in free
        and not _is_running_text(text, s)
        and not (s.kind == "data" and are_elements and (s in edges or is_prose_block(text, s)))
        and not _is_part(text, s, records, structure.quoted)
    ]
    records = whole_records(text, records, whole, cuts_strings=structure.quoted)
    position, opener = 0, -1
    for number, record in enumerate(records, 1):
        if record.start > position:
            begin = _opening(text, segments, position, record.start) if number == 1 else None
            stretches.append((position, record.start if begin is None else begin))
            outside += _add_outside(text, segments, units, *stretches[-1])
            if begin is not None:
                opener = len(units)
                units.append(Unit(begin, record.start, "json", passage=-1, frame=True))
        first = len(units)
        _add_record(text, segments, units, record, number, structure)
        for unit in units[first:]:
            if unit.head < 0 and unit.bound < 0:
                unit.head = opener
        position = record.end
    if opener >= 0 and (found := _CLOSER.match(text, position)):
        end = found.end()
        units.append(Unit(position, end, "json", passage=-1, bound=opener, frame=True))
        position = end
    if position < len(text):
        stretches.append((position, len(text)))
        outside += _add_outside(text, segments, units, position, len(text))
    return outside, stretches


_MAY_BE_PROSE = frozenset({"turn"})
"""What lines with labels seem to be where passages were found in them."""
_OPENER = re.compile(r"[\[({][\s\[({]*$")


def _opening(text: str, segments: Sequence[Segment], start: int, end: int) -> int | None:
    """Return where the list or table begins that holds the first record, or ``None``."""
    at = bisect_right(segments, end, key=_END)
    if at < len(segments) and segments[at].kind in ("json", "table"):
        return max(start, segments[at].start) if segments[at].start < end else None
    found = _OPENER.search(text, start, end)
    return found.start() if found else None


_CLOSER = re.compile(r"[\s\])}]*[\])}]")


def _is_running_text(text: str, segment: Segment) -> bool:
    opening = text[segment.start : segment.end].lstrip()[:3]
    is_fence = opening in ("```", "~~~")
    if segment.kind == "data" and opening[:1] == "<":  # elements that begin here end elsewhere
        return False
    if segment.kind == "log":  # one long line among others does not make them text
        sizes = [len(line) for line in text[segment.start : segment.end].split("\n") if line]
        if sizes and statistics.median(sizes) < LONG_LINE:
            return False
    return (
        segment.kind != "block"
        and (segment.kind != "code" or (is_fence and is_text(text[segment.start : segment.end])))
        and is_prose_block(text, segment)
        and not holds_cues(text, segment.start, segment.end)
    )


def _is_dated_line(text: str, segment: Segment) -> bool:
    """Whether a record of a log stands alone, so that it is a sentence that begins with a date."""
    return segment.kind == "log" and "\n" not in text[segment.start : segment.end].strip()


def _is_inside_element(text: str, segment: Segment, start: int) -> bool:
    begins = text[segment.start : start].lstrip()[:1]
    return segment.kind == "data" and begins == "<" and text[start : start + 1] != "<"


def _clipped(
    text: str, segments: Sequence[Segment], start: int, end: int, *, opens: bool = True
) -> list[Segment]:
    """Return the parts of *segments* between *start* and *end*; rows of running text as that."""
    made = []
    for segment in islice(segments, bisect_right(segments, start, key=_END), None):
        if segment.start >= end:
            break
        first, last = max(start, segment.start), min(end, segment.end)
        part = Segment(segment.kind, first, last)
        is_prose = segment.kind in _OF_LINES and opens
        if is_prose and (
            _is_running_text(text, part)
            or _is_dated_line(text, part)
            or _is_inside_element(text, segment, first)
        ):
            made.append(Segment("prose", first, last))
        elif segment.start == first and segment.end == last:
            made.append(segment)
        elif segment.kind == "code":
            made += [
                Segment(s.kind, s.start + first, s.end + first)
                for s in segments_of(text[first:last])
            ]
        elif segment.kind == "list" and (items := _items_below(text, first, last)):
            made.append(Segment("prose", first, items))
            made.append(Segment("list", items, last))
        else:
            keeps = first == segment.start and segment.kind in ("heading", "label", "list")
            keeps = keeps or (segment.kind in _OF_LINES and text[first - 1 : first] in ("", "\n"))
            made.append(Segment(segment.kind if keeps else "prose", first, last))
    return made


def _items_below(text: str, start: int, end: int) -> int:
    """Return where the first item below a part of a list begins, outside of code; 0 if none."""
    for found in _ITEM_BELOW.finditer(text, start, end):
        if text.count("```", start, found.start()) % 2 == 0:
            return found.start() + 1
    return 0


_ITEM_BELOW = re.compile(rf"\n{ITEM.pattern}")
_OF_LINES = frozenset({"list", "turn", "log", "table", "data"})
"""Kinds that are cut line by line, so that a part of whole lines is one of them."""


def _add_outside(
    text: str, segments: Sequence[Segment], units: list[Unit], start: int, end: int
) -> list[int]:
    first, whole = len(units), set(segments)
    added = units_of(
        text,
        [
            Segment("tag", s.start, s.end)
            if s.kind == "json" and s.end - s.start <= SHORT_OUTSIDE
            # What is left of data whose passages were found is no data: a key and the question.
            else Segment("prose", s.start, s.end)
            if s.kind == "data" and s not in whole
            else s
            for s in _clipped(text, segments, start, end)
        ],
    )
    add_units(units, added)
    return list(range(first, len(units)))


def _add_record(
    text: str,
    segments: Sequence[Segment],
    units: list[Unit],
    record: Record,
    number: int,
    structure: Structure,
) -> None:
    """Add the head, the text and the tail of one passage."""
    first, head = len(units), -1
    string: Kind = "quote" if structure.is_long else "json"
    kind: Kind = string if structure.quoted else "tag"
    is_behind = record.end > record.tail and has_title_behind(text, record)
    if structure.quoted and not holds_one_value(record, segments):
        add_units(units, units_of(text, _clipped(text, segments, record.start, record.end)))
        for unit in units[first:]:
            unit.passage = number
        return
    if record.body > record.start:
        body = behind_blanks(text, record.body)
        if not structure.quoted and "\n" in text[record.body : body] and body < record.tail:
            record = record._replace(body=body)  # blank lines say nothing by themselves
        head = first
        has_title = text[record.start : record.body].strip(RULES) and not is_behind
        units.append(Unit(record.start, record.body, "heading" if has_title else kind))
        # what opens a string says nothing alone, however much stands before it; nor does a mark
        is_long = structure.quoted and record.body - record.start > _LONGEST_TITLE
        units[head].frame = is_long or not has_title
    is_short = record.length <= SHORTEST_CUT and head >= 0 and record.end > record.tail
    if structure.quoted:
        is_whole = record.body == record.start or not structure.is_long
        cuts = [record.tail] if is_whole else _quoted_cuts(text, record)
        for start, end in pairwise([record.body, *cuts]):
            units.append(Unit(start, end, string))
    elif is_short and "<" in text[record.start : record.body]:
        units.append(Unit(record.body, record.tail, "prose", bound=head))
    else:
        add_units(units, units_of(text, _clipped(text, segments, record.body, record.tail)))
        mark = text[record.start : record.body]
        _attach_items(text, units, first if head < 0 else head + 1, mark)
    if head >= 0:
        _attach_to_head(text, units, head)
        above, newline, last = text[record.start : record.body].rpartition("\n")
        if newline and above.strip() and _BARE_MARK.fullmatch(last) and head + 1 < len(units):
            units[head + 1].bound = head  # the mark of a remark, which is no title
    if record.end > record.tail:
        kind = "heading" if is_behind else kind
        bound = head if head >= 0 else first
        if head >= 0 and any(unit.head == head + 1 for unit in units[head + 2 :]):
            units[head + 1].bound = head  # what is below the first line ends with the passage
        units.append(Unit(record.tail, record.end, kind, bound=bound, frame=True))
    for unit in units[first:]:
        unit.passage = number


_LONGEST_TITLE = 200
_BARE_MARK = re.compile(r"[ \t]*(?:[#/;%-]+|\[\d{1,4}\])[ \t]*")


def _no_cuts(record: Record) -> list[int]:
    return []


def _quoted_cuts(text: str, record: Record) -> list[int]:
    """Return where the sentences of a quoted text end, never inside an escape."""
    if record.length < SHORTEST_CUT:
        return [record.tail]
    ends = sentence_cuts(text, record.body, record.tail)
    return [end for end in ends if end == record.tail or text[end - 1] != "\\"]


def _attach_items(text: str, units: list[Unit], first: int, mark: str) -> None:
    """What stands below the first line of an item, or of a remark, needs that line."""
    line = text.find("\n", units[first].start) + 1 if first < len(units) else 0
    below = _FILLED.search(text, line) if line else None
    if below is None or not (below["margin"] or mark.strip(RULES + "/;%") == ""):
        return
    for unit in units[first + 1 :]:
        if unit.start >= line and unit.head < 0 and unit.bound < 0:
            unit.head = first


_FILLED = re.compile(r"^(?P<margin>[ \t]*)\S", re.MULTILINE)


def _attach_to_head(text: str, units: list[Unit], head: int) -> None:
    inner = head
    for at in range(head + 1, len(units)):
        unit = units[at]
        begins_letter = unit.kind == "heading" and "\n" in unit.within(text).strip()
        if unit.kind == "heading":
            unit.kind = "prose"
        if unit.head < 0 and unit.bound < 0:
            unit.head = head if begins_letter else inner
        if begins_letter:
            inner = at


SHORTEST_CUT = 400
"""Characters of text between tags, of which less than all is kept only if it has more."""

RULES = "-=*_~#+•—– \t\r\n"


# --- what must be kept ------------------------------------------------------------------------


def require_matches(text: str, units: list[Unit], patterns: Sequence[re.Pattern[str]]) -> None:
    """Mark the units in which one of the caller's patterns matches."""
    if patterns:
        for unit in units:
            if matches_any(unit.within(text), patterns):
                unit.required = True


_FENCE_MARK = re.compile(r"\s*(?:`{3,}|~{3,})[^\n]*\s*")


def _frames_around(units: Sequence[Unit]) -> set[int]:
    """Return the frames that stay with what they hold, so that alone they say nothing."""
    heads = {unit.head for unit in units}
    closed = {unit.bound for unit in units if unit.bound in heads and unit.frame}
    found = {at for at, u in enumerate(units) if at in closed or (u.frame and u.bound in closed)}
    return {at for at in found if units[at].kind != "turn"}


def require_outside(
    text: str,
    units: list[Unit],
    outside: list[int],
    patterns: Sequence[re.Pattern[str]],
) -> None:
    """Mark what must be kept: all of an outside that is short beside the bulk, or what obliges."""
    size = sum(units[at].end - units[at].start for at in outside)
    bulk = len(text) - size
    longest: dict[int, int] = {}
    """How long the run of data is that a unit stands in."""
    first = 0
    for number, at in enumerate(outside):
        kind = units[at].kind
        if number + 1 < len(outside):
            after = units[outside[number + 1]]
            if outside[number + 1] == at + 1 and after.kind == kind:
                continue
        length = units[at].end - units[outside[first]].start
        longest |= dict.fromkeys(outside[first : number + 1], length)
        first = number + 1
    quotes = {
        at
        for at in outside
        if (most := _LONGEST_QUOTES.get(units[at].kind)) is not None
        and longest[at] > min(bulk if units[at].kind == "log" else bulk // 3, most)
        and not _FENCE_MARK.fullmatch(units[at].within(text))
    }
    frames = _frames_around(units)
    for at in outside:
        piece = units[at].within(text)
        if (
            at not in quotes
            and at not in frames
            and (
                size <= max(SHORT_OUTSIDE, bulk // 2)
                or is_required(piece, patterns)
                or asks(piece)
                or units[at].kind == "label"
            )
        ):
            units[at].required = True
        units[at].passage = -1


_LONGEST_QUOTES = {
    "code": 0,
    **dict.fromkeys(("json", "data", "table", "diff"), LONGEST_CUE),
    "log": SHORT_OUTSIDE,
}
"""Characters up to which data outside of the bulk is the caller's own, as a form to answer in."""
