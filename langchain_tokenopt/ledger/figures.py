"""What a period is told in, beside sums of calls: savings of stages, runs, budgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from langchain_tokenopt.core.money import usd
from langchain_tokenopt.ledger.schema import SAVING_COUNTS

__all__ = ["BudgetState", "Effect", "PeriodFigures"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one optimizer brought in a period. Nothing here is claimed: all of it was recorded."""

    stage: str
    """Name of the stage, or of the cache that answered."""
    uses: int = 0
    """Calls it acted on."""
    tokens_before: int = 0
    tokens_after: int = 0
    spent_tokens: int = 0
    """What it spent itself, for instance by asking a model."""
    saved_nano_usd: int = 0
    unpriced_uses: int = 0
    """Uses whose saving has no known price: ``saved_nano_usd`` does not contain them."""
    inexact_uses: int = 0
    """Uses whose tokens were estimated."""
    observed: bool = False
    """True when the stage only watched: this would have been saved."""

    @property
    def saved_usd(self) -> Decimal:
        """Money saved, in US dollars."""
        return usd(self.saved_nano_usd)

    @property
    def gross_saved_tokens(self) -> int:
        """Tokens before minus after."""
        return self.tokens_before - self.tokens_after

    @property
    def net_saved_tokens(self) -> int:
        """Tokens before, minus after, minus what it spent itself. Can be negative."""
        return self.gross_saved_tokens - self.spent_tokens

    @classmethod
    def of(cls, stage: str, observed: object, counts: Iterable[int]) -> Effect:
        """Make one of the sums over savings."""
        sums = dict(zip(SAVING_COUNTS, counts, strict=True))
        return cls(
            stage,
            uses=sums["savings"],
            tokens_before=sums["tokens_before"],
            tokens_after=sums["tokens_after"],
            spent_tokens=sums["spent_tokens"],
            saved_nano_usd=sums["saved_nano_usd"],
            unpriced_uses=sums["unpriced"],
            inexact_uses=sums["inexact"],
            observed=bool(observed),
        )


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """What key figures are made of, beside the totals."""

    refused_calls: int
    """Calls that a budget has stopped before they were sent."""
    unpriced_tokens: int
    """Billed tokens of calls without any price."""
    cached_saved_nano_usd: int
    """What the answers of response caches would have cost."""
    unpriced_hits: int
    """Answers of response caches without a price."""
    runs: int
    """Runs that began in the period and whose calls all have a price."""
    runs_nano_usd: int
    """What these cost, also after the period."""
    unpriced_runs: int
    run_p50_nano_usd: int | None
    run_p95_nano_usd: int | None
    measured_calls: int
    """Calls of which is known what they would have taken: cached, or with savings of a stage."""
    measured_tokens: int
    """What these took."""
    avoided_tokens: int
    """What they would have taken more, less what stages spent themselves."""
    shortened: int
    """Prompts that a stage has made shorter, or tried to."""
    tokens_before: int
    """Of these prompts."""
    tokens_after: int
    not_shortened: int
    """Savings of another kind: of answers, or of whole calls."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget, as its last event of the period has seen it."""

    budget: str
    owner: str
    spent_tokens: int
    held_tokens: int
    limit_tokens: int
    alerts: int = 0
    denied: int = 0

    @property
    def used_tokens(self) -> int:
        """Spent and held."""
        return self.spent_tokens + self.held_tokens

    @property
    def used_ratio(self) -> float:
        """Spent and held, of the limit."""
        return self.used_tokens / self.limit_tokens if self.limit_tokens else 0.0
