"""Who gets how much: one exact allocator, and strategies that only give weights.

The allocator is water-filling: every agent gets its weight times one common level, but never less
than its floor and never more than its cap; the level is the one at which the total is used up. It
is an exact fraction, and what is left after rounding down goes, one token each, to those who lost
most by it (largest remainder, Hamilton's method), ties by name. So shares are integers, sum to the
total, do not depend on any order, and rise with the weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from typing import Protocol, runtime_checkable

from langchain_tokenopt.core.errors import BudgetInfeasibleError

__all__ = [
    "AllocationStrategy",
    "Claim",
    "DemandForecaster",
    "Equal",
    "Priority",
    "Proportional",
    "allocate",
    "water_level",
]


@dataclass(frozen=True, slots=True)
class Claim:
    """What one agent asks of a budget."""

    agent: str
    tokens: int | None = None
    """The share it is promised; ``None``: the strategy decides."""
    floor: int = 0
    """It gets at least this, whatever the others take."""
    cap: int | None = None
    """It never spends more than this, even when the others leave something."""
    priority: float = 1.0
    """Weight under the strategy ``"priority"``; twice as high is twice the share."""

    def __post_init__(self) -> None:
        for name, value in (("tokens", self.tokens), ("floor", self.floor), ("cap", self.cap)):
            if value is not None and value < 0:
                raise ValueError(f"{self.agent!r}: {name} must be at least 0, got {value:,}.")
        if not (math.isfinite(self.priority) and self.priority > 0):
            raise ValueError(
                f"{self.agent!r}: priority must be a number above 0, got {self.priority}. "
                f"Leave an agent out of the plan if it should get no share."
            )
        if self.cap is not None and self.cap < self.floor:
            raise ValueError(
                f"{self.agent!r}: its floor of {self.floor:,} tokens exceeds its cap of "
                f"{self.cap:,}. Raise the cap or lower the floor."
            )
        if self.tokens is not None and self.tokens < self.floor:
            raise ValueError(
                f"{self.agent!r}: its floor of {self.floor:,} tokens exceeds its share of "
                f"{self.tokens:,}. Raise tokens or lower the floor."
            )
        if self.tokens is not None and self.cap is not None and self.tokens > self.cap:
            raise ValueError(
                f"{self.agent!r}: its share of {self.tokens:,} tokens exceeds its cap of "
                f"{self.cap:,}. Raise the cap or lower tokens."
            )


# The allocator


def allocate(
    total_tokens: int,
    weights: Mapping[str, float],
    *,
    floors: Mapping[str, int] | None = None,
    caps: Mapping[str, int | None] | None = None,
) -> dict[str, int]:
    """Divide *total_tokens* among the agents of *weights*.

    Args:
        total_tokens: What there is.
        weights: Above 0; only their ratios matter.
        floors: Least shares; absent agents have none.
        caps: Greatest shares; absent agents, and ``None``, have none.

    Returns:
        A share per agent, in the order of *weights*. They sum to *total_tokens*, or to all caps
        where those are less.

    Raises:
        BudgetInfeasibleError: The floors need more than there is.
        ValueError: A weight is not above 0, or a floor exceeds its cap.

    Example:
        >>> allocate(100, {"news": 1, "market": 1, "judge": 2}, floors={"news": 40})
        {'news': 40, 'market': 20, 'judge': 40}
    """
    if total_tokens < 0:
        raise ValueError(f"total_tokens must be at least 0, got {total_tokens:,}.")
    bounds = {name: _bounds(name, total_tokens, floors, caps) for name in weights}
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"{name!r}: a weight must be a number above 0, got {weight}.")
    least = sum(low for low, _ in bounds.values())
    if least > total_tokens:
        raise BudgetInfeasibleError(
            required_tokens=least,
            max_tokens=total_tokens,
            remedy="Lower the floors or raise the total.",
        )
    if sum(high for _, high in bounds.values()) <= total_tokens:
        return {name: high for name, (_, high) in bounds.items()}
    exact = water_level(total_tokens, weights, bounds)
    shares = {name: math.floor(quota) for name, quota in exact.items()}
    spare = total_tokens - sum(shares.values())
    for name in sorted(exact, key=lambda name: (shares[name] - exact[name], name))[:spare]:
        shares[name] += 1
    return shares


def _bounds(
    name: str,
    total_tokens: int,
    floors: Mapping[str, int] | None,
    caps: Mapping[str, int | None] | None,
) -> tuple[int, int]:
    low = (floors or {}).get(name, 0)
    cap = (caps or {}).get(name)
    if low < 0 or (cap is not None and cap < low):
        raise ValueError(
            f"{name!r}: its floor of {low:,} tokens must be at least 0 and not exceed its cap of "
            f"{low if cap is None else cap:,}."
        )
    return low, max(low, total_tokens if cap is None else min(cap, total_tokens))


def water_level(
    total: int, weights: Mapping[str, float], bounds: Mapping[str, tuple[int, int]]
) -> dict[str, Fraction]:
    """Return the exact share of each agent at the one level that uses up *total*.

    The sum of shares grows with the level, and is straight between the levels at which somebody
    leaves the floor or reaches the cap: go from one of those to the next until it is enough. All of
    it in whole numbers, which is exact, and ten times as fast as fractions. Caps must sum to more
    than *total*, floors to no more.
    """
    exact = _whole(weights)
    whole = sum(exact.values())
    if all(low * whole <= total * exact[n] <= high * whole for n, (low, high) in bounds.items()):
        return {name: Fraction(total * weight, whole) for name, weight in exact.items()}
    turns = [
        (bound, exact[name], name, is_cap)
        for name, pair in bounds.items()
        for is_cap, bound in enumerate(pair)
    ]
    turns.sort(key=_by_level)
    fixed, rising = sum(low for low, _ in bounds.values()), 0
    for bound, weight, name, is_cap in turns:  # the level is bound / weight
        if fixed * weight + rising * bound >= total * weight:
            break
        fixed += bound if is_cap else -bound
        rising += -exact[name] if is_cap else exact[name]
    level = Fraction(total - fixed, rising) if rising else Fraction(bound, weight)
    return {
        name: min(max(weight * level, Fraction(bounds[name][0])), Fraction(bounds[name][1]))
        for name, weight in exact.items()
    }


@cmp_to_key
def _by_level(one: tuple[int, int, str, int], other: tuple[int, int, str, int]) -> int:
    """Compare two bounds by the levels at which they are met, bound / weight each."""
    return one[0] * other[1] - other[0] * one[1]


def _whole(weights: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers in the same ratios: every float is a fraction."""
    ratios = {name: weight.as_integer_ratio() for name, weight in weights.items()}
    common = math.lcm(*(denominator for _, denominator in ratios.values()))
    return {name: above * (common // below) for name, (above, below) in ratios.items()}


# Strategies


class DemandForecast(Protocol):
    """The part of a forecast that :class:`Proportional` reads."""

    @property
    def expected_tokens(self) -> int:
        """Tokens that the agent is expected to use."""
        ...


class DemandForecaster(Protocol):
    """Forecasts an agent's demand, as ``UsageForecaster`` does."""

    def forecast(self, agent: str) -> DemandForecast | None:
        """Return what to expect of *agent*; ``None`` when too little is known."""
        ...


@runtime_checkable
class AllocationStrategy(Protocol):
    """Gives every agent a weight; the allocator does the rest.

    A strategy that learns, from results or from forecasts, is an object that keeps what it has
    learned and answers this one question from it.
    """

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        """Return a weight above 0 for the agent of every claim."""
        ...


class Equal:
    """The same for everybody.

    Example:
        >>> Equal().weights([Claim("news"), Claim("judge", priority=3)])
        {'news': 1.0, 'judge': 1.0}
    """

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        """Return 1 for each."""
        return {claim.agent: 1.0 for claim in claims}


class Priority:
    """By the priority that the plan gives.

    Example:
        >>> Priority().weights([Claim("news"), Claim("judge", priority=3)])
        {'news': 1.0, 'judge': 3}
    """

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        """Return each claim's priority."""
        return {claim.agent: claim.priority for claim in claims}


class Proportional:
    """By estimated demand.

    The demand is what *forecaster* expects; while it knows of nobody, the promised share. An agent
    of which nothing is known counts as the mean of the others.

    Args:
        forecaster: Forecasts an agent's demand; without one, promised shares count.

    Example:
        >>> strategy = Proportional()
        >>> strategy.weights([Claim("a", tokens=300), Claim("b", tokens=100), Claim("c")])
        {'a': 300.0, 'b': 100.0, 'c': 200.0}
    """

    def __init__(self, forecaster: DemandForecaster | None = None) -> None:
        self.forecaster = forecaster

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        """Return the estimated demand of each, at least 1."""
        known = {claim.agent: self._expected_tokens(claim.agent) for claim in claims}
        if not any(known.values()):
            known = {claim.agent: claim.tokens for claim in claims}
        sure = [demand for demand in known.values() if demand]
        mean = sum(sure) / len(sure) if sure else 1.0
        return {agent: float(demand or mean) for agent, demand in known.items()}

    def _expected_tokens(self, agent: str) -> int | None:
        forecast = self.forecaster.forecast(agent) if self.forecaster else None
        return None if forecast is None else forecast.expected_tokens
