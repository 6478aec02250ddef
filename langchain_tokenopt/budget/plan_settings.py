"""What a plan says: who may spend how much of what. Configuration, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from langchain_tokenopt.budget.allocation import (
    AllocationStrategy,
    Claim,
    DemandForecaster,
    Equal,
)
from langchain_tokenopt.budget.auto_strategy import Auto
from langchain_tokenopt.budget.forecast_need import ForecastNeed, History
from langchain_tokenopt.budget.levels import AccountLevel, BudgetLimit, LimitSettings, check_levels
from langchain_tokenopt.budget.performance import Performance
from langchain_tokenopt.budget.records import (
    LEAST_USD,
    MOST_USD,
    NO_TOKEN_LIMIT,
    AccountTotals,
)
from langchain_tokenopt.budget.strategies import STRATEGIES, divide, strategy_for
from langchain_tokenopt.core.argument_checks import did_you_mean
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.core.settings import Settings

__all__ = ["AgentBudget", "AgentValues", "PlanSettings"]


class AgentBudget(Settings):
    """What one agent may spend, and how long it may answer."""

    tokens: NonNegativeInt | None = None
    """Its share, set apart for it until it has finished. It may borrow more from what is nobody's
    share; ``None``: it gets its part of that at each call."""
    words: PositiveInt | None = None
    """Words that it is asked to answer in."""
    floor: NonNegativeInt = 0
    """Tokens that it gets whatever the others do: for agents that must answer."""
    cap: NonNegativeInt | None = None
    """Tokens that it never exceeds, whatever is left."""
    priority: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight under ``strategy="priority"``; also decides who pays debts first: the lowest."""


class AgentValues(TypedDict, total=False):
    """An :class:`AgentBudget` as a dict."""

    tokens: int | None
    words: int | None
    floor: int
    cap: int | None
    priority: float


_UNLIMITED: Final = AgentBudget()
_ANY: Final = AccountTotals(1)


class PlanSettings(LimitSettings):
    """The settings of a ``BudgetPlan``.

    The total is for one run; with ``per`` and ``window`` for whoever shares it, such as
    ``per="user", window="day"`` for what each user may spend in a day. Agents' shares are parts of
    what one run may spend, which is no more than that. A window without ``per`` is for all runs of
    the plan together.
    """

    total_tokens: int = Field(gt=0, le=NO_TOKEN_LIMIT)
    """Tokens, input and output, that may be spent."""
    total_usd: float | None = Field(default=None, ge=LEAST_USD, le=MOST_USD, allow_inf_nan=False)
    """US dollars that may be spent, besides. A call is reserved at the dearest price that can
    apply to it (prompt caches, service tiers, long contexts, thinking) and charged what was billed,
    as its record says. A call without a known price is refused; where only a part of it turns out
    to have none, such as sound, at least what was held for the call is charged."""
    within: tuple[BudgetLimit, ...] = ()
    """Limits around this one, such as an organization's month around a user's day. A call is paid
    from all of them, or it is not sent as it is."""
    name: str = "plan"
    """Name of the budget, in events and in a store."""
    agents: dict[str, AgentBudget] = Field(default_factory=dict)
    """Agents by name. Others get a part of their own of what no share or floor sets apart."""
    strategy: str | AllocationStrategy = "priority"
    """What agents weigh where the need of all that are still to come exceeds what is left beside
    shares and floors: ``"equal"``, ``"priority"``, ``"proportional"`` (to what the run's forecaster
    expects), ``"performance"`` (to what more tokens would add to their quality), ``"forecast"`` (to
    what they have needed in most earlier runs), ``"auto"`` (whichever would have done best in
    those), or an object with a method ``weights``."""
    buffer: NonNegativeInt = 0
    """Tokens that belong to nobody, from which all may borrow."""
    soft_limit: float = Field(default=0.8, gt=0, le=1)
    """Fraction of the total from which on answers are made cheaper rather than refused."""
    on_exceed: Literal["degrade", "raise"] = "degrade"
    """What happens when a call does not fit: a smaller one, or ``BudgetExceededError``."""
    max_input_tokens_per_call: PositiveInt | None = None
    """Most that one call may send."""
    max_output_tokens_per_call: PositiveInt | None = None
    """Most that one call may answer."""
    cancellation_charge: Literal["margin", "reservation"] = "margin"
    """What is charged for a stream that was cut off, by a word limit or its reader: ``"margin"``:
    what arrived and what a provider writes until it notices, 25 % more and at least 64 tokens;
    ``run.report()`` says what more it could have been, had the provider not noticed.
    ``"reservation"``: all that ``max_tokens`` allowed, so that the bill never exceeds the total
    even with providers (or proxies) that write on when nobody listens. With a total as tight as the
    trading desk's that costs 1 to 2 % of it (three seeds), because reservations are small there;
    with an ample one it makes short limits cost several times their words."""
    cheaper_model: str | None = None
    """Name of a model of the same class, asked where the budget runs low: from the soft limit on,
    or where the money does not reach for the caller's own."""
    show_remaining: bool = False
    """Whether the last line of each prompt says how many tokens are left."""

    @model_validator(mode="before")
    @classmethod
    def _windows_are_for_all(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("window", "run") != "run":
            return {"per": "plan", **values}
        return values

    @field_validator("strategy")
    @classmethod
    def _strategy_is_known(cls, strategy: str | AllocationStrategy) -> str | AllocationStrategy:
        if isinstance(strategy, str) and strategy not in STRATEGIES:
            raise ValueError(
                f"no strategy is named {strategy!r}; there are {', '.join(STRATEGIES)}"
            )
        return strategy

    @field_validator("total_tokens", mode="before")
    @classmethod
    def _total_is_positive(cls, total: Any) -> Any:
        if isinstance(total, int) and total <= 0:
            raise ValueError(f"must be above 0, got {total:,}: nothing would refuse every call")
        return total

    @field_validator("agents", mode="after")
    @classmethod
    def _agents_have_names(cls, agents: dict[str, AgentBudget]) -> dict[str, AgentBudget]:
        if not all(name.strip() for name in agents):
            raise ValueError(f"every agent needs a name; got {sorted(agents)}")
        return agents

    if not TYPE_CHECKING:  # which shall see the names

        def __init__(self, **values: Any) -> None:
            super().__init__(**values)
            self._check_shares()
            around = [AccountLevel.of(limit, name=self.name) for limit in self.limits]
            check_levels([AccountLevel(self.name, "run", _ANY, self.window), *around])

    @property
    def limits(self) -> tuple[BudgetLimit, ...]:
        """The limits around each run: those within which it is, and its own if runs share it."""
        if self.per == "run":
            return self.within
        own = BudgetLimit(
            total_tokens=self.total_tokens,
            total_usd=self.total_usd,
            per=self.per,
            window=self.window,
            timezone=self.timezone,
        )
        return (own, *self.within)

    @property
    def in_money(self) -> bool:
        """Whether anything limits money, so that each call needs a price."""
        return self.total_usd is not None or any(limit.total_usd for limit in self.within)

    @property
    def fingerprint(self) -> str:
        """A name for these settings: plans that differ in anything have different ones."""
        # Not pydantic's JSON, which cannot write every name.
        settings = json.dumps(self.model_dump(exclude={"strategy"}), default=str)
        # An object's address would be another in each process.
        strategy = self.strategy if isinstance(self.strategy, str) else type(self.strategy)
        digest = hashlib.blake2b(f"{settings}|{strategy}".encode(), digest_size=8)
        return f"BudgetPlan:{digest.hexdigest()}"

    def claims(self) -> list[Claim]:
        """Return what each agent asks of the account."""
        return [
            Claim(agent, limits.tokens, limits.floor, limits.cap, limits.priority)
            for agent, limits in self.agents.items()
        ]

    def shares(
        self,
        forecaster: DemandForecaster | None = None,
        *,
        history: History = (),
        performance: Performance | None = None,
        user: str | None = None,
    ) -> dict[str, int]:
        """Return the tokens that each agent begins with.

        Args:
            forecaster: Predicts the agents' demand, for ``strategy="proportional"``; the one that
                the run is given.
            history: Of earlier runs, for ``"forecast"`` and ``"auto"``; as the run is given it.
            performance: Knows verdicts, for ``"performance"`` and ``"auto"``.
            user: Whose run it is, for strategies that learn.

        Raises:
            BudgetInfeasibleError: Shares, floors and buffer exceed the total.
        """
        strategy = strategy_for(
            self.strategy,
            forecaster,
            history=history,
            performance=performance,
            user=user,
            total_tokens=self.total_tokens - self.buffer,
        )
        return divide(self.total_tokens - self.buffer, self.claims(), strategy)

    def _check_shares(self) -> None:
        """Divide once: what follows from weights is not known yet where they are learned."""
        promised = {
            agent: limits.floor if limits.tokens is None else limits.tokens
            for agent, limits in self.agents.items()
        }
        needed = self.buffer + sum(promised.values())
        if needed > self.total_tokens:
            listed = ", ".join(
                f"{agent} {tokens:,}" for agent, tokens in promised.items() if tokens
            )
            raise BudgetInfeasibleError(
                required_tokens=needed,
                max_tokens=self.total_tokens,
                remedy=f"These are the shares, or the floors of agents without a share "
                f"({listed or 'none'}), and the buffer ({self.buffer:,}): lower them or raise "
                f"total_tokens.",
            )
        learns = isinstance(self.strategy, str | Performance | ForecastNeed | Auto)
        strategy = Equal() if learns else self.strategy
        divide(self.total_tokens - self.buffer, self.claims(), strategy)

    def limits_of(self, agent: str) -> AgentBudget:
        """Return the limits of *agent*; those of an agent that is not in the plan are blank."""
        return self.agents.get(agent, _UNLIMITED)

    def check_agents(self, present: Iterable[str]) -> None:
        """Compare the plan with the agents that a graph has.

        Raises:
            ValueError: The plan names an agent that the graph does not have.
        """
        names = set(present)
        unknown = sorted(set(self.agents) - names)
        if unknown:
            raise ValueError(
                f"the plan names {', '.join(map(repr, unknown))}, which the graph does not have. "
                f"It has: {', '.join(sorted(names))}.{did_you_mean(unknown[0], names)}"
            )
