"""Where an answer may end: after a sentence, a list item, a table row, a line of code.

:class:`Scanner` reads Markdown one character at a time, so that it makes no difference in what
pieces a stream comes, and says afterwards where a unit has ended. It knows what is still open
there (fences, emphasis, quotation marks) and how to close it.

Block structure follows CommonMark 0.31 with GitHub's tables; emphasis follows its flanking rules
(section 6.2). Sentences end where :mod:`langchain_tokenopt.text.sentences` says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from unicodedata import category

from langchain_tokenopt.text.sentences import (
    AFTER_END,
    CJK_ENDS,
    ENDS,
    begins_sentence,
    is_abbreviation,
    is_before_number,
    may_be_ordinal,
)

__all__ = ["Boundary", "Scanner", "closing_of"]


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place where the text may end."""

    at: int
    """Offset behind the last character of the unit; what separates it from the next comes after."""
    block: bool
    """True at the end of an item, row, line of code or paragraph; false between sentences."""


class _Line(Enum):
    BLANK = auto()
    TEXT = auto()
    ITEM = auto()
    HEADING = auto()
    ROW = auto()
    UNDERLINE = auto()
    RULE = auto()
    FENCE = auto()
    CODE = auto()
    FENCE_END = auto()


@dataclass(slots=True)
class _Candidate:
    """The end of a unit, if what comes next says so."""

    at: int
    terminal: bool = False
    """A sentence ends here."""
    cjk: bool = False
    """It ends with a mark that needs no space after it."""
    quoted: bool = False
    """A quotation mark or bracket has closed after it."""
    spaced: bool = False
    """A space has followed."""
    line_end: bool = False
    before_number: bool = False
    """No sentence ends here when a number follows."""
    keep: bool = False
    """What stands here (a heading, a colon, a table's head) must not come last."""

    def is_followed_by(self, first: str) -> bool:
        """Whether a sentence begins with *first* behind this end of another."""
        return begins_sentence(
            first, after_number_word=self.before_number, after_cjk=self.cjk, quoted=self.quoted
        )


# --- lines ---------------------------------------------------------------------------------------

_PREFIX = re.compile(r"[ \t]*(?:>[ \t]?)*[ \t]*")
_ITEM = re.compile(r"(?:[-+*•◦▪●○■‣]|\d{1,9}[.)])[ \t]")
_ITEM_BEGUN = re.compile(r"[-+•◦▪●○■‣]|\d{1,9}[.)]?")
_HEADING = re.compile(r"#{1,6}[ \t]")
_FENCE = re.compile(r"`{3,}|~{3,}")
_UNDERLINE = re.compile(r"(?=[|:\s]*-)[-:|\s]+|=+\s*")
_RULE = re.compile(r"(?:\*[ \t]*){3,}|(?:_[ \t]*){3,}|(?:-[ \t]+){2,}-[ \t]*")


def _line_of(body: str, ended: bool) -> _Line | None:
    """Say what kind of line begins with *body*; ``None`` while that is open."""
    if not body:
        return _Line.BLANK if ended else None
    if ended:
        return _whole_line(body)
    first = body[0]
    if first in "`~":
        return _fence_line(body)
    if first == "#":
        return _begun(body, "#", _HEADING, _Line.HEADING)
    if first in "-:|=*_" and not body.strip("-:| \t" if first in "-:|" else first + " \t"):
        return None
    if first == "|":
        return _Line.ROW
    if _ITEM.match(body):
        return _Line.ITEM
    return None if _ITEM_BEGUN.fullmatch(body) else _Line.TEXT


def _whole_line(body: str) -> _Line:
    if fence := _FENCE.match(body):
        return _Line.TEXT if "`" in body[fence.end() :] else _Line.FENCE
    if _RULE.fullmatch(body):
        return _Line.RULE
    if _UNDERLINE.fullmatch(body):
        return _Line.UNDERLINE
    if body[0] == "|":
        return _Line.ROW
    if _HEADING.match(body + " "):
        return _Line.HEADING
    return _Line.ITEM if _ITEM.match(body + " ") else _Line.TEXT


def _fence_line(body: str) -> _Line | None:
    """A fence shows as such at the end of its line: "```x```" is code in running text."""
    run = body[: len(body) - len(body.lstrip(body[0]))]
    if len(run) < 3:
        return None if run == body else _Line.TEXT
    return _Line.TEXT if "`" in body[len(run) :] else None


def _begun(body: str, mark: str, whole: re.Pattern[str], line: _Line) -> _Line | None:
    if whole.match(body):
        return line
    return None if not body.strip(mark) and len(body) <= 6 else _Line.TEXT


# --- emphasis, code, quotation marks -------------------------------------------------------------

_PAIRS: Final = {
    "(": ")", "[": "]", "{": "}", "（": "）", "［": "］", "【": "】", "「": "」", "『": "』",
    "《": "》", "〈": "〉", "“": "”", "„": "“", "«": "»", "‹": "›",
}  # fmt: skip
_CLOSING: Final = frozenset(_PAIRS.values())


def _is_punctuation(char: str) -> bool:
    return category(char)[0] in "PS"


class _Inline:
    """What is open within a paragraph."""

    __slots__ = ("_before", "_in_address", "_last", "_run", "code", "stack")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new block."""
        self.stack: list[str] = []
        """What closes everything that is open, the innermost last."""
        self.code = ""
        self._run = ""
        self._before = self._last = " "
        self._in_address = False

    @property
    def is_opaque(self) -> bool:
        """Whether a sentence cannot end here: in code, in a link."""
        return bool(self.code) or self._in_address or "]" in self.stack

    def read(self, char: str) -> None:
        """Take the next character."""
        if self._run and char == self._run[0]:
            self._run += char
            return
        if self._run:
            self._delimit(char)
        if self._last == "\\" and not self.code:
            self._last = " "  # escaped
            return
        if char in "*_~`":
            self._run, self._before = char, self._last
        elif not self.code:
            self._pair(char)
        self._last = char

    def closers(self) -> str:
        """Return what closes everything, as if the text ended here."""
        if self._run:
            self._delimit(" ")
        return self.code + (")" if self._in_address else "") + "".join(reversed(self.stack))

    def _pair(self, char: str) -> None:
        if self._in_address:
            self._in_address = char not in ") \t\n"
        elif char == "(" and self._last == "]":
            self._in_address = True
        elif char in self.stack and (char in _CLOSING or char == '"'):
            del self.stack[len(self.stack) - 1 - self.stack[::-1].index(char) :]
        elif char in _PAIRS:
            self.stack.append(_PAIRS[char])
        elif char == '"' and not self._last.isalnum() and self._last not in ".,!?;:)":
            self.stack.append(char)

    def _delimit(self, after: str) -> None:
        """Decide what a run of marks does, now that the character after it is known."""
        run, self._run = self._run, ""
        mark, before = run[0], self._before
        if mark == "`":
            if not self.code:
                self.code = run
            elif self.code == run:
                self.code = ""
            return
        if self.code or (mark == "~" and run != "~~"):
            return
        opens = not after.isspace() and (
            not _is_punctuation(after) or before.isspace() or _is_punctuation(before)
        )
        closes = not before.isspace() and (
            not _is_punctuation(before) or after.isspace() or _is_punctuation(after)
        )
        if closes and not (mark == "_" and opens and not _is_punctuation(after)):
            run = self._close(run)
        inside_word = before.isalnum() and after.isalnum()
        if run and opens and not inside_word:
            self.stack.append(run)

    def _close(self, run: str) -> str:
        """Close what *run* closes; return what is left of it."""
        while run:
            at = next((i for i in range(len(self.stack))[::-1] if self.stack[i][0] == run[0]), None)
            if at is None:
                break
            opened = self.stack[at]
            del self.stack[at:]
            if len(opened) > len(run):
                self.stack.append(opened[len(run) :])
            run = run[len(opened) :]
        return run


# --- the scanner ---------------------------------------------------------------------------------

_ENDS_BLOCK: Final = frozenset({_Line.HEADING, _Line.ROW, _Line.RULE, _Line.FENCE_END})
_KEPT_WITH_NEXT: Final = frozenset({_Line.HEADING, _Line.UNDERLINE, _Line.RULE, _Line.FENCE})


class Scanner:
    """Finds the places where a text may end."""

    def __init__(self) -> None:
        self._at = 0
        self._head: str | None = ""
        """The beginning of a line whose kind is not yet known."""
        self._line = self._previous = _Line.BLANK
        self._quoted = self._was_quoted = False
        self._content_end = 0
        self._container: str | None = None
        """After a list marker: the spaces that later lines of the item begin with."""
        self._in_item = False
        self._in_table = False
        self._fence = ""
        self._fence_prefix = ""
        self._inline = _Inline()
        self._token = ""
        self._last = ""
        self._candidate: _Candidate | None = None

    @property
    def pending(self) -> int | None:
        """Where a unit ends if what comes next says so; ``None`` when nothing is open."""
        return None if self._candidate is None else self._candidate.at

    def read(self, char: str) -> Boundary | None:
        """Take the next character; return the boundary that it proves, which lies before it."""
        at, self._at = self._at, self._at + 1
        if char == "\n":
            return self._end_line()
        if not char.isspace():
            self._content_end, self._last = at + 1, char
        if self._head is None:
            return self._read_content(char, at)
        self._head += char
        line = self._kind_of_head(ended=False)
        return None if line is None else self._begin_content(line)

    def end(self) -> Boundary | None:
        """Return the boundary at the very end of a text that was broken off, if there is one."""
        candidate = self._candidate
        if candidate is None or candidate.keep or candidate.at != self._content_end:
            return None
        if candidate.terminal or (candidate.line_end and self._previous != _Line.TEXT):
            return Boundary(candidate.at, block=not candidate.terminal)
        return None

    def closers(self, *, block: bool) -> str:
        """Return what must follow if the text ends here. The scanner is of no use afterwards.

        Args:
            block: True at a block's end, where emphasis is closed or never will be.
        """
        if self._head:
            line = self._kind_of_head(ended=True)
            if line is _Line.FENCE:
                self._open_fence(self._head)
            elif line is _Line.FENCE_END:
                self._fence = ""
        if self._fence:
            return f"\n{self._fence_prefix}{self._fence}"
        if block:
            return ""
        return self._inline.closers() + (" |" if self._line is _Line.ROW else "")

    # Lines

    def _kind_of_head(self, *, ended: bool) -> _Line | None:
        assert self._head is not None
        prefix = _PREFIX.match(self._head)
        assert prefix is not None
        body = self._head[prefix.end() :]
        if self._fence:
            mark = body.strip()
            if mark.strip(self._fence[0]) or (ended and len(mark) < len(self._fence)):
                return _Line.CODE
            return _Line.FENCE_END if ended else None
        line = _line_of(body, ended)
        if line is _Line.TEXT and self._in_table:
            return _Line.ROW
        return line

    def _begin_content(self, line: _Line) -> Boundary | None:
        """A line's kind is known: settle how the one before it has ended, then read on."""
        head, self._head = self._head or "", None
        prefix = _PREFIX.match(head)
        body = head[prefix.end() if prefix else 0 :]
        self._quoted = ">" in head[: len(head) - len(body)]
        boundary = self._settle_line_end(line, body[:1])
        if self._container is not None and line is _Line.TEXT:
            line = _Line.ITEM
        self._line = line
        self._enter(line, head, body)
        if line is _Line.FENCE:
            self._open_fence(head)
        elif line is _Line.ITEM and (marker := _ITEM.match(body)) and self._head is None:
            self._after_marker(head, body, marker.end())
        elif line not in (_Line.CODE, _Line.FENCE_END):
            for offset, char in enumerate(body, start=self._at - len(body)):
                self._read_content(char, offset)
        return boundary

    def _after_marker(self, head: str, body: str, length: int) -> None:
        """Look at what follows a list marker as at the beginning of a line: it may be a fence."""
        marker = len(head) - len(body) + length
        self._container = (self._container or "") + " " * marker
        self._head = ""
        for char in body[length:]:
            self._head += char
            line = self._kind_of_head(ended=False)
            if line is not None:
                self._begin_content(line)

    def _enter(self, line: _Line, head: str, body: str) -> None:
        """Note what a line of this kind changes for those after it."""
        if line is _Line.ITEM:
            self._in_item = True
        elif line is not _Line.TEXT:
            self._in_item = False
        if line is _Line.UNDERLINE:
            self._in_table = self._previous in (_Line.ROW, _Line.TEXT) and "|" in body
        elif line is not _Line.ROW:
            self._in_table = False
        continues = line is _Line.TEXT and self._previous in (_Line.TEXT, _Line.ITEM)
        if not continues:
            self._inline.reset()
            self._token = ""

    def _open_fence(self, head: str) -> None:
        found = _FENCE.search(head)
        assert found is not None
        self._fence = found.group()
        self._fence_prefix = head[: found.start()] if self._container is None else self._container

    def _settle_line_end(self, line: _Line, first: str) -> Boundary | None:
        """Decide whether the text may end at the end of the line before."""
        candidate, self._candidate = self._candidate, None
        if candidate is None or candidate.keep:
            return None
        if line is _Line.FENCE_END or (
            line is _Line.UNDERLINE and self._previous in (_Line.TEXT, _Line.ROW)
        ):
            return None
        continues = (
            line is _Line.TEXT
            and self._previous in (_Line.TEXT, _Line.ITEM)
            and not (self._quoted and not self._was_quoted)
        )
        if not continues:
            return Boundary(candidate.at, block=True)
        ends = candidate.terminal and not self._in_item and candidate.is_followed_by(first)
        return Boundary(candidate.at, block=False) if ends else None

    def _end_line(self) -> Boundary | None:
        boundary = None
        if self._head is not None:
            line = self._kind_of_head(ended=True)
            assert line is not None
            if line is _Line.BLANK and self._container is None:
                return self._blank_line()
            if line is not _Line.BLANK:
                boundary = self._begin_content(line)
        self._inline.read("\n")
        self._mark_line_end()
        self._previous, self._was_quoted = self._line, self._quoted
        if self._line is _Line.FENCE_END:
            self._fence = ""
        self._head, self._container = "", None
        return boundary

    def _blank_line(self) -> Boundary | None:
        self._head = ""
        candidate, self._candidate = self._candidate, None
        self._previous = _Line.BLANK
        self._in_item = self._in_table = False
        self._inline.reset()
        if candidate is None or candidate.keep:
            return None
        return Boundary(candidate.at, block=True)

    def _mark_line_end(self) -> None:
        """The text may end at the end of this line, if the next one says so."""
        before = self._candidate
        self._candidate = _Candidate(
            self._content_end,
            terminal=before is not None and before.terminal and before.at == self._content_end,
            cjk=before is not None and before.cjk,
            before_number=before is not None and before.before_number,
            spaced=True,
            line_end=True,
            keep=self._line in _KEPT_WITH_NEXT
            or (self._line in (_Line.TEXT, _Line.ITEM) and self._last in ":："),
        )

    # Within a line

    def _read_content(self, char: str, at: int) -> Boundary | None:
        if self._line in (_Line.CODE, _Line.FENCE, _Line.FENCE_END):
            return None
        if self._line is _Line.ROW and char == "|":
            self._inline.reset()
            return None
        self._inline.read(char)
        if self._line is not _Line.TEXT or self._in_item:
            return None
        boundary = self._follow_end(char, at)
        may_end = char in ENDS and self._candidate is None and not self._inline.is_opaque
        if may_end and not (char == "." and self._token_has_stop()):
            self._candidate = _Candidate(
                at + 1,
                terminal=True,
                cjk=char in CJK_ENDS,
                before_number=is_before_number(self._token),
            )
        self._token = "" if char.isspace() else self._token + char
        return boundary

    def _token_has_stop(self) -> bool:
        """Whether a full stop here belongs to the word before it: "Dr.", "z.B.", "am 3."."""
        return is_abbreviation(self._token) or may_be_ordinal(self._token)

    def _follow_end(self, char: str, at: int) -> Boundary | None:
        """Settle the end of a sentence by the character after it."""
        candidate = self._candidate
        if candidate is None:
            return None
        if char.isspace():
            candidate.spaced = True
            return None
        if not candidate.spaced and (char in AFTER_END or char in ENDS):
            candidate.at = at + 1
            candidate.cjk = candidate.cjk or char in CJK_ENDS
            candidate.quoted = candidate.quoted or char in AFTER_END
            return None
        self._candidate = None
        if not (candidate.spaced or candidate.cjk) or not candidate.is_followed_by(char):
            return None
        return Boundary(candidate.at, block=False)


def closing_of(text: str, *, block: bool) -> str:
    r"""Return what closes everything that *text* leaves open.

    Example:
        >>> closing_of("He **said: “No.", block=False)
        '”**'
        >>> closing_of("```python\nx = 1", block=True)
        '\n```'
    """
    scanner = Scanner()
    for char in text:
        scanner.read(char)
    return scanner.closers(block=block)
