"""Calls of models that nobody staged: reserved and charged all the same, refused when all is spent.

LangChain calls an inline handler before each call is sent, and an error raised there stops the
call. What a handler cannot do is shorten a prompt or bound an answer; that takes ``optimize``.
Under ``on_exceed="degrade"`` the error is one that tools and nodes turn into an answer
(``budget/refusals.py``), so that the run goes on.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from uuid import UUID

from langchain_core.outputs import LLMResult

from langchain_tokenopt.budget.arithmetic import Outcome
from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.input_margin import input_margin_of
from langchain_tokenopt.budget.leases import CallCost
from langchain_tokenopt.budget.money import PricedCall, PriceTerms, price_terms
from langchain_tokenopt.budget.refusals import refused_call
from langchain_tokenopt.budget.request_budget import KNOWN_ANSWERS, RequestBudget
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptError
from langchain_tokenopt.core.event_loop import RunWatch
from langchain_tokenopt.core.host_compat import end_unheard_starts, expect_errors_of
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.core.model_runs import (
    ModelRun,
    begin_reserved,
    calling_reserved_run,
    end_reserved,
    reserved_run,
)
from langchain_tokenopt.core.staged_runs import notify_refused
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import TokenCount, counter_for
from langchain_tokenopt.pricing.providers import base_url_in, billing_provider
from langchain_tokenopt.request.output_caps import caps_in
from langchain_tokenopt.stage import is_disabled
from langchain_tokenopt.tracking.call_starts import CallStart, ModelStartHandler
from langchain_tokenopt.tracking.provider_usage import (
    CallAnswer,
    OwnCount,
    is_marked_hit,
    names_of,
    read_answer,
    read_failure,
)

__all__ = ["CallbackGuard"]

_LONGEST_ANSWER: Final = 2_048
"""Held for an answer that has no ``max_tokens`` and of which nothing is known, where there is as
much."""
_LONG_ANSWER: Final = 613
"""Least that is held for such an answer: the 99th percentile of the 9,683 answers in the first half
of the Azure LLM inference trace of conversations, 2023 (its longest has 1,000)."""


class _Batch(threading.local):
    """Calls that one ``generate`` has announced in this thread and will send together.

    It sends none of them when one is refused, and LangChain does not tell of the others' end.
    """

    def __init__(self) -> None:
        self._begun: list[UUID] = []

    def add(self, run_id: UUID, size: int) -> None:
        """Take note of one of *size* calls."""
        self._begun.append(run_id)
        if len(self._begun) >= size:
            self._begun.clear()

    def end(self) -> list[UUID]:
        """Forget the calls that have begun, and return them."""
        begun, self._begun = self._begun, []
        return begun


@dataclass(slots=True)
class _Call:
    hold: Hold
    agent: str
    model: str
    counted: int
    """Its input as we count it."""
    sent: int
    """Its input as the provider may count it."""
    priced: PricedCall | None
    """What it costs; ``None`` where nothing limits money."""
    batch_size: int
    handled: BaseException | None
    """An exception that was being handled when the call began."""
    own_run: ModelRun
    caller: ModelRun | None
    """The run of the model that makes this call, if one does."""
    messages: int
    """How many it sends."""
    received: list[Any] = field(default_factory=list)
    """Pieces of the answer: messages or texts."""

    def came_back(self, response: LLMResult | None) -> CallAnswer:
        """What has come back for the call."""
        if response is None or not response.generations:
            return CallAnswer(pieces=self.received)
        return CallAnswer(
            response.generations[0],
            response.llm_output,
            self.received,
            batch_size=self.batch_size,
        )

    def bound(self) -> CallCost:
        """What it costs when only a bound of its tokens is known."""
        return _bound(self.priced, self.sent)

    def own_count(self, answer: CallAnswer) -> OwnCount:
        """How to count it ourselves."""
        count, margin = counter_for(self.model).count, input_margin_of(self.model)

        def sent() -> int:
            held = self.hold.tokens - count(answer.text).tokens
            return margin.charged(self.counted, held, messages=self.messages)

        return OwnCount(sent, lambda text: count(text).tokens)


class CallbackGuard(ModelStartHandler):
    """Reserves before a call is sent, and settles when it has ended. Staged models are left alone.

    No lock is held here: the garbage collector may close an abandoned stream at any moment, whose
    end comes in on the thread that would hold it.

    Args:
        run: Whose account pays.
    """

    raise_error = True
    """A refusal must reach the caller."""
    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = ignore_retry = True

    def __init__(self, run: BudgetRun) -> None:
        self._run = run
        self._calls: dict[int, _Call] = {}
        """By the integer of the run id, whose hash runs no code."""
        self._batch = _Batch()
        self._watch = RunWatch(self._give_up)

    def on_start(self, start: CallStart) -> None:
        """Reserve what the call can cost; refuse it and what was to be sent together with it.

        Raises:
            BudgetExceededError: The budget does not have it.
        """
        if start.is_staged or is_disabled():
            return
        run_id = start.run_id
        try:
            self._begin(start)
        except TokenOptError:
            for begun in self._batch.end():
                notify_refused(begun)
                if (call := self._pop(begun)) is not None:
                    self._run.account.release(call.hold)
            notify_refused(run_id)
            end_unheard_starts()
            raise
        self._batch.add(run_id, start.batch_size)
        if start.messages is not None:  # text models report the end of a cancelled call
            self._watch.begin(run_id)

    def __copy__(self) -> CallbackGuard:
        """Return this handler: a copied configuration is under the same run."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CallbackGuard:
        """Return this handler, as :meth:`__copy__` does."""
        return self

    def _begin(self, start: CallStart) -> None:
        run, model = self._run, start.model
        caller = _caller(start.parent_run_id)
        if caller is not None:
            caller.hand_over()
        made_by = attribution_of(start.metadata)
        agent, owners = made_by.agent, run.owners.of(made_by)
        run.notes.unstaged(agent, model or "a model without a name")
        run.refuse_if_exceeded(owners)
        counted = _input_of(start)
        messages = len(start.messages or "1")
        sent = input_margin_of(model).applied(
            counted.tokens, messages=messages, exact=counted.exact
        )
        most, least = self._answer_of(agent, start)
        needs = RequestBudget(counted.tokens, sent, least, least, most, False)  # as it is, or not
        priced = None if run.prices is None else run.prices.of(_terms(start))
        with run.outlook.asking(agent, needs, start.run_id) as demands:
            hold = run.account.reserve(
                agent,
                sent,
                most,
                min_output_tokens=least,
                cost_nano_usd=_bound(priced, sent),
                owners=owners,
                demands=demands(),
            )
        if not isinstance(hold, Hold):
            run.notes.refusal(agent, hold.sentence())
            raise run.exceed(hold) if run.plan.on_exceed == "raise" else _refusal(hold, start)
        self._calls[start.run_id.int] = _Call(
            hold,
            agent,
            model,
            counted.tokens,
            sent,
            priced,
            start.batch_size,
            sys.exception(),
            begin_reserved(start.run_id.int, partial(run.account.release, hold)),
            caller,
            messages,
        )

    def _answer_of(self, agent: str, start: CallStart) -> tuple[int, int]:
        """Return the output to hold for, and the least with which the call is sent.

        A call's own ``max_tokens`` bounds each of its choices, and a low one is held in full.
        Without one nothing bounds them (a handler cannot set one: LangChain makes the request from
        the model's own settings), and some integrations set one that no answer comes near to. Then
        the call is sent only if the answer that is expected fits: the 99th percentile of the
        agent's answers, once there are enough of them, else the plan's
        ``max_output_tokens_per_call``, else what is usual.
        """
        run, times = self._run, _choices(start.params)
        cap = min((cap for cap in caps_in(start.params) if cap > 0), default=math.inf)
        cap *= times
        known = run.forecaster.quantile(0.99, agent, model=start.model) or 0
        if cap <= _LONGEST_ANSWER:
            most = least = cap
        elif run.forecaster.observations(agent) >= KNOWN_ANSWERS:
            most = least = known
        else:
            planned = run.plan.max_output_tokens_per_call
            most = max(known, (planned or _LONGEST_ANSWER) * times)
            least = max(known, (planned or _LONG_ANSWER) * times)
        return int(min(cap, most)), int(min(cap, least))

    def _give_up(self, key: int, is_over: bool) -> None:
        """See to it that a cancelled call is charged: LangChain does not report its end."""
        call = self._calls.get(key)
        if call is not None and (is_over or not call.received):
            self.on_llm_error(asyncio.CancelledError(), run_id=UUID(int=key))

    def on_llm_new_token(
        self, token: str | list[Any], *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> None:
        """Take note of a piece of the answer: a stream may end before any usage is reported."""
        call = self._calls.get(run_id.int)
        if call is not None:
            call.received.append(token if chunk is None else getattr(chunk, "message", token))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge what the call has used."""
        call = self._pop(run_id)
        if call is None:
            return
        account, answer = self._run.account, call.came_back(response)
        reading = read_answer(answer, call.own_count(answer))
        usage = reading.usage
        if (
            not call.received
            and answer.generations
            and is_marked_hit(answer.generations[0], run_id)
        ):
            account.settle(call.hold, usage, outcome="cached")
            return
        if call.caller is not None:
            call.caller.inner.append(usage)
        if call.own_run.delegates:  # the models that it has asked have paid
            if reading.source != "estimated" and not call.own_run.explains(usage):
                call.hold = account.admit(call.agent, usage.input_tokens, usage.output_tokens)
                self._settle(call, usage, answer)
            return
        if reading.source == "estimated":
            self._settle_estimated(call, usage, "counted")
        else:
            input_margin_of(call.model).learn(
                counted=call.counted, reported=usage.input_tokens, messages=call.messages
            )
            self._settle(call, usage, answer)
        self._run.forecaster.observe(call.agent, usage.output_tokens, model=call.model)
        self._run.outlook.answered(call.agent, usage)

    def _settle(self, call: _Call, usage: Usage, answer: CallAnswer) -> None:
        """Charge what the provider says that it bills."""
        hold, cost = call.hold, None
        if call.priced is not None:
            cost = call.priced.billed(usage, names_of(answer), hold.cost_nano_usd)
        self._run.account.settle(hold, usage, cost_nano_usd=cost)

    def _settle_estimated(
        self, call: _Call, known: Usage | None, outcome: Outcome = "answered"
    ) -> None:
        """Charge what is known where the provider has not said it; ``None``: all there may be."""
        settled = self._run.account.settle(
            call.hold,
            known,
            outcome=outcome,
            cost_nano_usd=None if known is None else call.bound(),
        )
        counted = None if known is None else call.counted + known.output_tokens
        cut = outcome == "cancelled"
        self._run.notes.estimated(call.agent, counted, settled.charged_tokens, was_cut=cut)

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        **kwargs: Any,
    ) -> None:
        """Charge what arrived, with a margin; free the reservation of what was never sent.

        A call that was given up without a stream is charged in full: its provider writes on.
        """
        call = self._pop(run_id)
        if call is None:
            return
        self._run.notes.failure(call.agent)
        account, answer = self._run.account, call.came_back(response)
        reading = read_failure(error, answer, call.own_count(answer), handled=call.handled)
        if reading.source == "unbilled":
            account.release(call.hold)
        elif reading.source != "estimated":
            self._settle(call, reading.usage, answer)
        elif answer.text or isinstance(error, GeneratorExit):
            self._settle_estimated(call, reading.usage, "cancelled")
        else:
            self._settle_estimated(call, None)

    def _pop(self, run_id: UUID) -> _Call | None:
        call = self._calls.pop(run_id.int, None)
        if call is not None:
            self._watch.end(run_id.int)
            end_reserved(run_id.int)
        return call


expect_errors_of(CallbackGuard)


def _caller(parent_run_id: UUID | None) -> ModelRun | None:
    """Return the run of the model that makes a call which begins here, if one does."""
    parent = None if parent_run_id is None else reserved_run(parent_run_id.int)
    return parent or reserved_run(calling_reserved_run())


def _choices(params: Mapping[str, Any]) -> int:
    """Return how many answers are asked for: each may be as long as ``max_tokens``."""
    asked = params.get("n")
    return asked if isinstance(asked, int) and asked > 0 else 1


def _refusal(denial: Denial, start: CallStart) -> TokenOptError:
    """Return an error that ends this call, and not the run."""
    error, asked = denial.error(), text_of(start.messages[-1]) if start.messages else ""
    return refused_call(error, asked) if isinstance(error, BudgetExceededError) else error


def _bound(priced: PricedCall | None, sent: int) -> CallCost:
    """Return what a call can cost, by the length of its answer."""
    return None if priced is None else lambda output: priced.most(sent, output)


def _input_of(start: CallStart) -> TokenCount:
    """Count what is sent."""
    if start.messages is None:
        return counter_for(start.model).count(start.prompt)
    return count_messages(start.messages, start.params.get("tools"), start.model)


def _terms(start: CallStart) -> PriceTerms:
    """Read what the call says about its price."""
    provider, params = start.metadata.get("ls_provider"), start.params
    billed_by = billing_provider(
        provider, base_url_in(start.serialized.get("kwargs") or {}, provider)
    )
    tools = params.get("tools") or ()
    terms = price_terms(start.model, billed_by, params, start.messages or (), tools)
    return replace(terms, alias=params.get("model") or params.get("model_name"))
