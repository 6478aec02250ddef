"""One run under a plan: its account, who was degraded and how, and what the run was told.

A run is found by context: what is called inside ``with plan.run():`` belongs to it, in threads and
tasks that LangChain starts as well.
"""

from __future__ import annotations

import math
import sys
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

from langchain_tokenopt.budget.account import (
    AgentReport,
    BudgetReport,
    BudgetStoreError,
    Denial,
    Hold,
    TokenBudget,
)
from langchain_tokenopt.budget.alerts import BudgetAlert
from langchain_tokenopt.budget.allocation import strategy_for
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptError, TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, UsageEvent, UsageSink
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.pricing.rate_card import RateCard, default_rate_card
from langchain_tokenopt.stage import AMBIENT

if TYPE_CHECKING:
    from langchain_tokenopt.budget.plan import BudgetPlan

__all__ = ["AgentRun", "BudgetRun", "NoBudgetRunError", "RunReport", "current_run"]

OVERBOOKING = 3
"""How many times its part of the pool an agent may count on: most agents need none of theirs, and
those that come later inherit what others leave. Of 1, 3 and 6, chosen with the desk's benchmark on
seeds 100 to 103, which are not among those it reports: with 6 the last agents were refused."""
_KEPT_ACCOUNTS = 1_000
"""Accounts of threads that stay in memory for runs that are resumed without a store."""


class NoBudgetRunError(TokenOptError, RuntimeError):
    """A model under a plan was called outside of ``plan.run()``, or a run was begun inside one."""


@dataclass(frozen=True, slots=True)
class AgentRun:
    """What became of one agent in a run. Tokens, unless the name says otherwise."""

    account: AgentReport
    """Allocated, spent, held, returned, denied."""
    degraded: Mapping[str, int]
    """How often each rung of the ladder was taken, by its name."""
    words_asked: int | None
    """The plan's word limit; ``None``: it has none."""
    limited_answers: int
    """Answers that were given under a word limit."""
    kept_answers: int
    """Of those, how many were shown within it."""
    unstaged_models: tuple[str, ...]
    """Models that this agent called without a stage: charged, but never shortened."""

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.account.agent


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run at one instant."""

    thread: str | None
    account: BudgetReport
    agents: Mapping[str, AgentRun]
    failed_calls: int = 0
    """Calls that no answer came back from; what they may have cost is charged."""
    user: str | None = None
    """Whose run it is, as ``plan.run(user=...)`` said."""

    @property
    def unstaged_models(self) -> dict[str, tuple[str, ...]]:
        """Models that nobody staged, by the agents that called them."""
        return {
            name: line.unstaged_models for name, line in self.agents.items() if line.unstaged_models
        }

    def __str__(self) -> str:
        """Show a line for every agent."""
        head = ("agent", "allocated", "spent", "held", "returned", "denied", "degraded", "words")
        rows = [head, *(_cells(line) for line in self.agents.values())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if column in (0, 6) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        whole = self.account
        lines.append(
            f"{whole.spent_tokens:,} of {whole.total_tokens:,} tokens spent, "
            f"{whole.held_tokens:,} held, {whole.pool_tokens:,} in the pool"
        )
        if whole.possible_surplus_tokens:
            lines.append(
                f"up to {whole.possible_surplus_tokens:,} more, if providers wrote on when answers "
                f"had been cut off"
            )
        lines += [
            f"{agent} called {', '.join(models)} without a stage: charged, never shortened"
            for agent, models in self.unstaged_models.items()
        ]
        return "\n".join(lines)


def _cells(line: AgentRun) -> tuple[str, ...]:
    account = line.account
    degraded = ", ".join(f"{name} {count}" for name, count in line.degraded.items())
    words = "" if line.words_asked is None else f"{line.kept_answers}/{line.limited_answers}"
    return (
        line.agent,
        f"{account.allocated_tokens:,}",
        f"{account.spent_tokens:,}",
        f"{account.held_tokens:,}",
        f"{account.returned_tokens:,}",
        f"{account.denied_calls:,}",
        degraded,
        words,
    )


@dataclass(slots=True)
class _Notes:
    """What a run remembers of an agent beside its account."""

    degraded: Counter[str] = field(default_factory=Counter)
    limited: int = 0
    kept: int = 0
    unstaged: set[str] = field(default_factory=set)


class BudgetRun:
    """What ``plan.run()`` gives: the account of one run, and what happened to its agents.

    Made by ``BudgetPlan.run``; see there.
    """

    def __init__(
        self,
        plan: BudgetPlan,
        *,
        thread_id: str | None = None,
        user: str | None = None,
        store: str | Path | None = None,
        sinks: Iterable[UsageSink] = (),
        alert: BudgetAlert | None = None,
        forecaster: UsageForecaster | None = None,
        rate_card: RateCard | None = None,
        on_store_error: Any = "closed",
    ) -> None:
        self.plan = plan
        self.thread_id = thread_id
        self.user = user
        self.forecaster = forecaster or UsageForecaster()
        self._sinks = tuple(sinks)
        for sink in self._sinks:
            if not isinstance(sink, UsageSink):
                raise TypeError(f"sinks must have a record(event) method; {sink!r} has none.")
        self._rate_card = rate_card
        self._lock = threading.Lock()
        self._notes: dict[str, _Notes] = {}
        self._failed = 0
        self._sink_failed = False
        self._figures = 0, 0, plan.total_tokens
        self._latch: BudgetExceededError | None = None
        self._outer: tuple[Any, ...] = ()
        self._restored = False
        self._at_work: Counter[str] = Counter()
        self._over: set[str] = set()
        """Who this run has finished: once is enough, with a store each time is a write."""
        self._shares = plan.shares(self.forecaster)
        self.courses: dict[Any, Any] = {}
        """Where the graphs of this run stand; for the socket that knows their edges."""
        self.account = self._account(store, alert, on_store_error)
        strategy = strategy_for(plan.strategy, self.forecaster)
        self.account.allocate(plan.claims(), strategy, buffer=plan.buffer)

    def _account(
        self, store: str | Path | None, alert: BudgetAlert | None, on_store_error: Any
    ) -> TokenBudget:
        """Open the account of this thread, or make a new one."""
        plan, key = self.plan, (self.plan.name, self.plan.total_tokens, self.thread_id)
        kept = store is None and self.thread_id is not None
        if kept and key in _accounts:
            _accounts.move_to_end(key)
            account, teller = _accounts[key]
            teller.run = self
            if alert is not None:
                account.tell_by(alert)
            return account
        teller = _Teller(self)
        account = TokenBudget(
            plan.total_tokens,
            plan.total_usd,
            store,
            plan.name,
            run=self.thread_id or uuid4().hex,
            alert=alert,
            sinks=[teller],
            on_store_error=on_store_error,
            cancelled=plan.cancelled,
        )
        if kept:
            _accounts[key] = account, teller
            if len(_accounts) > _KEPT_ACCOUNTS:
                _accounts.popitem(last=False)
        return account

    # Beginning and end

    def __enter__(self) -> Self:
        running = _RUN.get()
        if running is not None:
            raise NoBudgetRunError(
                f"The plan {running.plan.name!r} is already running here: a run inside a run would "
                f"have two accounts for the same calls. Leave the inner plan.run() out, or give "
                f"its agents a share of the outer plan."
            )
        from langchain_tokenopt.budget.unstaged import HANDLER, UnstagedCalls

        self._outer = AMBIENT.get(), HANDLER.get()
        _RUN.set(self)
        HANDLER.set(UnstagedCalls(self))
        AMBIENT.set((*AMBIENT.get(), self.plan))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from langchain_tokenopt.budget.unstaged import HANDLER

        ambient, handler = self._outer
        _RUN.set(None)
        HANDLER.set(handler)
        AMBIENT.set(ambient)

    # What calls ask

    def refuse_if_over(self) -> None:
        """Raise again what was raised before: nodes that swallow it do not get around it.

        Raises:
            BudgetExceededError: A call of this run was refused under ``on_exceed="raise"``.
        """
        if self._latch is not None:
            raise self._latch

    def exceed(self, denial: Denial) -> TokenOptError:
        """Refuse *denial*'s call and every later one; return what to raise.

        A store that cannot be reached refuses this call only: it may be back for the next.
        """
        error = denial.error()
        if isinstance(error, BudgetExceededError):
            self._latch = error
            self.account.stop()
        return error

    def target_for(self, agent: str) -> int:
        """Return the tokens that *agent* should do with.

        That is the rest of its share, and :data:`OVERBOOKING` times its part of the pool: the pool
        divided among those who have not finished, by priority. What others of them have borrowed
        still counts as the pool, so agents that start together get the same part, whoever is first.
        """
        report = self.account.report()
        line = report.agents.get(agent)
        available = self.account.available(agent)
        pool = report.pool_tokens
        borrowed = sum(
            max(0, other.spent_tokens + other.held_tokens - other.allocated_tokens)
            for name, other in report.agents.items()
            if name != agent and not other.finished
        )
        waiting = {
            name: limits.priority
            for name, limits in self.plan.agents.items()
            if name not in report.agents or not report.agents[name].finished
        }
        weight = self.plan.limits_of(agent).priority
        part = OVERBOOKING * (pool + borrowed) * weight / sum({**waiting, agent: weight}.values())
        own = max(0, available - pool) if line is not None else 0
        return min(available, own + math.floor(part))

    @property
    def is_soft(self) -> bool:
        """Whether the plan's soft limit has been reached."""
        return self.account.report().used_ratio >= self.plan.soft

    def cost_of(
        self, model: str | None, provider: str | None, input_tokens: int, output_tokens: int
    ) -> int | None:
        """Return the price of a call in billionths of a dollar, where it matters and is known."""
        if self.plan.total_usd is None:
            return None
        card = self._rate_card or default_rate_card()
        rates = card.rates(model, provider)
        return None if rates is None else rates.cost(Usage(input_tokens, output_tokens))

    # What calls tell

    def note_degraded(self, agent: str, rung: str, hold: Hold | None, run_id: UUID | None) -> None:
        """Record one rung of the ladder."""
        with self._lock:
            self._of(agent).degraded[rung] += 1
        try:
            report = self.account.report()
            self._figures = report.spent_tokens, report.held_tokens, report.total_tokens
        except BudgetStoreError:  # said aloud by the account; tell what was known last
            pass
        spent, held, limit = self._figures
        self.record(
            BudgetEvent(
                kind="degraded",
                budget=self.plan.name,
                agent=agent,
                spent_tokens=spent,
                held_tokens=held,
                limit_tokens=limit,
                detail=rung if hold is None else f"{rung}; {hold.tokens:,} tokens held",
                run=self.account.run,
                run_id=run_id,
                thread=self.thread_id,
                at=datetime.now(UTC),
            )
        )

    def note_words(self, agent: str, *, kept: bool) -> None:
        """Count an answer under a word limit."""
        with self._lock:
            notes = self._of(agent)
            notes.limited += 1
            notes.kept += kept

    def note_unstaged(self, agent: str, model: str) -> None:
        """Remember that *agent* called a model that nobody staged."""
        with self._lock:
            self._of(agent).unstaged.add(model)

    def note_failure(self) -> None:
        """Count a call that brought no answer."""
        with self._lock:
            self._failed += 1

    def _of(self, agent: str) -> _Notes:
        return self._notes.setdefault(agent, _Notes())

    def finish(self, agent: str) -> dict[str, int]:
        """Tell that *agent* will not call again: what it has left goes to the others.

        ``budget_graph`` does it by itself, from the graph's edges.

        Returns:
            Who was given how much.
        """
        return self.account.finish(agent)

    def finish_idle(self, agents: Iterable[str]) -> None:
        """Tell that these agents will not call again, as far as the plan has them.

        Not those that are at work: another invocation of the same graph may be under way.
        """
        for agent in agents:
            if agent in self._shares and agent not in self._over and not self._at_work[agent]:
                self._over.add(agent)
                self.account.finish(agent)

    def reopen(self, agents: Iterable[str]) -> bool:
        """Tell that these agents may call again: those that had finished take their shares back.

        Returns:
            Whether any had finished.
        """
        known = [agent for agent in agents if agent in self._shares]
        self._over.difference_update(known)
        return sum(self.account.reopen(agent, self._shares) for agent in known) > 0

    def begin(self, agent: str) -> bool:
        """Tell that *agent* begins to work; return whether it had finished, and has come back."""
        with self._lock:
            self._at_work[agent] += 1
        return self.reopen([agent])

    def end(self, agent: str, *, finished: bool = False) -> None:
        """Tell that *agent* has ended what it began; *finished*: for good."""
        with self._lock:
            self._at_work[agent] -= 1
        if finished:
            self.finish_idle([agent])

    # For checkpoints

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint says was spent; once, and never downwards."""
        with self._lock:
            first, self._restored = not self._restored, True
        if first and snapshot.get("agents"):
            self.account.restore(snapshot)

    # Looking

    def report(self) -> RunReport:
        """Return what every agent was given, spent and suffered, at this instant."""
        account = self.account.report()
        with self._lock:
            agents = {
                name: self._line(account.agents[name])
                for name in (
                    *self.plan.agents,
                    *(name for name in account.agents if name not in self.plan.agents),
                )
                if name in account.agents
            }
            failed = self._failed
        return RunReport(self.thread_id, account, agents, failed, self.user)

    def _line(self, account: AgentReport) -> AgentRun:
        notes = self._notes.get(account.agent, _Notes())
        return AgentRun(
            account=account,
            degraded=dict(notes.degraded),
            words_asked=self.plan.limits_of(account.agent).words,
            limited_answers=notes.limited,
            kept_answers=notes.kept,
            unstaged_models=tuple(sorted(notes.unstaged)),
        )

    # Who hears

    def record(self, event: UsageEvent) -> None:
        """Pass an event on to the sinks, and into the graph's custom stream."""
        for sink in self._sinks:
            try:
                sink.record(event)
            except Exception as error:  # noqa: BLE001  foreign code; a call must not fail for it
                self._warn_of_sink(error)
        if isinstance(event, BudgetEvent):
            _stream(event)

    def _warn_of_sink(self, error: Exception) -> None:
        if not self._sink_failed:
            self._sink_failed = True
            warnings.warn(
                f"a sink of the plan {self.plan.name!r} failed, events may be missing there: "
                f"{error!r}",
                TokenOptWarning,
                stacklevel=4,
            )


class _Teller:
    """Passes what an account tells on to the run that uses it now."""

    def __init__(self, run: BudgetRun) -> None:
        self.run = run

    def record(self, event: UsageEvent) -> None:
        self.run.record(event)


def _stream(event: BudgetEvent) -> None:
    """Write *event* into the custom stream of the graph in which the caller runs, if any."""
    if "langgraph.config" not in sys.modules:
        return
    from langgraph.config import get_stream_writer

    try:
        write = get_stream_writer()
    except (RuntimeError, KeyError):  # not inside of a node
        return
    write(
        {
            "budget": event.budget,
            "kind": event.kind,
            "agent": event.agent,
            "detail": event.detail,
            "spent_tokens": event.spent_tokens,
            "held_tokens": event.held_tokens,
            "limit_tokens": event.limit_tokens,
        }
    )


_RUN: ContextVar[BudgetRun | None] = ContextVar("langchain_tokenopt_budget_run", default=None)

_accounts: OrderedDict[tuple[str, int, str | None], tuple[TokenBudget, _Teller]] = OrderedDict()
"""Accounts of threads, for runs that go on in the same process."""


def current_run() -> BudgetRun | None:
    """Return the run that calls made here belong to."""
    return _RUN.get()
