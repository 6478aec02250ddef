"""Bounds of a mean that hold whenever they are looked at.

An interval for a fixed number of cases is wrong for whoever looks after every case and stops when
he likes what he sees. These bounds come from a bet against each value that the mean might have: if
the mean is that value, nobody can win, and the chance ever to multiply the stake by ``1 / error``
is at most ``error`` (Ville's inequality). The bets are Cover's universal portfolio, which needs no
setting: F. Orabona and K.-S. Jun, "Tight concentrations and confidence sequences from the regret of
universal portfolio", IEEE Transactions on Information Theory 70 (2024), arXiv:2110.14099.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MeanBounds"]

_BETS = 48
_HALVINGS = 30


class MeanBounds:
    """A lower and an upper bound of the mean of numbers that lie in a known range.

    With probability ``1 - error_below`` the mean is never below :attr:`lower`, however many numbers
    have been added, and the same holds for *error_above* and :attr:`upper`. Nothing is assumed of
    the numbers but their range, and that each is drawn with the same mean.

    Args:
        least: No number is smaller.
        most: No number is greater.
        error_below: Chance that the mean is ever below :attr:`lower`.
        error_above: Chance that it is ever above :attr:`upper`.

    Raises:
        ValueError: The range is empty, or a chance is not between 0 and 1.

    Example:
        >>> bounds = MeanBounds(-1, 1, error_below=0.025, error_above=0.025)
        >>> for _ in range(200):
        ...     bounds.add(0.0)
        >>> round(bounds.lower, 3), round(bounds.upper, 3)
        (-0.025, 0.025)
    """

    def __init__(
        self, least: float, most: float, *, error_below: float, error_above: float
    ) -> None:
        if not least < most:
            raise ValueError(f"least must be below most; got {least!r} and {most!r}.")
        for error in (error_below, error_above):
            if not 0 < error < 1:
                raise ValueError(f"A chance of error must lie between 0 and 1; got {error!r}.")
        self.least, self.most = least, most
        self._width = most - least
        self._errors = error_below, error_above
        self._below: Counter[float] = Counter()
        self._above: Counter[float] = Counter()
        self._lower, self._upper = least, most
        self._is_fresh = True
        self.count = 0

    def add(self, value: float, highest: float | None = None, *, times: int = 1) -> None:
        """Take in a number.

        Args:
            value: The number.
            highest: Given where the number is not known: it lies between *value* and this. Each
                bound then counts what speaks against it.
            times: How often it came.

        Raises:
            ValueError: It lies outside of the range.
        """
        highest = value if highest is None else highest
        if not self.least <= value <= highest <= self.most:
            raise ValueError(
                f"Only numbers from {self.least:g} to {self.most:g} can be added; got {value!r}."
            )
        self._below[(value - self.least) / self._width] += times
        self._above[(self.most - highest) / self._width] += times
        self.count += times
        self._is_fresh = False

    @property
    def lower(self) -> float:
        """The mean is not below this. It never falls."""
        self._update()
        return self._lower

    @property
    def upper(self) -> float:
        """The mean is not above this. It never rises."""
        self._update()
        return self._upper

    def is_above(self, mean: float) -> bool:
        """Say whether the mean is above *mean*: what ``lower >= mean`` says, at less work."""
        won = self._won(self._below, (mean - self.least) / self._width)
        return won >= math.log(1 / self._errors[0])

    def is_below(self, mean: float) -> bool:
        """Say whether the mean is below *mean*."""
        return self.evidence_below(mean) >= math.log(1 / self._errors[1])

    def evidence_below(self, mean: float) -> float:
        """Return the log of what the bets have won that the mean is below *mean*.

        If it is not, the chance that it ever reaches ``log(1 / error)`` is at most *error*.
        """
        return self._won(self._above, (self.most - mean) / self._width)

    def _won(self, counts: Mapping[float, int], mean: float) -> float:
        if not self.count or not 0 < mean < 1:
            return 0.0
        return _log_wealth(*_arrays(counts), mean)

    def _update(self) -> None:
        if self._is_fresh:
            return
        below, above = self._errors
        lower = self.least + self._width * _least_mean(self._below, below)
        upper = self.most - self._width * _least_mean(self._above, above)
        self._lower, self._upper = max(self._lower, lower), min(self._upper, upper)
        self._is_fresh = True


@lru_cache(maxsize=1)
def _bets() -> NDArray[np.float64]:
    """Return shares of the stake to bet: quantiles of the arcsine law, Cover's prior."""
    import numpy as np

    return np.sin((np.arange(_BETS) + 0.5) * math.pi / (2 * _BETS)) ** 2


def _least_mean(counts: Mapping[float, int], error: float) -> float:
    """Return the greatest mean of numbers from 0 to 1 that the bets refute, with all below it."""
    values, times = _arrays(counts)
    average = float(values @ times / times.sum())
    low, high = 0.0, average
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle and _log_wealth(values, times, middle) >= math.log(1 / error):
            low = middle
        else:
            high = middle
    return low


def _arrays(counts: Mapping[float, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np

    return (
        np.fromiter(counts.keys(), float, len(counts)),
        np.fromiter(counts.values(), float, len(counts)),
    )


def _log_wealth(values: NDArray[np.float64], times: NDArray[np.float64], mean: float) -> float:
    """Return the log of what the bets against *mean* have made of a stake of 1.

    A bet of the share f multiplies the stake by ``1 - f + f * value / mean``, which is 1 on average
    if the mean is *mean*. The greater the mean, the less is won, so what is refuted lies together.
    """
    import numpy as np

    bets = _bets()[:, None]
    logs = (np.log1p(bets * (values / mean - 1.0)) * times).sum(axis=1)
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))
