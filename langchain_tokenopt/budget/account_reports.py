"""An account at one instant, for people and programs that only want to look."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from langchain_tokenopt.budget.account_changes import Change
from langchain_tokenopt.budget.account_stores import open_accounts
from langchain_tokenopt.budget.alerts import THRESHOLDS
from langchain_tokenopt.budget.arithmetic import move, room_for
from langchain_tokenopt.budget.records import (
    LEASE_SECONDS,
    NO_TOKEN_LIMIT,
    AccountTotals,
    AccountTransaction,
    AgentAccount,
)
from langchain_tokenopt.budget.windows import Window
from langchain_tokenopt.core.dimensions import Per
from langchain_tokenopt.pricing.money import format_usd

__all__ = ["AgentReport", "BudgetReport", "report_of", "reports_in"]


@dataclass(frozen=True, slots=True)
class AgentReport:
    """One agent's part of a budget. Tokens, unless the name says otherwise."""

    agent: str
    allocated_tokens: int
    """What is set apart for it."""
    spent_tokens: int
    held_tokens: int
    available_tokens: int
    """What it could reserve now: the rest of its share, and the pool."""
    returned_tokens: int
    """What it gave back when it had finished."""
    surplus_tokens: int
    possible_surplus_tokens: int
    """What calls that were cut off may have been billed beyond their charge."""
    saved_tokens: int
    """What cached answers would have used."""
    calls: int
    denied_calls: int
    estimated_calls: int
    floor_tokens: int
    cap_tokens: int | None
    finished: bool
    spent_nano_usd: int


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """A budget at one instant. Tokens, unless the name says otherwise."""

    budget: str
    run: str
    total_tokens: int
    spent_tokens: int
    held_tokens: int
    pool_tokens: int
    """What nobody claims."""
    surplus_tokens: int
    """Part of what was spent that no reservation covered: providers counted more than we did."""
    possible_surplus_tokens: int
    """What calls that were cut off may have been billed beyond their charge, had their providers
    written on to the end."""
    saved_tokens: int
    total_nano_usd: int | None
    spent_nano_usd: int
    held_nano_usd: int
    unpriced_calls: int
    alerts: tuple[float, ...]
    """Thresholds that were crossed, as fractions of the total."""
    stopped: bool
    agents: Mapping[str, AgentReport]
    per: Per = "run"
    """Who shares the total."""
    owner: str = ""
    """Which run, thread, user or organization it is of; empty: nobody has said."""
    window: Window = "run"
    starts_at: datetime | None = None
    """When its window began, in the budget's time zone; ``None``: it is never renewed."""
    resets_at: datetime | None = None
    """When there is a new total."""

    @property
    def left_tokens(self) -> int:
        """Neither spent nor held; never below 0."""
        return max(self.total_tokens - self.spent_tokens - self.held_tokens, 0)

    @property
    def limits_tokens(self) -> bool:
        """Whether there is a total in tokens, and not in money only."""
        return self.total_tokens < NO_TOKEN_LIMIT

    @property
    def used_ratio(self) -> float:
        """Spent and held of the total, in tokens or in money, whichever is more."""
        ratio = (self.spent_tokens + self.held_tokens) / self.total_tokens
        if self.total_nano_usd is None:
            return ratio
        return max(ratio, (self.spent_nano_usd + self.held_nano_usd) / self.total_nano_usd)

    @property
    def overshoot_tokens(self) -> int:
        """Spent beyond the total. Only a provider's surplus can cause it."""
        return max(self.spent_tokens - self.total_tokens, 0)

    @property
    def whose(self) -> str:
        """Whose total it is, in words."""
        if self.per == "plan":
            return "all runs"
        return f"{self.per} {self.owner!r}" if self.owner else f"no {self.per}"

    @property
    def resets(self) -> str:
        """When there is a new total, in words; empty: never."""
        at = self.resets_at
        return "" if at is None else f"{at:%Y-%m-%d %H:%M} {at.tzinfo}"

    def money(self) -> str:
        """Say how many dollars were spent of how many; empty where there is no total in dollars."""
        if self.total_nano_usd is None:
            return ""
        held = f", {format_usd(self.held_nano_usd)} held" if self.held_nano_usd else ""
        return f"{format_usd(self.spent_nano_usd)} of {format_usd(self.total_nano_usd)} spent{held}"

    def sentence(self) -> str:
        """Say what was spent of what."""
        spent = []
        if self.limits_tokens:
            spent.append(
                f"{self.spent_tokens:,} of {self.total_tokens:,} tokens spent, "
                f"{self.held_tokens:,} held"
            )
        if self.total_nano_usd is not None:
            spent.append(self.money())
        resets = f"; resets at {self.resets}" if self.resets else ""
        return f"{self.budget}, {self.whose}: {', '.join(spent)}{resets}"


def reports_in(path: str | Path) -> list[BudgetReport]:
    """Return a report of every account in a file or database, by name and owner; it is only read.

    What is held in a window that is over is lost: it counts as spent.

    Raises:
        BudgetStoreError: There is no such file, or it cannot be read.
    """
    now, reports = time.time(), []
    for account in open_accounts(path):
        ends = account.key.ends
        if ends is not None and now >= ends + LEASE_SECONDS:
            _charge_what_is_held(account)
        reports.append(_report(account, THRESHOLDS))
    return reports


def _charge_what_is_held(transaction: AccountTransaction) -> None:
    """Charge calls whose end nobody will report any more; the account will not be written."""
    for account in transaction.agents():
        held, nano = account.held, account.held_nano
        move(transaction.totals, account, spent=held, held=-held, nano=nano, held_nano=-nano)


def report_of(change: Change) -> BudgetReport:
    """Report on an account that is open."""
    return _report(change.transaction, change.settings.alert.thresholds)


def _report(transaction: AccountTransaction, thresholds: Iterable[float]) -> BudgetReport:
    key, totals = transaction.key, transaction.totals
    return BudgetReport(
        budget=key.budget,
        run=key.owner if key.per == "run" else "",
        total_tokens=totals.total_tokens,
        spent_tokens=totals.spent,
        held_tokens=totals.held,
        pool_tokens=max(totals.total_tokens - totals.claimed, 0),
        surplus_tokens=totals.surplus,
        possible_surplus_tokens=totals.possible,
        saved_tokens=totals.saved,
        total_nano_usd=totals.total_nano_usd,
        spent_nano_usd=totals.spent_nano,
        held_nano_usd=totals.held_nano,
        unpriced_calls=totals.unpriced,
        alerts=tuple(threshold for threshold in thresholds if threshold <= totals.alerted),
        stopped=bool(totals.stopped),
        agents={account.agent: _of_agent(totals, account) for account in transaction.agents()},
        per=key.per,
        owner=key.owner,
        window=key.window,
        starts_at=key.starts_at,
        resets_at=key.resets_at,
    )


def _of_agent(totals: AccountTotals, account: AgentAccount) -> AgentReport:
    return AgentReport(
        agent=account.agent,
        allocated_tokens=account.allocated,
        spent_tokens=account.spent,
        held_tokens=account.held,
        available_tokens=room_for(totals, account),
        returned_tokens=account.returned,
        surplus_tokens=account.surplus,
        possible_surplus_tokens=account.possible,
        saved_tokens=account.saved,
        calls=account.calls,
        denied_calls=account.denied,
        estimated_calls=account.estimated,
        floor_tokens=account.floor,
        cap_tokens=account.cap,
        finished=bool(account.finished),
        spent_nano_usd=account.spent_nano,
    )
