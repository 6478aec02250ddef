"""Which of two statements of one thing holds: the later one, and the one that corrects.

Nothing is dropped for it. What holds is worth more than what it replaces, and in one text what was
replaced is never kept without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from heapq import nlargest
from typing import Final

from langchain_tokenopt.compress.identifiers import identifiers
from langchain_tokenopt.compress.query_terms import query_words
from langchain_tokenopt.compress.unit import Unit
from langchain_tokenopt.text.stems import root
from langchain_tokenopt.text.words import lowered

__all__ = ["prefer_what_holds"]

_STATES: Final = frozenset({"prose", "turn", "list"})
_MOST: Final = 12
"""Units that are compared: the likeliest."""
_SAME: Final = 0.5
"""Share of the words of the shorter one from which two units state the same thing."""
_FIRST: Final = 1.05
"""What holds is worth so much more than what it replaces."""

_CORRECTS: Final = re.compile(
    r"\b(?:corrections?|corrected|corrigend(?:um|a)|errat(?:um|a)|updated?(?=[:.,]| on\b| to\b)"
    r"|no longer|not any ?more|instead|scrap that|in the end|changed? (?:that|it|to)|now"
    r"|superseded by|replaced by|revised|amended|berichtig\w+|korrektur|korrigiert|nicht mehr"
    r"|stattdessen|jetzt|nunmehr|correcci[oó]n|corregid[oa]|ya no|ahora|en cambio|actualizad[oa])\b"
    r"|更正|勘误|不再|改为|现在"
)
"""Here as below: in lower case."""

_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        ("jan ene", "feb", "mar mär", "apr abr", "may mai", "jun", "jul", "aug ago", "sep",
         "oct okt", "nov", "dec dez dic"), 1,
    )
    for name in names.split()
}  # fmt: skip
_MONTH: Final = rf"(?P<{{0}}>(?:{'|'.join(_MONTHS)})[a-zé]*)\.?"
_DATE: Final = re.compile(
    r"(?P<y1>\d{4})-(?P<m1>\d\d)(?:-(?P<d1>\d\d))?"
    r"|(?P<d2>\d\d?)\.(?P<m2>\d\d?)\.(?P<y2>\d{4})"
    rf"|\b(?:(?P<d3>\d\d?)(?:st|nd|rd|th|\.)?(?: de)? {_MONTH.format('m3')}"
    r"(?:,?(?: de)? (?P<y3>\d{4}))?"
    r"|(?P<y6>(?:19|20)\d\d)\b"
    rf"|(?=[{''.join(sorted({name[0] for name in _MONTHS}))}])"
    rf"(?:{_MONTH.format('m4')} (?P<d4>\d\d?)(?:st|nd|rd|th)?\b(?:,? (?P<y4>\d{{4}}))?"
    rf"|{_MONTH.format('m5')} (?P<y5>\d{{4}})))"
)
_DIGIT: Final = re.compile(r"\d")
Date = tuple[int, int, int]


def date_of(text: str) -> Date | None:
    """Return the first date in *text* as year, month and day, each 0 where it is not said.

    Example:
        >>> date_of("Letter of 9 September 2024"), date_of("as of Mar 4"), date_of("Prices 2023")
        ((2024, 9, 9), (0, 3, 4), (2023, 0, 0))
    """
    found = _DATE.search(lowered(text)) if _DIGIT.search(text) else None
    if found is None:
        return None
    parts = {name[0]: value for name, value in found.groupdict().items() if value}
    month = parts.get("m", "0")
    number = int(month) if month.isdigit() else _MONTHS[month[:3].lower()]
    return int(parts.get("y", 0)), number, int(parts.get("d", 0))


def prefer_what_holds(
    texts: Sequence[str], units: Sequence[Unit], likely: list[float], query: str | None
) -> None:
    """Put what is newer, or corrects, before what it replaces; *likely* and heads are changed.

    A query that names a date asks for what held then, one that names an identifier for that one
    thing: nothing is changed. Nor is it among rows and records, which are all alike.
    """
    asked = _asked_roots(query) if query is not None else frozenset()
    if not asked:
        return
    statements = [at for at, unit in enumerate(units) if unit.kind in _STATES and likely[at] > 0]
    statements = nlargest(_MOST, statements, key=likely.__getitem__)
    told = {at: lowered(units[at].within(texts[units[at].source])) for at in statements}
    told = _asked_alike(told, [word[: max(4, len(word) - 1)] for word in asked])
    if len(told) < 2:
        return
    corrects = {at for at, text in told.items() if _CORRECTS.search(text)}
    dates = {at: date for at, text in told.items() if (date := _dated(texts, units, at, text))}
    if not corrects and len(set(dates.values())) < 2:
        return
    words = {
        at: {root(w) for w in query_words(text) if w.isalpha() and w[:3] not in _MONTHS}
        for at, text in told.items()
    }
    for at in sorted(told, key=lambda at: (at in corrects, dates.get(at, (0, 0, 0)))):
        for old in told:
            if old == at or not _same_thing(words[at], words[old], asked, at in corrects):
                continue
            if at in corrects and old not in corrects:
                holds = not _later(dates.get(old), dates.get(at))
            else:
                holds = (at in corrects) == (old in corrects) and _later(
                    dates.get(at), dates.get(old)
                )
            if holds:
                _put_first(units, likely, at, old)


@lru_cache(maxsize=256)
def _asked_roots(query: str) -> frozenset[str]:
    """Return the roots of what is asked; none where a date or an identifier says which one."""
    if any(identifiers(query)) or date_of(query):
        return frozenset()
    return frozenset(map(root, query_words(query)))


def _asked_alike(told: dict[int, str], beginnings: Sequence[str]) -> dict[int, str]:
    """Return the texts with most of the words that are asked for, told by how those begin."""
    named = {}
    for at, text in told.items():
        named[at] = sum([beginning in text for beginning in beginnings])
    most = max(named.values(), default=0)
    return {at: text for at, text in told.items() if 0 < named[at] == most}


def _dated(texts: Sequence[str], units: Sequence[Unit], at: int, text: str) -> Date | None:
    """Return the date of a unit, or that of its title."""
    head = units[at].head
    title = units[head] if head >= 0 else None
    return date_of(text) or (date_of(title.within(texts[title.source])) if title else None)


def _later(one: Date | None, other: Date | None) -> bool:
    """Say whether *one* is later; dates with and without a year cannot be compared."""
    if one is None or other is None or bool(one[0]) != bool(other[0]):
        return False
    return one > other


def _same_thing(one: set[str], other: set[str], asked: frozenset[str], corrects: bool) -> bool:
    """Say whether two units state one thing, and one that is asked for."""
    shared = one & other
    if not shared & asked:
        return False
    if corrects:
        return other & asked <= one
    return len(shared) >= _SAME * min(len(one), len(other)) and one & asked == other & asked


def _put_first(units: Sequence[Unit], likely: list[float], holds: int, replaced: int) -> None:
    new, old = units[holds], units[replaced]
    weight = ((new.tokens + 1) / (old.tokens + 1)) ** 0.5
    likely[holds] = max(likely[holds], _FIRST * likely[replaced] * max(1.0, weight))
    if new.source == old.source and old.head in (-1, new.head) and new.head != replaced:
        old.head = holds
