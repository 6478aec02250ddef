"""Passages between marks of a format: quoted strings, and elements of XML or HTML.

Quoted are those in JSON, JSON lines, CSV, YAML, and printed Python objects.
What all of them share is a long text between quotation marks, then a short frame (the end of one
record and the beginning of the next), then the next long text. Where in the frame one record ends
is where its brackets are least deep.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["SHORTEST_BODY", "Record", "quoted_records", "tagged_passages"]


class Record(NamedTuple):
    """A passage with the marks around it, as character offsets."""

    start: int
    body: int
    """Where the head (title, number, mark) ends and the text begins."""
    tail: int
    """Where the text ends and what closes the record begins."""
    end: int

    @property
    def length(self) -> int:
        """Characters of the text."""
        return self.tail - self.body


SHORTEST_BODY: Final = 120
"""Characters. Shorter strings are values of a record rather than passages."""
_LONGEST_FRAME: Final = 1_500
"""Characters that may stand between two passages."""

_STRING: Final = re.compile(
    r"[\n:=,\[({|;\t][ \t]*+"  # one class of characters, by which the scanner skips all else
    r"(?:\"(?P<double>(?:[^\"\\\n]|\\.|\"\")*+)\"|'(?P<single>(?:[^'\\\n]|\\.|'')*+)')"
    r"(?=[ \t]*+(?:[,}\])|;\n\t]|\r\n|\Z))"
)
_FRAME: Final = re.compile(
    r"\"(?:[^\"\\\n]|\\.)*+\"|(?<!\w)'(?:[^'\\\n]|\\.)*+'|(?P<open>[\[({])|(?P<close>[\])}])|(?P<line>\n)"
)
_AFTER: Final = re.compile(r"[ \t]*,?[ \t]*(?:\r?\n)?[ \t]*")


def quoted_records(text: str) -> list[Record]:
    """Return the longest run of quoted passages in *text*; empty unless there are two.

    Example:
        >>> rows = [{"t": "Tea", "x": "Tea is hot. " * 12}, {"t": "Ice", "x": "Ice is cold. " * 12}]
        >>> import json
        >>> text = json.dumps(rows)
        >>> [text[r.start : r.body] for r in quoted_records(text)]
        ['{"t": "Tea", "x": "', '{"t": "Ice", "x": "']
    """
    if '"' not in text and "'" not in text:
        return []
    strings = []
    for match in _STRING.finditer(f"\n{text}"):
        start, end = match.span("double" if match["double"] is not None else "single")
        strings.append((start - 1, end - 1))
    bodies = _alike(text, strings)
    runs: list[list[tuple[int, int]]] = []
    for body in bodies:
        if runs and body[0] - runs[-1][-1][1] <= _LONGEST_FRAME:
            runs[-1].append(body)
        else:
            runs.append([body])
    best = max(runs, key=lambda run: sum(end - start for start, end in run), default=[])
    return _records(text, best) if len(best) > 1 else []


def _alike(text: str, strings: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the long strings, and the short ones under the key that most of these have."""
    long = [(a, b) for a, b in strings if b - a >= SHORTEST_BODY and text.find(" ", a, b) >= 0]
    fields = dict(zip(strings, _fields(text, strings), strict=True))
    field, count = Counter(map(fields.__getitem__, long)).most_common(1)[0] if long else ("", 0)
    if count <= _MOST * len(long):
        return long
    same = [string for string in strings if fields[string] == field]
    if field.isdigit():  # the names of columns stand above the first row
        same = [(a, b) for a, b in same if a >= long[0][0] or b - a > _LONGEST_NAME]
    return same if 2 * count > len(same) else long


def _fields(text: str, strings: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Yield the key of each string or, in rows without keys, its column."""
    column, behind = 0, 0
    for start, end in strings:
        between = text[behind : start - 1]
        row = max(between.rfind(sign) for sign in _ROW_BEGINS)
        column = between.count(",", row + 1) + (column if row < 0 and behind else 0)
        behind = end + 1
        yield _key(text, start) or str(column)


_LONGEST_NAME: Final = 40
"""Characters of the name of a column."""
_ROW_BEGINS: Final = "\n[({"


def _key(text: str, start: int) -> str:
    found = _KEY.search(text, max(0, start - _LONGEST_KEY), start - 1)
    return found.group() if found else ""


_KEY: Final = re.compile(r"[\w\"'-]+[ ]?[:=][ ]*\Z")
_LONGEST_KEY: Final = 40
_MOST: Final = 0.7
"""Share of long strings that have one key, so that it is the key of the texts."""


def _records(text: str, bodies: Sequence[tuple[int, int]]) -> list[Record]:
    cuts = [_boundary(text, one[1] + 1, other[0] - 1) for one, other in itertools.pairwise(bodies)]
    second = bodies[1][0] - 1
    rise = _rise(text, cuts[0], second)
    if rise <= 0 and text[cuts[0] - 1] == "\n":
        first = _lines_above(text, bodies[0][0] - 1, text.count("\n", cuts[0], second))
    else:
        first = _opening(text, bodies[0][0] - 1, rise)
    last = _closing(text, bodies[-1][1] + 1, -rise)
    edges = [first, *cuts, last]
    return [Record(edges[at], start, end, edges[at + 1]) for at, (start, end) in enumerate(bodies)]


def _boundary(text: str, start: int, end: int) -> int:
    """Return where in a frame the next record begins."""
    depth, least, at, line = 0, 0, -1, -1
    for match in _FRAME.finditer(text, start, end):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
            if depth < least:
                least, at = depth, match.end()
        elif match["line"] and depth == 0 and line < 0:
            line = match.end()
    if at < 0 and line >= 0:
        return line
    found = _AFTER.match(text, start if at < 0 else at, end)
    return found.end() if found else start


def _rise(text: str, start: int, end: int) -> int:
    """Return how many brackets a head leaves open."""
    depth = 0
    for match in _FRAME.finditer(text, start, end):
        depth += bool(match["open"]) - bool(match["close"])
    return depth


def _lines_above(text: str, end: int, lines: int) -> int:
    """Return where the line begins that stands so many *lines* above."""
    begin = text.rfind("\n", 0, end)
    for _ in range(lines):
        begin = text.rfind("\n", 0, max(0, begin))
    return begin + 1


def _opening(text: str, end: int, rise: int) -> int:
    """Return where the first record begins, whose text begins at *end*."""
    least = max(0, end - _LONGEST_FRAME)
    opened: list[int] = []
    for match in _FRAME.finditer(text, least, end):
        if match["open"]:
            opened.append(match.start())
        elif match["close"] and opened:
            opened.pop()
    if rise <= 0 and opened:
        begin = opened[-1] + 1
        return begin + len(text[begin:end]) - len(text[begin:end].lstrip())
    if rise <= 0 or len(opened) < rise:
        return end
    begin = opened[-rise]
    while begin > least and (text[begin - 1].isalnum() or text[begin - 1] == "_"):
        begin -= 1  # the name of a printed object
    return begin


def _closing(text: str, start: int, fall: int) -> int:
    """Return where the last record ends, whose text ends before *start*."""
    depth = 0
    if fall < 0:
        for match in _FRAME.finditer(text, start, start + _LONGEST_FRAME):
            depth += bool(match["open"]) - bool(match["close"])
            if depth == fall:
                found = _AFTER.match(text, match.end())
                return found.end() if found and "," in found.group() else match.end()
        return start
    newline = text.find("\n", start, start + _LONGEST_FRAME)
    bracket = min((p for m in "])}" if (p := text.find(m, start, start + 200)) >= 0), default=-1)
    if bracket >= 0 and (newline < 0 or bracket < newline):
        return bracket
    return newline + 1 if newline >= 0 else min(len(text), start + len(text[start:].rstrip()))


# --- elements -------------------------------------------------------------------------------------

FEWEST: Final = 2
_TAG: Final = re.compile(
    r"<(?P<close>/?)(?P<name>[^\W\d_][\w:.-]{0,60})"
    r"(?P<attributes>\s(?:[^<>\"'/]|\"[^\"<>]*+\"|'[^'<>]*+'|['/](?!>))*+)?(?P<empty>/?)>"
)
_ATTRIBUTE: Final = re.compile(r"=\s*(?:\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)')")
_CDATA: Final = re.compile(r"\s*<!\[CDATA\[\s*")
_LINE_END: Final = re.compile(r"[ \t]*\r?\n?")


@dataclass(frozen=True, slots=True, order=True)
class _Element:
    """An element, as character offsets of its tags."""

    start: int
    inside: int
    close: int
    end: int


def tagged_passages(text: str) -> Iterator[list[Record]]:
    """Propose the elements of each name that comes back."""
    if text.count("</") + text.count("/>") < FEWEST:
        return
    opened: dict[str, list[tuple[int, int]]] = {}
    elements: dict[str, list[_Element]] = {}
    tags: list[tuple[int, int]] = []
    for found in _TAG.finditer(text):
        name = found["name"].lower()
        tags.append(found.span())
        if found["empty"]:
            if len(found["attributes"] or "") >= SHORTEST_BODY:
                element = _Element(found.start(), found.end(), found.end(), found.end())
                elements.setdefault(name, []).append(element)
            continue
        if not found["close"]:
            opened.setdefault(name, []).append(found.span())
        elif opened.get(name):
            start, inside = opened[name].pop()
            element = _Element(start, inside, found.start(), found.end())
            elements.setdefault(name, []).append(element)
    for same in elements.values():
        outer = _outermost(sorted(same))
        if len(outer) >= FEWEST:
            yield _behind_one_tag(text, [_element_record(text, tags, e) for e in outer])


def _behind_one_tag(text: str, records: Sequence[Record]) -> list[Record]:
    """Let short texts begin behind the tag that stands before most others."""
    tags = Counter([text[r.start : r.body].rstrip().rpartition("<")[2] for r in records])
    tag, count = tags.most_common(1)[0]
    if not tag or count <= _MOST * len(records):
        return list(records)
    made = []
    for r in records:
        at = text.find(f"<{tag}", r.body, r.tail)
        body = at + len(tag) + 1
        while at >= 0 and body < r.tail and text[body] in "\r\n":
            body += 1
        made.append(Record(r.start, body, r.tail, r.end) if at >= 0 else r)
    return made


def _outermost(elements: Sequence[_Element]) -> list[_Element]:
    found: list[_Element] = []
    for element in elements:
        if not found or element.start >= found[-1].end:
            found.append(element)
    return found


def _element_record(text: str, tags: Sequence[tuple[int, int]], element: _Element) -> Record:
    """The text of an element: from the first long stretch without tags to the last one."""
    edges = [element.inside]
    for at in range(bisect_left(tags, (element.inside, 0)), len(tags)):
        if tags[at][0] >= element.close:
            break
        edges += tags[at]
    edges.append(element.close)
    stretches = [(edges[i], edges[i + 1]) for i in range(0, len(edges), 2)]
    longest = max(b - a for a, b in stretches)
    attributes = _longest_attribute(text, element) if longest < SHORTEST_BODY else None
    long = [(a, b) for a, b in stretches if b - a >= max(1, longest / 4)]
    body, tail = (long[0][0], long[-1][1]) if long else (element.inside, element.close)
    if attributes is not None and attributes[1] - attributes[0] > longest:
        body, tail = attributes
    if cdata := _CDATA.match(text, body, tail):
        body, closing = cdata.end(), text.rfind("]]>", cdata.end(), tail)
        tail = closing if closing >= 0 else tail
    while body < tail and text[body] in "\r\n":
        body += 1
    found = _LINE_END.match(text, element.end)
    return Record(element.start, body, tail, found.end() if found else element.end)


def _longest_attribute(text: str, element: _Element) -> tuple[int, int] | None:
    spans = [
        found.span("double" if found["double"] is not None else "single")
        for found in _ATTRIBUTE.finditer(text, element.start, element.inside)
    ]
    return max(spans, key=lambda span: span[1] - span[0], default=None)
