"""Recognise code that stands in a text without a fence."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from typing import Final

__all__ = ["begins_as_code", "code_end", "is_running_text", "is_text", "statement_end"]

_CODE: Final = re.compile(
    r"(?:async )?def \w+|class \w+[\s(:{]|(?:from [\w.]+ )?import [\w.*{\"(]|@\w[\w.]*(?:\(|$)"
    r"|#include\b|#!/|#!?\[|using [\w:.]+;|package [\w.]+;?$|namespace \w+|func \w*\s*\(|fn \w+"
    r"|(?:export |default )?(?:async )?function\b|(?:export )?(?:const|let|var) \w+\s*[=:]"
    r"|(?:pub|public|private|protected|static|abstract|final|local|export|type|struct|enum|trait"
    r"|interface|object|module|mod|use|fun|sub|proc|data|val|unless|until) [\w<>\[\]:\"']+"
    r"|(?:if|for|while|switch|try|else|elif|elsif|except|finally|catch|with|match|case|when)\b.*"
    r"(?:[:{]|then|do|=>)$"
    r"|return\b[^.]*;?$|\w+(?:[.:]+\w+)*\s*[-+*/|&:?]*=\s*[^=\s].*|\w+(?:[.:]+\w+)*\([^)]*\);?$"
    r"|[)\]}]+[;,]?|end\b|fi$|done$|esac$|else\b"
    r"|SELECT\b.*\b(?:FROM|$)|CREATE (?:TABLE|INDEX)\b|INSERT INTO\b"
    r"|(?:FROM|WHERE|GROUP BY|ORDER BY|HAVING|LIMIT|VALUES|SET|AND|OR|(?:LEFT |INNER )?JOIN)\b"
    r"|.*[;}]$|.*(?<!:)(?<!: )\{$"
)
_CODE_START: Final = re.compile(
    r"\w+ ?= ?[rbf]?(?:\"\"\"|\'\'\')|(?:async )?def \w+\s*\(.*|class \w+[(:{].*"
    r"|class \w+ ?[:{]|(?:from [\w.]+ )?import [\w.*{][\w.*{}, ]*(?: as \w+)?;?$"
    r"|from [\w.]+ import \($"
    r"|@\w[\w.]*(?:\(|$)"
    r"|#include\b|#!/|#!?\[\w+|using [\w:.]+;|package [\w.]+;?$|func \w*\s*\(|fn \w+\s*[(<]"
    r"|(?:export |default )?(?:async )?function\b ?\w*\(|(?:export )?(?:const|let|var) \w+\s*=\s"
    r"|import [\"'{].*[\"'];?$|use [\w:]+(?:::\{?[\w:, {}*]+)?;$"
    r"|SELECT\b.*\b(?:FROM|$)|CREATE (?:TABLE|INDEX)\b|INSERT INTO\b"
)
_OPENS_BLOCK: Final = re.compile(r"(?!.*[.!?] ).*(?:[{(\[]|=>|\bdo|\bthen)$")
_STATEMENT: Final = re.compile(r"(?=.*[=()\[\]<>]).*;$")
_NAMES_BLOCK: Final = re.compile(
    r"(?:module|class|def|defmodule|function|local function|sub|proc|type|struct|enum|trait"
    r"|interface|object) [\w.:<>]+(?: ?[<(:].*)?$"
)
_COMMENT: Final = re.compile(r"#(?!#|\+)|//|/\*|--(?!-)|\"\"\"|'''")
_TRIPLE: Final = re.compile(r'"""|\'\'\'')
_FIRST: Final = re.compile(
    r"\s*(?:#|\"|'|@|[rbuRBU]?\"|import\b|from\b|(?:async )?def\b|class\b|if\b|for\b|while\b|try\b"
    r"|with\b|\w[\w.]* ?(?:[-+*/|&:]?=|\(|:)|\w+\[)"
)
_ANY_START: Final = re.compile(
    r"^(?:(?:async )?def \w+|class \w+|import \w|from [\w.]+ import|@\w|\w[\w.]* ?=|\w[\w.]*\(.*\)$"
    r"|    return\b)",
    re.MULTILINE,
)
_MOST_COMMENTS: Final = 60
_FEWEST_LINES: Final = 2


def begins_as_code(text: str) -> bool:
    """Say quickly whether a whole text may be a module of Python."""
    return (
        "\n" in text.strip()
        and _FIRST.match(text) is not None
        and _ANY_START.search(text) is not None
    )


def code_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the code that begins at *row*; *row* where there is none.

    It runs on over indented and blank lines, lines that look like code, and open triple quotes.

    Example:
        >>> code_end(["fn main() {\n", "    go();\n", "}\n", "That is all.\n"], 0)
        3
    """
    first = _behind_comments(lines, row)
    if first < 0:
        return row
    whole = _statement_end(lines, first) or _bracket_end(lines, first)
    if whole or not _starts(lines, first):
        return whole or row
    quote, end, filled = "", row, row + 1
    while end < len(lines):
        line = lines[end]
        if not quote and end > first and not _goes_on(line):
            break
        if end > filled and _BEGINS_DATA.match(line):
            break  # behind a blank line
        for match in _TRIPLE.finditer(line):
            quote = "" if quote == match.group() else quote or match.group()
        end += 1
        if line.strip():
            filled = end
    return len(lines) if end == len(lines) else max(filled, first + 1)


_STATEMENT_BEGINS: Final = re.compile(
    r"(?:INSERT INTO|REPLACE INTO|CREATE (?:\w+ )?(?:TABLE|INDEX|VIEW)|ALTER TABLE|UPDATE"
    r"|DELETE FROM|DROP TABLE|SELECT|WITH \w+ AS)\b",
    re.IGNORECASE,
)
_TRIGGER: Final = re.compile(r"CREATE (?:\w+ ){0,3}(?:TRIGGER|PROCEDURE|FUNCTION)\b", re.IGNORECASE)
_SQL: Final = re.compile(r"'(?:''|[^'])*+(?P<open>'?)|--[^\n]*|/\*[\s\S]*?\*/|(?P<end>;)")
_LAST_END: Final = re.compile(r"\bEND\s*;", re.IGNORECASE)
_REMARK_BEHIND: Final = re.compile(r"[ \t]*(?:--[^\n]*)?(?:\r?\n|\Z)")
_LONGEST_STATEMENT: Final = 20_000
"""Characters."""


def statement_end(text: str, start: int) -> int:
    r"""Return where the statement of SQL at *start* ends, with its line; 0 if it does not.

    Example:
        >>> statement_end("SELECT ';' -- a;\nFROM b;\nGo.", 0)
        25
    """
    at = start
    if trigger := _TRIGGER.match(text, start):
        last = _LAST_END.search(text, trigger.end())
        at = last.end() - 1 if last else start
    for found in _SQL.finditer(text, at, start + _LONGEST_STATEMENT):
        if found["end"]:
            line = _REMARK_BEHIND.match(text, found.end())
            return line.end() if line else 0
    return 0


def _statement_end(lines: Sequence[str], row: int) -> int:
    """Return the row after a statement of SQL; its texts may hold what ends others. 0 if none."""
    if not _STATEMENT_BEGINS.match(lines[row]):
        return 0
    size = 0
    last = row
    while last < len(lines) and size < _LONGEST_STATEMENT:
        size += len(lines[last])
        last += 1
    end = statement_end("".join(lines[row:last]), 0)
    for after in range(row, last if end else row):
        end -= len(lines[after])
        if end <= 0:
            return after + 1
    return 0


_BRACKETS: Final = re.compile(r"\"(?:\\.|[^\"\\\n])*+\"|[(\[{]|[)\]}]")
_FIELD: Final = re.compile(r"[\w.@$-]+ *[=:]")
_LONGEST_BLOCK: Final = 2_000
"""Lines."""


def _bracket_end(lines: Sequence[str], row: int) -> int:
    """Return the row after a bracket that opens at the end of a line and closes below; 0 if none.

    What is between is indented or a field: a record of BibTeX, a rule, a block of settings.
    """
    line = lines[row].rstrip()
    if line[-1:] not in ("{", "(", "[", ",") or line[:1] in "{[" or not set("{([") & set(line):
        return 0
    base, depth = _indent(lines[row]), 0
    for end in range(row, min(len(lines), row + _LONGEST_BLOCK)):
        line = lines[end]
        is_closer = line.lstrip()[:1] in tuple(")]}")
        for found in _BRACKETS.finditer(line):
            depth += (found.group() in "([{") - (found.group() in ")]}")
        if depth <= 0:
            closes = is_closer or line.rstrip().endswith(("}", "},"))
            return end + 1 if end > row and closes else 0
        deeper = _indent(line) > base or is_closer or _FIELD.match(line.lstrip())
        if end > row and line.strip() and not deeper:
            return 0
    return 0


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


_BEGINS_DATA: Final = re.compile(
    r"[{\[](?:\s*$|\s*[\"{\[])|[^\W\d_][^{\[(\"'=\n]{0,60}: ?[{\[]\s*[\"{\[]"
)


def _behind_comments(lines: Sequence[str], row: int) -> int:
    """Return the row of the code behind comments that stand right above it."""
    at, block = row, ""
    while at < len(lines) and at - row < _MOST_COMMENTS:
        line = lines[at].strip()
        if block:
            block = "" if block in line else block
        elif line.startswith(('"""', "'''")):
            block = "" if line.count(line[:3]) > 1 else line[:3]
        elif line.startswith("/*"):
            block = "" if "*/" in line else "*/"
        elif not _COMMENT.match(line) or _CODE_START.match(line):
            return at if line or at == row else -1
        at += 1
    return -1


def _starts(lines: Sequence[str], row: int) -> bool:
    line = _bare(lines[row])
    if _CODE_START.match(line):
        return True
    if not line or line[0] in " \t" or len(line) > 400:
        return False
    last = line[-1]
    if last not in "{(;[>odt" and not _NAMES_BLOCK.match(line):
        return False
    after = _bare(_next(lines, row))
    if last == ";":
        return _STATEMENT.match(line) is not None and (
            after.rstrip()[-1:] in tuple(";{}") or after.startswith("//")
        )
    if _OPENS_BLOCK.match(line):
        return after[:1] in ("\t", " ") or after.rstrip()[-1:] in tuple(";{")
    return _NAMES_BLOCK.match(line) is not None and after[:1] in ("\t", " ")


_REMARKS: Final = ("//", "#", "--", "/*")
_REMARK: Final = re.compile(r"\s(?://|#|--)\s.*$|\s/\*.*\*/$")


def _bare(line: str) -> str:
    """Return a line without the remark behind its code."""
    line = line.rstrip()
    may_end = len(line) < _LONGEST_LINE and any(mark in line for mark in _REMARKS)
    return _REMARK.sub("", line).rstrip() if may_end else line


_LONGEST_LINE: Final = 1_000


def _next(lines: Sequence[str], row: int) -> str:
    for at in range(row + 1, min(row + 4, len(lines))):
        if lines[at].strip():
            return lines[at]
    return ""


def _goes_on(line: str) -> bool:
    body = _bare(line)
    return (
        not body
        or body[0] in " \t#"
        or body.startswith(("//", "/*", "*/", "--"))
        or _CODE.match(body) is not None
    )


# --- what is none -------------------------------------------------------------------------------

_CODE_MARKS: Final = re.compile(r"[{}();=<>\[\]\\|&$]")
_FEWEST_WORDS: Final = 5


def is_text(text: str) -> bool:
    """Say whether most lines are of several words, and few signs are those of code."""
    sizes = [len(line.split()) for line in text.splitlines() if line.strip()]
    marks = len(_CODE_MARKS.findall(text))
    return 20 * marks < len(text) and statistics.median(sizes or [0]) >= _FEWEST_WORDS


def is_running_text(text: str) -> bool:
    """Say the same of what is not to be mistaken for code."""
    lines = [line for line in text.splitlines() if line.strip()]
    return 50 * len(_CODE_MARKS.findall(text)) < len(text) and len(text.split()) >= 6 * len(lines)
