"""Limits around a run: a user's day, an organization's month; all of them or none."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from langchain_tokenopt import BudgetLimit, BudgetPlan, UnknownTimeZoneError, optimize, track_usage
from langchain_tokenopt.budget import (
    Claim,
    Owners,
    account_reports,
    memory_accounts,
    reports_in,
)
from langchain_tokenopt.cli.app import app
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
    assert [("ann", 100), ("bob", 100), ("carl", 100)] == [
        (limit.owner, limit.spent_tokens) for limit in run.report().limits
    ]


@pytest.mark.parametrize("make", [BudgetPlan, BudgetLimit])
def test_an_unknown_time_zone_is_refused_at_once(make):
    """With the name that was meant."""
    with pytest.raises(UnknownTimeZoneError, match="Did you mean 'Europe/Berlin'"):
        make(total_tokens=1, window="day", timezone="Europe/Berln")


@pytest.mark.parametrize(
    "within",
    [
        [{"total_tokens": 5, "per": "run"}],
        [{"total_tokens": 5, "per": "user", "window": "day"}] * 2,
        [{"per": "user", "window": "day"}],
        [{"total_usd": -1}],
    ],
    ids=["the run's own", "twice", "of nothing", "below nothing"],
)
def test_limits_that_make_no_sense_are_refused(within):
    """At construction."""
    with pytest.raises(ValueError, match=r"two limits are|needs total_tokens or|greater than"):
        BudgetPlan(total_tokens=1, within=within)


def test_a_window_alone_is_for_all_runs_of_the_plan():
    """A million tokens a day are not a million for every run."""
    assert ("plan", "day") == (
        BudgetPlan(total_tokens=1, window="day").per,
        BudgetPlan(total_tokens=1, window="day").window,
    )
    assert "run" == BudgetPlan(total_tokens=1, per="run", window="day").per


def test_plans_in_files_have_limits_too(tmp_path):
    """Errors name the file, the key, and what would do."""
    path = tmp_path / "plan.toml"
    path.write_text('total_tokens = 9\n[[within]]\ntotal_usd = 5\nper = "user"\nwindow = "day"\n')
    (limit,) = BudgetPlan.from_file(path).within
    assert ("user", "day") == (limit.per, limit.window)
    path.write_text('total_tokens = 9\n[[within]]\ntotal_usd = 5\nzone = "UTC"\n')
    with pytest.raises(ValueError, match=r"within\.0\.zone: unknown key; known are .*timezone"):
        BudgetPlan.from_file(path)
    path.write_text('total_tokens = 9\ntimezone = "Europe/Berln"\n')
    with pytest.raises(UnknownTimeZoneError, match=r"Did you mean 'Europe/Berlin'.*plan\.toml"):
        BudgetPlan.from_file(path)


def test_money_has_windows_too(make_budget, clock):
    """A limit in dollars alone does not limit tokens."""
    clock.now = moment("2026-05-05 12:00")
    day = BudgetLimit(total_usd="0.5", per="user", window="day")
    budget = make_budget(10**9, within=[day], scope=uuid4().hex)
    hold = budget.reserve("writer", 10**8, 0, cost_nano_usd=400_000_000, owners=ANN)
    budget.settle(hold, Usage(10**8, 0), cost_nano_usd=300_000_000)

    denial = budget.reserve("writer", 10, 0, cost_nano_usd=200_000_001, owners=ANN)

    assert (
        "the budget 'default' of the user 'ann' for the day has $0.2000 of $0.5000 left"
        in denial.sentence()
    )
    assert "It resets at 2026-05-06 00:00 (UTC)" in denial.sentence()
    assert budget.reserve("writer", 10, 0, cost_nano_usd=200_000_000, owners=ANN)
    assert 0.6 < budget.reports(ANN)[1].used_ratio <= 1
    assert "tokens" not in budget.reports(ANN)[1].sentence()


def test_thresholds_are_crossed_at_each_level(make_budget, clock, heard):
    """Once each; the event says whose limit it is."""
    limit = BudgetLimit(total_tokens=1_000, per="user", window="day")
    budget = make_budget(10_000, within=[limit], sinks=[heard], scope=uuid4().hex)
    for _ in range(3):
        spend(budget, 300)

    assert [1_000, 1_000] == [event.limit_tokens for event in heard.events]
    assert (
        "90% spent or held; passed 75%; the budget 'default' of the user 'ann' for the day"
        == heard.events[1].detail
    )


def test_shares_are_given_anew_in_each_window(make_budget, clock):
    """Of a run that lasts longer than its window."""
    clock.now = moment("2026-05-05 12:00")
    budget = make_budget(1_000, window="hour", scope=uuid4().hex)
    budget.allocate([Claim("judge", tokens=400)])
    spend(budget, 600)
    assert not spend(budget, 1)
    clock.now += 3_600

    assert 600 == spend(budget, 600)
    assert 400 == budget.report().agents["judge"].available_tokens


def test_a_renewed_total_can_be_changed(make_budget, tmp_path, clock):
    """From one start of an application to the next; that of a run cannot."""
    path = tmp_path / "changed.db"
    limits = [BudgetLimit(total_tokens=n, per="user", window="day") for n in (500, 700)]
    one, two = (
        make_budget(1_000, path=path, run=str(n), within=[limit]) for n, limit in enumerate(limits)
    )
    spend(one, 500)
    assert not spend(one, 1)

    assert 200 == spend(two, 200)
    assert [700, 700] == [two.reports(ANN)[1].total_tokens, two.reports(ANN)[1].spent_tokens]


def test_windows_of_long_ago_are_forgotten(make_budget, clock):
    """With their agents and reservations; the latest stay."""
    clock.now = moment("2026-05-05 12:30")
    limit = BudgetLimit(total_tokens=100, per="user", window="hour")
    budget = make_budget(10**6, within=[limit], scope=uuid4().hex)
    for hour in range(100):
        clock.now = moment("2026-05-05 12:30") + 3_600 * hour
        spend(budget, 50, Owners(f"user {hour}"))
    lost = budget.reserve("writer", 10, 10, owners=Owners("user 0"))

    clock.now += 3_600 * 60
    spend(budget, 50, Owners("late"))

    assert 20 == budget.settle(lost, Usage(10, 10)).charged_tokens
    hours = [budget.accounts(Owners(f"user {hour}"))[1] for hour in (0, 99)]
    assert len(_kept(budget)) < 55
    assert hours[0].starts == hours[1].starts


def test_a_clock_that_was_far_ahead_opens_no_window_again(make_budget, clock):
    """What was forgotten meanwhile is not taken for unspent."""
    clock.now = moment("2026-05-05 12:30")
    limit = BudgetLimit(total_tokens=100, per="user", window="hour")
    budget = make_budget(10**6, within=[limit], scope=uuid4().hex)
    spend(budget, 100)
    clock.now += 86_400 * 400  # a year ahead, for a moment
    spend(budget, 60)
    clock.now -= 86_400 * 400

    assert 100 == spend(budget, 100)  # of the hour after it
    assert not spend(budget, 1)
    clock.now += 3_600
    assert not spend(budget, 1)
    clock.now += 3_600
    assert 100 == spend(budget, 100)


def _kept(budget):
    """Return reports of all accounts of users that are kept."""
    store = budget._account.store
    if store.shared:
        return [report for report in reports_in(str(store)) if report.per == "user"]
    scope = budget._account.levels[1].scope
    accounts = memory_accounts._shared_accounts._accounts
    return [
        account_reports._report(account, ())
        for key, account in accounts.items()
        if key.scope == scope
    ]


def test_a_stream_that_is_collected_in_the_middle_of_another_runs_change_is_settled(desk):
    """On the same thread; to wait for that change would be to wait for oneself."""
    one, two = desk("1"), desk("2")
    hold = one.reserve("writer", 100, 100, owners=ANN)

    two._account.change_all(ANN, lambda _: one.settle(hold, Usage(100, 20)))

    assert [120, 120, 120] == used(one)
    assert [] == two.check(ANN)


def test_an_agent_may_use_what_every_level_has(desk):
    """Calls are made smaller by that; the fullest level decides when to begin with it."""
    spend(desk("1"), 1_000)
    room = desk("2").room_of("writer", owners=ANN)

    assert (500, 500) == (room.available, room.own)
    assert 1_000 / 1_500 == room.used_ratio
    assert 500 == desk("2").available("writer", ANN)


def test_a_checkpoint_says_nothing_of_a_total_that_is_renewed(make_budget):
    """It may be restored in another window, which has spent nothing."""
    budgets = [make_budget(1_000, window=window) for window in ("hour", "run")]
    for budget in budgets:
        spend(budget, 100)

    assert [[], ["writer"]] == [[*budget.snapshot()["agents"]] for budget in budgets]


@pytest.mark.parametrize("name", [5, "x\ud800y", "mia[/b]", "a\0b"])
def test_whatever_a_user_is_called_has_an_account_that_can_be_shown(name, tmp_path):
    """Ids are numbers or broken text at times, said by the run or by a tracker inside of it."""
    path = tmp_path / "budgets.db"
    plan = BudgetPlan(total_tokens=1_000, per="user", window="day")
    model = optimize(fake_chat("_generate", answers=[FakeAnswer("Hi.", Usage(20, 5))] * 2), plan)
    with plan.run(user=name, thread_id=name, path=path):
        model.invoke("Hello.")
    with plan.run(path=path), track_usage(user=name):
        model.invoke("Hello.")
    (day,) = [report for report in reports_in(path) if report.per == "user"]
    assert day.spent_tokens == 50
    shown = CliRunner().invoke(app, ["budget", str(path)])
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize(
    "total",
    [
        {"total_tokens": 2**70},
        {"total_tokens": 10, "total_usd": 1e-12},
        {"total_tokens": 10, "total_usd": 1e15},
        {"total_tokens": 10, "within": [{"total_tokens": 2**70}]},
        {"total_tokens": 10, "within": [{"total_usd": 1e15}]},
    ],
)
def test_totals_that_no_store_can_hold_are_refused_at_once(total):
    with pytest.raises(ValueError, match="total_"):
        BudgetPlan(**total)
