"""One call that has been paid for in advance: what it is charged when it has ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.budget.arithmetic import Outcome
from langchain_tokenopt.budget.holds import Hold
from langchain_tokenopt.budget.input_margin import input_margin_of
from langchain_tokenopt.budget.leases import CallCost
from langchain_tokenopt.budget.money import PricedCall
from langchain_tokenopt.budget.refusals import RefusedCall, refused_call
from langchain_tokenopt.budget.request_budget import (
    answer_forms,
    charged_tokens,
    reads_calls,
    reads_object,
)
from langchain_tokenopt.budget.room import Demand
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.budget.run_notes import StepTaken
from langchain_tokenopt.budget.rungs import Candidate, Step
from langchain_tokenopt.budget.structured_answer import (
    asked_schema,
    calls_at_cap,
    completed,
    schema_name,
)
from langchain_tokenopt.budget.tools import BudgetTools
from langchain_tokenopt.budget.unread_answers import unread_answer
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.messages import as_chunk, as_message
from langchain_tokenopt.core.model_runs import (
    ModelRun,
    begin_reserved,
    end_reserved,
    reserved_run,
)
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.request.finish_reasons import is_whole, says_cap_reached
from langchain_tokenopt.request.form_tools import name_and_schema
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import StageCall
from langchain_tokenopt.tracking.failed_calls import is_given_up
from langchain_tokenopt.tracking.provider_usage import (
    AnswerNames,
    CallAnswer,
    OwnCount,
    UsageReading,
    names_of,
    read_answer,
    read_failure,
)

__all__ = ["DEGRADED", "BudgetCall", "Payment", "WatchingCall"]

DEGRADED: Final = "tokenopt_degraded"
"""Key in ``response_metadata`` of an answer that was degraded: which steps were taken."""
_RUNNING: Final = 0.8
"""From this fraction of what arrived on, usage that was reported before the end is a running total:
the latest pieces may not be in it yet."""


_REPORT: Final = 200
"""Characters from which on an answer is worth a shorter version for those who read it."""
_AROUND_CALL: Final = 12
"""Tokens that a provider writes around the name and the arguments of a call of a tool, at most."""
_WHAT_IS_SAID: Final = ("content", "tool_calls", "invalid_tool_calls")
_NO_CALL: Final = "[No answer: the call of a tool did not fit into the budget.]"
_NO_COUNT: Final = OwnCount(lambda: 0, lambda text: 0)
"""To see what was reported, and nothing else."""


@dataclass(frozen=True, slots=True)
class Payment:
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
    priced: PricedCall | None
    """What it costs; ``None`` where nothing limits money."""
    last_answer: int = 0
    """What must be left for the answer, should the model call tools now."""

    def bound(self) -> CallCost:
        """What it costs when only a bound of its tokens is known."""
        priced = self.priced
        return None if priced is None else lambda output: priced.most(self.sent, output)


class BudgetCall(StageCall):
    """One call that has been paid for in advance.

    Args:
        request: What is sent.
        payment: What was paid for it.
        candidate: The words that were asked for, and what was done to make it fit.
        limit: The word limit's part in the call, if it has any.
        tools: The budget's, to count words as the limit does.
        cap: The cap on the answer that the budget has set, if any.
    """

    def __init__(
        self,
        request: ModelRequest,
        payment: Payment,
        candidate: Candidate,
        limit: StageCall | None = None,
        tools: BudgetTools | None = None,
        cap: int | None = None,
    ) -> None:
        super().__init__(request)
        self._cap = cap
        self._paid = payment
        self._candidate = candidate
        self._limit = limit
        self.may_stop = limit is not None and limit.may_stop
        self._tools = tools
        self._received_before = len(request.run.received)
        self._caller = reserved_run(request.run.caller)
        self._key = request.run.run_id.int
        self._own: ModelRun | None = None
        self._has_shown_text = False
        self._mended: str | None = None
        """How what the cap has cut off was made whole while it came."""
        if request.run.caller != self._key:  # else somebody calls the protected method by hand
            self._own = begin_reserved(
                self._key, partial(payment.run.account.release, payment.hold)
            )

    def close(self, answer: Answer) -> Answer:
        """Charge what the answer has used."""
        was_cut = self._cap is not None and _is_cut(answer)
        with self._ending():
            self._charge(answer, was_cut=was_cut)
        if self._limit is not None:
            closed = self._limit.close(answer)
            answer = closed if isinstance(closed, Answer) else answer
        steps = [step.name for step in self._candidate.steps]
        if was_cut:
            answer, step = self._made_whole(answer)
            steps.append(step)
            self._note(step)
        elif reads_object(self.request) and not self.request.run.stopped:
            self._learn_object(answer)
        self._remember(answer)
        return self._marked(answer, steps)

    def _charge(self, answer: Answer, *, was_cut: bool) -> None:
        paid, back = self._paid, self._came_back(answer)
        if self.request.run.stopped:
            arrived = read_answer(back, self._own_count(back), is_whole=False).usage
            reported = read_answer(back, _NO_COUNT).usage.output_tokens
            self._settle_cut(arrived, is_reported=reported >= _RUNNING * arrived.output_tokens > 0)
            return
        owed = paid.last_answer if self._goes_on(answer.message) else 0
        reading = read_answer(back, self._own_count(back))
        taken = {step.name for step in self._candidate.steps}
        paid.run.outlook.answered(
            paid.agent,
            reading.usage,
            Demand(owed, owed),
            shortened=bool(taken),
            cut=was_cut or not taken <= Step.OF_THE_REQUEST,
        )
        if self._caller is not None:
            self._caller.inner.append(reading.usage)
        if self._own is not None and self._own.delegates:
            self._settle_delegated(reading, names_of(back))
        elif reading.source == "estimated":
            self._settle_counted(reading.usage)
        else:
            self._settle(reading.usage, names_of(back))
            self._learn(reading.usage)

    def _goes_on(self, message: AIMessage) -> bool:
        """Whether tools were called that the model will be told the results of."""
        forms = answer_forms(self.request)
        names = {name_and_schema(form)[0] for form in forms}
        return any(call["name"] not in names for call in message.tool_calls)

    def _note(self, step: str) -> None:
        paid, taken = self._paid, StepTaken(step, lost=f"what max_tokens {self._cap:,} cut off")
        paid.run.note_degraded(paid.agent, taken, paid.hold, self.request.run.run_id)

    def _made_whole(self, answer: Answer) -> tuple[Answer, str]:
        """Mend what the budget's cap has cut off, as far as that was not done; say how."""
        message = answer.message
        if self._mended is not None:
            return answer.override(storable=False), self._mended
        whole, step = self._whole(message)
        if whole is None and self.request.facts.answer_form.is_structured:
            raise self._no_object()
        if whole is None:
            return answer, step
        made = _saying(message, whole)
        result = answer.result.model_copy(update={"generations": [ChatGeneration(message=made)]})
        return answer.override(result=result, storable=False), step

    def _whole(self, message: AIMessage) -> tuple[AIMessage | None, str]:
        """Return what the cap has left of an answer, whole, and how that was done.

        An object is completed; a call of a tool, which could do anything, is left out. ``None``: it
        is no object and calls no tool, or cannot be made whole.
        """
        is_object = self.request.facts.answer_form.is_structured
        calls, cut = calls_at_cap(message)
        if is_object or (cut is not None and reads_calls(self.request)):
            whole = completed(self.request, message, "[cut off by the budget]")
            if whole is not None or is_object:
                return whole, Step.COMPLETED
        if cut is None:
            return None, Step.CUT
        text = message.text or ("" if calls or self._has_shown_text else _NO_CALL)
        return AIMessage(text, tool_calls=calls), Step.NO_CALL

    def _no_object(self) -> RefusedCall:
        """Return what to raise where the caller could read neither what was written nor a text."""
        hold, agent = self._paid.hold, self._paid.agent
        return refused_call(
            BudgetExceededError(
                account=agent,
                needed_tokens=hold.tokens + 1,
                left_tokens=hold.tokens,
                limit_tokens=self._paid.run.plan.total_tokens,
                because=f"The answer of {agent!r} needs more than the {self._cap or 0:,} tokens "
                f"that the budget {self._paid.run.plan.name!r} had left for it: it was cut off, "
                f"and what was written cannot be made an object of its schema. Raise total_tokens "
                f"or its share, or shorten the prompt.",
            )
        )

    def _learn_object(self, answer: Answer) -> None:
        usage = answer.message.usage_metadata
        if usage and is_whole(answer.result.generations):
            name, model = schema_name(asked_schema(self.request)), self.request.facts.model_name
            forecaster = self._paid.run.forecaster
            forecaster.observe_object(name, usage["output_tokens"], model=model)

    def _remember(self, answer: Answer) -> None:
        """Keep what an agent says at length: others may read it."""
        text = answer.message.text
        if len(text) >= _REPORT and not self.request.facts.answer_form.is_structured:
            self._paid.run.answers.append(text)

    def rescued(self, error: Exception) -> ChatResult | None:
        """Return an answer that the budget's cap has cut off, and that its class cannot read."""
        if self._cap is None:
            return None
        result = unread_answer(self.request.model, error)
        return result if result is not None and _is_cut(Answer(result)) else None

    def failed(self, error: BaseException) -> None:
        """Charge what was used by a call that brought no answer; free what was never sent."""
        with self._ending():
            self._charge_failure(error)
        if self._limit is not None:
            self._limit.failed(error)

    def _charge_failure(self, error: BaseException) -> None:
        run, request = self._paid.run, self.request
        run.notes.failure(self._paid.agent)
        back = CallAnswer(received=self._text())
        was_sent = not request.run.waiting
        reading = read_failure(error, back, self._own_count(back), was_sent=was_sent)
        if reading.source == "unbilled":
            run.account.release(self._paid.hold)
        elif reading.source != "estimated":
            self._settle(reading.usage, names_of(back))
        elif back.received or is_given_up(error):
            self._settle_cut(reading.usage)
        else:
            self._settle_estimated(None, most=self._paid.most)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Until it is charged, others may count on what it holds beyond its use."""
        if self._own is not None:
            end_reserved(self._key)
        try:
            yield
        finally:
            self._paid.run.outlook.ended(self.request.run.run_id)

    def _settle_delegated(self, reading: UsageReading, names: AnswerNames) -> None:
        """Charge a model that has asked others, who pay themselves, for a call of its own."""
        usage = None if reading.source == "estimated" else reading.usage
        if usage is None or (self._own is not None and self._own.explains(usage)):
            return
        paid = self._paid
        hold = paid.run.account.admit(paid.agent, usage.input_tokens, usage.output_tokens)
        self._settle(usage, names, hold)

    def _settle(self, usage: Usage, names: AnswerNames, own_hold: Hold | None = None) -> None:
        """Charge what the provider says that it bills."""
        hold, priced = own_hold or self._paid.hold, self._paid.priced
        cost = None if priced is None else priced.billed(usage, names, hold.cost_nano_usd)
        self._paid.run.account.settle(hold, usage, cost_nano_usd=cost)

    def _settle_cut(self, arrived: Usage, *, is_reported: bool = False) -> None:
        """Charge a call that was cut off.

        Where the stream was closed, what arrived and a margin. Where it was not, or where there was
        no stream, the provider writes on to the end for all we know: then all that ``max_tokens``
        allows is charged.
        """
        known = None
        if self.request.run.closed:
            known = self._with_thinking(arrived, is_reported=is_reported)
        self._settle_estimated(known, "cancelled", most=max(self._paid.most, arrived.total_tokens))

    def _settle_counted(self, counted: Usage) -> None:
        """Charge a whole answer that its provider has said nothing about."""
        self._settle_estimated(self._with_thinking(counted), "counted", most=self._paid.most)

    def _settle_estimated(
        self, known: Usage | None, outcome: Outcome = "answered", *, most: int
    ) -> None:
        """Charge what is known where the provider has not said it; ``None``: all there may be."""
        paid = self._paid
        settled = paid.run.account.settle(
            paid.hold,
            known,
            outcome=outcome,
            cost_nano_usd=paid.bound(),
            most_tokens=most,
        )
        counted = None if known is None else paid.counted + known.output_tokens
        cut = outcome == "cancelled"
        paid.run.notes.estimated(paid.agent, counted, settled.charged_tokens, was_cut=cut)

    def _with_thinking(self, seen: Usage, *, is_reported: bool = False) -> Usage | None:
        """Add what the model may have thought, which does not arrive; ``None``: nobody knows.

        Args:
            seen: What arrived.
            is_reported: True where the provider reports what it has written with each piece, as
                Gemini does; then thinking is in it.
        """
        if seen.reasoning_tokens or is_reported:
            return seen
        facts = self.request.facts
        room = facts.thinking_tokens or facts.thinking_room
        if room is None:
            return None
        output = min(seen.output_tokens + room, self._paid.most - self._paid.sent)
        return replace(seen, output_tokens=max(seen.output_tokens, output))

    def _came_back(self, answer: Answer) -> CallAnswer:
        """What the model has said, before any stage cut it."""
        run, result = self.request.run, answer.result
        return CallAnswer(result.generations, result.llm_output, run.pieces, self._text())

    def _own_count(self, back: CallAnswer) -> OwnCount:
        count, paid = self.request.facts.counter.count, self._paid

        def sent() -> int:
            held = paid.hold.tokens - count(back.text).tokens
            return charged_tokens(self.request, paid.counted, held)

        calls = sum(
            len(message.tool_calls) + len(message.invalid_tool_calls)
            for generation in back.generations
            if isinstance(message := getattr(generation, "message", None), AIMessage)
        )

        def written(text: str) -> int:
            tokens, allowed = count(text).tokens, paid.most - paid.sent
            return max(tokens, min(tokens + _AROUND_CALL * calls, allowed))

        return OwnCount(sent, written)

    def _text(self) -> str:
        return "".join(self.request.run.received[self._received_before :])

    def _learn(self, usage: Usage) -> None:
        facts, paid = self.request.facts, self._paid
        model = facts.model_name
        input_margin_of(model).learn(
            counted=paid.counted,
            reported=usage.input_tokens,
            messages=len(self.request.messages),
            tools=facts.tool_json_surplus,
        )
        paid.run.forecaster.observe(
            paid.agent,
            usage.output_tokens,
            model=model,
            input_tokens=usage.input_tokens,
            max_words=self._candidate.length,
            run_id=self.request.run.run_id,
        )

    def _marked(self, answer: Answer, steps: list[str]) -> Answer:
        """Count the words that are shown, and mark what was degraded."""
        words = self._candidate.length
        if words is not None and self._tools is not None and not answer.message.tool_calls:
            shown = self._tools.count_words(answer.message.text)
            self._paid.run.notes.words(self._paid.agent, kept=shown <= words)
        if not steps:
            return answer
        generations: list[Any] = []
        for generation in answer.result.generations:
            metadata = {**generation.message.response_metadata, DEGRADED: steps}
            message = generation.message.model_copy(update={"response_metadata": metadata})
            info = generation.generation_info
            generations.append(ChatGeneration(message=message, generation_info=info))
        result = answer.result.model_copy(update={"generations": generations})
        return answer.override(result=result, storable=False)


def _saying(message: AIMessage, other: AIMessage) -> AIMessage:
    """Return *message* with what *other* says."""
    changes = {name: getattr(other, name) for name in _WHAT_IS_SAID}
    changes["additional_kwargs"] = {**message.additional_kwargs, **other.additional_kwargs}
    return message.model_copy(update=changes)


def _is_cut(answer: Answer) -> bool:
    """Whether the cap on its tokens has ended an answer."""
    message = answer.message
    said = [message.response_metadata]
    said += [each.generation_info or {} for each in answer.result.generations]
    return any(map(says_cap_reached, said))


class WatchingCall(BudgetCall):
    """A call whose pieces are seen as they come: to stop it, or to know what was sent.

    The pieces of an object under a cap are kept back to its end, and so are calls of tools: what
    was shown of one that is cut off could not be made whole, or taken back, any more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: AIMessageChunk | None = None
        is_object = self.request.facts.answer_form.is_structured
        self._keeps_all = self._cap is not None and is_object
        self._keeps_calls = self._cap is not None and bool(self.request.facts.tools)

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Let the word limit decide, where there is one."""
        passed = (chunk,) if self._limit is None else self._limit.chunk(chunk)
        return self._keep(passed) if self._keeps_all or self._keeps_calls else passed

    def finish(self) -> Iterable[AIMessageChunk]:
        """Return what the word limit has held back, and what was kept."""
        rest = () if self._limit is None else self._limit.finish()
        if not (self._keeps_all or self._keeps_calls):
            return rest
        rest, kept = self._keep(rest), self._kept
        if kept is None:
            return rest
        if not self.request.run.at_cap:
            return (kept,)
        whole, step = self._whole(kept)
        if whole is None:
            return (kept,)
        self._mended = step
        message = as_message(kept)
        assert isinstance(message, AIMessage)
        return (as_chunk(_saying(message, whole)),)

    def _keep(self, pieces: Iterable[AIMessageChunk]) -> list[AIMessageChunk]:
        """Return those pieces that need not be kept."""
        passed = []
        for piece in pieces:
            if self._kept is not None:
                self._kept += piece
            elif self._keeps_all or piece.tool_call_chunks:
                self._kept = piece
            else:
                self._has_shown_text |= bool(piece.text.strip())
                passed.append(piece)
        return passed
