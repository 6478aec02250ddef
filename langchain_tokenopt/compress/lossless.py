"""Say the same in fewer tokens, and find what is said twice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from langchain_tokenopt.compress.json_encoding import Count, encode_json
from langchain_tokenopt.compress.json_units import may_hold_json
from langchain_tokenopt.compress.segments import segments_of
from langchain_tokenopt.compress.unit import Unit

__all__ = ["duplicate_units", "lossless", "may_shrink"]

_BLANK_LINES = re.compile(r"(\r?\n)(?:[ \t]*\r?\n){2,}")
_MAY_BE_BLANK = ("\n\n\n", "\n\r", "\n ", "\n\t")


def may_shrink(text: str) -> bool:
    """Say quickly whether :func:`lossless` could find anything in *text*."""
    return "\n\n\n" in text or may_hold_json(text)


def lossless(text: str, count: Count, *, tables: bool = False) -> str:
    r"""Write the JSON in *text* in fewer tokens, and single blank lines between its paragraphs.

    JSON is parsed again and compared before it is used. Code, fences, tables and other data are
    never touched, nor is any white space within a line.

    Args:
        text: Any text.
        count: Decides which encoding is smallest.
        tables: Whether lists of like objects may become tables of ``columns`` and ``data``.

    Example:
        >>> lossless('Result:\n{ "items": [ { "id": 1, "n": 2.50 }, { "id": 2, "n": 3 } ] }', len)
        'Result:\n{"items":[{"id":1,"n":2.50},{"id":2,"n":3}]}'
    """
    if not may_shrink(text):
        return text
    whole = encode_json(text, count, tables=tables) if text.lstrip()[:1] in ("{", "[") else None
    if whole is not None:
        return whole
    pieces = []
    for segment in segments_of(text):
        piece = text[segment.start : segment.end]
        if segment.kind == "json":
            piece = _shorter_json(piece, count, tables=tables)
        elif segment.kind == "prose" and any(gap in piece for gap in _MAY_BE_BLANK):
            piece = _BLANK_LINES.sub(r"\1\1", piece)
        pieces.append(piece)
    return "".join(pieces)


def _shorter_json(piece: str, count: Count, *, tables: bool) -> str:
    body = piece.strip()
    encoded = encode_json(body, count, tables=tables)
    if encoded is None:
        return piece
    at = piece.index(body)
    return piece[:at] + encoded + piece[at + len(body) :]


SHORTEST_DUPLICATE = 12
"""Characters; shorter sentences are repeated on purpose."""


def duplicate_units(texts: Sequence[str], units: Sequence[Unit]) -> list[int]:
    """Return the units whose sentence, item, row or block has been said before, word for word.

    Near-duplicate passages are so reduced to the sentences in which they differ. Nothing is lost:
    the first occurrence stays. Under another title or header the same words say something else.
    """
    said = [texts[unit.source][unit.start : unit.end].strip() for unit in units]
    if len(set(said)) == len(units):
        return []
    times = Counter(said)
    seen: dict[str, list[int]] = {}
    found = []
    heads: dict[int, str] = {}
    for at, unit in enumerate(units):
        if times[said[at]] < 2 or unit.end - unit.start < SHORTEST_DUPLICATE:
            continue
        if unit.frame or unit.kind in _NO_STATEMENT:
            continue
        before = seen.setdefault(said[at], [])
        under = _under(texts, units, at, heads) if before else ""
        if any(_under(texts, units, other, heads) == under for other in before):
            if not unit.required:
                found.append(at)
        else:
            before.append(at)
    return found


_NO_STATEMENT = ("tag", "heading", "label")
_NUMBERING = re.compile(
    r"^(?:[^\W\d_]+ ?#?)?\[?\d{1,4}\]?[.:)]?\s*|[\s()\[\]<>/#*|:-]+", re.UNICODE
)


def _under(texts: Sequence[str], units: Sequence[Unit], at: int, heads: dict[int, str]) -> str:
    """Return the titles above a unit, without the number of the passage."""
    head = units[at].head
    if head < 0 or head == at:
        return ""
    known = heads.get(head)
    if known is None:
        unit = units[head]
        title = _NUMBERING.sub(" ", texts[unit.source][unit.start : unit.end].strip())
        known = heads[head] = f"{_under(texts, units, head, heads)}\n{title.strip()}"
    return known
