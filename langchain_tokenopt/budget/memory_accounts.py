"""An account in the memory of one process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from langchain_tokenopt.budget.records import (
    AccountTotals,
    AccountTransaction,
    AgentAccount,
    Lease,
)

__all__ = ["MemoryAccountStore"]


class MemoryAccountStore:
    """Keeps an account until the process ends.

    Its transactions cannot fail, so nothing is ever undone; being alone with the account is the
    business of who asks.
    """

    shared = False

    def __init__(self, totals: AccountTotals) -> None:
        self.totals = totals
        self._agents: dict[str, AgentAccount] = {}
        self._leases: dict[str, Lease] = {}
        self._lease_of_run: dict[str, str] = {}
        self._transaction: AbstractContextManager[AccountTransaction] = nullcontext(self)

    def transaction(self) -> AbstractContextManager[AccountTransaction]:
        """Open the account."""
        return self._transaction

    def close(self) -> None:
        """Do nothing: there are no files."""

    # The transaction

    def agent(self, name: str) -> AgentAccount:
        """Return the account of an agent."""
        account = self._agents.get(name)
        if account is None:
            account = self._agents[name] = AgentAccount(name)
        return account

    def agents(self) -> list[AgentAccount]:
        """Return every agent's account, by name."""
        return [self._agents[name] for name in sorted(self._agents)]

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease that has not been deleted."""
        return self._leases.get(lease_id)

    def lease_of_run(self, run_id: str) -> Lease | None:
        """Return the lease that is held for a run."""
        lease = self._leases.get(self._lease_of_run.get(run_id, ""))
        return lease if lease is not None and lease.charged is None else None

    def leases(self) -> list[Lease]:
        """Return every lease that has not been deleted."""
        return list(self._leases.values())

    def save(self, lease: Lease) -> None:
        """Write a lease."""
        self._leases[lease.id] = lease
        if lease.run_id is not None and lease.charged is None:
            self._lease_of_run[lease.run_id] = lease.id

    def delete(self, lease: Lease) -> None:
        """Forget a lease."""
        self._leases.pop(lease.id, None)
        if lease.run_id is not None and self._lease_of_run.get(lease.run_id) == lease.id:
            del self._lease_of_run[lease.run_id]
