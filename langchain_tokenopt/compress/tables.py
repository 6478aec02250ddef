"""Recognise tables by what comes back from line to line, and cut them into a head and rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.unit import Unit

__all__ = ["table_end", "table_units"]

_MOST_LINES_OF_A_RECORD: Final = 40
_LONGEST_ROW: Final = 4_000
_RULE: Final = re.compile(
    r"[ \t]*[|+:=┌┬┐├┼┤└┴┘─│╔╦╗╠╬╣╚╩╝═║-][|+:=\s┌┬┐├┼┤└┴┘─│╔╦╗╠╬╣╚╩╝═║-]*\s*$"
)
_GRID: Final = re.compile(
    r"[ \t]*(?:[+┌├└╔╠╚][-=+─┬┼┴┐┤┘═╦╬╩╗╣╝]{2,}|={2,}(?:[ \t]+={2,})+)[ \t]*\r?\n?$"
)
_GAP: Final = re.compile(r" {2,}(?=\S)")
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_NUMBER: Final = re.compile(r"[$€£¥(]?[-+−]?\d[\d.,:/%\s-]*[\w%°)]{0,3}$")
_SENTENCE_END: Final = re.compile(r"[.!?。！？]['\"”’)\]]*\s*$")
_NO_ROW: Final = re.compile(r"[ \t]*(?:[-*+•‣>] |\d{1,3}[.)] |#{1,6} |[`~]{3}|\w[\w ]{0,40}: )")


# --- recognition ---------------------------------------------------------------------------------


def table_end(lines: Sequence[str], row: int) -> int:
    r"""Return the row after the table that begins at *row*; *row* where there is none.

    A table is a grid of rules, or at least three lines with the same number of cells between tabs,
    bars, semicolons or commas, or with cells that begin or end below each other. Two lines are
    enough where the second is a rule or tabs part the cells.

    Example:
        >>> table_end(["name,age,city\n", "Ann,5,Bern\n", "Bob,7,Rome\n", "That is all.\n"], 0)
        3
    """
    line = lines[row]
    if len(line) > _LONGEST_ROW or row + 1 == len(lines):
        return row
    first = line.lstrip()[:1]
    if first in _BORDERS and _GRID.match(line):
        return _grid_end(lines, row)
    if first == "|":
        end = row + 1
        while end < len(lines) and lines[end].lstrip()[:1] == "|":
            end += 1
        return end if end > row + 1 or line.count("|") > 1 else row
    for mark in "\t|;,":
        if mark in line and (mark in lines[row + 1] or (mark == "|" and _is_rule(lines[row + 1]))):
            end = _delimited_end(lines, row, mark)
            if end > row:
                return end
    if all("  " in other.strip() for other in lines[row : row + _FEWEST_ALIGNED]):
        return _aligned_end(lines, row)
    return row


_FEWEST_ALIGNED: Final = 3
_BORDERS: Final = frozenset("+=┌├└╔╠╚")


def _is_rule(line: str) -> bool:
    return "--" in line and _RULE.match(line) is not None


def _grid_end(lines: Sequence[str], row: int) -> int:
    """Rules of one look enclose the rows; the last rule ends the table."""
    look = lines[row].lstrip()[0]
    end = last = row + 1
    while end < len(lines) and lines[end].strip():
        end += 1
        if _GRID.match(lines[end - 1]):
            last = end
        elif look != "=" and lines[end - 1].lstrip()[0] not in "|│║":
            break
    return last if last > row + 1 else row


def _delimited_end(lines: Sequence[str], row: int, mark: str) -> int:
    one, other = lines[row], lines[row + 1]
    if mark == "|" and "-" in other and _RULE.match(other):
        end = row + 2
        while end < len(lines) and "|" in lines[end]:
            end += 1
        return end
    if '"' not in one and '"' not in other and one.count(mark) != other.count(mark):
        return row
    fields = _fields(one, mark)
    if _NO_ROW.match(lines[row]):
        return row
    end, records = row, 0
    while end < len(lines):
        after = _record_end(lines, end)
        record = lines[end] if after == end + 1 else "".join(lines[end:after])
        if len(record) > _LONGEST_ROW or _fields(record, mark) != fields:
            break
        end, records = after, records + 1
        if records == 3 and not _looks_delimited(lines[row:end], mark):
            return row
    least = 2 if mark == "\t" or (mark == "|" and fields > 2) else 3
    if mark in ",;" and fields == 2:
        least = 4
    if records < least or (records < 3 and not _looks_delimited(lines[row:end], mark)):
        return row
    return end


def _fields(record: str, mark: str) -> int:
    if '"' in record:
        record = _QUOTED.sub("", record)
    return record.count(mark) + 1


def _record_end(lines: Sequence[str], row: int) -> int:
    """A record goes on over lines while a quotation mark is open."""
    if lines[row].count('"') % 2 == 0:
        return row + 1
    marks = 0
    for end in range(row, min(row + _MOST_LINES_OF_A_RECORD, len(lines))):
        marks += lines[end].count('"')
        if marks % 2 == 0:
            return end + 1
    return row + 1


def _looks_delimited(rows: Sequence[str], mark: str) -> bool:
    """Tell rows from sentences that have as many commas by chance, and from code."""
    if mark == "\t" or mark == "|":
        return True
    if any(row[:1] in " \t" or row.rstrip()[-1:] in "{}([,;" for row in rows[:3]):
        return mark == ";" and all(row.rstrip()[-1:] == ";" for row in rows[:3])
    sentences = sum(1 for row in rows if _SENTENCE_END.search(row))
    spaced = sum(row.count(mark + " ") for row in rows)
    marks = sum(row.count(mark) for row in rows)
    return 2 * sentences < len(rows) and (2 * spaced < marks or _short_cells(rows, mark))


def _short_cells(rows: Sequence[str], mark: str) -> bool:
    return all(len(cell.split()) <= 4 for row in rows for cell in row.split(mark))


def _aligned_end(lines: Sequence[str], row: int) -> int:
    starts, ends = _columns(lines[row])
    if len(starts) < 2:
        return row
    if not lines[row].strip(" \t\r\n-=─") or _NO_ROW.match(lines[row]):
        return row
    end = row + 1
    while end < len(lines) and lines[end].strip():
        own_starts, own_ends = _columns(lines[end])
        below = len(starts & own_starts) + len((ends & own_ends) - {max(ends), max(own_ends)})
        if len(own_starts) < 2 or below < 2:
            break
        end += 1
    return end if end - row >= _FEWEST_ALIGNED else row


def _columns(line: str) -> tuple[set[int], set[int]]:
    """Return where cells parted by two blanks or more begin and end."""
    body = line.expandtabs().rstrip()
    first = len(body) - len(body.lstrip())
    gaps = [match.span() for match in _GAP.finditer(body, first)]
    return {first, *(end for _, end in gaps)}, {len(body), *(start for start, _ in gaps)}


# --- units ---------------------------------------------------------------------------------------


def table_units(text: str, start: int, end: int, units: list[Unit]) -> None:
    r"""Add a unit per row; the header with its rules is the head of all rows.

    Example:
        >>> text, units = "| a | b |\n|---|---|\n| 1 | 2 |\n", []
        >>> table_units(text, 0, len(text), units)
        >>> [text[unit.start : unit.end] for unit in units]
        ['| a | b |\n|---|---|\n', '| 1 | 2 |\n']
    """
    lines = text[start:end].splitlines(keepends=True)
    bounds = [start]
    for line in lines:
        bounds.append(bounds[-1] + len(line))
    header, row_ends, last = _parts(lines)
    head = -1
    if header:
        head = len(units)
        units.append(Unit(start, bounds[header], "table"))
    for before, after in pairwise([header, *row_ends]):
        units.append(Unit(bounds[before], bounds[after], "table", head=head))
    if last < len(lines):
        units.append(Unit(bounds[last], end, "table", bound=head, frame=True))


def _parts(lines: Sequence[str]) -> tuple[int, list[int], int]:
    """Return the lines of the header, the lines after which rows end, and where the foot begins."""
    rules = [at for at, line in enumerate(lines) if _RULE.match(line)]
    if rules and rules[0] == 0:
        return _grid_parts(lines, rules)
    if 1 in rules:
        return 2, list(range(3, len(lines) + 1)), len(lines)
    ends = []
    at = 0
    while at < len(lines):
        at = _record_end(lines, at) if not lines[0].lstrip().startswith("|") else at + 1
        ends.append(at)
    if len(ends) > 1 and _is_header(lines[: ends[0]], lines[ends[0] : ends[1]]):
        return ends[0], ends[1:], len(lines)
    return 0, ends, len(lines)


def _grid_parts(lines: Sequence[str], rules: list[int]) -> tuple[int, list[int], int]:
    """With a rule between all rows, lines up to a rule are one row; else each line is one."""
    if len(rules) < 2:
        return 1, list(range(2, len(lines) + 1)), len(lines)
    header = rules[1] + 1
    last = rules[-1] if rules[-1] >= header else len(lines)
    inner = [at + 1 for at in rules if header <= at < last]
    if not inner:
        return header, list(range(header + 1, last + 1)), last
    ends = inner if inner[-1] == last else [*inner, last]
    return header, ends, last


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """A header names the columns: it has words where the rows have numbers, or words alone."""
    one, other = (_cells("".join(rows)) for rows in (first, second))
    numbers = [bool(_NUMBER.match(cell)) for cell in one]
    if not any(numbers):
        return bool(one[0] or other[0]) and not one[0].startswith("-")
    years = [cell for cell, number in zip(one, numbers, strict=True) if number]
    if all(re.fullmatch(r"(?:19|20)\d\d", cell) for cell in years):
        return years == sorted(set(years)) and not numbers[0]
    return False


def _cells(row: str) -> list[str]:
    for mark in "\t|;,":
        if mark in row:
            return [cell.strip(' "\r\n') for cell in row.split(mark)]
    return [cell.strip() for cell in _GAP.split(row.strip())]
