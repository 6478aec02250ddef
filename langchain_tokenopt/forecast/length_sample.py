"""The quantile of the lengths of earlier answers that were asked for under similar conditions.

How similar an answer must be to say something differs: where length goes with the prompt's, a few
near answers say most; where it does not, all of them do, and the longest of a few near ones is
chance. So answers are kept at several levels, from a narrow range of conditions up to all of them,
and for each quantile that level is believed whose quantiles have cost least so far, by pinball
loss, which is least at the true quantile (Koenker and Bassett 1978, doi:10.2307/1913643). A running
correction keeps the coverage (adaptive conformal inference, Gibbs and Candès 2021,
arXiv:2106.00170): where more answers than promised were longer, the quantile rises.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["FEWEST", "LengthSample"]

FEWEST: Final = 8
"""Answers below which nothing is said."""
_BEYOND: Final = 1.25
"""Margin on the longest answer where a quantile lies beyond what so few answers can show."""
_STEP: Final = 0.1
"""How far one surprise moves the correction, of the share that is to be beyond."""
_FADING: Final = 0.999
"""Weight of a loss, of that of the next one."""
_SHARES: Final = (0.5, 0.9, 0.95, 0.99)
"""Quantiles for which levels are compared; coverage is kept of all but the first."""
_NEED: Final = (8, 20, 30, 100)
"""Answers without which a level says nothing about that quantile, unless it has all of them."""


class _Width(NamedTuple):
    """How a level groups answers."""

    bins_per_octave: int
    """Of the condition; 0: all in one."""
    offset: float
    """Of the bins, of their width."""
    latest: int
    """Answers kept in a group."""


_WIDTHS: Final = (
    _Width(12, 0.0, 24),
    _Width(12, 0.5, 24),
    _Width(8, 0.0, 400),
    _Width(2, 0.0, 400),
    _Width(0, 0.0, 200),
)
"""The narrowest first; wider than all is the whole window. These, the needs, the step and the
fading were chosen on the first half of the Azure LLM conversation trace of 2023."""
_WIDEST: Final = len(_WIDTHS)

_NEARLY: Final = 1.03
"""Levels that have cost hardly more than the best are believed, too, of the middle."""
_SETTLED: Final = 256
"""Answers after which levels are compared for one quantile at a time: to be quick."""

_Group = tuple[deque[tuple[int, float]], list[float]]
"""The latest answers of one range of conditions: numbered as they came, and by length."""
_Level = tuple[dict[int, _Group], int, float, int]
"""Groups by the number of their range, and the width."""
_NOTHING: Final[list[float]] = []


class LengthSample:
    """A window of answers, grouped by the conditions under which they were given.

    Args:
        window: How many.
        corrected: True to compare levels and to keep the coverage of quantiles; wider histories
            only bridge a beginning. They are sorted when a quantile is asked for, which is seldom.

    Example:
        >>> sample = LengthSample(2048, corrected=True)
        >>> for number in range(400):
        ...     sample.add(100, 50)
        ...     sample.add(4_000, 500)
        >>> sample.quantiles([0.95, 0.99], 100), sample.quantiles([0.95, 0.99], 4_000)
        ([50, 50], [500, 500])
    """

    def __init__(self, window: int, *, corrected: bool) -> None:
        self._window = window
        self._corrected = corrected
        self._levels: tuple[_Level, ...] = tuple(({}, *width) for width in _WIDTHS)
        self._ranked: list[float] = []
        """All in the window."""
        self._losses = [[0.0] * (_WIDEST + 1) for _ in _SHARES]
        self._best = [_WIDEST] * len(_SHARES)
        """The level that is believed, by quantile."""
        self._nearly = [_WIDEST]
        """Those that are believed of the middle: each is unsure there in its own way."""
        self._corrections = [0.0] * len(_SHARES)
        """What to add to a share."""
        self._count = 0
        """Answers ever taken in."""
        self._order: deque[tuple[float, float]] = deque()
        """Of the answers in the window: conditions, as octaves, and lengths."""
        self._unsorted: deque[tuple[float, float]] = deque(maxlen=window)

    def __len__(self) -> int:
        return min(len(self._order) + len(self._unsorted), self._window)

    def add(self, condition: float, value: float) -> None:
        """Take in an answer; first see whether it was predicted, where that is kept."""
        if not self._corrected:
            self._unsorted.append((condition, value))
            return
        octave = _octave(condition)
        if self._count >= FEWEST:
            known = self._known(octave)
            self._keep_coverage(known, value)
            turns = range(len(_SHARES)) if self._count < _SETTLED else (self._count % 4,)
            for which in turns:
                self._compare_levels(known, which, value)
        self._sort_in(octave, value)

    def quantiles(self, shares: Sequence[float], condition: float | None) -> list[float]:
        """Return corrected quantiles among similar answers; ``None`` is similar to all."""
        while self._unsorted:
            old, value = self._unsorted.popleft()
            self._sort_in(_octave(old), value)
        known = self._known(None if condition is None else _octave(condition))
        found = []
        for share in shares:
            which = 0 if share <= 0.7 else bisect_left(_SHARES, share, 1, len(_SHARES) - 1)
            correction = self._corrections[which] if share == _SHARES[which] else 0.0
            found.append(
                self._upper(known, which, share, share + correction)
                if which
                else self._middle(known, share)
            )
        return found

    def _known(self, octave: float | None) -> list[list[float]]:
        """Return what each level knows about a condition, ranked; if unknown, only of all."""
        known = []
        for level, bins, offset, _ in self._levels:
            if octave is None:
                group = None if bins else level.get(0)
            else:
                group = level.get(int(octave * bins + offset))
            known.append(_NOTHING if group is None else group[1])
        known.append(self._ranked)
        return known

    def _middle(self, known: list[list[float]], share: float) -> float:
        """Return the mean of a quantile about the middle at the believed levels that know it."""
        enough = [ranked for level in self._nearly if len(ranked := known[level]) >= _NEED[0]]
        if not enough:
            enough = [self._enough(known, 0)]
        return sum([_between(ranked, share) for ranked in enough]) / len(enough)

    def _upper(self, known: list[list[float]], which: int, share: float, corrected: float) -> float:
        """Return a quantile above the middle at the believed level."""
        ranked = self._enough(known, which)
        count = len(ranked)
        place = int((count + 1) * corrected - 1e-9)
        if place < count:
            return ranked[place if place > 0 else 0]
        return ranked[-1] * (_BEYOND if count * (1 - share) < 1 else 1.0)

    def _enough(self, known: list[list[float]], which: int) -> list[float]:
        """Return what the believed level knows, or the next wider one that knows enough."""
        level, need = self._best[which], _NEED[which]
        while level < _WIDEST and len(known[level]) < need:
            level += 1
        return known[level]

    def _keep_coverage(self, known: list[list[float]], value: float) -> None:
        """Raise the quantiles that an answer has exceeded, lower the others a little."""
        for which in range(1, len(_SHARES)):
            share, correction = _SHARES[which], self._corrections[which]
            surprised = value > self._upper(known, which, share, share + correction)
            moved = correction + _STEP * (1 - share) * (share - (not surprised))
            self._corrections[which] = min(max(moved, -share), 1 - share)

    def _compare_levels(self, known: list[list[float]], which: int, value: float) -> None:
        """See what each level would have said of a quantile, and which has been the best so far."""
        share, need, losses = _SHARES[which], _NEED[which], self._losses[which]
        best, least, cost = _WIDEST, math.inf, 0.0
        for level in range(_WIDEST, -1, -1):
            ranked = known[level]
            count = len(ranked)
            if count >= need or level == _WIDEST:
                said = (
                    ranked[min(int((count + 1) * share - 1e-9), count - 1)]
                    if which
                    else _between(ranked, share)
                )
                cost = (value - said) * (share if value > said else share - 1)
            # A level that says nothing is followed by what the next wider one says.
            losses[level] = loss = losses[level] * _FADING + cost
            if loss < least:
                best, least = level, loss
        self._best[which] = best
        if which == 0:
            most = least * _NEARLY
            self._nearly = [number for number, loss in enumerate(losses) if loss <= most]

    def _sort_in(self, octave: float, value: float) -> None:
        number = self._count
        self._count += 1
        entry = number, value
        for level, bins, offset, latest in self._levels:
            key = int(octave * bins + offset)
            group = level.get(key)
            if group is None:
                group = level[key] = (deque(), [])
            order, ranked = group
            order.append(entry)
            insort(ranked, value)
            if len(order) > latest:
                del ranked[bisect_left(ranked, order.popleft()[1])]
        self._order.append((octave, value))
        insort(self._ranked, value)
        if number >= self._window:
            self._forget(number - self._window)

    def _forget(self, number: int) -> None:
        """Remove the answer with a number, also from the groups that still have it."""
        octave, value = self._order.popleft()
        del self._ranked[bisect_left(self._ranked, value)]
        for level, bins, offset, _ in self._levels:
            key = int(octave * bins + offset)
            group = level.get(key)
            if group is None or group[0][0][0] != number:
                continue
            order, ranked = group
            del ranked[bisect_left(ranked, order.popleft()[1])]
            if not order:
                del level[key]


def _between(ranked: list[float], share: float) -> float:
    """Return a quantile as a mean of the two values that are next to it."""
    place = (len(ranked) - 1) * share
    below = int(place)
    return ranked[below] + (ranked[-int(-place // 1)] - ranked[below]) * (place - below)


def _octave(condition: float) -> float:
    return math.log2(condition) if condition > 0 else -1.0
