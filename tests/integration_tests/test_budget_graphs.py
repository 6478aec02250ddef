"""Budgets in graphs that others wrote: agents, supervisors, killed and resumed runs."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.plan import desk_plan
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.examples.trading_desk import (
    AGENTS,
    QUESTION,
    build_desk,
    sample_documents,
)
from langchain_tokenopt.graph import budget_graph
from langchain_tokenopt.text.words import count_words
from tests.support.model_server import ModelServer, Reply, Request, ToolCall


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: " + "a long explanation of it that goes on and on. " * 60


def looping(request: Request) -> Reply:
    """Call the tool as long as there is one."""
    if request.body.get("tools"):
        return Reply(tool_calls=[ToolCall("lookup", {"word": "x"})])
    return Reply(text="The answer.")


def agent_of(model: Any) -> Any:
    """Return an agent with a tool."""
    from langchain.agents import create_agent

    return create_agent(model, [lookup], name="reader")


ASKED: Any = {"messages": [("user", "What is x?")]}


def test_an_agent_is_unchanged_by_an_ample_budget(model_server: ModelServer) -> None:
    """With tokens to spare create_agent sends and answers what it does without a plan."""
    script = [Reply(tool_calls=[ToolCall("lookup", {"word": "x"})]), Reply(text="It is x.")]
    plan = BudgetPlan(total_tokens=1_000_000)
    results = []
    for model in (model_server.chat_openai(), optimize(model_server.chat_openai(), plan)):
        model_server.script(*script)
        with plan.run() as run:
            results.append(agent_of(model).invoke(ASKED)["messages"])
    first, second = model_server.requests[:2], model_server.requests[2:]

    assert [m.content for m in results[0]] == [m.content for m in results[1]]
    assert [r.texts for r in first] == [r.texts for r in second]
    assert {"reader"} == set(run.report().agents)


def test_an_agent_that_loops_ends_with_an_answer(model_server: ModelServer) -> None:
    """A loop that would run to the recursion limit is told to answer when its budget ends."""
    model_server.answer = looping
    plan = BudgetPlan(total_tokens=6_000, agents={"reader": {"floor": 1_000}})
    with plan.run() as run:
        result = agent_of(optimize(model_server.chat_openai(), plan)).invoke(
            ASKED, {"recursion_limit": 200}
        )
    last = result["messages"][-1]

    assert isinstance(last, AIMessage)
    assert not last.tool_calls
    assert last.content
    assert sum(usage.total_tokens for usage in model_server.billed) <= 6_000
    assert 0 == run.report().account.surplus_tokens


def team_of(model: Any) -> Any:
    """Return two agents under a supervisor."""
    from langchain.agents import create_agent
    from langgraph_supervisor import create_supervisor

    agents = [create_agent(model, [lookup], name=name) for name in ("reader", "writer")]
    return create_supervisor(agents, model=model)


def delegating(request: Request) -> Reply:
    """Hand over to the reader once, then answer."""
    names = [t["function"]["name"] for t in request.body.get("tools", [])]
    if "transfer_to_reader" in names and not any("Done" in text for text in request.texts):
        return Reply(tool_calls=[ToolCall("transfer_to_reader", {})])
    return Reply(text="Done.")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::langgraph.warnings.LangGraphDeprecatedSinceV10")
def test_a_supervisor_under_a_budget(model_server: ModelServer) -> None:
    """A supervisor's graph says the same with an ample budget, and ends with a small one."""
    model_server.answer = delegating
    plain = team_of(model_server.chat_openai()).compile().invoke(ASKED)["messages"]
    ample = BudgetPlan(total_tokens=1_000_000)
    with ample.run() as run:
        workflow = budget_graph(team_of(optimize(model_server.chat_openai(), ample)), ample)
        budgeted = workflow.compile().invoke(ASKED)["messages"]
    small = BudgetPlan(total_tokens=150)
    with small.run():
        workflow = budget_graph(team_of(optimize(model_server.chat_openai(), small)), small)
        ended = workflow.compile().invoke(ASKED)["messages"]

    assert [m.content for m in plain] == [m.content for m in budgeted]
    assert {"supervisor", "reader"} <= set(run.report().agents)
    assert ended[-1].content


def delegating_twice(request: Request) -> Reply:
    """Hand over to one agent after the other, who look something up, then answer."""
    names = [t["function"]["name"] for t in request.body.get("tools", [])]
    said = " ".join(request.texts)
    for name in ("reader", "writer"):
        if f"transfer_to_{name}" in names and f"transferred to {name}" not in said:
            return Reply(tool_calls=[ToolCall(f"transfer_to_{name}", {}, id=f"call_{name}")])
    if "lookup" in names and not any(text.startswith("x: ") for text in request.texts):
        return Reply(tool_calls=[ToolCall("lookup", {"word": "x"}, id="call_lookup")])
    return Reply(text="It goes on and on, as was found. " * 12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::langgraph.warnings.LangGraphDeprecatedSinceV10")
@pytest.mark.parametrize("share", [0.8, 0.9])
def test_a_supervisor_goes_on_to_hand_over(model_server: ModelServer, share: float) -> None:
    """What is kept for an agent is of no use to anybody without the tool that leads to it."""
    model_server.answer = delegating_twice
    team_of(model_server.chat_openai()).compile().invoke(ASKED)
    need = sum(usage.total_tokens for usage in model_server.billed)
    plan = BudgetPlan(total_tokens=int(share * need))
    model = optimize(model_server.chat_openai(model=f"ft:gpt-4.1-mini:team:{share}"), plan)
    with plan.run() as run:
        budget_graph(team_of(model), plan).compile().invoke(ASKED)
    report = run.report()

    assert {"supervisor", "reader", "writer"} == {
        name for name, line in report.agents.items() if line.account.calls
    }
    assert report.account.spent_tokens <= plan.total_tokens


def test_the_desk_delivers_within_its_budget(model_server: ModelServer) -> None:
    """40,000 tokens, and every agent still delivers, within its words, from its own account."""
    prose = "The price rose again in spring and nobody on the desk knew the reason for it. "
    model_server.answer = lambda request: Reply(text="Decision: HOLD. " + prose * 40)
    plan = desk_plan()
    desk = build_desk(optimize(model_server.chat_openai(), plan), sample_documents())
    with plan.run() as run:
        reports = (
            budget_graph(desk, plan)
            .compile()
            .invoke({"question": QUESTION, "reports": {}})["reports"]
        )
    lines = run.report().agents

    assert set(AGENTS) == set(reports)
    assert sum(usage.total_tokens for usage in model_server.billed) <= 40_000
    assert 0 == sum(line.account.denied_calls for line in lines.values())
    for name, text in reports.items():
        assert 0 < count_words(text) <= (plan.agents[name].words or 0), name
