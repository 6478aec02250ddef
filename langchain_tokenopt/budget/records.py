"""What an account consists of, and what a store must do to keep it.

An account has totals, an agent account for everybody who spends from it, and a lease for every
reservation whose end is not known yet. A store hands them out in transactions: who is in one is
alone with the account, and what it changes is kept whole or not at all.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple, Protocol, Self
from zoneinfo import ZoneInfo

from langchain_tokenopt.budget.windows import Window
from langchain_tokenopt.core.argument_checks import check_whole, shown
from langchain_tokenopt.core.dimensions import Per
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.storage.errors import PostgresError

__all__ = [
    "LEASE_SECONDS",
    "LEAST_USD",
    "MOST_USD",
    "NO_TOKEN_LIMIT",
    "AccountKey",
    "AccountTotals",
    "AccountTransaction",
    "AgentAccount",
    "BudgetStoreError",
    "Lease",
]


_NANO: Final = 1_000_000_000
LEASE_SECONDS: Final = 900.0
"""A call that has not been settled after a quarter of an hour counts as lost."""
NO_TOKEN_LIMIT: Final = 2**62
"""The total of an account that is limited in money only."""
LEAST_USD: Final = 1e-9
"""A nano-dollar: money is counted in whole ones."""
MOST_USD: Final = 1e9
"""Nano-dollars of more do not fit into the integers of a store, and are nobody's budget."""


class BudgetStoreError(TokenOptError):
    """The store of a budget cannot be read or written; the message says what to do."""

    @property
    def is_passing(self) -> bool:
        """Whether it may be over in a moment: the store is away or busy, and refuses nothing."""
        cause = self.__cause__
        if isinstance(cause, PostgresError):
            return cause.is_passing
        return isinstance(cause, sqlite3.OperationalError) and "readonly" not in str(cause)


class AccountKey(NamedTuple):
    """Which account it is."""

    budget: str
    """Name of the budget, or of the limit."""
    per: Per = "run"
    owner: str = ""
    """Which run, thread, user or organization; empty for all, and for those that nobody named."""
    part: str = ""
    """Whose part of a run it is, where each user has the run's total for itself."""
    window: Window = "run"
    starts: int = 0
    """When its window starts, in seconds since 1970 (UTC)."""
    ends: int | None = None
    """When its window ends; ``None``: never."""
    timezone: str = "UTC"
    scope: str = ""
    """In memory: which plan it belongs to; empty where any of that name will do."""

    @property
    def starts_at(self) -> datetime | None:
        """When the window starts, in its time zone."""
        return None if self.ends is None else _moment(self.starts, self.timezone)

    @property
    def resets_at(self) -> datetime | None:
        """When the next window starts, in its time zone; ``None``: never."""
        return None if self.ends is None else _moment(self.ends, self.timezone)

    def __str__(self) -> str:
        """Say whose it is.

        Example:
            >>> str(AccountKey("plan", "user", "ann", window="day"))
            "the budget 'plan' of the user 'ann' for the day"
        """
        whose = ""
        if self.per == "plan":
            whose = " of all runs"
        elif self.per != "run":
            whose = f" of the {self.per} {self.owner!r}" if self.owner else f" of no {self.per}"
        until = "" if self.window == "run" else f" for the {self.window}"
        return f"the budget {self.budget!r}{whose}{until}"


def _moment(seconds: int, timezone: str) -> datetime:
    return datetime.fromtimestamp(seconds, ZoneInfo(timezone))


@dataclass(slots=True)
class AccountTotals:
    """The sums of an account. Tokens, unless the name says otherwise."""

    total_tokens: int
    total_nano_usd: int | None = None
    spent: int = 0
    held: int = 0
    claimed: int = 0
    """Sum of the claims of all agents."""
    surplus: int = 0
    """Part of ``spent`` that no reservation covered."""
    possible: int = 0
    """What calls that were cut off may have been billed beyond their charge."""
    saved: int = 0
    """What cached answers would have used."""
    spent_nano: int = 0
    held_nano: int = 0
    unpriced: int = 0
    """Calls without a known price."""
    alerted: float = 0.0
    """Highest threshold that was crossed, as a fraction of the total."""
    stopped: bool = False
    """Whether every further reservation is refused."""
    ticks: float = 0.0
    """Seconds that have passed, as the account counts them."""
    clock_at: float | None = None
    """What the clock said when it was last asked."""
    earliest: float | None = None
    """When, in ticks, the first lease ends."""

    @classmethod
    def of(cls, total_tokens: int | None, total_usd: Decimal | float | str | None) -> Self:
        """Return the totals of a new account.

        Raises:
            ValueError: A total is not above 0, or more than a store holds.

        Example:
            >>> AccountTotals.of(1_000, "0.5").described()
            '1,000 tokens and 0.5 USD'
        """
        if total_tokens is None:
            total_tokens = NO_TOKEN_LIMIT
        if check_whole("total_tokens", total_tokens) > NO_TOKEN_LIMIT:
            raise ValueError(
                f"total_tokens must be at most {NO_TOKEN_LIMIT:,}, which is what a store holds; "
                f"got {shown(total_tokens)}."
            )
        if total_usd is None:
            return cls(total_tokens)
        try:
            nano = int(Decimal(str(total_usd)) * _NANO)
        except (ArithmeticError, ValueError):  # no number, not a number, infinite
            nano = 0
        if nano <= 0:
            raise ValueError(
                f"total_usd must be a number above 0; got {total_usd}. Leave it out for no limit."
            )
        return cls(total_tokens, nano)

    def described(self) -> str:
        """Say what may be spent."""
        limits = []
        if self.total_tokens < NO_TOKEN_LIMIT:
            limits.append(f"{self.total_tokens:,} tokens")
        if self.total_nano_usd is not None:
            limits.append(f"{Decimal(self.total_nano_usd) / _NANO} USD")
        return " and ".join(limits)

    @property
    def left(self) -> int:
        """Tokens neither spent nor held."""
        return self.total_tokens - self.spent - self.held

    @property
    def left_nano(self) -> int | None:
        """Money neither spent nor held; ``None`` when the budget is not in money."""
        if self.total_nano_usd is None:
            return None
        return self.total_nano_usd - self.spent_nano - self.held_nano

    @property
    def used_ratio(self) -> float:
        """Spent and held of the total, in tokens or in money, whichever is more."""
        ratio = (self.spent + self.held) / self.total_tokens
        if self.total_nano_usd is None:
            return ratio
        return max(ratio, (self.spent_nano + self.held_nano) / self.total_nano_usd)


@dataclass(slots=True)
class AgentAccount:
    """One agent's part of an account. Tokens, unless the name says otherwise."""

    agent: str
    weight: float | None = None
    """What it weighs when shares are divided anew; ``None``: it is not in the plan."""
    floor: int = 0
    cap: int | None = None
    allocated: int = 0
    """Everything it was ever given as its share."""
    returned: int = 0
    """What it gave back when it had finished."""
    finished: bool = False
    spent: int = 0
    held: int = 0
    surplus: int = 0
    possible: int = 0
    saved: int = 0
    spent_nano: int = 0
    held_nano: int = 0
    calls: int = 0
    """Calls that were charged."""
    denied: int = 0
    """Reservations that were refused."""
    estimated: int = 0
    """Charged calls of which the provider did not say what they used."""

    @property
    def used(self) -> int:
        """Spent and held."""
        return self.spent + self.held

    @property
    def claim(self) -> int:
        """What nobody else may take."""
        used = self.spent + self.held
        return used if self.finished or used > self.allocated else self.allocated


@dataclass(slots=True)
class Lease:
    """A reservation as an account keeps it."""

    id: str
    agent: str
    tokens: int
    nano_usd: int
    expires: float
    """When it ends, in ticks; once it has ended: when it is forgotten."""
    run_id: str | None = None
    charged: int | None = None
    """``None`` while it is held. Afterwards what was charged without knowing what the call used:
    everything when it has expired, nothing when it was released."""
    charged_nano: int = 0


class AccountTransaction(Protocol):
    """An account in the hands of one who is alone with it."""

    @property
    def key(self) -> AccountKey:
        """Which account it is."""
        ...

    @property
    def is_new(self) -> bool:
        """Whether it was made just now."""
        ...

    @property
    def totals(self) -> AccountTotals:
        """The sums; changes are kept."""
        ...

    def agent(self, name: str) -> AgentAccount:
        """Return the account of an agent, a blank one where there is none; changes are kept."""
        ...

    def agents(self) -> list[AgentAccount]:
        """Return every agent's account, by name; changes are kept."""
        ...

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease that has not been deleted."""
        ...

    def lease_of_run(self, run_id: str) -> Lease | None:
        """Return the lease that is held for a run."""
        ...

    def leases(self) -> list[Lease]:
        """Return every lease that has not been deleted."""
        ...

    def save(self, lease: Lease) -> None:
        """Write a new lease, or one that was changed."""
        ...

    def delete(self, lease: Lease) -> None:
        """Forget a lease."""
        ...
