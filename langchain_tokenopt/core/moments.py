"""Points in time as people write them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

__all__ = ["Moment", "moment_from"]

Moment = datetime | date | timedelta | str
"""A time, a day, how long ago, or one as a text: ``"2026-11-20T09:30"``, ``"today"``, ``"7d"``."""

_AGO: Final = re.compile(r"(\d{1,9})\s*([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment_from(moment: Moment, *, now: datetime | None = None, end: bool = False) -> datetime:
    """Return the time that *moment* means, with a zone.

    Days and texts are in the machine's own time, unless they name an offset; a ``datetime`` without
    a zone is in UTC.

    Args:
        moment: When.
        now: For lengths of time; by default the time of day.
        end: True where a day means its end.

    Raises:
        ValueError: The text is no point in time.
        TypeError: It is something else.

    Example:
        >>> noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
        >>> moment_from("90m", now=noon).isoformat()
        '2026-11-21T10:30:00+00:00'
        >>> moment_from(timedelta(days=1), now=noon).isoformat()
        '2026-11-20T12:00:00+00:00'
        >>> moment_from("2026-11-20T08:00+00:00").astimezone(UTC).isoformat()
        '2026-11-20T08:00:00+00:00'
    """
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    now = now or datetime.now(UTC)
    try:
        if isinstance(moment, timedelta):
            return now - moment
        if isinstance(moment, date):
            return _on(moment, end)
        if isinstance(moment, str):
            return _from_text(moment, now, end)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"{moment!r} is no date. Write 2026-11-20, 2026-11-20T09:30, today, yesterday, "
            f"or a length of time such as 24h, 7d, 4w."
        ) from error
    raise TypeError(
        f"a time is a datetime, a date, a timedelta or a text such as '7d' or '2026-11-20'; got "
        f"{moment!r}."
    )


def _from_text(text: str, now: datetime, end: bool) -> datetime:
    word = text.strip().lower()
    if ago := _AGO.fullmatch(word):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if word in ("today", "yesterday"):
        return _on(now.astimezone().date() - timedelta(days=word == "yesterday"), end)
    if len(word) <= 10:
        return _on(date.fromisoformat(word), end)
    return datetime.fromisoformat(text.strip()).astimezone()


def _on(day: date, end: bool) -> datetime:
    first = datetime(day.year, day.month, day.day)
    return (first + timedelta(days=1) if end else first).astimezone()
