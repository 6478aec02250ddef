"""Ours among LangChain's own middleware, before and behind it, and in agents made of agents."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from packaging.version import Version

from langchain_tokenopt import BudgetPlan, TokenBudgetMiddleware, optimize
from tests.support.agent_forms import BUILT_IN, FORMS, PROSE, faults, langchains, lookup, ours
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*SummarizationMiddleware asks a model"),
    pytest.mark.filterwarnings("ignore:.* is in beta"),
    # ShellToolMiddleware leaves its pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ASKED: Any = {"messages": [("user", "What is x?")]}


@pytest.mark.parametrize("behind", [False, True], ids=["ours first", "ours behind"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_each_of_langchains_own_works_with_all_of_ours(
    model_server: ModelServer, name: str, behind: bool
) -> None:
    """Whatever the agent's form: each has its turn."""
    if name == "ShellToolMiddleware" and Version(version("langchain")) < Version("1.3"):
        pytest.skip("LangChain 1.2 alone puts its shell into what checkpoints cannot write")
    place = 2 * BUILT_IN.index(name) + behind
    form = [*FORMS.values()][(place * 3) % len(FORMS)]
    wrong = faults(model_server, name, form, behind=behind, is_async=place % 4 < 2)
    assert [*wrong] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("behind", [False, True], ids=["ours first", "ours behind"])
@pytest.mark.parametrize("form", FORMS)
def test_all_of_langchains_own_work_with_all_of_ours(
    model_server: ModelServer, form: str, behind: bool
) -> None:
    """In agents of every form; `bench_agents` has all of them sync and async."""
    found = {
        name: [*faults(model_server, name, FORMS[form], behind=behind, is_async=place % 2 == 0)]
        for place, name in enumerate(BUILT_IN)
    }
    assert not {name: wrong for name, wrong in found.items() if wrong}


def answer(request: Request) -> Reply:
    """Call the tool once, then answer."""
    names = {t["function"]["name"] for t in request.body.get("tools") or ()}
    done = [m["role"] for m in request.body["messages"]][-1] == "tool"
    if "lookup" in names and not done:
        return Reply(tool_calls=[ToolCall("lookup", {"word": "x"})])
    return Reply(text="x is a word. " + PROSE)


def test_summaries_are_paid_where_a_run_is_around(model_server: ModelServer) -> None:
    """As the warning says."""
    model_server.answer = answer
    plan = BudgetPlan(total_tokens=1_000_000)
    middleware = [
        TokenBudgetMiddleware(plan),
        langchains("SummarizationMiddleware", model_server.chat_openai()),
    ]
    agent: Any = create_agent(
        model_server.chat_openai(), [lookup], middleware=middleware, checkpointer=InMemorySaver()
    )
    with plan.run() as run:
        for _ in range(3):
            agent.invoke(ASKED, {"configurable": {"thread_id": "t"}})
    assert run.report().account.spent_tokens == sum(b.total_tokens for b in model_server.billed)


# Agents made of agents


def deep(model: Any, middleware: list[Any]) -> Any:
    """Return a deep agent with a subagent of its own, whose model nobody has staged."""
    from deepagents import create_deep_agent

    return create_deep_agent(model, [lookup], middleware=middleware)


def supervised(model: Any, middleware: list[Any]) -> Any:
    """Return an agent under a supervisor, who takes no middleware: its model is staged."""
    from langgraph_supervisor import create_supervisor

    reader: Any = create_agent(model, [lookup], name="reader", middleware=middleware)
    staged = optimize(model, *(m.plan for m in middleware[:1]))
    return create_supervisor([reader], model=staged).compile()


def swarm(model: Any, middleware: list[Any]) -> Any:
    """Return two agents, of which the first hands over to the second."""
    from langgraph_swarm import create_handoff_tool, create_swarm

    tools = [create_handoff_tool(agent_name="reader")]
    front: Any = create_agent(model, tools, name="front", middleware=middleware)
    reader: Any = create_agent(model, [lookup], name="reader", middleware=middleware)
    return create_swarm([front, reader], default_active_agent="front").compile()


def delegating(request: Request) -> Reply:
    """Hand over where that is possible and not done."""
    names = {t["function"]["name"] for t in request.body.get("tools") or ()}
    called = {
        c["function"]["name"] for m in request.body["messages"] for c in m.get("tool_calls") or ()
    }
    if "task" in names and "task" not in called:
        task = {"description": "What is x?", "subagent_type": "general-purpose"}
        return Reply(tool_calls=[ToolCall("task", task, id="t")])
    for name in ("transfer_to_reader",):
        if name in names - called:
            return Reply(tool_calls=[ToolCall(name, {}, id="h")])
    if "lookup" in names and "lookup" not in called and "task" not in names:
        return Reply(tool_calls=[ToolCall("lookup", {"word": "x"}, id="l")])
    return Reply(text="x is a word. " + PROSE)


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("package", "make"),
    [("deepagents", deep), ("langgraph_supervisor", supervised), ("langgraph_swarm", swarm)],
)
def test_agents_made_of_agents_are_one_run(
    model_server: ModelServer, package: str, make: Any, is_async: bool
) -> None:
    """The same conversation with all of ours; with a third of what it needs it ends within that."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")

    def asked(total: int | None) -> tuple[Any, int, int]:
        model_server.reset()
        model_server.answer = delegating
        model = model_server.chat_openai()
        middleware = [] if total is None else ours(total, model)
        host = make(model, middleware)
        around = middleware[0].plan.run() if middleware else nullcontext()
        with around as run:
            result = asyncio.run(host.ainvoke(ASKED)) if is_async else host.invoke(ASKED)
        spent = run.report().account.spent_tokens if run else 0
        said = [(m.type, m.text, m.name) for m in result["messages"]]
        assert isinstance(result["messages"][-1], AIMessage)
        return said, spent, sum(bill.total_tokens for bill in model_server.billed)

    said, _, billed = asked(None)
    assert len(model_server.requests) >= 3
    assert asked(10_000_000) == (said, billed, billed)
    _, spent, paid = asked(billed // 3)
    assert spent == paid <= billed // 3
