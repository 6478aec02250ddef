"""Which of two statements of one thing holds: the later one, and the one that corrects.

Nothing is dropped for it. What holds is worth more than what it replaces, and in one text what was
replaced is never kept without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import nlargest
from typing import Final

from langchain_tokenopt.compress.identifiers import identifiers
from langchain_tokenopt.compress.query_terms import query_words
from langchain_tokenopt.compress.unit import Unit
from langchain_tokenopt.text.stems import root
from langchain_tokenopt.text.words import lowered

__all__ = ["prefer_what_holds"]

_STATES: Final = frozenset({"prose", "quote", "turn", "list", "log", "json", "table"})
_LONGEST: Final = 300
"""Characters; a longer speech states many things."""
_MOST: Final = 12
"""Units that are compared: the likeliest."""
_SAME: Final = 0.5
"""Share of the words of the longer one from which two units state the same thing."""
_SAME_CORRECTED: Final = 0.4
"""The same of the shorter one where the other says itself that it corrects."""
_FIRST: Final = 1.05
"""What holds is worth so much more than what it replaces."""

_CORRECTS: Final = re.compile(
    r"\b(?:correct(?:ions?|ed|if)|c(?:orrigend(?:um|a)|hanged? (?:that|it|to))|correcci[oó]n"
    r"|corregid[oa]|corr(?:ezione|eç[aã]o|ectie)|errat(?:um|a)|en cambio"
    r"|updated?(?=[:.,]| on\b| to\b)|no longer|not any ?more"
    r"|n(?:ow|icht mehr|unmehr)|in(?:stead| the end)|s(?:crap that|uperseded by|tattdessen)"
    r"|re(?:placed by|vised|ctific\w+|ctifié\w*|ttific\w+|tificaç\w+)"
    r"|a(?:mended|hora|gora|desso|ctualizad[oa])|d(?:ésormais|orénavant)|maintenant"
    r"|in(?:zwischen|middels)|berichtig\w+|korr(?:ektur|igiert)"
    r"|jetzt|ya no|n'est plus|теперь|поправка|уточнение|исправлен\w*)\b|更正|勘误|不再|改为|现在"
    r"|訂正|修正|今は|現在は"
)
"""Here as below: in lower case."""

_PAST: Final = re.compile(
    r"\b(?:original\w*|initial\w*|first|former(?:ly)?|previous(?:ly)?|before|earlier|used to"
    r"|ursprünglich\w*|zuerst|früher\w*|vorher\w*|bisher\w*|antes"
    r"|anterior\w*|primer[oa]?|inicial\w*|avant|auparavant|précédent\w*|prima|precedent\w*"
    r"|раньше|прежде|сначала)\b|原来|以前|最初|之前"
)
"""Asks for what no longer holds."""

_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        ("jan ene gen янв", "feb fév fev фев", "mar mär maa мар", "apr abr avr апр",
         "may mai mei mag май мая", "jun juin giu июн", "jul juil lug июл", "aug ago aoû авг",
         "sep set сен", "oct okt ott out окт", "nov ноя", "dec dez dic déc дек"), 1,
    )
    for name in names.split()
}  # fmt: skip
"""How months begin in English, German, Spanish, French, Italian, Portuguese, Dutch, Russian."""
_MONTH: Final = (
    rf"(?P<{{0}}>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})[^\W\d_]{{{{0,8}}}}\.?"
)
_DATE: Final = re.compile(
    r"(?<!\d)(?=\d)(?:(?P<y1>\d{4})[-/年_.](?P<m1>\d\d?)(?:[-/月_.](?P<d1>\d\d?))?(?!\d)"
    r"|(?P<d2>\d\d?)\.(?P<m2>\d\d?)\.(?P<y2>\d{4})"
    rf"|\b(?:(?P<d3>\d\d?)(?:st|nd|rd|th|er|\.|º)?(?: de)? {_MONTH.format('m3')}"
    r"(?:,?(?: de)? (?P<y3>\d{4}))?"
    r"|(?P<y6>(?:19|20)\d\d)(?![\d.,]\d)))"
    rf"|\b(?=[{''.join(sorted({name[0] for name in _MONTHS}))}])"
    rf"{_MONTH.format('m4')} (?:(?P<d4>\d\d?)(?:st|nd|rd|th)?\b(?:,? (?P<y4>\d{{4}}))?"
    r"|(?:de )?(?P<y5>\d{4}))"
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
    number = int(month) if month.isdigit() else _MONTHS[month]
    return int(parts.get("y", 0)), number, int(parts.get("d", 0))


def prefer_what_holds(
    texts: Sequence[str],
    units: Sequence[Unit],
    likely: list[float],
    named: Mapping[int, int],
    query: str | None,
) -> None:
    """Put what is newer, or corrects, before what it replaces; *likely* and heads are changed.

    Compared are the units in which most of what is asked for is *named*. A query that names a
    date asks for what held then: the newest of what is not newer than that.
    One that names an identifier asks for that one thing: nothing is changed.
    """
    asked, then = _asked(query) if query is not None else (frozenset(), None)
    if not asked:
        return
    statements = [at for at in named if likely[at] > 0 and _states(units[at])]
    most = max([named[at] for at in statements], default=0)
    alike = nlargest(_MOST, [at for at in statements if named[at] == most], likely.__getitem__)
    if len(alike) < 2 or not most:
        return
    told = {at: lowered(units[at].within(texts[units[at].source])) for at in alike}
    corrects = {at for at, text in told.items() if then is None and _CORRECTS.search(text)}
    dates = {at: date for at in told if (date := _dated(texts, units, at))}
    if not corrects and len(set(dates.values())) < 2:
        return
    words = {
        at: {root(w) for w in query_words(text) if w.isalpha() and w[:3] not in _MONTHS}
        for at, text in told.items()
    }

    def rank(at: int) -> tuple[bool, bool, Date]:
        date = dates.get(at, (0, 0, 0))
        return at in corrects, then is None or _not_after(date, then), date

    for at in sorted(told, key=rank):
        for old in told:
            if old == at or not _same_thing(words[at], words[old], asked, at in corrects):
                continue
            comparable = _comparable(dates.get(at), dates.get(old))
            if at in corrects and old not in corrects:
                holds = not comparable or dates[old] <= dates[at]
            else:
                holds = comparable and rank(at) > rank(old)
            if holds:
                _put_first(units, likely, at, old)


def _states(unit: Unit) -> bool:
    return unit.kind in _STATES and unit.end - unit.start <= _LONGEST


def _not_after(date: Date, then: Date) -> bool:
    """Say whether *date* is at most *then*, as far as that is said."""
    return tuple(one if other else 0 for one, other in zip(date, then, strict=True)) <= then


@lru_cache(maxsize=256)
def _asked(query: str) -> tuple[frozenset[str], Date | None]:
    """Return the roots of what is asked, none where an identifier says which one; and the date."""
    then = date_of(query)
    rest = _DATE.sub(" ", lowered(query), count=1) if then else lowered(query)
    if any(identifiers(rest)) or _PAST.search(rest):
        return frozenset(), then
    return frozenset(map(root, query_words(rest))), then


def _dated(texts: Sequence[str], units: Sequence[Unit], at: int) -> Date | None:
    """Return the date of a unit, of its title, or of a line above it that bears one."""
    unit, text = units[at], texts[units[at].source]
    if not _DIGIT.search(text):
        return None
    above = units[max(0, at - _FARTHEST + 1) : at + 1]
    head = units[unit.head] if unit.head >= 0 else unit
    for other in (*reversed(above), head):
        if other.source != unit.source:
            continue
        start, end = other.start, other.end
        is_line = end - start <= _LONGEST_DATE_LINE and text[end - 1 : end] == "\n"
        bears = is_line or other is unit or other is head or other.kind == "heading"
        if bears and (date := date_of(text[start:end])):
            return date
    return None


_FARTHEST: Final = 40
"""Units below a line that bears a date to which that may apply."""
_LONGEST_DATE_LINE: Final = 80
"""Characters."""


def _comparable(one: Date | None, other: Date | None) -> bool:
    """Say whether dates can be compared: those with and without a year cannot."""
    return one is not None and other is not None and bool(one[0]) == bool(other[0])


def _same_thing(one: set[str], other: set[str], asked: frozenset[str], corrects: bool) -> bool:
    """Say whether two units state one thing, and one that is asked for."""
    shared = one & other
    if not shared & asked:
        return False
    if corrects:
        return other & asked <= one and len(shared) >= _SAME_CORRECTED * min(len(one), len(other))
    return len(shared) >= _SAME * max(len(one), len(other)) and one & asked == other & asked


def _put_first(units: Sequence[Unit], likely: list[float], holds: int, replaced: int) -> None:
    new, old = units[holds], units[replaced]
    weight = ((new.tokens + 1) / (old.tokens + 1)) ** 0.5
    likely[holds] = max(likely[holds], _FIRST * likely[replaced] * max(1.0, weight))
    first, second = _whole(units, holds), _whole(units, replaced)
    above = units[first].head
    if new.source == old.source and units[second].head in (-1, above) and above != second:
        units[second].head = first


def _whole(units: Sequence[Unit], at: int) -> int:
    """Return the unit with which *at* is kept or dropped: what opens a row or member."""
    while units[at].bound >= 0:
        at = units[at].bound
    return at
