"""What is open at a place in a text, and what closes it: emphasis, quotations, tags, formulas.

Everything that is open stands in a chain of nodes that never change, so a place in the text can be
remembered at no cost, however much is open there; what closes it is written only when it is needed.

Emphasis follows the flanking rules of CommonMark 0.31, section 6.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple
from unicodedata import category

__all__ = ["InlineMarks", "OpenInline", "OpenMark", "closers_of"]

LONGEST_CLOSING: Final = 100
"""Marks to close at most: who opens more is not writing for a reader."""

_PAIRS: Final = {
    "(": ")", "[": "]", "{": "}", "（": "）", "［": "］", "【": "】", "「": "」", "『": "』",
    "《": "》", "〈": "〉", "“": "”", "„": "“", "«": "»", "‹": "›",
}  # fmt: skip
_CLOSING: Final = frozenset(_PAIRS.values()) | {'"'}


@dataclass(frozen=True, slots=True)
class OpenMark:
    """One thing that is open, and what was open around it."""

    mark: str
    """What closes it: a character, or a whole tag."""
    times: int
    """How often *mark* closes it."""
    order: int
    """Greater than that of everything opened before."""
    around: OpenMark | None
    depth: int = 1


def opened(mark: str, order: int, around: OpenMark | None, times: int = 1) -> OpenMark:
    """Return *mark*, opened inside of *around*."""
    return OpenMark(mark, times, order, around, 1 if around is None else around.depth + 1)


def closers_of(*innermost: OpenMark | None) -> str:
    """Return what closes several chains, the last opened first."""
    marks = [mark for chain in innermost for mark in _chain(chain)]
    if len(marks) > LONGEST_CLOSING:
        return ""
    marks.sort(key=lambda mark: -mark.order)
    return "".join(mark.mark * mark.times for mark in marks)


def _chain(mark: OpenMark | None) -> Iterator[OpenMark]:
    for _ in range(LONGEST_CLOSING + 1):
        if mark is None:
            return
        yield mark
        mark = mark.around


class OpenInline(NamedTuple):
    """What is open within a paragraph at one place of it."""

    innermost: OpenMark | None
    code: int
    """Length of the run of backticks that opened code; 0 outside of it."""
    in_address: bool
    run_mark: str
    run_length: int
    before: str
    """The character before a run of marks of which the end was not seen yet."""

    def settled(self) -> OpenInline:
        """Take the run of marks as if the text ended behind it."""
        marks = InlineMarks()
        marks.restore(self)
        marks.settle(" ")
        return marks.open


def _is_punctuation(char: str) -> bool:
    return category(char)[0] in "PS"


class InlineMarks:
    """Reads a paragraph one character at a time, and knows what is open in it."""

    __slots__ = (
        "_before", "_counts", "_in_address", "_last", "_order", "_run", "_run_length",
        "code", "innermost",
    )  # fmt: skip

    def __init__(self) -> None:
        self._order = 0
        self.reset()

    def reset(self) -> None:
        """Begin a new block."""
        self.innermost: OpenMark | None = None
        self._counts: Counter[str] = Counter()
        self.code = 0
        self._run, self._run_length = "", 0
        self._before = self._last = " "
        self._in_address = False

    @property
    def open(self) -> OpenInline:
        """What is open here."""
        return OpenInline(
            self.innermost, self.code, self._in_address, self._run, self._run_length, self._before
        )

    def restore(self, open_: OpenInline) -> None:
        """Go back to a place of the text. For what closes it: of the rest nothing is known."""
        self.reset()
        self.innermost, self.code, self._in_address = open_[:3]
        self._run, self._run_length, self._before = open_[3:]
        for mark in _chain(self.innermost):
            self._counts[mark.mark] += 1

    @property
    def is_opaque(self) -> bool:
        """Whether a sentence cannot end here: in code, in a link."""
        return bool(self.code) or self._in_address or self._counts["]"] > 0

    def read(self, char: str, order: int) -> None:
        """Take the next character; *order* is its offset."""
        self._order = order
        if char == self._run:
            self._run_length += 1
            return
        self.settle(char)
        if self._last == "\\" and not self.code:
            self._last = " "  # escaped
            return
        if char in "*_~`":
            self._run, self._run_length, self._before = char, 1, self._last
        elif not self.code:
            self._pair(char)
        self._last = char

    def settle(self, after: str) -> None:
        """Decide what a run of marks does, if the character after it ends it."""
        mark, length, before = self._run, self._run_length, self._before
        if not mark or mark == after:
            return
        self._run = ""
        if mark == "`":
            if not self.code:
                self.code = length
            elif self.code == length:
                self.code = 0
            return
        if self.code or (mark == "~" and length != 2):
            return
        opens = not after.isspace() and (
            not _is_punctuation(after) or before.isspace() or _is_punctuation(before)
        )
        closes = not before.isspace() and (
            not _is_punctuation(before) or after.isspace() or _is_punctuation(after)
        )
        if closes and not (mark == "_" and opens and not _is_punctuation(after)):
            length = self._close(mark, length)
        inside_word = before.isalnum() and after.isalnum()
        if length and opens and not inside_word:
            self._open(mark, length)

    def _pair(self, char: str) -> None:
        if self._in_address:
            self._in_address = char not in ") \t\n"
        elif char == "(" and self._last == "]":
            self._in_address = True
        elif char in _CLOSING and self._counts[char]:
            self._drop_to(char)
        elif char in _PAIRS:
            self._open(_PAIRS[char], 1)
        elif char == '"' and not self._last.isalnum() and self._last not in ".,!?;:)":
            self._open(char, 1)

    def _open(self, mark: str, times: int) -> None:
        self.innermost = opened(mark, self._order, self.innermost, times)
        self._counts[mark] += 1

    def _drop_to(self, mark: str) -> int:
        """Close everything up to the innermost *mark*, which is open; return its length."""
        while True:
            innermost = self.innermost
            if innermost is None:  # more was open than has been remembered
                self._counts.clear()
                return 0
            self.innermost = innermost.around
            self._counts[innermost.mark] -= 1
            if innermost.mark == mark:
                return innermost.times

    def _close(self, mark: str, length: int) -> int:
        """Close what a run of marks closes; return how much of the run is left."""
        while length and self._counts[mark]:
            times = self._drop_to(mark)
            if times > length:
                self._open(mark, times - length)
            length = max(0, length - times)
        return length
