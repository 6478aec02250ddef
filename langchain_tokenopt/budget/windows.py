"""Windows of time: hours, days, ISO weeks and months, as the clocks of a time zone show them.

A window is named by the instant at which it starts, so that it is the same one however a machine's
clock jumps about: who comes back to a day finds what that day has spent. A day has 23 or 25 hours
where clocks are changed. An hour that is shown twice is two hours; a midnight that is shown twice
begins a day once.

Sources: ISO 8601 weeks begin on Monday (https://www.iso.org/iso-8601-date-and-time-format.html);
PEP 495 for local times that do not exist or exist twice (https://peps.python.org/pep-0495/); read
2026-11-29.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from langchain_tokenopt.core.errors import UnknownTimeZoneError

__all__ = ["KEPT_SECONDS", "Span", "Window", "span_at", "zone_of"]

Window = Literal["run", "hour", "day", "week", "month"]

_HOUR: Final = 3_600
_DAY: Final = 24 * _HOUR
KEPT_SECONDS: Final[dict[Window, int]] = {
    "hour": 2 * _DAY,
    "day": 8 * _DAY,
    "week": 35 * _DAY,
    "month": 100 * _DAY,
}
"""How long an account is kept after its window has ended: far longer than any call takes, and than
a wrong clock is wrong by as a rule."""


class Span(NamedTuple):
    """A stretch of time, in seconds since 1970 (UTC), without its end."""

    starts: int
    ends: int


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of this name, as the IANA database has it.

    Raises:
        UnknownTimeZoneError: There is none.

    Example:
        >>> zone_of("Asia/Kolkatta")
        Traceback (most recent call last):
        ...
        langchain_tokenopt.core.errors.UnknownTimeZoneError: no time zone is named \
'Asia/Kolkatta'. Did you mean 'Asia/Kolkata'? Names are those of the IANA database, as in \
timezone="Europe/Berlin".
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError, TypeError) as error:
        raise UnknownTimeZoneError(name, _remedy(name)) from error


def _remedy(name: object) -> str:
    known = available_timezones()
    if not known:
        return "This system has no time zone database: pip install tzdata."
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return f'{meant}Names are those of the IANA database, as in timezone="Europe/Berlin".'


def span_at(window: Window, zone: ZoneInfo, now: float) -> Span:
    """Return the window of this length in which *now* lies.

    Args:
        window: Any but ``"run"``.
        zone: Whose clocks decide.
        now: Seconds since 1970, UTC.

    Example:
        >>> clocks_go_back = datetime(2026, 10, 25, 12, tzinfo=ZoneInfo("Europe/Berlin"))
        >>> day = span_at("day", ZoneInfo("Europe/Berlin"), clocks_go_back.timestamp())
        >>> (day.ends - day.starts) / 3_600
        25.0
    """
    if window == "hour":
        return _hour_at(zone, now)
    first = _first_day(window, datetime.fromtimestamp(now, zone).date())
    # The clock may have been turned back over a midnight; then the date alone would be wrong.
    while _midnight(zone, following := _next_first_day(window, first)) <= now:
        first = following
    while _midnight(zone, first) > now:
        first = _first_day(window, first - timedelta(days=1))
    return Span(_midnight(zone, first), _midnight(zone, _next_first_day(window, first)))


def _first_day(window: Window, day: date) -> date:
    if window == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if window == "week" else day


def _next_first_day(window: Window, first: date) -> date:
    if window == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if window == "week" else 1)


def _midnight(zone: ZoneInfo, day: date) -> int:
    """Return when a day begins: the first of two midnights; where there is none, what follows."""
    return math.floor(datetime.combine(day, time(), zone).timestamp())


def _hour_at(zone: ZoneInfo, now: float) -> Span:
    moment = math.floor(now)
    starts = _hour_start(zone, moment)
    later = starts + _HOUR
    while _hour_start(zone, later) == starts:  # clocks that are changed by half an hour
        later += _HOUR
    return Span(starts, _first_change(lambda at: _hour_start(zone, at) != starts, moment, later))


def _hour_start(zone: ZoneInfo, now: int) -> int:
    """Return when the clock last showed a full hour, or jumped over one."""
    offset = _offset(zone, now)
    shown = now - (now + offset) % _HOUR
    before = _offset(zone, shown)
    if before == offset:
        return shown
    changed = _first_change(lambda at: _offset(zone, at) == offset, shown, now)
    hour_before, hour = (changed - 1 + before) // _HOUR, (changed + offset) // _HOUR
    if hour > hour_before or (changed + offset) % _HOUR == 0:
        return changed
    return hour_before * _HOUR - before


def _offset(zone: ZoneInfo, at: int) -> int:
    """Return how many seconds the zone's clocks are ahead of UTC."""
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _first_change(has_changed: Callable[[int], bool], before: int, after: int) -> int:
    """Return the first second after *before*, up to *after*, at which something has changed."""
    while after - before > 1:
        between = (before + after) // 2
        before, after = (before, between) if has_changed(between) else (between, after)
    return after
