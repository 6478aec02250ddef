"""A run keeps for agents to come what earlier runs say that they need; on every kind of account."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_tokenopt import BudgetPlan, ForecastNeed, budget_graph, optimize
from langchain_tokenopt.testing import ExtractiveChatModel

MATERIAL = " ".join(
    f"Bridge {n} was painted {('red', 'blue', 'green')[n % 3]} in {1900 + n % 90}."
    for n in range(190)
)
"""About 2,400 tokens."""
QUESTION = "\n\nQuestion: Which colour is the bridge?"


@pytest.fixture(params=["memory", "file", "server"])
def kept(request, tmp_path):
    """Where accounts are kept."""
    if request.param == "server":
        return {"store": request.getfixturevalue("postgres_url")}
    return {} if request.param == "memory" else {"path": tmp_path / "budgets.db"}


def said(agent):
    return {"metadata": {"tokenopt_agent": agent}}


def spent(run):
    """What each agent has spent."""
    return {name: line.account.spent_tokens for name, line in run.report().agents.items()}


def history(**needs):
    """Six runs that were much alike."""
    return [{name: tokens + 5 * number for name, tokens in needs.items()} for number in range(6)]


@pytest.mark.parametrize("strategy", ["forecast", "equal", "auto"])
def test_the_first_leaves_what_the_later_one_needs(kept, strategy):
    """Whatever agents weigh: if little, it reads everything; if much, it reads less."""
    plan = BudgetPlan(total_tokens=3_600, agents={"news": {}, "judge": {}}, strategy=strategy)
    model = optimize(ExtractiveChatModel(), plan)
    found = {}
    for judge in (300, 2_600):
        past = history(news=2_700, judge=judge) * 3
        with plan.run(f"{judge}", history=past, **kept) as run:
            model.invoke(MATERIAL + QUESTION, said("news"))
            model.invoke(MATERIAL + QUESTION, said("judge"))
        found[judge] = spent(run)
        assert [] == run.account.check()
        assert run.report().account.spent_tokens <= 3_600

    assert found[300]["news"] > 2_200 > found[2_600]["news"]
    assert found[2_600]["judge"] > found[300]["judge"]


async def test_async_is_divided_alike(kept):
    """To the token."""
    plan = BudgetPlan(total_tokens=3_600, agents={"news": {}, "judge": {}}, strategy="forecast")
    model = optimize(ExtractiveChatModel(), plan)
    found = []
    for number, ask in enumerate((model.invoke, model.invoke, model.ainvoke)):
        with plan.run(f"{number}", history=history(news=2_700, judge=2_600), **kept) as run:
            for agent in ("news", "judge"):
                answer = ask(MATERIAL + QUESTION, said(agent))
                if asyncio.iscoroutine(answer):
                    await answer
        found.append(spent(run))

    assert found[1] == found[2]  # the first has shown how the provider counts


def test_what_an_agent_leaves_when_it_ends_goes_to_who_needs_it(kept):
    """In a graph, whose edges say who has ended: the editor has the rest, for it needs more."""

    def node(name, text):
        def ask(state):
            return {"messages": [model.invoke(text, said(name))]}

        return ask

    plan = BudgetPlan(
        total_tokens=4_000,
        agents={"news": {"tokens": 2_000}, "editor": {}, "clerk": {}},
        strategy="forecast",
    )
    model = optimize(ExtractiveChatModel(), plan)
    graph = StateGraph(MessagesState)
    graph.add_node("news", node("news", "Say yes."))
    graph.add_node("editor", node("editor", MATERIAL + QUESTION))
    graph.add_node("clerk", node("clerk", MATERIAL + QUESTION))
    for one, other in pairwise([START, "news", "editor", "clerk", END]):
        graph.add_edge(one, other)
    past = history(news=200, editor=2_500, clerk=300)
    with plan.run("graph", history=past, **kept) as run:
        budget_graph(graph, plan).compile().invoke({"messages": []})

    assert [] == run.account.check()
    assert run.report().agents["news"].account.returned_tokens > 1_500
    assert spent(run)["editor"] > 2_200


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    total=st.integers(900, 5_000),
    past=st.lists(
        st.dictionaries(st.sampled_from(["news", "judge", "clerk"]), st.integers(1, 50_000)),
        max_size=12,
    ),
    order=st.lists(st.sampled_from(["news", "judge", "clerk"]), min_size=1, max_size=5),
    floor=st.integers(0, 400),
    strategy=st.sampled_from(["performance", "forecast", "auto"]),
)
@pytest.mark.filterwarnings("ignore:The strategy")
def test_laws_hold_whatever_was_forecast(kept, total, past, order, floor, strategy):
    """The total is never exceeded, floors are left to those who come, and the account adds up."""
    plan = BudgetPlan(
        total_tokens=total,
        agents={"news": {"cap": 2_000}, "judge": {"floor": floor}, "clerk": {}},
        strategy=strategy,
    )
    model = optimize(ExtractiveChatModel(), plan)
    with plan.run(history=past, **kept) as run:
        for number, agent in enumerate(order):
            model.invoke(MATERIAL + QUESTION, said(agent))
            account = run.report().account
            assert account.spent_tokens + account.held_tokens <= total
            if "judge" not in order[: number + 1]:
                assert account.left_tokens >= floor
        assert [] == run.account.check()
        assert run.report().agents["news"].account.spent_tokens <= 2_000


def test_a_run_learns_what_it_would_have_needed(kept):
    """Not what it was cut down to: else shares would shrink from run to run."""
    needs = ForecastNeed()
    plan = BudgetPlan(total_tokens=1_500, agents={"news": {}, "judge": {}}, strategy=needs)
    model = optimize(ExtractiveChatModel(), plan)
    with pytest.warns(Warning, match="agents weigh by priority"):
        for _ in range(3):
            with plan.run(**kept) as run:
                model.invoke(MATERIAL + QUESTION, said("news"))

    assert spent(run)["news"] < 1_500 < 2_200 < needs.need("news").expected_tokens
