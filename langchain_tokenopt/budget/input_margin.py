"""How much more a provider counts than we do: a bound on it, learned from what it reports.

``counting.calibration`` learns the mean, which makes counts right; a reservation needs what a count
will hardly exceed.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Final

__all__ = ["InputMargin", "input_margin_of"]

_GUESSED_MARGIN: Final = 1.1
"""Margin on counts that are estimates, until the provider has reported its own."""
_REMEMBERED: Final = 64
_SMALL: Final = 200
"""Below so many tokens a difference is a frame, which adds; above, a rate, which multiplies."""


class InputMargin:
    """How much more one model's provider counts than we do.

    The factor is the mean of the latest ratios plus three standard deviations, and no less than the
    largest of them or 1: what was seen once is covered the next time.

    Example:
        >>> margin = InputMargin()
        >>> margin.applied(1_000)
        1000
        >>> margin.learn(counted=1_000, reported=1_080)
        >>> margin.applied(1_000)
        1080
    """

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)
        self._frames: deque[int] = deque(maxlen=_REMEMBERED)
        self._factor: float | None = None
        self._frame = 0
        self._lock = threading.RLock()

    def learn(self, *, counted: int, reported: int) -> None:
        """Take note of one call's input, as we and as the provider counted it."""
        if counted <= 0 or reported <= 0:
            return
        with self._lock:
            if counted < _SMALL:
                self._frames.append(reported - counted)
                self._frame = max(self._frames)
            else:
                self._ratios.append(reported / counted)
                self._factor = _bound(list(self._ratios))

    def applied(self, counted: int, *, exact: bool = True) -> int:
        """Return a count that the provider's will hardly exceed."""
        factor = self._factor
        if factor is None:
            factor = 1.0 if exact else _GUESSED_MARGIN
        return max(counted, math.ceil(counted * factor - 1e-9), counted + self._frame)


def _bound(ratios: list[float]) -> float:
    mean = sum(ratios) / len(ratios)
    spread = math.dist(ratios, [mean] * len(ratios)) / math.sqrt(len(ratios))
    return max(1.0, mean + 3 * spread, *ratios)


_margins: dict[str, InputMargin] = {}


def input_margin_of(model_name: str) -> InputMargin:
    """Return what is known of a model in this process."""
    margin = _margins.get(model_name)
    return _margins.setdefault(model_name, InputMargin()) if margin is None else margin
