"""What an account answers a caller: a hold, a denial, and a settlement at the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from langchain_tokenopt.budget.arithmetic import Reason
from langchain_tokenopt.budget.records import AccountKey, BudgetStoreError
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
    accounts: tuple[AccountKey, ...] = ()
    """The accounts that hold it: that of the run, and those around it. They are charged, whatever
    the time is when the call has ended."""


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
    """``"total"``: nothing is left. ``"share"``: what is left is set apart for others, or kept for
    calls that are to come. ``"cap"``: the agent's own limit. ``"money"``: the budget in money.
    ``"unpriced"``: the budget is in money and the call has no known price. ``"stopped"``:
    ``TokenBudget.stop`` was called. ``"store"``: the store cannot be used."""
    budget: str = "default"
    cost_nano_usd: int | None = None
    """What the call would have cost; ``None``: unknown."""
    left_nano_usd: int | None = None
    """What was left in money, where the budget is in money."""
    account: AccountKey | None = None
    """The account that refused: that of the run, or one around it; ``None``: the store did."""
    left_tokens: int = 0
    """What all its agents together had left."""
    limit_nano_usd: int | None = None
    """Its total in money, if it has one."""
    shares_tokens: int = 0
    """Of what is left, what is set apart for other agents."""
    held_tokens: int = 0
    """What is neither spent nor left: calls under way hold it, and free what they do not use."""
    store_error: str = ""
    """What the store said, where it is the reason, and what to do about it."""
    is_passing: bool = True
    """Whether such a store may be back in a moment: it is away, or busy."""

    def __bool__(self) -> Literal[False]:
        return False

    @property
    def resets_at(self) -> datetime | None:
        """When there is a new total; ``None``: never."""
        return None if self.account is None else self.account.resets_at

    def error(self) -> BudgetExceededError | BudgetStoreError:
        """Return it as an exception, for those who would rather raise.

        Example:
            >>> Denial("writer", 110, 100, 100, "total").error().needed_tokens
            110
        """
        if self.reason == "store":
            return BudgetStoreError(f"{self.sentence()} {self._remedy()}".rstrip())
        error = BudgetExceededError(
            account=self.agent,
            needed_tokens=self.needed_tokens,
            left_tokens=self.available_tokens,
            limit_tokens=self.limit_tokens,
            because=f"{self.sentence()} {self._remedy()}",
        )
        error.why = self.sentence()
        return error

    def sentence(self) -> str:
        """Say why, with both numbers; of a total that is renewed also when.

        Example:
            >>> print(Denial("writer", 110, 100, 100, "total", "desk").sentence())
            'writer' needs 110 tokens for this call but the budget 'desk' has 100 of 100 left.
        """
        who, which = repr(self.agent), self.account or f"the budget {self.budget!r}"
        if self.reason == "store":
            said = self.store_error or f"the store of the budget {self.budget!r} cannot be used."
            return f"{said} Until then the budget {self.budget!r} refuses every call."
        if self.reason == "money":
            return (
                f"{who} needs up to {format_usd(self.cost_nano_usd)} for this call but {which} has "
                f"{format_usd(self.left_nano_usd)} of {format_usd(self.limit_nano_usd)} left."
                f"{self._reset()}"
            )
        if self.reason == "unpriced":
            return f"the call of {who} has no known price, and {which} is in US dollars."
        if self.reason == "stopped":
            return (
                f"{which} was stopped: it refuses every call, also this one of {who} for "
                f"{self.needed_tokens:,} tokens, though it has {self.available_tokens:,} left."
            )
        needs = f"{who} needs {self.needed_tokens:,} tokens for this call but"
        if self.reason == "share":
            return (
                f"{needs} may take {self.available_tokens:,} of the {self.left_tokens:,} that "
                f"{which} has left: {self._whose()}."
            )
        if self.reason == "cap":
            return (
                f"{needs} has {self.available_tokens:,} of its cap of {self.limit_tokens:,} left."
            )
        held = f", and {self.held_tokens:,} held by calls under way" if self.held_tokens else ""
        return (
            f"{needs} {which} has {self.available_tokens:,} of {self.limit_tokens:,} left{held}."
            f"{self._reset()}"
        )

    def _whose(self) -> str:
        """Say whose the tokens are that are left, and not for this call."""
        kept = self.left_tokens - self.available_tokens - self.shares_tokens
        parts = [
            f"{self.shares_tokens:,} are shares of other agents" if self.shares_tokens else "",
            f"{kept:,} are kept for calls that are to come" if kept > 0 else "",
        ]
        return ", ".join(part for part in parts if part)

    def _reset(self) -> str:
        """Say when there will be more."""
        if self.account is None or self.resets_at is None:
            return ""
        return f" It resets at {self.resets_at:%Y-%m-%d %H:%M} ({self.account.timezone})."

    def _remedy(self) -> str:
        """Say what can be done about it."""
        if self.reason == "store":
            if not self.is_passing:  # what is wrong has to be mended, and how has been said
                return ""
            return 'To let calls through meanwhile, give on_store_error="open".'
        if self.reason == "money":
            return "Raise total_usd, or ask a cheaper model."
        if self.reason == "unpriced":
            return "Give a rate card that knows the model, or leave total_usd out."
        if self.reason == "stopped":
            return "Begin another run."
        if (
            self.reason == "total"
            and self.available_tokens + self.held_tokens >= self.needed_tokens
        ):
            return "Ask again when these have ended, or raise the total of the plan."
        return "Raise its share or the total of the plan, or shorten the prompt."


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
