"""Cut segments into units: what is kept or dropped as a whole.

A unit is a sentence of prose, an item of a list, a row of a table, a record of a log, a turn, a
function, a member of a JSON value, or a block such as a tag. Units cover the text without gaps and
never cross a segment. Line breaks belong to the unit before them, spaces to the unit after them, as
byte-pair tokenizers see it, so the tokens of units add up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from langchain_tokenopt.compress.bare_code import is_running_text, is_text
from langchain_tokenopt.compress.blocks import enclosed_units
from langchain_tokenopt.compress.code_units import code_units
from langchain_tokenopt.compress.json_units import json_units
from langchain_tokenopt.compress.lines_under import ITEM
from langchain_tokenopt.compress.markup import markup_units
from langchain_tokenopt.compress.outlines import outline_units
from langchain_tokenopt.compress.python_units import parsed_python
from langchain_tokenopt.compress.records import record_units
from langchain_tokenopt.compress.segments import LABEL, Segment, is_prose, segments_of
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts
from langchain_tokenopt.compress.tables import table_units
from langchain_tokenopt.compress.unit import Unit, without_head

__all__ = ["Unit", "open_fences", "prose_cuts", "units_of", "without_head"]


def prose_cuts(text: str) -> Sequence[int] | None:
    """Return where the units of a passage end that is nothing but prose, as most are."""
    return sentence_cuts(text, 0, len(text)) if is_prose(text) and "</" not in text else None


def units_of(text: str, segments: Sequence[Segment] | None = None, depth: int = 0) -> list[Unit]:
    r"""Cut *text*, which stands in *depth* blocks, into units; they cover it without gaps.

    Example:
        >>> text = "It rained. We stayed.\n- tea\n- cake\n"
        >>> [text[u.start:u.end] for u in units_of(text)]
        ['It rained.', ' We stayed.\n', '- tea\n', '- cake\n']
    """
    units: list[Unit] = []
    for segment in segments_of(text) if segments is None else segments:
        if units and text[segment.start : segment.end].isspace():
            units[-1].end = segment.end
        else:
            _add(text, segment, units, depth)
    return units


def _add(text: str, segment: Segment, units: list[Unit], depth: int) -> None:
    kind, start, end = segment.kind, segment.start, segment.end
    if kind == "prose":
        _add_sentences(text, start, end, units)
    elif kind == "data" and text[start:end].lstrip()[:1] == "<":
        markup_units(text, start, end, kind, units)
    elif kind == "table":
        table_units(text, start, end, units)
    elif kind == "label":
        _split_unit(text, segment, _label_end(text, segment), units)
    elif kind == "heading":
        _split_unit(text, segment, _heading_end(text, segment), units)
    elif kind == "json":
        first = len(units)
        json_units(text, _behind_blanks(text, start), end, units)
        units[first].start = start
    elif kind == "code":
        _add_code(text, start, end, units, depth)
    elif kind in ("list", "data"):
        outline_units(text, start, end, kind, units)
    elif kind in ("log", "turn"):
        record_units(text, start, end, kind, units)
    elif kind == "block":
        enclosed_units(text, start, end, "data", units, partial(_inside_block, depth=depth + 1))
    elif kind == "diff":
        _add_hunk(text, segment, units)
    else:
        units.append(Unit(start, end, kind))


_BLANKS = re.compile(r"\s*")


def _behind_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _add_sentences(text: str, start: int, end: int, units: list[Unit], head: int = -1) -> None:
    if text.find("</", start, end) >= 0:
        markup_units(text, start, end, "prose", units, head)
        return
    for cut in sentence_cuts(text, start, end):
        units.append(Unit(start, cut, head=head))
        start = cut


_FENCED = re.compile(
    r"([ \t]*(`{3,}|~{3,})[^\n]*\n)([\s\S]*?)(^[ \t]*\2[`~]*[ \t\r\n]*)\Z", re.MULTILINE
)
_OF_RECORDS = frozenset({"table", "log", "turn", "data", "json", "diff"})
_OF_TEXT = _OF_RECORDS | {"prose", "list", "heading", "label"}
_STRUCTURED = frozenset({"block", "table", "tag", "json"})
_OF_LINES = _STRUCTURED | {"code", "list", "data", "log"}
_LONGEST_WHOLE = 2_000
"""Characters of a block, of which lines may go if it is longer, whatever it holds."""
_ITEM = re.compile(r"[ \t]*\\item\b")


def _add_code(text: str, start: int, end: int, units: list[Unit], depth: int) -> None:
    """Code, or what stands between the marks of a fence, which stay with any part of it."""
    fenced = _FENCED.match(text[start:end])
    if fenced is None and text[start:end].lstrip()[:3] in ("```", "~~~"):
        units.append(Unit(start, end, "code"))  # never closed: nobody knows where it ends
    elif fenced is None:
        code_units(text, start, end, units)
    else:
        enclosed_units(text, start, end, "code", units, partial(_inside_fence, depth=depth + 1))


_DEEPEST = 8
"""Blocks in each other; every level is read once more."""


def _inside_block(text: str, depth: int) -> list[Unit]:
    """Cut what a block holds if that is text, items, rows, or other blocks."""
    if depth > _DEEPEST:
        return []
    segments = segments_of(text)
    kinds = _kinds(text, segments)
    may_go = kinds & (_STRUCTURED if len(text) <= _LONGEST_WHOLE else _OF_LINES)
    if may_go or _ITEM.match(text) or is_text(text):
        return units_of(text, segments, depth)
    return []


def _inside_fence(text: str, depth: int) -> list[Unit]:
    """Cut what a fence encloses as what it is: markup, records, blocks, running text, else code."""
    segments = _fenced_segments(text) if depth <= _DEEPEST else None
    if segments is not None:
        return units_of(text, segments, depth)
    units: list[Unit] = []
    code_units(text, 0, len(text), units)
    return units


def _fenced_segments(text: str) -> list[Segment] | None:
    """Return the segments of what a fence encloses, unless that is code."""
    if text.lstrip()[:1] == "<" and "</" in text:
        return [Segment("data", 0, len(text))]
    segments = segments_of(text)
    kinds = _kinds(text, segments)
    if kinds <= _OF_RECORDS or kinds & {"block", "diff"}:
        return segments
    if kinds <= _OF_TEXT and parsed_python(text) is None and is_running_text(text):
        titles = [text[s.start : s.end].strip() for s in segments if s.kind == "heading"]
        has_letters = any("\n" in title for title in titles)
        return (
            segments
            if has_letters or _holds_items(text, segments)
            else [Segment("prose", 0, len(text))]
        )
    return None


def _holds_items(text: str, segments: Sequence[Segment]) -> bool:
    """Say whether most of it is items, each with lines of its own."""
    size = sum(s.end - s.start for s in segments if ITEM.match(text, s.start, s.end))
    return 2 * size > len(text)


def _kinds(text: str, segments: Sequence[Segment]) -> set[str]:
    return {s.kind for s in segments if text[s.start : s.end].strip()}


def open_fences(text: str, segments: Sequence[Segment]) -> list[Segment]:
    """Return *segments* with those that fences enclose, unless that is code, in their place.

    Passages of a prompt may stand in one fence together; the marks of the fence then stand outside,
    and :func:`bind_fences` keeps them together.
    """
    made: list[Segment] = []
    for segment in segments:
        start, end = segment.start, segment.end
        inside, close = _opened(text, segment)
        if inside == close:
            made.append(segment)
            continue
        kind = segment.kind if segment.kind == "code" else "data"
        inner = _fenced_segments(text[inside:close]) or segments_of(text[inside:close])
        made.append(Segment(kind, start, inside))
        made += [Segment(s.kind, s.start + inside, s.end + inside) for s in inner]
        made.append(Segment(kind, close, end))
    return made


_MOSTLY = 0.5


def _opened(text: str, segment: Segment) -> tuple[int, int]:
    """Return what a fence encloses unless that is code, or a block that is most of the text."""
    start, end = segment.start, segment.end
    if segment.kind == "code" and (fenced := _FENCED.match(text[start:end])):
        inner = fenced.group(3)
        is_one = "```" not in inner and "~~~" not in inner
        if is_one and inner.strip() and _fenced_segments(inner) is not None:
            return start + fenced.end(1), start + fenced.start(4)
    elif segment.kind == "block" and end - start > _MOSTLY * len(text):
        lines = text[start:end].splitlines(keepends=True)
        inside, close = start + len(lines[0]), end - len(lines[-1])
        if inside < close and _inside_block(text[inside:close], 1):
            return inside, close
    return start, start


def _add_hunk(text: str, segment: Segment, units: list[Unit]) -> None:
    """A hunk belongs under the lines that name its files."""
    names = not text.startswith("@@", segment.start)
    head = -1
    if not names and units and units[-1].kind == "diff":
        head = units[-1].head if units[-1].head >= 0 else len(units) - 1
        if text.startswith("@@", units[head].start):
            head = -1
    units.append(Unit(segment.start, segment.end, "diff", head=head, frame=names))


def _split_unit(text: str, segment: Segment, cut: int, units: list[Unit]) -> None:
    """The heading or label, then the sentences that stand behind it on the same line."""
    if not text[cut : segment.end].strip():
        cut = segment.end
    head = len(units)
    units.append(Unit(segment.start, cut, segment.kind))
    if cut < segment.end:
        _add_sentences(text, cut, segment.end, units, head)


def _label_end(text: str, segment: Segment) -> int:
    found = LABEL.match(text, segment.start, segment.end)
    return found.end() if found else segment.end


_NUMBERED = re.compile(
    r"(?:[^\W\d_]+ )?(?:[^\W\d_]+[ #]*)?\[?\d{1,4}\]?"
    r"(?: ?\([^()\n]{0,200}(?:\([^()\n]{0,100}\)[^()\n]{0,200})?\)| ?[:.：])?"
)
LONGEST_TITLE = 140
"""Characters; what stands behind a number on a longer line is text rather than a title."""


def _heading_end(text: str, segment: Segment) -> int:
    """Return where a heading ends when text follows it on the same line."""
    is_title = segment.end - segment.start <= LONGEST_TITLE and text[segment.start] == "#"
    if is_title or text[segment.start : segment.end].strip().count("\n"):
        return segment.end
    found = _NUMBERED.match(text, segment.start, segment.end)
    if found is None:
        return segment.end
    has_title = text[found.end() - 1] == ")"
    return found.end() if has_title or segment.end - segment.start > LONGEST_TITLE else segment.end
