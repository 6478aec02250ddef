"""What a viewer asks for: a period and filters, as they stand in the address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from langchain_tokenopt.core.dimensions import DIMENSIONS, Dimension, Filters

__all__ = ["FILTERS", "RANGES", "Asked"]

RANGES: Final[Mapping[str, timedelta | None]] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "all": None,
}
FILTERS: Final = tuple(name for name in DIMENSIONS if re.fullmatch("agent|model|tag|user", name))
_USUAL: Final = "24h"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """A period and filters; what cannot be read in an address is as if it were not there.

    Example:
        >>> Asked.of({"range": "7d", "agent": "news", "colour": "red"}).query
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
        """Read the parameters of an address."""
        times = [_time(query.get(name, "")) for name in ("since", "until")]
        since, until = sorted(times) if None not in times else times  # type: ignore[type-var]
        wanted = query.get("range", "")
        if wanted not in RANGES:
            wanted = "" if since or until else _USUAL
        by = query.get("by", "")
        filters = {name: query[name] for name in FILTERS if query.get(name)}
        return cls(
            wanted,
            None if wanted else since,
            None if wanted else until,
            next((name for name in FILTERS if name == by), "agent"),
            Filters(**filters),  # type: ignore[typeddict-item]
        )

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


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(found, _EPOCH)
