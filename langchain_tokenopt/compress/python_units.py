"""Cut Python by its syntax tree into functions, classes and statements, so that the rest parses."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Final

from langchain_tokenopt.compress.unit import Unit

__all__ = ["LONGEST_WHOLE_CODE", "parsed_python", "python_units"]

LONGEST_WHOLE_CODE: Final = 500
"""Characters. Longer functions may be kept as their signature, longer classes by method."""

_warnings_lock = threading.Lock()


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


def python_units(code: str, shift: int, units: list[Unit], head: int = -1) -> bool:
    r"""Add the units of *code*, moved by *shift*; say whether it is Python.

    Example:
        >>> units = []
        >>> python_units("x = 1\ny = 2\n", 0, units), [(unit.start, unit.end) for unit in units]
        (True, [(0, 6), (6, 12)])
    """
    tree = parsed_python(code)
    if tree is not None:
        _PythonUnits(code, shift, units).add(tree.body, 0, len(code), head)
    return tree is not None


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
