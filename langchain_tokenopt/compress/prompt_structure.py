"""Where a prompt quotes passages, whatever their layout: found by what comes back.

Passages repeat a mark: a number, a heading, a label, a tag, a rule, a blank line, a quotation mark
of JSON. Each kind of mark proposes passages; the proposal that explains most of the text, in the
most even pieces, is taken. No label is known by name here.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from langchain_tokenopt.compress.marked_passages import marked_passages
from langchain_tokenopt.compress.plain_passages import (
    SHORTEST_PASSAGE,
    paragraphs,
    ruled_passages,
)
from langchain_tokenopt.compress.prompt_lines import Line, lines_of
from langchain_tokenopt.compress.quoted_records import SHORTEST_BODY, Record, quoted_records
from langchain_tokenopt.compress.segments import Segment
from langchain_tokenopt.compress.tagged_passages import tagged_passages

__all__ = ["Structure", "structure_of"]

FEWEST: Final = 2
_LEAST_VALUE: Final = 0.3
_LONG_TEXT: Final = 500
"""Characters. Of shorter strings in data all is kept, or nothing."""
_QUOTED, _TAGGED, _RULED, _PLAIN = 1.4, 1.3, 0.9, 0.8
"""How surely passages are told apart by quotation marks, tags, rules, or blank lines alone."""


@dataclass(slots=True)
class Structure:
    """The passages of a text."""

    records: list[Record] = field(default_factory=list)
    """In order, without overlaps. What stands outside of them instructs, asks or frames."""
    quoted: bool = False
    """Whether the records are strings of a data format, or cells of a table."""

    @property
    def is_long(self) -> bool:
        """Whether the texts are passages, of which sentences may go, rather than values."""
        return statistics.median(record.length for record in self.records) >= _LONG_TEXT


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
    best, value = Structure(), _LEAST_VALUE
    for strength, quoted, records in _proposals(text, segments):
        found = strength * _explained(text, records)
        if found > value:
            best, value = Structure(records, quoted), found
    return best


_MANY_TURNS: Final = 50
"""A few messages of a chat may be passages; so many are a conversation."""


def _is_conversation(text: str, segments: Sequence[Segment]) -> bool:
    turns = [text.count("\n", s.start, s.end) for s in segments if s.kind == "turn"]
    return sum(turns) > max(_MANY_TURNS, text.count("\n") // 2)


def _proposals(
    text: str, segments: Sequence[Segment]
) -> Iterator[tuple[float, bool, list[Record]]]:
    yield _QUOTED, True, quoted_records(text)
    for records in tagged_passages(text):
        yield _TAGGED, False, records
    lines = lines_of(text, segments)
    yield _QUOTED, True, _rows(text, lines)
    for strength, records in marked_passages(text, lines):
        yield strength, False, records
    yield _RULED, False, ruled_passages(text, lines)
    yield _PLAIN, False, paragraphs(text, lines)


def _explained(text: str, records: Sequence[Record]) -> float:
    """Return how much of the text the passages are, less the more uneven or tiny they are."""
    if len(records) < FEWEST:
        return 0.0
    lengths = [record.length for record in records]
    mean = statistics.fmean(lengths)
    uneven = statistics.pstdev(lengths) / mean if mean else 9.0
    covered = (records[-1].end - records[0].start) / len(text)
    return covered * min(1.0, mean / (2 * SHORTEST_PASSAGE)) / (1 + 0.5 * uneven)


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
