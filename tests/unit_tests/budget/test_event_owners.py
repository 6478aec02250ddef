"""Whose budget an event is about: nobody else is to hear of it."""

from __future__ import annotations

import asyncio

import pytest

from langchain_tokenopt import BudgetLimit, BudgetPlan, Ledger, optimize, track_usage
from langchain_tokenopt.core.records import BudgetEvent
from langchain_tokenopt.ledger.rows import without_user
from langchain_tokenopt.ledger.spill import to_line
from langchain_tokenopt.testing import EventList

PROMPT = "word " * 300


def owners(events: EventList, **wanted: str) -> set[tuple[str | None, str | None]]:
    return {
        (each.user, each.organization)
        for each in events
        if isinstance(each, BudgetEvent)
        and all(getattr(each, name) == value for name, value in wanted.items())
    }


def plan(**settings: object) -> BudgetPlan:
    return BudgetPlan(total_tokens=1_000, agents={"default": {}}, name="desk", **settings)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_is_its_users(model_server, is_async):
    """As ``plan.run`` names them, or a tracker around it."""
    told, around, unsaid = EventList(), EventList(), EventList()
    desk = plan()
    model = optimize(model_server.chat_openai(), desk)

    def ask() -> None:
        if is_async:
            asyncio.run(model.ainvoke(PROMPT))
        else:
            model.invoke(PROMPT)

    with desk.run(user=7, organization="acme", sinks=[told]):  # type: ignore[arg-type]
        ask()
    with track_usage(user="ann"), track_usage(), desk.run(sinks=[around]):
        ask()
    with desk.run(sinks=[unsaid]):
        ask()

    assert {("7", "acme")} == owners(told, kind="alert")
    assert {("ann", None)} == owners(around, kind="alert")
    assert {(None, None)} == owners(unsaid, kind="alert")


def test_events_of_limits_are_those_of_who_has_the_limit(model_server, tmp_path):
    """Per user and per organization; a limit of all is nobody's own."""
    events = EventList()
    limits = [
        BudgetLimit(name="person", per="user", total_tokens=400),
        BudgetLimit(name="firm", per="organization", total_tokens=800),
        BudgetLimit(name="all", per="plan", total_tokens=900),
    ]
    desk = plan(within=limits)
    model = optimize(model_server.chat_openai(), desk)
    for user in ("ann", "bob"):
        path = tmp_path / "budgets.db"
        with desk.run(user=user, organization="acme", path=path, sinks=[events]):
            model.invoke(PROMPT)

    assert {("ann", None), ("bob", None)} == owners(events, budget="person")
    assert {(None, "acme")} == owners(events, budget="firm")
    assert {(None, None)} == owners(events, budget="all")


def test_a_run_that_users_share_is_nobodys_own(model_server, tmp_path):
    """Each has a part: what happens in bob's is not told to the user that the run names."""
    events = EventList()
    desk = plan(per="user")
    model = optimize(model_server.chat_openai(), desk)
    with desk.run(user="ann", path=tmp_path / "budgets.db", sinks=[events]):
        model.invoke(PROMPT, {"metadata": {"user_id": "bob"}})
    assert {(None, None), ("bob", None)} == owners(events, kind="alert")


def test_a_ledger_that_hides_users_hides_those_of_budgets(model_server, tmp_path):
    """Also where the words of an event name them, and in files of what it could not write."""
    desk = plan(within=[BudgetLimit(name="person", per="user", total_tokens=400)])
    model, events = optimize(model_server.chat_openai(), desk), EventList()
    with Ledger(tmp_path / "calls.db", user_key="key") as ledger:
        sinks = [ledger, events]
        with desk.run(user="ann-lee", path=tmp_path / "budgets.db", sinks=sinks):
            model.invoke(PROMPT)
        ledger.flush()
        assert len(events) == len(ledger.budget_events())

    assert any("'ann-lee'" in each.detail for each in events)
    assert b"ann-lee" not in (tmp_path / "calls.db").read_bytes()
    assert not any("ann-lee" in to_line(without_user(each, b"key")) for each in events)
