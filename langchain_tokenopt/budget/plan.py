"""The user's plan: made in Python or read from a file, and run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from langchain_tokenopt.budget.alerts import AlertCallback, BudgetAlert
from langchain_tokenopt.budget.allocation import AllocationStrategy
from langchain_tokenopt.budget.callback_guard import CallbackGuard
from langchain_tokenopt.budget.forecast_need import CallHistory, History, calls_of
from langchain_tokenopt.budget.graph_shape import shape_of
from langchain_tokenopt.budget.levels import BudgetLimit, LimitValues
from langchain_tokenopt.budget.performance import Performance
from langchain_tokenopt.budget.plan_files import check_format, read_values, to_toml
from langchain_tokenopt.budget.plan_proposal import needs_of, proposal
from langchain_tokenopt.budget.plan_settings import AgentBudget, AgentValues, PlanSettings
from langchain_tokenopt.budget.plan_words import plan_in_words
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.budget.strategies import in_words
from langchain_tokenopt.budget.windows import Window
from langchain_tokenopt.core.argument_checks import refuse_class, shown, takes_names
from langchain_tokenopt.core.dimensions import Per
from langchain_tokenopt.core.errors import BudgetInfeasibleError, UnknownTimeZoneError
from langchain_tokenopt.core.records import UsageSink
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.storage.places import database_of

__all__ = ["AgentBudget", "BudgetPlan", "check_plan", "desk_plan"]

EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "trading_desk_plan.toml"
"""The plan of the trading desk, to read and to copy."""


class BudgetPlan(PlanSettings):
    """How one run's tokens are divided among agents, and what happens when they run out.

    With ``per`` and ``window`` a total is what a user, an organization, a thread, or the whole plan
    may spend in an hour, a day, a week or a month; with ``within`` there are several such limits.
    A call is paid from all of them, or it is made smaller, or refused.

    Args:
        total_tokens: Tokens, input and output, that may be spent.
        total_usd: US dollars that may be spent, besides; calls without a price are refused.
        agents: By name, an ``AgentBudget`` or a dict of: ``tokens``, its share; ``words``, in which
            it is asked to answer; ``floor``, tokens that it gets whatever the others do; ``cap``,
            tokens that it never exceeds; ``priority``, its weight, 1 by default.
        buffer: Tokens that belong to nobody, from which all may borrow.
        strategy: What agents weigh where tokens are short: ``"priority"``, ``"equal"``,
            ``"proportional"`` to what is expected, ``"performance"`` (where more tokens add most),
            ``"forecast"`` (what most earlier runs needed), ``"auto"`` (whichever would have done
            best in these), or an object with a method ``weights``.
        soft_limit: Fraction of the total from which on answers are made cheaper.
        on_exceed: When a call does not fit, ``"degrade"`` it, or ``"raise"`` BudgetExceededError.
        max_input_tokens_per_call: Most that one call may send.
        max_output_tokens_per_call: Most that one call may answer.
        cheaper_model: Name of a model of the same class, asked where the budget runs low.
        show_remaining: Whether the last line of each prompt says how many tokens are left.
        cancellation_charge: Of a stream that was cut off, charge what arrived with a ``"margin"``,
            or the whole ``"reservation"``.
        per: Who shares the total: each ``"run"``, ``"thread"``, ``"user"``, ``"organization"``, or
            the whole ``"plan"``.
        window: How long it is for: ``"run"``, ``"hour"``, ``"day"``, ``"week"`` or ``"month"``.
        timezone: Whose clocks say when a window begins, such as ``"Europe/Berlin"``.
        within: Limits around this one, each a ``BudgetLimit`` or a dict of its values.
        name: Of the budget, in events and in a store.

    Raises:
        BudgetInfeasibleError: Shares, floors and buffer exceed the total.
        ValueError: A value makes no sense, or a key is unknown; the message names it.
        UnknownTimeZoneError: There is no such time zone.

    Example:
        >>> plan = BudgetPlan(
        ...     total_tokens=10_000,
        ...     agents={"news": {"tokens": 3_000, "words": 250}, "judge": AgentBudget(floor=2_000)},
        ...     buffer=1_000,
        ... )
        >>> plan.shares()
        {'news': 3000, 'judge': 6000}
        >>> plan = BudgetPlan(total_tokens=50_000, per="user", window="day", timezone="Asia/Tokyo")
        >>> plan = BudgetPlan(
        ...     total_tokens=10_000,
        ...     within=[
        ...         {"total_tokens": 50_000, "per": "user", "window": "day"},
        ...         {"total_usd": 200, "per": "organization", "window": "month"},
        ...     ],
        ... )
        >>> [(limit.per, limit.window) for limit in plan.limits]
        [('user', 'day'), ('organization', 'month')]
    """

    if TYPE_CHECKING:  # what pydantic takes beside the types of the fields

        def __init__(
            self,
            *,
            total_tokens: int,
            total_usd: float | None = None,
            agents: Mapping[str, AgentBudget | AgentValues] = ...,
            buffer: int = 0,
            strategy: Literal[
                "equal", "priority", "proportional", "performance", "forecast", "auto"
            ]
            | AllocationStrategy = "priority",
            soft_limit: float = 0.8,
            on_exceed: Literal["degrade", "raise"] = "degrade",
            max_input_tokens_per_call: int | None = None,
            max_output_tokens_per_call: int | None = None,
            cheaper_model: str | None = None,
            show_remaining: bool = False,
            cancellation_charge: Literal["margin", "reservation"] = "margin",
            per: Per = "run",
            window: Window = "run",
            timezone: str | ZoneInfo = "UTC",
            within: Sequence[BudgetLimit | LimitValues] = (),
            name: str = "plan",
        ) -> None: ...

    @takes_names
    def run(
        self,
        thread_id: str | None = None,
        *,
        user: str | None = None,
        organization: str | None = None,
        path: str | Path | None = None,
        store: str | None = None,
        sinks: Iterable[UsageSink] = (),
        alert: BudgetAlert | AlertCallback | None = None,
        forecaster: UsageForecaster | None = None,
        history: History = (),
        performance: Performance | None = None,
        rate_card: RateCard | None = None,
        on_store_error: Literal["closed", "open"] = "closed",
        clock: Callable[[], float] | None = None,
    ) -> BudgetRun:
        """Begin a run; every model call inside ``with plan.run() as run:`` is paid from it.

        Models that carry the plan (``optimize(model, plan)``), or any other stage, are shortened
        where need be; all others are reserved, charged, and refused when nothing is left.

        Args:
            thread_id: A run of the same thread goes on with what is left: in this process, if the
                plan is the same; with *path* or *store*, anywhere. Without one every run begins
                anew.
            user: Whose run it is, unless a call's metadata has another ``user_id``.
            organization: Whose user that is, unless a call's metadata says so.
            path: A file, or ``sqlite:///file``, that several processes share.
            store: A database that several machines share: ``postgresql://user@host/database``.
            sinks: Receive refusals, degraded calls, moved tokens and alerts, as ``BudgetEvent``.
            alert: Told when the budget runs low: a ``BudgetAlert``, or a function of the event.
            forecaster: Knows from earlier runs how long answers are and how often agents call. Give
                the same one each time.
            history: Of earlier runs: a ``Ledger``, records of calls, or what each agent has used in
                each run. Tokens are kept for agents that are still to come as it says that they
                will need them; ``"forecast"`` and ``"auto"`` divide by it. Strategies that are
                objects have one of their own; they read a ledger once, and not at each run.
            performance: Knows verdicts, for ``"performance"`` and ``"auto"``, and learns those of
                ``run.rate``. Give the same one each time, or one with a store.
            rate_card: Prices, where the plan has a total in dollars.
            on_store_error: ``"closed"`` refuses calls while the store cannot be reached, ``"open"``
                lets them pass; both warn.
            clock: Seconds since 1970, for tests of windows; by default the time of day, that of the
                server where there is one.

        Raises:
            ValueError: There is a *path* and a *store*, or one names something else.
            NoBudgetRunError: On entering, inside of another run.
            BudgetStoreError: The store cannot be opened.

        Example:
            >>> from langchain_core.language_models import FakeListChatModel
            >>> with BudgetPlan(total_tokens=10_000).run() as run:
            ...     answer = FakeListChatModel(responses=["four"]).invoke("What is 2 + 2?")
            >>> 0 < run.report().account.spent_tokens < 100
            True
        """
        if path is not None and store is not None:
            raise ValueError(f"accounts are kept in one place: path={str(path)!r}, or store=.")
        if store is not None:
            database_of(store)
        return BudgetRun(
            self,
            stage=BudgetStage(self),
            guard=CallbackGuard,
            thread_id=thread_id,
            user=user,
            organization=organization,
            path=path if store is None else store,
            sinks=sinks,
            alert=alert,
            forecaster=forecaster,
            history=history,
            performance=performance,
            rate_card=rate_card,
            on_store_error=on_store_error,
            clock=clock,
        )

    @classmethod
    def for_graph(
        cls,
        graph: Any,
        *,
        total_tokens: int,
        history: History = (),
        agents: Mapping[str, AgentBudget | Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> Self:
        """Propose a plan for *graph*: words for each agent, and shares or weights.

        They follow what agents have used before (the 90th percentile), where *history* knows them;
        else where they stand in the graph: who reads how many others, who stands in a loop. Where
        that is more than there is, nothing is set apart, so that nothing can lie unused: at each
        call a run divides what is left, by weights that the history knows. Else there are shares
        and floors, and an eighth belongs to nobody. Read :meth:`explain` before you rely on it.

        Args:
            graph: Of LangGraph, compiled or not; ``create_agent`` and the like make such.
            total_tokens: Tokens that one run may spend.
            history: A ``Ledger``, or records of calls of earlier runs.
            agents: What you know of them already; only the rest is proposed. Words count as those
                of an answer that nothing has shortened.
            settings: Other settings of the plan.

        Raises:
            TypeError: *graph* is none.
            ValueError: It has no nodes that could ask a model, or a setting makes no sense.

        Example:
            >>> from langchain_tokenopt.examples.trading_desk import build_desk, sample_documents
            >>> from langchain_tokenopt.testing import ExtractiveChatModel
            >>> desk = build_desk(ExtractiveChatModel(), sample_documents())
            >>> plan = BudgetPlan.for_graph(desk, total_tokens=40_000)
            >>> sum(plan.shares().values()), plan.buffer, len(plan.agents)
            (35000, 5000, 11)
        """
        given = {name: AgentBudget.model_validate(own) for name, own in (agents or {}).items()}
        asked = {name: own.words for name, own in given.items() if own.words is not None}
        needs = needs_of(shape_of(graph), calls_of(history), asked)
        proposed = proposal(needs, total_tokens)
        for name, own in given.items():
            proposed["agents"].setdefault(name, {}).update(own.model_dump(exclude_unset=True))
        return cls(**{**proposed, **settings})

    def explain(self, graph: Any, *, history: History = ()) -> str:
        """Say in words what each agent of *graph* gets, what it needs, and who may starve.

        Args:
            graph: As for :meth:`for_graph`.
            history: As for :meth:`for_graph`.

        Raises:
            TypeError: *graph* is none.
            ValueError: It has no nodes that could ask a model.

        Example:
            >>> from langgraph.graph import START, MessagesState, StateGraph
            >>> graph = StateGraph(MessagesState).add_node("news", lambda state: None)
            >>> plan = BudgetPlan(total_tokens=1_000, agents={"news": {"words": 100}})
            >>> print(plan.explain(graph.add_edge(START, "news")))
            plan: 1,000 tokens for a run; no agent has tokens of its own, 1,000 are everybody's.
            news: its part of what is everybody's, answers in 100 words. It needs about 335 for \
one call, and whatever documents it is given.
            Who may starve: nobody, as far as the graph shows.
        """
        kept: History = history if isinstance(history, CallHistory) else [*history]
        first, *others = plan_in_words(self, shape_of(graph), calls_of(kept)).splitlines()
        shared = self.total_tokens - self.buffer
        learned = in_words(self.strategy, self.claims(), kept, shared)
        return "\n".join([first, *learned.splitlines(), *others])

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a plan from a ``.toml`` or ``.json`` file.

        Raises:
            ValueError: The file is neither, or says what a plan cannot say; the message names the
                file, the key and the value.
            UnknownTimeZoneError: There is no such time zone.
            OSError: The file cannot be read.

        Example:
            >>> BudgetPlan.from_file(EXAMPLE).total_tokens
            40000
        """
        path = Path(path)
        values = read_values(path)
        try:
            return cls(**values)
        except UnknownTimeZoneError as error:
            raise UnknownTimeZoneError(error.name, f"{error.remedy} ({path})") from error
        except ValueError as error:
            what = str(error).removeprefix(f"{cls.__name__}: ")
            raise ValueError(f"{path}: {what}") from error
        except BudgetInfeasibleError as error:
            error.args = (f"{path}: {error}",)
            raise

    def to_file(self, path: str | Path) -> None:
        """Write the plan into a ``.toml`` or ``.json`` file, as :meth:`from_file` reads it.

        Raises:
            ValueError: The file is neither, or the strategy is an object.
            OSError: The file cannot be written.
        """
        path, values = Path(path), self._own_values()
        check_format(path)
        text = json.dumps(values, indent=2) + "\n" if path.suffix == ".json" else to_toml(values)
        path.write_text(text, encoding="utf-8")

    def to_toml(self) -> str:
        """Return the plan as TOML, as :meth:`from_file` reads it.

        Raises:
            ValueError: The strategy is an object.

        Example:
            >>> print(BudgetPlan(total_tokens=900, agents={"the news": {"words": 60}}).to_toml())
            total_tokens = 900
            <BLANKLINE>
            [agents]
            "the news" = { words = 60 }
            <BLANKLINE>
        """
        return to_toml(self._own_values())

    def _own_values(self) -> dict[str, Any]:
        if not isinstance(self.strategy, str):
            raise ValueError(
                f"a file names strategies, and this plan has the object {shown(self.strategy)}."
            )
        return self.model_dump(exclude_unset=True)


def check_plan(plan: object) -> None:
    """Check that *plan* is one.

    Raises:
        TypeError: It is something else.
    """
    refuse_class("a plan", plan)
    if not isinstance(plan, BudgetPlan):
        raise TypeError(
            f"a plan is needed, such as BudgetPlan(total_tokens=10_000); got {shown(plan)}."
        )


def desk_plan() -> BudgetPlan:
    """Return the plan of the trading desk, from the file that is shipped to be copied.

    Example:
        >>> sum(desk_plan().shares().values()), desk_plan().buffer
        (35000, 5000)
    """
    return BudgetPlan.from_file(EXAMPLE)
