"""What was decided for a request, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.routing.complexity import Complexity

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

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.tier} ({self.complexity.name}): {'; '.join(self.reasons)}"
