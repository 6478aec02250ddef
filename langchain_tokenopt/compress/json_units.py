"""Find JSON in a text, and cut it where what is left is JSON again."""

from __future__ import annotations

import ast
import json
import re
from typing import Any, Final

from langchain_tokenopt.compress.examples import is_pair
from langchain_tokenopt.compress.unit import Unit

__all__ = ["JSON_BEGINS", "JsonFinder", "json_units", "may_hold_json"]

LONGEST_WHOLE_JSON: Final = 400
"""Characters. Longer values are kept or dropped member by member."""
_DEEPEST: Final = 8
"""Levels that are cut into members; every level is read once more."""
_LONGEST_NAME: Final = 120
_LONGEST_HEADER: Final = 1_000
_MOST_NAMES: Final = 3
"""Members with which an object opens and that name it, such as its id, and their characters."""

JSON_BEGINS: Final = re.compile(
    r"[{\[](?:(?<=\{)\s*[\"'}]|(?<=\[)(?!\d{1,4}\])\s*(?:[\[{(\"'\d\]]|-\d|true\b|false\b|null\b))"
)
"""Begins with one class of characters, by which the scanner of ``re`` skips everything else."""

_decoder: Final = json.JSONDecoder()
_PUNCTUATION: Final = re.compile(r"[\s,:]*")
_GLANCE: Final = 2_000
_WIDER: Final = 16


def may_hold_json(text: str) -> bool:
    """Say quickly whether there may be any JSON in *text*."""
    return ("{" in text or "[" in text) and JSON_BEGINS.search(text) is not None


class JsonFinder:
    """Finds JSON values in one text, in time that grows with the text alone."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._patience = 2 * len(text) + 1_000
        """Characters that may still be read in vain."""
        self._known: dict[int, int | None] = {}

    def end(self, start: int) -> int | None:
        """Return where the array or object that begins at *start* ends, or ``None``.

        Empty and tiny values (``[1]``, ``{}``), which prose also contains, count as none.

        Example:
            >>> JsonFinder('So {"a": [1, 2]} it is').end(3)
            16
        """
        if start not in self._known:
            self._known[start] = self._find(start)
        return self._known[start]

    def _find(self, start: int) -> int | None:
        if self._patience <= 0 or not JSON_BEGINS.match(self._text, start):
            return None
        size = _GLANCE
        while True:
            # The line of an error is counted from the beginning of what is parsed: keep that short.
            part = self._text[start : start + size]
            try:
                value, end = _decoder.raw_decode(part)
            except json.JSONDecodeError as error:
                goes_on = len(part) == size and _may_go_on(error, size)
                self._patience -= len(part) if goes_on else min(len(part), error.pos + 100)
                if not goes_on:
                    return self._printed(start)
            except RecursionError:
                self._patience -= len(part)
                return None
            else:
                return start + end if _is_telling(value) else None
            size *= _WIDER

    def _printed(self, start: int) -> int | None:
        """Return the same of a printed value of Python, which has other quotation marks."""
        if not _PRINTED.match(self._text, start):
            return None
        end = _value_end(self._text, start, start + self._patience)
        self._patience -= end - start
        try:
            value = ast.literal_eval(self._text[start:end])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        return end if _is_telling(value) else None


_PRINTED: Final = re.compile(r"[\[{(\s]+(?:'|\d|-\d|None\b|True\b|False\b)")
_TOKEN: Final = re.compile(
    r"'(?:\\.|[^'\\])*+'|\"(?:\\.|[^\"\\])*+\"|(?P<open>[\[({])|(?P<close>[\])}])|(?P<sign>[,:])"
)


def _value_end(text: str, at: int, last: int | None = None) -> int:
    """Return where the value of JSON or of Python ends that begins at *at*."""
    depth = 0
    for found in _TOKEN.finditer(text, at, len(text) if last is None else last):
        if found["open"]:
            depth += 1
        elif found["close"]:
            if depth <= 1:
                return found.end() if depth else at + len(text[at : found.start()].rstrip())
            depth -= 1
        elif depth == 0:
            return found.start() if found["sign"] else found.end()
    return at


def _may_go_on(error: json.JSONDecodeError, size: int) -> bool:
    """Say whether a longer part of the text may be JSON: it broke off at the end of this one.

    A string that goes on behind the end is reported where it begins.
    """
    return error.pos >= size - 100 or error.msg.startswith("Unterminated string")


def _is_telling(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and (
        len(value) > 1 or (len(value) == 1 and isinstance(value[0], dict | list))
    )


# --- units ---------------------------------------------------------------------------------------


def json_units(text: str, start: int, end: int, units: list[Unit], head: int = -1) -> None:
    """Add the units of the JSON value that begins at *start*; white space may follow it.

    A long list or object is cut into its members, and long members into theirs. What opens and
    closes it is kept with any of them, so what is left is JSON. Lists of numbers stay whole.

    Example:
        >>> text, units = '{"users": [' + '{"id": 1}, ' * 50 + '{"id": 2}]}', []
        >>> json_units(text, 0, len(text), units)
        >>> [text[unit.start : unit.end] for unit in (units[0], units[1], units[-1])]
        ['{"users": [', '{"id": 1}, ', ']}']
    """
    _add(text, start, end, start, end, units, head, 0)


def _add(
    text: str, value: int, end: int, begin: int, finish: int, units: list[Unit], head: int,
    depth: int, *, is_row: bool = False,
) -> None:  # fmt: skip
    """Add ``text[begin:finish]``: the value at *value*, with its key and the comma behind it."""
    members: list[tuple[int, int, int]] = []
    while end - value > LONGEST_WHOLE_JSON and depth < _DEEPEST and text[value] in "[{":
        depth += 1
        members = _members(text, value)
        if len(members) != 1:
            break
        value, end = members[0][1:]  # a frame around one value is part of that value's frame
        members = []
    is_example = (
        depth > 0
        and members
        and text[value] == "{"
        and is_pair(text[begin:inner].strip('\t\r\n ":') for begin, inner, _ in members)
    )
    if len(members) < 2 or is_example or is_row or _only_numbers(text, value, members):
        units.append(Unit(begin, finish, "json", head=head))
        return
    opening = len(units)
    first = _first_apart(text, value, members, depth)
    are_rows = _are_rows(text, members)
    units.append(Unit(begin, members[first][0], "json", head=head, frame=first == 0))
    for at in range(first, len(members)):
        key, inner, close = members[at]
        behind = members[at + 1][0] if at + 1 < len(members) else close
        _add(text, inner, close, key, behind, units, opening, depth, is_row=are_rows)
    units.append(Unit(members[-1][2], finish, "json", bound=opening, frame=True))


def _members(text: str, start: int) -> list[tuple[int, int, int]]:
    """Return begin, begin of the value and end of each member of the list or object at *start*."""
    found = []
    at = _behind_punctuation(text, start + 1)
    end_of = _json_end
    while text[at] not in "]}":
        begin = value = at
        try:
            if text[start] == "{":
                value = _behind_punctuation(text, end_of(text, begin))
            end = end_of(text, value)
        except ValueError:
            end_of = _value_end  # printed by Python
            continue
        found.append((begin, value, end))
        at = _behind_punctuation(text, end)
    return found


def _json_end(text: str, at: int) -> int:
    return _decoder.raw_decode(text, at)[1]


def _behind_punctuation(text: str, at: int) -> int:
    found = _PUNCTUATION.match(text, at)
    return found.end() if found else at


def _only_numbers(text: str, start: int, members: list[tuple[int, int, int]]) -> bool:
    """A list of numbers is one thing, such as a vector: none of them says anything alone."""
    return text[start] == "[" and all(text[value] not in '[{"' for _, value, _ in members)


def _are_rows(text: str, members: list[tuple[int, int, int]]) -> bool:
    """Lists of one length are rows of a table: what is a member's place is its column."""
    if any(text[value] != "[" for _, value, _ in members):
        return False
    rows = [_decoder.raw_decode(text, value)[0] for _, value, _ in members]
    return len({len(row) for row in rows}) == 1 and all(
        any(not isinstance(cell, dict | list) for cell in row) for row in rows
    )


def _is_header(text: str, members: list[tuple[int, int, int]]) -> bool:
    """Whether the first member names the columns of the rows in the second one."""
    (_, names, end), (_, rows, _) = members[:2]
    if end - names > _LONGEST_HEADER or text[names] != "[" or text[rows] != "[":
        return False
    inside = _members(text, rows)
    if not inside or text[inside[0][1]] != "[":
        return False
    return len(_members(text, names)) == len(_decoder.raw_decode(text, inside[0][1])[0])


def _first_apart(text: str, start: int, members: list[tuple[int, int, int]], depth: int) -> int:
    """Return how many members name an object: short ones before the first long one."""
    if text[start] != "{":
        return 0
    if _is_header(text, members):
        return 1
    if depth == 1:
        return 0
    count = 0
    for begin, value, end in members[: _MOST_NAMES + 1]:
        if count == _MOST_NAMES or text[value] in "[{" or end - begin > _LONGEST_NAME:
            break
        count += 1
    return min(count, len(members) - 1)
