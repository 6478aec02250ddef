"""What an account says when it is looked at: nothing here changes it."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_tokenopt.budget.account_changes import Change
from langchain_tokenopt.budget.account_reports import BudgetReport, report_of
from langchain_tokenopt.budget.arithmetic import flaws, room_for
from langchain_tokenopt.budget.exclusive_account import ExclusiveAccount
from langchain_tokenopt.budget.levels import NOBODY, Owners
from langchain_tokenopt.budget.records import AccountKey
from langchain_tokenopt.budget.room import NO_DEMANDS, Demands, Room, room_of

__all__ = ["AccountView"]


class AccountView:
    """The part of a budget that only looks at its account."""

    _account: ExclusiveAccount

    def available(self, agent: str, owners: Owners = NOBODY) -> int:
        """Return how many tokens *agent* could reserve now: its own rest, and the pool.

        Args:
            agent: Who would.
            owners: As for :meth:`reserve`.

        Raises:
            BudgetStoreError: The store cannot be reached.
        """
        return self._account.change_all(owners, _available, agent)

    def room_of(self, agent: str, demands: Demands = NO_DEMANDS, owners: Owners = NOBODY) -> Room:
        """Return how many tokens *agent* may use for its next call.

        Args:
            agent: Who calls.
            demands: What calls that are still to come need.
            owners: As for :meth:`reserve`.

        Raises:
            BudgetStoreError: The store cannot be reached.
        """
        return self._account.change_all(owners, room_of, agent, demands)

    def report(self) -> BudgetReport:
        """Return the account of this run as it stands at this instant.

        Raises:
            BudgetStoreError: The store cannot be reached.
        """
        return self._account.change(report_of)

    def reports(self, owners: Owners = NOBODY) -> list[BudgetReport]:
        """Return the accounts that a call would be paid from; first that of this run.

        Args:
            owners: As for :meth:`reserve`.

        Raises:
            BudgetStoreError: The store cannot be reached.
        """
        return self._account.change_all(
            owners, lambda changes: [report_of(change) for change in changes]
        )

    def accounts(self, owners: Owners = NOBODY) -> tuple[AccountKey, ...]:
        """Return which accounts a call would be paid from; first that of this run."""
        return tuple(opening.key for opening in self._account.openings(owners))

    def check(self, owners: Owners = NOBODY) -> list[str]:
        """Return what does not add up in the accounts; empty when all is well.

        Args:
            owners: As for :meth:`reserve`.
        """
        return self._account.change_all(owners, _flaws)


def _available(changes: Sequence[Change], agent: str) -> int:
    if changes[0].totals.stopped:
        return 0
    return min(room_for(change.totals, change.transaction.agent(agent)) for change in changes)


def _flaws(changes: Sequence[Change]) -> list[str]:
    return [
        flaw
        for change in changes
        for flaw in flaws(change.totals, change.transaction.agents(), change.transaction.leases())
    ]
