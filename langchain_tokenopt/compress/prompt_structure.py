"""Where a prompt quotes passages, whatever their layout: found by what comes back.

Passages repeat a mark: a number, a heading, a label, a tag, a rule, a blank line, a quotation mark
of JSON. Each kind of mark proposes passages; the proposal that explains most of the text, in the
most even pieces, is taken. No label is known by name here.
"""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.marked_passages import marked_passages
from langchain_tokenopt.compress.plain_passages import (
    SHORTEST_PASSAGE,
    TINY,
    fenced_passages,
    is_one_list,
    paragraphs,
    ruled_passages,
)
from langchain_tokenopt.compress.prompt_lines import (
    LONG_LINE,
    OPEN_KINDS,
    SHORT,
    Line,
    ends_with_colon,
    heading_of,
    key_mark,
    lines_of,
    sections_of,
)
from langchain_tokenopt.compress.question import SHORT_PARAGRAPH, asks, is_asked
from langchain_tokenopt.compress.quoted_records import (
    SHORTEST_BODY,
    Record,
    quoted_records,
    tagged_passages,
)
from langchain_tokenopt.compress.segments import Segment
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts

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


def structure_of(text: str, segments: Sequence[Segment]) -> Structure:
    r"""Return the passages that *text* quotes; none when nothing in it comes back.

    Example:
        >>> from langchain_tokenopt.compress.segments import segments_of
        >>> tea, ice = "Tea is hot. " * 20, "Ice is cold. " * 20
        >>> text = f"Answer me.\n\n(1) {tea}\n\n(2) {ice}\n\nIs ice hot?"
        >>> [text[r.start : r.body] for r in structure_of(text, segments_of(text)).records]
        ['(1)', '(2)']
    """
    if len(text) < 2 * SHORTEST_PASSAGE or _is_conversation(text, segments):
        return Structure()
    if len(letters := _letters(text, segments)) >= FEWEST:
        return Structure(letters)
    best, value, short = Structure(), _LEAST_VALUE, SHORT
    lines = lines_of(text, segments)
    for strength, quoted, records in _proposals(text, lines):
        found = strength * _explained(text, records)
        if found > value:
            best, value = Structure(records, quoted), found
            short = 0 if strength == _PLAIN else SHORT  # edges have been told apart
    if best.quoted:
        best.is_long = _holds_sentences(text, best.records)
    else:
        best.records = _in_main_section(lines, best.records)
        best.records = with_titles(text, _with_gaps(text, _apart(best.records)))
        best.records = _without_own(text, best.records, short)
        best.records = _in_main_run(text, best.records)
        best.records = _alike(text, segments, lines, best.records, is_plain=not short)
        if 2 * len(best.records) < len(lines) and is_one_list(lines):
            return Structure()
        if _is_one_page(text, best.records) or _is_beside_bulk(lines, best.records):
            return Structure()
    return best


def _in_main_section(lines: Sequence[Line], records: list[Record]) -> list[Record]:
    """Where most passages stand under one heading, what stands under others is none."""
    total = sum(record.length for record in records)
    for section in sections_of(lines):
        start, end = lines[section[0]].start, lines[section[-1]].end
        inside = [
            r if r.start >= start else Record(r.body, r.body, r.tail, r.end)
            for r in records
            if start <= r.body < end
        ]
        if len(inside) >= FEWEST and sum(r.length for r in inside) > _MAINLY * total:
            heading = lines[section[0]].end if heading_of(lines[section[0]]) else start
            return [r for r in inside if r.tail > heading]
    return records


_MAINLY: Final = 0.6


def _is_one_page(text: str, records: Sequence[Record]) -> bool:
    """Whether one of a few is most of them all: a page among what is said about it.

    Among lists it is less that is most: running text has long lines.
    """
    if not 0 < len(records) <= _FEW_SECTIONS:
        return False
    longest = max(records, key=lambda record: record.length)
    others = [text[r.body : r.tail] for r in records if r is not longest]
    is_other = not any(_has_long(other) for other in others)
    share = 0.5 if is_other and _has_long(text[longest.body : longest.tail]) else _MOSTLY
    return longest.length > int(share * sum(record.length for record in records))


def _has_long(text: str) -> bool:
    return max(map(len, text.split("\n"))) >= LONG_LINE


_FEW_SECTIONS: Final = 5
_MOSTLY: Final = 0.75


def _is_beside_bulk(lines: Sequence[Line], records: Sequence[Record]) -> bool:
    """Whether lines that come back are a list of the caller's, beside a longer paragraph."""
    total = sum(record.length for record in records)
    if not records or total >= LONG_LINE * len(records):
        return False
    sizes: Counter[int] = Counter()
    for line in lines:
        if line.start >= records[-1].end or line.end <= records[0].start:
            sizes[line.paragraph] += line.end - line.start
    longest = max(record.length for record in records)
    beside = max([0, *(size for size in sizes.values() if size > SHORT_PARAGRAPH)])
    return longest > total - longest or beside > total


_ANNOUNCES: Final = re.compile(r"(?<=\n\n)[^\n]{1,80}[:：]\s*\Z")
"""A last paragraph that announces what follows. The end of the search is the end of the text."""


def _in_main_run(text: str, records: list[Record]) -> list[Record]:
    """Where something announces a long run of passages behind short ones, those are none."""
    announced = [
        found.start() if (found := _ANNOUNCES.search(text, r.body + 1, r.end)) else r.end
        for r in records[:-1]
    ]
    if sum(cut < r.end for cut, r in zip(announced, records, strict=False)) == 1:
        records = [
            Record(r.start, r.body, min(r.tail, cut), cut)
            for r, cut in zip(records, [*announced, records[-1].end], strict=True)
        ]
    gaps = [text[a.end : b.start].strip() for a, b in pairwise(records)]
    ats = [at for at, gap in enumerate(gaps, 1) if gap[:1] == "#" or gap[-1:] in (":", "：")]
    runs = [records[a:b] for a, b in pairwise([0, *ats, len(records)])]
    sizes = [sum(record.length for record in run) for run in runs]
    longest = max(sizes, default=0)
    if len(runs) > _FEW_SECTIONS or 2 * longest < sum(sizes):
        return records
    short = min(SHORT_PARAGRAPH, SHORT * longest)
    return [record for run, size in zip(runs, sizes, strict=True) if size > short for record in run]


def _alike(
    text: str,
    segments: Sequence[Segment],
    lines: Sequence[Line],
    records: list[Record],
    *,
    is_plain: bool,
) -> list[Record]:
    """Leave to the caller what is unlike the passages: a line more, prose among data, or tiny."""
    if len(records) < FEWEST:
        return records
    if is_plain:
        records = _of_tables(segments, records)
        middle = statistics.median(record.length for record in records)
        tiny = [
            r
            for r in records
            if r.length <= (SHORT * middle if _ASKS.search(text, r.body, r.tail) else TINY * middle)
            and r.body == r.start  # without a title
            and text[r.start : r.end].rstrip(" \t").endswith("\n\n")
        ]
        if 3 * len(tiny) <= len(records) - (len(tiny) > 1):
            records = [r for r in records if r not in tiny]
    if all((record.start == record.body) == (at > 0) for at, record in enumerate(records)):
        # The heading of all of them stands above the first.
        records = [replace(records[0], start=records[0].body), *records[1:]]
    starts = [line.start for line in lines]
    counts = [bisect_left(starts, r.end) - bisect_left(starts, r.start) for r in records]
    first, last, most = records[0], records[-1], max(counts[1:-1], default=counts[0])
    at = bisect_left(starts, first.body)
    if counts[0] > most and first.start == first.body and ends_with_colon(lines[at]):
        records = [Record(starts[at + 1], starts[at + 1], first.tail, first.end), *records[1:]]
    if (
        counts[-1] > most > 0
        and lines[bisect_left(starts, last.start) + most - 1].text[-1] in _ENDS
    ):
        cut = starts[bisect_left(starts, last.start) + most]
        middle = statistics.median(record.length for record in records)
        if last.body < cut and last.end - cut <= (LONG_LINE if most == 1 else SHORT * middle):
            records = [*records[:-1], Record(last.start, last.body, min(last.tail, cut), cut)]
    return records


_ASKS: Final = re.compile(r"[?？؟]")
_ENDS: Final = '.!?。！？؟…।"”»)]'
"""Signs of which one ends a line that the next does not go on with."""


def _of_tables(segments: Sequence[Segment], records: list[Record]) -> list[Record]:
    """Where most paragraphs are code or data, running text before and behind them is none."""
    blocks = [s for s in segments if s.kind not in OPEN_KINDS]

    def inside(record: Record) -> Record | None:
        for s in blocks:
            if s.start < record.tail and record.body < s.end:
                start = max(s.start, record.start)
                return Record(start, max(start, record.body), record.tail, record.end)
        return None

    found = [inside(record) for record in records]
    ats = [at for at, record in enumerate(found) if record is not None]
    if len(ats) < max(FEWEST, _MAINLY * len(records)):
        return records
    kept = range(ats[0], ats[-1] + 1)
    return [found[at] or records[at] for at in kept]


def _without_own(text: str, records: list[Record], short: float) -> list[Record]:
    """What is short and alone asks, or stands at an edge, is the caller's, though it has a mark."""
    if len(records) <= FEWEST:
        return records
    middle = statistics.median(record.length for record in records)
    first, last = 0, len(records)
    is_short = [r.length <= short * middle and not _is_titled(text, r) for r in records]
    while first < last and is_short[first]:
        first += 1
    while last > first and is_short[last - 1]:
        last -= 1
    kept = records[first:last]
    asking = [
        r
        for r in kept
        if r.length <= middle / 2 and is_asked(text[r.start : r.body], text[r.body : r.tail])
    ]
    at_edges = [r for r in asking if r in (kept[0], kept[-1])]
    beside = asking if len(asking) == 1 else at_edges
    return [r for r in kept if r not in beside]


def _is_titled(text: str, record: Record) -> bool:
    """Whether the head of a passage has a title, not only a number or a word."""
    return len(_WORD.findall(text, record.start, record.body)) >= _FEWEST_IN_TITLES


_WORD: Final = re.compile(r"[^\W\d_]+")
_FEWEST_IN_TITLES: Final = 4


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


def _is_conversation(text: str, segments: Sequence[Segment]) -> bool:
    turns = [text.count("\n", s.start, s.end) for s in segments if s.kind == "turn"]
    if sum(turns) <= max(_MANY_TURNS, text.count("\n") // 2):
        return False
    labels = [mark.name for line in lines_of(text, segments) if (mark := key_mark(line))]
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
    yield _TAGGED, False, fenced_passages(text, lines)
    yield _RULED, False, ruled_passages(text, lines)
    yield _PLAIN, False, paragraphs(text, lines)


_LONGEST_HEAD: Final = 300
"""Characters beside the text of a passage that its title, number and marks may have."""


def _explained(text: str, records: Sequence[Record]) -> float:
    """Return how much of the text the passages are, less the more uneven or tiny they are."""
    if len(records) < FEWEST:
        return 0.0
    lengths = [record.length for record in records]
    mean = sum(lengths) / len(lengths)
    variance = sum([length * length for length in lengths]) / len(lengths) - mean * mean
    uneven = math.sqrt(max(0.0, variance)) / mean if mean else 9.0
    covered = sum(min(r.end - r.start, r.length + _LONGEST_HEAD) for r in records) / len(text)
    sure = 1 - 0.5 / len(records)
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
    heads = [text[r.body + 1 : r.body + _LONGEST_INLINE_TITLE] for r in records]
    for separator in _SEPARATORS:
        if sum([separator in head for head in heads]) <= _MOST * len(records):
            continue
        ends = [_title_end(text, record, separator) for record in records]
        if sum(end > 0 for end in ends) > _MOST * len(records):
            return [
                Record(r.start, end or r.body, r.tail, r.end)
                for r, end in zip(records, ends, strict=True)
            ]
    tails = [_BEHIND.search(text, max(r.body, r.tail - 160), r.tail) for r in records]
    if sum(tail is not None for tail in tails) > _MOST * len(records):
        return [
            Record(r.start, r.body, tail.start() if tail else r.tail, r.end)
            for r, tail in zip(records, tails, strict=True)
        ]
    return list(records)


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
    if "\n" in title.strip() or _SENTENCE_END.search(title):
        return 0
    return found + len(separator)


_CELL: Final = re.compile(r"(?<=\|)[ \t]*+(?P<inside>[^|\n]*+)(?=\|)")


def _rows(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose the rows of a piped table; the text of each is its longest cell."""
    made = []
    for line in lines:
        if line.text[0] != "|" or line.text[-1] != "|" or line.end - line.start < SHORTEST_BODY:
            continue
        cells = [found.span("inside") for found in _CELL.finditer(text, line.start, line.end)]
        body, tail = max(cells, key=lambda cell: cell[1] - cell[0], default=(0, 0))
        if tail - body >= SHORTEST_BODY:
            made.append(Record(line.start, body, tail, line.end))
    return made
