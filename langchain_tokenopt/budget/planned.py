"""What a plan can do: begin a run, and stand as a stage around a model.

The plan itself (``plan.py``) is configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall

if TYPE_CHECKING:
    from langchain_tokenopt.budget.alerts import BudgetAlert
    from langchain_tokenopt.budget.ladder import Shortening
    from langchain_tokenopt.budget.plan import BudgetPlan
    from langchain_tokenopt.budget.run import BudgetRun
    from langchain_tokenopt.budget.stage import PlanStage
    from langchain_tokenopt.core.records import UsageSink
    from langchain_tokenopt.forecast import UsageForecaster
    from langchain_tokenopt.pricing.rate_card import RateCard

__all__ = ["Planned"]


class Planned:
    """The behaviour of a ``BudgetPlan``."""

    phase: ClassVar[Phase] = Phase.BUDGET

    @property
    def _plan(self) -> BudgetPlan:
        return cast("BudgetPlan", self)

    def run(
        self,
        thread_id: str | None = None,
        user: str | None = None,
        *,
        store: str | Path | None = None,
        sinks: Iterable[UsageSink] = (),
        alert: BudgetAlert | None = None,
        forecaster: UsageForecaster | None = None,
        rate_card: RateCard | None = None,
        on_store_error: Literal["closed", "open"] = "closed",
    ) -> BudgetRun:
        """Begin a run; every model call inside ``with plan.run() as run:`` is paid from it.

        Models that carry the plan (``optimize(model, plan)``), or any other stage, are shortened
        where need be; all others are reserved, charged, and refused when nothing is left.

        Args:
            thread_id: A run of the same thread goes on with what is left: in this process, or,
                with *store*, anywhere. Without one every run begins anew.
            user: Whose run it is.
            store: A path, or ``sqlite:///path``, that several processes share.
            sinks: Hear of refusals, rungs, moved tokens and alerts, as ``BudgetEvent``.
            alert: Tells when the budget runs low.
            forecaster: Knows how long answers are, from earlier runs. Give the same one each time.
            rate_card: Prices, where the plan has a total in dollars.
            on_store_error: ``"closed"`` refuses calls while the store cannot be reached, ``"open"``
                lets them pass; both warn.

        Raises:
            NoBudgetRunError: On entering, inside of another run.
            BudgetStoreError: The store cannot be opened.

        Example:
            >>> from langchain_core.language_models import FakeListChatModel
            >>> from langchain_tokenopt.budget import BudgetPlan
            >>> with BudgetPlan(total_tokens=10_000).run() as run:
            ...     answer = FakeListChatModel(responses=["four"]).invoke("What is 2 + 2?")
            >>> 0 < run.report().account.spent_tokens < 100
            True
        """
        from langchain_tokenopt.budget.run import BudgetRun

        return BudgetRun(
            self._plan,
            thread_id=thread_id,
            user=user,
            store=store,
            sinks=sinks,
            alert=alert,
            forecaster=forecaster,
            rate_card=rate_card,
            on_store_error=on_store_error,
        )

    # A stage around a model

    @property
    def blocking(self) -> bool:
        """True when the account of the run is kept in a file."""
        return self.lent(None).blocking

    @property
    def fingerprint(self) -> str:
        """Name every setting that changes answers."""
        told = self._plan.model_dump_json(exclude={"strategy"}, fallback=repr)
        return f"BudgetPlan:{hashlib.blake2b(told.encode(), digest_size=8).hexdigest()}"

    def open(self, request: ModelRequest) -> StageCall | None:
        """Reserve what a call needs.

        Raises:
            NoBudgetRunError: Outside of :meth:`run`.
            BudgetExceededError: The call does not fit, and ``on_exceed`` is ``"raise"``.
        """
        return self.lent(None).open(request)

    async def aopen(self, request: ModelRequest) -> StageCall | None:
        """Reserve what a call needs; what takes time is done in a thread."""
        return await self.lent(None).aopen(request)

    def lent(self, shortening: Shortening | None) -> PlanStage:
        """Return the plan as a stage that may use *shortening*, which a socket lends it."""
        from langchain_tokenopt.budget.stage import PlanStage

        return PlanStage(self._plan, shortening)
