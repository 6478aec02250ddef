"""How full budgets are: those of a store, and those that a ledger has heard of."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_tokenopt.budget import BudgetReport
from langchain_tokenopt.dashboard.view import View
from langchain_tokenopt.report.facts import BudgetState
from langchain_tokenopt.report.kpis import TARGETS

__all__ = ["Gauge", "gauges_of"]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A budget. Tokens, unless the name says otherwise."""

    budget: str
    owner: str
    used: float
    """Spent and held, of the limit; above 1: more than there was."""
    said: str
    """The same in words."""
    spent: int
    held: int
    limit: int | None
    """``None``: it has a limit in money only."""
    alerts: int = 0
    """How many thresholds were crossed, or how often."""
    denied: int = 0
    """Calls that were refused."""
    resets: str = ""
    stopped: bool = False

    @property
    def tone(self) -> str:
        """Good, watch or bad."""
        target = TARGETS["budget_utilisation"]
        if self.stopped or self.used >= target.bad:
            return "bad"
        return "watch" if self.used > target.good else "good"

    @property
    def notes(self) -> str:
        """What has happened to it."""
        notes = ["stopped"] if self.stopped else []
        for count, what in ((self.alerts, "alert"), (self.denied, "refused call")):
            if count:
                notes.append(f"{count:,} {what}{'' if count == 1 else 's'}")
        return ", ".join([*notes, *([f"resets {self.resets}"] if self.resets else [])])


def gauges_of(view: View) -> tuple[list[Gauge], str]:
    """Return the budgets, the fullest first, and what went wrong with the store."""
    return view.once("gauges", lambda: _gauges(view))


def _gauges(view: View) -> tuple[list[Gauge], str]:
    reports, note = view.sources.budget_reports()
    known = {(report.budget, report.owner) for report in reports}
    found = [_of_report(report) for report in reports]
    found += [
        _of_state(state) for state in view.facts.budgets if (state.budget, state.owner) not in known
    ]
    return sorted(found, key=lambda gauge: (-gauge.used, gauge.budget, gauge.owner)), note


def _of_report(report: BudgetReport) -> Gauge:
    tokens = f"{report.spent_tokens + report.held_tokens:,} of {report.total_tokens:,} tokens"
    said = ([tokens] if report.limits_tokens else []) + [report.money()]
    return Gauge(
        report.budget,
        report.owner or ("" if report.per == "run" else f"({report.whose})"),
        report.used_ratio,
        ", ".join(filter(None, said)),
        report.spent_tokens,
        report.held_tokens,
        report.total_tokens if report.limits_tokens else None,
        alerts=len(report.alerts),
        denied=sum(agent.denied_calls for agent in report.agents.values()),
        resets=report.resets,
        stopped=report.stopped,
    )


def _of_state(state: BudgetState) -> Gauge:
    return Gauge(
        state.budget,
        state.owner,
        state.used_ratio,
        f"{state.used_tokens:,} of {state.limit_tokens:,} tokens",
        state.spent_tokens,
        state.held_tokens,
        state.limit_tokens,
        alerts=state.alerts,
        denied=state.denied,
    )
