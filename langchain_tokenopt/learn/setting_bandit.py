"""Which of a row of settings to use: the cheapest whose answers are good enough.

The settings stand in a row, the dearest first, and the user's own among them. It is a bandit with a
constraint, played in small steps:

- *Conservative*: a neighbour is tried only as far as earlier good answers pay for bad ones, so that
  the mean quality stays at the target (Wu, Shariff, Lattimore and Szepesvári, "Conservative
  Bandits", ICML 2016, arXiv:1602.04282). The credit is the faded sum of ``quality - target``; one
  trial needs ``target`` of it, as if its answer would be worthless.
- *Discounted*: evidence fades, by 0.7 % with each new one of its setting and by some with each call
  (Garivier and Moulines, "On Upper-Confidence Bound Policies for Switching Bandit Problems", ALT
  2011, arXiv:0805.3415), so that a shift is followed.
- *Bounded*: of ``n`` faded verdicts with sum ``s``, mean ``m = (s + 1) / (n + 2)`` and variance
  ``v = (n * sample variance + 4 * p * (1 - p)) / (n + 4)``, ``p = (s + 2) / (n + 4)`` (Agresti and
  Coull, The American Statistician 52, 1998), the bounds are ``m -+ z * sqrt(v / (n + 2))``. A
  setting is used only while its lower bound is at or above the target; where its neighbour's is,
  too, the cheaper of both is used. These bounds are narrower than any that hold for certain: 8 good
  verdicts reach 0.9, for which it takes 23 by Clopper and Pearson, 33 by the bets of
  ``evaluate/mean_bounds.py``, 72 by empirical Bernstein; with one bad among them 24, 38, 59, 106.

Read on 2026-11-30. How well it does: ``tests/benchmarks/learn_tuning.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

__all__ = ["ENOUGH", "Arm", "Bandit", "Step", "prior_of"]

ENOUGH: Final = 30.0
"""Verdicts and costs of the user's own setting without which nothing is moved or tried."""
_FEW: Final = 15.0
"""The same of a neighbour."""
_PLENTY: Final = 100.0
"""So many verdicts of a neighbour leave nothing to try."""
_FADING: Final = 0.993
_FADING_EACH: Final = 0.998
_FADING_UNJUDGED: Final = 0.9997
_FADING_CREDIT: Final = 0.995
_Z_ENTER: Final = 1.3
_Z_STAY: Final = 0.5
_Z_CHEAPER: Final = 0.3
_Z_DEARER: Final = 1.0
_TRIED: Final = 0.7
"""Share of the calls in which the cheaper neighbour is tried, where it may be."""
_TRIED_BACK: Final = 0.05
_LEVEL: Final = 0.03
"""How fast the level of costs follows."""
_MOST_TIMES: Final = 100.0
"""A call that costs more than so many times the usual counts as that."""
_MOST_CREDIT: Final = 10.0
_UNJUDGED: Final = 20
"""So many trials may wait for a verdict, for each verdict that has come."""
_STEPS: Final = 40
"""Steps that are remembered."""
_OWNERS: Final = 5
"""So many users must agree before others are moved by what they have shown."""
_MOST_OF_OWNER: Final = 20.0
_MOST_PRIOR: Final = 60.0


@dataclass(slots=True, order=True)
class Arm:
    """What is known of one setting: faded counts and sums."""

    judged: float = 0.0
    quality: float = 0.0
    quality_squares: float = 0.0
    billed: float = 0.0
    cost: float = 0.0
    cost_squares: float = 0.0
    waiting: float = 0.0
    """Trials since the last verdict."""

    def values(self) -> list[float]:
        """Return its numbers, in order."""
        return [getattr(self, name) for name in _ARM]

    def scaled(self, factor: float) -> Arm:
        """Return a part of it."""
        return Arm(*(factor * value for value in self.values()))

    def with_costs_times(self, factor: float) -> Arm:
        """Return it with costs in another unit."""
        cost, squares = factor * self.cost, factor * factor * self.cost_squares
        return replace(self, cost=cost, cost_squares=squares)

    def fade(self, verdicts: float, costs: float) -> None:
        """Let what is known count for less."""
        self.judged *= verdicts
        self.quality *= verdicts
        self.quality_squares *= verdicts
        self.billed *= costs
        self.cost *= costs
        self.cost_squares *= costs

    def __add__(self, other: Arm) -> Arm:
        """Return what both know."""
        return Arm(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def quality_bounds(self, z: float = _Z_ENTER) -> tuple[float, float]:
        """Return the lower and the upper bound of the mean quality; see the module.

        Example:
            >>> [round(bound, 2) for bound in Arm(100, 95, 94).quality_bounds()]
            [0.92, 0.98]
        """
        if self.judged < 1:
            return 0.0, 1.0
        n, mean = self.judged, self.quality / self.judged
        spread = max(0.0, self.quality_squares - n * mean * mean)
        p = (self.quality + 2) / (n + 4)
        error = z * math.sqrt((spread + 4 * p * (1 - p)) / (n + 4) / n)
        return mean - error, mean + error

    def cheaper_than(self, other: Arm) -> float:
        """Return by how many standard errors its mean cost is below the other's."""
        if not self.billed or not other.billed:
            return 0.0
        difference = other.cost / other.billed - self.cost / self.billed
        error = math.sqrt(self._cost_error() + other._cost_error())
        if error <= 1e-9 * abs(difference):
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / error

    def _cost_error(self) -> float:
        mean = self.cost / self.billed
        return max(0.0, self.cost_squares / self.billed - mean * mean) / self.billed


_ARM: Final = tuple(Arm.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Step:
    """One move from a setting to its neighbour."""

    calls: int
    """How many calls there had been."""
    before: int
    after: int
    reason: str


@dataclass(slots=True)
class Bandit:
    """What is known of one owner's calls, and which setting they use.

    Args:
        arms: One for each setting, the dearest first.
        default: The user's own among them.
        target: Mean quality that is asked for, from 0 to 1.

    Example:
        >>> bandit = Bandit([Arm(), Arm(), Arm()], default=0, target=0.9)
        >>> for call in range(500):
        ...     used = bandit.choose(call % 2)
        ...     _ = bandit.bill(used, 100.0 - 10 * used), bandit.judge(used, 1.0)
        >>> bandit.at, bandit.steps[0].reason
        (2, 'good enough (from 0.95) and cheaper')
    """

    arms: list[Arm]
    default: int
    target: float
    at: int = -1
    calls: int = 0
    credit: float = 0.0
    steps: list[Step] = field(default_factory=list)
    level: float = 0.0
    """What a call costs now, at a setting whose costs count as 1."""
    unit: str | None = None
    """What costs are counted in; ``None``: there are none yet."""
    is_frozen: bool = False
    prior: Sequence[Arm] = ()
    """What other users' calls have shown of each setting."""

    def __post_init__(self) -> None:
        if self.at < 0:
            self.at = self.default

    # Choosing

    def choose(self, draw: float) -> int:
        """Return the setting of a call.

        Args:
            draw: From 0 to 1; decides whether a neighbour is tried.
        """
        if self.is_frozen or self.is_thin:
            return self.at
        if self.at <= self.default and self._is_bad(self.at):  # only something dearer can help
            after, share = self.at - 1, _TRIED
        elif draw < _TRIED or self.at == self.default:
            after, share = self.at + 1, _TRIED
        else:
            after, share = self._towards_default, _TRIED + _TRIED_BACK
        return after if draw < share and self._may_be_tried(after) else self.at

    def _may_be_tried(self, at: int) -> bool:
        if not 0 <= at < len(self.arms) or (self.credit < self.target and at > self.at):
            return False
        arm = self.arms[at]
        known = min(arm.judged, arm.billed)
        if at < self.at <= self.default:
            wanted = not self._is_better(at)
        elif at > self.at:
            wanted = known < _PLENTY and not self._is_dearer(at)
        else:
            wanted = known < _FEW
        is_heard = arm.waiting <= _UNJUDGED * (1 + arm.judged)
        return wanted and is_heard and (at < self.at or not self._is_bad(at))

    def _is_dearer(self, at: int) -> bool:
        here, there = self._known(self.at), self._known(at)
        known = min(here.billed, there.billed) >= _FEW
        return known and here.cheaper_than(there) >= _Z_DEARER

    def _is_better(self, at: int) -> bool:
        """Whether answers are better there, as far as either is known."""
        there = self._known(at)
        mean = sum(self._known(self.at).quality_bounds()) / 2
        return there.judged >= _FEW and there.quality_bounds(_Z_STAY)[0] > mean

    def _is_bad(self, at: int) -> bool:
        return self._known(at).quality_bounds()[1] < self.target

    @property
    def _towards_default(self) -> int:
        return self.at + (1 if self.at < self.default else -1)

    @property
    def is_thin(self) -> bool:
        """Whether too little is known of the user's own setting to leave it."""
        own = self._known(self.default)
        return min(own.judged, own.billed) < ENOUGH and self.at == self.default

    def _known(self, at: int) -> Arm:
        if not self.prior:
            return self.arms[at]
        return self.arms[at] + self.prior[at].with_costs_times(_cost_of(self.arms[self.default]))

    # Learning

    def bill(self, used: int, cost: float) -> Step | None:
        """Take in what a call has cost."""
        self.calls += 1
        for each in self.arms:
            each.fade(_FADING_UNJUDGED, _FADING_EACH)
        arm = self.arms[used]
        share = self._share_of_level(arm, cost)
        arm.billed = _FADING * arm.billed + 1
        arm.cost = _FADING * arm.cost + share
        arm.cost_squares = _FADING * arm.cost_squares + share * share
        arm.waiting += used != self.at
        return self._move()

    def _share_of_level(self, arm: Arm, cost: float) -> float:
        """Return a cost as a multiple of the level, which follows it.

        Settings are compared by such multiples: where all calls become dearer, none does.
        """
        if not self.level:
            self.level = cost
            return float(cost > 0)
        share = min(_MOST_TIMES, cost / self.level)
        if arm.billed >= 1:
            usual = max(1 / _MOST_TIMES, arm.cost / arm.billed)
            self.level *= 1 + _LEVEL * (min(_MOST_TIMES, share / usual) - 1)
        return share

    def judge(self, used: int, quality: float) -> Step | None:
        """Take in a verdict, from 0 to 1."""
        for each in self.arms:
            each.fade(_FADING_EACH, 1.0)
        arm = self.arms[used]
        arm.judged = _FADING * arm.judged + 1
        arm.quality = _FADING * arm.quality + quality
        arm.quality_squares = _FADING * arm.quality_squares + quality * quality
        arm.waiting = 0.0
        self.credit = min(_MOST_CREDIT, _FADING_CREDIT * self.credit + quality - self.target)
        return self._move()

    def _move(self) -> Step | None:
        """Go to a neighbour where that is right by now."""
        found = None if self.is_frozen else self.better()
        if found is None:
            return None
        after, reason = found
        step = Step(self.calls, self.at, after, reason)
        self.at = after
        self.steps = [*self.steps[-_STEPS + 1 :], step]
        return step

    def better(self) -> tuple[int, str] | None:
        """Return the neighbour to use from now on, and why; ``None``: the setting stays."""
        here = self._known(self.at)
        lower, upper = here.quality_bounds(_Z_STAY)
        is_refuge = self.at < self.default and self._is_bad(self.default)
        if self.at != self.default and lower < self.target and not is_refuge:
            return self._towards_default, f"no longer known to be good enough (from {lower:.2f})"
        if self.is_thin:
            return None
        if 0 < self.at <= self.default and self._is_bad(self.at) and self._is_better(self.at - 1):
            return self.at - 1, f"better, and the other is not good enough (up to {upper:.2f})"
        for at, z in ((self.at + 1, _Z_CHEAPER), (self.at - 1, _Z_DEARER)):
            if 0 <= at < len(self.arms) and (at > self.at or self.at > self.default):
                there = self._known(at)
                good = there.quality_bounds()[0]
                if (
                    min(there.judged, there.billed, here.billed) >= _FEW
                    and (good >= self.target or at == self.default)
                    and there.cheaper_than(here) >= z
                ):
                    return at, f"good enough (from {good:.2f}) and cheaper"
        return None

    # Keeping

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        return {
            "arms": [[round(value, 6) for value in arm.values()] for arm in self.arms],
            "at": self.at,
            "calls": self.calls,
            "credit": round(self.credit, 6),
            "level": round(self.level, 6),
            "unit": self.unit,
            "steps": [[step.calls, step.before, step.after, step.reason] for step in self.steps],
        }

    def restore(self, kept: Any) -> bool:
        """Take over what :meth:`as_json` has returned; say whether it can be that.

        Nothing is taken over where there is anything else: another number of settings, values of
        other types, or numbers that no calls can add up to.
        """
        try:
            rows = [[*map(float, numbers)] for numbers in kept["arms"]]
            arms = [Arm(*numbers) for numbers in rows]
            steps = [Step(int(c), int(b), int(a), str(why)) for c, b, a, why in kept["steps"]]
            at, calls, credit = int(kept["at"]), int(kept["calls"]), float(kept["credit"])
            level = float(kept["level"])
            unit = kept["unit"]
        except (TypeError, ValueError, KeyError, OverflowError):
            return False
        places = range(len(self.arms))
        if (
            len(arms) != len(self.arms)
            or at not in places
            or not all(step.before in places and step.after in places for step in steps)
            or not all(math.isfinite(value) for row in rows for value in row)
            or not all(0 <= arm.quality <= arm.judged + 1e-3 and arm.billed >= 0 for arm in arms)
            or not -math.inf < credit <= _MOST_CREDIT
            or not 0 <= level < math.inf
            or unit not in (None, "tokens", "nano_usd")
        ):
            return False
        self.arms, self.at, self.calls, self.credit = arms, at, calls, credit
        self.steps, self.unit, self.level = steps[-_STEPS:], unit, level
        return True


def prior_of(owners: Sequence[Sequence[Arm]], default: int) -> list[Arm]:
    """Return what users' calls have shown of each setting, for another user; empty: too little.

    Each counts for 20 calls at most, all together for 60. Of verdicts and of costs the fifth with
    the highest and the fifth with the lowest mean are left out (a trimmed mean: one odd history
    among five moves nothing). Costs count as multiples of those of the user's own setting.
    """
    if len(owners) < _OWNERS:
        return []
    same = [[arm.with_costs_times(1 / _cost_of(arms[default])) for arm in arms] for arms in owners]
    return [_agreed([arms[at] for arms in same]) for at in range(len(same[0]))]


def _cost_of(arm: Arm) -> float:
    """Return the mean cost of a setting, as a multiple of the level; 1 where it is not known."""
    return arm.cost / arm.billed if arm.billed and arm.cost else 1.0


def _agreed(arms: Sequence[Arm]) -> Arm:
    judged = _trimmed([(arm.quality, arm.judged, arm) for arm in arms])
    billed = _trimmed([(arm.cost, arm.billed, arm) for arm in arms])
    return Arm(*judged.values()[:3], *billed.values()[3:6])


def _trimmed(arms: Sequence[tuple[float, float, Arm]]) -> Arm:
    """Add up arms, given with the sum and the count by which they are ordered and weighed."""
    known = sorted((total / count, count, arm) for total, count, arm in arms if count >= 1)
    if len(known) < _OWNERS:
        return Arm()
    odd, added, weight = len(known) // _OWNERS, Arm(), 0.0
    for _, count, arm in known[odd:-odd]:
        added += arm.scaled(min(1.0, _MOST_OF_OWNER / count))
        weight += min(count, _MOST_OF_OWNER)
    return added.scaled(min(1.0, _MOST_PRIOR / weight))
