"""A model that nobody staged is refused under ``on_exceed="degrade"``: the run goes on."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import StateGraph
from langgraph.graph.message import add_messages

from langchain_tokenopt import BudgetPlan, budget_graph
from langchain_tokenopt.budget.refusals import RefusedCall
from langchain_tokenopt.core.errors import BudgetExceededError
from tests.support.fakes import fake_chat
from tests.support.model_server import ModelServer, Reply, ToolCall

TOO_LONG = "word " * 3_000


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


class Report(TypedDict, total=False):
    question: str
    report: str


def run(graph: Any, state: Any, *, is_async: bool) -> Any:
    return asyncio.run(graph.ainvoke(state)) if is_async else graph.invoke(state)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("budgeted_graph", [False, True], ids=["plain", "budget_graph"])
def test_a_tool_whose_model_is_refused_says_so(
    model_server: ModelServer, *, is_async: bool, budgeted_graph: bool
) -> None:
    """The agent gets an error message from its tool, and answers all the same."""
    inner = fake_chat("_agenerate")

    @tool
    def read(topic: str) -> str:
        """Read about a topic."""
        return str(inner.invoke(TOO_LONG).content)

    @tool
    async def aread(topic: str) -> str:
        """Read about a topic."""
        return str((await inner.ainvoke(TOO_LONG)).content)

    chosen = aread if is_async else read
    model_server.script(
        Reply(tool_calls=[ToolCall(chosen.name, {"topic": "rain"})]), Reply(text="I cannot read.")
    )
    plan = BudgetPlan(total_tokens=2_500)
    agent: Any = create_agent(model_server.chat_openai(max_tokens=100), [chosen])
    if budgeted_graph:
        agent = budget_graph(agent, plan)
        agent = agent.compile() if hasattr(agent, "compile") else agent
    with plan.run() as running:
        answered = run(agent, {"messages": [HumanMessage("Read.")]}, is_async=is_async)

    (told,) = (m for m in answered["messages"] if isinstance(m, ToolMessage))
    assert told.status == "error"
    assert "[No answer: " in str(told.content)
    assert "I cannot read." == answered["messages"][-1].content
    assert inner.calls == []
    assert 0 == running.report().account.held_tokens


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_node_with_messages_answers_so(*, is_async: bool) -> None:
    """And what comes behind it is run."""
    model, seen = fake_chat("_agenerate"), []

    def ask(state: State) -> Any:
        return {"messages": [model.invoke(TOO_LONG)]}

    async def aask(state: State) -> Any:
        return {"messages": [await model.ainvoke(TOO_LONG)]}

    def after(state: State) -> Any:
        seen.append(state["messages"][-1])
        return {}

    graph = StateGraph(State)
    graph.add_node("ask", aask if is_async else ask)
    graph.add_node("after", after)
    graph.set_entry_point("ask")
    graph.add_edge("ask", "after")
    plan = BudgetPlan(total_tokens=1_000)
    compiled = budget_graph(graph, plan).compile()
    with plan.run() as running:
        run(compiled, {"messages": [HumanMessage("Hi")]}, is_async=is_async)

    (answer,) = seen
    assert isinstance(answer, AIMessage)
    assert "[No answer: " in str(answer.content)
    assert answer.response_metadata["tokenopt_degraded"] == ["answered in the model's place"]
    assert running.report().agents["ask"].degraded == {"answered in the model's place": 1}


def test_an_agent_whose_own_model_is_refused_ends() -> None:
    """``create_agent`` with a model that nobody staged: its last message says why."""
    plan = BudgetPlan(total_tokens=1_000)
    graph = budget_graph(create_agent(fake_chat(), []), plan)
    compiled = graph.compile() if hasattr(graph, "compile") else graph
    with plan.run():
        answered = compiled.invoke({"messages": [HumanMessage(TOO_LONG)]})

    assert "[No answer: " in str(answered["messages"][-1].content)


def test_without_messages_and_without_degrading_the_error_is_raised() -> None:
    """There is no place for an answer, or none is wanted."""

    def ask(state: Report) -> Any:
        return {"report": fake_chat().invoke(TOO_LONG).content}

    for on_exceed, kind in (("degrade", RefusedCall), ("raise", BudgetExceededError)):
        graph = StateGraph(Report)
        graph.add_node("ask", ask)
        graph.set_entry_point("ask")
        plan = BudgetPlan(total_tokens=1_000, on_exceed=on_exceed)  # type: ignore[arg-type]
        with plan.run(), pytest.raises(kind) as raised:
            budget_graph(graph, plan).compile().invoke({"question": "?"})
        assert isinstance(raised.value, BudgetExceededError)
        assert isinstance(raised.value, RefusedCall) == (on_exceed == "degrade")


def test_a_refusal_can_be_copied_and_sent() -> None:
    """Other processes and loggers do so."""
    plan = BudgetPlan(total_tokens=100)
    with plan.run(), pytest.raises(RefusedCall) as raised:
        fake_chat().invoke(TOO_LONG)
    error = raised.value

    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(again, RefusedCall)
        assert str(again) == str(error)
        assert (again.needed_tokens, again.message) == (error.needed_tokens, error.message)
