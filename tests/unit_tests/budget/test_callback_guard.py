"""Models that nobody staged: what is held for them, and what is said of those that are refused."""

from __future__ import annotations

import asyncio
import gc
from contextlib import ExitStack
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langchain_tokenopt.budget import BudgetPlan, BudgetRun
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler, track_usage
from tests.support.fakes import FakeAnswer, FakeTextModel, fake_chat
from tests.support.model_server import ModelServer, Reply

TOO_LONG = "word " * 200


def _ask(model: Any, usage: TokenUsageCallbackHandler, *, is_async: bool) -> Any:
    config: Any = {"callbacks": [usage]}
    if is_async:
        return asyncio.run(model.ainvoke(TOO_LONG, config=config))
    return model.invoke(TOO_LONG, config=config)


# Refused calls


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_refused_call_is_recorded_as_refused(is_async: bool) -> None:
    """Neither abandoned nor failed: nothing was sent, nothing is billed, nothing is left behind."""
    usage, model = TokenUsageCallbackHandler(), fake_chat("_agenerate")
    with BudgetPlan(total_tokens=100).run(), pytest.raises(BudgetExceededError):
        _ask(model, usage, is_async=is_async)
    gc.collect()  # what was never awaited would be told of here

    assert [] == model.calls
    assert [("refused", 0, 0)] == [
        (record.status, record.spent_tokens, record.cost_nano_usd) for record in usage.records
    ]
    assert {} == usage._calls


@pytest.mark.parametrize("inside", [False, True], ids=["tracker outside", "tracker inside"])
async def test_a_tracker_in_force_hears_of_refusals(inside: bool) -> None:
    """Wherever it stands, and also of those of a task that has ended by then."""
    run, tracking = BudgetPlan(total_tokens=100).run(), track_usage()
    heard: list[TokenUsageCallbackHandler] = []
    with ExitStack() as stack:
        for context in (run, tracking) if inside else (tracking, run):
            entered = stack.enter_context(context)
            if isinstance(entered, TokenUsageCallbackHandler):
                heard.append(entered)
        task = asyncio.create_task(fake_chat("_agenerate").ainvoke(TOO_LONG))
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        gc.collect()

    assert ["refused"] == [record.status for record in heard[0].records]
    assert 0 == heard[0].totals().total_tokens
    assert {} == heard[0]._calls


@pytest.mark.parametrize("on_exceed", ["raise", "degrade"])
def test_a_staged_call_is_refused_in_the_same_words(on_exceed: Any) -> None:
    """An error or a made-up answer: the record says refused, not failed and not cached."""
    plan = BudgetPlan(total_tokens=30, on_exceed=on_exceed)
    with track_usage() as usage, plan.run():
        try:
            optimize(fake_chat(), plan).invoke(TOO_LONG)
        except BudgetExceededError:
            assert "raise" == on_exceed

    (record,) = usage.records
    assert ("refused", False, 0, 0) == (
        record.status,
        record.cached,
        record.spent_tokens,
        record.cost_nano_usd,
    )


def test_the_ledger_keeps_refusals(tmp_path: Any) -> None:
    """They come back as what they were."""
    plan, ledger = BudgetPlan(total_tokens=100), Ledger(tmp_path / "ledger.db")
    with ledger, track_usage(sinks=[ledger]), plan.run(), pytest.raises(BudgetExceededError):
        fake_chat().invoke(TOO_LONG)

    with Ledger(tmp_path / "ledger.db") as again:
        assert ["refused"] == [call.status for call in again.calls()]


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_calls_that_were_to_be_sent_with_a_refused_one_are_freed(kind: str) -> None:
    """One refusal stops the whole batch, and LangChain does not tell of the others' end."""
    prompts: Any = ["Hi", TOO_LONG * 3]
    model: Any = FakeTextModel()
    if kind == "chat":
        prompts, model = [[HumanMessage(prompt)] for prompt in prompts], fake_chat()
    plan = BudgetPlan(total_tokens=900)
    with track_usage() as usage, plan.run() as run, pytest.raises(BudgetExceededError):
        model.generate(prompts)
    account = run.report().account

    assert (0, 0) == (account.held_tokens, account.spent_tokens)
    assert ["refused", "refused"] == [record.status for record in usage.records]


async def test_a_long_task_gathers_no_callbacks() -> None:
    """Each call watches its task for a cancellation, and only until the call has ended."""
    task: Any = asyncio.current_task()
    before = len(task._callbacks or ())
    with BudgetPlan(total_tokens=100_000).run():
        for _ in range(5):
            await fake_chat("_agenerate").ainvoke("Hi")

    assert before == len(task._callbacks or ())


# What is held


def _held(run: BudgetRun, model: Any) -> int:
    """Return the tokens that are held while *model* is asked, beyond a short prompt."""
    seen: list[int] = []

    class Looking(TokenUsageCallbackHandler):
        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            seen.append(run.report().account.held_tokens)

    list(model.stream("Hi", config={"callbacks": [Looking()]}))
    return seen[0]


def test_an_answer_of_unknown_length_is_held_generously() -> None:
    """Nobody can bound it, so what hardly any answer exceeds is held."""
    with BudgetPlan(total_tokens=10_000).run() as run:
        held = _held(run, fake_chat("_stream"))

    assert 2_048 <= held < 2_100


def test_the_plan_may_say_how_long_answers_are() -> None:
    """Its limit on answers is what is held, where it cannot be imposed."""
    with BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=300).run() as run:
        held = _held(run, fake_chat("_stream"))

    assert 300 <= held < 350


def test_what_is_known_of_an_agent_is_held() -> None:
    """After thirty answers their lengths decide, whatever the plan says."""
    forecaster = UsageForecaster()
    for length in range(60):
        forecaster.observe("default", 400 + length, model="fake-1")
    plan = BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=3_000)
    with plan.run(forecaster=forecaster) as run:
        held = _held(run, fake_chat("_stream"))

    assert 450 <= held < 700


@pytest.mark.parametrize(("left", "is_sent"), [(400, False), (700, True)])
def test_a_call_without_max_tokens_is_not_sent_on_a_few_tokens(left: int, is_sent: bool) -> None:
    """Its answer would exceed what is held; with ``max_tokens`` it may be sent."""
    with BudgetPlan(total_tokens=left).run():
        model = fake_chat()
        if is_sent:
            assert model.invoke("Hi").content
        else:
            with pytest.raises(BudgetExceededError, match=r"needs 6\d\d tokens .* has 400 of 400"):
                model.invoke("Hi")

    assert is_sent == bool(model.calls)


def test_what_exceeds_the_hold_is_reported() -> None:
    """A surplus that no handler can prevent is at least not silent."""
    plan = BudgetPlan(total_tokens=3_000, max_output_tokens_per_call=100)
    with plan.run() as run:
        fake_chat(answers=[FakeAnswer("Long.", Usage(5, 2_500))]).invoke("Hi")
    report = run.report()

    assert 2_505 == report.account.spent_tokens
    assert 2_300 < report.account.surplus_tokens < 2_500
    assert {"default": ("fake-1",)} == report.unstaged_models


def test_a_cap_that_no_answer_comes_near_to_is_not_held(model_server: ModelServer) -> None:
    """Some integrations set one of tens of thousands of tokens where nobody has asked for any."""
    with BudgetPlan(total_tokens=10_000).run() as run:
        list(model_server.chat_anthropic().stream("Hi"))
    (sent,) = model_server.requests

    assert sent.body["max_tokens"] > 10_000
    assert 0 < run.report().account.spent_tokens < 100


def test_a_cap_that_was_set_is_held_in_full() -> None:
    """It is the bound of what can be billed, for each choice."""
    model = fake_chat()
    with BudgetPlan(total_tokens=700).run(), pytest.raises(BudgetExceededError, match="needs 9"):
        model.bind(max_tokens=300, n=3).invoke("Hi")

    assert [] == model.calls


def test_a_call_that_the_provider_has_refused_is_free(model_server: ModelServer) -> None:
    """Nothing was written, also if LangChain passes the refusal on as an empty answer."""
    model_server.script(Reply(status=500), Reply(status=429), "Yes.")
    model = model_server.chat_openai().with_retry(
        stop_after_attempt=3, wait_exponential_jitter=False
    )
    with BudgetPlan(total_tokens=10_000).run() as run:
        model.invoke("Is it?")
    account = run.report().account

    assert sum(usage.total_tokens for usage in model_server.billed) == account.spent_tokens
    assert (0, 0) == (account.held_tokens, account.possible_surplus_tokens)
