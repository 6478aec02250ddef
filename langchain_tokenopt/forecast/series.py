"""What a series comes to next, by several simple methods that were tried on its own past.

Nothing is assumed about how the values are distributed. At each point of the past every method says
what came next from what was known then; those that were nearest are believed, in proportion. What
this choice itself has missed at those points makes the interval, and is its error.

The methods are the usual ones (Hyndman and Athanasopoulos, Forecasting: Principles and Practice,
3rd ed., chapters 5, 7 and 8, https://otexts.com/fpp3, read 2026-11-30): the last value, a season
ago, a moving average, exponential smoothing, the median, a straight line. Where something has begun
already, each is also scaled by how it has begun, and the times that have begun alike are looked at.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Final, NamedTuple

__all__ = ["FEWEST", "Begun", "Estimate", "Method", "believed", "estimate_next"]

FEWEST: Final = 4
"""Without as many values nothing is said."""
_MOST: Final = 120
_TESTS: Final = 28
"""Points of the past at which methods are tried, at most."""
_SMOOTHING: Final = 0.75
"""Weight of a value, of that of the one after it."""
_AVERAGED: Final = 7
_USUAL: Final = 14
"""Values that a median or a line is made of."""
_ALIKE: Final = 3
_TRUST: Final = {"in proportion": 0.0, "half in proportion": 0.5}
"""The exponent that damps how something has begun: the share of it that is over, to this power."""
_MOST_PACE: Final = 20.0
_QUIET_PACE: Final = 0.25
"""Where nothing was spent yet."""
_ODD: Final = 3
"""One or two values that are far above all others are chance. So none is believed to be more than
so many times the third largest:"""
_MOST_TIMES: Final = 2.0
_SURPRISE: Final = 2.0
"""How many times further off than usual a method may be about what has begun. What is beyond shows
that another level has begun, and is an error of what it says of the rest."""
_FORGETTING: Final = 0.93
"""Weight of an error when methods are compared, of that of the later one."""
_FEWEST_ERRORS: Final = 3
_BELIEVED: Final = 5
"""The best methods that are believed, and how strongly the better of them:"""
_POWER: Final = 3.0
_FLOOR: Final = 0.02
"""Of a usual value: errors below are chance, and nothing is no value."""
_P95_WIDTH: Final = 1.28
"""Of the width that four of five lie within, up to where one in twenty is above: a normal's."""
_SMALLEST: Final = 1e-9
_NARROWER: Final = 0.15
"""Where all that is known was tried: earlier forecasts knew fewer seasons, and missed by more."""
_MANY_ERRORS: Final = 9
"""With as many, four of five lie between the tenth and the ninetieth of a hundred of them."""
_T80: Final = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397)
"""80 % of Student's t with 1, 2... degrees of freedom lie within."""


class Begun(NamedTuple):
    """How what is to be estimated has begun, and how earlier ones had at the same point."""

    now: float
    earlier: Sequence[float]
    """As many as there are values, oldest first."""
    share: float
    """Of it that is over."""


class Method(NamedTuple):
    """One method, and how it did on the past."""

    name: str
    error: float | None
    """Mean absolute error, as a share of what came; ``None``: nothing did, or it was not tried."""
    weight: float
    """Of what it says now; 0: it is not believed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What comes next, as far as the past shows it, and how wrong such estimates were before."""

    expected: float
    low: float
    """One in ten is below."""
    high: float
    """One in ten is above."""
    p95: float
    """One in twenty is above."""
    error: float | None
    """Mean absolute error of earlier estimates, as a share of what came; ``None``: nothing did."""
    coverage: float | None
    """Share of earlier ones whose interval, made from those before it, has held; ``None``: too few
    to say. Four of five should."""
    tests: int
    """Earlier estimates that were tried."""
    methods: tuple[Method, ...]
    """The best first."""


def estimate_next(
    values: Sequence[float],
    *,
    steps: float = 1.0,
    season: int | None = None,
    begun: Begun | None = None,
) -> Estimate | None:
    """Estimate the sum of the next values of a series; ``None`` where too little is known.

    Args:
        values: Oldest first; none is negative.
        steps: How many are to be added up, of the last one perhaps a part.
        season: Values after which it repeats itself.
        begun: Where one step is estimated: how it has begun.

    Example:
        >>> found = estimate_next([10, 20, 30] * 4, season=3)
        >>> round(found.expected), found.methods[0].name, round(found.methods[0].error, 9)
        (10, 'a season ago', 0.0)
        >>> estimate_next([10, 20, 30]) is None
        True
    """
    past = believed(list(map(float, values))[: -_MOST - 1 : -1])
    before = [0.0] * len(past)
    if begun:
        before = believed(list(map(float, begun.earlier))[: -_MOST - 1 : -1])
    while past and not (past[-1] or before[-1]):  # from the first that was anything
        del past[-1], before[-1]
    if len(past) < FEWEST:
        return None
    # Where the past is short, a shorter sum is tried: its error, as a share, stands for that of it.
    tried = min(steps, max(1.0, float(len(past) - 2 * FEWEST)))
    whole = math.ceil(tried)
    points = range(whole, min(len(past), whole + _TESTS))

    def said(at: int, so_many: float) -> _Sayings:
        if begun is None:
            found = _by_method(past[at:], so_many, season)
            return {name: _Said(value) for name, value in found.items()}
        now = before[at - 1] if at else begun.now
        return _by_method_as_begun(past[at:], before[at:], now, begun.share, season)

    came = [_added(past[at - whole : at][::-1], tried) for at in points]
    sizes = [there + before[at - 1] for at, there in zip(points, came, strict=True)]
    floor = _FLOOR * _usual(past) * tried + _SMALLEST
    narrower = _NARROWER * len(points) / len(past) if season else 0.0
    trial = _Trial([said(at, tried) for at in points], came, floor, whole, 1 - narrower)
    return trial.estimate(said(0, steps), floor * steps / tried, sizes)


def believed(values: Sequence[float]) -> list[float]:
    """Return values without the excess of one or two that are far above all others.

    Example:
        >>> believed([10, 9_000, 12, 11]), believed([10, 11, 60, 62, 61])
        ([10, 22.0, 12, 11], [10, 11, 60, 62, 61])
    """
    *_, known = nlargest(_ODD, values) if len(values) >= _ODD else [0.0]
    return [min(value, _MOST_TIMES * known) for value in values] if known else list(values)


class _Said(NamedTuple):
    """What a method says."""

    value: float
    off: float = 0.0
    """How far it is off about what has begun, as a logarithm."""


_Sayings = Mapping[str, _Said]


# Values are lists, the latest first.


def _by_method(past: Sequence[float], steps: float, season: int | None) -> dict[str, float]:
    """Return what each method says of the sum of the next values, from those before."""
    found = {
        "the last one": steps * past[0],
        "moving average": steps * statistics.fmean(past[:_AVERAGED]),
        "exponential smoothing": steps * _smoothed(past),
        "median": steps * statistics.median(past[:_USUAL]),
        "median of all": steps * statistics.median(past),
    }
    if len(past) >= FEWEST:
        found["linear regression"] = _along_a_line(past[:_USUAL], steps)
    if season is not None and len(past) >= season:
        ago = [past[season - 1 - step % season :: season] for step in range(math.ceil(steps))]
        found["a season ago"] = _added([each[0] for each in ago], steps)
        found["smoothed by season"] = _added([_smoothed(each) for each in ago], steps)
    return found


def _added(values: Sequence[float], steps: float) -> float:
    """Add up values in order of time; the last one counts as far as *steps* reaches into it."""
    return sum(values[:-1]) + (steps - len(values) + 1) * values[-1]


def _smoothed(values: Sequence[float]) -> float:
    level = values[-1]
    for value in values[-2::-1]:
        level += (1 - _SMOOTHING) * (value - level)
    return level


def _usual(values: Sequence[float]) -> float:
    """Return the median of what is something: no single value moves it far."""
    some = [value for value in values if value]
    return statistics.median(some) if some else 0.0


def _along_a_line(recent: Sequence[float], steps: float) -> float:
    """Lay a straight line through the values, by least squares, and follow it."""
    count, mean = len(recent), statistics.fmean(recent)
    middle = (count - 1) / 2
    slope = sum((middle - age) * (value - mean) for age, value in enumerate(recent))
    slope /= count * (count * count - 1) / 12
    return max(0.0, steps * (mean + slope * ((steps + 1) / 2 + middle)))


def _by_method_as_begun(
    past: Sequence[float],
    before: Sequence[float],
    now: float,
    share: float,
    season: int | None,
) -> dict[str, _Said]:
    """Add what each method says in proportion to how this one has begun, and what those alike say.

    A method says how it should have begun, too: it is scaled by what is the case, of that.
    """
    plain = _by_method(past, 1.0, season)
    if not share:
        return {name: _Said(value) for name, value in plain.items()}
    floor = _FLOOR * _usual(before) + _SMALLEST

    def off(begins: float) -> float:
        return abs(math.log((begins + floor) / (now + floor)))

    found = {}
    for name, usual in _by_method(before, 1.0, season).items():
        found[name] = _Said(plain[name], off(usual))
        pace = (now / usual if now else _QUIET_PACE) if usual else 1.0
        for words, trust in _TRUST.items():
            factor = min(pace ** (share**trust), _MOST_PACE)
            found[f"{name}, {words}"] = _Said(plain[name] * factor, off(usual * factor))
    if len(past) > _ALIKE:
        nearest = sorted((off(value) + _FLOOR * age, age) for age, value in enumerate(before))
        ages = [age for _, age in nearest[:_ALIKE]]
        found["those that began alike"] = _Said(
            statistics.fmean(past[age] for age in ages),
            statistics.fmean(off(before[age]) for age in ages),
        )
    return found


class _Known(NamedTuple):
    """How a method did: means of errors, the later ones weigh more."""

    error: float
    off: float
    """About what had begun."""


def _logs(said: _Sayings, floor: float) -> dict[str, _Said]:
    return {name: _Said(math.log(value + floor), off) for name, (value, off) in said.items()}


class _Trial:
    """What the methods said at points of the past, the latest first, and what came.

    Errors are logarithms of what came, of what was said.
    """

    def __init__(
        self,
        said: Sequence[_Sayings],
        came: Sequence[float],
        floor: float,
        whole: int,
        width: float,
    ) -> None:
        self._came, self._floor, self._whole, self._width = came, floor, whole, width
        self._log_said = [_logs(each, floor) for each in said]
        self._log_came = [math.log(value + floor) for value in came]
        self._known = self._known_by_point()
        self._said_then = [
            self._together(each, self._weights(each, point + whole))
            for point, each in enumerate(self._log_said)
        ]
        """What was said by the methods that were best at that time."""
        self._errors = [
            there - then for there, then in zip(self._log_came, self._said_then, strict=True)
        ]

    def estimate(self, said: _Sayings, floor: float, sizes: Sequence[float]) -> Estimate:
        """Estimate what comes, from what the methods say now.

        Args:
            said: By each.
            floor: Below what it is chance.
            sizes: Of what errors are a share, at each point.
        """
        logs = _logs(said, floor)
        weights = self._weights(logs, 0)
        together = self._together(logs, weights)
        middle, low, high, p95 = (
            max(0.0, math.exp(together + error) - floor)
            for error in _spread(self._errors, self._width)
        )
        return Estimate(
            expected=middle,
            low=low,
            high=high,
            p95=p95,
            error=_share(
                [math.exp(log) - self._floor for log in self._said_then], self._came, sizes
            ),
            coverage=self._coverage(),
            tests=len(self._came),
            methods=self._methods(weights, sizes),
        )

    def _known_by_point(self) -> list[dict[str, _Known]]:
        """Return how each method did at a point and before, where that is known."""
        sums: dict[str, tuple[float, float, float, int]] = {}
        found = []
        for said, came in zip(reversed(self._log_said), reversed(self._log_came), strict=True):
            for name, (log, off) in said.items():
                errors, offs, weights, count = sums.get(name, (0.0, 0.0, 0.0, 0))
                errors, offs = errors * _FORGETTING + abs(came - log), offs * _FORGETTING + off
                sums[name] = errors, offs, weights * _FORGETTING + 1, count + 1
            # What is known from few points is not known well, which counts as worse.
            mean = {
                name: (1 + 2 / count) / weights
                for name, (_, _, weights, count) in sums.items()
                if count >= _FEWEST_ERRORS
            }
            found.append(
                {
                    name: _Known(sums[name][0] * part + _SMALLEST, sums[name][1] * part)
                    for name, part in mean.items()
                }
            )
        return found[::-1]

    def _weights(self, logs: _Sayings, since: int) -> dict[str, float]:
        """Return how far each method is believed, from the points up to *since*."""
        known = self._known[since] if since < len(self._known) else {}
        badness = {
            name: known[name].error + max(0.0, off - _SURPRISE * known[name].off)
            for name, (_, off) in logs.items()
            if name in known
        }
        best = sorted(badness, key=lambda name: (badness[name], name))[:_BELIEVED]
        if not best:
            return dict.fromkeys(logs, 1.0)
        return {name: (badness[best[0]] / badness[name]) ** _POWER for name in best}

    def _value(self, log: float) -> float:
        return math.exp(log) - self._floor

    @staticmethod
    def _together(logs: _Sayings, weights: Mapping[str, float]) -> float:
        return sum(weights[name] * logs[name].value for name in weights) / sum(weights.values())

    def _coverage(self) -> float | None:
        """Count how many intervals of those errors that were known then have held."""
        held = [
            low <= error <= high
            for point, error in enumerate(self._errors)
            if len(known := self._errors[point + self._whole :]) >= _FEWEST_ERRORS
            for _, low, high, _ in [_spread(known, self._width)]
        ]
        return sum(held) / len(held) if held else None

    def _methods(self, weights: Mapping[str, float], sizes: Sequence[float]) -> tuple[Method, ...]:
        total = sum(weights.values())
        names = dict.fromkeys([*weights, *(name for said in self._log_said for name in said)])
        found = []
        for name in names:
            known = [point for point, said in enumerate(self._log_said) if name in said]
            error = _share(
                [self._value(self._log_said[point][name].value) for point in known],
                [self._came[point] for point in known],
                [sizes[point] for point in known],
            )
            found.append(Method(name, error, weights.get(name, 0.0) / total))
        return tuple(sorted(found, key=lambda method: (-method.weight, method.error or 0.0)))


def _share(said: Iterable[float], came: Sequence[float], sizes: Sequence[float]) -> float | None:
    """Return the mean absolute error, as a share of sizes; ``None``: there was nothing."""
    shares = [
        abs(there - then) / size
        for then, there, size in zip(said, came, sizes, strict=True)
        if size
    ]
    return statistics.fmean(shares) if shares else None


def _spread(errors: Sequence[float], width: float) -> tuple[float, float, float, float]:
    """Return the error to expect, between which ones four in five lie, and one in 20 is above.

    The errors to come are *width* times as wide.
    """
    count = len(errors)
    middle = statistics.median(errors) / 2 if count > 5 else 0.0
    if count >= _MANY_ERRORS:
        tenths = statistics.quantiles(errors, n=20)
        low, high, p95 = tenths[1], tenths[-2], tenths[-1]
    else:
        spread = math.sqrt(sum((error - middle) ** 2 for error in errors) / count)
        most = _T80[count - 1] * spread * math.sqrt(1 + 1 / count)
        low, high, p95 = middle - most, middle + most, middle + _P95_WIDTH * most
    low, high, p95 = (middle + width * (error - middle) for error in (low, high, p95))
    return middle, low, high, p95
