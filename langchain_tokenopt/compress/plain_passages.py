"""Passages without marks of their own: between rules, between blank lines, a line each; one page.

Where nothing comes back, what stands at the edges of the page and is short beside it is the
caller's own. Sections, then paragraphs and lines, are taken off both ends while they are rules or
tags, end in a colon or a question mark, or are much shorter than what the page is made of. Where
nothing can be taken off, a task may stand in the first or the last sentence. No word decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Final

from langchain_tokenopt.compress.prompt_lines import (
    LONG_LINE,
    SHORT,
    Line,
    behind_blanks,
    ends_with_colon,
    heading_of,
    instructs,
    is_fence,
    is_frame_line,
    is_rule,
    is_title,
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
from langchain_tokenopt.compress.quoted_records import Record
from langchain_tokenopt.compress.segments import label_asks
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts

__all__ = [
    "SHORTEST_PASSAGE", "Page", "fenced_passages", "is_one_list", "last_passage", "page_of",
    "paragraphs", "plain_record", "ruled_passages", "with_inner_title",
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


# --- in fences, or between rules ----------------------------------------------------------------


def fenced_passages(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose what stands in fences; a short line right above one is the title."""
    ats = [at for at, line in enumerate(lines) if is_fence(line)]
    made: list[Record] = []
    for opening, closing in zip(ats[::2], ats[1::2], strict=False):
        if closing == opening + 1:
            continue
        begin = opening - 1 if opening and opening - 1 not in ats else opening
        above = lines[begin]
        gap = lines[opening].paragraph - above.paragraph
        if gap > 1 or not is_title(above) or ends_with_colon(above):
            begin = opening
        end = behind_blanks(text, lines[closing].end)
        made.append(Record(lines[begin].start, lines[opening].end, lines[closing].start, end))
    return made


def ruled_passages(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose what stands between rules; what is much shorter at the ends is no passage."""
    rules = Counter(line.text for line in lines if is_rule(line))
    rule, count = rules.most_common(1)[0] if rules else ("", 0)
    if count < FEWEST:
        return []
    ats = [at for at, line in enumerate(lines) if line.text == rule]
    inner = [range(a + 1, b) for a, b in pairwise(ats) if b > a + 1]
    if not inner:
        return []
    sizes = sorted(size_of(lines, group) for group in inner)
    middle = sizes[len(sizes) // 2]
    shape = max(lines[g[-1]].paragraph - lines[g[0]].paragraph for g in inner)
    groups = list(inner)
    if before := last_passage(lines, range(ats[0]), middle, shape):
        groups.insert(0, before)
    if after := _first_passage(lines, range(ats[-1] + 1, len(lines)), middle, shape):
        groups.append(after)
    made: list[Record] = []
    for group in groups:
        record = plain_record(text, lines, group)
        # the rule before a passage goes with it
        start = made[-1].end if made else record.start
        made.append(Record(start, record.body, record.tail, record.end))
    return made


def _first_passage(lines: Sequence[Line], group: range, middle: int, shape: int) -> range | None:
    """Return the passage that *group* begins with, unless it is too short for one."""
    end = group.start
    while end < group.stop and lines[end].paragraph - lines[group.start].paragraph <= shape:
        end += 1
    found = range(group.start, end)
    return found if found and size_of(lines, found) >= SHORT * middle else None


def last_passage(lines: Sequence[Line], group: range, middle: int, shape: int) -> range | None:
    """Return the passage that *group* ends with, unless it is too short for one.

    Args:
        lines: Of the text.
        group: The lines before the first mark.
        middle: Characters of a typical passage.
        shape: Blank lines that a passage may have inside.
    """
    if not group:
        return None
    begin, lowest = group.stop, lines[group.stop - 1].paragraph - shape
    while begin > group.start and lines[begin - 1].paragraph >= lowest:
        line = lines[begin - 1]
        is_new = begin < group.stop and line.paragraph < lines[begin].paragraph
        if is_frame_line(line) or ends_with_colon(line) or (is_new and instructs(line)):
            break
        if begin < group.stop and len(line.text) < SHORT * middle < len(lines[begin].text):
            break
        if is_new and size_of(lines, range(begin, group.stop)) >= middle:
            break
        begin -= 1
    found = range(begin, group.stop)
    return found if found and size_of(lines, found) >= SHORT * middle else None


# --- between blank lines, or a line each ---------------------------------------------------------


def paragraphs(text: str, lines: Sequence[Line]) -> list[Record]:
    """Propose what stands between blank lines, or else each long line."""
    if not lines:
        return []
    groups = _grouped(lines)
    middle = typical([size_of(lines, group) for group in groups])
    if middle < SHORTEST_PASSAGE:
        return []
    has_long = typical([len(line.text) for line in lines]) >= LONG_LINE
    edges = {*range(2), *range(len(groups) - 2, len(groups))}
    groups = [
        part
        for at, group in enumerate(groups)
        for part in _without_frames(lines, group, middle, has_long and at in edges)
    ]
    groups = _with_titles(lines, _even(lines, groups), middle)
    titled = sum(_is_titled(lines, group) for group in groups) > 0.6 * len(groups)

    on_one = sum(len(group) == 1 for group in groups) > 0.6 * len(groups)

    def is_frame(group: range) -> bool:
        is_alike = titled and _is_titled(lines, group)
        if on_one and len(group) > 1:  # what others are on one line is none of these
            return all(len(lines[at].text) <= SHORT * middle for at in group)
        return _is_frame(lines, group, middle, TINY if is_alike else SHORT)

    first, last = 0, len(groups)
    while first < last and is_frame(groups[first]):
        first += 1
    while last > first and is_frame(groups[last - 1]):
        last -= 1
    if last - first < FEWEST:
        return []
    made = [plain_record(text, lines, group) for group in groups[first:last]]
    if not any(_LABEL.match(text, record.start) for record in made[1:]):
        made[0] = _behind_label(text, made[0])
    return made


_LABEL: Final = re.compile(r"\W{0,3}[^\W\d_][^\n:：.!?]{0,30}[:：]\s")


def _behind_label(text: str, record: Record) -> Record:
    """Before the first passage a label may stand on the same line."""
    found = _LABEL.match(text, record.start) if record.body == record.start else None
    if found is None or record.tail - found.end() < SHORTEST_PASSAGE:
        return record
    return Record(found.end(), found.end(), record.tail, record.end)


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
    if is_wrapped or longest <= 0.7 * lines[-1].end:
        return groups
    return [range(at, at + 1) for at in range(len(lines))]


def _without_frames(
    lines: Sequence[Line], group: range, middle: int, has_long: bool
) -> list[range]:
    """Cut rules and tags off a paragraph, and where lines are not wrapped labels and questions."""
    parts: list[range] = []
    first = group.start
    for at in group:
        line = lines[at]
        asks = line.text.endswith((":", "：", "?", "？", "؟")) or key_mark(line) is not None
        if is_frame_line(line) or (has_long and asks and len(line.text) < SHORT * middle):
            if at > first:
                parts.append(range(first, at))
            parts.append(range(at, at + 1))
            first = at + 1
    if first < group.stop:
        parts.append(range(first, group.stop))
    return parts


def _even(lines: Sequence[Line], groups: list[range]) -> list[range]:
    """Where paragraphs have a title each, what stands on more lines above the first is none."""
    (usual, count), *_ = Counter(map(len, groups)).most_common(1)
    first = groups[0]
    begin = first.stop - usual
    if not (1 < usual < len(first) and count > 0.6 * len(groups) and is_title(lines[begin])):
        return groups
    return [range(first.start, begin), range(begin, first.stop), *groups[1:]]


def _with_titles(lines: Sequence[Line], groups: list[range], middle: int) -> list[range]:
    """Where short paragraphs and long ones take turns, the short ones are titles."""

    def is_short(group: range) -> bool:
        line = lines[group[0]]
        return len(group) == 1 and is_title(line) and len(line.text) <= SHORT * middle

    def is_long(group: range) -> bool:
        return size_of(lines, group) >= SHORT * middle

    pairs = sum(1 for a, b in pairwise(groups) if is_short(a) and is_long(b))
    if pairs < 3 or pairs < 0.6 * sum(map(is_long, groups)):
        return groups
    made: list[range] = []
    for group in groups:
        if made and is_long(group) and is_short(made[-1]):
            made[-1] = range(made[-1].start, group.stop)
        else:
            made.append(group)
    return made


TINY: Final = 0.15
"""The same as :data:`SHORT` of what looks like the passages otherwise."""


def _is_titled(lines: Sequence[Line], group: range) -> bool:
    return len(group) > 1 and is_title(lines[group[0]]) and not ends_with_colon(lines[group[0]])


def _is_frame(lines: Sequence[Line], group: range, middle: int, short: float) -> bool:
    """Whether a paragraph at the edge is no passage: short, a mark, or it tells what to do."""
    size, last = size_of(lines, group), lines[group[-1]]
    if size < short * middle or is_frame_line(last):
        return True
    asks = last.text.endswith((":", "：", "?", "？", "؟")) or instructs(lines[group[0]])
    return size < 0.7 * middle and asks


# --- one page -------------------------------------------------------------------------------------


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
    if first >= last:
        first, last = 0, len(groups)
    if first >= min(last, len(groups)):
        return Page(0, len(text))
    kept = range(groups[first].start, groups[last - 1].stop)
    blocks = _blocks(lines, kept)
    if not blocks:  # nothing but marks
        return Page(0, len(text))
    first, last = _trimmed(text, lines, blocks)
    first, last = _announced(lines, blocks, first, last)
    if first >= min(last, len(blocks)):
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
    runs = _runs(lines, among)
    for at in among[1:]:
        above, line = lines[at - 1], lines[at]
        if (
            above.paragraph != line.paragraph
            or _is_alone(above)
            or _is_alone(line)
            or ends_with_colon(above)
            or (at in runs) != (at - 1 in runs)
            or (at not in runs and _labels(line))
            or (at == among.stop - 1 and _is_open(line))
        ):
            made.append(range(first, at))
            first = at
    return [*made, range(first, among.stop)]


def _is_open(line: Line) -> bool:
    """Whether a line ends in a sign that something must follow."""
    return line.text.endswith((":", "：", "=", "→", "->", "=>"))


def _runs(lines: Sequence[Line], among: range) -> frozenset[int]:
    """Return the lines that begin alike, with a sign or a label, as most of their paragraph."""
    found: set[int] = set()
    for _, group in groupby(among, key=lambda at: lines[at].paragraph):
        ats = list(group)
        kinds = [_beginning(lines[at]) for at in ats]
        kind, count = Counter(kinds).most_common(1)[0]
        if kind and count >= max(_FEWEST_OF_RUN, _MOST_OF_RUN * len(ats)):
            alike = [at for at, other in zip(ats, kinds, strict=True) if other == kind]
            found |= set(range(alike[0], alike[-1] + 1))
    return frozenset(found)


def is_one_list(lines: Sequence[Line]) -> bool:
    """Whether most lines of a text are the items of one list, each with the same sign."""
    run = _runs(lines, range(len(lines)))
    items = [
        lines[at] for at in run if not (lines[at].text[0].isalnum() or lines[at].text[0] in _OPENS)
    ]
    paragraphs = Counter(line.paragraph for line in items)
    return max(paragraphs.values(), default=0) >= _MOST_OF_RUN * len(lines)


_OPENS: Final = "<|{[(\"'`#"
"""Signs with which data and markup begin rather than an item."""
_FEWEST_OF_RUN: Final = 4
_MOST_OF_RUN: Final = 0.7


def _beginning(line: Line) -> str:
    """Return what lines of one run have in common: their first sign, a number, or a label."""
    if not line.text[0].isalnum():
        return line.text[0]
    return next((mark.kind for mark in line.marks if mark.kind in ("number", "key")), "")


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
    sizes = [size_of(lines, block) for block in blocks]
    longest = max(kept, key=sizes.__getitem__, default=first)
    if len(kept) < 2:
        return first, last
    size, opening = sizes[longest], blocks[longest][0]
    before, behind = sum(sizes[first:longest]), sum(sizes[longest + 1 : last])
    if _labels(lines[opening]) and before <= size:
        first = longest
    above = lines[opening - 1] if opening else None
    if above is None or before + behind > size:
        return first, last
    is_set_apart = ends_with_colon(above) or is_frame_line(above)
    if is_set_apart or (
        heading_of(above) and _is_unlike(lines, blocks[longest], blocks[first:last])
    ):
        return longest, longest + 1
    return first, last


def _is_unlike(lines: Sequence[Line], block: range, among: Sequence[range]) -> bool:
    """Whether a block is the only one that has long lines."""
    return [other for other in among if any(len(lines[at].text) >= LONG_LINE for at in other)] == [
        block
    ]


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
        or (_is_open(closing) and size <= LONGEST_CUE)
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
