"""What a viewer asks for: a period and filters, as they stand in the address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from langchain_tokenopt.core.dimensions import DIMENSIONS, Dimension, Filters

__all__ = ["FILTERS", "RANGES", "Asked", "AskedError"]

RANGES: Final[Mapping[str, timedelta | None]] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "all": None,
}
FILTERS: Final = tuple(name for name in DIMENSIONS if re.fullmatch("agent|model|tag|user", name))
_SEEN: Final = "seen"
"""Parameter of a page that asks again: the number of the call that it knows."""
_NAMES: Final = ("range", "since", "until", "by", *FILTERS)
_BESIDE: Final = (_SEEN, "token")
_USUAL: Final = "24h"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AskedError(ValueError):
    """An address that cannot be read: other figures than those meant would be its answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A period and filters.

    Example:
        >>> Asked.of({"range": "7d", "agent": "news"}).query
        'range=7d&by=agent&agent=news'
        >>> Asked.of({"since": "2026-11-02", "until": "2026-11-01T06:30"}).query
        'since=2026-11-01T06%3A30&until=2026-11-02T00%3A00&by=agent'
    """

    range: str
    """A key of :data:`RANGES`; empty: from *since* to *until*."""
    since: datetime | None
    until: datetime | None
    by: Dimension
    """What the cost over time is split by."""
    filters: Filters

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Read the parameters of an address; an empty one is as if it were not there.

        Raises:
            AskedError: There is another parameter, or a value that none can have.
        """
        for name in query:
            if name not in (*_NAMES, *_BESIDE):
                raise AskedError(f"There is no parameter {name!r}; there are {_listed(_NAMES)}.")
        times = [_time(name, query.get(name, "")) for name in ("since", "until")]
        since, until = sorted(times) if None not in times else times  # type: ignore[type-var]
        wanted = _one_of("range", query.get("range", ""), RANGES)
        if not (wanted or since or until):
            wanted = _USUAL
        by = _one_of("by", query.get("by", ""), FILTERS) or "agent"
        filters = {name: query[name] for name in FILTERS if query.get(name)}
        return cls(
            wanted,
            None if wanted else since,
            None if wanted else until,
            next(name for name in FILTERS if name == by),
            Filters(**filters),  # type: ignore[typeddict-item]
        )

    @staticmethod
    def seen(query: Mapping[str, str]) -> int:
        """Return the number of the call that a page has seen; 0: none.

        Raises:
            AskedError: It is no such number.
        """
        text = query.get(_SEEN, "")
        if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise AskedError(f"{_SEEN}={text!r} is no number of a call.")
        return int(text or 0)

    @property
    def query(self) -> str:
        """The same as an address says it."""
        return self.query_with()

    def query_with(self, **changes: str) -> str:
        """Return the query of an address with other values; an empty one leaves a name out."""
        said = {
            "range": self.range,
            **{name: "" if at is None else f"{at:%Y-%m-%dT%H:%M}" for name, at in self._ends()},
            "by": self.by,
            **self.filters,
            **changes,
        }
        return urlencode({name: value for name, value in said.items() if value})

    def _ends(self) -> tuple[tuple[str, datetime | None], ...]:
        return ("since", self.since), ("until", self.until)

    def period(self, first: datetime, now: datetime) -> tuple[datetime, datetime]:
        """Return begin and end.

        A range of a day begins with an hour, longer ones with a day: those sums are known already.

        Args:
            first: When the ledger begins.
            now: Until when there is anything to know.
        """
        if not self.range:
            end = min(self.until or now, now)
            return min(self.since or first, end), end
        length = RANGES[self.range]
        begin = min(first, now) if length is None else now - length
        if length is None or length > timedelta(days=1):
            begin = begin.replace(hour=0)
        if length is None or length >= timedelta(days=1):
            begin = begin.replace(minute=0, second=0, microsecond=0)
        return begin, now


def _time(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise AskedError(f"{name}={text!r} is no time; write it as 2026-11-02T06:30.") from None
    return max(found, _EPOCH)


def _one_of(name: str, text: str, values: Iterable[str]) -> str:
    if text and text not in values:
        raise AskedError(f"{name}={text!r} is none of {_listed(values)}.")
    return text


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
