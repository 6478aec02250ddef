"""What was decided for a request, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.routing.complexity import Complexity
from langchain_tokenopt.routing.estimate import NOTHING_KNOWN, Expected

__all__ = ["Route"]


@dataclass(frozen=True, slots=True)
class Route:
    """Which tier answers a request, and why."""

    tier: str
    """Its name."""
    model: BaseChatModel = field(repr=False)
    complexity: Complexity
    features: Mapping[str, int | bool]
    """What was seen of the request, by name."""
    reasons: tuple[str, ...]
    """In the order in which they counted."""
    max_tokens: int | None = None
    """What the answer may have; ``None``: as much as it needs."""
    candidates: tuple[str, ...] = ()
    """Tiers that have all that the request needs, cheapest first."""
    difficulty: float = 0.0
    """From 0, the easiest, to 1."""
    expected: Mapping[str, Expected] = field(default_factory=dict)
    """By tier, how likely its answer is good, by earlier outcomes, with error bars."""

    @property
    def interval(self) -> tuple[float, float]:
        """Between which bounds the chance of a good answer lies, with 90 %."""
        found = self.expected.get(self.tier, NOTHING_KNOWN)
        return found.low, found.high

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.tier} ({self.complexity.name}): {'; '.join(self.reasons)}"
