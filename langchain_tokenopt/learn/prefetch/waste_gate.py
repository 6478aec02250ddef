"""Whether to act upon predictions: a test that follows how many of them are wasted."""

from __future__ import annotations

import math
from typing import Any, Final, Self

__all__ = ["WasteGate"]

_STOP: Final = 2.0
"""Wasted loads more than allowed at which the gate closes. Where a tenth may be wasted, it closes
after 3 loads on the average when all are wasted, 6 when half are, 19 when a fifth are, 65 when a
tenth are; by chance after 340 when a twentieth are, 4,000 when one in fifty is (simulated)."""
_FIRST: Final = 5
"""Outcomes of one user that count for newcomers."""
_BEGIN: Final = 0.6
"""What a new gate has to make good: 18 right predictions in a row where a tenth may be wasted."""
_STRICTER: Final = 3
"""By how much fewer wrong predictions open the gate than wasted loads close it. Of 500 predictions
one in ten of which is wrong, 3 % are acted upon (all that the shadow lets through by chance), 45 %
would be with 1; of those one in fifty of which is wrong, 90 % and 96 % (simulated)."""
_WORST: Final = 3.5
"""Excess that is not passed even if all loads under way are wasted: three at a time at first."""


_KEPT: Final[dict[str, tuple[type, ...]]] = {
    "outcomes": (int,),
    "is_open": (bool,),
    "excess": (float, int),
    "used": (int,),
    "wasted": (int,),
    "first_right": (int,),
    "first_wrong": (int,),
}
_MOST: Final = 10**15
_TRIAL: Final = 5
"""Loads after a restart none of which may be wasted."""


class WasteGate:
    """Follows the waste of loads in excess of what is allowed, and closes when it is too much.

    A CUSUM test (Page, Biometrika 41, 1954): each wasted load adds ``1 - max_waste`` to the excess,
    each used one takes ``max_waste`` off it, and it does not fall below 0. The gate closes at 2.
    While it is closed, predictions are only judged (in the shadow), against a third of the share,
    and it opens when the excess is back at 0: not by a lucky guess, so it does not flap. What was
    wasted beyond the allowed share before has to be made good, too.

    For any sequence of outcomes,
    ``wasted <= max_waste * (used + wasted + right_in_shadow / 3) + 3``.

    Args:
        max_waste: The share of loads that may be wasted; above 0, below 1.
        first: The common gate of newcomers: this one begins as that one stands, and tells it of its
            first five outcomes, so that no single user moves it far.

    Example:
        >>> gate = WasteGate(0.1)
        >>> for _ in range(18):
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
        "_first",
        "excess",
        "first_right",
        "first_wrong",
        "is_open",
        "max_waste",
        "on_trial",
        "outcomes",
        "outstanding",
        "right_in_shadow",
        "used",
        "wasted",
        "wrong_in_shadow",
    )

    def __init__(self, max_waste: float, first: WasteGate | None = None) -> None:
        self.max_waste = max_waste
        self._first = first
        self.is_open, self.excess = (False, _BEGIN) if first is None else first.stand
        self.used = self.wasted = self.outstanding = self.outcomes = 0
        self.first_right = self.first_wrong = self.on_trial = 0
        self.right_in_shadow = self.wrong_in_shadow = 0

    @property
    def stand(self) -> tuple[bool, float]:
        """Whether it is open, and the excess."""
        return self.is_open, self.excess

    @property
    def needed(self) -> float:
        """How probable a prediction must be: the more was wasted, lately or in all, the more so.

        A prediction counts as right when it comes true within three calls, and its probability is
        that of the very next one: so half as much again may be granted as may be wasted.
        """
        worst = max(self.excess if self.is_open else 0.0, self.beyond)
        granted = min(1.5, max(0.5, 1.5 - worst))
        return 1.0 - min(self.max_waste * granted, max(0.5, self.max_waste))

    @property
    def beyond(self) -> float:
        """Loads that were wasted in all beyond the share that may be."""
        return self.wasted - self.max_waste * (self.used + self.wasted)

    def may_start(self) -> bool:
        """Whether one more load may be begun: even if it and all outstanding ones are wasted."""
        worst = self.excess + (1.0 - self.max_waste) * (self.outstanding + 1)
        return self.is_open and worst <= _WORST

    def start(self) -> None:
        """Take note of a load that begins."""
        self.outstanding += 1

    def cancel(self) -> None:
        """Take note of a load that was given up before it began: nothing was wasted."""
        self.outstanding -= 1

    def end(self, *, used: bool) -> None:
        """Take note of what became of a load."""
        self._tell_first(right=used)
        self.outstanding -= 1
        self.used += used
        self.wasted += not used
        self._add(right=used)
        has_failed_trial = self.on_trial > 0 and not used
        self.on_trial = max(0, self.on_trial - 1)
        if self.is_open and (self.excess >= _STOP or has_failed_trial):
            self.is_open = False
            self.excess = _STOP + max(0.0, self.beyond)

    def judge_shadow(self, *, right: bool) -> None:
        """Take note of a prediction that was not acted upon."""
        self._tell_first(right=right)
        self.right_in_shadow += right
        self.wrong_in_shadow += not right
        if not self.is_open:
            self._add(right=right, most=max(self.excess, _STOP), stricter=_STRICTER)
            self.is_open = self.excess <= 1e-9

    def explain(self) -> str:
        """Say how it stands and why.

        Example:
            >>> WasteGate(0.1).explain()
            'Nothing is loaded ahead: 18 more predictions have to be right (0 of 0 loads wasted).'
        """
        wasted = f"{self.wasted:,} of {self.used + self.wasted:,} loads wasted"
        if self.is_open:
            return f"What is nearly certain is loaded ahead ({wasted})."
        needed = math.ceil(round(_STRICTER * self.excess / self.max_waste, 6))
        return f"Nothing is loaded ahead: {needed:,} more predictions have to be right ({wasted})."

    # After a restart

    def as_json(self) -> dict[str, Any]:
        """Return how it stands, for :meth:`from_json`."""
        return {name: getattr(self, name) for name in _KEPT}

    @classmethod
    def from_json(cls, value: Any, max_waste: float, first: WasteGate | None = None) -> Self:
        """Return the gate that goes on where another has stood, and trusts that by half.

        What was used and wasted in all counts half, and so does what a closed gate has to make good
        beyond a new one's. An open gate closes if one of its first five loads is wasted.

        Raises:
            ValueError: It is nothing that :meth:`as_json` returns.

        Example:
            >>> gate = WasteGate(0.1)
            >>> for _ in range(18):
            ...     gate.judge_shadow(right=True)
            >>> gate = WasteGate.from_json(gate.as_json(), 0.1)
            >>> was_open = gate.is_open
            >>> gate.start()
            >>> gate.end(used=False)
            >>> was_open, gate.is_open
            (True, False)
        """
        if not (
            isinstance(value, dict)
            and value.keys() == _KEPT.keys()
            and all(type(value[name]) in kinds for name, kinds in _KEPT.items())
            and all(0 <= value[name] <= _MOST for name in _KEPT)
        ):
            raise ValueError(f"no state of a gate: {value!r}")
        made = cls(max_waste, first)
        for name in _KEPT:
            setattr(made, name, value[name])
        made.first_wrong = min(made.first_wrong, _FIRST)
        made.first_right = min(made.first_right, _FIRST - made.first_wrong)
        made.used //= 2
        made.wasted //= 2
        made.go_on_carefully()
        return made

    def go_on_carefully(self) -> None:
        """Take what was learned before a restart for less than what is seen after it."""
        if self.is_open:
            self.on_trial = _TRIAL
        else:
            self.excess = min(self.excess, (self.excess + _BEGIN) / 2)

    def hear_first_of(self, other: WasteGate) -> None:
        """Take in what another's first outcomes have told the gate of newcomers before."""
        for right in other.first_wrong * [False] + other.first_right * [True]:
            self._hear(right=right)

    def _tell_first(self, *, right: bool) -> None:
        """Tell the gate of newcomers of the first outcomes."""
        self.outcomes += 1
        if self._first is not None and self.first_right + self.first_wrong < _FIRST:
            self.first_right += right
            self.first_wrong += not right
            self._first._hear(right=right)

    def _hear(self, *, right: bool) -> None:
        if self.is_open:
            self.start()
            self.end(used=right)
        else:
            self.judge_shadow(right=right)

    def _add(self, *, right: bool, most: float = math.inf, stricter: int = 1) -> None:
        allowed = self.max_waste / stricter
        change = -allowed if right else 1.0 - allowed
        self.excess = min(most, max(0.0, self.excess + change))
