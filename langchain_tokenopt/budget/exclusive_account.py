"""An account that is changed by one at a time, and says afterwards what a change has caused."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TypeVar, TypeVarTuple

from langchain_tokenopt.budget.account_changes import AccountSettings, Change
from langchain_tokenopt.budget.account_lock import AccountLock
from langchain_tokenopt.budget.leases import advance
from langchain_tokenopt.budget.records import AccountTransaction
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify
from langchain_tokenopt.storage.protocols import AccountStore

__all__ = ["ExclusiveAccount"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class ExclusiveAccount:
    """Makes changes at an account, one at a time.

    Args:
        store: Where the account is kept.
        settings: What its changes have in common.
        sinks: Receive all events.
        clock: Seconds.
    """

    def __init__(
        self,
        store: AccountStore[AccountTransaction],
        settings: AccountSettings,
        sinks: Iterable[UsageSink],
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.settings = settings
        self._sinks = checked_sinks(sinks)
        self._clock = clock
        self._lock = AccountLock(f"the budget {settings.budget!r}", shared=store.shared)
        self._keep_open = True
        if store.shared:
            weakref.finalize(self, store.close)

    def change(self, make: Callable[[Change, *_Args], _T], *args: *_Args) -> _T:
        """Make a change, alone with the account; afterwards pass on the events that it has caused.

        Sinks and alerts are called when the account is closed again: they may look at it.

        Raises:
            BudgetStoreError: The store cannot be reached, or this very thread is in the middle of
                another change.
        """
        try:
            with self._lock:
                try:
                    with self.store.transaction() as transaction:
                        change = Change(transaction, self.settings, transaction.totals)
                        advance(change, self._clock())
                        result = make(change, *args)
                finally:
                    if not self._keep_open:
                        self.store.close()
        finally:
            if self._lock.deferred:
                self._lock.run_deferred()
        if change.events:
            notify(self._sinks, *change.events)
            for event in change.events:
                if event.kind == "alert":
                    self.settings.alert.notify(event)
        return result

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
