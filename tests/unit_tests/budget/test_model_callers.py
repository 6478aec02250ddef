"""Which nodes visibly reach a model: by what they can use, without calling them."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.model_callers import reaches_model
from langchain_tokenopt.graph import budget_graph, budgeted

MODEL = FakeListChatModel(responses=["Buy."])
LOOKUP = RunnableLambda(lambda text: text.upper())
PLAN = BudgetPlan(total_tokens=1_000)


def plain(state: Any) -> Any:
    return {"text": json.dumps(sorted(state))}


def ask_person(state: Any) -> Any:
    return {"ok": interrupt("Go on?")}


def look_up(state: Any) -> Any:
    return LOOKUP.invoke(state["text"])


def by_global(state: Any) -> Any:
    return MODEL.invoke(state)


def helper(text: str) -> Any:
    return by_global(text)


def by_helper(state: Any) -> Any:
    return [helper(text) for text in state]


def by_default(state: Any, llm: Any = MODEL) -> Any:
    return llm


def by_state(state: Any) -> Any:
    return state["model"].invoke("Buy?")


def made_there(state: Any) -> Any:
    return FakeListChatModel(responses=state)


def closed_over(thing: Any) -> Any:
    return lambda state: thing


class Desk:
    """Holds a model, or makes one."""

    def __init__(self, llm: Any = None) -> None:
        self.llm = llm

    def own(self, state: Any) -> Any:
        return self.llm

    def makes(self, state: Any) -> Any:
        return self._made()

    def _made(self) -> Any:
        return FakeListChatModel(responses=["Sell."])

    def __call__(self, state: Any) -> Any:
        return self.llm


def graph_of(node: Any) -> Any:
    graph = StateGraph(MessagesState).add_node("a", node).add_edge(START, "a")
    return graph.compile()


def agent() -> Any:
    return create_agent(MODEL, [])


CALLERS = {
    "a model": MODEL,
    "a chain": ChatPromptTemplate.from_template("{x}") | MODEL,
    "a bound model": MODEL.bind(stop=["x"]),
    "an agent": agent(),
    "a graph": graph_of(by_global),
    "a budgeted node": budgeted(plain, PLAN),
    "a global": by_global,
    "a helper": by_helper,
    "a closure": closed_over(MODEL),
    "an agent in a closure": closed_over(agent()),
    "models by name in a closure": closed_over({"fast": [MODEL]}),
    "a default": by_default,
    "a partial": functools.partial(lambda llm, state: llm, MODEL),
    "its own object": Desk(MODEL).own,
    "its own method": Desk().makes,
    "a callable object": Desk(MODEL),
    "its state": by_state,
    "made there": made_there,
}
OTHERS = {
    "plain": plain,
    "lambda": lambda state: {},
    "a person": ask_person,
    "a runnable without a model": look_up,
    "a graph without a model": graph_of(plain),
    "an object without a model": Desk(),
    "watched by a budgeted graph": budget_graph(graph_of(plain), PLAN),
}


@pytest.mark.parametrize("name", CALLERS)
def test_who_can_use_a_model_reaches_it(name: str) -> None:
    """Also as the node of a graph."""
    assert reaches_model(CALLERS[name])
    assert reaches_model(graph_of(CALLERS[name]))


@pytest.mark.parametrize("name", OTHERS)
def test_of_others_nothing_is_known(name: str) -> None:
    """Also as the node of a graph."""
    assert not reaches_model(OTHERS[name])
    assert not reaches_model(graph_of(OTHERS[name]))
