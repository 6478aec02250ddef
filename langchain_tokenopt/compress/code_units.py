"""Cut code into functions, classes and statements that are whole, so that what is left parses."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.unit import Unit

__all__ = ["code_units", "is_balanced", "parsed_python"]

LONGEST_WHOLE_CODE: Final = 500
"""Characters. Longer functions may be kept as their signature, longer classes by method."""

_warnings_lock = threading.Lock()


def code_units(text: str, start: int, end: int, units: list[Unit], head: int = -1) -> None:
    r"""Add the units of the code ``text[start:end]``.

    Python is cut by its syntax tree. Of other languages, blocks between blank lines that no bracket
    spans are units; classes are cut into their members. What is neither is one unit.

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
    tree = parsed_python(code)
    if tree is not None:
        _PythonUnits(code, start, units).add(tree.body, 0, len(code), head)
    else:
        _block_units(code, start, units, head)


# --- Python --------------------------------------------------------------------------------------


def parsed_python(code: str) -> ast.Module | None:
    """Return the syntax tree of *code*, or ``None`` if it is no Python.

    Example:
        >>> parsed_python("x = 1") is None, parsed_python("let x = 1;") is None
        (False, True)
    """
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


_LINE_END: Final = re.compile(r"\r\n|\r|\n")


class _PythonUnits:
    """Adds the statements of a module, and those of its long classes, as units."""

    def __init__(self, code: str, shift: int, units: list[Unit]) -> None:
        self._code = code
        self._shift = shift
        self._units = units
        self._lines = [0, *(match.end() for match in _LINE_END.finditer(code)), len(code)]

    def add(self, body: Sequence[ast.stmt], start: int, end: int, head: int) -> None:
        """Add the statements of *body*, which cover the code from *start* to *end*."""
        cuts = list(self._cuts(body, start, end))
        for (statement, cut), after in zip(cuts, [*(c for _, c in cuts[1:]), end], strict=True):
            self._add_statement(statement, cut, after, head)
        if not cuts:
            self._unit(start, end, head)

    def _cuts(
        self, body: Sequence[ast.stmt], start: int, end: int
    ) -> Iterator[tuple[ast.stmt, int]]:
        """Yield statements with where they begin: at the end of the line of the one before.

        Blank lines belong to the statement before them, comments to the one after. Imports that
        follow each other are one piece, and so are statements on one line.
        """
        last_line, was_import = 0, False
        for statement in body:
            is_import = isinstance(statement, ast.Import | ast.ImportFrom)
            if last_line == 0:
                yield statement, start
            elif self._begins_a_line(statement) and not (was_import and is_import):
                yield statement, self._behind_blanks(self._lines[last_line], end)
            last_line, was_import = statement.end_lineno or 1, is_import

    def _begins_a_line(self, statement: ast.stmt) -> bool:
        at = self._lines[_first_line(statement) - 1]
        decorators = getattr(statement, "decorator_list", ())
        indent = self._indent(_first_line(statement))
        sign = 1 if decorators else 0
        return len(indent) + sign == min(
            [statement.col_offset + sign, *(d.col_offset for d in decorators)]
        ) and not self._code[:at].rstrip("\r\n").endswith("\\")

    def _indent(self, line: int) -> str:
        at = self._lines[line - 1]
        found = _INDENT.match(self._code, at)
        return found.group() if found else ""

    def _behind_blanks(self, at: int, end: int) -> int:
        while at < end:
            line_end = _LINE_END.search(self._code, at, end)
            after = line_end.end() if line_end else end
            if self._code[at:after].strip():
                break
            at = after
        return at

    def _unit(self, start: int, end: int, head: int) -> int:
        self._units.append(Unit(start + self._shift, end + self._shift, "code", head=head))
        return len(self._units) - 1

    def _add_statement(self, statement: ast.stmt, start: int, end: int, head: int) -> None:
        opening = self._opening(statement) if end - start > LONGEST_WHOLE_CODE else None
        if opening is None:
            self._unit(start, end, head)
            return
        cut, rest = opening
        inner = self._unit(start, cut, head)
        if isinstance(statement, ast.ClassDef):
            self.add(rest, cut, end, inner)
        else:
            self._unit(cut, end, inner)

    def _opening(self, statement: ast.stmt) -> tuple[int, Sequence[ast.stmt]] | None:
        """Return where what may stand alone of a class or function ends, and what follows.

        That is the signature with the docstring, or with the first member of a class. A function
        without a docstring is whole: its signature alone is no code.
        """
        if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        first, *rest = statement.body
        is_class = isinstance(statement, ast.ClassDef)
        if not (is_class or ast.get_docstring(statement, clean=False)):
            return None
        line = first.end_lineno or 1
        if not rest or not self._begins_a_line(rest[0]) or _first_line(rest[0]) <= line:
            return None
        return self._behind_blanks(self._lines[line], len(self._code)), rest


_INDENT: Final = re.compile(r"[ \t\f]*")


def _first_line(statement: ast.stmt) -> int:
    decorators: Sequence[ast.expr] = getattr(statement, "decorator_list", ())
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


# --- other languages -----------------------------------------------------------------------------

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


def is_balanced(code: str) -> bool:
    """Say whether every bracket of *code* outside of strings and comments has its partner.

    Example:
        >>> is_balanced('f("(")'), is_balanced("f(")
        (True, False)
    """
    return _depths(code) is not None


_BLANKS: Final = re.compile(r"\n(?:[ \t]*\r?\n)+")
_CONTINUES: Final = re.compile(
    r"[)\]}]|(?:else|elif|elsif|catch|except|finally|end|esac|fi|done)\b"
)
_CONTAINER: Final = re.compile(
    r"\b(?:class|interface|struct|enum|trait|impl|namespace|module|object|mod|protocol|extension"
    r"|record|union|contract|service|message|type)\b[^;(){}]*$"
)


def _block_units(code: str, shift: int, units: list[Unit], head: int) -> None:
    tokens = _depths(code)
    if tokens is not None:
        _add_blocks(code, 0, len(code), 0, tokens, shift, units, head)
        return
    cuts = [0, *_column_cuts(code), len(code)]
    for begin, finish in pairwise(cuts):
        piece = code[begin:finish]
        tokens = _depths(piece)
        if tokens is None:
            units.append(Unit(begin + shift, finish + shift, "code", head=head))
        else:
            _add_blocks(piece, 0, len(piece), 0, tokens, begin + shift, units, head)


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


def _add_blocks(
    code: str, start: int, end: int, depth: int, tokens: list[tuple[int, int, int]], shift: int,
    units: list[Unit], head: int,
) -> None:  # fmt: skip
    cuts = [start, *_block_cuts(code, start, end, depth, tokens), end]
    for begin, finish in pairwise(cuts):
        members = None
        if depth == 0 and finish - begin > LONGEST_WHOLE_CODE:
            if _add_rows(code, begin, finish, tokens, shift, units, head):
                continue
            members = _members(code, begin, finish, tokens)
        if members is None:
            pieces = [begin, *_statement_cuts(code, begin, finish, depth, tokens), finish]
            units += [Unit(a + shift, b + shift, "code", head=head) for a, b in pairwise(pieces)]
            continue
        first, last = members
        opening = len(units)
        units.append(Unit(begin + shift, first + shift, "code", head=head, frame=True))
        _add_blocks(code, first, last, 1, tokens, shift, units, opening)
        units.append(Unit(last + shift, finish + shift, "code", bound=opening, frame=True))


_VALUES: Final = re.compile(r"\s*(?:INSERT|REPLACE) INTO\b[^;']*?\bVALUES\s*", re.IGNORECASE)
_ROW_END: Final = re.compile(r"\s*,\s*(?=\()")


def _add_rows(
    code: str, begin: int, finish: int, tokens: list[tuple[int, int, int]], shift: int,
    units: list[Unit], head: int,
) -> bool:  # fmt: skip
    """Add one statement of SQL that inserts rows, with each row as a unit."""
    opening = _VALUES.match(code, begin, finish)
    if opening is None:
        return False
    inside = tokens[bisect_left(tokens, (opening.end(),)) : bisect_left(tokens, (finish,))]
    ends = [token[1] for token in inside if token[2] == 0 and code[token[0]] == ")"]
    cuts = [(end, found.end()) for end in ends if (found := _ROW_END.match(code, end, finish))]
    if not cuts or code[ends[-1] : finish].strip() not in ("", ";"):
        return False
    at = len(units)
    units.append(Unit(begin + shift, opening.end() + shift, "code", head=head, frame=True))
    for a, b in pairwise([opening.end(), *(cut for _, cut in cuts), ends[-1]]):
        units.append(Unit(a + shift, b + shift, "code", head=at))
    units.append(Unit(ends[-1] + shift, finish + shift, "code", bound=at, frame=True))
    return True


_REMARK: Final = re.compile(r"[ \t]*(?://|/\*|\*|--[ \t]|#+(?:[ \t]|\r?\n))")
_BLANK_LINES: Final = re.compile(r"(?:[ \t]*\r?\n)+")
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


def _statement_cuts(
    code: str, start: int, end: int, depth: int, tokens: list[tuple[int, int, int]]
) -> Iterator[int]:
    """Yield where lines of a long block end that are statements, or the remarks above them."""
    if end - start <= LONGEST_WHOLE_CODE // 4:
        return
    at = bisect_left(tokens, (start,))
    now, directives = tokens[at - 1][2] if at else 0, 0
    margin = _indent(code, start, end)
    guards = _guards(code, start, end)
    line, remarks = start, True
    while 0 < (cut := code.find("\n", line, end) + 1) < end:
        blanks = _BLANK_LINES.match(code, cut, end)
        cut = blanks.end() if blanks else cut
        while at < len(tokens) and tokens[at][1] <= cut:
            now = tokens[at][2]
            at += 1
        inside = at < len(tokens) and tokens[at][0] < cut
        body = code[line:cut].strip()
        directive = _DIRECTIVE.match(body)
        if directive and line not in guards:
            directives += bool(directive["opens"]) - bool(directive["closes"])
        was_remark, remarks = remarks, remarks and _REMARK.match(code, line) is not None
        whole = body.endswith((";", "}")) or bool(
            directive and directive["states"] and not body.endswith("\\")
        )
        is_apart = not inside and now == depth and not directives
        follows = code[cut : min(cut + 80, end)]
        if cut == end:
            return
        if (
            is_apart
            and _indent(code, cut, end) <= margin
            and not _CONTINUES.match(follows.lstrip(" \t"))
            and not follows.lstrip(" \t").startswith("{")
            and (whole or (was_remark and remarks and not _REMARK.match(follows)))
        ):
            yield cut
        line = cut


def _block_cuts(
    code: str, start: int, end: int, depth: int, tokens: list[tuple[int, int, int]]
) -> Iterator[int]:
    """Yield where blank lines end at which only *depth* brackets are open.

    The line after them must not be indented more than the first one, nor go on with a block.
    """
    indent = _indent(code, start, end)
    at = bisect_left(tokens, (start,))
    now = tokens[at - 1][2] if at else 0
    for blanks in _BLANKS.finditer(code, start, end):
        cut = blanks.end()
        while at < len(tokens) and tokens[at][1] <= cut:
            now = tokens[at][2]
            at += 1
        inside = at < len(tokens) and tokens[at][0] < cut
        body = code[cut : cut + 200].lstrip(" \t")
        if (
            start < cut < end
            and not inside
            and now == depth
            and _indent(code, cut, end) <= indent
            and not _CONTINUES.match(body)
        ):
            yield cut


def _indent(code: str, at: int, end: int) -> int:
    while at < end and code[at] in "\r\n":
        at += 1
    begin = at
    while at < end and code[at] in " \t":
        at += 1
    return at - begin


def _members(
    code: str, begin: int, finish: int, tokens: list[tuple[int, int, int]]
) -> tuple[int, int] | None:
    """Return where the members of the one class in ``code[begin:finish]`` begin and end."""
    inside = tokens[bisect_left(tokens, (begin,)) : bisect_left(tokens, (finish,))]
    opened = next((t for t in inside if t[2] == 1 and code[t[0]] == "{"), None)
    closed = [t for t in inside if t[2] == 0 and code[t[0]] == "}"]
    if opened is None or len(closed) != 1:
        return None
    line = code.rfind("\n", 0, opened[0]) + 1
    first = code.find("\n", opened[1], finish) + 1
    last = code.rfind("\n", begin, closed[0][0]) + 1
    if not _CONTAINER.search(code, max(line, begin), opened[0]) or not opened[0] < first < last:
        return None
    if any(first > token[1] > opened[1] and token[2] != 1 for token in inside):
        return None
    return first, last
