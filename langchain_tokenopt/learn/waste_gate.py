"""Whether to act upon predictions: a test that follows how many of them are wasted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

__all__ = ["WasteGate", "gate_like"]

_STOP: Final = 2.0
"""Wasted loads more than allowed at which the gate closes. Where a tenth may be wasted, it closes
after 3 loads on the average when all are wasted, 6 when half are, 19 when a fifth are, 65 when a
tenth are; by chance after 340 when a twentieth are, 4,000 when one in fifty is (simulated)."""
_BEGIN: Final = 1.5
"""What a new gate has to make good: 15 right predictions in a row where a tenth may be wasted."""


class WasteGate:
    """Follows the waste of loads in excess of what is allowed, and closes when it is too much.

    A CUSUM test (Page, Biometrika 41, 1954): each wasted load adds ``1 - max_waste`` to the excess,
    each used one takes ``max_waste`` off it, and it does not fall below 0. The gate closes at 2.
    While it is closed, predictions are only judged (in the shadow), right and wrong ones changing
    the excess in the same way, and it opens when the excess is back at 0: not by a lucky guess, so
    it does not flap. What was wasted beyond the allowed share before has to be made good, too.

    For any sequence of outcomes, ``wasted <= max_waste * (used + wasted + right_in_shadow) + 2``.

    Args:
        max_waste: The share of loads that may be wasted; above 0, below 1.

    Example:
        >>> gate = WasteGate(0.1)
        >>> for _ in range(15):
        ...     gate.judge_shadow(right=True)
        >>> gate.is_open
        True
        >>> for _ in range(3):
        ...     gate.start()
        ...     gate.end(used=False)
        >>> gate.is_open, gate.wasted
        (False, 3)
    """

    __slots__ = (
        "excess",
        "is_open",
        "max_waste",
        "outstanding",
        "right_in_shadow",
        "used",
        "wasted",
        "wrong_in_shadow",
    )

    def __init__(self, max_waste: float) -> None:
        self.max_waste = max_waste
        self.excess = _BEGIN
        self.is_open = False
        self.used = self.wasted = self.outstanding = 0
        self.right_in_shadow = self.wrong_in_shadow = 0

    @property
    def judged(self) -> int:
        """How many predictions are known to have been right or wrong."""
        return self.used + self.wasted + self.right_in_shadow + self.wrong_in_shadow

    def may_start(self) -> bool:
        """Whether one more load may be begun: even if it and all outstanding ones are wasted."""
        worst = self.excess + (1.0 - self.max_waste) * (self.outstanding + 1)
        return self.is_open and worst <= _STOP + _BEGIN

    def start(self) -> None:
        """Take note of a load that begins."""
        self.outstanding += 1

    def cancel(self) -> None:
        """Take note of a load that was given up before it began: nothing was wasted."""
        self.outstanding -= 1

    def end(self, *, used: bool) -> None:
        """Take note of what became of a load."""
        self.outstanding -= 1
        self.used += used
        self.wasted += not used
        self._add(right=used)
        if self.is_open and self.excess >= _STOP:
            self.is_open = False
            beyond = self.wasted - self.max_waste * (self.used + self.wasted)
            self.excess = _STOP + max(0.0, beyond)

    def judge_shadow(self, *, right: bool) -> None:
        """Take note of a prediction that was not acted upon."""
        self.right_in_shadow += right
        self.wrong_in_shadow += not right
        if not self.is_open:
            self._add(right=right, most=max(self.excess, _STOP))
            self.is_open = self.excess <= 1e-9

    def explain(self) -> str:
        """Say how it stands and why.

        Example:
            >>> WasteGate(0.1).explain()
            'Nothing is loaded ahead: 15 more predictions have to be right (0 of 0 loads wasted).'
        """
        wasted = f"{self.wasted:,} of {self.used + self.wasted:,} loads wasted"
        if self.is_open:
            return f"What is nearly certain is loaded ahead ({wasted})."
        needed = math.ceil(round(self.excess / self.max_waste, 6))
        return f"Nothing is loaded ahead: {needed:,} more predictions have to be right ({wasted})."

    def _add(self, *, right: bool, most: float = float("inf")) -> None:
        change = -self.max_waste if right else 1.0 - self.max_waste
        self.excess = min(most, max(0.0, self.excess + change))


def gate_like(gates: Iterable[WasteGate], max_waste: float) -> WasteGate:
    """Return a gate for a newcomer: where the middle one of the others stands.

    With fewer than three others of whom enough is known, it begins closed.
    """
    made = WasteGate(max_waste)
    known = sorted((not g.is_open, g.excess) for g in gates if g.judged >= 1 / max_waste)
    if len(known) >= 3:
        is_closed, made.excess = known[len(known) // 2]
        made.is_open = not is_closed
    return made
