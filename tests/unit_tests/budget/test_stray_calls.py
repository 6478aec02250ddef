"""Threads that were started inside of a run and do not carry its context."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from langchain_tokenopt import BudgetPlan, NoBudgetRunError, TokenOptWarning, optimize, stage_all
from langchain_tokenopt.graph import budget_graph
from tests.support.fakes import fake_chat

PLAN = BudgetPlan(total_tokens=10_000, name="day")


def in_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_pool(work: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@pytest.mark.parametrize("start", [in_thread, in_pool])
def test_what_is_not_charged_is_said_once(start: Any) -> None:
    """A model that nobody staged: who has called it, why it is outside, what helps."""
    model = fake_chat()
    with PLAN.run() as run:
        with pytest.warns(TokenOptWarning, match="fake-1 was called by 'default' in a thread") as w:
            start(lambda: [model.invoke("Hi"), model.invoke("Hi")])

        assert 1 == len(w)
        assert "copy_context" in str(w[0].message)
        assert 0 == run.report().account.spent_tokens


@pytest.mark.parametrize("start", [in_thread, in_pool])
def test_whatever_carries_the_context_is_charged_in_silence(start: Any) -> None:
    """By hand, or inside of ``stage_all``."""
    model = fake_chat()
    with warnings.catch_warnings(), PLAN.run() as run:
        warnings.simplefilter("error")
        context = copy_context()
        start(lambda: context.run(model.invoke, "Hi"))
        with stage_all():
            start(lambda: model.invoke("Hi"))

    assert 2 == sum(agent.account.calls for agent in run.report().agents.values())


def test_a_pool_forgets_the_run() -> None:
    """Work that is given to it outside of the run is nobody's."""
    model = fake_chat()
    with ThreadPoolExecutor(1) as pool, warnings.catch_warnings():
        with PLAN.run():
            pool.submit(int).result()
        warnings.simplefilter("error")
        pool.submit(model.invoke, "Hi").result()

    assert 1 == len(model.calls)


def test_refusals_say_why_there_is_no_run() -> None:
    """Of models under the plan, and of graphs."""
    model = optimize(fake_chat(), PLAN)
    graph = StateGraph(MessagesState).add_node("a", lambda s: None).add_edge(START, "a")
    under_plan = budget_graph(graph, PLAN).compile()
    with PLAN.run(), ThreadPoolExecutor(1) as pool:
        for call in (lambda: model.invoke("Hi"), lambda: under_plan.invoke({"messages": []})):
            with pytest.raises(NoBudgetRunError, match="without its context: start it with"):
                pool.submit(call).result()
    with pytest.raises(NoBudgetRunError) as outside:
        model.invoke("Hi")

    assert "without its context" not in str(outside.value)
