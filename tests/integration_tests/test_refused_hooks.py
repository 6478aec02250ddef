"""Hooks that ask a model where tokens are short: refused inside, the agent goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from langchain_tokenopt import BudgetExceededError, BudgetPlan, TokenBudgetMiddleware
from tests.support.fakes import FakeAnswer, fake_chat

DEGRADED = "tokenopt_degraded"


@tool
def weather(city: str) -> str:
    """Weather of a city."""
    return f"{city}: 11 degrees."


class Asks(AgentMiddleware[Any, Any]):
    """Asks a model in one of its hooks, with more than is left."""

    def __init__(self, hook: str) -> None:
        self.guard = fake_chat(answers=["safe"])
        self.refusals: list[Exception] = []
        self.hook = hook

    def _ask(self, hook: str) -> None:
        if hook == self.hook:
            try:
                self.guard.invoke("Is this safe? " + "word " * 2_000)
            except BudgetExceededError as error:
                self.refusals.append(error)
                raise

    async def _aask(self, hook: str) -> None:
        if hook == self.hook:
            try:
                await self.guard.ainvoke("Is this safe? " + "word " * 2_000)
            except BudgetExceededError as error:
                self.refusals.append(error)
                raise

    def before_agent(self, state: Any, runtime: Any) -> None:
        self._ask("before_agent")

    def before_model(self, state: Any, runtime: Any) -> None:
        self._ask("before_model")

    def after_model(self, state: Any, runtime: Any) -> None:
        self._ask("after_model")

    def after_agent(self, state: Any, runtime: Any) -> None:
        self._ask("after_agent")

    async def abefore_agent(self, state: Any, runtime: Any) -> None:
        await self._aask("before_agent")

    async def abefore_model(self, state: Any, runtime: Any) -> None:
        await self._aask("before_model")

    async def aafter_model(self, state: Any, runtime: Any) -> None:
        await self._aask("after_model")

    async def aafter_agent(self, state: Any, runtime: Any) -> None:
        await self._aask("after_agent")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_refused_hook_leaves_no_tool_without_its_result(asynchronous: bool) -> None:
    """After a model that calls a tool, it is called, and the model answers."""
    plan, asks = BudgetPlan(total_tokens=1_500), Asks("after_model")
    call = FakeAnswer("", tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "1"}])
    model = fake_chat(answers=[call, "11 degrees."])
    agent = create_agent(model, [weather], middleware=[TokenBudgetMiddleware(plan), asks])
    with plan.run():
        messages = run(agent, asynchronous=asynchronous)
    assert ["human", "ai", "tool", "ai"] == [m.type for m in messages]
    assert 2 == len(asks.refusals)


def run(agent: Any, *, asynchronous: bool) -> list[Any]:
    """Return the messages with which an agent ends."""
    state = {"messages": [("user", "Towns?")]}
    result = asyncio.run(agent.ainvoke(state)) if asynchronous else agent.invoke(state)
    return list(result["messages"])


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("hook", ["before_agent", "before_model", "after_model", "after_agent"])
@pytest.mark.parametrize("names_model", [False, True], ids=["plan.run alone", "middleware"])
def test_a_refused_hook_says_so_and_the_agent_goes_on(
    hook: str, names_model: bool, asynchronous: bool
) -> None:
    """The hook sees the refusal; before the model it says so, after it the answer stands."""
    plan, asks = BudgetPlan(total_tokens=1_500), Asks(hook)
    middleware = [TokenBudgetMiddleware(plan), asks] if names_model else [asks]
    model = fake_chat(answers=["Oslo is a town."])
    agent = create_agent(model, [weather], middleware=middleware)
    with plan.run() as budget:
        messages = run(agent, asynchronous=asynchronous)
    said = [m for m in messages if isinstance(m, AIMessage)]
    refused = [m.text for m in said if DEGRADED in m.response_metadata]
    assert ["Oslo is a town."] == [m.text for m in said if DEGRADED not in m.response_metadata]
    assert "Oslo is a town." == messages[-1].text
    (refusal,) = asks.refusals
    assert [f"[No answer: {refusal}]"] * hook.startswith("before") == refused
    assert not asks.guard.calls
    assert f"{hook}" in str(budget.report())
    assert budget.report().account.spent_tokens <= 1_500


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_plan_that_raises_ends_the_agent(asynchronous: bool) -> None:
    """With ``on_exceed="raise"`` a refused hook is an error, as everywhere."""
    plan, asks = BudgetPlan(total_tokens=1_500, on_exceed="raise"), Asks("before_model")
    agent = create_agent(fake_chat(answers=["Oslo."]), middleware=[asks])
    with plan.run(), pytest.raises(BudgetExceededError):
        run(agent, asynchronous=asynchronous)
