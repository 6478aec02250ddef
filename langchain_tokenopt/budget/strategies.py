"""Strategies by name, and how a budget is divided by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.budget.allocation import (
    AllocationStrategy,
    Claim,
    DemandForecaster,
    Equal,
    Priority,
    Proportional,
    allocate,
)
from langchain_tokenopt.budget.auto_strategy import Auto
from langchain_tokenopt.budget.forecast_need import ForecastNeed, History
from langchain_tokenopt.budget.performance import Performance
from langchain_tokenopt.core.errors import BudgetInfeasibleError

__all__ = ["STRATEGIES", "divide", "in_words", "strategy_for"]

STRATEGIES: Final = ("equal", "priority", "proportional", "performance", "forecast", "auto")
"""As a plan file names them."""


def strategy_for(
    strategy: str | AllocationStrategy,
    forecaster: DemandForecaster | None = None,
    *,
    history: History = (),
    performance: Performance | None = None,
    user: str | None = None,
    total_tokens: int | None = None,
    flows_on: bool = False,
) -> AllocationStrategy:
    """Return the strategy of this name, or the object; one that learns, as it is for *user*.

    Args:
        strategy: Its name, or itself.
        forecaster: Predicts demand, for ``"proportional"``.
        history: Of earlier runs, for ``"forecast"`` and ``"auto"``.
        performance: Knows verdicts, for ``"performance"`` and ``"auto"``.
        user: Whose run it is.
        total_tokens: What a run may spend, for ``"auto"``.
        flows_on: Whether what an agent does not need is given to others, for ``"auto"``.

    Raises:
        ValueError: There is no strategy of this name.
        TypeError: *history* is none.

    Example:
        >>> strategy_for("fair")
        Traceback (most recent call last):
        ...
        ValueError: no strategy is named 'fair'; there are: equal, priority, proportional, \
performance, forecast, auto. An object with a method weights(claims) will do as well.
    """
    match strategy:
        case "equal":
            return Equal()
        case "priority":
            return Priority()
        case "proportional":
            return Proportional(forecaster)
        case "performance":
            return (performance or Performance()).for_user(user)
        case "forecast":
            return ForecastNeed(history, user=user)
        case "auto":
            auto = Auto(history, performance=performance)
            return auto.for_user(user, total_tokens=total_tokens, flows_on=flows_on)
        case str():
            raise ValueError(
                f"no strategy is named {strategy!r}; there are: {', '.join(STRATEGIES)}. "
                f"An object with a method weights(claims) will do as well."
            )
        case Auto():
            return strategy.for_user(user, total_tokens=total_tokens, flows_on=flows_on)
        case Performance() | ForecastNeed():
            return strategy.for_user(user)
    return strategy


def in_words(
    strategy: str | AllocationStrategy,
    claims: Sequence[Claim],
    history: History,
    total_tokens: int,
) -> str:
    """Say what a strategy that learns follows from *history*; empty for others."""
    found = strategy_for(strategy, history=history, total_tokens=total_tokens, flows_on=True)
    if isinstance(found, Auto):
        return f"Strategy {found.explain(claims)}"
    return found.explain() if isinstance(found, ForecastNeed) else ""


def divide(
    total_tokens: int,
    claims: Sequence[Claim],
    strategy: str | AllocationStrategy = "priority",
) -> dict[str, int]:
    """Divide a budget among *claims*: promised shares first, the rest by *strategy*.

    When every agent was promised a share, what is left belongs to nobody: it is the pool from which
    all may borrow.

    Raises:
        BudgetInfeasibleError: Promised shares and floors exceed the total.
        ValueError: An agent claims twice.

    Example:
        >>> divide(1_000, [Claim("judge", tokens=400), Claim("news"), Claim("market", priority=2)])
        {'judge': 400, 'news': 200, 'market': 400}
    """
    names = [claim.agent for claim in claims]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"agents must be named once, named more often: {', '.join(twice)}.")
    promised = {claim.agent: claim.tokens for claim in claims if claim.tokens is not None}
    open_claims = [claim for claim in claims if claim.tokens is None]
    needed = sum(promised.values()) + sum(claim.floor for claim in open_claims)
    if needed > total_tokens:
        raise BudgetInfeasibleError(
            required_tokens=needed,
            max_tokens=total_tokens,
            remedy=(
                f"These are the shares ({sum(promised.values()):,}) and the floors of agents "
                f"without a share ({needed - sum(promised.values()):,}): lower them or raise "
                f"total_tokens."
            ),
        )
    weights = strategy_for(strategy).weights(claims)
    rest = allocate(
        total_tokens - sum(promised.values()),
        {claim.agent: weights[claim.agent] for claim in open_claims},
        floors={claim.agent: claim.floor for claim in open_claims},
        caps={claim.agent: claim.cap for claim in open_claims},
    )
    return {name: promised[name] if name in promised else rest[name] for name in names}
