"""Passages that begin, or end, with lines of one shape: numbers, headings, labels, tags."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.plain_passages import (
    MOST_TITLES,
    with_inner_title,
)
from langchain_tokenopt.compress.prompt_lines import (
    LONGEST_TITLE,
    SHORT,
    Line,
    MarkKind,
    behind_blanks,
    ends_with_colon,
    is_title,
    size_of,
)
from langchain_tokenopt.compress.quoted_records import Record

__all__ = ["marked_passages"]

FEWEST: Final = 2
_MOST_MARKS: Final = 16
"""Kinds of marks that are tried, the most promising ones."""
_USUAL: Final = 120
"""Characters; pieces that are shorter are seldom passages."""
_STRENGTHS: Final[dict[MarkKind, float]] = {
    "number": 0.7, "tag": 1.2, "heading": 1.2, "key": 1.1, "banner": 1.0, "bold": 1.0,
    "bracket": 1.0, "bullet": 0.8, "phrase": 1.0, "shape": 0.9,
}  # fmt: skip
"""How surely such a mark begins a passage when it comes back."""
_COUNTS_UP: Final = 1.4
"""The same of numbers that count up."""


def marked_passages(text: str, lines: Sequence[Line]) -> Iterator[tuple[float, list[Record]]]:
    """Propose the passages that each kind of mark makes, with how sure that is; earliest first."""
    found: dict[tuple[MarkKind, str], list[int]] = {}
    numbers: dict[tuple[MarkKind, str], list[str]] = {}
    for at, line in enumerate(lines):
        for mark in line.marks:
            key = mark.kind, mark.name
            found.setdefault(key, []).append(at)
            numbers.setdefault(key, []).append(mark.number)
    strengths = {
        key: _COUNTS_UP if _counts_up(numbers[key]) else _STRENGTHS[key[0]]
        for key, ats in found.items()
        if len(ats) >= FEWEST
    }

    def most(key: tuple[MarkKind, str]) -> float:
        """What the mark could explain at best."""
        size = len(text) - lines[found[key][0]].start
        return strengths[key] * size * min(1.0, size / len(found[key]) / _USUAL)

    best = heapq.nlargest(_MOST_MARKS, strengths, key=most)
    tried: set[tuple[int, ...]] = set()
    for key in sorted(best, key=lambda key: (found[key][0], -strengths[key])):
        ats = tuple(found[key])
        if ats not in tried and not any(_is_inside(ats, other) for other in tried):
            yield strengths[key], _records(text, lines, _titles_above(lines, ats))
            tried.add(ats)


def _titles_above(lines: Sequence[Line], ats: Sequence[int]) -> Sequence[int]:
    """Where most marks stand below a title, passages begin with that."""
    for _ in range(MOST_TITLES):
        above = {
            at - 1
            for before, at in pairwise([-1, *ats])
            if at - 1 > before
            and lines[at].paragraph - lines[at - 1].paragraph <= 1
            and is_title(lines[at - 1])
            and not ends_with_colon(lines[at - 1])
        }
        if len(above) <= 0.7 * len(ats) or ats[0] - 1 not in above:
            break  # what stands above all but the first ends the passage before
        ats = [at - 1 if at - 1 in above else at for at in ats]
    return ats


def _is_inside(ats: Sequence[int], other: Sequence[int]) -> bool:
    """Whether marks take turns with others that come first, as "Text:" does with "Title:"."""
    if abs(len(ats) - len(other)) > _FEW_LOST * len(ats) or other[0] > ats[0]:
        return False
    return sum(a < b <= c for (a, c), b in zip(pairwise(other), ats, strict=False)) >= (
        1 - _FEW_LOST
    ) * (len(ats) - 1)


_FEW_LOST: Final = 0.1
"""Share of passages that may lack a mark which the others have."""


def _counts_up(numbers: Sequence[str]) -> bool:
    """Whether most numbers are one more than the one before."""
    if not all(numbers):
        return False
    values = [int(n) if n.isdecimal() else _letter(n) for n in numbers]
    steps = sum(1 for one, other in pairwise(values) if other == one + 1)
    return steps >= 0.6 * (len(values) - 1)


def _letter(number: str) -> int:
    roman = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
    if number.islower():
        return roman.index(number) + 1 if number in roman else 0
    return ord(number) - ord("A") + 1


def _records(text: str, lines: Sequence[Line], ats: Sequence[int]) -> list[Record]:
    """Cut the text at lines that begin a passage; find the title and the text of each."""
    spans = [range(one, other) for one, other in pairwise(ats)]
    sizes = sorted(size_of(lines, span) for span in spans)
    middle = sizes[len(sizes) // 2]
    groups = [*spans, range(ats[-1], len(lines))]
    if size_of(lines, groups[-1]) < SHORT * middle or _end_paragraphs(lines, ats):
        behind = _marked_behind(text, lines, ats)
        if behind:
            return behind
    names = _template(lines, groups)
    return [_record(text, lines, group, names) for group in groups]


def _end_paragraphs(lines: Sequence[Line], ats: Sequence[int]) -> bool:
    """Whether most marks stand on the last of several lines of a paragraph."""
    count = sum(
        0 < at < len(lines) - 1
        and lines[at - 1].paragraph == lines[at].paragraph < lines[at + 1].paragraph
        for at in ats
    )
    return count > 0.7 * len(ats)


def _marked_behind(text: str, lines: Sequence[Line], ats: Sequence[int]) -> list[Record]:
    """Propose passages that end with the mark, as "Source: ..." behind each."""
    made = []
    for begin, at in zip([0, *(at + 1 for at in ats[:-1])], ats, strict=True):
        if begin >= at:
            return []
        start, tail = lines[begin].start, lines[at].start
        end = behind_blanks(text, lines[at].end)
        made.append(with_inner_title(lines, range(begin, at + 1), Record(start, start, tail, end)))
    return made


def _template(lines: Sequence[Line], groups: Sequence[range]) -> set[str]:
    """Return the marks that most passages have."""
    counts: Counter[str] = Counter()
    for group in groups:
        counts.update({mark.name for at in group for mark in lines[at].marks})
    return {name for name, count in counts.items() if count > 0.6 * len(groups)}


def _record(text: str, lines: Sequence[Line], group: range, names: set[str]) -> Record:
    """The text is the longest part; marked lines before it are head, those after it tail."""
    end = behind_blanks(text, lines[group[-1]].end)
    marked = [at for at in group if any(mark.name in names for mark in lines[at].marks)]
    marked = marked or [group[0]]
    edges = [lines[at].start for at in marked] + [end]
    sizes = [b - a for a, b in pairwise(edges)]
    best = max(range(len(sizes)), key=sizes.__getitem__)
    line, at = lines[marked[best]], marked[best]
    body = line.start + text[line.start : line.end].index(line.text) + _mark_end(line, names)
    following = at + 1 if at + 1 < group.stop and at + 1 not in marked else None
    if following is not None and (is_title(line) or ends_with_colon(line)):
        body = lines[following].start  # "title: Tea", and the text on lines of its own
    record = Record(lines[group[0]].start, body, edges[best + 1], end)
    return with_inner_title(lines, group, record)


_TITLE_BEHIND: Final = re.compile(
    r"[ ]?\((?:[^()\n]|\([^()\n]*\)){1,200}\)[ :]?|[ ]?(?:\*\*|__)[^*_\n]{1,200}(?:\*\*|__)[:.]?"
    r"|[ ]?[\"“„«][^\"”«»\n]{1,160}[\"”“»]:"
)
_KEY_BEHIND: Final = re.compile(r" ?[^\n:：.!?]{1,60}[:：]\s")
_BANNER_END: Final = re.compile(r"[^\n]{1,120}?([-=*_~#+>])\1+(?=\s|$)")


def _mark_end(line: Line, names: set[str]) -> int:
    """Return where the mark of a passage, with a title in brackets or bold, ends on its line."""
    marks = [mark for mark in line.marks if mark.name in names] or list(line.marks)
    keys = [mark for mark in marks if mark.kind == "key"]
    if keys:
        return keys[0].end
    end = max((mark.end for mark in marks if mark.kind != "bold"), default=0)
    if any(mark.kind == "banner" for mark in marks) and (
        found := _BANNER_END.match(line.text, end)
    ):
        return found.end()
    behind = _TITLE_BEHIND.match(line.text, end)
    if behind is None and marks and len(line.text) > LONGEST_TITLE:
        behind = _KEY_BEHIND.match(line.text, end)
    return behind.end() if behind else end
