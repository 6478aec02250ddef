"""Where a prompt quotes passages, whatever their layout: found by what comes back.

Passages repeat a mark: a number, a heading, a label, a tag, a rule, a blank line, a quotation mark
of JSON. Each kind of mark proposes passages; the proposal that explains most of the text, in the
most even pieces, is taken. No label is known by name here.
"""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.frame import Span
from langchain_tokenopt.compress.marked_passages import marked_passages
from langchain_tokenopt.compress.plain_passages import (
    SHORTEST_PASSAGE,
    paragraphs,
    ruled_passages,
)
from langchain_tokenopt.compress.prompt_lines import (
    LONG_LINE,
    Line,
    key_mark,
)
from langchain_tokenopt.compress.question import asks
from langchain_tokenopt.compress.quoted_records import (
    SHORTEST_BODY,
    Record,
    quoted_records,
    tagged_passages,
)
from langchain_tokenopt.compress.segments import Segment
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts
from langchain_tokenopt.compress.units import units_of

__all__ = ["Structure", "structure_of"]

FEWEST: Final = 2
_LEAST_VALUE: Final = 0.3
_LONG_TEXT: Final = 200
"""Characters. Of shorter strings in data, or of one sentence, all is kept, or nothing."""
_QUOTED, _TAGGED, _RULED, _PLAIN = 1.4, 1.3, 0.9, 0.8
"""How surely passages are told apart by quotation marks, tags, rules, or blank lines alone."""


@dataclass(slots=True)
class Structure:
    """The passages of a text."""

    records: list[Record] = field(default_factory=list)
    """In order, without overlaps. What stands outside of them instructs, asks or frames."""
    quoted: bool = False
    """Whether the records are strings of a data format, or cells of a table."""
    is_long: bool = True
    """Whether the texts are passages, of which sentences may go, rather than values."""

    @property
    def is_prose(self) -> bool:
        """Whether the passages are running text, rather than lines of a list or chat."""
        typical = statistics.median(record.length for record in self.records)
        return not self.quoted and typical >= LONG_LINE


def structure_of(
    text: str, segments: Sequence[Segment], lines: Sequence[Line], material: Sequence[Span]
) -> Structure:
    r"""Return the passages that the *material* of a text quotes; none when nothing comes back.

    Example:
        >>> from langchain_tokenopt.compress.frame import frame_of
        >>> from langchain_tokenopt.compress.prompt_lines import lines_of
        >>> from langchain_tokenopt.compress.segments import segments_of
        >>> tea, ice = "Tea is hot. " * 20, "Ice is cold. " * 20
        >>> text = f"Answer me.\n\n(1) {tea}\n\n(2) {ice}\n\nIs ice hot?"
        >>> segments = segments_of(text)
        >>> lines = lines_of(text, segments)
        >>> found = structure_of(text, segments, lines, frame_of(text, lines).material)
        >>> [text[r.start : r.body] for r in found.records]
        ['(1)', '(2)']
    """
    if len(text) < 2 * SHORTEST_PASSAGE or _is_conversation(text, segments, lines):
        return Structure()
    if len(letters := _letters(text, segments)) >= FEWEST:
        return Structure(letters)
    best, value = Structure(), _LEAST_VALUE
    inside = _inside(lines, material)
    size = sum(end - start for start, end in material)
    for strength, quoted, records in _proposals(text, inside):
        records = _clipped(records, material)
        found = strength * _explained(records, size)
        if found > value:
            best, value = Structure(records, quoted), found
    if best.quoted and _are_rows_of_code(text, best.records, segments):
        return Structure()
    if best.quoted:
        best.is_long = _holds_sentences(text, best.records)
    else:
        records = _clipped(_with_gaps(text, _apart(best.records)), material)
        best.records = with_titles(text, records)
    return best


def _inside(lines: Sequence[Line], material: Sequence[Span]) -> list[Line]:
    """Return the lines that stand in *material*."""
    made, spans = [], iter(material)
    start, end = next(spans)
    for line in lines:
        while line.start >= end and (span := next(spans, None)):
            start, end = span
        if line.end > start and line.start < end:
            made.append(line)
    return made


def _clipped(records: Sequence[Record], material: Sequence[Span]) -> list[Record]:
    """Return what of *records* stands in *material*; one with the caller's words within is two."""
    made: list[Record] = []
    ends = [end for _, end in material]
    for r in records:
        for at in range(bisect_right(ends, r.start), len(ends)):
            first, last = max(r.start, material[at][0]), min(r.end, ends[at])
            if first >= last:
                break
            body = min(max(r.body, first), last)
            tail = min(max(r.tail, body), last)
            if tail > body:
                is_whole = (first, body, tail, last) == (r.start, r.body, r.tail, r.end)
                made.append(r if is_whole else Record(first, body, tail, last))
    return made


def _are_rows_of_code(text: str, records: Sequence[Record], segments: Sequence[Segment]) -> bool:
    """Whether code holds all of them and cuts them apart, as an INSERT does: rows stay whole."""
    first, last = records[min(1, len(records) - 1)].start, records[-1].body
    for s in segments:
        if s.kind == "code" and s.start <= first and last < s.end:
            return 2 * len(units_of(text, [s])) > len(records)
    return False


def _apart(records: Sequence[Record]) -> list[Record]:
    """White space between two passages belongs to the first."""
    made: list[Record] = []
    for r in records:
        start = max(r.start, made[-1].end) if made else r.start
        made.append(Record(start, max(r.body, start), max(r.tail, start), max(r.end, start)))
    return made


def _holds_sentences(text: str, records: Sequence[Record]) -> bool:
    """Whether a typical text is of several sentences, which are what may go."""
    middle = sorted(records, key=lambda record: record.length)[len(records) // 2]
    if middle.length < _LONG_TEXT:
        return False
    return len(sentence_cuts(text, middle.body, middle.tail)) > 1


def _letters(text: str, segments: Sequence[Segment]) -> list[Record]:
    """Return letters: each from its header on, the last one up to what closes it or asks."""
    heads = [s for s in segments if s.kind == "heading" and "\n" in text[s.start : s.end].strip()]
    if not heads:
        return []
    end = heads[-1].end
    for segment in segments:
        if segment.start >= end:
            if segment.kind in ("code", "tag", "label"):
                break
            end = segment.end
    last = text.rfind("\n\n", heads[-1].end, len(text[:end].rstrip()))
    if last >= 0 and asks(text[last:end].strip()):
        end = last + 2
    ends = [*(head.start for head in heads[1:]), end]
    return [Record(h.start, h.end, e, e) for h, e in zip(heads, ends, strict=True)]


_MANY_TURNS: Final = 50
"""A few messages of a chat may be passages; so many are a conversation."""


def _is_conversation(text: str, segments: Sequence[Segment], lines: Sequence[Line]) -> bool:
    turns = [text.count("\n", s.start, s.end) for s in segments if s.kind == "turn"]
    if sum(turns) <= max(_MANY_TURNS, text.count("\n") // 2):
        return False
    labels = [mark.name for line in lines if (mark := key_mark(line))]
    period = len(set(labels))
    same = sum(a == b for a, b in zip(labels, labels[period:], strict=False))
    return not (period >= _FIELDS and same > 0.8 * (len(labels) - period))


_FIELDS: Final = 3
"""So many labels that come back in one order are the fields of records, not people who talk."""


def _proposals(text: str, lines: Sequence[Line]) -> Iterator[tuple[float, bool, list[Record]]]:
    yield _QUOTED, True, quoted_records(text)
    for records in tagged_passages(text):
        yield _TAGGED, False, records
    yield _QUOTED, True, _rows(text, lines)
    for strength, records in marked_passages(text, lines):
        yield strength, False, records
    yield _RULED, False, ruled_passages(text, lines)
    yield _PLAIN, False, paragraphs(text, lines)


_LONGEST_HEAD: Final = 300
"""Characters beside the text of a passage that its title, number and marks may have."""


def _explained(records: Sequence[Record], size: int) -> float:
    """Return how much of the material the passages are, less the more uneven or tiny they are."""
    if len(records) < FEWEST:
        return 0.0
    lengths = [record.length for record in records]
    mean = sum(lengths) / len(lengths)
    variance = sum([length * length for length in lengths]) / len(lengths) - mean * mean
    uneven = math.sqrt(max(0.0, variance)) / mean if mean else 9.0
    covered = sum(min(r.end - r.start, r.length + _LONGEST_HEAD) for r in records) / size
    alike = sum(lengths) ** 2 / (sum([length * length for length in lengths]) or 1)
    sure = 1 - 0.5 / max(1.0, alike)  # of one that is most of them all little is gained
    return sure * covered * min(1.0, mean / (2 * SHORTEST_PASSAGE)) / (1 + 0.5 * uneven)


# --- titles on the line of the text --------------------------------------------------------------

_SEPARATORS: Final = (
    " | ", "\t", " => ", " -> ", " — ", " – ", " - ", ":** ", "** ", "]]", "](", "] ", ": ", "：",
)  # fmt: skip
_LONGEST_INLINE_TITLE: Final = 120
_SENTENCE_END: Final = re.compile(r"[.!?。！？][\s\"]")
_BEHIND: Final = re.compile(r"\s(?:[(\[][^()\[\]\n]{2,120}[)\]]|(?:[—–]|--) ?[^\n]{2,80})\s*\Z")


def with_titles(text: str, records: Sequence[Record]) -> list[Record]:
    """Count to the head what most passages have before one and the same sign: "Tea: It is hot."."""
    heads = "\0".join([text[r.body + 1 : r.body + _LONGEST_INLINE_TITLE] for r in records])
    for separator in _SEPARATORS:
        if heads.count(separator) <= _MOST * len(records):
            continue
        ends = [_title_end(text, record, separator) for record in records]
        if sum(end > 0 for end in ends) > _MOST * len(records):
            return [
                Record(r.start, end or r.body, r.tail, r.end)
                for r, end in zip(records, ends, strict=True)
            ]
    tails = [_behind(text, max(r.body, r.tail - 160), r.tail) for r in records]
    if sum(tail is not None for tail in tails) > _MOST * len(records):
        return [
            Record(r.start, r.body, tail.start() if tail else r.tail, r.end)
            for r, tail in zip(records, tails, strict=True)
        ]
    return list(records)


def _behind(text: str, start: int, end: int) -> re.Match[str] | None:
    """Find what stands behind the text as a title does: in brackets, or after a dash."""
    last = text[start:end]
    may_be = last.rstrip().endswith((")", "]")) or any(dash in last for dash in ("—", "–", "--"))
    return _BEHIND.search(text, start, end) if may_be else None


def _with_gaps(text: str, records: list[Record]) -> list[Record]:
    """Where something short stands before most passages, it goes with them: <h2>Tea</h2>."""
    gaps = [text[a.end : b.start] for a, b in pairwise(records)]
    if sum(0 < len(gap) <= LONG_LINE and not gap.isspace() for gap in gaps) <= _MOST * len(gaps):
        return records
    opening = _FIRST_TAG.match(gaps[-1])
    first = records[0].start
    if opening and (at := text.rfind(opening.group().strip(), max(0, first - 400), first)) >= 0:
        first = at
    starts = [first, *(record.end for record in records[:-1])]
    return [Record(a, r.body, r.tail, r.end) for a, r in zip(starts, records, strict=True)]


_FIRST_TAG: Final = re.compile(r"\s*<[A-Za-z][\w:.-]*")
_MOST: Final = 0.7
"""Share of passages that must have a title of one form."""


def _title_end(text: str, record: Record, separator: str) -> int:
    """Return where the text behind an inline title begins, or 0."""
    found = text.find(separator, record.body + 1, record.body + _LONGEST_INLINE_TITLE)
    if found < 0 or found + len(separator) > record.tail - record.length // 2:
        return 0
    title = text[record.body : found]
    line = text.find("\n", found, record.tail)
    if separator == "\t" and 0 < line < text.rfind(separator, record.body, record.tail):
        return 0  # rows of cells
    if "\n" in title.strip() or _SENTENCE_END.search(title):
        return 0
    return found + len(separator)


_CELL: Final = re.compile(r"(?<=\|)[ \t]*+(?P<inside>[^|\n]*+)(?=\|)")


def _rows(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose the rows of a piped table; the text of each is its longest cell."""
    rows = [
        (line, [found.span("inside") for found in _CELL.finditer(text, line.start, line.end)])
        for line in lines
        if line.text[0] == "|" == line.text[-1]
    ]
    longest = [max(map(_length, cells), default=0) for _, cells in rows]
    long = [at for at, size in enumerate(longest) if size >= SHORTEST_BODY]
    if not long:
        return []
    columns = [[_length(cell) for cell in rows[at][1]].index(longest[at]) for at in long]
    column = max(columns, key=columns.count)
    rule = next((at for at, (line, _) in enumerate(rows) if not _NAMES.search(line.text)), -1)
    above = text[: lines[0].start].rstrip().rpartition("\n")[2]
    is_named = rule >= 0 or (above[:1] == "|" and not _NAMES.search(above))
    return [
        Record(line.start, *cells[column], line.end)
        for at, (line, cells) in enumerate(rows)
        if column < len(cells) and at > rule and (is_named or at >= long[0])
    ]


def _length(cell: tuple[int, int]) -> int:
    return cell[1] - cell[0]


_NAMES: Final = re.compile(r"\w")
