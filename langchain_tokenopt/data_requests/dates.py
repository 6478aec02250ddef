"""Dates as people write them in answers: whole ones, for a year that nobody says is a guess."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final

from langchain_tokenopt.text.languages import language_of

__all__ = ["DateFound", "dates_in"]

_MONTHS: Final[Mapping[str, int]] = {
    name: number
    for names in (
        "january february march april may june july august september october november december",
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "jän feber mrz apr mai jun jul aug sept okt nov dez",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
        "dicembre",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    )
    for number, name in enumerate(names.split(), start=1)
}
_MONTH: Final = "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True))
_DAY: Final = r"(?P<d>\d{1,2})(?:st|nd|rd|th|er|º|\.)?"
_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?<!\d)(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)",
        r"(?<!\d)(?P<y>\d{4})\s*[年년]\s*(?P<m>\d{1,2})\s*[月월]\s*(?P<d>\d{1,2})\s*[日일号]?",
        rf"(?<!\w){_DAY}(?:\s+of|\s+de)?[\s-]+(?P<n>{_MONTH})\b\.?,?[\s-]+(?:de\s+)?(?P<y>\d{{4}})(?!\d)",
        rf"\b(?P<n>{_MONTH})\b\.?\s+{_DAY},?\s+(?P<y>\d{{4}})(?!\d)",
    )
)
_NUMERIC: Final = re.compile(r"(?<![\d.])(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?!\d)")


class DateFound:
    """A date in a text, and where it stands; ``None`` where it could be two different days."""

    __slots__ = ("day", "end", "start")

    def __init__(self, day: date | None, start: int, end: int) -> None:
        self.day, self.start, self.end = day, start, end


def dates_in(text: str) -> Iterator[DateFound]:
    """Find the whole dates of *text*.

    Example:
        >>> [f"{found.day}" for found in dates_in("5 May 2026, am 6.5.2026, on 05/06/2026, in May")]
        ['2026-05-05', '2026-05-06', 'None']
    """
    for form in _FORMS:
        for match in form.finditer(text):
            said = match.groupdict()
            month = _MONTHS[said["n"].casefold()] if said.get("n") else int(said["m"])
            day = _day(int(said["y"]), month, int(said["d"]))
            if day is not None:
                yield DateFound(day, match.start(), match.end())
    for match in _NUMERIC.finditer(text):
        first, mark, second, year = match.groups()
        days = _day(int(year), int(second), int(first)), _day(int(year), int(first), int(second))
        if mark == "." or language_of(text) not in ("en", None):
            yield DateFound(days[0] or days[1], match.start(), match.end())
        else:
            either = {day for day in days if day is not None}
            yield DateFound(either.pop() if len(either) == 1 else None, match.start(), match.end())


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
