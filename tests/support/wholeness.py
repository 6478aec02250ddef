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
            for written in {word, word.rstrip(",")}:  # the last of a list has no comma
                margins.setdefault(written, set()).add(len(line) - len(body))

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
    count = sum(1 for line in _without_rules(text) if re.match(r"\s*(```|~~~)", line))
    return ["a fence stays open"] if count % 2 else []


def _without_rules(text: str) -> list[str]:
    """Return the lines without the rules below titles that are as long: they are no fences."""
    lines = text.split("\n")
    above = ["", *lines]
    return [x for x, y in zip(lines, above, strict=False) if set(x) != {"~"} or len(x) != len(y)]


def marks_close(text: str) -> list[str]:
    """Marks of fences come in pairs, on lines of their own or not."""
    text = "\n".join(_without_rules(text))
    return ["a fence stays open"] if text.count("```") % 2 or text.count("~~~") % 2 else []


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


def records_whole(
    records: Sequence[str], header: str, loose: Sequence[str], *, by_paragraph: bool = False
) -> Check:
    """Each record is there with all of its lines or with none, in order, under the header.

    Args:
        records: In their order.
        header: What must stand before the first record that is kept.
        loose: Lines of which any may be kept.
        by_paragraph: Whether a blank line stands between records.
    """
    blocks = [_filled_lines(record) for record in records]
    firsts: dict[str, list[int]] = {}
    for at, block in enumerate(blocks):
        firsts.setdefault(block[0], []).append(at)
    head = _filled_lines(header)
    free = {line for text in loose for line in _filled_lines(text)} | set(head)

    def check(text: str) -> list[str]:
        lines = _filled_lines(text)
        at, last = 0, -1
        begins = []
        while at < len(lines):
            found = [
                n for n in firsts.get(lines[at], ())
                if n > last and lines[at : at + len(blocks[n])] == blocks[n]
            ]  # fmt: skip
            if found:
                # of two that begin alike, the longer one is meant
                longest = max(len(blocks[n]) for n in found)
                last = next(n for n in found if len(blocks[n]) == longest)
                begins.append(lines[at])
                at += longest
            elif lines[at] in free:
                at += 1
            else:
                return [f"torn: {lines[at][:70]!r}"]
        must = [line for line in head if line not in loose]
        if begins and must:
            before = lines[: lines.index(begins[0])]
            if not all(line in before for line in must):
                return ["records without their header"]
        if by_paragraph and len(begins) > 1:
            kept = text.split("\n")
            rows = [n for n, line in enumerate(kept) if line.rstrip() in set(begins)]
            glued = [n for n in rows[1:] if kept[n - 1].strip()]
            if glued and kept[glued[0]].rstrip() in begins[1:]:
                return [f"no blank line before {kept[glued[0]]!r}"]
        return []

    return check


def _filled_lines(text: str) -> list[str]:
    return [_same_line(line.rstrip()) for line in text.split("\n") if line.strip()]


def _same_line(line: str) -> str:
    """A line of JSON may be written in fewer tokens."""
    if line[:1] != "{":
        return line
    try:
        return json.dumps(json.loads(line))
    except ValueError:
        return line


def tags_close(source: str) -> Check:
    """Tags that come in pairs in the source come in pairs in what is left."""
    names = set(re.findall(r"</(\w+)>", source))

    def balance(text: str, name: str) -> int:
        return len(re.findall(rf"<{name}(?: [^<>]*)?>", text)) - text.count(f"</{name}>")

    own = {name: balance(source, name) for name in names}

    def check(text: str) -> list[str]:
        for name in sorted(names):
            if balance(text, name) != own[name]:
                return [f"<{name}> stays open"]
        return []

    return check
