"""The user's plan: who may spend how much of what, in Python, TOML or JSON.

This module is configuration; what a plan does is in ``planned.py``, at a model in ``stage.py``, and
what it remembers of a run in ``run.py``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
)

from langchain_tokenopt.budget.allocation import (
    STRATEGIES,
    AllocationStrategy,
    Claim,
    DemandForecaster,
    divide,
    strategy_for,
)
from langchain_tokenopt.budget.planned import Planned
from langchain_tokenopt.core.errors import BudgetInfeasibleError

__all__ = ["AgentBudget", "BudgetPlan", "desk_plan"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "trading_desk_plan.toml"
"""The plan of the trading desk, to read and to copy."""


class AgentBudget(BaseModel):
    """What one agent may spend, and how long it may answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: NonNegativeInt | None = None
    """Its share. It may borrow more from what nobody claims; ``None``: the strategy decides."""
    words: PositiveInt | None = None
    """Words that it is asked to answer in."""
    floor: NonNegativeInt = 0
    """Tokens that it gets whatever the others do: for agents that must answer."""
    cap: NonNegativeInt | None = None
    """Tokens that it never exceeds, whatever is left."""
    priority: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight under ``strategy="priority"``; also decides who pays debts first: the lowest."""


class BudgetPlan(Planned, BaseModel):
    """How one run's tokens are divided among agents, and what happens when they run out.

    Raises:
        BudgetInfeasibleError: Shares, floors and buffer exceed the total.
        ValueError: A value makes no sense, or a key is unknown; the message names it.

    Example:
        >>> plan = BudgetPlan(
        ...     total_tokens=10_000,
        ...     agents={"news": {"tokens": 3_000, "words": 250}, "judge": AgentBudget(floor=2_000)},
        ...     buffer=1_000,
        ... )
        >>> plan.shares()
        {'news': 3000, 'judge': 6000}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    total_tokens: PositiveInt
    """Tokens, input and output, that one run may spend."""
    total_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """US dollars that one run may spend, besides."""
    name: str = "plan"
    """Name of the budget, in events and in a store."""
    agents: dict[str, AgentBudget] = Field(default_factory=dict)
    """Agents by name. Others may spend from what nobody claims."""
    strategy: str | AllocationStrategy = "priority"
    """How agents without a share divide what is left, and who inherits from those that finish:
    ``"equal"``, ``"priority"``, ``"proportional"`` (to what the run's forecaster expects), or an
    object with a method ``weights``."""
    buffer: NonNegativeInt = 0
    """Tokens that belong to nobody, from which all may borrow."""
    soft: float = Field(default=0.8, gt=0, le=1)
    """Part of the total from which on answers are made cheaper rather than refused."""
    on_exceed: Literal["degrade", "raise"] = "degrade"
    """What happens when a call does not fit: a smaller one, or ``BudgetExceededError``."""
    max_input_tokens_per_call: PositiveInt | None = None
    """Most that one call may send."""
    max_output_tokens_per_call: PositiveInt | None = None
    """Most that one call may answer."""
    cancelled: Literal["margin", "reservation"] = "margin"
    """What is charged for a stream that was cut off, by a word limit or its reader: ``"margin"``:
    what arrived and what a provider writes until it notices, 25 % more and at least 64 tokens;
    ``run.report()`` says what more it could have been, had the provider not noticed.
    ``"reservation"``: all that ``max_tokens`` allowed, so that the bill never exceeds the total
    even with providers (or proxies) that write on when nobody listens. With a total as tight as the
    desk's that costs 1 to 2 % of it (three seeds), because reservations are small there; with an
    ample one it makes short limits cost several times their words."""
    cheaper_model: str | None = None
    """Name of a model of the same class, asked where the budget runs low: from the soft limit on,
    or where the money does not reach for the caller's own."""
    tell: bool = False
    """Tell the agent, in the last line of its prompt, how many tokens are left."""

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
    def _total_is_something(cls, total: Any) -> Any:
        if isinstance(total, int) and total <= 0:
            raise ValueError(f"must be above 0, got {total:,}: nothing would refuse every call")
        return total

    @field_validator("agents", mode="after")
    @classmethod
    def _agents_have_names(cls, agents: dict[str, AgentBudget]) -> dict[str, AgentBudget]:
        if not all(name.strip() for name in agents):
            raise ValueError(f"every agent needs a name; got {sorted(agents)}")
        return agents

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.shares()

    def claims(self) -> list[Claim]:
        """Return what each agent asks of the account."""
        return [
            Claim(agent, limits.tokens, limits.floor, limits.cap, limits.priority)
            for agent, limits in self.agents.items()
        ]

    def shares(self, forecaster: DemandForecaster | None = None) -> dict[str, int]:
        """Return the tokens that each agent begins with.

        Args:
            forecaster: Foretells the agents' demand, for ``strategy="proportional"``; the one that
                :meth:`run` is given.

        Raises:
            BudgetInfeasibleError: Shares, floors and buffer exceed the total.
        """
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
        strategy = strategy_for(self.strategy, forecaster)
        return divide(self.total_tokens - self.buffer, self.claims(), strategy)

    def limits_of(self, agent: str) -> AgentBudget:
        """Return the limits of *agent*; those of an agent that is not in the plan are blank."""
        return self.agents.get(agent, _BLANK)

    def check_agents(self, present: Iterable[str]) -> None:
        """Compare the plan with the agents that a graph has.

        Raises:
            ValueError: The plan names an agent that the graph does not have.
        """
        names = set(present)
        unknown = sorted(set(self.agents) - names)
        if unknown:
            raise ValueError(
                f"the plan has {len(self.agents)} agents, and {len(unknown)} of them are not among "
                f"the graph's {len(names)}: {', '.join(unknown)}. The graph has: "
                f"{', '.join(sorted(names))}."
            )

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a plan from a ``.toml`` or ``.json`` file.

        Raises:
            ValueError: The file is neither, or says what a plan cannot say; the message names the
                file, the key and the value.
            OSError: The file cannot be read.

        Example:
            >>> BudgetPlan.from_file(EXAMPLE).total_tokens
            40000
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a text in UTF-8: {error}.") from error
        if path.suffix == ".toml":
            return cls.from_toml(text, where=str(path))
        if path.suffix == ".json":
            return cls.from_json(text, where=str(path))
        raise ValueError(f"{path}: a plan is a .toml or a .json file, not {path.suffix!r}.")

    @classmethod
    def from_toml(cls, text: str, *, where: str = "plan") -> Self:
        r"""Read a plan from TOML.

        Example:
            >>> BudgetPlan.from_toml('total_tokens = 500\nagents.judge.floor = 100').shares()
            {'judge': 500}
        """
        try:
            return cls._read(tomllib.loads(text), where)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{where}: not valid TOML: {error}.") from error

    @classmethod
    def from_json(cls, text: str, *, where: str = "plan") -> Self:
        """Read a plan from JSON; a key that stands twice is refused."""
        try:
            return cls._read(json.loads(text, object_pairs_hook=_each_once), where)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not valid JSON: {error}.") from error
        except _TwiceError as error:
            raise ValueError(f"{where}: {error}") from error

    @classmethod
    def _read(cls, values: Any, where: str) -> Self:
        if not isinstance(values, Mapping):
            raise ValueError(f"{where}: a plan is a table of keys, not {type(values).__name__}.")
        _refuse_unknown(values, set(cls.model_fields), where)
        agents = values.get("agents") or {}
        if not isinstance(agents, Mapping):
            raise ValueError(f"{where}: agents is a table of names, not {agents!r}.")
        for agent, limits in agents.items():
            if isinstance(limits, Mapping):
                _refuse_unknown(limits, set(AgentBudget.model_fields), f"{where}, agents.{agent}")
        try:
            return cls(**values)
        except ValidationError as error:
            raise ValueError(f"{where}: {_listed(error)}.") from error
        except BudgetInfeasibleError as error:
            error.args = (f"{where}: {error}",)
            raise


_BLANK = AgentBudget()


def desk_plan() -> BudgetPlan:
    """Return the plan of the trading desk, from the file that is shipped to be copied.

    Example:
        >>> sum(desk_plan().shares().values()), desk_plan().buffer
        (30000, 10000)
    """
    return BudgetPlan.from_file(EXAMPLE)


class _TwiceError(ValueError):
    """A JSON object that names a key more than once."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _TwiceError(f"named more than once: {', '.join(twice)}.")
    return dict(pairs)


def _listed(error: ValidationError) -> str:
    """Say what is wrong with which key, and what it was."""
    told = []
    for wrong in error.errors():
        key, what = ".".join(map(str, wrong["loc"])), wrong["msg"].removeprefix("Value error, ")
        says_what = wrong["type"] in ("missing", "value_error")
        told.append(f"{key}: {what}" if says_what else f"{key}: {what}, got {wrong['input']!r}")
    return "; ".join(told)


def _refuse_unknown(values: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{where}: unknown {'key' if len(unknown) == 1 else 'keys'} {', '.join(unknown)}; "
            f"known are {', '.join(sorted(known))}."
        )
