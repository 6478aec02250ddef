"""What a prefetcher has done, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["PrefetchStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchStats:
    """What a prefetcher has done; ``started == used + wasted + outstanding``."""

    calls: int
    """Calls that were seen."""
    guesses: int
    """Calls before which one was thought the most probable, whether or not it was acted upon."""
    right_guesses: int
    """Of these, how often it was the one."""
    started: int
    """Loads begun ahead, without those that were given up before they began."""
    used: int
    """Loads whose result a call was given."""
    wasted: int
    """Loads whose result nobody was given: not needed, failed, too slow, or out of date."""
    failed: int
    """Of these, loads that raised, returned garbage or took too long."""
    outstanding: int
    """Loads under way, or held for a call that may come."""
    refused: int
    """Predictions not acted upon because too much was under way."""
    right_in_shadow: int
    """Predictions that were right while nothing was loaded ahead."""
    wrong_in_shadow: int
    seconds_saved: float
    """How long the loads took whose results were used, less what calls waited for them."""
    spent_usd: Decimal
    """Spent on models called ahead."""

    @property
    def hit_ratio(self) -> float | None:
        """The share of guesses that were right; ``None`` without any."""
        return self.right_guesses / self.guesses if self.guesses else None

    @property
    def waste_ratio(self) -> float | None:
        """The share of loads that were wasted, among those that have ended; ``None``: none has."""
        ended = self.used + self.wasted
        return self.wasted / ended if ended else None
