"""A prompt about one page: what stands at its edges, and is short beside it, is the caller's own.

Nothing in such a prompt comes back, so that size and place must tell. Sections, then paragraphs and
lines, are taken off both ends while they are rules or tags, end in a colon or a question mark, or
are much shorter than what the page is made of. Where nothing can be taken off, a task may stand in
the first or the last sentence. No word decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.prompt_lines import (
    LONG_LINE,
    SHORT,
    Line,
    behind_blanks,
    ends_with_colon,
    heading_of,
    is_frame_line,
    key_mark,
    sections_of,
    size_of,
    typical,
)
from langchain_tokenopt.compress.question import (
    LONGEST_CUE,
    SHORT_OUTSIDE,
    SHORT_PARAGRAPH,
    asks,
    is_asked,
)
from langchain_tokenopt.compress.segments import label_asks
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts

__all__ = ["Page", "page_of"]


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a prompt, as character offsets; what stands outside is the caller's."""

    start: int
    end: int
    is_announced: bool = False
    """Whether a label, a heading, a tag or a colon sets it apart."""
    is_guessed: bool = False
    """Whether it lacks its first and last sentence, though nothing says which of them asks."""


def page_of(text: str, lines: Sequence[Line]) -> Page:
    r"""Return the page that *text* is about; all of it where no edge is the caller's.

    Example:
        >>> from langchain_tokenopt.compress.segments import segments_of
        >>> text = "Name the cold thing.\n\n" + "Tea is hot. Ice is cold. Birds can sing. " * 9
        >>> from langchain_tokenopt.compress.prompt_lines import lines_of
        >>> page = page_of(text, lines_of(text, segments_of(text)))
        >>> text[: page.start].strip(), text[page.end :]
        ('Name the cold thing.', '')
    """
    if not lines:
        return Page(0, len(text))
    groups = sections_of(lines)
    first, last = _trimmed(text, lines, groups) if len(groups) > 2 else (0, len(groups))
    kept = range(groups[first].start, groups[last - 1].stop)
    blocks = _blocks(lines, kept)
    first, last = _trimmed(text, lines, blocks)
    first, last = _announced(lines, blocks, first, last)
    if first >= last:
        return Page(0, len(text))
    kept = range(blocks[first].start, blocks[last - 1].stop)
    around = [*lines[: kept.start], *lines[kept.stop :]]
    opening = lines[kept[0]]
    is_announced = _labels(opening) or any(
        is_frame_line(line) or ends_with_colon(line) or heading_of(line) or _labels(line)
        for line in around
    )
    start, end = opening.start, behind_blanks(text, lines[kept[-1]].end)
    if (key := key_mark(opening)) is not None and len(opening.text) - key.end >= _LABELLED:
        start += text[opening.start : opening.end].index(opening.text) + key.end
    if len(text) - (end - start) > max(end - start, SHORT_OUTSIDE):
        return Page(0, len(text))
    if any(map(str.isalnum, "".join(line.text for line in around if not ends_with_colon(line)))):
        return Page(start, end, is_announced)
    return _without_edge_sentences(text, Page(start, end, is_announced))


_LONGEST_MARK: Final = 80
"""Characters."""
_LABELLED: Final = 60
"""Characters behind a label on its line from which the label is none of the text's own."""


def _labels(line: Line) -> bool:
    return key_mark(line) is not None


def _is_mark(line: Line) -> bool:
    return line.end - line.start <= _LONGEST_MARK and is_frame_line(line)


def _blocks(lines: Sequence[Line], among: range) -> list[range]:
    """Cut at blank lines, and around lines that stand for themselves."""
    first, made = among.start, []
    for at in among[1:]:
        above, line = lines[at - 1], lines[at]
        if (
            above.paragraph != line.paragraph
            or _is_alone(above)
            or _is_alone(line)
            or ends_with_colon(above)
            or _labels(line)
        ):
            made.append(range(first, at))
            first = at
    return [*made, range(first, among.stop)]


def _is_alone(line: Line) -> bool:
    """Whether a line is a mark, a heading, a paragraph that is not wrapped, or a block of data."""
    size = line.end - line.start
    return size >= LONG_LINE or _is_mark(line) or bool(heading_of(line))


def _trimmed(text: str, lines: Sequence[Line], groups: Sequence[range]) -> tuple[int, int]:
    """Return the groups that are left when those that are the caller's are taken off both ends."""
    first, last = _stripped(groups, 0, len(groups), lambda group: _is_sure(text, lines, group))
    if first >= last:
        first, last = 0, len(groups)
    middle = typical([size_of(lines, group) for group in groups[first:last]])
    longest = min(SHORT_PARAGRAPH, int(SHORT * middle))
    return _stripped(
        groups,
        first,
        last,
        lambda group: size_of(lines, group) <= longest or _is_sure(text, lines, group),
    )


def _stripped(
    groups: Sequence[range], first: int, last: int, is_own: Callable[[range], bool]
) -> tuple[int, int]:
    while first < last and is_own(groups[first]):
        first += 1
    while last > first and is_own(groups[last - 1]):
        last -= 1
    return first, last


def _announced(
    lines: Sequence[Line], blocks: Sequence[range], first: int, last: int
) -> tuple[int, int]:
    """Where the longest block has a label, what is shorter stands outside of it."""
    kept = range(first, last)
    longest = max(kept, key=lambda at: size_of(lines, blocks[at]), default=first)
    if len(kept) < 2 or not _labels(lines[blocks[longest][0]]):
        return first, last
    size = size_of(lines, blocks[longest])
    if sum(size_of(lines, blocks[at]) for at in kept[: longest - first]) <= size:
        first = longest
    return first, last


def _is_sure(text: str, lines: Sequence[Line], group: range) -> bool:
    """Whether a group is the caller's however short the others are."""
    size, opening, closing = size_of(lines, group), lines[group[0]], lines[group[-1]]
    if len(group) == 1 and (_is_mark(opening) or heading_of(opening)):
        return True
    if size > SHORT_PARAGRAPH:
        return False
    if heading_of(opening):
        return is_asked(opening.text, closing.text)
    return (
        label_asks(text, opening.start)
        or (ends_with_colon(closing) and size <= LONGEST_CUE)
        or asks(closing.text)
    )


_FEWEST_SENTENCES: Final = 5
"""Of fewer sentences none is told apart."""
_WITHIN: Final = 3
"""Sentences from the edge among which one that asks is looked for."""
_LONGEST_TASK: Final = 300
"""Characters of a sentence."""


def _without_edge_sentences(text: str, page: Page) -> Page:
    """Take off the sentences up to one that asks, or else the first and the last."""
    start, end = page.start, page.end
    edges = [start, *sentence_cuts(text, start, end)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    if len(pieces) < _FEWEST_SENTENCES:
        return page
    for at in reversed(range(_WITHIN)):
        if asks(pieces[at]) and edges[at + 1] - start <= SHORT_PARAGRAPH:
            return replace(page, start=edges[at + 1])
    for at in range(len(pieces) - _WITHIN, len(pieces)):
        if asks(pieces[at]) and end - edges[at] <= SHORT_PARAGRAPH:
            return replace(page, end=edges[at])
    if max(len(pieces[0]), len(pieces[-1])) > _LONGEST_TASK:
        return page
    return Page(edges[1], edges[-2], page.is_announced, is_guessed=True)
