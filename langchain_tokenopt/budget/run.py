"""One run under a plan: its account, its agents, and what happened to their calls.

A run is found by context: what is called inside ``with plan.run():`` belongs to it, in threads and
tasks that LangChain starts as well.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler

from langchain_tokenopt.budget.account import TokenBudget
from langchain_tokenopt.budget.account_registry import AccountRegistry
from langchain_tokenopt.budget.account_reports import BudgetReport
from langchain_tokenopt.budget.alerts import AlertCallback, BudgetAlert, alert_of
from langchain_tokenopt.budget.auto_strategy import Auto
from langchain_tokenopt.budget.forecast_need import ForecastNeed, History, NeedForecast, RunLearner
from langchain_tokenopt.budget.graph_events import write_to_graph
from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.levels import NOBODY, TOOL_LIMITS, Owners
from langchain_tokenopt.budget.money import Prices
from langchain_tokenopt.budget.outlook import Outlook, noted_graph
from langchain_tokenopt.budget.performance import Performance
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.budget.records import AccountKey, BudgetStoreError
from langchain_tokenopt.budget.refusals import refused_call
from langchain_tokenopt.budget.reserves import shortage_of
from langchain_tokenopt.budget.room import Demands, Room
from langchain_tokenopt.budget.run_notes import RunNotes, StepTaken
from langchain_tokenopt.budget.run_owners import RunOwners
from langchain_tokenopt.budget.run_report import AgentRunReport, BudgetRunReport
from langchain_tokenopt.budget.siblings import HOME, here
from langchain_tokenopt.budget.stand_ins import StandIns
from langchain_tokenopt.budget.strategies import strategy_for
from langchain_tokenopt.budget.stray_calls import left_outside
from langchain_tokenopt.core.attribution import name_from
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptError, TokenOptWarning
from langchain_tokenopt.core.final_errors import take_budget_errors_as_final
from langchain_tokenopt.core.records import BudgetEvent, UsageEvent, UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify
from langchain_tokenopt.core.staged_runs import GUARD, register_hooks
from langchain_tokenopt.core.threads import CARRIED, watch_threads
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.stage import AMBIENT, Stage

__all__ = ["BudgetRun", "NoBudgetRunError", "current_run"]

_KEPT_ANSWERS: Final = 200
_KEPT_ACCOUNTS: Final = 1_000
"""Accounts of threads that stay in memory for runs that are resumed without a store."""


class NoBudgetRunError(TokenOptError, RuntimeError):
    """A model under a plan was called outside of ``plan.run()``, or a run was begun inside one."""


class BudgetRun:
    """What ``plan.run()`` gives: the account of one run, and what happened to its agents.

    Made by ``BudgetPlan.run``; see there.
    """

    def __init__(
        self,
        plan: PlanSettings,
        *,
        stage: Stage,
        guard: Callable[[BudgetRun], BaseCallbackHandler],
        thread_id: str | None = None,
        user: str | None = None,
        organization: str | None = None,
        path: str | Path | None = None,
        sinks: Iterable[UsageSink] = (),
        alert: BudgetAlert | AlertCallback | None = None,
        forecaster: UsageForecaster | None = None,
        history: History = (),
        performance: Performance | None = None,
        rate_card: RateCard | None = None,
        on_store_error: Literal["closed", "open"] = "closed",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.plan = plan
        self.thread_id = None if thread_id is None else name_from(thread_id)
        self.user = user
        self.organization = organization
        self._run_id = self.thread_id or uuid4().hex
        self.forecaster = forecaster or UsageForecaster()
        self.graph_positions: dict[Any, Any] = {}
        """Where the graphs of this run stand; for the socket that knows their edges."""
        self.answers: deque[str] = deque(maxlen=_KEPT_ANSWERS)
        """What its agents have said at length: it may stand in the prompts of others."""
        self.shortened: dict[str, str] = {}
        """The latest prompt of each agent whose documents were shortened, as it was sent."""
        self._stage = stage
        self._guard = guard(self)
        self._sinks = checked_sinks(sinks)
        self._prices = Prices(rate_card)
        self._figures = 0, 0, plan.total_tokens
        self._refusals: dict[AccountKey | None, BudgetExceededError] = {}
        """What was raised, by the account that refused."""
        self.owners = RunOwners(plan, user, organization, self._run_id)
        """On whose account its calls go."""
        self.stand_ins = StandIns()
        """Agents that were answered in the model's place."""
        self._block = ContextBlock({})
        self._is_resumed = False
        """Whether others have spent of its account before, of whose calls it knows figures only."""
        self._restoring = threading.Lock()
        """Taken by the first that restores a checkpoint, and never given back."""
        self._at_work: defaultdict[str, deque[None]] = defaultdict(deque)
        """As many entries per agent as it has nodes at work."""
        self._finished: set[str] = set()
        """Agents that this run has finished: once is enough, with a store each time is a write."""
        self._rated: dict[str, tuple[int, int]] = {}
        """What each agent had used, and wanted, when it was rated last."""
        strategy = self.strategy = strategy_for(
            plan.strategy,
            self.forecaster,
            history=history,
            performance=performance,
            user=user,
            total_tokens=plan.total_tokens - plan.buffer,
            flows_on=True,
        )
        """What agents weigh, as it is for the user of this run."""
        if isinstance(plan.strategy, Auto):
            performance = plan.strategy.performance
        elif isinstance(plan.strategy, Performance):
            performance = plan.strategy
        self._performance = performance
        needs: NeedForecast | None = None
        if isinstance(strategy, NeedForecast):
            needs = strategy
        elif history:
            needs = ForecastNeed(history, user=user)
        claims = plan.claims()
        self._promised = {claim.agent: max(claim.tokens or 0, claim.floor) for claim in claims}
        """What is set apart for each agent. The rest is divided at each call."""
        graph = partial(noted_graph, plan.fingerprint)
        shares = {claim.agent: claim.tokens for claim in claims if claim.tokens}
        self.outlook = Outlook(
            strategy.weights(claims),
            shares,
            graph,
            self.forecaster.most_calls,
            (lambda agent, spent: None) if needs is None else needs.need,
            of_whole_runs=getattr(strategy, "of_whole_runs", False),
        )
        """Who is still to come, and what they will need."""
        self.account = self._open_account(path, alert_of(alert), on_store_error, clock)
        promised = [replace(claim, tokens=self._promised[claim.agent]) for claim in claims]
        self.account.allocate(promised, strategy, buffer=plan.buffer)

    def _open_account(
        self,
        path: str | Path | None,
        alert: BudgetAlert | None,
        on_store_error: Literal["closed", "open"],
        clock: Callable[[], float] | None,
    ) -> TokenBudget:
        """Open the account of this thread, or make a new one."""
        plan = self.plan
        if path is None and (plan.limits or plan.window != "run"):
            _warn_of_memory(plan.name)

        def make() -> _SharedAccount:
            relay = _Relay()
            budget = TokenBudget(
                plan.total_tokens,
                plan.total_usd,
                path,
                plan.name,
                run=self._run_id,
                alert=alert,
                sinks=[relay],
                on_store_error=on_store_error,
                cancellation_charge=plan.cancellation_charge,
                window=plan.window,
                timezone=plan.timezone,
                within=plan.limits,
                scope=plan.fingerprint,
                part=None if plan.per in ("run", "plan") else plan.per,
                clock=clock,
            )
            return _SharedAccount(budget, relay)

        if path is not None or self.thread_id is None:
            shared = make()
        else:
            shared = _accounts.open((plan.fingerprint, self.thread_id), make)
            if alert is not None:
                shared.budget.alert = alert
        shared.relay.follow(self)
        if plan.per not in ("run", "plan"):
            run = weakref.ref(self)  # an account of a thread outlives its runs
            shared.budget.set_default_owners(
                lambda: NOBODY if (living := run()) is None else living.owners.here()
            )
        self._shared_account, self.notes = shared, shared.notes
        with suppress(BudgetStoreError):  # it will be known when it is asked for
            self._is_resumed = path is not None and shared.budget.report().spent_tokens > 0
        return shared.budget

    # Beginning and end

    def __enter__(self) -> Self:
        running = _RUN.get()
        if running is not None:
            raise NoBudgetRunError(
                f"The plan {running.plan.name!r} is already running here: a run inside a run would "
                f"have two accounts for the same calls. Leave the inner plan.run() out, or give "
                f"its agents a share of the outer plan."
            )
        self.open()
        self._block = self.inside()
        self._block.__enter__()
        return self

    def open(self) -> None:
        """Begin the run, but not here: its calls are those that are made :meth:`inside`."""
        self.account.__enter__()
        self.owners.begin()

    def inside(self) -> ContextBlock:
        """Return a block whose calls belong to this run, wherever the run was begun.

        For who works for the run in other threads and tasks, and begins and ends nothing.
        """
        register_hooks()
        take_budget_errors_as_final()
        watch_threads()
        around = (stage for stage in AMBIENT.get() if not self._is_own(stage))
        stages = (*around, self._stage)
        carried = CARRIED.get() or left_outside(self.plan.name)
        run: dict[ContextVar[Any], Any] = {_RUN: self, HOME: here(), **self.owners.inside()}
        return ContextBlock({**run, GUARD: self._guard, AMBIENT: stages, CARRIED: carried})

    def _is_own(self, stage: Stage) -> bool:
        """Whether *stage* would charge calls to this run once more, as that of ``stage_all``."""
        return type(stage) is type(self._stage) and getattr(stage, "plan", None) == self.plan

    def close(self, error: BaseException | None = None) -> None:
        """End the run, and learn from it if it has ended without an error."""
        try:
            if error is None:
                self.forecaster.observe_calls(self.outlook.calls())
                if isinstance(self.strategy, RunLearner):
                    needed, cut = self.outlook.needed(), self.outlook.cut()
                    self.strategy.observe(needed, user=self.user, cut=cut)
        finally:
            self.account.__exit__(None, None, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close(error)
        finally:
            self._block.__exit__(kind, error, trace)

    # What a call asks

    def refuse_if_exceeded(self, owners: Owners = NOBODY) -> None:
        """Raise again what was raised before: nodes that swallow it do not get around it.

        Args:
            owners: On whose account the call goes: others may go on.

        Raises:
            BudgetExceededError: A call of this run was refused under ``on_exceed="raise"``.
        """
        if self._refusals:
            for key in (None, *self.account.accounts(owners)):
                if key in self._refusals:
                    raise self._refusals[key]

    def exceed(self, denial: Denial) -> TokenOptError:
        """Refuse *denial*'s call and every later one of that account; return what to raise.

        A store that cannot be reached refuses this call only: it may be back for the next. The
        limit of a tool ends that tool's call, which says so to the model.
        """
        error = denial.error()
        if isinstance(error, BudgetExceededError):
            if denial.budget in [limit.name for limit in TOOL_LIMITS.get()]:
                return refused_call(error)
            self._refusals[denial.account] = error
            if denial.account in (None, self.account.accounts()[0]):
                self.account.stop()
        return error

    def room_of(self, agent: str, demands: Demands, owners: Owners = NOBODY) -> Room:
        """Return the tokens that *agent* may use for its next call."""
        return self.account.room_of(agent, demands, owners)

    @property
    def prices(self) -> Prices | None:
        """Prices of its calls; ``None`` where nothing limits money."""
        return self._prices if self.plan.in_money else None

    # What is noted of a call

    def note_degraded(
        self, agent: str, step: StepTaken, hold: Hold | None = None, run_id: UUID | None = None
    ) -> None:
        """Note one step of a degradation, and tell the sinks what it did."""
        self.notes.add(agent, lambda notes: notes.add_step(step))
        try:
            report = self.account.report()
            self._figures = report.spent_tokens, report.held_tokens, report.total_tokens
        except BudgetStoreError:  # the account has warned; tell what was known last
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
                detail=f"{step}" if hold is None else f"{step}; {hold.tokens:,} tokens held",
                run=self.account.run,
                run_id=run_id,
                thread_id=self.thread_id,
                at=datetime.now(UTC),
            )
        )

    def note_shortage(self, agent: str, likely: Mapping[str, int]) -> None:
        """Note that a call was made smaller, or refused, and for whom the rest is kept."""
        with suppress(BudgetStoreError):  # the account has warned
            self.notes.shortage = shortage_of(agent, self.account.report(), likely)

    def note_stand_in(
        self, agent: str, metadata: Mapping[str, Any], refusal: TokenOptError
    ) -> None:
        """Take note that *agent* is answered in the model's place; raise where that would not end.

        Raises:
            BudgetExceededError: As :meth:`StandIns.add`.
        """

        def calls() -> int:
            return sum(line.calls for line in self.account.report().agents.values())

        self.outlook.refused(agent)
        self.stand_ins.add(agent, metadata, refusal, calls)

    # Agents that come and go

    def finish(self, agent: str) -> int:
        """Say that *agent* will not call again: what it has left of its share is everybody's.

        ``budget_graph`` does it by itself, from the graph's edges.

        Returns:
            How much that is.
        """
        return self.account.finish(agent)

    def finish_idle(self, agents: Iterable[str]) -> None:
        """Finish these agents, as far as the plan has them and they are not at work.

        Another invocation of the same graph may be under way.
        """
        for agent in agents:
            once = agent in self._finished and self.plan.per in ("run", "plan")
            if agent in self._promised and not once and not self._at_work[agent]:
                self._finished.add(agent)
                self.account.finish(agent)

    def reopen(self, agents: Iterable[str]) -> bool:
        """Say that these agents may call again: those that had finished take their shares back.

        Returns:
            Whether any had finished.
        """
        known = [agent for agent in agents if agent in self._promised]
        self._finished.difference_update(known)
        return sum(self.account.reopen(agent, self._promised[agent]) for agent in known) > 0

    def begin(self, agent: str) -> bool:
        """Say that *agent* begins to work; return whether it had finished, and has come back."""
        self._at_work[agent].append(None)
        self.outlook.begin(agent)
        return self.reopen([agent])

    def end(self, agent: str, *, finished: bool = False) -> None:
        """Say that *agent* has ended what it began; *finished*: for good."""
        if self._at_work[agent]:
            self._at_work[agent].pop()
            self.outlook.end(agent)
        if finished:
            self.finish_idle([agent])

    def rate(self, agent: str, quality: float) -> None:
        """Say how good the answer of *agent* was: the strategy ``"performance"`` learns from it.

        Each verdict is on what *agent* has used since the one before. One more on the same answers
        teaches nothing: they would count twice.

        Args:
            agent: Who has answered in this run.
            quality: From 0 to 1.

        Raises:
            ValueError: *quality* is not from 0 to 1, *agent* has used nothing, or the run was given
                no ``Performance`` to learn.
        """
        if self._performance is None:
            raise ValueError(
                "nothing learns from verdicts in this run: give plan.run(performance=...) a "
                "Performance(), the same one each time."
            )
        spent = self.outlook.spent(agent)
        if not spent:
            raise ValueError(f"{agent!r} has used no tokens in this run: nothing is to be rated.")
        wanted = max(self.outlook.needed().get(agent, 0), spent)
        rated_spent, rated_wanted = self._rated.get(agent, (0, 0))
        tokens = spent - rated_spent
        if tokens:
            is_known = agent not in self.outlook.cut()
            since = max(wanted - rated_wanted, tokens) if is_known else None
            self._performance.record(agent, quality, tokens, wanted=since, user=self.user)
            self._rated[agent] = spent, wanted

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint says was spent; once, and never downwards."""
        if self._restoring.acquire(blocking=False) and snapshot.get("agents"):
            self.account.restore(snapshot)

    # The report

    def report(self) -> BudgetRunReport:
        """Return what every agent was given, spent and suffered, at this instant."""
        account, shortage = self.account.report(), self.notes.shortage
        planned = [name for name in self.plan.agents if name in account.agents]
        others = [name for name in account.agents if name not in self.plan.agents]
        agents = {
            name: AgentRunReport.of(
                account.agents[name], self.notes.of(name), self.plan.limits_of(name).words
            )
            for name in (*planned, *others)
        }
        return BudgetRunReport(
            self.thread_id,
            account,
            agents,
            self.notes.failed_calls,
            self.user,
            tuple(self._limits()),
            None if shortage is None else shortage.agent,
            () if shortage is None else shortage.reserves(account),
            self._is_resumed,
        )

    def _limits(self) -> list[BudgetReport]:
        """Report on the accounts around this run's; those of all its users, if it has several."""
        if not self.plan.limits and not self.owners.seen:
            return []
        found: dict[tuple[int, str, str], BudgetReport] = {}
        for owners in self.owners.seen or [self.owners.here()]:
            for level, report in enumerate(self.account.reports(owners)):
                level = min(level, 1 + len(self.plan.limits))  # tools stand in any order
                found.setdefault((level, report.owner, report.budget), report)
        return [found[place] for place in sorted(found) if place[0]]

    # Events

    def record(self, event: UsageEvent) -> None:
        """Pass an event on to the sinks, and into the graph's custom stream."""
        if isinstance(event, BudgetEvent):
            event = self._with_owner(event)
        notify(self._sinks, event)
        if isinstance(event, BudgetEvent):
            write_to_graph(event)

    def _with_owner(self, event: BudgetEvent) -> BudgetEvent:
        """Say whose run it is, unless several share it; events of limits say it themselves."""
        if event.run is None or self.plan.per in ("user", "organization"):
            return event
        user, organization = self.owners.around("user"), self.owners.around("organization")
        return replace(event, user=user, organization=organization)


class _Relay:
    """Passes an account's events on to the run that uses it now."""

    def __init__(self) -> None:
        self._latest: weakref.ref[BudgetRun] | None = None

    def follow(self, run: BudgetRun) -> None:
        """Pass events on to *run* from now on; a run that is under way receives its own."""
        self._latest = weakref.ref(run)

    def record(self, event: UsageEvent) -> None:
        run = _RUN.get()
        if run is None or run._shared_account.relay is not self:
            run = None if self._latest is None else self._latest()
        if run is not None:
            run.record(event)


@dataclass(eq=False)
class _SharedAccount:
    """An account, what passes its events on, and what was noted of its calls."""

    budget: TokenBudget
    relay: _Relay
    notes: RunNotes = field(default_factory=RunNotes)


_RUN: ContextVar[BudgetRun | None] = ContextVar("langchain_tokenopt_budget_run", default=None)
_accounts: AccountRegistry[_SharedAccount] = AccountRegistry(keep=_KEPT_ACCOUNTS)


def current_run() -> BudgetRun | None:
    """Return the run that calls made here belong to."""
    return _RUN.get()


@cache
def _warn_of_memory(name: str) -> None:
    warnings.warn(
        f"the limits of the plan {name!r} are kept in the memory of this process: every process "
        f"has its own, and they begin anew with it. Give plan.run(path=...) a file for limits that "
        f"hold for all processes.",
        TokenOptWarning,
        stacklevel=6,
    )
