"""Where an answer may end: after a sentence, a list item, a table row, a line of code.

:class:`Scanner` reads Markdown one character at a time, so that it makes no difference in what
pieces a stream comes, and says afterwards where a unit has ended. It knows what is still open
there (fences, emphasis, quotation marks, elements of HTML) and how to close it.

Block structure follows CommonMark 0.31 with GitHub's tables. Sentences end where
:mod:`langchain_tokenopt.text.sentences` says. What has been read is not read again, whatever comes:
of a line only so much is kept as is needed to tell what kind of line it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from langchain_tokenopt.limits.elements import Elements, OpenElements, closing_elements
from langchain_tokenopt.limits.open_marks import InlineMarks, OpenInline
from langchain_tokenopt.text.sentences import (
    AFTER_END,
    CJK_ENDS,
    ENDS,
    begins_sentence,
    is_abbreviation,
    is_before_number,
    is_letter_behind,
    may_be_ordinal,
)
from langchain_tokenopt.text.words import extends

__all__ = ["Boundary", "OpenParts", "Scanner", "closing_of"]

LONGEST_HEAD: Final = 200
"""Characters of a line by which its kind has to show: what goes on longer is text."""


class OpenParts(NamedTuple):
    """What is open at one place of the text."""

    inline: OpenInline
    elements: OpenElements
    fence: str
    """The line that closes the code block; empty outside of one."""
    head: tuple[str, str] | None
    """Prefix and rest of a line whose kind is not yet known."""
    in_row: bool

    def closers(self, *, block: bool) -> str:
        """Return what must follow if the text ends here.

        Args:
            block: True at a block's end, where emphasis is closed or never will be.
        """
        fence = self.fence
        if self.head is not None:
            fence = _fence_after(fence, *self.head)
        if fence:
            after = closing_elements(self.elements)
            return f"\n{fence}" + (f"\n{after}" if after else "")
        if block:
            return closing_elements(self.elements)
        inline = self.inline.settled() if self.inline.run_mark else self.inline
        closed = "`" * inline.code + (")" if inline.in_address else "")
        row = " |" if self.in_row else ""
        return closed + closing_elements(self.elements, inline.innermost) + row


def _fence_after(fence: str, prefix: str, body: str) -> str:
    """Return the fence that is open behind a line which ends here."""
    if fence:
        is_end = _FENCE_END.fullmatch(body) and len(body.strip()) >= len(fence.strip("> \t"))
        return "" if is_end and body[0] == fence[-1] else fence
    found = _FENCE.match(body)
    if found is None or "`" in body[found.end() :]:
        return ""
    return prefix + found.group()


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place where the text may end."""

    at: int
    """Offset behind the last character of the unit; what separates it from the next comes after."""
    block: bool
    """True at the end of an item, row, line of code or paragraph; false between sentences."""
    open: OpenParts

    def closers(self) -> str:
        """Return what must follow if the text ends here."""
        return self.open.closers(block=self.block)


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
    open: OpenParts
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

_ITEM = re.compile(r"(?:[-+*•◦▪●○■‣]|\d{1,9}[.)])[ \t]")
_ITEM_BEGUN = re.compile(r"[-+•◦▪●○■‣]|\d{1,9}[.)]?")
_HEADING = re.compile(r"#{1,6}[ \t]")
_FENCE = re.compile(r"`{3,}|~{3,}")
_FENCE_END = re.compile(r"(?:`+|~+)[ \t]*")
_JSON_INFO = re.compile(r"(?:`+|~+)[ \t]*(?:geo)?json[5c]?\b", re.IGNORECASE)
_FENCE_IN_LINE = re.compile(r"`{3,}json[5c]?", re.IGNORECASE)
"""Models write it behind a word, and parsers read what follows."""
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


# --- the scanner ---------------------------------------------------------------------------------

_ENDS_BLOCK: Final = frozenset({_Line.HEADING, _Line.ROW, _Line.RULE, _Line.FENCE_END})
_KEPT_WITH_NEXT: Final = frozenset({_Line.HEADING, _Line.UNDERLINE, _Line.RULE, _Line.FENCE})


class Scanner:
    """Finds the places where a text may end."""

    def __init__(self) -> None:
        self._at = 0
        self._head: str | None = ""
        """The beginning of a line whose kind is not yet known, without its prefix."""
        self._prefix: list[str] = []
        """Spaces and quotation marks of e-mails at the beginning of the line."""
        self._spaces = 0
        """How many spaces have ended the prefix so far."""
        self._line = self._previous = _Line.BLANK
        self._quoted = self._was_quoted = False
        self.content_end = 0
        """Where the text ends so far, spaces left out."""
        self._ended_before = 0
        """Where the lines before this one have ended."""
        self._container: int | None = None
        """After a list marker: the spaces that later lines of the item begin with."""
        self._in_item = False
        self._in_table = False
        self._fence = ""
        self._fence_prefix = ""
        self._json: bool | None = None
        """Whether the open code block holds JSON; ``None`` until its first line tells."""
        self._inline = InlineMarks()
        self._elements = Elements()
        self._held_from = 0
        self._token = self._word_before = ""
        self._last = ""
        self._candidate: _Candidate | None = None

    @property
    def pending(self) -> int | None:
        """Where a unit ends if what comes next says so; ``None`` when nothing is open."""
        return None if self._candidate is None else self._candidate.at

    @property
    def holds_from(self) -> int | None:
        """Where a tag or formula begins that has not ended; the text should not end in it."""
        return None if self._elements.since is None else self._held_from

    @property
    def ended_element(self) -> bool:
        """Whether the last character has ended a tag or formula."""
        return self._elements.ended

    @property
    def in_json(self) -> bool:
        """Whether a code block of JSON is open, which is worth nothing in part."""
        return bool(self._fence) and self._json is True

    @property
    def open(self) -> OpenParts:
        """What is open here."""
        return OpenParts(
            self._inline.open,
            self._elements.open,
            self._fence_prefix + self._fence if self._fence else "",
            (self._prefix_of_fence, self._head) if self._head else None,
            self._line is _Line.ROW,
        )

    @property
    def _prefix_of_fence(self) -> str:
        """What later lines of a code block that opens here begin with."""
        container = self._container
        return "".join(self._prefix) if container is None else " " * container

    def read(self, char: str) -> Boundary | None:
        """Take the next character; return the boundary that it proves, which lies before it."""
        at, self._at = self._at, self._at + 1
        if char == "\n":
            return self._end_line()
        before = self.content_end
        if not char.isspace():
            self.content_end, self._last = at + 1, char
        if self._head is None:
            return self._read_content(char, at, before)
        if not self._head and self._is_prefix(char):
            self._prefix.append(char)
            return None
        self._head += char
        line = self._kind_of_head(ended=False)
        if line is None and len(self._head) > LONGEST_HEAD:
            line = _Line.CODE if self._fence else _Line.TEXT
        return None if line is None else self._begin_content(line)

    def end(self) -> Boundary | None:
        """Return the boundary at the very end of a text that was broken off, if there is one."""
        candidate = self._candidate
        if candidate is None or candidate.keep or candidate.at != self.content_end:
            return None
        if candidate.terminal or (candidate.line_end and self._previous != _Line.TEXT):
            return Boundary(candidate.at, not candidate.terminal, candidate.open)
        return None

    # Lines

    def _is_prefix(self, char: str) -> bool:
        """Whether *char* still belongs to the indentation of a line, or quotes it."""
        if char in " \t":
            self._spaces += 1
            return True
        if char == ">" and (self._spaces <= 1 or ">" not in self._prefix):
            self._spaces = 0
            return True
        return False

    def _kind_of_head(self, *, ended: bool) -> _Line | None:
        body = self._head or ""
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
        body, self._head = self._head or "", None
        self._quoted = ">" in self._prefix
        boundary = self._settle_line_end(line, body[:1])
        if self._container is not None and line is _Line.TEXT:
            line = _Line.ITEM
        self._line = line
        self._enter(line, body)
        if line is _Line.FENCE:
            self._open_fence(body)
        elif line is _Line.ITEM and (marker := _ITEM.match(body)) and self._head is None:
            self._after_marker(body, marker.end())
        elif line is _Line.CODE:
            if self._json is None and body.strip():
                self._json = body.lstrip()[0] == "{"
        elif line is not _Line.FENCE_END:
            before = self._ended_before
            for offset, char in enumerate(body, self._at - len(body)):
                boundary = self._read_content(char, offset, before) or boundary
                before = before if char.isspace() else offset + 1
        return boundary

    def _after_marker(self, body: str, length: int) -> None:
        """Look at what follows a list marker as at the beginning of a line: it may be a fence."""
        marker = len(self._prefix) + length
        self._container = min((self._container or 0) + marker, LONGEST_HEAD)
        self._begin_line()
        for char in body[length:]:
            self._head = (self._head or "") + char
            line = self._kind_of_head(ended=False)
            if line is not None:
                self._begin_content(line)

    def _enter(self, line: _Line, body: str) -> None:
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
            self._token = self._word_before = ""

    def _open_fence(self, body: str) -> None:
        found = _FENCE.match(body)
        assert found is not None
        self._fence = found.group()
        self._fence_prefix = self._prefix_of_fence
        info = body[found.end() :].strip()
        self._json = (_JSON_INFO.match(body) is not None) if info else None

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
            return Boundary(candidate.at, True, candidate.open)
        ends = candidate.terminal and not self._in_item and candidate.is_followed_by(first)
        return Boundary(candidate.at, False, candidate.open) if ends else None

    def _end_line(self) -> Boundary | None:
        boundary = None
        if self._head is not None:
            line = self._kind_of_head(ended=True)
            assert line is not None
            if line is _Line.BLANK and self._container is None:
                return self._blank_line()
            if line is not _Line.BLANK:
                boundary = self._begin_content(line)
        if not self._in_code:
            opens = _FENCE_IN_LINE.fullmatch(self._token) if self._inline.code else None
            boundary = self._read_through("\n", self._at - 1, self.content_end) or boundary
            if opens:
                self._fence, self._json = "`" * self._inline.code, True
                self._fence_prefix = ""
                self._line = _Line.FENCE
                self._inline.reset()
        if self._line is _Line.FENCE_END:
            self._fence = ""
        self._mark_line_end()
        self._previous, self._was_quoted = self._line, self._quoted
        self._begin_line()
        self._container = None
        return boundary

    def _begin_line(self) -> None:
        self._head, self._prefix, self._spaces = "", [], 0
        self._ended_before = self.content_end

    def _blank_line(self) -> Boundary | None:
        self._begin_line()
        candidate, self._candidate = self._candidate, None
        self._previous = _Line.BLANK
        self._in_item = self._in_table = False
        self._inline.reset()
        self._elements.end_paragraph()
        if candidate is None or candidate.keep:
            return None
        return Boundary(candidate.at, True, candidate.open)

    def _mark_line_end(self) -> None:
        """The text may end at the end of this line, if the next one says so."""
        before = self._candidate
        if (self.in_json and self._line is _Line.CODE) or self._elements.since is not None:
            self._candidate = None
            return
        self._candidate = _Candidate(
            self.content_end,
            self.open,
            terminal=before is not None and before.terminal and before.at == self.content_end,
            cjk=before is not None and before.cjk,
            before_number=before is not None and before.before_number,
            spaced=True,
            line_end=True,
            keep=self._line in _KEPT_WITH_NEXT
            or (self._line in (_Line.TEXT, _Line.ITEM) and self._last in ":："),
        )

    # Within a line

    @property
    def _in_code(self) -> bool:
        return self._line in (_Line.CODE, _Line.FENCE, _Line.FENCE_END)

    def _read_content(self, char: str, at: int, before: int) -> Boundary | None:
        return None if self._in_code else self._read_through(char, at, before)

    def _read_through(self, char: str, at: int, before: int) -> Boundary | None:
        """Read what is no part of a tag or formula; *before* is where the text ended before it."""
        elements, boundary = self._elements, None
        was_open = elements.since is not None
        self._inline.settle(char)
        passed = char if self._inline.code else elements.read(char, at)
        if elements.since is not None and not was_open:
            self._held_from = before
        if not passed and self._candidate is not None and char != "\n":
            boundary = self._follow_end(char, at)
        for offset, each in enumerate(passed, at + 1 - len(passed)):
            boundary = self._read_text(each, offset) or boundary
        if elements.ended_unit and not self._in_item and self._line is _Line.TEXT:
            self._candidate = _Candidate(at + 1, self.open, terminal=True, cjk=True)
        return boundary

    def _read_text(self, char: str, at: int) -> Boundary | None:
        if self._line is _Line.ROW and char == "|":
            self._inline.reset()
            return None
        self._inline.read(char, at)
        if char == "\n" or self._line is not _Line.TEXT or self._in_item:
            return None
        boundary = self._follow_end(char, at)
        may_end = char in ENDS and self._candidate is None and not self._inline.is_opaque
        if may_end and not (char == "." and self._token_has_stop()):
            self._candidate = _Candidate(
                at + 1,
                self.open,
                terminal=True,
                cjk=char in CJK_ENDS,
                before_number=is_before_number(self._token),
            )
        if not char.isspace():
            self._token = (self._token + char)[-LONGEST_HEAD:]
        elif self._token:
            self._word_before, self._token = self._token, ""
        return boundary

    def _token_has_stop(self) -> bool:
        """Whether a full stop here belongs to the word before it: "Dr.", "z.B.", "am 3."."""
        token = self._token
        if is_letter_behind(token, self._word_before):
            return False
        return is_abbreviation(token) or may_be_ordinal(token)

    def _follow_end(self, char: str, at: int) -> Boundary | None:
        """Settle the end of a sentence by the character after it."""
        candidate = self._candidate
        if candidate is None:
            return None
        if char.isspace():
            candidate.spaced = True
            return None
        if not candidate.spaced and (char in AFTER_END or char in ENDS or extends(char)):
            candidate.at, candidate.open = at + 1, self.open
            candidate.cjk = candidate.cjk or char in CJK_ENDS
            candidate.quoted = candidate.quoted or char in AFTER_END
            return None
        self._candidate = None
        if not (candidate.spaced or candidate.cjk) or not candidate.is_followed_by(char):
            return None
        return Boundary(candidate.at, False, candidate.open)


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
    return scanner.open.closers(block=block)
