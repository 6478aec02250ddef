"""Cut XML and HTML, and text with tags in it, where elements that are kept stay closed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.blocks import ATTRIBUTES
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts
from langchain_tokenopt.compress.unit import Kind, Unit

__all__ = ["MOST_LINES", "Element", "elements_of", "markup_end", "markup_units"]

LONGEST_WHOLE_ELEMENT: Final = 400
"""Characters; longer elements are kept or dropped by what is in them."""
_DEEPEST: Final = 12
_TAG: Final = re.compile(
    r"<!--[\s\S]*?(?:-->|\Z)|<!\[CDATA\[[\s\S]*?(?:\]\]>|\Z)"
    r"|<(?P<close>/?)(?P<name>[A-Za-z_][\w:.-]{0,60})(?P<rest>" + ATTRIBUTES + r")(?P<own>/?)>"
)
_VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)
_CLOSE: Final = re.compile(r"</(\w+)>")
_FEWEST_TAGS: Final = 6
_LONG_TEXT: Final = 200
"""Characters of a line without its tags; where most is in such lines, tags mark passages."""
_UNDECIDED: Final = 40


@dataclass(slots=True)
class Element:
    """An element that is closed, as character offsets."""

    name: str
    start: int
    inside: int
    close: int = -1
    end: int = -1
    inner: list[Element] = field(default_factory=list)


def elements_of(text: str, start: int = 0, end: int | None = None) -> list[Element]:
    """Return the outermost elements that are closed, with those in them."""
    found: list[Element] = []
    opened: list[Element] = []
    names: dict[str, int] = {}
    end = len(text) if end is None else end
    empty = _VOID - {name.lower() for name in _CLOSE.findall(text, start, end)}
    for match in _TAG.finditer(text, start, end):
        name = match["name"]
        if name is None or match["own"] or name.lower() in empty:
            continue
        if not match["close"]:
            opened.append(Element(name, *match.span()))
            names[name] = names.get(name, 0) + 1
            continue
        if not names.get(name):
            continue
        while opened:
            element = opened.pop()
            names[element.name] -= 1
            if element.name == name:
                break
        element.close, element.end = match.span()
        outer = opened[-1].inner if opened else found
        outer.append(element)
    # what was opened and never closed gives its children to the text around it
    for element in opened:
        found += element.inner
    return sorted(found, key=lambda element: element.start)


# --- recognition ---------------------------------------------------------------------------------

_BEGINS: Final = re.compile(r"[ \t]*<(?:\?xml\b|!DOCTYPE\b|[A-Za-z_])", re.IGNORECASE)
_DECLARES: Final = re.compile(r"[ \t]*<[?!]")
_IS_XML: Final = re.compile(r"[ \t]*<\?xml\b")
MOST_LINES: Final = 5_000


def markup_end(lines: Sequence[str], row: int, most: int = MOST_LINES) -> tuple[int, int]:
    r"""Return the row after the XML or HTML that begins at *row*, and how many lines were read.

    It is an element over several lines in which there are many others and little text. Where there
    is none among the next *most* lines, the first is *row*.

    Example:
        >>> rows = [f"  <b id='{n}'>tea</b>\n" for n in range(9)]
        >>> markup_end(["<a>\n", *rows, "</a>\n", "That is all.\n"], 0)
        (11, 11)
    """
    if not _BEGINS.match(lines[row]):
        return row, 0
    end, depth, tags, size, name = row, 0, 0, 0, ""
    long = 0
    while end < len(lines) and end - row < most:
        line = lines[end]
        size += len(line)
        if len(line) > _LONG_TEXT and len(text := _TAG.sub("", line).strip()) > _LONG_TEXT:
            long += len(text)
        end += 1
        for match in _TAG.finditer(line):
            if match["name"] is None:
                continue
            tags += 1
            if not name:
                if match["own"] or match["close"]:
                    return row, end - row
                name = match["name"]
            if match["name"] == name and not match["own"]:
                depth += -1 if match["close"] else 1
        if name and depth <= 0:
            is_sure = tags >= _FEWEST_TAGS or _IS_XML.match(lines[row])
            is_data = is_sure and 2 * long < size and end > row + 1
            return end if is_data else row, end - row
        if not name and not _DECLARES.match(line) and line.strip():
            break
        if end - row > _UNDECIDED and 2 * long > size:
            break
    return row, end - row


# --- units ---------------------------------------------------------------------------------------


def markup_units(
    text: str, start: int, end: int, kind: Kind, units: list[Unit], head: int = -1
) -> None:
    """Add units of text with tags in it: sentences and short elements, which are never torn.

    Of a longer element what is in it may be dropped; its tags stay with any of it.

    Example:
        >>> text, units = "Tea <b>is. Hot</b>. Ice is not.", []
        >>> markup_units(text, 0, len(text), "prose", units)
        >>> [text[unit.start : unit.end] for unit in units]
        ['Tea <b>is. Hot</b>.', ' Ice is not.']
    """
    if "</" not in text[start:end]:
        _add_sentences(text, start, end, [], kind, units, head)
    else:
        elements = elements_of(text, start, end)
        if elements and _DECLARATIONS.fullmatch(text, start, elements[0].start):
            elements[0].start = start  # alone they would be no document
        _add(text, start, end, elements, kind, units, head, 0)


def _add(
    text: str, start: int, end: int, elements: Sequence[Element], kind: Kind, units: list[Unit],
    head: int, depth: int,
) -> None:  # fmt: skip
    short: list[Element] = []
    for element in elements:
        if element.end - element.start <= LONGEST_WHOLE_ELEMENT or depth >= _DEEPEST:
            short.append(element)
            continue
        begin = max(start, text.rfind("\n", start, element.start) + 1)
        if text[begin : element.start].strip():
            begin = element.start
        _add_sentences(text, start, begin, short, kind, units, head)
        short = []
        inside = _behind_break(text, _behind_header(text, element), element.close)
        close = element.close
        line = text.rfind("\n", inside, close) + 1
        if line and not text[line:close].strip():
            close = line  # the margin of the closing tag goes with it
        finish = _behind_break(text, element.end, end)
        opening = len(units)
        units.append(Unit(begin, inside, kind, head=head, frame=True))
        inner = [child for child in element.inner if child.start >= inside]
        _add(text, inside, close, inner, kind, units, opening, depth + 1)
        units.append(Unit(close, finish, kind, bound=opening, frame=True))
        start = finish
    _add_sentences(text, start, end, short, kind, units, head)


def _behind_header(text: str, element: Element) -> int:
    """Return where what opens an element ends; with a table, its caption and header belong to it.

    Rows would not be known without them.
    """
    inside = element.inside
    if element.name.lower() != "table":
        return inside
    for child in element.inner:
        is_header = child.name.lower() in ("caption", "colgroup", "thead") or (
            child.name.lower() == "tr" and "<th" in text[child.inside : child.close].lower()
        )
        if not is_header:
            break
        inside = child.end
    return inside


_DECLARATIONS: Final = re.compile(
    r"(?:\s*<(?:\?[^<>]*|!--[\s\S]*?--|![^<>\[]*(?:\[(?:\"[^\"]*\"|'[^']*'|[^\]\"'])*\]\s*)?)>)+\s*"
)
_BREAK: Final = re.compile(r"[ \t]*\r?\n")


def _behind_break(text: str, at: int, end: int) -> int:
    found = _BREAK.match(text, at, end)
    return found.end() if found else at


_TEMPLATE: Final = re.compile(r"^[ \t]*\{%[^\n]*%\}[ \t\r]*\n", re.MULTILINE)
"""A line of a template that puts elements there or not."""


def _siblings(text: str, elements: Sequence[Element]) -> list[Element]:
    """Return those of one name that follow each other; the cells of a row are no items."""
    found: list[Element] = []
    for one, other in pairwise(elements):
        is_like = one.name == other.name and one.name.lower() not in ("td", "th")
        if is_like and not text[one.end : other.start].strip():
            found += [one, other]
    return found


def _add_sentences(
    text: str, start: int, end: int, whole: Sequence[Element], kind: Kind, units: list[Unit],
    head: int,
) -> None:  # fmt: skip
    """Add sentences; none ends inside of an element. In data, and of several, each one is one."""
    if start >= end:
        return
    cuts = sentence_cuts(text, start, end)
    apart = whole if kind == "data" else _siblings(text, whole)
    if apart:
        cuts = sorted({*cuts, *(_behind_break(text, element.end, end) for element in apart)})
    if text.find("{%", start, end) >= 0:
        lines = (found.span() for found in _TEMPLATE.finditer(text, start, end))
        cuts = sorted({*cuts, *(edge for span in lines for edge in span if edge > start)})
    at = 0
    for cut in cuts:
        while at < len(whole) and whole[at].end <= cut:
            at += 1
        if cut != end and at < len(whole) and whole[at].start < cut:
            continue
        if not text[start:cut].strip() and units and units[-1].end == start:
            units[-1].end = cut
        else:
            units.append(Unit(start, cut, kind, head=head))
        start = cut
