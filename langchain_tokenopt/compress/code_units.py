"""Cut code into functions, classes and statements that are whole, so that what is left parses."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.indented_blocks import Block, indented_blocks
from langchain_tokenopt.compress.python_units import LONGEST_WHOLE_CODE, python_units
from langchain_tokenopt.compress.unit import Unit

__all__ = ["code_units"]

LONGEST_BODY: Final = 2_000
"""Characters; of what is longer, or all that there is, statements may go, and not only members."""
_LONGEST_REMARK: Final = 400
"""Characters; a longer one, such as a licence, is no part of what stands below it."""


def code_units(text: str, start: int, end: int, units: list[Unit], head: int = -1) -> None:
    r"""Add the units of the code ``text[start:end]``.

    Python is cut by its syntax tree. Of other languages, blocks between blank lines that no bracket
    spans are units; classes, and what is very long, are cut into their members. What is neither is
    one unit.

    Example:
        >>> text = "import os\n\n\ndef f(x):\n    'Add.'\n" + "    x += 1\n" * 99
        >>> units = []
        >>> code_units(text, 0, len(text), units)
        >>> [text[unit.start : unit.end][:23] for unit in units]
        ['import os\n\n\n', "def f(x):\n    'Add.'\n", '    x += 1\n    x += 1\n ']
    """
    if end - start <= LONGEST_WHOLE_CODE // 2:
        units.append(Unit(start, end, "code", head=head))
        return
    code = text[start:end]
    if python_units(code, start, units, head):
        return
    tokens = _depths(code)
    cuts = [0, *(_column_cuts(code) if tokens is None else ()), len(code)]
    for begin, finish in pairwise(cuts):
        piece = code[begin:finish]
        found = _depths(piece) if tokens is None else tokens
        if found is None:
            units.append(Unit(begin + start, finish + start, "code", head=head))
        else:
            _BlockUnits(piece, begin + start, found, units).add(0, len(piece), head)


# --- brackets, strings and comments --------------------------------------------------------------

_STRINGS: Final = r'"""[\s\S]*?"""|' + r"'''[\s\S]*?'''|" + r'"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`'
_QUOTES: Final = (r"'(?:\\.|[^'\\\n])*'", r"'(?:\\[^'\n]+|[^'\\\n])'")
"""In most languages texts, in some single characters beside other uses of the mark."""
_COMMENTS: Final = (r"//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)", r"#[^\n]*", r"--[^\n]*")
_LEXERS: Final = tuple(
    re.compile(f"{comments}|{_STRINGS}|{quotes}|[(){{}}\\[\\]]")
    for comments in _COMMENTS
    for quotes in _QUOTES
)
_SQL_LEXER: Final = re.compile(
    r"--[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|'(?:''|[^'])*+'|\"[^\"]*+\"|[(){}\[\]]"
)
_SQL: Final = re.compile(
    r"\s*(?:--[^\n]*\s*)*(?:(?:INSERT|REPLACE) INTO|CREATE \w+|DROP \w+|ALTER \w+|UPDATE"
    r"|DELETE FROM)\b",
    re.IGNORECASE,
)
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}


def _depths(code: str) -> list[tuple[int, int, int]] | None:
    """Return begin, end and depth behind it of each bracket, string and comment of *code*.

    ``None`` if its brackets do not match, however its strings and comments are read.
    """
    for lexer in (_SQL_LEXER,) if _SQL.match(code) else _LEXERS:
        found = _depths_by(lexer, code)
        if found is not None:
            return found
    return None


def _depths_by(lexer: re.Pattern[str], code: str) -> list[tuple[int, int, int]] | None:
    open_brackets: list[str] = []
    found = []
    for match in lexer.finditer(code):
        token = match.group()
        if token in "([{":
            open_brackets.append(token)
        elif token in _PAIRS and (not open_brackets or open_brackets.pop() != _PAIRS[token]):
            return None
        found.append((match.start(), match.end(), len(open_brackets)))
    return None if open_brackets else found


# --- blocks --------------------------------------------------------------------------------------

_IN_COLUMN: Final = re.compile(r"(?:^|\n)\S[^\n]*\n(?:[ \t]*\r?\n)+(?=[^\s)\]}*])")
_OPEN: Final = re.compile(r'"""|\'\'\'|/\*|\*/|<<-?\s*[\'"]?(\w+)')


def _column_cuts(code: str) -> Iterator[int]:
    """Yield where blank lines end between lines that both begin in the first column.

    So formatters write what is a declaration by itself, whatever brackets a dialect leaves open.
    """
    start, opened = 0, ""
    for blanks in _IN_COLUMN.finditer(code):
        cut = blanks.end()
        for mark in _OPEN.finditer(code, start, cut):
            sign = mark.group()
            if not opened and sign in _CLOSED_BY:
                opened = _CLOSED_BY[sign]
            elif sign == opened:
                opened = ""
        start = cut
        if not opened and not _CONTINUES.match(code, cut):
            yield cut


_CLOSED_BY: Final = {'"""': '"""', "'''": "'''", "/*": "*/"}


_BLANKS: Final = re.compile(r"\n(?:[ \t]*\r?\n)+")
_CONTINUES: Final = re.compile(
    r"[)\]}]|(?:else|elif|elsif|catch|except|finally|end|esac|fi|done)\b"
)
_CONTAINER: Final = re.compile(
    r"\b(?:class|interface|struct|enum|trait|impl|namespace|module|object|mod|protocol|extension"
    r"|record|union|contract|service|message|type|extern|defmodule|package)\b[^;(){}]*[{\s]*$"
)
_BEHIND_CLOSER: Final = re.compile(r"(?:[\w ]*[;,()]*[ \t]*(?://|#|--|/\*)[^\n]*|[\s;,()]*)*")
_VALUES: Final = re.compile(r"\s*(?:INSERT|REPLACE) INTO\b[^;']*?\bVALUES\s*", re.IGNORECASE)
_ROW_END: Final = re.compile(r"\s*,\s*(?=\()")
_REMARK: Final = re.compile(r"[ \t]*(?://|/\*|\*|--[ \t]|#+(?:[ \t]|\r?\n))")
_BLANK_LINES: Final = re.compile(r"(?:[ \t]*\r?\n)+")
_DEEPEST: Final = 8
"""Blocks in each other that are cut into their members."""


def _bracketed(code: str, tokens: list[tuple[int, int, int]]) -> Iterator[Block]:
    """Yield what a bracket opens at the end of a line, and one closes that begins a line."""
    opened: list[tuple[int, int]] = []
    """Where the lines begin and end that open the brackets."""
    for start, end, _ in tokens:
        if code[start] in "([{":
            line = code.find("\n", end) + 1 or len(code)
            opened.append((code.rfind("\n", 0, start) + 1, line))
        elif code[start] in _PAIRS:
            begin, inside = opened.pop()
            close = code.rfind("\n", 0, start) + 1
            if inside <= close and not code[close:start].strip():
                last = code.find("\n", end)
                yield Block(begin, inside, close, len(code) if last < 0 else last)


class _BlockUnits:
    """Adds the blocks of code whose brackets match as units.

    Args:
        code: Of one language other than Python.
        shift: Where it begins in the text.
        tokens: Its brackets, strings and comments.
        units: Where to add.
    """

    def __init__(
        self, code: str, shift: int, tokens: list[tuple[int, int, int]], units: list[Unit]
    ) -> None:
        self._code = code
        self._shift = shift
        self._tokens = tokens
        self._units = units
        blocks = {*indented_blocks(code), *_bracketed(code, tokens)}
        self._blocks = sorted(blocks, key=lambda block: (block.start, -block.end))
        self._block_starts = [block.start for block in self._blocks]
        self._ends = {block.end for block in self._blocks}

    def add(self, start: int, end: int, head: int, level: int = 0) -> None:
        """Add what stands from *start* to *end*, under the unit *head*."""
        depth = self._depth(start)[0]
        for begin, finish in pairwise([start, *self._block_cuts(start, end, depth), end]):
            if finish - begin > LONGEST_WHOLE_CODE:
                if depth == 0 and self._add_rows(begin, finish, head):
                    continue
                if level < _DEEPEST and (block := self._members(begin, finish)):
                    opening = self._unit(begin, block.inside, head, frame=True)
                    self.add(block.inside, block.close, opening, level + 1)
                    self._unit(block.close, finish, bound=opening, frame=True)
                    continue
            for a, b in pairwise([begin, *self._statement_cuts(begin, finish, depth), finish]):
                self._unit(a, b, head)

    def _unit(
        self, start: int, end: int, head: int = -1, bound: int = -1, *, frame: bool = False
    ) -> int:
        start, end = start + self._shift, end + self._shift
        self._units.append(Unit(start, end, "code", head=head, bound=bound, frame=frame))
        return len(self._units) - 1

    def _depth(self, at: int) -> tuple[int, bool]:
        """Return how many brackets are open at an offset, and whether it is in a string."""
        number = bisect_left(self._tokens, (at,)) - 1
        if number < 0:
            return 0, False
        _, end, depth = self._tokens[number]
        return depth, end > at

    def _members(self, begin: int, finish: int) -> Block | None:
        """Return the one block in ``code[begin:finish]`` whose members may go by themselves."""
        code = self._code
        at = bisect_left(self._block_starts, begin)
        if at == len(self._blocks):
            return None
        block = self._blocks[at]
        is_container = 2 * (finish - begin) > len(code) or _CONTAINER.search(
            code, begin, block.inside
        )
        longest = LONGEST_WHOLE_CODE if is_container else LONGEST_BODY
        outside, inside = self._depth(block.start), self._depth(block.inside)
        if (
            block.end > finish
            or block.close - block.inside < longest // 2
            or finish - begin <= longest
            or not _BEHIND_CLOSER.fullmatch(code, block.end, finish)
            or inside[1]
            or inside != self._depth(block.close)
            or outside[0] > inside[0]
        ):
            return None
        return block

    def _add_rows(self, begin: int, finish: int, head: int) -> bool:
        """Add one statement of SQL that inserts rows, with each row as a unit."""
        code = self._code
        opening = _VALUES.match(code, begin, finish)
        if opening is None:
            return False
        first, last = (bisect_left(self._tokens, (at,)) for at in (opening.end(), finish))
        inside = self._tokens[first:last]
        ends = [token[1] for token in inside if token[2] == 0 and code[token[0]] == ")"]
        cuts = [(end, found.end()) for end in ends if (found := _ROW_END.match(code, end, finish))]
        if not cuts or code[ends[-1] : finish].strip() not in ("", ";"):
            return False
        at = self._unit(begin, opening.end(), head, frame=True)
        for a, b in pairwise([opening.end(), *(cut for _, cut in cuts), ends[-1]]):
            self._unit(a, b, at)
        self._unit(ends[-1], finish, bound=at, frame=True)
        return True

    def _block_cuts(self, start: int, end: int, depth: int) -> Iterator[int]:
        """Yield where blank lines end at which only *depth* brackets are open.

        The line after them must not be indented more than the first one, nor go on with a block.
        """
        code = self._code
        indent = _indent(code, start, end)
        for blanks in _BLANKS.finditer(code, start, end):
            cut = blanks.end()
            body = code[cut : cut + 200].lstrip(" \t")
            if (
                start < cut < end
                and self._depth(cut) == (depth, False)
                and _indent(code, cut, end) <= indent
                and not _CONTINUES.match(body)
            ):
                yield cut

    def _statement_cuts(self, start: int, end: int, depth: int) -> Iterator[int]:
        """Yield where lines of a long block end that are statements, or long remarks above them."""
        if end - start <= LONGEST_WHOLE_CODE // 4:
            return
        code, directives = self._code, 0
        margin = _indent(code, start, end)
        guards = _guards(code, start, end)
        line, remarks = start, True
        while 0 < (cut := code.find("\n", line, end) + 1) < end:
            stop = cut - 1
            blanks = _BLANK_LINES.match(code, cut, end)
            cut = blanks.end() if blanks else cut
            if cut == end:
                return
            body = code[line:cut].strip()
            directive = _DIRECTIVE.match(body)
            if directive and line not in guards:
                directives += bool(directive["opens"]) - bool(directive["closes"])
            was_remark, remarks = remarks, remarks and _REMARK.match(code, line) is not None
            whole = (
                body.endswith((";", "}"))
                or line + len(code[line:stop].rstrip()) in self._ends
                or bool(directive and directive["states"] and not body.endswith("\\"))
            )
            follows = code[cut : min(cut + 80, end)].lstrip(" \t")
            is_remark = was_remark and remarks and cut - start > _LONGEST_REMARK
            if (
                not directives
                and (whole or (is_remark and not _REMARK.match(follows)))
                and self._depth(cut) == (depth, False)
                and _indent(code, cut, end) <= margin
                and not _CONTINUES.match(follows)
                and not follows.startswith("{")
            ):
                yield cut
            line = cut


_DIRECTIVE: Final = re.compile(
    r"#[ \t]*(?:(?P<opens>if)|(?P<closes>endif)|(?P<states>define|include|undef))"
)
_CONDITION: Final = re.compile(
    r"^[ \t]*#[ \t]*(?:(?P<opens>if)|(?P<turns>el)|(?P<closes>endif))", re.MULTILINE
)


def _guards(code: str, start: int, end: int) -> set[int]:
    """Return the lines of conditions around so much, without a second branch, that it may be cut.

    What is never closed is none that anything stands in, either.
    """
    opened: list[int] = []
    found: set[int] = set()
    for line in _CONDITION.finditer(code, start, end):
        if line["opens"]:
            opened.append(line.start())
            found.add(line.start())
        elif not opened:
            found.add(line.start())
        elif line["turns"]:
            found.discard(opened[-1])
        elif line.end() - (first := opened.pop()) <= LONGEST_WHOLE_CODE:
            found.discard(first)
        elif first in found:
            found.add(line.start())
    return found


def _indent(code: str, at: int, end: int) -> int:
    while at < end and code[at] in "\r\n":
        at += 1
    begin = at
    while at < end and code[at] in " \t":
        at += 1
    return at - begin
