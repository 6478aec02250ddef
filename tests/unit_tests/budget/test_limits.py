"""Limits around a run: a user's day, an organization's month; all of them or none."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from langchain_tokenopt import BudgetLimit, BudgetPlan, UnknownTimeZoneError, optimize, track_usage
from langchain_tokenopt.budget import Owners
from langchain_tokenopt.core.usage import Usage
from tests.support.fakes import FakeAnswer, fake_chat

ANN = Owners("ann", "acme")


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture
def desk(make_budget, clock):
    """Make budgets of one run each, inside of a user's day inside of an organization's month."""
    clock.now = moment("2026-03-28 22:30")
    within = [
        BudgetLimit(total_tokens=1_500, per="user", window="day", timezone="Europe/Berlin"),
        BudgetLimit(total_tokens=4_000, per="organization", window="month"),
    ]

    scope = uuid4().hex

    def make(run, total_tokens=1_000):
        return make_budget(total_tokens, run=run, within=within, clock=clock, scope=scope)

    return make


def spend(budget, tokens, owners=ANN):
    hold = budget.reserve("writer", tokens, 0, owners=owners)
    return budget.settle(hold, Usage(tokens, 0)).charged_tokens if hold else hold


def used(budget, owners=ANN):
    return [report.spent_tokens + report.held_tokens for report in budget.reports(owners)]


def test_a_call_is_paid_from_every_level(desk):
    """Held and charged alike; what is not used is free again everywhere."""
    budget = desk("1")
    hold = budget.reserve("writer", 300, 200, owners=ANN)
    assert [500, 500, 500] == used(budget)
    budget.settle(hold, Usage(300, 50))

    assert [350, 350, 350] == used(budget)
    assert [] == budget.check(ANN)


def test_one_level_that_refuses_takes_nothing_from_the_others(desk):
    """The refusal names it, with both numbers and when there is more."""
    spend(desk("1"), 1_000)
    budget = desk("2")

    denial = spend(budget, 600)

    assert not denial
    assert [0, 1_000, 1_000] == used(budget)
    assert str(denial.error()).startswith(
        "'writer' needs 600 tokens for this call but the budget 'default' of the user 'ann' for "
        "the day has 500 of 1,500 left. It resets at 2026-03-29 00:00 (Europe/Berlin)."
    )


def test_others_go_on(desk):
    """Another user of the organization has a day of her own, and the same month."""
    spend(desk("1"), 1_000)

    assert 1_000 == spend(desk("2"), 1_000, Owners("bob", "acme"))
    assert [0, 0, 2_000] == used(desk("3"), Owners("carl", "acme"))


def test_a_new_day_brings_a_new_total(desk, clock):
    """At midnight in Berlin, and that day has 23 hours."""
    spend(desk("1"), 1_000)
    clock.now = moment("2026-03-28 23:00")
    assert 1_000 == spend(desk("2"), 1_000)
    clock.now = moment("2026-03-29 21:59")
    assert not spend(desk("3"), 1_000)
    clock.now = moment("2026-03-29 22:00")

    assert 1_000 == spend(desk("3"), 1_000)


def test_a_call_settles_in_the_window_that_it_was_reserved_in(desk, clock):
    """Whatever the time is when it ends."""
    budget = desk("1")
    hold = budget.reserve("writer", 500, 500, owners=ANN)
    clock.now += 3_600
    budget.settle(hold, Usage(500, 100))

    assert [600, 0, 600] == used(budget)
    clock.now -= 3_600
    assert [600, 600, 600] == used(budget)


def test_a_clock_that_is_set_back_gives_nothing_back(desk, clock):
    """Who comes back to a day finds what it has spent."""
    spend(desk("1"), 1_000)
    clock.now += 3_600
    spend(desk("2"), 1_000)
    clock.now -= 3_600
    assert not spend(desk("3"), 1_000)
    clock.now += 3_600

    assert not spend(desk("4"), 1_000)


def test_a_plan_for_a_users_day_is_one_line(tmp_path):
    """Calls say whose they are as everywhere."""
    plan = BudgetPlan(total_tokens=150, per="user", window="day", timezone="Asia/Kolkata")
    model = optimize(fake_chat(answers=[FakeAnswer("Yes.", Usage(12, 88))] * 9), plan)
    with plan.run(user="ann", path=tmp_path / "budgets.db") as run:
        model.invoke("Is it?")
        refused = model.invoke("Is it?")
        other = model.invoke("Is it?", {"metadata": {"user_id": "bob"}})
        with track_usage(user="carl"):
            third = model.invoke("Is it?")

    assert "of the user 'ann' for the day has 50 of 150 left" in refused.content
    assert ["Yes.", "Yes."] == [other.content, third.content]
    assert [100] == [limit.spent_tokens for limit in run.report().limits]


@pytest.mark.parametrize("make", [BudgetPlan, BudgetLimit])
def test_an_unknown_time_zone_is_refused_at_once(make):
    """With the name that was meant."""
    with pytest.raises(UnknownTimeZoneError, match="Did you mean 'Europe/Berlin'"):
        make(total_tokens=1, window="day", timezone="Europe/Berln")
