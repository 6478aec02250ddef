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
from langchain_tokenopt.core.records import UsageSink, UsageTotals
from langchain_tokenopt.core.staged_runs import GUARD, register_hooks
from langchain_tokenopt.learn.prefetch_callers import Caller
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

    def on_start(self, start: CallStart) -> None:
        """Refuse the call."""
        raise TokenOptError(
            "A model was about to be called ahead of need, which costs money. Give "
            "Prefetcher(budget_usd=...) to allow it, or take the tool off read_only."
        )


expect_errors_of(_NoModels)


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
        self._plan = (
            None
            if budget_usd is None
            else BudgetPlan(
                total_tokens=NO_TOKEN_LIMIT, total_usd=budget_usd, on_exceed="raise", name=AGENT
            )
        )

    @property
    def spent_usd(self) -> Decimal:
        """US dollars spent so far, where prices are known."""
        return self._spent.cost_usd

    @contextmanager
    def block(self, caller: Caller) -> Iterator[RunnableConfig]:
        """Work ahead inside; gives the config for what is called."""
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
                stack.enter_context(ContextBlock({GUARD: _NoModels()}))
            else:
                around = AMBIENT.get()
                stack.enter_context(self._payer(self._plan).inside())
                stack.enter_context(ContextBlock({AMBIENT: _with_payer(around, AMBIENT.get()[-1])}))
            usage = stack.enter_context(
                track_usage(self._sinks, rate_card=self._rate_card, max_records=1)
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
                self._run = plan.run(rate_card=self._rate_card)
            return self._run
