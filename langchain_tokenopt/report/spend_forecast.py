"""What a period will have cost at its end, with an interval, and how wrong that was before.

The rest of a period is taken to relate to its beginning as it did in the periods before it, recent
ones counting more; so days with a rush in the afternoon, and quiet weekends, are known from those
before. Without an earlier period the rate of spending simply goes on. The same forecast, made at
the same point of each earlier period from what was known then, shows its error, and its errors
make the interval: nothing about how spending is distributed has to be assumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SpendForecast", "forecast_spend"]

_FADING = 0.75
"""Weight of a period, of that of the one after it."""
_FEWEST_ERRORS = 4
"""Below this many earlier forecasts the interval comes from how much hours differ."""
_Z80 = 1.2816
"""80 % of a normal distribution lie within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class SpendForecast:
    """A period's spend at its end, in billionths of a dollar."""

    expected: int
    low: int
    """One period in ten ends below."""
    high: int
    """One period in ten ends above."""
    spent: int
    """So far."""
    error: float | None
    """Mean absolute error of earlier forecasts, as a share of what was spent; ``None``: there were
    none."""
    earlier: int
    """How many there were."""


def forecast_spend(history: Sequence[int], spent: Sequence[int], hours: int) -> SpendForecast:
    """Forecast the spend at the end of a period.

    Args:
        history: Spend of every hour before the period, oldest first, without gaps.
        spent: Spend of the hours of the period that are over.
        hours: How many the period has.

    Raises:
        ValueError: *hours* is none, or fewer than are over.

    Example:
        >>> days = [10] * 12 + [30] * 12
        >>> found = forecast_spend(days * 7, [10] * 12, 24)
        >>> found.expected, found.low, found.high, round(found.error, 9)
        (480, 480, 480, 0.0)
    """
    if not 0 < hours >= len(spent):
        raise ValueError(f"a period of {hours} hours cannot have {len(spent)} that are over.")
    done = len(spent)
    count = len(history) // hours
    periods = [
        history[len(history) - hours * (n + 1) : len(history) - hours * n] for n in range(count)
    ]  # the latest first
    while periods and not any(periods[-1]):  # before anything was recorded
        periods.pop()
    expected = _expected(periods, spent, hours)
    errors = []
    """Of earlier forecasts: what the rest was, of what it was said to be."""
    misses = []
    for n in range(len(periods) - 1):
        whole = sum(periods[n])
        said = _expected(periods[n + 1 :], periods[n][:done], hours)
        rest_said = said - sum(periods[n][:done])
        errors.append((whole - sum(periods[n][:done])) / rest_said if rest_said > 0 else 1.0)
        if whole:
            misses.append(abs(said - whole) / whole)
    so_far = sum(spent)
    low, high = _interval(errors, [*history[-hours:], *spent], expected - so_far, hours - done)
    return SpendForecast(
        expected=round(expected),
        low=round(so_far + low),
        high=round(so_far + high),
        spent=so_far,
        error=sum(misses) / len(misses) if misses else None,
        earlier=len(misses),
    )


def _expected(periods: Sequence[Sequence[int]], spent: Sequence[int], hours: int) -> float:
    """Return the sum at the end, from this period's beginning and the periods before it."""
    so_far, done = sum(spent), len(spent)
    weights = [_FADING**n for n in range(len(periods))]
    before = sum(w * sum(p[:done]) for w, p in zip(weights, periods, strict=True))
    after = sum(w * sum(p[done:]) for w, p in zip(weights, periods, strict=True))
    if not weights:
        return so_far / done * hours if done else 0.0
    usual = after / sum(weights)
    if not before:
        return so_far + usual
    # How much more is spent than usual shows only as the period goes on.
    trust = done / hours
    pace = (so_far / before * sum(weights)) ** math.sqrt(trust) if so_far else 1 - trust
    return so_far + usual * pace


def _interval(
    errors: Sequence[float], latest: Sequence[int], rest: float, left: int
) -> tuple[float, float]:
    """Return between what the rest lies in four periods of five."""
    if len(errors) >= _FEWEST_ERRORS:
        ranked = sorted(errors)
        last = len(ranked) + 1
        low = ranked[max(math.floor(0.1 * last), 1) - 1]
        high = ranked[min(math.ceil(0.9 * last), len(ranked)) - 1]
        return min(low, 1.0) * rest, max(high, 1.0) * rest
    if not latest or not left:
        return rest, rest
    mean = sum(latest) / len(latest)
    spread = math.sqrt(sum((hour - mean) ** 2 for hour in latest) / len(latest))
    width = _Z80 * spread * math.sqrt(left)
    return max(0.0, rest - width), rest + width
