"""Which tier a request of some difficulty is for, before anything is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from langchain_tokenopt.core.argument_checks import is_finite, shown
from langchain_tokenopt.routing.complexity import Complexity, Features
from langchain_tokenopt.routing.tiers import Tier

__all__ = ["POLICIES", "Policy", "checked_policy", "name_of", "place_for", "place_of", "tier_at"]

Policy = Literal["cheap", "balanced", "strong"] | float | Callable[..., Any]

POLICIES: Final = {
    "cheap": (0.0, 0.0, 0.4, 1.0),
    "balanced": (0.0, 0.34, 0.67, 1.0),
    "strong": (0.0, 0.67, 1.0, 1.0),
}
"""By complexity, how far up the tiers a request goes: 0 the cheapest, 1 the strongest."""


def checked_policy(policy: Any) -> Policy:
    """Return *policy*.

    Raises:
        ValueError: It is none.
    """
    if callable(policy) and not isinstance(policy, type):
        return policy  # type: ignore[no-any-return]
    if isinstance(policy, str) and policy in POLICIES:
        return policy  # type: ignore[return-value]
    if is_finite(policy) and 0 <= policy <= 1:
        return float(policy)
    raise ValueError(
        f"policy must be 'cheap', 'balanced', 'strong', a number from 0 (always the cheapest) to 1 "
        f"(always the strongest), or a function of the route; got {shown(policy)}."
    )


def name_of(policy: Policy) -> str:
    """Return what a policy is called in reasons and warnings.

    Example:
        >>> name_of("cheap"), name_of(max), name_of(lambda route: None)
        ("the policy 'cheap'", 'the policy max', "the policy's function")
    """
    if not callable(policy):
        return f"the policy {policy!r}"
    name = getattr(policy, "__name__", "<")
    return "the policy's function" if name.startswith("<") else f"the policy {name}"


def place_of(policy: Policy, features: Features) -> float:
    """Return how far up a request goes, from 0, the cheapest, to 1, the strongest.

    A number is the part of the way that requests go on average, where their difficulties are spread
    evenly.
    """
    if isinstance(policy, float):
        return place_for(policy, features.difficulty)
    shares = POLICIES[policy if isinstance(policy, str) else "balanced"]
    return shares[features.complexity - Complexity.SIMPLE]


def place_for(share: float, rank: float) -> float:
    """Return how far up the request of a rank goes where all go up by *share* on average.

    Example:
        >>> [round(place_for(0.5, rank), 2) for rank in (0.0, 0.4, 1.0)]
        [0.0, 0.4, 1.0]
        >>> place_for(0.0, 1.0), place_for(1.0, 0.0)
        (0.0, 1.0)
    """
    if share in (0.0, 1.0):
        return share
    return float(rank ** ((1 - share) / share))


def tier_at(place: float, tiers: Sequence[Tier]) -> Tier:
    """Return the tier at a place among *tiers*, by their number; halves go up."""
    return tiers[min(len(tiers) - 1, int(place * (len(tiers) - 1) + 0.5))]
