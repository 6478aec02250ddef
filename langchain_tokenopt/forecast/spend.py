"""What a day, a month or another period will have cost at its end, from a user's own ledger.

What is over is spent; the rest is estimated by :func:`~.series.estimate_next`. Up to a day it is
compared with the same hours of the days before; where it is longer, whole days are added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal, Protocol, Unpack

from langchain_tokenopt.core.argument_checks import is_amount, shown
from langchain_tokenopt.core.dimensions import Filters
from langchain_tokenopt.forecast.series import FEWEST, Begun, Estimate, believed, estimate_next

__all__ = ["CostHistory", "SpendForecast", "SpendPeriod", "forecast_spend"]

SpendPeriod = Literal["day", "month"] | tuple[datetime, datetime]
"""The day or the month that is running, or any time from one moment to another."""

_HOUR: Final = timedelta(hours=1)
_DAY: Final = 24
_DAYS_BEFORE: Final = 28
"""Days that a day is compared with; and of which a longer period is made:"""
_DAYS_ADDED: Final = 120
_WEEK: Final = 7


class CostHistory(Protocol):
    """Knows what calls cost by the hour; a ``Ledger`` does."""

    def costs_by_hour(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        **filters: Unpack[Filters],
    ) -> Mapping[datetime, int]:
        """Return billionths of a dollar by the hour, in UTC, in which calls began."""
        ...


@dataclass(frozen=True, slots=True)
class SpendForecast:
    """What a period will have cost at its end; money is in billionths of a dollar."""

    begins: datetime
    ends: datetime
    spent: int
    """So far."""
    at_end: Estimate | None
    """``None``: too little is known; the notes say what is missing."""
    notes: tuple[str, ...] = ()
    """What was odd, in sentences."""

    @property
    def expected(self) -> int | None:
        """What it will have cost; ``None``: too little is known."""
        return None if self.at_end is None else round(self.at_end.expected)

    @property
    def low(self) -> int | None:
        """One period in ten ends below."""
        return None if self.at_end is None else round(self.at_end.low)

    @property
    def high(self) -> int | None:
        """One period in ten ends above."""
        return None if self.at_end is None else round(self.at_end.high)


def forecast_spend(
    history: CostHistory | Mapping[datetime, float],
    period: SpendPeriod = "day",
    *,
    now: datetime | None = None,
    tz: tzinfo | None = UTC,
    **filters: Unpack[Filters],
) -> SpendForecast:
    """Forecast what a period will have cost at its end, with an interval that four of five keep.

    Args:
        history: A ledger, or billionths of a dollar by the hour in which they were spent.
        period: The day or the month that is running, or ``(begin, end)``.
        now: Until when there is anything to know; by default the present, and times to come are
            odd.
        tz: Whose days and months; ``None`` is the machine's own time.
        **filters: Only calls of this ``user``, ``agent``, ``model``...: others do not move it.

    Returns:
        With ``at_end=None`` where the first call was fewer than four whole days ago. Amounts that
        cannot be, and times to come, are left out; the notes say so.

    Raises:
        TypeError: *history* is no ledger and names no hours, or *now* is no moment.
        ValueError: *period* is no period.

    Example:
        >>> noon = datetime(2026, 11, 30, 12, tzinfo=UTC)
        >>> hours = {noon - n * timedelta(hours=1): 10 for n in range(1, 24 * 8)}
        >>> found = forecast_spend(hours, now=noon)
        >>> found.spent, found.expected, (found.low, found.high)
        (120, 240, (240, 240))
        >>> forecast_spend({}, now=noon).notes[0]
        'A forecast takes 4 whole days with priced calls before; there are 0.'
    """
    replayed, now = now is not None, _in_utc("now", datetime.now(UTC) if now is None else now)
    begins, ends = _span(period, now, tz)
    # Zones are not all whole hours away from UTC: hours are then those of the period, and one of a
    # ledger's belongs to the period in which it begins.
    past_the_hour = begins - _hour_of(begins)
    begin, end, present = (each - past_the_hour for each in (begins, ends, now))
    first = min(begin, _hour_of(present) - _DAYS_ADDED * _DAY * _HOUR)
    if isinstance(history, Mapping):
        if filters:
            raise ValueError(f"only a ledger can be filtered, by {', '.join(filters)}.")
        known: Mapping[datetime, float] = history
    elif not hasattr(history, "costs_by_hour"):
        raise TypeError(f"history must be a ledger or costs by hour; got {shown(history)}.")
    else:
        known = history.costs_by_hour(since=first, **filters)
    costs = _Costs(known, first, present, past_the_hour)
    spent = costs.total(begin, min(present + _HOUR, end))
    notes = costs.notes(replayed)
    rest = _rest(costs, begin, end) if ends > now else _NOTHING_LEFT
    if rest is None:
        notes = (*notes, _too_little(costs.days_before()))
        return SpendForecast(begins, ends, round(spent), None, notes)
    over = costs.total(begin, min(costs.current, end))
    # What the hour that is running has cost already is spent, whatever was foretold.
    names = ("expected", "low", "high", "p95")
    at_end = replace(rest, **{name: max(over + getattr(rest, name), spent) for name in names})
    return SpendForecast(begins, ends, round(spent), at_end, notes)


_NOTHING_LEFT: Final = Estimate(0.0, 0.0, 0.0, 0.0, None, None, 0, ())


def _too_little(days: int) -> str:
    return f"A forecast takes {FEWEST} whole days with priced calls before; there are {days}."


def _span(period: SpendPeriod, now: datetime, tz: tzinfo | None) -> tuple[datetime, datetime]:
    if isinstance(period, tuple) and len(period) == 2:
        begins, ends = (_in_utc("a period's begin and end", each) for each in period)
        if begins >= ends:
            raise ValueError(f"a period begins before it ends, got {shown(period)}.")
        return begins, ends
    here = now.astimezone(tz).replace(minute=0, second=0, microsecond=0, tzinfo=None, hour=0)
    if period == "day":
        return _aware(here, tz), _aware(here + timedelta(days=1), tz)
    if period == "month":
        first = here.replace(day=1)
        return _aware(first, tz), _aware((first + timedelta(days=31)).replace(day=1), tz)
    raise ValueError(f"a period is 'day', 'month' or (begin, end), got {shown(period)}.")


def _in_utc(name: str, moment: object) -> datetime:
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} must be a datetime; got {shown(moment)}.")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _aware(wall: datetime, tz: tzinfo | None) -> datetime:
    """Return the moment when a clock on the wall there shows this."""
    return (wall.astimezone() if tz is None else wall.replace(tzinfo=tz)).astimezone(UTC)


def _hour_of(moment: datetime) -> datetime:
    return _in_utc("an hour", moment).replace(minute=0, second=0, microsecond=0)


class _Costs:
    """Amounts by the hour, from the first hour up to the one that is running.

    Its moments are those of a clock that is slow by *past_the_hour*.
    """

    def __init__(
        self,
        known: Mapping[datetime, float],
        first: datetime,
        now: datetime,
        past_the_hour: timedelta,
    ) -> None:
        self.first, self.current = first, _hour_of(now)
        self._hours = [0.0] * ((self.current - first) // _HOUR + 1)
        self._refused = self._to_come = 0
        for at, amount in known.items():
            place = (_in_utc("an hour", at) - past_the_hour - first) // _HOUR
            if not is_amount(amount):
                self._refused += 1
            elif place >= len(self._hours):
                self._to_come += amount > 0
            elif place >= 0:
                self._hours[place] += amount
        self._believed = believed(self._hours)

    def total(self, since: datetime, until: datetime) -> float:
        """Add up the hours from *since* up to, not including, *until*."""
        begin, end = ((_hour_of(at) - self.first) // _HOUR for at in (since, until))
        return sum(self._hours[max(begin, 0) : max(end, 0)])

    def latest(self, length: int) -> float:
        """Add up what is believed of the hours before the one that is running."""
        return sum(self._believed[len(self._hours) - 1 - length : -1])

    def parts(self, begin: int, length: int, days: int) -> list[float]:
        """Return as many sums of hours, a day apart, oldest first.

        Args:
            begin: Of the latest of them, in hours before the one that is running.
            length: In hours.
            days: How many, at most: none of them begins before the first call.
        """
        called = next((at for at, cost in enumerate(self._hours) if cost), len(self._hours))
        starts = range(len(self._hours) - 1 - begin, called - 1, -_DAY)[:days]
        return [sum(self._believed[start : start + length]) for start in reversed(starts)]

    def days_before(self) -> int:
        """Return how many whole days have passed since the first call."""
        return len(self.parts(_DAY, _DAY, _DAYS_ADDED))

    def notes(self, replayed: bool) -> tuple[str, ...]:
        """Say what was left out; what came later is nothing odd where the past is replayed."""
        found = []
        if self._refused:
            found.append(f"{self._refused:,} hours were left out: their amounts are no costs.")
        if self._to_come and not replayed:
            found.append(
                f"{self._to_come:,} hours with calls are still to come: was the clock set back? "
                f"They were left out."
            )
        return tuple(found)


def _rest(costs: _Costs, begins: datetime, ends: datetime) -> Estimate | None:
    """Estimate what the hours from the one that is running on will cost."""
    left = -((costs.current - ends) // _HOUR)
    if left > _DAY:
        days = costs.parts(_DAY, _DAY, _DAYS_ADDED)
        begun = costs.parts(_DAY, left % _DAY, _DAYS_ADDED)
        part = sum(begun) / sum(days) if left % _DAY and any(days) else 0.0
        return estimate_next(days, steps=left // _DAY + part, season=_WEEK)
    over = max(0, min((costs.current - _hour_of(begins)) // _HOUR, _DAY - left))
    after = costs.parts(_DAY, left, _DAYS_BEFORE)
    before = costs.parts(_DAY + over, over, _DAYS_BEFORE)[-len(after) :]
    after = after[len(after) - len(before) :]
    so_far = Begun(costs.latest(over), before, over / (over + left))
    return estimate_next(after, season=_WEEK, begun=so_far)
