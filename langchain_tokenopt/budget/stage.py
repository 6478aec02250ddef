"""The plan as a stage around a model: reserve, send what fits, settle."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from typing import Final

from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.budget.alerts import CALLER_LOOP
from langchain_tokenopt.budget.budget_call import DEGRADED, BudgetCall, Payment, WatchingCall
from langchain_tokenopt.budget.degradation import Degradation, Granted, Step
from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.minimal_answer import minimal_answer
from langchain_tokenopt.budget.money import PricedCall, terms_of
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.budget.records import BudgetStoreError
from langchain_tokenopt.budget.request_budget import sent_tokens
from langchain_tokenopt.budget.run import BudgetRun, NoBudgetRunError, current_run
from langchain_tokenopt.budget.tools import BudgetTools, TakesTimeError
from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.messages import append_to_last_user
from langchain_tokenopt.core.model_runs import reserved_run
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Phase, Stage, StageCall

__all__ = ["BudgetStage"]

NAME: Final = "BudgetPlan"
"""The name under which a call says that its budget acted."""


class BudgetStage:
    """A plan around a model.

    Args:
        plan: Whose budget it is.
        tools: Ways to shorten; ``None``: calls are bounded and refused, never shortened.
    """

    phase = Phase.BUDGET

    def __init__(self, plan: PlanSettings, tools: BudgetTools | None = None) -> None:
        self.plan = plan
        self.tools = tools
        self.fingerprint = plan.fingerprint
        """Names every setting that changes answers."""

    @property
    def blocking(self) -> bool:
        """True when the account is kept in a file."""
        run = current_run()
        return run is not None and run.account.blocking

    def open(self, request: ModelRequest) -> StageCall | None:
        """Reserve what the call needs, made smaller where it must be.

        A request that only observes is reserved, charged and reported like any other; nothing is
        made smaller or refused, so that it may spend more than the total.

        Raises:
            NoBudgetRunError: Outside of ``plan.run()``; a request that only observes is warned of.
            BudgetExceededError: The call does not fit, and ``on_exceed`` is ``"raise"``.
            BudgetStoreError: The store cannot be reached, and ``on_exceed`` is ``"raise"``.
        """
        return self._open(request, self.tools)

    async def aopen(self, request: ModelRequest) -> StageCall | None:
        """Open without holding up the event loop.

        Arithmetic takes microseconds and is done at once; a file, and shortening, in a thread.

        Raises:
            NoBudgetRunError: As :meth:`open`.
            BudgetExceededError: As :meth:`open`.
            BudgetStoreError: As :meth:`open`.
        """
        if not self.blocking:
            try:
                return self._open(request, None if self.tools is None else _QuickTools(self.tools))
            except TakesTimeError:
                pass
        CALLER_LOOP.set(asyncio.get_running_loop())
        opening = asyncio.ensure_future(run_in_executor(None, self.open, request))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # the thread goes on, and nobody will send what it reserves
            opening.add_done_callback(_give_up)
            raise

    def _open(self, request: ModelRequest, tools: BudgetTools | None) -> StageCall | None:
        run, agent = current_run(), request.facts.attribution.agent
        if run is None or (run.plan is not self.plan and run.plan != self.plan):
            self._refuse_outside(request, run, agent)
            return None
        caller = reserved_run(request.run.caller)
        if caller is not None:
            caller.hand_over()
        degradation = Degradation(request, run, agent, tools)
        if not request.observe:
            run.refuse_if_exceeded(degradation.owners)
        try:
            found = degradation.first_affordable()
        except BudgetStoreError as error:
            found = _without_store(degradation, run, agent, error)
        if request.observe:
            return _observed(degradation, run, agent, found)
        if isinstance(found, Denial):
            return self._refused(request, run, agent, found)
        try:
            for step in found.candidate.steps:
                run.note_degraded(agent, step, found.hold, request.run.run_id)
            return self._granted(found, run, agent)
        except BaseException:
            run.account.release(found.hold)
            raise

    def _refuse_outside(self, request: ModelRequest, run: BudgetRun | None, agent: str) -> None:
        elsewhere = "" if run is None else f" (the run here is of {run.plan.name!r})"
        message = (
            f"A model under the plan {self.plan.name!r} was called for {agent!r} outside of "
            f"its run{elsewhere}. Call it inside 'with plan.run():', or, in a thread that you "
            f"start yourself, with contextvars.copy_context().run(...)."
        )
        if not request.observe:
            raise NoBudgetRunError(message)
        warnings.warn(f"{message} It was not counted.", TokenOptWarning, stacklevel=2)

    def _refused(
        self, request: ModelRequest, run: BudgetRun, agent: str, denial: Denial
    ) -> StageCall:
        """Answer in the model's place, or raise."""
        if self.plan.on_exceed == "raise":
            raise run.exceed(denial)
        run.note_degraded(agent, Step.FINAL, None, request.run.run_id)
        message = minimal_answer(request, f"[No answer: {denial.sentence()}]")
        message.response_metadata = {DEGRADED: [Step.FINAL]}
        request.run.refused = True
        request.run.stages.append(NAME)
        return StageCall(request, Answer.of(message, storable=False))

    def _granted(self, granted: Granted, run: BudgetRun, agent: str) -> StageCall:
        """Bound the answer by what is held, and send it."""
        candidate, hold = granted.candidate, granted.hold
        request, limit = candidate.request, None
        request.run.stages.append(NAME)
        if candidate.words is not None and self.tools is not None:
            limit = self.tools.word_limit(candidate.words, hold.max_output_tokens).open(request)
            request = request if limit is None else limit.request
        if self.plan.show_remaining and hold.recorded:
            left = max(0, run.account.available(agent, run.owners_of(request.facts.attribution)))
            line = (
                f"Budget: {left:,} of {run.plan.total_tokens:,} tokens are left after this answer."
            )
            request = request.override(messages=append_to_last_user(request.messages, line))
        counted, sent = granted.needs.counted_input, granted.needs.input
        if request.messages is not candidate.request.messages:
            counted = request.facts.input_tokens.tokens
            sent = sent_tokens(request, counted)
        times = request.facts.generations
        lowest = max(1, (hold.tokens - sent) // times)
        bounded = request.with_output_cap(lowest)
        cap = request.facts.output_cap if bounded is request else lowest
        most = hold.tokens if cap is None else min(hold.tokens, sent + cap * times)
        payment = Payment(
            run,
            agent,
            hold,
            counted,
            sent,
            most,
            _priced(run, bounded),
            granted.needs.last_answer,
        )
        call = WatchingCall if limit is not None or request.streaming else BudgetCall
        return call(bounded, payment, candidate, limit, self.tools)


def _priced(run: BudgetRun, request: ModelRequest) -> PricedCall | None:
    return None if run.prices is None else run.prices.of(terms_of(request))


def _observed(
    degradation: Degradation, run: BudgetRun, agent: str, found: Granted | Denial
) -> StageCall:
    """Note what would have been done, and count what the call uses as it is."""
    request = degradation.first.request
    unchanged = Degradation(request, run, agent, None)
    needs = unchanged.needs(unchanged.first)
    if isinstance(found, Denial):
        run.note_degraded(agent, f"would have {Step.FINAL}", None, request.run.run_id)
        hold = run.account.admit(agent, needs.input, needs.most_output, degradation.owners)
    else:
        hold = found.hold
        for step in found.candidate.steps:
            run.note_degraded(agent, f"would have {step}", hold, request.run.run_id)
    most = needs.input + needs.most_output
    priced = _priced(run, request)
    payment = Payment(run, agent, hold, needs.counted_input, needs.input, most, priced)
    call = WatchingCall if request.streaming else BudgetCall
    return call(request, payment, unchanged.first)


def _without_store(
    degradation: Degradation, run: BudgetRun, agent: str, error: BudgetStoreError
) -> Granted | Denial:
    """Let the call through as it is, or refuse it: as ``on_store_error`` says."""
    candidate = degradation.first
    needs = degradation.needs(candidate)
    answer = run.account.without_store(
        error, agent, needs.input, needs.most_output, degradation.owners
    )
    return Granted(candidate, needs, answer) if isinstance(answer, Hold) else answer


def _give_up(opening: asyncio.Future[StageCall | None]) -> None:
    """Free what was reserved for a call that nobody waits for any more."""
    call = None if opening.cancelled() or opening.exception() else opening.result()
    if call is not None:
        call.failed(TokenOptError("it was given up before it was sent"))


@dataclass(frozen=True)
class _QuickTools:
    """A budget's tools, without what takes time."""

    tools: BudgetTools

    def shorten(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        raise TakesTimeError

    def shorten_tool_results(self, request: ModelRequest) -> ModelRequest:
        if any(isinstance(message, ToolMessage) for message in request.messages):
            raise TakesTimeError
        return request

    def word_limit(self, words: int, max_tokens: int) -> Stage:
        return self.tools.word_limit(words, max_tokens)

    def count_words(self, text: str) -> int:
        return self.tools.count_words(text)
