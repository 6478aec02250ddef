"""A change of an account, and the events that it causes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from langchain_tokenopt.budget.alerts import BudgetAlert
from langchain_tokenopt.budget.records import AccountKey, AccountTotals, AccountTransaction
from langchain_tokenopt.core.records import BudgetEvent

__all__ = ["AccountSettings", "Change"]


@dataclass(slots=True)
class AccountSettings:
    """What all changes of a budget have in common."""

    lease_seconds: float
    """How long a reservation is held without news of its call."""
    alert: BudgetAlert


@dataclass(slots=True)
class Change:
    """A transaction, and the events that it causes."""

    key: AccountKey
    transaction: AccountTransaction
    settings: AccountSettings
    totals: AccountTotals
    events: list[BudgetEvent] = field(default_factory=list)

    def note(self, kind: Literal["denied", "rebalanced", "alert"], agent: str, detail: str) -> None:
        """Add an event, as the account stands now."""
        key = self.key
        if key.per != "run":
            detail = f"{detail}; {key}"
        self.events.append(
            BudgetEvent(
                kind=kind,
                budget=key.budget,
                agent=agent,
                spent_tokens=self.totals.spent,
                held_tokens=self.totals.held,
                limit_tokens=self.totals.total_tokens,
                detail=detail,
                run=(key.owner or None) if key.per == "run" else None,
                user=(key.owner or None) if key.per == "user" else None,
                organization=(key.owner or None) if key.per == "organization" else None,
                at=datetime.now(UTC),
            )
        )

    def alert_if_crossed(self, agent: str) -> None:
        """Note that thresholds were crossed, and alert for the highest."""
        crossed = self.settings.alert.crossed(self.totals.alerted, self.totals.used_ratio)
        if crossed:
            self.totals.alerted = crossed[-1]
            *passed, highest = (f"{threshold * 100:g}%" for threshold in crossed)
            also = f"; passed {', '.join(passed)}" if passed else ""
            self.note("alert", agent, f"{highest} spent or held{also}")
