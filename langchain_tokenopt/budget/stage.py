"""The plan as a stage around a model: reserve, send what fits, settle."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from langchain_core.messages import ToolMessage

from langchain_tokenopt.budget.alerts import CALLER_LOOP
from langchain_tokenopt.budget.budget_call import DEGRADED, BudgetCall, Payment, WatchingCall
from langchain_tokenopt.budget.degradation import Degradation, Granted
from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.minimal_answer import UnfillableError, minimal_answer
from langchain_tokenopt.budget.money import PricedCall, terms_of
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.budget.records import BudgetStoreError
from langchain_tokenopt.budget.refusals import in_shortening_hook, refused_call
from langchain_tokenopt.budget.request_budget import sent_tokens
from langchain_tokenopt.budget.run import BudgetRun, NoBudgetRunError, current_run
from langchain_tokenopt.budget.run_notes import StepTaken
from langchain_tokenopt.budget.rungs import Step, asked_words
from langchain_tokenopt.budget.siblings import wait_for_siblings, wait_for_siblings_async
from langchain_tokenopt.budget.stray_calls import why_outside
from langchain_tokenopt.budget.tools import MADE_UP, BudgetTools, TakesTimeError
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptError, TokenOptWarning
from langchain_tokenopt.core.event_loop import done_beside_loop
from langchain_tokenopt.core.messages import append_to_last_user, text_of
from langchain_tokenopt.core.model_runs import reserved_run
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Phase, StageCall

__all__ = ["BudgetStage"]

_TRIES: Final = 3
"""How often a call is measured while its provider is found to count more and more."""
_MANY: Final = 20
"""Calls like one that is made: where there are tokens for so many, others can go on as well."""
NAME: Final = "BudgetPlan"
"""The name under which a call says that its budget acted."""
TELLING: Final = 2_048
"""Tokens of an answer of unknown length from which on the model is not told of its cap."""


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
        with self._announced(request) as asking:
            if asking is not None:
                wait_for_siblings(asking)
            return self._open(request, self.tools)

    @contextmanager
    def _announced(self, request: ModelRequest) -> Iterator[Callable[[], int] | None]:
        """Let calls that are made at the same time know of this one.

        Yields:
            What says how many there were so far; ``None``: there is no need to wait for others.
        """
        run = current_run()
        run_id = request.run.run_id
        if run is None or not self._is_here(run) or run.outlook.is_announced(run_id):
            yield None
            return
        agent = request.facts.attribution.agent
        degradation = Degradation(request, run, agent, self.tools)
        needs = degradation.climb.needs(degradation.first)
        much = _MANY * (needs.input + needs.most_output)
        is_scarce = run.account.blocking or run.account.available(agent) < much
        place = request.run.metadata.get("langgraph_checkpoint_ns")
        with run.outlook.announced(agent, needs, run_id, place):
            yield run.outlook.announced_so_far if is_scarce and not request.observe else None

    def _is_here(self, run: BudgetRun) -> bool:
        return run.plan is self.plan or run.plan == self.plan

    async def aopen(self, request: ModelRequest) -> StageCall | None:
        """Open without holding up the event loop.

        Arithmetic takes microseconds and is done at once; a file, and shortening, in a thread.

        Raises:
            NoBudgetRunError: As :meth:`open`.
            BudgetExceededError: As :meth:`open`.
            BudgetStoreError: As :meth:`open`.
        """
        with self._announced(request) as asking:
            if asking is not None:
                await wait_for_siblings_async(asking)
            return await self._aopen(request)

    async def _aopen(self, request: ModelRequest) -> StageCall | None:
        if not self.blocking:
            try:
                return self._open(request, None if self.tools is None else _QuickTools(self.tools))
            except TakesTimeError:
                pass
        CALLER_LOOP.set(asyncio.get_running_loop())
        opening = _Opening(partial(self.open, request))
        try:
            return await done_beside_loop(opening.open)
        except BaseException:  # the thread goes on, and nobody will send what it reserves
            opening.give_up()
            raise

    def _open(self, request: ModelRequest, tools: BudgetTools | None) -> StageCall | None:
        run, agent = current_run(), request.facts.attribution.agent
        if run is None or not self._is_here(run):
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
        for tries in range(_TRIES, 0, -1):
            if isinstance(found, Denial):
                break
            try:
                call = self._granted(found, run, agent, degradation, is_last=tries == 1)
            except BaseException:
                run.account.release(found.hold)
                run.outlook.ended(request.run.run_id)
                raise
            if call is not None:
                return call
            found = degradation.again(found)
        assert isinstance(found, Denial)
        return self._refused(request, degradation, run, agent, found)

    def _refuse_outside(self, request: ModelRequest, run: BudgetRun | None, agent: str) -> None:
        elsewhere = "" if run is None else f" (the run here is of {run.plan.name!r})"
        message = (
            f"A model under the plan {self.plan.name!r} was called for {agent!r} outside of "
            f"its run{elsewhere}. Call it inside 'with plan.run():', or, in a thread that you "
            f"start yourself, with contextvars.copy_context().run(...).{why_outside()}"
        )
        if not request.observe:
            raise NoBudgetRunError(message)
        warnings.warn(f"{message} It was not counted.", TokenOptWarning, stacklevel=2)

    def _refused(
        self,
        request: ModelRequest,
        degradation: Degradation,
        run: BudgetRun,
        agent: str,
        denial: Denial,
    ) -> StageCall:
        """Answer in the model's place, or raise."""
        run.notes.refusal(agent, denial.sentence())
        if self.plan.on_exceed == "raise":
            raise run.exceed(denial)
        run.note_degraded(agent, StepTaken(Step.FINAL), None, request.run.run_id)
        run.note_shortage(agent, degradation.likely())
        request.run.refused = True
        request.run.stages.append(NAME)
        if in_shortening_hook():
            raise _final(denial, text_of(request.messages[-1]))
        run.note_stand_in(agent, request.run.metadata, denial.error())
        try:
            text = f"{MADE_UP}: {denial.sentence()}]"
            message = minimal_answer(request, text)
            run.answers.append(text)
        except UnfillableError:  # the caller could not read a text either
            raise _final(denial) from None
        message.response_metadata = {DEGRADED: [Step.FINAL]}
        return StageCall(request, Answer.of(message, storable=False))

    def _granted(
        self,
        granted: Granted,
        run: BudgetRun,
        agent: str,
        degradation: Degradation,
        *,
        is_last: bool,
    ) -> StageCall | None:
        """Bound the answer by what is held where need be, say so, and send it.

        Returns:
            ``None`` where a provider has said meanwhile that it counts more than was thought, so
            that no answer would fit into what is held; unless *is_last*.
        """
        candidate, hold = granted.candidate, granted.hold
        request, times = candidate.request, candidate.request.facts.generations
        if self.plan.show_remaining and hold.recorded:
            left = max(0, run.account.available(agent, run.owners.of(request.facts.attribution)))
            line = (
                f"Budget: {left:,} of {run.plan.total_tokens:,} tokens are left after this answer."
            )
            request = request.override(messages=append_to_last_user(request.messages, line))
        words = self._words_to_ask(granted, degradation) if granted.asks else None
        if words is not None and self.tools is not None:
            request = self.tools.ask_for(request, words)
        counted = request.facts.input_tokens.tokens
        sent = sent_tokens(request, counted)
        room = min(hold.max_output_tokens, hold.tokens - sent)
        least = min(granted.needs.least_output, hold.max_output_tokens)
        if hold.recorded and room < least and sent > granted.needs.input and not is_last:
            return None
        request.run.stages.append(NAME)
        _note_saving(degradation.first.request, request, agent)
        for step in candidate.steps:
            run.note_degraded(agent, step, hold, request.run.run_id)
        if candidate.steps:
            run.note_shortage(agent, degradation.likely())
        cap = max(1, room // times) if granted.is_capped else None
        bounded = request if cap is None else request.with_output_cap(cap)
        if bounded is request:  # it needs none, has a lower one, or cannot be given one
            cap = None
        limit = None
        if self.tools is not None:
            limit = self.tools.word_limit(bounded, candidate.limit and candidate.length, cap)
            bounded = bounded if limit is None else limit.request
        lowest = bounded.facts.output_cap
        most = hold.tokens if lowest is None else min(hold.tokens, sent + lowest * times)
        priced, owed = _priced(run, bounded), granted.needs.last_answer
        payment = Payment(run, agent, hold, counted, sent, most, priced, owed)
        call = WatchingCall if limit is not None or request.streaming else BudgetCall
        return call(bounded, payment, candidate, limit, self.tools, cap)

    def _words_to_ask(self, granted: Granted, degradation: Degradation) -> int | None:
        """Return the length that the model is told, so that no cap cuts its answer.

        Of unknown length, it may be longer than what is told: half of what there is, so that
        something is left for another turn.
        """
        candidate, needs, hold = granted.candidate, granted.needs, granted.hold
        told = candidate.length
        if not granted.is_capped:
            return told
        output = max(0, hold.max_output_tokens)
        if told is None:
            if needs.is_known or output >= TELLING * candidate.request.facts.generations:
                return None
            if not granted.is_foreseen:
                output = min(output, max(needs.usual_output, output // 2))
        words = asked_words(candidate, degradation.climb, output)
        return words if told is None else min(told, words)


def _final(denial: Denial, asked: str = "") -> TokenOptError:
    error = denial.error()
    return refused_call(error, asked) if isinstance(error, BudgetExceededError) else error


def _note_saving(before: ModelRequest, after: ModelRequest, agent: str) -> None:
    """Record what a shorter prompt saves."""
    facts, tokens = before.facts, before.facts.message_tokens.tokens
    if after.messages is before.messages or after.facts.message_tokens.tokens >= tokens:
        return
    before.run.savings.append(
        Saving(
            stage=NAME,
            tokens_before=tokens,
            tokens_after=after.facts.message_tokens.tokens,
            run_id=before.run.run_id,
            agent=agent,
            model=facts.model_name,
        )
    )


def _priced(run: BudgetRun, request: ModelRequest) -> PricedCall | None:
    return None if run.prices is None else run.prices.of(terms_of(request))


def _observed(
    degradation: Degradation, run: BudgetRun, agent: str, found: Granted | Denial
) -> StageCall:
    """Note what would have been done, and count what the call uses as it is."""
    request = degradation.first.request
    unchanged = Degradation(request, run, agent, None)
    needs = unchanged.climb.needs(unchanged.first)
    if isinstance(found, Denial):
        step = StepTaken(f"would have {Step.FINAL}")
        run.note_degraded(agent, step, None, request.run.run_id)
        hold = run.account.admit(agent, needs.input, needs.most_output, degradation.owners)
    else:
        hold = found.hold
        for step in found.candidate.steps:
            step = replace(step, name=f"would have {step.name}")
            run.note_degraded(agent, step, hold, request.run.run_id)
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
    needs = degradation.climb.needs(candidate)
    answer = run.account.without_store(
        error, agent, needs.input, needs.most_output, degradation.owners
    )
    return Granted(candidate, needs, answer) if isinstance(answer, Hold) else answer


class _Opening:
    """A call that is opened in a thread, until whoever waits for it gives it up.

    The thread itself frees what it has reserved for nobody: the event loop may have ended by then.
    """

    def __init__(self, open_: Callable[[], StageCall | None]) -> None:
        self._open = open_
        self._lock = threading.Lock()
        self._is_wanted = True
        self._call: StageCall | None = None

    def open(self) -> StageCall | None:
        call = self._open()
        with self._lock:
            if self._is_wanted:
                self._call = call
                return call
        _free(call)
        return None

    def give_up(self) -> None:
        with self._lock:
            self._is_wanted, call = False, self._call
        if call is not None:
            asyncio.get_running_loop().run_in_executor(None, _free, call)


def _free(call: StageCall | None) -> None:
    if call is not None:
        call.failed(TokenOptError("it was given up before it was sent"))


class _QuickTools:
    """A budget's tools, without what takes time."""

    def __init__(self, tools: BudgetTools) -> None:
        self.word_limit, self.ask_for = tools.word_limit, tools.ask_for
        self.tokens_per_word, self.count_words = tools.tokens_per_word, tools.count_words
        self.frame = tools.frame

    def shorten(
        self,
        request: ModelRequest,
        max_tokens: int,
        frame: Sequence[str],
        known: Sequence[str] = (),
    ) -> ModelRequest:
        raise TakesTimeError

    def shorten_tool_results(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        if any(isinstance(message, ToolMessage) for message in request.messages):
            raise TakesTimeError
        return request

    def hand_over(
        self, request: ModelRequest, reports: Sequence[str], max_tokens: int, frame: Sequence[str]
    ) -> ModelRequest:
        raise TakesTimeError

    def leave_out(
        self, request: ModelRequest, reports: Sequence[str], max_tokens: int, frame: Sequence[str]
    ) -> ModelRequest:
        raise TakesTimeError
