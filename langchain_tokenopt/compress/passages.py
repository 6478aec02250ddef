"""What is ranked as a whole: passages, and windows of long ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from langchain_tokenopt.compress.unit import Unit
from langchain_tokenopt.text.words import lowered

__all__ = ["Block", "RankedText", "blocks_of"]

LONGEST_WINDOW = 700
"""Characters; passages longer than two windows are ranked window by window. About the 128 tokens
that Jha et al. 2024 (arXiv 2407.08892) found best."""


LONGEST_TURNS = 1_000
"""The same of turns of a conversation, which say less in as many characters."""

_HUMP: Final = re.compile(r"[A-Z](?:(?<=[a-z].)|(?<=[A-Z].)(?=[a-z]))")

RECORDS: Final = frozenset({"table", "list", "log", "json", "data", "code", "diff"})
"""Kinds of units that say what they say without their neighbours."""


class Block(NamedTuple):
    """A passage, or a window of a long one."""

    first: int
    end: int
    """Units ``first`` to ``end``, the title's among them."""
    title: int | None
    chars: int
    opens: bool = True
    """Whether it begins a passage, with what the passage is about."""
    record: bool = False
    """One of many that are built alike, such as a row of a table."""


class RankedText:
    """All sources as one lower-cased text, and the way from a position to its unit."""

    def __init__(self, texts: Sequence[str], units: Sequence[Unit]) -> None:
        self.texts = texts
        self.units = units
        bases, position = [], 0
        for text in texts:
            bases.append(position)
            position += len(text) + 1
        whole = "\n".join(texts)
        self._whole = whole
        self.lowered = lowered(whole)
        self.starts = [bases[unit.source] + unit.start for unit in units]
        self._marks = {at for at, u in enumerate(units) if u.frame or u.kind == "tag"}
        self.average_chars = sum([u.end - u.start for u in units]) / len(units) + 1

    def hump(self, start: int, end: int) -> int:
        """Return where from *start* on a word begins within a name, as in ``forceTheme``, or -1."""
        found = _HUMP.search(self._whole, start, end)
        return found.start() if found else -1

    def inside(self, block: Block) -> list[int]:
        """Return the units of a block that can hold an answer: neither title nor mark."""
        marks, title = self._marks, block.title
        return [at for at in range(block.first, block.end) if at != title and at not in marks]

    def of_block(self, block: Block) -> str:
        """Return the text of a block as it was written."""
        first, last = self.units[block.first], self.units[block.end - 1]
        return self.texts[first.source][first.start : last.end]


def blocks_of(units: Sequence[Unit]) -> list[Block]:
    """Return the blocks that *units* form, in order."""
    blocks: list[Block] = []
    pairs = enumerate(pairwise(units), 1)
    cuts = [at for at, (a, b) in pairs if a.passage != b.passage or a.source != b.source]
    for first, end in pairwise([0, *cuts, len(units)]):
        inside = units[first:end]
        chars = sum([unit.end - unit.start for unit in inside])
        title = first if _is_title(inside[0]) else end - 1 if _is_title(inside[-1]) else None
        if chars <= 2 * LONGEST_WINDOW and RECORDS.isdisjoint([unit.kind for unit in inside]):
            blocks.append(Block(first, end, title, chars))
        else:
            blocks += _windows(units, first, end, title)
    return blocks


_LONGEST_TITLE = 300
"""Characters; more than that is read as text, in which an answer may stand."""


def _is_title(unit: Unit) -> bool:
    return unit.kind == "heading" and unit.end - unit.start <= _LONGEST_TITLE


def _windows(units: Sequence[Unit], first: int, end: int, title: int | None) -> Iterator[Block]:
    """Cut a passage into windows; a record is one by itself."""
    start, chars = first, 0
    for at in range(first, end):
        if at < start:
            continue  # it stands in the record before
        size = units[at].end - units[at].start
        if units[at].kind in RECORDS:
            if chars:
                yield Block(start, at, title, chars, opens=start == first)
            start, chars = _record_end(units, at, first, end), 0
            size = units[start - 1].end - units[at].start
            named = title if start == at + 1 else at
            yield Block(at, start, named, size, opens=False, record=True)
            continue
        chars += size
        longest = LONGEST_TURNS if units[at].kind == "turn" else LONGEST_WINDOW
        if chars >= longest or at == end - 1:
            yield Block(start, at + 1, title, chars, opens=start == first)
            start, chars = at + 1, 0


def _record_end(units: Sequence[Unit], at: int, first: int, end: int) -> int:
    """A key of an outline and all that is below it are one record, unless it is most of it all."""
    if units[at].kind != "data" or not units[at].frame:
        return at + 1
    below, last = {at}, at + 1
    while last < end and not below.isdisjoint((units[last].head, units[last].bound)):
        below.add(last)
        last += 1
    chars = units[last - 1].end - units[at].start
    everything = units[end - 1].end - units[first].start
    return last if chars <= min(LONGEST_WINDOW, everything // _SEVERAL) else at + 1


_SEVERAL: Final = 3
"""Records that a passage has at least."""
