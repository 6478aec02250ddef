"""What a period will have cost at its end, with an interval, and how wrong that was before.

Several simple rules say what the rest of a period costs: as in the periods before it (recent ones
counting more), as in the last one, as a week ago; each as it was, or in proportion to how this one
has begun. The rule that would have been nearest in the earlier periods is followed, and what it
missed there, from what was known then, is its error and makes the interval: nothing about how
spending is distributed has to be assumed. Where too little is known there is no forecast.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["FEWEST_PERIODS", "SpendForecast", "forecast_spend"]

FEWEST_PERIODS: Final = 4
"""Without as many periods before, nothing is foretold."""
_MOST_PERIODS: Final = 28
_FADING: Final = (0.75, 0.0)
"""Weight of a period, of that of the one after it; 0: only the last one counts."""
_TRUST: Final = (0.0, 0.1, 0.5)
"""How quickly the beginning of a period is trusted to show its pace; 0: never."""
_MOST_PACE: Final = 20.0
_QUIET_PACE: Final = 0.25
"""Where nothing was spent yet."""
_FORGETTING: Final = 0.93
"""Of errors: what they weigh when rules are compared, of what the later one weighs."""
_FLOOR: Final = 0.02
"""Of a usual period: errors below are chance, and no rest is nothing."""
_MANY_ERRORS: Final = 9
"""With as many, four of five lie between the tenth and the ninetieth of a hundred of them."""
_T80: Final = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397)
"""80 % of Student's t with 1, 2... degrees of freedom lie within."""


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
    """Mean absolute error of earlier forecasts, as a share of what was spent; ``None``: nothing
    was."""
    earlier: int
    """How many there were."""


class _Rule(NamedTuple):
    fading: float
    weekly: bool
    trust: float


class _Parts(NamedTuple):
    """What a period cost up to where this one is, and after that."""

    before: float
    after: float


def forecast_spend(
    history: Sequence[int], spent: Sequence[int], hours: int
) -> SpendForecast | None:
    """Forecast the spend at the end of a period; ``None`` where too little is known.

    Args:
        history: Spend of every hour before the period, oldest first, without gaps.
        spent: Spend of the hours of the period that are over.
        hours: How many the period has.

    Raises:
        ValueError: *hours* is none, or fewer than are over.

    Example:
        >>> days = [10] * 12 + [30] * 12
        >>> found = forecast_spend(days * 7, [10] * 12, 24)
        >>> found.expected, found.low, found.high, found.error
        (480, 480, 480, 0.0)
        >>> forecast_spend(days, [10] * 12, 24) is None
        True
    """
    if not 0 < hours >= len(spent):
        raise ValueError(f"a period of {hours} hours cannot have {len(spent)} that are over.")
    periods = _periods(history, len(spent), hours)
    if len(periods) < FEWEST_PERIODS:
        return None
    so_far, share = sum(spent), len(spent) / hours
    usual = sum(map(sum, periods)) / len(periods)
    floor = _FLOOR * usual * (1 - share) + 1
    rule, said = min(
        (_backtest(periods, rule, share, floor) for rule in _rules(hours, len(spent))),
        key=lambda tested: _badness(_errors(periods, tested[1], floor)),
    )
    errors = _errors(periods, said, floor)
    rest = _said(periods, so_far, share, rule) or 0.0
    middle, low, high = _interval(errors)
    misses = [
        abs(there - period.after) / sum(period)
        for there, period in zip(said, periods, strict=False)
        if sum(period)
    ]

    def at_end(error: float) -> int:
        return round(so_far + max(0.0, (rest + floor) * math.exp(error) - floor))

    return SpendForecast(
        expected=at_end(middle),
        low=at_end(low),
        high=at_end(high),
        spent=so_far,
        error=sum(misses) / len(misses) if misses else None,
        earlier=len(misses),
    )


def _periods(history: Sequence[int], done: int, hours: int) -> list[_Parts]:
    """Return the periods before, the latest first, from the first one that cost anything."""
    found = []
    for number in range(min(len(history) // hours, _MOST_PERIODS)):
        first = len(history) - hours * (number + 1)
        found.append(
            _Parts(sum(history[first : first + done]), sum(history[first + done : first + hours]))
        )
    while found and not any(found[-1]):
        found.pop()
    return found


def _rules(hours: int, done: int) -> Iterator[_Rule]:
    for fading in _FADING:
        for weekly in (False, True) if hours == 24 else (False,):
            for trust in _TRUST if done else (0.0,):
                yield _Rule(fading, weekly, trust)


def _said(periods: Sequence[_Parts], so_far: float, share: float, rule: _Rule) -> float | None:
    """Return what a rule says of the rest of a period, from those before it."""
    weight, total, before, after = 1.0, 0.0, 0.0, 0.0
    for period in periods[6::7] if rule.weekly else periods:
        total += weight
        before += weight * period.before
        after += weight * period.after
        weight *= rule.fading
        if not weight:
            break
    if not total:
        return None
    if not rule.trust or not before:
        return after / total
    pace: float = (so_far / before * total if so_far else _QUIET_PACE) ** (share**rule.trust)
    return after / total * min(max(pace, 1 / _MOST_PACE), _MOST_PACE)


def _backtest(
    periods: Sequence[_Parts], rule: _Rule, share: float, floor: float
) -> tuple[_Rule, list[float]]:
    """Return what a rule would have said of earlier periods, each from those before it."""
    found: list[float] = []
    for number, period in enumerate(periods[:-1]):
        said = _said(periods[number + 1 :], period.before, share, rule)
        if said is None:
            break
        found.append(said)
    return rule, found


def _errors(periods: Sequence[_Parts], said: Sequence[float], floor: float) -> list[float]:
    """Return the logarithms of what the rest was, of what it was said to be."""
    return [
        math.log((period.after + floor) / (there + floor))
        for there, period in zip(said, periods, strict=False)
    ]


def _badness(errors: Sequence[float]) -> float:
    """Return how far a rule was off; of few errors it is not known well, which counts as worse."""
    if len(errors) < FEWEST_PERIODS - 1:
        return math.inf
    weights = [_FORGETTING**number for number in range(len(errors))]
    mean = sum(w * abs(e) for w, e in zip(weights, errors, strict=True)) / sum(weights)
    return mean * (1 + 2 / len(errors))


def _interval(errors: Sequence[float]) -> tuple[float, float, float]:
    """Return the error to expect, and between which ones four in five lie."""
    count = len(errors)
    middle = statistics.median(errors) / 2 if count > 5 else 0.0
    if count >= _MANY_ERRORS:
        tenths = statistics.quantiles(errors, n=10)
        return middle, tenths[0], tenths[-1]
    spread = math.sqrt(sum((error - middle) ** 2 for error in errors) / (count - 1))
    width = _T80[count - 1] * spread * math.sqrt(1 + 1 / count)
    return middle, middle - width, middle + width
