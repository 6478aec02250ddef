"""Identifiers: the same only if every character is. Ids, versions, addresses, dates, options.

Words are searched for with their relatives. "host40" has none: "host41" is another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["closeness", "identifiers", "written_forms"]

_CHUNK: Final = re.compile(
    r"(?<![\w.@/\\-])(?:--?(?=[^\W\d])|[/@])?[^\W_](?:\w|[.@:/\\+#_-]+(?=\w)|(?<=\d),(?=\d{3}))*"
)
_TELLING: Final = re.compile(r"\d|\w[.@:/\\+#_]+\w|^[-/@]")
"""A hyphen alone joins words that are words by themselves: "state-of-the-art"."""


def identifiers(query: str) -> Iterator[re.Match[str]]:
    """Yield what of *query* must be found as it is written.

    Example:
        >>> query = "Did ann@example.org run v2.4.1 with --no-cache on host40, or state-of-the-art?"
        >>> [found.group() for found in identifiers(query)]
        ['ann@example.org', 'v2.4.1', '--no-cache', 'host40']
    """
    return (found for found in _CHUNK.finditer(query) if _TELLING.search(found.group()))


# --- how it may be written -----------------------------------------------------------------------

_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_ISO: Final = re.compile(r"(\d{4})[-/.](\d\d?)[-/.](\d\d?)")
_DAY_FIRST: Final = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4})")
_VERSION: Final = re.compile(r"v?\d+(?:\.\d+)+")
_AMOUNT: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{4,}(?:\.\d+)?")


def written_forms(identifier: str) -> tuple[str, ...]:
    """Return the ways in which *identifier*, in lower case, may be written; itself first.

    Example:
        >>> written_forms("2026-03-05")[:4]
        ('2026-03-05', '2026/03/05', '05.03.2026', '5.3.2026')
        >>> written_forms("1,200")
        ('1,200', '1200')
    """
    if found := _ISO.fullmatch(identifier):
        return _date_forms(identifier, *map(int, found.groups()))
    if found := _DAY_FIRST.fullmatch(identifier):
        day, month, year = map(int, found.groups())
        return _date_forms(identifier, year, month, day)
    if _AMOUNT.fullmatch(identifier):
        plain = identifier.replace(",", "")
        grouped = f"{int(plain.partition('.')[0]):,}" + plain[len(plain.partition(".")[0]) :]
        return tuple(dict.fromkeys((identifier, plain, grouped)))
    if _VERSION.fullmatch(identifier):
        number = identifier.removeprefix("v")
        return (number, f"v{number}")
    return (identifier,)


def _date_forms(written: str, year: int, month: int, day: int) -> tuple[str, ...]:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return (written,)
    name = _MONTHS[month - 1]
    forms = [
        written, f"{year}-{month:02}-{day:02}", f"{year}/{month:02}/{day:02}",
        f"{day:02}.{month:02}.{year}", f"{day}.{month}.{year}",
    ]  # fmt: skip
    for month_name in (name, name[:3]):
        forms += [f"{month_name} {day}, {year}", f"{day} {month_name} {year}"]
    return tuple(dict.fromkeys(forms))


# --- where it stands -----------------------------------------------------------------------------

_PART: Final = 0.4
"""What the identifier counts as a part of a longer one ("v2.4" in "v2.4.1"), against 1."""
_JOINS_BEFORE: Final = re.compile(r"\w[.@/\\+#_-]+$|_$|\d,$")
_JOINS_AFTER: Final = re.compile(r"[.@+_-]+\w|_|,\d{3}")


def closeness(lowered: str, start: int, end: int) -> float:
    """Say how much an identifier found at ``lowered[start:end]`` counts: 1 whole, 0 within a word.

    Example:
        >>> [closeness(text, 0, 6) for text in ("host40 is up", "host401 is up", "host40-b is up")]
        [1.0, 0.0, 0.4]
    """
    if start and lowered[start - 1].isalnum() and lowered[start].isalnum():
        return 0.0
    if end < len(lowered) and lowered[end].isalnum():
        is_time = lowered[end] == "t" and lowered[end + 1 : end + 2].isdigit()
        if not (is_time and _ISO.fullmatch(lowered, start, end)):
            return 0.0
    if _JOINS_AFTER.match(lowered, end) or _JOINS_BEFORE.search(lowered, max(0, start - 4), start):
        return _PART
    return 1.0
