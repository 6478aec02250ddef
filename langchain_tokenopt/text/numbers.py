"""Numbers in running text, with what they count: units, currencies, months, days.

:data:`NUMBER` finds them as they are written (``compress`` never cuts inside one);
:func:`quantities` says which of them are the same (``cache``: another number is another question).

Example:
    >>> NUMBER.findall("It took 3.5 h on 5 May 2026 and cost $1,200.")
    ['3.5 h', '5 May 2026', '$1,200']
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["DATES", "NUMBER", "NUMBER_WORDS", "UNITS", "quantities"]


# --- as written ----------------------------------------------------------------------------------

_UNITS = (
    r"%|‰|°[CF]?|[kKMGT]?i?[Bb](?:ytes|it|its)?|[kmcµnM]?(?:m|g|l|s|W|V|A|Hz|Pa|J)|h|min|ms|kg|km|mi"
    r"|lbs?|oz|ft|in|mph|kWh|USD|EUR|GBP|CHF|million|billion|thousand|percent|Mio\.?|Mrd\.?|Prozent"
    r"|hours?|days?|weeks?|months?|years?|tokens?|Stunden|Tage|Jahre|horas|días|años"
)
_MONTHS = (
    r"(?:Jan(?:uary|uar)?|Feb(?:ruary|ruar)?|Mar(?:ch)?|März|Apr(?:il)?|May|Mai|June?|Juni|July?"
    r"|Juli|Aug(?:ust)?|Sept?(?:ember)?|O[ck]t(?:ober)?|Nov(?:ember)?|De[cz](?:ember)?)\.?"
)
NUMBER: Final = re.compile(
    rf"\b{_MONTHS} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?\b"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th|\.)? {_MONTHS}(?:,? \d{{4}})?\b"
    rf"|[$€£¥]?\b\d(?:[\d,.:/\u2013-]*\d)?(?: ?(?:{_UNITS})(?![\w]))?"
)
"""Dates and numbers, with currency sign and unit."""


# --- as meant ------------------------------------------------------------------------------------

_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
NUMBER_WORDS: Final[Mapping[str, str]] = {
    **{word: str(value) for value, word in enumerate(_COUNTING.split()) if word != "one"},
    **{"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "thousand": "1000"},
}
"""What English words count. Without "one", which is a pronoun more often than a number."""

UNITS: Final[Mapping[str, str]] = {
    name: unit
    for unit, names in {
        "kg": "kg kgs kilo kilos kilogram kilograms",
        "g": "g gram grams",
        "lb": "lb lbs pound pounds",
        "km": "km kms kilometer kilometers kilometre kilometres",
        "m": "meter meters metre metres",
        "mile": "mi mile miles",
        "cm": "cm centimeter centimeters",
        "ft": "ft foot feet",
        "in": "inch inches",
        "l": "l liter liters litre litres",
        "%": "% percent pct",
        "usd": "$ usd dollar dollars",
        "eur": "€ eur euro euros",
        "gbp": "£ gbp quid",
        "inr": "rs inr rupee rupees",
        "second": "sec secs second seconds",
        "minute": "min mins minute minutes",
        "hour": "h hr hrs hour hours",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "yr yrs year years",
        "am": "am a.m",
        "pm": "pm p.m",
        "kb": "kb",
        "mb": "mb megabyte megabytes",
        "gb": "gb gigabyte gigabytes",
        "tb": "tb",
        "c": "°c celsius",
        "f": "°f fahrenheit",
    }.items()
    for name in names.split()
}
"""The unit that a word or sign in lower case stands for."""

_WHOLE_MONTHS = "january february april june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday tomorrow yesterday"
DATES: Final[Mapping[str, str]] = {
    **{month: month for month in _WHOLE_MONTHS.split()},
    **{month[:3]: month for month in _WHOLE_MONTHS.split()},
    **{day: day for day in _DAYS.split()},
    **{"today": "today", "tonight": "today"},
}
"""The month or day that an English word stands for. Without "may" and "march", which are verbs more
often than months."""

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


def quantities(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the numbers among *words* with their units, sorted.

    Args:
        words: In order and in lower case, with signs such as ``$`` and ``%`` as words.

    Returns:
        Pairs of digits and a unit of :data:`UNITS`, which is ``""`` where there is none.

    Example:
        >>> quantities("two pounds of flour for $ 1,200 or 3 k".split())
        (('1200', 'usd'), ('2', 'lb'), ('3000', ''))
    """
    found = []
    for at, word in enumerate(words):
        value = NUMBER_WORDS.get(word) or (word if word[0].isdigit() else "")
        if not value:
            continue
        value = _THOUSANDS.sub("", value)
        after = words[at + 1] if at + 1 < len(words) else ""
        before = words[at - 1] if at else ""
        if after == "k" and value.isdigit():
            value, after = value + "000", ""
        found.append((value, UNITS.get(after) or UNITS.get(before, "")))
    return tuple(sorted(found))
