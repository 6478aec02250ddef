"""An account at one instant, for people and programs that only want to look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenopt.budget.account_changes import Change
from langchain_tokenopt.budget.alerts import THRESHOLDS
from langchain_tokenopt.budget.arithmetic import room_for
from langchain_tokenopt.budget.records import AccountTotals, AccountTransaction, AgentAccount
from langchain_tokenopt.budget.sqlite_accounts import open_accounts

__all__ = ["AgentReport", "BudgetReport", "report_of", "reports_in"]


@dataclass(frozen=True, slots=True)
class AgentReport:
    """One agent's part of a budget. Tokens, unless the name says otherwise."""

    agent: str
    allocated_tokens: int
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

    @property
    def left_tokens(self) -> int:
        """Neither spent nor held; never below 0."""
        return max(self.total_tokens - self.spent_tokens - self.held_tokens, 0)

    @property
    def used_ratio(self) -> float:
        """Spent and held of the total."""
        return (self.spent_tokens + self.held_tokens) / self.total_tokens

    @property
    def overshoot_tokens(self) -> int:
        """Spent beyond the total. Only a provider's surplus can cause it."""
        return max(self.spent_tokens - self.total_tokens, 0)


def reports_in(path: str | Path) -> list[BudgetReport]:
    """Return a report of every account in a file, by name and run; the file is only read.

    Raises:
        BudgetStoreError: There is no such file, or it cannot be read.
    """
    accounts = open_accounts(path)
    return [_report(account, name, run, THRESHOLDS) for name, run, account in accounts]


def report_of(change: Change) -> BudgetReport:
    """Report on an account that is open."""
    settings = change.settings
    return _report(change.transaction, settings.budget, settings.run, settings.alert.thresholds)


def _report(
    transaction: AccountTransaction, budget: str, run: str, thresholds: Iterable[float]
) -> BudgetReport:
    totals = transaction.totals
    return BudgetReport(
        budget=budget,
        run=run,
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
