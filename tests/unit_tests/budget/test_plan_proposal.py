"""Plans that are proposed for a graph, and plans in words."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.graph_shape import shape_of
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.graph import budget_graph, budgeted
from langchain_tokenopt.ledger import Ledger
from tests.support.fakes import fake_chat


@tool
def look_up(what: str) -> str:
    """Look it up."""
    return what


def answer(state: Any) -> Any:
    return {"messages": []}


def drawn(*edges: tuple[str, str], **nodes: Any) -> Any:
    """Return a graph; nodes that are not given are plain functions."""
    graph = StateGraph(MessagesState)
    for name in dict.fromkeys(name for edge in edges for name in edge):
        if name not in (START, END):
            graph.add_node(name, nodes.get(name, answer))
    for start, end in edges:
        graph.add_edge(start, end)
    return graph


def agent(name: str | None = None) -> Any:
    return create_agent(fake_chat(), [look_up], name=name)


def goes(to: str) -> Any:
    def node(state: Any) -> Command[Any]:
        return Command(goto=to)

    return node


def loop() -> Any:
    graph = drawn((START, "writer"), ("writer", "critic"))
    return graph.add_conditional_edges("critic", lambda s: END, ["writer", END])


PLAN = BudgetPlan(total_tokens=1_000)
GRAPHS: dict[str, tuple[Any, list[str]]] = {
    "a line": (lambda: drawn((START, "a"), ("a", "b"), ("b", END)), ["a", "b"]),
    "side by side": (lambda: drawn((START, "a"), (START, "b"), ("a", "c"), ("b", "c")), [*"abc"]),
    "a loop": (loop, ["writer", "critic"]),
    "compiled": (lambda: drawn((START, "a"), ("a", END)).compile(), ["a"]),
    "an agent with a name": (lambda: agent("clerk"), ["clerk"]),
    "an agent without a name": (agent, ["model"]),
    "agents as nodes": (
        lambda: drawn((START, "x"), ("x", "y"), x=agent("one"), y=agent("two")),
        ["x", "y"],
    ),
    "a command": (
        lambda: (
            StateGraph(MessagesState)
            .add_node("a", goes("b"), destinations=("b",))
            .add_node("b", answer)
            .add_edge(START, "a")
        ),
        ["a", "b"],
    ),
    "named by metadata": (
        lambda: (
            StateGraph(MessagesState)
            .add_node("a", answer, metadata={"tokenopt_agent": "news"})
            .add_node("b", answer, metadata={"tokenopt_agent": "news"})
            .add_edge(START, "a")
            .add_edge("a", "b")
        ),
        ["news"],
    ),
    "budgeted before": (
        lambda: drawn((START, "a"), ("a", END), a=budgeted(answer, PLAN, "news")),
        ["news"],
    ),
    "a graph in a node": (
        lambda: drawn((START, "a"), ("a", END), a=drawn((START, "x"), ("x", "y")).compile()),
        ["a"],
    ),
}


@pytest.mark.parametrize("total", [1, 300, 9_000, 10**9])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_agent_of_a_graph_has_a_part(name: str, total: int) -> None:
    """Under the names by which ``budget_graph`` lets them pay; all of it fits the total."""
    make, agents = GRAPHS[name]
    plan = BudgetPlan.for_graph(make(), total_tokens=total)
    budget_graph(make(), plan)

    assert agents == list(plan.agents)
    assert sum(plan.shares().values()) + plan.buffer <= total
    assert all((limits.tokens or 0) >= limits.floor for limits in plan.agents.values())
    assert all(limits.words and limits.words >= 40 for limits in plan.agents.values())
    for agent_ in agents:
        assert f"\n{agent_}: " in plan.explain(make())


def test_where_an_agent_stands_decides_what_it_gets() -> None:
    """Who reads more and who comes again gets more, and the last one goes first."""
    graph = drawn((START, "a"), ("a", "b"), ("b", "c"), ("c", "d"))
    graph.add_conditional_edges("d", lambda s: END, ["c", END])
    shapes = shape_of(graph)
    plan = BudgetPlan.for_graph(graph, total_tokens=60_000)
    shares = plan.shares()

    assert {"a", "b", "d"} == shapes["c"].reads
    assert (False, True) == (shapes["b"].comes_again, shapes["c"].comes_again)
    assert shares["c"] > shares["b"]
    assert [1.0, 1.0, 1.0, 2.0] == [limits.priority for limits in plan.agents.values()]


def test_nothing_is_set_apart_where_it_would_not_do() -> None:
    """What was guessed would lie unused with one while others are cut short."""
    plan = BudgetPlan.for_graph(loop(), total_tokens=9_000)

    assert [(None, 0), (None, 0)] == [(own.tokens, own.floor) for own in plan.agents.values()]
    assert "writer: its part of what is everybody's, answers in 250" in plan.explain(loop())


def test_with_more_tokens_nobody_gets_less() -> None:
    """Neither tokens nor words."""
    before = BudgetPlan.for_graph(loop(), total_tokens=200)
    for total in range(400, 20_000, 400):
        plan = BudgetPlan.for_graph(loop(), total_tokens=total)
        for name, limits in plan.agents.items():
            assert (limits.words or 0) >= (before.agents[name].words or 0)
            assert (limits.tokens or 0) >= 0.98 * (before.agents[name].tokens or 0)
        before = plan


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 60_000))
def test_any_graph_and_any_total(seed: int, total: int) -> None:
    """A proposal is a plan that can be run."""
    rng = random.Random(seed)
    names = [f"n{number}" for number in range(rng.randint(1, 12))]
    edges = [(START, names[0])]
    edges += [(rng.choice(names[: n + 1]), name) for n, name in enumerate(names[1:])]
    edges += [(rng.choice(names), rng.choice(names)) for _ in range(rng.randint(0, 4))]
    graph = drawn(*dict.fromkeys(edges))
    plan = BudgetPlan.for_graph(graph, total_tokens=total)
    plan.check_agents(names)

    assert sum(plan.shares().values()) + plan.buffer <= total
    assert "Who may starve" in plan.explain(graph)
    with plan.run():
        pass


# History


def call(agent_: str, sent: int, answered: int, run: str, **options: Any) -> CallRecord:
    return CallRecord(
        run_id=UUID(int=random.getrandbits(64)),
        model="m",
        provider=None,
        usage=Usage(sent, answered),
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_seconds=1.0,
        cost_nano_usd=None,
        attribution=Attribution(agent=agent_),
        run=run,
        **options,
    )


@pytest.mark.parametrize("is_ledger", [False, True], ids=["records", "ledger"])
def test_a_history_counts_more_than_the_shape(is_ledger: bool, tmp_path: Any) -> None:
    """What was refused, has failed or was cached says nothing."""
    calls = [call("a", 3_000, 100, f"run-{n}") for n in range(10)]
    calls += [call("b", 200, 40, f"run-{n}") for n in range(10)]
    calls += [
        call("b", 90_000, 9_000, "r", status="refused"),
        call("b", 9_000, 9, "r", cached=True),
    ]
    graph = drawn((START, "a"), ("a", "b"))
    history: Any = calls
    if is_ledger:
        history = Ledger(tmp_path / "usage.db")
        for record in calls:
            history.record(record)
        history.flush()
    without = BudgetPlan.for_graph(graph, total_tokens=4_000).shares()
    plan = BudgetPlan.for_graph(graph, total_tokens=4_000, history=history)

    assert without["a"] < 5 * without["b"]
    assert plan.shares()["a"] > 5 * plan.shares()["b"]
    assert "as before" in plan.explain(graph, history=history)


def test_what_is_known_stays_and_the_rest_is_proposed() -> None:
    """Own settings of agents and of the plan."""
    graph = drawn((START, "a"), ("a", "b"))
    plan = BudgetPlan.for_graph(
        graph, total_tokens=5_000, agents={"b": {"words": 60, "cap": 900}}, name="mine", buffer=0
    )

    assert (60, 900) == (plan.agents["b"].words, plan.agents["b"].cap)
    assert ("mine", 0) == (plan.name, plan.buffer)
    assert plan.agents["a"].words > 60


# In words


def test_who_may_starve_is_named_with_the_reason() -> None:
    """Strangers, caps, shares that are too small, totals that hold no paragraph each."""
    graph = drawn((START, "a"), ("a", "b"), ("b", "c"))
    plan = BudgetPlan(
        total_tokens=2_000,
        agents={"a": {"tokens": 1_700}, "b": {"tokens": 180, "cap": 190}, "ghost": {"tokens": 9}},
    )
    words = plan.explain(graph)

    assert "- c: 111 tokens are what is everybody's, and about 944 are needed" in words
    assert "Lower the share of a (1,700) and ghost (9), or name them in agents." in words
    assert "- b: its cap of 190 does not hold a paragraph" in words
    assert "ghost has a part in the plan, and the graph has no such agent" in words
    assert "nobody, as far as the graph shows" not in words
    tiny = BudgetPlan.for_graph(graph, total_tokens=100)
    assert "- all: a paragraph from each needs about" in tiny.explain(graph)
    assert tiny.explain(graph).count("\n- ") <= 4


def test_what_is_no_graph_is_refused() -> None:
    """With what is needed."""
    with pytest.raises(TypeError, match="a StateGraph is needed"):
        BudgetPlan.for_graph(print, total_tokens=10)
    with pytest.raises(ValueError, match="entrypoint"):
        BudgetPlan.for_graph(StateGraph(MessagesState), total_tokens=10)
    with pytest.raises(ValueError, match="total_tokens"):
        BudgetPlan.for_graph(loop(), total_tokens=0)


@pytest.mark.parametrize("way", ["branch", "command"])
def test_an_agent_that_is_sent_to_may_be_called_any_number_of_times(way: str) -> None:
    """The graph does not say how often, so the plan in words says how much that matters."""

    def split(state: Any) -> Any:
        sends = [Send("read", {"messages": []}) for _ in range(len(state["messages"]))]
        return sends if way == "branch" else Command(goto=sends)

    graph = StateGraph(MessagesState).add_node("read", answer).add_node("join", answer)
    if way == "branch":
        graph.add_node("split", answer).add_conditional_edges("split", split, ["read"])
    else:
        graph.add_node("split", split, destinations=("read",))
    graph.add_edge(START, "split").add_edge("read", "join").add_edge("join", END)
    plan = BudgetPlan.for_graph(graph, total_tokens=3_000)
    said = plan.explain(graph)

    assert [False, True, False] == [
        shape_of(graph)[name].is_sent for name in ("split", "read", "join")
    ]
    assert "for each call, as often as it is sent to" in said
    assert "nobody, as far as the graph shows" not in said
    assert "prompts and answers will be shortened, also those of join; beyond" in said
