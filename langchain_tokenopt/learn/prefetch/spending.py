"""What work done ahead may spend on models: nothing, or what its own budget allows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Final

from langchain_core.runnables.config import (
    RunnableConfig,
    ensure_config,
    var_child_runnable_config,
)

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.records import NO_TOKEN_LIMIT
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.core.host_compat import expect_errors_of
from langchain_tokenopt.core.records import (
    BudgetEvent,
    CallRecord,
    UsageEvent,
    UsageSink,
    UsageTotals,
)
from langchain_tokenopt.core.staged_runs import GUARD, register_hooks
from langchain_tokenopt.learn.prefetch.callers import Caller
from langchain_tokenopt.learn.prefetch.loads import NoMoneyError, Source
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import AMBIENT, Phase, Stage, StageCall
from langchain_tokenopt.tracking.call_starts import CallStart, ModelStartHandler
from langchain_tokenopt.tracking.callbacks import track_usage

__all__ = ["AGENT", "PrefetchSpending"]

AGENT: Final = "prefetch"
"""The agent under which models are counted that are called ahead."""


class _NoModels(ModelStartHandler):
    """Refuses every call of a model, before it is sent."""

    raise_error = True

    def __init__(self, source: Source) -> None:
        self._source = source
        self.refusal: TokenOptError | None = None

    def on_start(self, start: CallStart) -> None:
        """Refuse the call."""
        self._source.calls_models = True
        self.refusal = TokenOptError(
            "A model was about to be called ahead of need, which costs money. Give "
            "Prefetcher(budget_usd=...) to allow it, or take the tool off read_only."
        )
        raise self.refusal


expect_errors_of(_NoModels)


class _CallsOfModels:
    """Hears of the models that one load calls."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.is_refused = False

    def record(self, event: UsageEvent) -> None:
        if isinstance(event, CallRecord):
            self._source.calls_models = True
            self.is_refused = self.is_refused or event.status == "refused"


class _Payer:
    """The stage of the budget, under the names of the stages whose place it takes.

    It shortens no prompt, and refuses what does not fit; what a cache keeps of its calls has to be
    found by calls that are made without it.
    """

    phase = Phase.BUDGET

    def __init__(self, stage: Stage, fingerprint: str) -> None:
        self._stage = stage
        self.fingerprint = fingerprint

    @property
    def blocking(self) -> bool:
        return self._stage.blocking

    def open(self, request: ModelRequest) -> StageCall | None:
        return self._stage.open(request)


def _with_payer(around: tuple[Stage, ...], budget: Stage) -> tuple[Stage, ...]:
    """Return the stages that hold around a call, with our budget in place of the caller's."""
    replaced = [stage.fingerprint for stage in around if stage.phase == Phase.BUDGET]
    kept = (stage for stage in around if stage.phase != Phase.BUDGET)
    return (*kept, _Payer(budget, "|".join(name for name in replaced if name)))


class PrefetchSpending:
    """Lets work done ahead call models within a budget, counted as an agent of its own.

    Args:
        budget_usd: US dollars in all; ``None``: no model may be called.
        sinks: Hear of the calls, with those of the trackers around.
        rate_card: Prices; by default those that are built in.
    """

    def __init__(
        self, budget_usd: float | None, sinks: Sequence[UsageSink], rate_card: RateCard | None
    ) -> None:
        self.budget_usd = budget_usd
        self._sinks, self._rate_card = tuple(sinks), rate_card
        self._spent = UsageTotals()
        self._lock = threading.Lock()
        self._run: BudgetRun | None = None
        self._is_used_up = budget_usd is None
        self._plan = (
            None
            if budget_usd is None
            else BudgetPlan(
                total_tokens=NO_TOKEN_LIMIT,
                total_usd=budget_usd,
                on_exceed="raise",
                name=AGENT,
            )
        )

    @property
    def spent_usd(self) -> Decimal:
        """US dollars spent so far, where prices are known."""
        return self._spent.cost_usd

    def record(self, event: UsageEvent) -> None:
        """Hear of our own budget: once it has refused a call, it refuses all."""
        if isinstance(event, BudgetEvent) and event.kind == "denied":
            self._is_used_up = True

    def allows(self, source: Source) -> bool:
        """Return whether there is money for what *source* does, as far as that is known."""
        return not (self._is_used_up and source.calls_models)

    @contextmanager
    def block(self, caller: Caller, source: Source) -> Iterator[RunnableConfig]:
        """Work ahead inside; gives the config for what is called.

        Raises:
            TokenOptError: A model was refused inside: whatever was made of that is no result.
        """
        guard, heard = _NoModels(source), _CallsOfModels(source)
        failed: Exception | None = None
        try:
            with self._spending(caller, guard, heard) as config:
                yield config
        except Exception as error:  # noqa: BLE001  a loader is foreign code
            failed = error
        if heard.is_refused and self._is_used_up and self._plan is not None:
            raise NoMoneyError(
                f"the budget of ${self.budget_usd:,} for what is called ahead is used up"
            ) from failed
        if failed is not None:
            raise failed
        if guard.refusal is not None or heard.is_refused:
            raise guard.refusal or TokenOptError("a budget has refused a model")

    @contextmanager
    def _spending(
        self, caller: Caller, guard: _NoModels, heard: _CallsOfModels
    ) -> Iterator[RunnableConfig]:
        config = ensure_config()
        config["metadata"] = {**caller.metadata, "tokenopt_agent": AGENT}
        config["callbacks"] = None
        config.pop("run_id", None)
        # What a graph gives to its tasks is for the node that runs: its stream, its interrupts.
        given = config.get("configurable") or {}
        config["configurable"] = {k: v for k, v in given.items() if not k.startswith("__pregel")}
        register_hooks()
        with ExitStack() as stack:
            if self._plan is None:
                stack.enter_context(ContextBlock({GUARD: guard}))
            else:
                around = AMBIENT.get()
                stack.enter_context(self._payer(self._plan).inside())
                stack.enter_context(ContextBlock({AMBIENT: _with_payer(around, AMBIENT.get()[-1])}))
            usage = stack.enter_context(
                track_usage((*self._sinks, heard), rate_card=self._rate_card, max_records=1)
            )
            stack.enter_context(ContextBlock({var_child_runnable_config: config}))
            try:
                yield config
            finally:
                with self._lock:
                    self._spent += usage.totals()

    def _payer(self, plan: BudgetPlan) -> BudgetRun:
        with self._lock:
            if self._run is None:
                self._run = plan.run(rate_card=self._rate_card, sinks=[self])
            return self._run
