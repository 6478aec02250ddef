"""Passages without marks of their own: between rules, between blank lines, or a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.prompt_lines import (
    LONG_LINE,
    SHORT,
    Line,
    behind_blanks,
    heading_of,
    is_frame_line,
    is_rule,
    is_title,
    size_of,
    typical,
)
from langchain_tokenopt.compress.quoted_records import Record

__all__ = [
    "MOST_TITLES", "SHORTEST_PASSAGE", "paragraphs", "plain_record", "ruled_passages",
    "with_inner_title",
]  # fmt: skip

SHORTEST_PASSAGE: Final = 60
"""Characters; pieces that are shorter on average are lines of one passage."""
FEWEST: Final = 2
MOST_TITLES: Final = 3
"""Lines above the text of a passage; more are rows."""


def plain_record(text: str, lines: Sequence[Line], group: range) -> Record:
    """Return a passage without a mark; a short first line, or a short last one, is its title."""
    start, end = lines[group[0]].start, behind_blanks(text, lines[group[-1]].end)
    record = with_inner_title(lines, group, Record(start, start, end, end))
    last = lines[group[-1]]
    if (
        record.body == start
        and len(group) > 1
        and is_title(last)
        and any(mark.kind in ("bracket", "key") for mark in last.marks)
        and len(last.text) < SHORT * (last.start - start)
    ):
        return Record(start, start, last.start, end)
    return record


def with_inner_title(lines: Sequence[Line], group: range, record: Record) -> Record:
    """Count to head and tail: a short first line, and the fences around a text."""
    body, tail, titles = record.body, record.tail, 0
    for at in group[:-1]:
        if lines[at].start != body:
            continue
        rest = lines[at + 1].start
        if not is_frame_line(lines[at]):
            is_long = len(lines[at].text) >= 0.5 * (tail - rest)
            if titles == MOST_TITLES or is_long or not is_title(lines[at]):
                break
            titles += 1
        body = rest
    for at in reversed(group):
        if lines[at].start <= body or lines[at].start >= tail or not is_frame_line(lines[at]):
            break
        tail = lines[at].start
    return Record(record.start, body, tail, record.end)


# --- between rules ----------------------------------------------------------------


def ruled_passages(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose what stands between rules; what is much shorter at the ends is no passage."""
    rules = Counter(line.text for line in lines if is_rule(line))
    rule, count = rules.most_common(1)[0] if rules else ("", 0)
    if count < FEWEST:
        return []
    ats = [at for at, line in enumerate(lines) if line.text == rule]
    groups = [range(a + 1, b) for a, b in pairwise([-1, *ats, len(lines)]) if b > a + 1]
    made: list[Record] = []
    for group in groups:
        record = plain_record(text, lines, group)
        # the rule before a passage goes with it
        start = made[-1].end if made else record.start
        made.append(Record(start, record.body, record.tail, record.end))
    return made


# --- between blank lines, or a line each ---------------------------------------------------------


def paragraphs(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose what stands between blank lines, or else each long line."""
    if not lines:
        return []
    groups = _grouped(lines)
    middle = typical([size_of(lines, group) for group in groups])
    if middle < SHORTEST_PASSAGE:
        return []
    return [plain_record(text, lines, group) for group in _with_titles(lines, groups, middle)]


def _grouped(lines: Sequence[Line]) -> list[range]:
    """Group lines into paragraphs; without blank lines every long line is one."""
    groups: list[range] = []
    first = 0
    for at in range(1, len(lines) + 1):
        if at == len(lines) or lines[at].paragraph != lines[first].paragraph:
            groups.append(range(first, at))
            first = at
    longest = max(size_of(lines, group) for group in groups)
    is_wrapped = typical([len(line.text) for line in lines]) < LONG_LINE
    if is_wrapped or longest <= 0.7 * size_of(lines, range(len(lines))):
        return groups
    return [range(at, at + 1) for at in range(len(lines))]


def _with_titles(lines: Sequence[Line], groups: list[range], middle: int) -> list[range]:
    """Headings are titles; where short paragraphs and long ones take turns, short ones are."""

    def is_short(group: range) -> bool:
        line = lines[group[0]]
        return len(group) == 1 and is_title(line) and len(line.text) <= SHORT * middle

    def is_long(group: range) -> bool:
        return size_of(lines, group) >= SHORT * middle

    pairs = sum(1 for a, b in pairwise(groups) if is_short(a) and is_long(b))
    are_titles = pairs >= max(3, 0.6 * sum(map(is_long, groups)))
    made: list[range] = []
    for group in groups:
        is_headed = bool(made and len(made[-1]) == 1 and heading_of(lines[made[-1][0]]))
        is_text = is_long(group) or not is_short(group)
        if is_headed or (made and are_titles and is_text and is_short(made[-1])):
            made[-1] = range(made[-1].start, group.stop)
        else:
            made.append(group)
    return made
