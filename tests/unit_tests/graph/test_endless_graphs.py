"""Graphs that go on until a model says so, where no model can be asked any more."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send
from pydantic import BaseModel

from langchain_tokenopt import BudgetPlan, budget_graph, optimize
from langchain_tokenopt.core.errors import BudgetExceededError
from tests.support.fakes import fake_chat

LONG = "word " * 2_000


class Route(BaseModel):
    """Where to go."""

    next: Literal["again", "done"]


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def until_approved(model: Any) -> tuple[Any, Any]:
    graph = StateGraph(MessagesState)
    graph.add_node("write", lambda s: {"messages": [model.invoke(s["messages"])]})
    graph.add_edge(START, "write")
    graph.add_conditional_edges(
        "write", lambda s: END if "APPROVED" in s["messages"][-1].text else "write", ["write", END]
    )
    return graph, {"messages": [("system", LONG), ("human", "Write.")]}


def until_routed(model: Any) -> tuple[Any, Any]:
    router = model.with_structured_output(Route)
    graph = StateGraph(State)
    graph.add_node("lead", lambda s: {"log": [router.invoke([("system", LONG), "Where?"]).next]})
    graph.add_edge(START, "lead")
    graph.add_conditional_edges(
        "lead", lambda s: END if s["log"][-1] == "done" else "lead", ["lead", END]
    )
    return graph, {"log": []}


def asked(graph: Any, state: Any, *, is_async: bool) -> Any:
    config: Any = {"recursion_limit": 5_000}
    return asyncio.run(graph.ainvoke(state, config)) if is_async else graph.invoke(state, config)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("staged", [False, True], ids=["bare", "staged"])
@pytest.mark.parametrize("make", [until_approved, until_routed])
def test_a_loop_that_nobody_can_end_is_ended(make: Any, staged: bool, is_async: bool) -> None:
    """After ten answers in a model's place, with an error that says so."""
    plan, model = BudgetPlan(total_tokens=100), fake_chat("_agenerate")
    graph, state = make(optimize(model, plan) if staged else model)
    under_plan = budget_graph(graph, plan).compile()
    with plan.run() as run, pytest.raises(BudgetExceededError) as ended:
        asked(under_plan, state, is_async=is_async)

    assert [] == model.calls
    assert "needs " in str(ended.value)
    if make is until_approved or staged:
        assert "in 10 steps of a graph" in str(ended.value)
        assert 10 == run.report().denied_calls


def test_what_ends_by_itself_is_left_alone() -> None:
    """Rounds that are counted, many at once, and calls outside of graphs."""
    plan = BudgetPlan(total_tokens=100)
    model = optimize(fake_chat(), plan)

    def says(state: Any) -> Any:
        return {"log": [model.invoke([("system", LONG), "Hi"]).text]}

    rounds = StateGraph(State).add_node("talk", says).add_edge(START, "talk")
    rounds.add_conditional_edges(
        "talk", lambda s: END if len(s["log"]) > 8 else "talk", ["talk", END]
    )
    many = StateGraph(State).add_node("part", says)
    many.add_conditional_edges(START, lambda s: [Send("part", s)] * 30, ["part"])
    for graph, answers in ((rounds, 9), (many, 30)):
        with plan.run():
            done = budget_graph(graph, plan).compile().invoke({"log": []})
        assert answers == len(done["log"])
    with plan.run() as run:
        for _ in range(30):
            says({})
    assert 30 == run.report().denied_calls


def test_an_answer_in_between_is_progress() -> None:
    """A small call of another agent is answered each time."""
    plan = BudgetPlan(total_tokens=3_000)
    model = optimize(fake_chat(), plan)

    def says(state: Any) -> Any:
        answers = [model.invoke([("system", LONG), "Hi"]).text, model.invoke("Hi").text]
        return {"log": answers}

    graph = StateGraph(State).add_node("talk", says).add_edge(START, "talk")
    graph.add_conditional_edges(
        "talk", lambda s: END if len(s["log"]) > 30 else "talk", ["talk", END]
    )
    with plan.run():
        done = budget_graph(graph, plan).compile().invoke({"log": []}, {"recursion_limit": 99})

    assert 15 < len(done["log"])


def reads_a_list(text: str) -> Any:
    return text.split(", ")[3]


def reads_a_word(text: str) -> Any:
    return {"yes": 1, "no": 0}[text]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("where", ["node", "branch"])
@pytest.mark.parametrize("reads", [reads_a_list, reads_a_word])
def test_code_that_cannot_read_a_made_up_answer_is_no_riddle(
    reads: Any, where: str, is_async: bool
) -> None:
    """The budget is the reason; what the code has raised stands behind it."""
    plan = BudgetPlan(total_tokens=100)
    model = optimize(fake_chat("_agenerate"), plan)

    def node(state: Any) -> Any:
        said = model.invoke([("system", LONG), "Hi"]).text
        return {"log": [reads(said) if where == "node" else said]}

    graph = StateGraph(State).add_node("a", node).add_edge(START, "a")
    graph.add_conditional_edges("a", lambda s: reads(s["log"][-1]) and END, ["a", END])
    with plan.run(), pytest.raises(BudgetExceededError, match="could not go on") as told:
        asked(budget_graph(graph, plan).compile(), {"log": []}, is_async=is_async)

    assert isinstance(told.value.__cause__, IndexError | KeyError)
    assert "needs " in str(told.value)


def test_other_errors_stay_what_they_are() -> None:
    """Where a model has answered, and where nobody was asked."""
    plan = BudgetPlan(total_tokens=10_000)
    model = optimize(fake_chat(), plan)
    for asks in (True, False):

        def node(state: Any, asks: bool = asks) -> Any:
            return model.invoke("Hi").text[1_000] if asks else 1 / 0

        graph = StateGraph(State).add_node("a", node).add_edge(START, "a")
        with plan.run(), pytest.raises((ZeroDivisionError, IndexError)):
            budget_graph(graph, plan).compile().invoke({"log": []})
