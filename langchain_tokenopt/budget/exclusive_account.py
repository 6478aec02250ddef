"""Accounts that are changed by one at a time, and say afterwards what a change has caused."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, TypeVarTuple

from langchain_tokenopt.budget.account_changes import AccountSettings, Change
from langchain_tokenopt.budget.account_lock import AccountLock
from langchain_tokenopt.budget.holds import Hold
from langchain_tokenopt.budget.leases import advance
from langchain_tokenopt.budget.levels import (
    NOBODY,
    NOTHING,
    AccountLevel,
    BudgetLimit,
    Expects,
    Opening,
    Owners,
)
from langchain_tokenopt.budget.memory_accounts import SHARED_LOCK
from langchain_tokenopt.budget.records import AccountTransaction
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify
from langchain_tokenopt.storage.protocols import AccountStore

__all__ = ["ExclusiveAccount"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class ExclusiveAccount:
    """Makes changes at a run's account, and at those around it, one at a time.

    Args:
        store: Where the accounts are kept.
        levels: The totals that calls are paid from; first that of the run.
        settings: What its changes have in common.
        sinks: Receive all events.
        clock: Seconds.
    """

    def __init__(
        self,
        store: AccountStore[Opening, AccountTransaction],
        levels: Sequence[AccountLevel],
        settings: AccountSettings,
        sinks: Iterable[UsageSink],
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.levels = tuple(levels)
        self.settings = settings
        self.divide: Callable[[Change], object] | None = None
        """Divides each new account of the run among agents."""
        self.default_owners: Callable[[], Owners] = lambda: NOBODY
        """On whose account changes go that are no calls."""
        self._tools: dict[str, AccountLevel] = {}
        """Totals of tools, within that of the run, by their names."""
        self._sinks = checked_sinks(sinks)
        self._clock = clock
        if store.shared or len(levels) == 1:
            label = f"the budget {self.levels[0].name!r}"
            self._lock = AccountLock(
                label, shared=store.shared, place=store.place, concurrent=store.concurrent
            )
        else:
            self._lock = SHARED_LOCK
        self._keep_open = True
        if store.shared:
            weakref.finalize(self, store.close)

    def openings(self, owners: Owners) -> list[Opening]:
        """Return the accounts that a call is paid from; first that of the run.

        Args:
            owners: On whose account the call goes.
        """
        now = self._clock()
        levels = self.levels
        if owners.tools:
            levels = (*levels, *map(self._level_of_tool, owners.tools))
        elif len(levels) == 1:
            return [levels[0].opening(owners, now)]
        return [level.opening(owners, now) for level in levels]

    def _level_of_tool(self, limit: BudgetLimit) -> AccountLevel:
        name = limit.name or ""
        level = self._tools.get(name)
        if level is None or level.totals.total_tokens != limit.total_tokens:
            level = AccountLevel.of(limit, name=name, run=self.levels[0].run)
            level.is_adjusted = True
            self._tools[name] = level
        return level

    def change(self, make: Callable[[Change, *_Args], _T], *args: *_Args) -> _T:
        """Make a change at the account of the run, alone with it.

        Sinks and alerts are called when the account is closed again: they may look at it.

        Raises:
            BudgetStoreError: The store cannot be reached, or this very thread is in the middle of
                another change.
        """
        opening = self.levels[0].opening(self.default_owners(), self._clock())
        return self._change((opening,), _of_the_first, make, *args)

    def change_all(
        self,
        owners: Owners,
        make: Callable[[Sequence[Change], *_Args], _T],
        *args: *_Args,
        expects: Expects = NOTHING,
    ) -> _T:
        """Make a change at all accounts that a call is paid from.

        Args:
            owners: On whose account it goes.
            make: Is given the accounts, and *args*.
            *args: What else it is given.
            expects: What it will look for.

        Raises:
            BudgetStoreError: As :meth:`change`.
        """
        openings = self.openings(owners)
        if self.store.shared:
            openings = [opening._replace(expects=expects) for opening in openings]
        return self._change(openings, make, *args)

    def change_held(
        self,
        hold: Hold,
        make: Callable[[Sequence[Change], Hold, *_Args], _T],
        *args: *_Args,
    ) -> _T:
        """Make a change at the accounts that hold a reservation, as far as they still exist.

        Raises:
            BudgetStoreError: As :meth:`change`.
        """
        keys = hold.accounts or [opening.key for opening in self.openings(NOBODY)]
        expects = Expects(hold.agent, hold.id)
        if hold.recorded:
            openings = [Opening(key, None, expects) for key in keys]
        else:  # the first that an account hears of it
            tools = [self._tools[key.budget] for key in keys[len(self.levels) :]]
            levels = zip(keys, (*self.levels, *tools), strict=True)
            openings = [Opening(key, level, expects) for key, level in levels]
        return self._change(openings, make, hold, *args)

    def _change(
        self,
        openings: Sequence[Opening],
        make: Callable[[Sequence[Change], *_Args], _T],
        *args: *_Args,
    ) -> _T:
        try:
            with self._lock:
                try:
                    with self.store.transaction(openings) as transactions:
                        # Asked now: who has waited for the accounts must not set them back.
                        changes = self._begun(transactions, self._clock())
                        result = make(changes, *args)
                finally:
                    if not self._keep_open:
                        self.store.close()
        finally:
            if self._lock.deferred:
                self._lock.run_deferred()
        for change in changes:
            if change.events:
                notify(self._sinks, *change.events)
                for event in change.events:
                    if event.kind == "alert":
                        self.settings.alert.notify(event)
        return result

    def _begun(self, transactions: Sequence[AccountTransaction | None], now: float) -> list[Change]:
        changes = []
        for transaction in transactions:
            if transaction is not None:
                change = Change(transaction.key, transaction, self.settings, transaction.totals)
                advance(change, now)
                changes.append(change)
        if self.divide is not None and transactions[0] is not None and transactions[0].is_new:
            self.divide(changes[0])
        return changes

    def defer(self, act: Callable[[], object]) -> bool:
        """Keep *act* for later if this thread is in the middle of a change; whether it was."""
        return self._lock.defer(act)

    def open(self) -> None:
        """Keep the store open between changes."""
        self._keep_open = True

    def close(self) -> None:
        """Let go of the store now, and after each further change."""
        self._keep_open = False
        if self._lock.defer(self.store.close):
            return
        with self._lock:
            self.store.close()


def _of_the_first(
    changes: Sequence[Change], make: Callable[[Change, *_Args], _T], *args: *_Args
) -> _T:
    return make(changes[0], *args)
