"""One context for tracking, level, budget and cache."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import tool

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.run import NoBudgetRunError
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.records import UsageEvent
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.scope import token_scope
from langchain_tokenopt.stage import AMBIENT
from tests.support.caches import make_cache
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import ModelServer

LONG = (
    " ".join(f"Bridge number {n} was painted by {n + 7} people in {1700 + n}." for n in range(200))
    + "\n\nQuestion: When was bridge 77 painted?"
)


def test_it_sets_user_level_and_budget_for_staged_models(model_server: ModelServer) -> None:
    """A model with no stages of its own is tracked, shortened and paid by the scope."""
    plan = BudgetPlan(total_tokens=100_000)
    with token_scope(user="ann", level="maximum", plan=plan) as scope:
        optimize(model_server.chat_openai()).invoke(LONG)
    (bill,) = model_server.billed

    assert len(model_server.requests[0].last_text) < len(LONG) / 2
    assert {"ann": bill.total_tokens} == {
        user: totals.total_tokens for user, totals in scope.usage.by("user").items()
    }
    assert scope.run is not None
    assert bill.total_tokens == scope.run.report().account.spent_tokens
    assert [] == scope.uncovered()


async def test_async_and_tasks_are_covered() -> None:
    """Tasks that are started below belong to the scope."""
    model = optimize(fake_chat("_agenerate", answers=[FakeAnswer("x", Usage(9, 1))] * 3))
    plan = BudgetPlan(total_tokens=100_000)
    with token_scope(user="ann", plan=plan) as scope:
        await asyncio.gather(*(model.ainvoke("Hi") for _ in range(3)))

    assert scope.run is not None
    assert 30 == scope.run.report().account.spent_tokens


async def test_work_in_the_background_is_covered() -> None:
    """A task that outlives the scope, ``asyncio.to_thread``, and LangChain's own threads pay."""
    model = optimize(fake_chat(answers=[FakeAnswer("x", Usage(9, 1))] * 9))
    staged, both = RunnableLambda(lambda _: model.invoke("Hi")), {"a": model, "b": model}
    with token_scope(user="ann", plan=BudgetPlan(total_tokens=100_000)) as scope:
        going_on = asyncio.Event()

        async def later() -> None:
            await going_on.wait()
            await model.ainvoke("Hi")

        task = asyncio.create_task(later())
        await asyncio.to_thread(model.invoke, "Hi")
        staged.batch([1, 2])
        RunnableParallel(both).invoke("Hi")
        await run_in_executor(None, model.invoke, "Hi")
    going_on.set()
    await task

    assert scope.run is not None
    assert 7 == scope.usage.by("user")["ann"].calls
    assert 70 == scope.run.report().account.spent_tokens


def test_a_bare_thread_is_outside() -> None:
    """Python starts it without a context: what carries the plan refuses; a copy of it helps."""
    plan = BudgetPlan(total_tokens=100_000)
    model = optimize(fake_chat(answers=[FakeAnswer("x", Usage(9, 1))] * 3), plan)
    with token_scope(plan=plan) as scope, ThreadPoolExecutor() as pool:
        with pytest.raises(NoBudgetRunError, match=r"copy_context\(\)\.run"):
            pool.submit(model.invoke, "Hi").result()
        pool.submit(copy_context().run, model.invoke, "Hi").result()

    assert scope.run is not None
    assert 10 == scope.run.report().account.spent_tokens


def test_a_plan_cannot_be_replaced_inside() -> None:
    """The inner scope says so, and the outer one goes on as it was."""
    plan = BudgetPlan(total_tokens=1_000, name="outer")
    with token_scope(user="ann", plan=plan) as scope:
        with pytest.raises(NoBudgetRunError, match="'outer' is already running"):  # noqa: SIM117
            with token_scope(user="bob", plan=BudgetPlan(total_tokens=5)):
                pass
        optimize(fake_chat()).invoke("Hi")

    assert ["ann"] == list(scope.usage.by("user"))


def test_nothing_is_left_behind_by_a_failure() -> None:
    """After an exception inside, models are as they were before."""
    model = optimize(fake_chat(answers=[FakeAnswer("x", Usage(9, 1))] * 3))
    with pytest.raises(BudgetExceededError):  # noqa: SIM117
        with token_scope(level="none", plan=BudgetPlan(total_tokens=1, on_exceed="raise")):
            model.invoke(LONG)
    model.invoke(LONG)

    assert () == AMBIENT.get()


def test_models_inside_tools_are_covered() -> None:
    """A tool that calls a model pays from the scope, and usage names the tool."""
    model = optimize(fake_chat(answers=[FakeAnswer("x", Usage(9, 1))]))

    @tool
    def ask(question: str) -> str:
        """Ask a model."""
        return model.invoke(question).text

    with token_scope(plan=BudgetPlan(total_tokens=1_000)) as scope:
        RunnableLambda(lambda _: ask.invoke({"question": "Hi"})).invoke({})

    assert scope.run is not None
    assert 10 == scope.run.report().account.spent_tokens
    assert ["ask"] == list(scope.usage.by("tool"))


def test_it_says_what_it_cannot_cover() -> None:
    """A model without stages is tracked and charged; that it is not shortened is said."""
    with token_scope(level="balanced", plan=BudgetPlan(total_tokens=1_000)) as scope:
        fake_chat(model="plain").invoke("Hi")
    (sentence,) = scope.uncovered()

    assert "called by 'default', has no stages" in sentence
    assert "the level and shortening did not apply" in sentence
    assert 1 == scope.usage.totals().calls
    assert scope.run is not None
    assert 0 < scope.run.report().account.spent_tokens


def test_users_do_not_share_answers() -> None:
    """What one user was answered is not served to another."""
    model = optimize(fake_chat(answers=["for ann", "for bob"]))
    with make_cache() as cache:
        answers = []
        for user in ("ann", "bob", "ann"):
            with token_scope(user=user, cache=cache):
                answers.append(model.invoke("What is my plan?").content)

    assert ["for ann", "for bob", "for ann"] == answers


def test_records_say_which_organization(tmp_path: Path) -> None:
    """As they say which user: in memory, in the ledger; what a call itself says goes first."""
    model = optimize(fake_chat())
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        token_scope(user="ann", organization="acme", sinks=[ledger]) as scope,
    ):
        model.invoke("Hi")
        model.invoke("Hi", {"metadata": {"organization_id": "other"}})
        ledger.flush()
        stored = {name: totals.calls for name, totals in ledger.by("organization").items()}

    assert {"acme": 1, "other": 1} == stored
    assert {"acme": 1, "other": 1} == {
        name: totals.calls for name, totals in scope.usage.by("organization").items()
    }


def test_organizations_do_not_share_answers() -> None:
    """Nor do equal users of two of them."""
    model = optimize(fake_chat(answers=["of acme", "of other"]))
    with make_cache() as cache:
        answers = []
        for organization in ("acme", "other", "acme"):
            with token_scope(user="ann", organization=organization, cache=cache):
                answers.append(model.invoke("What is my plan?").content)

    assert ["of acme", "of other", "of acme"] == answers


def test_a_cache_that_knows_no_users_is_refused() -> None:
    """A plain cache under a user would serve one user's answers to another."""
    with pytest.raises(ValueError, match="InMemoryCache cannot keep users apart"):  # noqa: SIM117
        with token_scope(user="ann", cache=InMemoryCache()):
            pass


def test_an_inner_scope_replaces_what_it_sets(model_server: ModelServer) -> None:
    """Inside, the inner level holds; afterwards, the outer one again; outside, none."""
    model = optimize(model_server.chat_openai())
    with token_scope(level="aggressive"):
        with token_scope(level="maximum"):
            model.invoke(LONG)
        model.invoke(LONG)
    model.invoke(LONG)
    inner, outer, outside = (len(request.last_text) for request in model_server.requests)

    assert inner < outer < outside


def test_sinks_hear_of_calls_and_of_the_budget() -> None:
    """One sink is told of both."""

    class Sink:
        def __init__(self) -> None:
            self.kinds: list[str] = []

        def record(self, event: UsageEvent) -> None:
            self.kinds.append(type(event).__name__)

    sink = Sink()
    with token_scope(plan=BudgetPlan(total_tokens=40), sinks=[sink]):
        optimize(fake_chat()).invoke("word " * 100)

    assert {"BudgetEvent", "CallRecord"} <= set(sink.kinds)
