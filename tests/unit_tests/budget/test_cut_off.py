"""Answers that are cut off: what their providers may bill, and what the account knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.usage import Usage
from tests.support.fakes import FakeAnswer, FakeChat, fake_chat
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until

PROSE = "The price rose again in spring and nobody on the desk knew the reason for it. "


def _billed(server: ModelServer) -> int:
    return sum(usage.total_tokens for usage in server.billed)


def _limit_all(server: ModelServer, plan: BudgetPlan) -> Any:
    """Let the word limit cut answers off until the budget answers in the model's place."""
    server.answer = lambda request: Reply(text=PROSE * 60, writes_on=True)
    model = optimize(server.chat_openai(), plan)
    with plan.run() as run:
        for _ in range(40):
            model.invoke("Report on the market.")
    return run.report()


def _give_up_all(server: ModelServer, plan: BudgetPlan, **reply: Any) -> Any:
    """Read the first piece of streams until the budget answers in the model's place."""
    server.answer = lambda request: Reply(text=PROSE * 60, **reply)
    model = optimize(server.chat_openai(max_tokens=200), plan)
    with plan.run() as run:
        for _ in range(60):
            stream = model.stream("Report on the market.")
            next(stream)
            stream.close()
    return run.report()


@pytest.mark.parametrize("cut_by", ["word limit", "reader"])
def test_what_providers_may_have_written_on_is_no_secret(
    model_server: ModelServer, cut_by: str
) -> None:
    """A provider that never notices a cut bills no more than what is spent and what is told."""
    if cut_by == "reader":
        report = _give_up_all(model_server, BudgetPlan(total_tokens=2_000), writes_on=True)
    else:
        plan = BudgetPlan(total_tokens=3_000, agents={"default": {"words": 60}})
        report = _limit_all(model_server, plan)
    account, line = report.account, report.agents["default"].account
    possible = account.possible_surplus_tokens

    assert account.spent_tokens < _billed(model_server) <= account.spent_tokens + possible
    assert possible == line.possible_surplus_tokens
    assert f"up to {possible:,} more" in str(report)


@pytest.mark.parametrize("cut_by", ["word limit", "reader"])
def test_by_option_no_provider_can_bill_more_than_the_account(
    model_server: ModelServer, cut_by: str
) -> None:
    """All that ``max_tokens`` allowed is charged, so that the bill stays within the total."""
    plan = BudgetPlan(
        total_tokens=2_000, agents={"default": {"words": 60}}, cancellation_charge="reservation"
    )
    if cut_by == "reader":
        account = _give_up_all(model_server, plan, writes_on=True).account
    else:
        account = _limit_all(model_server, plan).account

    assert 1_000 < _billed(model_server) <= account.spent_tokens <= 2_000
    assert (0, 0) == (account.possible_surplus_tokens, account.surplus_tokens)


def test_a_provider_that_notices_is_charged_with_a_margin(model_server: ModelServer) -> None:
    """A little above the bill, and far below the reservation, so that the budget can be used."""
    plan = BudgetPlan(total_tokens=2_000)
    spent = _give_up_all(model_server, plan, pace_seconds=0.005).account.spent_tokens

    assert 15 < len(model_server.requests)
    assert _billed(model_server) <= spent <= _billed(model_server) + 70 * len(model_server.requests)


def test_no_more_is_charged_than_the_call_allowed(model_server: ModelServer) -> None:
    """The call's own ``max_tokens`` bounds what is unknown, not what was held beyond it."""
    model_server.answer = lambda request: Reply(text=PROSE * 60)
    plan = BudgetPlan(
        total_tokens=30_000, agents={"default": {"words": 10}}, cancellation_charge="reservation"
    )
    with plan.run() as run:
        optimize(model_server.chat_openai(), plan).invoke("Report on it.")
    allowed = model_server.requests[0].body["max_completion_tokens"]

    assert allowed < 300
    assert allowed < run.report().account.spent_tokens < allowed + 40


async def test_a_cancelled_call_without_a_stream_is_charged_in_full() -> None:
    """Nobody can see it stop: its provider writes to the end."""
    plan = BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=500)
    spent = []
    for staged in (True, False):
        fake = fake_chat("_agenerate", delay_seconds=60)
        with plan.run() as run:
            model = optimize(fake, plan) if staged else fake
            task = asyncio.create_task(model.ainvoke("Hello"))
            await until(lambda fake=fake: fake.calls)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0)
        spent.append(run.report().account.spent_tokens)

    assert all(500 < tokens < 550 for tokens in spent)


class _RefusedStreamError(Exception):
    status_code = 400


async def test_a_call_that_was_asked_again_without_a_stream_is_charged_in_full() -> None:
    """That an earlier stream was closed says nothing of the call that followed it."""
    answers = [FakeAnswer(error=_RefusedStreamError("no streams here"))]
    model = fake_chat("_agenerate", "_astream", answers=answers, delay_seconds=60)
    plan = BudgetPlan(total_tokens=10_000, agents={"default": {"words": 30}})
    with plan.run() as run, pytest.warns(TokenOptWarning, match="refused to stream"):
        task = asyncio.create_task(optimize(model, plan).ainvoke("Hello"))
        await until(lambda: len(model.calls) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert run.report().account.spent_tokens > 2_000


async def test_a_cancelled_stream_is_charged_for_what_came() -> None:
    """Its connection was closed before anything else was written."""
    plan = BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=500)
    model = optimize(fake_chat("_astream", delay_seconds=0.02), plan)

    received = []

    async def read() -> None:
        async for chunk in model.astream("Hello"):
            received.append(chunk)  # noqa: PERF401  seen while it grows

    with plan.run() as run:
        task = asyncio.create_task(read())
        await until(lambda: received)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert run.report().account.spent_tokens < 100


class _Endless:
    """A stream that cannot be closed."""

    def __iter__(self) -> _Endless:
        return self

    def __next__(self) -> ChatGenerationChunk:
        return ChatGenerationChunk(message=AIMessageChunk(content="word "))


class _Unclosable(FakeChat):
    max_tokens: int | None = None

    def _stream(self, *_: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        return _Endless()


def test_a_stream_that_cannot_be_closed_is_charged_in_full() -> None:
    """Its provider has no way to notice."""
    plan = BudgetPlan(total_tokens=10_000, agents={"default": {"words": 20}})
    with plan.run() as run:
        optimize(_Unclosable(max_tokens=400), plan).invoke("Hello")

    assert 60 < run.report().account.spent_tokens
    assert 0 == run.report().account.possible_surplus_tokens


@pytest.mark.parametrize(
    ("settings", "charged"),
    [
        ({"model": "o4-mini"}, range(2_000, 2_050)),  # thinks, for nobody knows how long
        ({"model": "gpt-4.1-mini"}, range(70, 110)),
    ],
    ids=lambda value: str(value),
)
def test_thinking_does_not_arrive_and_is_charged_all_the_same(
    model_server: ModelServer, settings: Any, charged: range
) -> None:
    """What a thinking model wrote is not what was seen, so all that it may have written counts."""
    model_server.answer = lambda request: Reply(text=PROSE * 60, pace_seconds=0.001)
    plan = BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=2_000)
    with plan.run() as run:
        stream = optimize(model_server.chat_openai(**settings), plan).stream("Report on it.")
        next(stream)
        stream.close()

    assert run.report().account.spent_tokens in charged


def test_thinking_that_is_reported_with_the_pieces_is_known() -> None:
    """A provider that tells with each piece what it has written leaves nothing to assume."""
    text = "The price rose. " * 40
    answer = FakeAnswer(text, Usage(20, 480), reported="so_far")
    plan = BudgetPlan(total_tokens=20_000, agents={"default": {"words": 6}})
    with plan.run() as run:
        optimize(fake_chat("_stream", model="o4-mini", answers=[answer]), plan).invoke("Hello")

    assert run.report().account.spent_tokens < 500


def test_thinking_of_known_length_is_charged_once(model_server: ModelServer) -> None:
    """A budget for thinking that was set bounds what does not arrive."""
    model_server.answer = lambda request: Reply(text=PROSE * 60, pace_seconds=0.001)
    plan = BudgetPlan(total_tokens=20_000, max_output_tokens_per_call=4_000)
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    model = optimize(model_server.chat_anthropic(max_tokens=4_000, thinking=thinking), plan)
    with plan.run() as run:
        stream = model.stream("Report on it.")
        next(stream)
        stream.close()

    assert run.report().account.spent_tokens in range(1_024, 1_600)


def test_an_answer_without_reported_usage_is_counted_and_flagged() -> None:
    """It came whole, so it can be counted; the report says that it is an estimate."""
    plan = BudgetPlan(total_tokens=10_000)
    model = fake_chat(answers=[FakeAnswer("One two three.")] * 2)
    with plan.run() as run:
        optimize(model, plan).invoke("Hello")
        model.invoke("Hello")
    line = run.report().agents["default"].account

    assert (2, 2) == (line.calls, line.estimated_calls)
    assert 20 < line.spent_tokens < 60


def test_a_thinking_models_answer_without_reported_usage_is_charged_in_full() -> None:
    """What arrived can be counted, what it thought cannot: unknown usage costs the reservation."""
    plan = BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=500)
    with plan.run() as run:
        optimize(fake_chat(model="o4-mini", answers=[FakeAnswer("One.")]), plan).invoke("Hello")

    assert 500 < run.report().account.spent_tokens < 540
