"""What an account answers a caller: a hold, a denial, and a settlement at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from langchain_tokenopt.budget.arithmetic import Reason
from langchain_tokenopt.budget.records import BudgetStoreError
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.pricing.money import format_usd

__all__ = ["Denial", "Hold", "Settlement"]


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation that was granted. Settle it or release it."""

    id: str
    agent: str
    tokens: int
    """What is held: input and output."""
    input_tokens: int
    max_output_tokens: int
    """What the answer may have: less than was asked for, where that was all there is."""
    used_ratio: float
    """Spent and held tokens of the total, this reservation included."""
    run_id: str | None = None
    cost_nano_usd: int | None = None
    """The money that is held."""
    recorded: bool = True
    """False when the store could not be reached and the budget is one that fails open."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A reservation that was refused. It is false, a :class:`Hold` is true."""

    agent: str
    needed_tokens: int
    """The least that would have done."""
    available_tokens: int
    """What the agent could have had."""
    limit_tokens: int
    """Its cap or its share, or the total."""
    reason: Reason
    """``"total"``: nothing is left. ``"share"``: what is left belongs to others. ``"cap"``: the
    agent's own limit. ``"money"``: the budget in money. ``"unpriced"``: the budget is in money and
    the call has no known price. ``"stopped"``: ``TokenBudget.stop`` was called. ``"store"``: the
    store cannot be reached."""
    budget: str = "default"
    cost_nano_usd: int | None = None
    """What the call would have cost; ``None``: unknown."""
    left_nano_usd: int | None = None
    """What was left in money, where the budget is in money."""

    def __bool__(self) -> Literal[False]:
        return False

    def error(self) -> BudgetExceededError | BudgetStoreError:
        """Return it as an exception, for those who would rather raise.

        Example:
            >>> Denial("writer", 110, 100, 100, "total").error().needed_tokens
            110
        """
        if self.reason == "store":
            return BudgetStoreError(
                f"the store of the budget {self.budget!r} cannot be reached, and the budget "
                f"refuses every call until it can. To let calls through meanwhile, give "
                f'on_store_error="open".'
            )
        return BudgetExceededError(
            account=self.agent,
            needed_tokens=self.needed_tokens,
            left_tokens=self.available_tokens,
            limit_tokens=self.limit_tokens,
            because=self._because(),
        )

    def _because(self) -> str | None:
        """Say what the refusal is about, where it is not about tokens."""
        if self.reason == "money":
            return (
                f"{self.agent!r} needs up to {format_usd(self.cost_nano_usd)} for this call but "
                f"the budget {self.budget!r} has {format_usd(self.left_nano_usd)} left. Raise "
                f"total_usd, or ask a cheaper model."
            )
        if self.reason == "unpriced":
            return (
                f"the call of {self.agent!r} has no known price, and the budget {self.budget!r} is "
                f"in US dollars. Give a rate card that knows the model, or leave total_usd out."
            )
        if self.reason == "stopped":
            return (
                f"the budget {self.budget!r} was stopped: it refuses every call, also this one of "
                f"{self.agent!r} for {self.needed_tokens:,} tokens, though it has "
                f"{self.available_tokens:,} left."
            )
        return None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling a reservation did."""

    charged_tokens: int
    surplus_tokens: int = 0
    """Part of the charge that no reservation covered."""
    freed_tokens: int = 0
    """What was held and not used."""
    possible_surplus_tokens: int = 0
    """What a call that was cut off may have been billed beyond its charge."""
    estimated: bool = False
    """True when the provider did not say what the call used."""
    repeated: bool = False
    """True when this had been settled before: nothing was charged."""
