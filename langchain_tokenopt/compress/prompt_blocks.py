"""The blocks of a prompt: paragraphs, lines that stand for themselves, runs of items, tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Final, Literal

from langchain_tokenopt.compress.prompt_lines import (
    LONG_LINE,
    Line,
    ends_with_colon,
    heading_of,
    is_frame_line,
    key_mark,
    size_of,
)
from langchain_tokenopt.compress.question import asks

__all__ = ["LONGEST_MARK", "Kind", "is_mark", "is_open", "kind_of", "prompt_blocks"]


def prompt_blocks(lines: Sequence[Line]) -> list[range]:
    """Cut at blank lines, and around lines that stand for themselves."""
    if not lines:
        return []
    first, made, runs, last = 0, [], _runs(lines), len(lines) - 1
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines:
        counts.update((mark.kind, mark.name) for mark in line.marks)
    for at, (above, line) in enumerate(pairwise(lines), 1):
        if (
            above.paragraph != line.paragraph
            or _is_alone(above)
            or _is_alone(line)
            or ends_with_colon(above)
            or (at in runs) != (at - 1 in runs)
            or (at in runs and _is_lone(above, counts) != _is_lone(line, counts))
            or (at not in runs and (key_mark(line) is not None or _comes_back(line, counts)))
            or (at == last and (is_open(line) or asks(line.text)))
            or (at == 1 and asks(above.text))
        ):
            made.append(range(first, at))
            first = at
    return [*made, range(first, len(lines))]


def _is_lone(line: Line, counts: Mapping[tuple[str, str], int]) -> bool:
    """Whether a line has a label that does not come back."""
    key = key_mark(line)
    return key is not None and counts[key.kind, key.name] < 3


def _comes_back(line: Line, counts: Mapping[tuple[str, str], int]) -> bool:
    """Whether a line is, or begins with, a mark that other lines have, too."""
    return any(
        counts[mark.kind, mark.name] > 2
        and (mark.kind in ("banner", "bold", "bracket") or mark.end == len(line.text))
        for mark in line.marks
    )


def _is_alone(line: Line) -> bool:
    """Whether a line is a mark, a heading, a paragraph that is not wrapped, or a block of data."""
    size = line.end - line.start
    return size >= LONG_LINE or is_mark(line) or bool(heading_of(line))


def is_mark(line: Line) -> bool:
    """Say whether a line is nothing but a short mark: a rule, a fence or tags."""
    return line.end - line.start <= LONGEST_MARK and is_frame_line(line)


LONGEST_MARK: Final = 80
"""Characters."""


def is_open(line: Line) -> bool:
    """Whether a line ends in a sign that something must follow."""
    return line.text.endswith((":", "：", "=", "→", "->", "=>"))


def _runs(lines: Sequence[Line]) -> frozenset[int]:
    """Return the lines that begin alike, with a sign or a label, as most of their paragraph."""
    found: set[int] = set()
    for _, group in groupby(range(len(lines)), key=lambda at: lines[at].paragraph):
        ats = list(group)
        kinds = [_beginning(lines[at]) for at in ats]
        kind, count = Counter(kinds).most_common(1)[0]
        if kind and count >= max(_FEWEST_OF_RUN, _MOST_OF_RUN * len(ats)):
            alike = [at for at, other in zip(ats, kinds, strict=True) if other == kind]
            found |= set(range(alike[0], alike[-1] + 1))
    return frozenset(found)


_FEWEST_OF_RUN: Final = 3
_MOST_OF_RUN: Final = 0.7


def _beginning(line: Line) -> str:
    """Return what lines of one run have in common: their first sign, a number, or a label."""
    if not line.text[0].isalnum():
        return line.text[0]
    return next((mark.kind for mark in line.marks if mark.kind in ("number", "key")), "")


Kind = Literal["mark", "heading", "data", "long", "run", "short"]


def kind_of(lines: Sequence[Line], block: range) -> Kind:
    """Return what a block is by its shape."""
    first = lines[block[0]]
    if all(is_mark(lines[at]) for at in block):
        return "mark"
    if len(block) == 1 and heading_of(first):
        return "heading"
    if len(block) == 1 and not first.marks and first.end - first.start > len(first.text) + 40:
        return "data"
    longest = max(len(lines[at].text) for at in block)
    if longest >= LONG_LINE or (len(block) > 2 and size_of(lines, block) > 2 * LONG_LINE):
        return "long"
    return "run" if len(block) > 2 else "short"
