"""Accounts in the memory of one process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Final

from langchain_tokenopt.budget.account_lock import AccountLock
from langchain_tokenopt.budget.levels import Opening
from langchain_tokenopt.budget.records import AccountKey, AccountTotals, AgentAccount, Lease
from langchain_tokenopt.budget.windows import KEPT_SECONDS, Window

__all__ = ["MemoryAccount", "MemoryAccountStore"]


class MemoryAccount:
    """An account; its changes cannot fail, so nothing is ever undone."""

    def __init__(self, key: AccountKey, totals: AccountTotals) -> None:
        self.key = key
        self.totals = totals
        self.is_new = True
        self._agents: dict[str, AgentAccount] = {}
        self._leases: dict[str, Lease] = {}
        self._lease_of_run: dict[str, str] = {}

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


class _Accounts:
    """Accounts by their keys. Those whose windows ended long ago are forgotten."""

    def __init__(self) -> None:
        self._accounts: dict[AccountKey, MemoryAccount] = {}
        self._latest: MemoryAccount | None = None
        self._begun: dict[_Kind, int] = {}
        """Which windows were begun last."""
        self._forgotten: dict[_Kind, int] = {}
        """Until when accounts may have been forgotten."""

    def __len__(self) -> int:
        return len(self._accounts)

    def open(self, opening: Opening) -> MemoryAccount | None:
        """Return an account; where there is none, a new one, if one is to be made."""
        key, level = opening.key, opening.level
        account = self._latest
        if account is None or account.key is not key:  # the hash of a key takes time
            account = self._accounts.get(key)
        if account is not None:
            self._latest = account
            account.is_new = False
            if level is not None:
                level.renew(account.totals)
        elif level is not None:
            forgotten = self._forgotten.get(_kind(key), 0)
            if key.ends is not None and key.ends <= forgotten:  # the clock was set back
                return self.open(opening.at(forgotten))
            account = self._accounts[key] = MemoryAccount(key, replace(level.totals))
            self._forget_before(key)
        return account

    def _forget_before(self, latest: AccountKey) -> None:
        """Forget the accounts whose windows ended long before this one started."""
        kind = _kind(latest)
        if latest.ends is None or self._begun.get(kind) == latest.starts:
            return
        self._begun[kind] = latest.starts
        self._latest = None
        until = latest.starts - KEPT_SECONDS[latest.window]
        for key in [*self._accounts]:
            if key.ends is not None and key.ends <= until and _kind(key) == kind:
                del self._accounts[key]
                self._forgotten[kind] = max(self._forgotten.get(kind, 0), key.ends)


_Kind = tuple[str, str, Window]
"""Plan, name and length of windows, for which one clock tells the time."""


def _kind(key: AccountKey) -> _Kind:
    return key.scope, key.budget, key.window


class _SharedLock(AccountLock):
    """Held by whoever changes accounts that several budgets of the process share."""

    def after_fork_in_child(self) -> None:
        """Refuse to go on in a child that has copies of accounts."""
        super().after_fork_in_child()
        self._copied = len(_shared_accounts) > 0


_shared_accounts: Final = _Accounts()
SHARED_LOCK: Final = _SharedLock("the budgets of users and windows", shared=False)


class MemoryAccountStore:
    """Keeps accounts until the process ends: those of a run by itself, all others in one place.

    Being alone with them is the business of who asks.
    """

    shared = False
    concurrent = False
    place = None

    def __init__(self) -> None:
        self._own = _Accounts()

    def transaction(
        self, openings: Sequence[Opening]
    ) -> AbstractContextManager[Sequence[MemoryAccount | None]]:
        """Open accounts."""
        opened = []
        for opening in openings:
            accounts = self._own if opening.key.per == "run" else _shared_accounts
            opened.append(accounts.open(opening))
        return nullcontext(opened)

    def close(self) -> None:
        """Do nothing: there are no files."""
