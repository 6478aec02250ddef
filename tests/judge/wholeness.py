"""What it means that a shortened text is whole: checkers that know nothing of how it was made.

A :class:`Case` is a prompt, a share of its tokens to keep, and a check that lists what is broken in
a result. ``wholeness_build`` and ``wholeness_judge`` generate cases of different kinds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Check = Callable[[str], list[str]]


@dataclass(frozen=True)
class Case:
    """A prompt with the share of its tokens to keep and what must hold for the result."""

    kind: str
    prompt: str
    share: float
    check: Check
    query: str | None = None


def all_of(*checks: Check) -> Check:
    """Run several checks."""
    return lambda text: [fault for check in checks for fault in check(text)]


# --- words, lines, order -------------------------------------------------------------------------


def same_words(source: str) -> Check:
    """No word that the source does not have, and all in the source's order."""
    words = source.split()

    def check(text: str) -> list[str]:
        at = 0
        for word in text.split():
            try:
                at = words.index(word, at) + 1
            except ValueError:
                known = word in words
                return [f"{'out of order' if known else 'not a word of the source'}: {word!r}"]
        return []

    return check


def same_lines(source: str) -> Check:
    """Each line that is kept is a line of the source, with its indentation, in order."""
    lines = [line.rstrip() for line in source.split("\n")]

    def check(text: str) -> list[str]:
        at = 0
        for line in text.split("\n"):
            if not line.strip():
                continue
            try:
                at = lines.index(line.rstrip(), at) + 1
            except ValueError:
                return [f"not a line of the source, or out of order: {line!r}"]
        return []

    return check


# --- formats -------------------------------------------------------------------------------------


def part_of(got: Any, source: Any) -> bool:
    """Whether one JSON value is a smaller document of another."""
    if isinstance(got, dict) and isinstance(source, dict):
        if set(got) <= set(source):
            return all(part_of(value, source[key]) for key, value in got.items())
        return False
    if isinstance(source, list):
        rows = _rows(got)
        if rows is None:
            return False
        at = 0
        for row in rows:
            while at < len(source) and not part_of(row, source[at]):
                at += 1
            if at == len(source):
                return False
            at += 1
        return True
    return type(got) is type(source) and got == source


def _rows(got: Any) -> list[Any] | None:
    if isinstance(got, list):
        return got
    if isinstance(got, dict) and set(got) == {"columns", "data"}:
        return [dict(zip(got["columns"], row, strict=True)) for row in got["data"]]
    return None


def json_whole(source: Any, marker: str) -> Check:
    """What stands after *marker* is nothing, or JSON that is a smaller document of *source*."""

    def check(text: str) -> list[str]:
        start = re.search(
            r"[\[{]", text[text.find(marker) + len(marker) if marker in text else 0 :]
        )
        if start is None:
            leaves = {str(leaf) for leaf in _leaves(source) if len(str(leaf)) > 6}
            torn = [leaf for leaf in leaves if leaf in text]
            return [f"values of a JSON document without the document: {torn[0]!r}"] if torn else []
        offset = (text.find(marker) + len(marker) if marker in text else 0) + start.start()
        try:
            got, _ = json.JSONDecoder().raw_decode(text, offset)
        except ValueError as error:
            return [f"JSON does not parse: {error}"]
        return [] if part_of(got, source) else ["JSON is no smaller document of the source"]

    return check


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def fences_close(text: str) -> list[str]:
    """Fences come in pairs."""
    count = sum(1 for line in text.split("\n") if re.match(r"\s*(```|~~~)", line))
    return ["a fence stays open"] if count % 2 else []


def brackets_close(text: str) -> list[str]:
    """Round, square and curly brackets are balanced (the source has none in strings)."""
    stack: list[str] = []
    for sign in text:
        if sign in "([{":
            stack.append({"(": ")", "[": "]", "{": "}"}[sign])
        elif sign in ")]}" and (not stack or stack.pop() != sign):
            return [f"a bracket {sign!r} was never opened"]
    return [f"{len(stack)} brackets stay open"] if stack else []


VOID = {"br", "hr", "img", "meta", "input", "link", "col"}


def tags_close(text: str) -> list[str]:
    """Elements of XML and HTML are closed in the right order."""
    stack: list[str] = []
    for close, name, own in re.findall(r"<(/?)([A-Za-z][\w:-]*)[^<>]*?(/?)>", text):
        if own or name.lower() in VOID:
            continue
        if not close:
            stack.append(name)
        elif not stack or stack.pop() != name:
            return [f"</{name}> closes nothing"]
    return [f"<{stack[-1]}> stays open"] if stack else []


def header_above(header: str, rows: Sequence[str]) -> Check:
    """Rows are whole and stand below the header of their table."""

    def cells(line: str) -> str:
        return re.sub(r"\s+", "", line)

    wanted = {cells(row) for row in rows}

    def check(text: str) -> list[str]:
        lines = [cells(line) for line in text.split("\n")]
        kept = [n for n, line in enumerate(lines) if line in wanted]
        head = cells(header)
        if kept and head not in lines[: kept[0]]:
            return ["rows without the header of their table"]
        return []

    return check


def blocks_whole(blocks: Sequence[str], key: Callable[[str], str]) -> Check:
    """Of each block all lines are there, next to each other, or its key line is not."""

    def check(text: str) -> list[str]:
        flat = "\n".join(line.rstrip() for line in text.split("\n") if line.strip())
        for block in blocks:
            whole = "\n".join(line.rstrip() for line in block.split("\n") if line.strip())
            if key(block).rstrip() in flat.split("\n") and whole not in flat:
                return [f"torn: {block[:60]!r}"]
        return []

    return check


def all_or_none(pairs: Sequence[tuple[str, str]]) -> Check:
    """Of each pair both are there, or none is."""

    def check(text: str) -> list[str]:
        for one, other in pairs:
            if (one in text) != (other in text):
                return [f"one without the other: {one[:40]!r}, {other[:40]!r}"]
        return []

    return check


def has(*pieces: str) -> Check:
    """These must always be there."""
    return lambda text: [f"missing: {piece[:60]!r}" for piece in pieces if piece not in text]
