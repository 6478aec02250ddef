"""The plan as a stage around a model: reserve, send what fits, settle."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import AIMessageChunk, ToolMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.budget.account import BudgetStoreError, Denial, Hold
from langchain_tokenopt.budget.alerts import CALLER_LOOP
from langchain_tokenopt.budget.demand import (
    cap_of,
    correction_for,
    form_of,
    input_tokens_of,
    made_up_answer,
    thinking_tokens,
    with_cap,
)
from langchain_tokenopt.budget.ladder import (
    FINAL,
    Demand,
    Draft,
    Shortening,
    climb,
    demand_of,
    provider_of,
)
from langchain_tokenopt.budget.run import BudgetRun, NoBudgetRunError, current_run
from langchain_tokenopt.budget.unstaged import is_unknown_end
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.messages import append_to_last_user
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Phase, Stage, StageCall
from langchain_tokenopt.tracking.provider_usage import written

if TYPE_CHECKING:
    from langchain_tokenopt.budget.plan import BudgetPlan

__all__ = ["DEGRADED", "PlanStage"]

STAGE: Final = "BudgetPlan"
"""The name under which a call says that its budget acted."""
DEGRADED: Final = "tokenopt_degraded"
"""Key in ``response_metadata`` of an answer that was degraded: which rungs were taken."""


_RUNNING: Final = 0.8
"""From this part of what arrived on, usage that was reported before the end is a running total:
the latest pieces may not be in it yet."""


@dataclass(frozen=True)
class PlanStage:
    """A plan around a model, with what the socket lends it.

    Args:
        plan: Whose budget it is.
        lent: Ways to shorten; ``None``: calls are bounded and refused, never shortened.
    """

    plan: BudgetPlan
    lent: Shortening | None = None

    phase = Phase.BUDGET

    @property
    def blocking(self) -> bool:
        """True when the account is kept in a file."""
        run = current_run()
        return run is not None and run.account.blocking

    @property
    def fingerprint(self) -> str:
        """Name every setting that changes answers."""
        return self.plan.fingerprint

    def open(self, request: ModelRequest) -> StageCall | None:
        """Reserve what the call needs, made smaller where it must be.

        A request that only observes is reserved, charged and told of like any other; nothing is
        made smaller or refused, so that it may spend more than the total.

        Raises:
            NoBudgetRunError: Outside of ``plan.run()``; a request that only observes is warned of.
            BudgetExceededError: The call does not fit, and ``on_exceed`` is ``"raise"``.
            BudgetStoreError: The store cannot be reached, and ``on_exceed`` is ``"raise"``.
        """
        return self._opened(request, self.lent)

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
                return self._opened(request, None if self.lent is None else _Quick(self.lent))
            except _TakesTimeError:
                pass
        CALLER_LOOP.set(asyncio.get_running_loop())
        opening = asyncio.ensure_future(run_in_executor(None, self.open, request))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # the thread goes on, and nobody will send what it reserves
            opening.add_done_callback(_give_up)
            raise

    def _opened(self, request: ModelRequest, lent: Shortening | None) -> StageCall | None:
        run = current_run()
        agent = attribution_of(request.run.metadata).agent
        if run is None or run.plan != self.plan:
            self._outside(request, run, agent)
            return None
        if not request.observe:
            run.refuse_if_over()
        try:
            found = climb(request, run, agent, lent)
        except BudgetStoreError as error:
            found = self._without_store(request, run, agent, error)
        if request.observe:
            return self._observed(request, run, agent, found)
        if isinstance(found, Denial):
            return self._refused(request, run, agent, found)
        draft, demand, hold = found
        try:
            for rung in draft.rungs:
                run.note_degraded(agent, rung, hold, request.run.run_id)
            return self._sent(draft, demand, run, agent, hold)
        except BaseException:
            run.account.release(hold)
            raise

    def _outside(self, request: ModelRequest, run: BudgetRun | None, agent: str) -> None:
        elsewhere = "" if run is None else f" (the run here is of {run.plan.name!r})"
        message = (
            f"A model under the plan {self.plan.name!r} was called for {agent!r} outside of "
            f"its run{elsewhere}. Call it inside 'with plan.run():', or, in a thread that you "
            f"start yourself, with contextvars.copy_context().run(...)."
        )
        if not request.observe:
            raise NoBudgetRunError(message)
        warnings.warn(f"{message} It was not counted.", TokenOptWarning, stacklevel=2)

    def _without_store(
        self, request: ModelRequest, run: BudgetRun, agent: str, error: BudgetStoreError
    ) -> tuple[Draft, Demand, Hold] | Denial:
        """Let the call through as it is, or refuse it: as ``on_store_error`` says."""
        words = run.plan.limits_of(agent).words if self.lent is not None else None
        draft = Draft(request, words if form_of(request) is None else None)
        demand = demand_of(draft, run, agent)
        answer = run.account.without_store(error, agent, demand.input, demand.most)
        return (draft, demand, answer) if isinstance(answer, Hold) else answer

    def _observed(
        self,
        request: ModelRequest,
        run: BudgetRun,
        agent: str,
        found: tuple[Draft, Demand, Hold] | Denial,
    ) -> StageCall:
        """Note what would have been done, and count what the call uses as it is."""
        draft, sent = Draft(request), demand_of(Draft(request), run, agent)
        if isinstance(found, Denial):
            run.note_degraded(agent, f"would have {FINAL}", None, request.run.run_id)
            hold = run.account.admit(agent, sent.input, sent.most)
        else:
            hold = found[2]
            for rung in found[0].rungs:
                run.note_degraded(agent, f"would have {rung}", hold, request.run.run_id)
        paid = _Paid(run, agent, hold, sent.counted, sent.input, sent.input + sent.most)
        trip_type = _WatchingCall if request.streaming else _BudgetCall
        return trip_type(request, None, draft, paid, None)

    def _refused(
        self, request: ModelRequest, run: BudgetRun, agent: str, denial: Denial
    ) -> StageCall:
        """Answer in the model's place, or raise."""
        if self.plan.on_exceed == "raise":
            raise run.exceed(denial)
        run.note_degraded(agent, FINAL, None, request.run.run_id)
        message = made_up_answer(request, f"[No answer: {_said(denial)}]")
        message.response_metadata = {DEGRADED: [FINAL]}
        request.run.refused = True
        request.run.stages.append(STAGE)
        return StageCall(request, Answer.of(message, storable=False))

    def _sent(
        self, draft: Draft, demand: Demand, run: BudgetRun, agent: str, hold: Hold
    ) -> StageCall:
        """Bound the answer by what is held, and go with it."""
        request, limit = draft.request, None
        request.run.stages.append(STAGE)
        if draft.words is not None and self.lent is not None:
            limit = self.lent.word_limit(draft.words, hold.max_output_tokens).open(request)
            request = request if limit is None else limit.request
        if self.plan.tell and hold.recorded:
            left = max(0, run.account.available(agent))
            line = (
                f"Budget: {left:,} of {run.plan.total_tokens:,} tokens are left after this answer."
            )
            request = request.override(messages=append_to_last_user(request.messages, line))
        counted, sent = demand.counted, demand.input
        if request is not draft.request:
            counted, exact = input_tokens_of(request)
            sent = correction_for(request.model).applied(counted, exact=exact)
        times = request.kwargs.get("n") or getattr(request.model, "n", None) or 1
        request, _ = with_cap(request, max(1, (hold.tokens - sent) // times))
        cap = cap_of(request)
        most = hold.tokens if cap is None else min(hold.tokens, sent + cap * times)
        paid = _Paid(run, agent, hold, counted, sent, most)
        trip_type = _WatchingCall if limit is not None or request.streaming else _BudgetCall
        return trip_type(request, self.lent, draft, paid, limit)


def _give_up(opening: asyncio.Future[StageCall | None]) -> None:
    """Free what was reserved for a call that nobody waits for any more."""
    trip = None if opening.cancelled() or opening.exception() else opening.result()
    if trip is not None:
        trip.failed(TokenOptError("it was given up before it was sent"))


class _TakesTimeError(Exception):
    """Shortening is needed, and an event loop would have to wait for it."""


@dataclass(frozen=True)
class _Quick:
    """What is lent, without what takes time."""

    lent: Shortening

    def shorten(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        raise _TakesTimeError

    def shorten_tool_results(self, request: ModelRequest) -> ModelRequest:
        if any(isinstance(message, ToolMessage) for message in request.messages):
            raise _TakesTimeError
        return request

    def word_limit(self, words: int, max_tokens: int) -> Stage:
        return self.lent.word_limit(words, max_tokens)

    def count_words(self, text: str) -> int:
        return self.lent.count_words(text)

    def thinking_room(self, request: ModelRequest) -> int | None:
        return self.lent.thinking_room(request)


def _said(denial: Denial) -> str:
    """Say in the model's place why there is no answer."""
    agent = repr(denial.agent)
    if denial.reason == "store":
        return f"the store of the token budget of {agent} cannot be reached."
    if denial.reason in ("money", "unpriced"):
        return f"the budget of {agent} in US dollars does not allow the call."
    return (
        f"the token budget of {agent} is used up; {denial.available_tokens:,} of "
        f"{denial.limit_tokens:,} tokens are left and {denial.needed_tokens:,} are needed."
    )


@dataclass(frozen=True, slots=True)
class _Paid:
    """What was paid in advance for a call."""

    run: BudgetRun
    agent: str
    hold: Hold
    counted: int
    """Its input as we count it."""
    sent: int
    """Its input as the provider may count it."""
    most: int
    """The most that the provider can bill: the input, and what ``max_tokens`` allows."""


class _BudgetCall(StageCall):
    """One call that has been paid for in advance."""

    def __init__(
        self,
        request: ModelRequest,
        lent: Shortening | None,
        draft: Draft,
        paid: _Paid,
        limit: StageCall | None,
    ) -> None:
        super().__init__(request)
        self._lent = lent
        self._draft = draft
        self._paid = paid
        self._limit = limit
        self._received_before = len(request.run.received)

    def close(self, answer: Answer) -> Answer:
        """Charge what the answer has used."""
        usage = self._reported(answer)
        if self.request.run.stopped:
            arrived = self._written(answer, usage)
            told = 0 if usage is None else usage.output_tokens
            self._settle_cut(arrived, is_reported=told >= _RUNNING * arrived.output_tokens > 0)
        elif usage is None:
            self._settle_counted(self._written(answer, usage))
        else:
            self._paid.run.account.settle(self._paid.hold, usage, cost_nano_usd=self._cost(usage))
            self._learn(usage)
        if self._limit is not None:
            closed = self._limit.close(answer)
            answer = closed if isinstance(closed, Answer) else answer
        return self._marked(answer)

    def failed(self, error: BaseException) -> None:
        """Charge what arrived of a call that brought no answer; free what was never sent."""
        run, account = self._paid.run, self._paid.run.account
        run.note_failure()
        received = self._text()
        if received or not isinstance(error, Exception):
            tokens = counter_for(self.request.model).count(received).tokens
            self._settle_cut(Usage(self._paid.sent, tokens))
        elif is_unknown_end(error):
            account.settle(self._paid.hold, None, most_tokens=self._paid.most)
        else:
            account.release(self._paid.hold)
        if self._limit is not None:
            self._limit.failed(error)

    def _settle_cut(self, arrived: Usage, *, is_reported: bool = False) -> None:
        """Charge a call that was cut off.

        Where the stream was closed, what arrived and a margin. Where it was not, or where there was
        no stream, the provider writes on to the end for all we know: then all that ``max_tokens``
        allows is charged.
        """
        known = None
        if self.request.run.closed:
            known = self._with_thinking(arrived, is_reported=is_reported)
        self._paid.run.account.settle(
            self._paid.hold,
            known,
            outcome="cancelled",
            most_tokens=max(self._paid.most, arrived.total_tokens),
        )

    def _settle_counted(self, counted: Usage) -> None:
        """Charge a whole answer that its provider has said nothing about."""
        self._paid.run.account.settle(
            self._paid.hold,
            self._with_thinking(counted),
            outcome="counted",
            most_tokens=self._paid.most,
        )

    def _with_thinking(self, seen: Usage, *, is_reported: bool = False) -> Usage | None:
        """Add what the model may have thought, which does not arrive; ``None``: nobody knows.

        Args:
            seen: What arrived.
            is_reported: True where the provider reports what it has written with each piece, as
                Gemini does; then thinking is in it.
        """
        if seen.reasoning_tokens or is_reported:
            return seen
        room: int | None = thinking_tokens(self.request)
        if not room and self._lent is not None:
            room = self._lent.thinking_room(self.request)
        if room is None:
            return None
        output = min(seen.output_tokens + room, self._paid.most - self._paid.sent)
        return replace(seen, output_tokens=max(seen.output_tokens, output))

    def _reported(self, answer: Answer) -> Usage | None:
        """Return what the provider said; several generations share one bill."""
        told = (
            getattr(generation.message, "usage_metadata", None) or {}
            for generation in answer.result.generations
        )
        usages = [Usage.from_metadata(usage) for usage in told if "input_tokens" in usage]
        return max(usages, key=lambda usage: usage.total_tokens, default=None)

    def _written(self, answer: Answer, reported: Usage | None) -> Usage:
        """Count what came, before any stage cut it."""
        text = self._text() or "".join(written(g.message) for g in answer.result.generations)
        tokens = counter_for(self.request.model).count(text).tokens
        if reported is None:
            return Usage(self._paid.sent, tokens)
        # Anthropic tells the input with the first piece.
        return replace(reported, output_tokens=max(reported.output_tokens, tokens))

    def _text(self) -> str:
        return "".join(self.request.run.received[self._received_before :])

    def _cost(self, usage: Usage) -> int | None:
        model = self.request.model
        if self._paid.run.plan.total_usd is None:
            return None
        return self._paid.run.cost_of(
            model_name_of(model), provider_of(model), usage.input_tokens, usage.output_tokens
        )

    def _learn(self, usage: Usage) -> None:
        model, paid = self.request.model, self._paid
        correction_for(model).learn(counted=paid.counted, reported=usage.input_tokens)
        paid.run.forecaster.observe(
            paid.agent,
            usage.output_tokens,
            model=model_name_of(model),
            input_tokens=usage.input_tokens,
            max_words=self._draft.words,
            run_id=self.request.run.run_id,
        )

    def _marked(self, answer: Answer) -> Answer:
        """Count the words that are shown, and mark what was degraded."""
        words = self._draft.words
        if words is not None and self._lent is not None and not answer.message.tool_calls:
            shown = self._lent.count_words(answer.message.text)
            self._paid.run.note_words(self._paid.agent, kept=shown <= words)
        if not self._draft.rungs:
            return answer
        generations: list[Any] = []
        for generation in answer.result.generations:
            said = {**generation.message.response_metadata, DEGRADED: list(self._draft.rungs)}
            message = generation.message.model_copy(update={"response_metadata": said})
            info = generation.generation_info
            generations.append(ChatGeneration(message=message, generation_info=info))
        result = answer.result.model_copy(update={"generations": generations})
        return answer.override(result=result, storable=False)


class _WatchingCall(_BudgetCall):
    """A call whose pieces are seen as they come: to stop it, or to know what was sent."""

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Let the word limit decide, where there is one."""
        return (chunk,) if self._limit is None else self._limit.chunk(chunk)

    def finish(self) -> Iterable[AIMessageChunk]:
        """Return what the word limit has held back."""
        return () if self._limit is None else self._limit.finish()
