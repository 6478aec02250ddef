"""An account that is changed by one at a time, and says afterwards what a change has caused."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar, TypeVarTuple

from langchain_tokenopt.budget.account_lock import AccountLock
from langchain_tokenopt.budget.alerts import BudgetAlert
from langchain_tokenopt.budget.leases import advance
from langchain_tokenopt.budget.records import AccountTotals, AccountTransaction
from langchain_tokenopt.core.records import BudgetEvent, UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify
from langchain_tokenopt.storage.protocols import AccountStore

__all__ = ["Change", "ExclusiveAccount"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


@dataclass(slots=True)
class Change:
    """A transaction, and the events that it causes."""

    transaction: AccountTransaction
    account: ExclusiveAccount
    totals: AccountTotals
    events: list[BudgetEvent] = field(default_factory=list)

    def note(self, kind: Literal["denied", "rebalanced", "alert"], agent: str, detail: str) -> None:
        """Add an event, as the account stands now."""
        self.events.append(
            BudgetEvent(
                kind=kind,
                budget=self.account.name,
                agent=agent,
                spent_tokens=self.totals.spent,
                held_tokens=self.totals.held,
                limit_tokens=self.totals.total_tokens,
                detail=detail,
                run=self.account.run or None,
                at=datetime.now(UTC),
            )
        )

    def alert_if_crossed(self, agent: str) -> None:
        """Note that thresholds were crossed, and alert for the highest."""
        crossed = self.account.alert.crossed(self.totals.alerted, self.totals.used_ratio)
        if not crossed:
            return
        self.totals.alerted = crossed[-1]
        detail = f"{_percent(crossed[-1])} spent or held"
        if crossed[:-1]:
            detail += f"; passed {', '.join(map(_percent, crossed[:-1]))}"
        self.note("alert", agent, detail)


class ExclusiveAccount:
    """Makes changes at an account, one at a time.

    Args:
        store: Where the account is kept.
        name: Name of the budget.
        run: Which run of it.
        alert: Tells when the budget runs low.
        sinks: Receive all events.
        lease_seconds: How long a reservation is held without news of its call.
        clock: Seconds.
    """

    def __init__(
        self,
        store: AccountStore[AccountTransaction],
        name: str,
        run: str,
        *,
        alert: BudgetAlert,
        sinks: Iterable[UsageSink],
        lease_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.name = name
        self.run = run
        self.alert = alert
        self.lease_seconds = lease_seconds
        self._sinks = checked_sinks(sinks)
        self._clock = clock
        self._lock = AccountLock(f"the budget {name!r}", shared=store.shared)
        self._keep_open = True
        if store.shared:
            weakref.finalize(self, store.close)

    def change(
        self,
        make: Callable[[Change, *_Args], _T],
        *args: *_Args,
    ) -> _T:
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
                        advance(transaction, self._clock(), self.lease_seconds)
                        change = Change(transaction, self, transaction.totals)
                        result = make(change, *args)
                finally:
                    if not self._keep_open:
                        self.store.close()
        finally:
            self._lock.run_deferred()
        if change.events:
            self._notify(change.events)
        return result

    def defer(self, act: Callable[[], object]) -> bool:
        """Keep *act* for later if this thread is in the middle of a change; whether it was."""
        return self._lock.defer(act)

    def _notify(self, events: list[BudgetEvent]) -> None:
        notify(self._sinks, *events)
        for event in events:
            if event.kind == "alert":
                self.alert.notify(event)

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


def _percent(threshold: float) -> str:
    return f"{threshold * 100:g}%"
