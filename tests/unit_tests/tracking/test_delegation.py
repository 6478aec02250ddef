"""A model that asks other models is billed for what they are, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_tokenopt import BudgetPlan, optimize, track_usage
from langchain_tokenopt.core.model_runs import _reserved
from tests.support.stages import Recording

TOTAL = 1_200


class Priced(BaseChatModel):
    """Answers with a bill of 1,000 and 200 tokens, or of another size."""

    size: int = TOTAL

    @property
    def _llm_type(self) -> str:
        return "priced"

    @property
    def _usage(self) -> Any:
        return {
            "input_tokens": self.size - 200,
            "output_tokens": 200,
            "total_tokens": self.size,
        }

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage("four", usage_metadata=self._usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        yield ChatGenerationChunk(message=AIMessageChunk("fo"))
        yield ChatGenerationChunk(message=AIMessageChunk("ur", usage_metadata=self._usage))


class Outer(BaseChatModel):
    """Asks another model."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "outer"

    def _generate(
        self, messages: list[BaseMessage], *args: Any, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return _result(self.inner.invoke(messages))


class Linked(Outer):
    """Hands its run down."""

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if run_manager is None:
            return _result(self.inner.invoke(messages))
        handlers = run_manager.handlers
        below = CallbackManager(handlers, handlers, parent_run_id=run_manager.run_id)
        return _result(self.inner.invoke(messages, {"callbacks": below}))


class ByHand(Outer):
    """Calls the protected method with its own run."""

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self.inner._generate(messages, stop, run_manager, **kwargs)


class ByHandAlone(Outer):
    """Calls the protected method without any run."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return self.inner._generate(messages)


class Async(Outer):
    """Has an asynchronous method of its own."""

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        return _result(await self.inner.ainvoke(messages))


class Streaming(Outer):
    """Hands on a stream."""

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        for chunk in self.inner.stream(messages):
            yield ChatGenerationChunk(message=chunk)


class Voting(Outer):
    """Asks twice and answers with the second answer."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.inner.invoke(messages)
        return _result(self.inner.invoke(messages))


class Silent(Outer):
    """Reports no usage."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return _result(AIMessage(self.inner.invoke(messages).text))


class Classifying(Priced):
    """Asks a small model first, and then makes a call of its own."""

    inner: Any

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.inner.invoke("Which?")
        return super()._generate(messages, *args, **kwargs)


def _result(message: Any) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


def _invoke(model: Any) -> None:
    model.invoke("2 + 2?")


def _ainvoke(model: Any) -> None:
    asyncio.run(model.ainvoke("2 + 2?"))


def _stream(model: Any) -> None:
    list(model.stream("2 + 2?"))


def _astream(model: Any) -> None:
    async def read() -> None:
        _ = [chunk async for chunk in model.astream("2 + 2?")]

    asyncio.run(read())


WAYS = [_invoke, _ainvoke, _stream, _astream]
WRAPPERS = [Outer, Linked, ByHand, ByHandAlone, Async, Streaming, Voting, Silent]
STAGED = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(("outer", "inner"), STAGED, ids=["plain", "outer", "inner", "both"])
def test_trackers_and_plans_charge_one_bill(way, wrapper, outer, inner):
    """Whoever of the two is staged, however the one asks the other."""
    plan = BudgetPlan(total_tokens=100_000)
    model: Any = Priced()
    model = wrapper(inner=optimize(model, plan) if inner else model)
    model = optimize(model, plan) if outer else model
    with plan.run() as run, track_usage() as usage:
        way(model)
        spent = run.report().account.spent_tokens
    calls = 2 if wrapper is Voting else 1
    assert (usage.totals().calls, usage.totals().total_tokens) == (calls, calls * TOTAL)
    assert spent == calls * TOTAL
    assert not _reserved


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("outer", "inner"), STAGED, ids=["plain", "outer", "inner", "both"])
def test_a_call_of_its_own_is_billed_beside_those_that_a_model_makes(way, outer, inner):
    """A classifier before the answer is a second call."""
    plan = BudgetPlan(total_tokens=100_000)
    small: Any = Priced(size=300)
    model: Any = Classifying(inner=optimize(small, plan) if inner else small)
    model = optimize(model, plan) if outer else model
    with plan.run() as run, track_usage() as usage:
        model.disable_streaming = True
        way(model)
        spent = run.report().account.spent_tokens
    assert (usage.totals().calls, usage.totals().total_tokens) == (2, TOTAL + 300)
    assert spent == TOTAL + 300


def test_a_call_made_while_a_stream_is_read_is_nobodys_inner_call():
    """The stream's method is not at work then, although the stream is under way."""
    plan = BudgetPlan(total_tokens=100_000)
    with plan.run() as run, track_usage() as usage:
        pieces = len([Priced().invoke("3 + 3?") for _ in Priced().stream("2 + 2?")])
        spent = run.report().account.spent_tokens
    assert (usage.totals().calls, usage.totals().total_tokens) == (pieces + 1, (pieces + 1) * TOTAL)
    assert spent == (pieces + 1) * TOTAL


def test_a_call_that_a_stage_makes_is_its_own():
    """It has the same bill by chance."""

    class Asking(Recording):
        def open(self, request: Any) -> Any:
            Priced().invoke("Shorten this.")
            return super().open(request)

    with track_usage() as usage:
        optimize(Priced(), Asking()).invoke("2 + 2?")
    assert (usage.totals().calls, usage.totals().total_tokens) == (2, 2 * TOTAL)
