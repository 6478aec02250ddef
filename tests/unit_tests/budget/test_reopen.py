"""Agents that come back after they had finished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.budget import Claim, TokenBudget
from langchain_tokenopt.core.records import BudgetEvent
from langchain_tokenopt.core.usage import Usage

CLAIMS = [Claim("news", tokens=300), Claim("judge", tokens=200, floor=150), Claim("trader")]
SHARES = {"news": 300, "judge": 200, "trader": 500}


class Heard(list[BudgetEvent]):
    """A sink."""

    record = list.append


@pytest.fixture(params=["memory", "file"])
def budget(request, tmp_path):
    """An account of three agents, of which the first has spent 100 and finished."""
    path = None if request.param == "memory" else tmp_path / "budgets.db"
    budget = TokenBudget(1_000, path=path)
    budget.allocate(CLAIMS)
    budget.settle(budget.reserve("news", 100, 0), Usage(100, 0))
    budget.finish("news")
    yield budget
    assert [] == budget.check()
    budget.close()


def allocated(budget):
    """Return what each agent has been given."""
    return {name: line.allocated_tokens for name, line in budget.report().agents.items()}


def test_it_takes_the_rest_of_its_share_back(budget):
    """From the pool; everybody has again what the plan says."""
    assert 200 == budget.report().pool_tokens

    assert budget.reopen("news", 300)
    assert SHARES == allocated(budget)
    assert 200 == budget.available("news")
    assert not budget.report().agents["news"].finished


def test_what_others_have_used_of_it_is_gone(budget):
    """They keep what they hold and have spent."""
    budget.reserve("trader", 590, 0)
    budget.reopen("news", 300)

    assert {"news": 210, "judge": 200, "trader": 500} == allocated(budget)


def test_who_has_not_finished_keeps_what_he_has(budget):
    """Nothing is moved."""
    assert not budget.reopen("judge", 500)
    assert SHARES == allocated(budget)


def test_who_has_spent_his_share_borrows(budget):
    """What is nobody's share."""
    budget.settle(budget.reserve("judge", 200, 0), Usage(200, 0))
    budget.finish("judge")
    budget.reopen("judge", 100)

    assert 200 == allocated(budget)["judge"]
    assert 200 == budget.report().pool_tokens == budget.available("judge")


def test_it_is_told(tmp_path):
    """As every move of tokens is."""
    heard = Heard()
    budget = TokenBudget(1_000, sinks=[heard])
    budget.allocate(CLAIMS)
    budget.finish("news")
    budget.reopen("news", 300)

    assert ["returned 300 to the pool", "came back; took 300 back"] == [
        event.detail for event in heard
    ]


steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "finish", "reopen"]),
        st.sampled_from(["news", "judge", "trader"]),
        st.integers(0, 400),
    ),
    max_size=30,
)


@given(steps)
def test_whoever_comes_and_goes_floors_hold_and_nothing_is_overdrawn(course):
    """Of agents that are there, each can have its floor whatever the others do."""
    budget, held = TokenBudget(1_000), []
    budget.allocate(CLAIMS)
    was_away = set()
    for what, agent, tokens in course:
        if what == "reserve":
            held += filter(None, [budget.reserve(agent, tokens, 0)])
        elif what == "settle" and held:
            budget.settle(held.pop(), Usage(tokens % 50, 0))
        elif what == "finish":
            budget.finish(agent)
            was_away.add(agent)
        elif what == "reopen":
            budget.reopen(agent, SHARES[agent])
        report = budget.report()

        assert [] == budget.check() or report.surplus_tokens
        judge = report.agents["judge"]
        if "judge" not in was_away and not report.surplus_tokens:
            assert judge.spent_tokens + judge.held_tokens + judge.available_tokens >= 150
