"""Checkers of what must be whole in what is left of a document; they know no compressor.

A part of a mixed document carries a tag in each of its lines (``q17``), by which what is left of it
is found; a part that stands alone carries none.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

Check = Callable[[str], list[str]]


def left_of(text: str, tag: str) -> str:
    """Return the lines of a part that are left in *text*; all of it for a part without tag."""
    if not tag:
        return text
    return "\n".join(line for line in text.split("\n") if tag in line)


# --- checks --------------------------------------------------------------------------------------

_WORD = re.compile(r"\w+")


def words_in_order(source: str) -> Check:
    """Every word is a whole word of the source, in its order."""
    words = _WORD.findall(source)
    places: dict[str, list[int]] = {}
    for at, word in enumerate(words):
        places.setdefault(word, []).append(at)

    def check(text: str) -> list[str]:
        at = 0
        for word in _WORD.findall(text):
            found = places.get(word)
            where = bisect_left(found, at) if found else 0
            if not found or where == len(found):
                return [f"word {word!r} is cut, new or out of order"]
            at = found[where] + 1
        return []

    return check


def margins_stay(source: str) -> Check:
    """A line begins in the column in which its line began in the source."""
    margins: dict[str, set[int]] = {}
    for line in source.split("\n"):
        body = line.lstrip(" \t")
        for word in body.split():
            margins.setdefault(word, set()).add(len(line) - len(body))

    def check(text: str) -> list[str]:
        for line in text.split("\n"):
            body = line.lstrip(" \t")
            first = body.split()[0] if body.strip() else None
            if first is None or first not in margins or first[0] in "{[]}":
                continue
            if len(line) - len(body) not in margins[first]:
                return [f"margin of {line[:60]!r} is new"]
        return []

    return check


def fences_close(text: str) -> list[str]:
    """Fences come in pairs."""
    count = sum(1 for line in text.split("\n") if re.match(r"\s*(```|~~~)", line))
    return ["a fence stays open"] if count % 2 else []


def part_of(got: Any, source: Any) -> bool:
    """Whether one value is a smaller document of another."""
    if isinstance(got, dict) and isinstance(source, dict):
        return set(got) <= set(source) and all(part_of(got[k], source[k]) for k in got)
    if isinstance(got, list) and isinstance(source, list):
        rest = iter(source)
        return all(any(part_of(one, other) for other in rest) for one in got)
    if isinstance(got, str) and isinstance(source, str) and len(source) >= LONG_STRING:
        return not words_in_order(source)(got)
    return type(got) is type(source) and bool(got == source)


LONG_STRING = 400
"""Characters; of a list of longer strings, which are passages, sentences may go."""


def json_is_part(source: Any, mark: str) -> Check:
    """What holds *mark* is one JSON value, a smaller document of *source*."""

    def check(text: str) -> list[str]:
        first, last = text.find(mark), text.rfind(mark)
        if first < 0:
            return []
        for found in re.finditer(r"[\[{]", text[: first + 1]):
            try:
                got, end = json.JSONDecoder().raw_decode(text, found.start())
            except ValueError:
                continue
            if end > last:
                return [] if part_of(got, source) else ["JSON is no part of its source"]
        return ["JSON does not parse"]

    return check


def python_parses(tag: str) -> Check:
    """What is left of a module parses."""

    def check(text: str) -> list[str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(left_of(text, tag))
        except SyntaxError as error:
            return [f"Python does not parse: {error.msg}"]
        return []

    return check


def brackets_close(tag: str) -> Check:
    """Brackets outside of strings and comments are balanced."""
    token = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/|--[^\n]*|#[^\n]*|[()\[\]{}]', re.S)

    def check(text: str) -> list[str]:
        open_brackets = []
        for found in token.findall(left_of(text, tag)):
            if found in "([{":
                open_brackets.append(found)
            elif found in ")]}" and (
                not open_brackets or open_brackets.pop() + found not in ("()", "[]", "{}")
            ):
                return [f"bracket {found!r} closes nothing"]
        return ["a bracket stays open"] if open_brackets else []

    return check


def rows_under(header: Sequence[str], rows: Sequence[str]) -> Check:
    """Rows are whole lines, and stand under their header."""
    known = {row.rstrip(): at for at, row in enumerate(rows)}

    def check(text: str) -> list[str]:
        lines = [line.rstrip() for line in text.split("\n")]
        kept = [at for at, line in enumerate(lines) if line in known]
        if not kept:
            return []
        heads = [line.rstrip() for line in header]
        if lines[kept[0] - len(heads) : kept[0]] != heads:
            return ["rows without their header"]
        return []

    return check


def blocks_whole(blocks: Sequence[str], tag: str = "") -> Check:
    """Each block is there with all of its lines next to each other, or with none of them."""
    firsts = {block.split("\n")[0].strip(): block for block in blocks}
    line_of = {line.strip() for block in blocks for line in block.split("\n") if line.strip()}

    def check(text: str) -> list[str]:
        flat = "\n".join(line.rstrip() for line in text.split("\n") if line.strip())
        rest = flat
        for block in firsts.values():
            whole = "\n".join(line.rstrip() for line in block.split("\n") if line.strip())
            rest = rest.replace(whole, "", 1)
        for line in rest.split("\n"):
            if line.strip() in line_of and (not tag or tag in line):
                return [f"torn: {line[:60]!r}"]
        return []

    return check
