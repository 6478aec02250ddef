"""Blocks that a line opens and one of the same margin closes: with a bracket, or a word as ``end``.

No language is listed here. What closes is known by its bracket or its word; what it closes is the
line above it with its margin, behind which lines are deeper. Lines that go on between the two, as
``else`` does, are part of the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Block", "indented_blocks"]


class Block(NamedTuple):
    """Where a block begins, where the line ends that opens it, and where the last line stands."""

    start: int
    inside: int
    close: int
    end: int


_MAY_CLOSE: Final = re.compile(
    r"[{(\[][ \t]*(?:(?://|#|--|/\*)[^\n]*)?\r?\n|^[ \t]*(?:[@#.]|\{[{%]|<%)?-?[ \t]*end",
    re.MULTILINE | re.IGNORECASE,
)
_OPENS_LINE: Final = re.compile(r"[{(\[][ \t]*(?:(?://|#|--|/\*)[^\n]*)?\r?\n")
_PAIRS: Final = {"{": "}", "(": ")", "[": "]"}
_ENDS: Final = re.compile(
    r"(?:[@#.]|\{[{%]|<%)?-?[ \t]*end"
    r"(?:\.\w.*|[ _]?(?P<what>[a-z]\w*)?(?:[ \t]+\w+)?[ \t]*(?:[^\w\s=:].*)?)$",
    re.IGNORECASE,
)
_GOES_ON: Final = re.compile(
    r"(?:\{[{%]|<%)?-?[ \t]*"
    r"(?:else|elif|elsif|elseif|rescue|ensure|catch|except|finally|when|begin)\b",
    re.IGNORECASE,
)
_MOST_SIBLINGS: Final = 200
"""Lines of one margin among which the one is looked for that opens what a word closes."""
_REACH: Final = 40
"""Characters of that line within which the word stands."""


class _Line(NamedTuple):
    """A line that others may stand under, and where the block begins that it goes on with."""

    begin: int
    inside: int
    body: str
    closer: str


def indented_blocks(text: str) -> Iterator[Block]:
    r"""Yield the blocks of *text*, inner ones before those that they stand in.

    Example:
        >>> text = "if x\n  go\nelse\n  stay\nend\n"
        >>> [(b.start, b.close) for b in indented_blocks(text)]
        [(0, 22)]
    """
    if not _MAY_CLOSE.search(text):
        return
    above: list[tuple[int, list[_Line]]] = []
    """Margins that grow, and the lines of each since the line above that they stand under."""
    at = 0
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        body = line.lstrip(" \t")
        if not body.strip():
            continue
        margin = len(line) - len(body)
        is_below = False
        while above and above[-1][0] > margin:
            above.pop()
            is_below = True
        if not above or above[-1][0] < margin:
            above.append((margin, []))
        lines = above[-1][1]
        opener = _opener(lines, body, is_below=is_below)
        begin, inside = start, at
        if opener is not None:
            begin, inside = opener.begin, opener.inside
            yield Block(begin, inside, start, start + len(line.rstrip()))
        elif lines and _GOES_ON.match(body):
            begin, inside = lines[-1].begin, lines[-1].inside
        found = _OPENS_LINE.search(line if line.endswith("\n") else f"{line}\n")
        if len(lines) > _MOST_SIBLINGS:
            del lines[:-1]
        lines.append(_Line(begin, inside, body, _PAIRS[found.group()[0]] if found else ""))


def _opener(lines: list[_Line], body: str, *, is_below: bool) -> _Line | None:
    """Return the line that *body*, which is below deeper ones or not, closes, if it closes one."""
    if not lines:
        return None
    if body[0] in ")]}":
        return lines[-1] if lines[-1].closer == body[0] else None
    found = _ENDS.match(body.rstrip())
    if found is None or not (what := found["what"]):
        return lines[-1] if found and is_below else None
    named = re.compile(rf"(?<![^\W_]){what}\b", re.IGNORECASE)
    search = named.search if is_below else named.match
    return next((line for line in reversed(lines) if search(line.body, 0, _REACH)), None)
