"""A plan that only watches: everything is counted and told, nothing is changed or refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from langchain_tokenopt.budget import BudgetAlert, BudgetPlan
from langchain_tokenopt.budget.budget_call import DEGRADED
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptWarning
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.tracking.callbacks import track_usage
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import ModelServer, Reply
from tests.support.waiting import until

LONG = "The bridge was painted red in 1931. " * 300 + "\n\nQuestion: Which colour is it?"


def test_what_is_watched_is_counted(model_server: ModelServer) -> None:
    """The account agrees with the server, for plain calls and streams alike."""
    plan = BudgetPlan(total_tokens=100_000)
    model = optimize(model_server.chat_openai(stream_usage=True), plan, observe=True)
    with plan.run() as run, track_usage() as usage:
        model.invoke("Hello there")
        list(model.stream("And in pieces"))
    account = run.report().account

    billed = sum(bill.total_tokens for bill in model_server.billed)
    assert billed == account.spent_tokens == usage.totals().total_tokens
    assert (0, 0) == (account.held_tokens, account.surplus_tokens)


def test_watching_changes_nothing(model_server: ModelServer) -> None:
    """Neither prompt nor limits nor answer; what would have been done is told."""
    plan = BudgetPlan(total_tokens=1_500, agents={"default": {"words": 20}})
    model_server.answer = lambda request: Reply(words=60)
    plain = model_server.chat_openai()
    expected = plain.invoke(LONG)
    with plan.run() as run:
        answer = optimize(plain, plan, observe=True).invoke(LONG)
    line = run.report().agents["default"]

    assert model_server.requests[0].body == model_server.requests[1].body
    assert expected.content == answer.content
    assert DEGRADED not in answer.response_metadata
    assert {"would have shortened the documents": 1} == line.degraded
    assert line.account.spent_tokens > 2_000


@pytest.mark.parametrize("on_exceed", ["degrade", "raise"])
def test_nothing_is_refused(on_exceed: Any) -> None:
    """What exceeds the total is charged as surplus; the refusals that were due are counted."""
    plan = BudgetPlan(total_tokens=60, on_exceed=on_exceed)
    fake = fake_chat(answers=[FakeAnswer("Yes.", Usage(400, 100))] * 3)
    heard: list[Any] = []

    class Sink:
        def record(self, event: Any) -> None:
            heard.append(event)

    with plan.run(sinks=[Sink()]) as run:
        for _ in range(3):
            assert "Yes." == optimize(fake, plan, observe=True).invoke("word " * 400).content
    account = run.report().account

    assert (1_500, False) == (account.spent_tokens, account.stopped)
    assert 3 == account.agents["default"].denied_calls
    assert 1_440 <= account.surplus_tokens <= 1_500
    assert {"denied", "degraded", "alert"} == {event.kind for event in heard}


def test_alerts_are_told() -> None:
    """A budget that is only watched tells when it would run low."""
    alerts: list[str] = []
    plan = BudgetPlan(total_tokens=1_000, max_output_tokens_per_call=10)
    alert = BudgetAlert(lambda event: alerts.append(event.detail))
    fake = fake_chat(answers=[FakeAnswer("Yes.", Usage(250, 10))] * 4)
    with plan.run(alert=alert):
        for _ in range(4):
            optimize(fake, plan, observe=True).invoke("Hi")

    assert ["50%", "75%", "100%"] == [detail[: detail.index("%") + 1] for detail in alerts]


def test_outside_of_a_run_watching_breaks_no_call() -> None:
    """It says that nothing was counted."""
    plan = BudgetPlan(total_tokens=100, name="desk")
    with pytest.warns(TokenOptWarning, match=r"'desk' .* outside of its run.* not counted"):
        assert optimize(fake_chat(answers=["Yes."]), plan, observe=True).invoke("Hi")


def test_a_watched_call_that_fails_is_freed() -> None:
    """As one that is not watched."""
    plan = BudgetPlan(total_tokens=1_000)
    fake = fake_chat(answers=[FakeAnswer(error=ValueError("refused"))])
    with plan.run() as run, pytest.raises(ValueError, match="refused"):
        optimize(fake, plan, observe=True).invoke("Hi")
    account = run.report().account

    assert (0, 0) == (account.spent_tokens, account.held_tokens)


def test_what_others_have_exceeded_does_not_stop_who_only_watches() -> None:
    """In a run that refuses every further call, too."""
    plan = BudgetPlan(total_tokens=100, on_exceed="raise")
    with plan.run():
        with pytest.raises(BudgetExceededError):
            optimize(fake_chat(), plan).invoke("word " * 400)

        assert "Yes." == optimize(fake_chat(answers=["Yes."]), plan, observe=True).invoke("?").text


async def test_a_watched_call_of_unknown_cost_is_charged_at_what_it_may_have_cost() -> None:
    """Also one that would have been refused, for which nothing was reserved."""
    plan = BudgetPlan(total_tokens=100, max_output_tokens_per_call=300, on_exceed="raise")
    fake = fake_chat("_agenerate", delay_seconds=60)
    with plan.run() as run:
        task = asyncio.create_task(optimize(fake, plan, observe=True).ainvoke("word " * 400))
        await until(lambda: fake.calls)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert run.report().account.spent_tokens > 700
