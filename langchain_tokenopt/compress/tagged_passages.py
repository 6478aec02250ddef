"""Passages in elements of XML or HTML, on lines of their own or not."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from langchain_tokenopt.compress.quoted_records import SHORTEST_BODY, Record

__all__ = ["tagged_passages"]

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
            yield [_record(text, tags, element) for element in outer]


def _outermost(elements: Sequence[_Element]) -> list[_Element]:
    found: list[_Element] = []
    for element in elements:
        if not found or element.start >= found[-1].end:
            found.append(element)
    return found


def _record(text: str, tags: Sequence[tuple[int, int]], element: _Element) -> Record:
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
