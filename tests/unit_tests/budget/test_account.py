"""What an account promises, in memory and in a file alike."""

from __future__ import annotations

import threading

import pytest

from langchain_tokenopt.budget import Claim, Denial, Hold, TokenBudget, leases
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptWarning
from langchain_tokenopt.core.usage import Usage


def _numbers(budget):
    report = budget.report()
    assert [] == budget.check()
    return report.spent_tokens, report.held_tokens, report.left_tokens


# Reserving


def test_what_is_reserved_is_held(make_budget):
    """Before the call the greatest possible cost is set aside."""
    budget = make_budget(1_000)

    hold = budget.reserve("writer", 300, 200)

    assert isinstance(hold, Hold)
    assert hold
    assert (500, 300, 200, 0.5) == (
        hold.tokens,
        hold.input_tokens,
        hold.max_output_tokens,
        hold.used_ratio,
    )
    assert (0, 500, 500) == _numbers(budget)


def test_what_does_not_fit_is_denied_with_both_numbers(make_budget):
    """A denial says what was needed and what there was; nothing is held for it."""
    budget = make_budget(1_000)
    budget.reserve("writer", 300, 500)

    denial = budget.reserve("reader", 100, 101)

    assert not denial
    assert isinstance(denial, Denial)
    assert (201, 200, 1_000, "total") == (
        denial.needed_tokens,
        denial.available_tokens,
        denial.limit_tokens,
        denial.reason,
    )
    assert (0, 800, 200) == _numbers(budget)
    assert 1 == budget.report().agents["reader"].denied_calls


def test_the_last_token_can_be_reserved(make_budget):
    """The total is spent to the token."""
    budget = make_budget(1_000)
    budget.reserve("writer", 300, 500)

    assert budget.reserve("reader", 100, 100)
    assert not budget.reserve("reader", 0, 1)
    assert budget.reserve("reader", 0, 0)


def test_a_smaller_answer_is_granted_where_it_will_do(make_budget):
    """As much as there is, when that is at least what was asked for as the least."""
    budget = make_budget(1_000)
    budget.reserve("writer", 300, 500)

    assert not budget.reserve("reader", 100, 500, min_output_tokens=101)
    hold = budget.reserve("reader", 100, 500, min_output_tokens=40)

    assert (200, 100) == (hold.tokens, hold.max_output_tokens)


def test_a_denial_becomes_an_error_for_who_wants_one():
    """The error has the numbers too."""
    error = TokenBudget(100).reserve("writer", 90, 20).error()

    assert isinstance(error, BudgetExceededError)
    assert ("writer", 110, 100, 100) == (
        error.account,
        error.needed_tokens,
        error.left_tokens,
        error.limit_tokens,
    )


@pytest.mark.parametrize(
    "wrong", [{"input_tokens": -1}, {"max_output_tokens": 1.5}, {"input_tokens": True}], ids=str
)
def test_impossible_counts_are_refused(wrong):
    """Counts are whole and not negative."""
    with pytest.raises(ValueError, match=r"at least 0; got (-1|1\.5|True)"):
        TokenBudget(100).reserve("writer", **({"input_tokens": 1, "max_output_tokens": 1} | wrong))


def test_the_least_answer_must_not_exceed_the_greatest():
    """Both numbers are in the message."""
    with pytest.raises(ValueError, match=r"\(20\) exceeds max_output_tokens \(10\)"):
        TokenBudget(100).reserve("writer", 1, 10, min_output_tokens=20)


@pytest.mark.parametrize("total", [0, -5, 1.5, True])
def test_a_total_must_be_a_positive_number_of_tokens(total):
    """A budget of nothing is a mistake."""
    with pytest.raises(ValueError, match="total_tokens must be a whole number of at least 1"):
        TokenBudget(total)


@pytest.mark.parametrize(
    "settings",
    [
        {"lease_seconds": 0},
        {"on_store_error": "maybe"},
        {"total_usd": 0},
        {"total_usd": "much"},
        {"total_usd": float("nan")},
        {"cancellation_charge": "nothing"},
        {"path": "mysql://"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings):
    """Each message names the setting and the value."""
    with pytest.raises(ValueError, match=str(next(iter(settings.values())))):
        TokenBudget(100, **settings)


# Settling


def test_settling_charges_what_was_used_and_frees_the_rest(make_budget):
    """The usual course of a call."""
    budget = make_budget(1_000)
    hold = budget.reserve("writer", 300, 200)

    settlement = budget.settle(hold, Usage(300, 120))

    assert (420, 0, 80, False) == (
        settlement.charged_tokens,
        settlement.surplus_tokens,
        settlement.freed_tokens,
        settlement.estimated,
    )
    assert (420, 0, 580) == _numbers(budget)


def test_langchains_usage_metadata_will_do(make_budget):
    """What a message carries can be given as it is."""
    budget = make_budget(1_000)

    budget.settle(
        budget.reserve("writer", 300, 200),
        {"input_tokens": 300, "output_tokens": 50, "total_tokens": 350},
    )

    assert 350 == budget.report().spent_tokens


@pytest.mark.parametrize("unknown", [None, {}, Usage(-5, 10)], ids=["None", "empty", "negative"])
def test_unknown_usage_costs_the_whole_reservation(make_budget, unknown):
    """Who does not know must assume the worst."""
    budget = make_budget(1_000)

    settlement = budget.settle(budget.reserve("writer", 300, 200), unknown)

    assert (500, True) == (settlement.charged_tokens, settlement.estimated)
    assert (500, 0, 500) == _numbers(budget)
    assert 1 == budget.report().agents["writer"].estimated_calls


def test_the_same_hold_is_charged_once(make_budget):
    """An event told twice is one."""
    budget = make_budget(1_000)
    hold = budget.reserve("writer", 300, 200)
    budget.settle(hold, Usage(300, 100))

    again = budget.settle(hold, Usage(300, 100))

    assert (0, True) == (again.charged_tokens, again.repeated)
    assert not budget.release(hold)
    assert (400, 0, 600) == _numbers(budget)
    assert 1 == budget.report().agents["writer"].calls


def test_a_run_that_is_held_is_not_held_twice(make_budget):
    """Two handlers that hear of one call reserve it once."""
    budget = make_budget(1_000)
    first = budget.reserve("writer", 300, 200, run_id="run-1")
    second = budget.reserve("writer", 300, 200, run_id="run-1")

    assert first.id == second.id
    assert (0, 500, 500) == _numbers(budget)
    assert not budget.settle(first, Usage(300, 100)).repeated
    assert budget.settle(second, Usage(300, 100)).repeated
    assert 400 == budget.report().spent_tokens


def test_each_attempt_of_a_run_is_charged(make_budget):
    """A retry reached the provider once more, and was billed once more."""
    budget = make_budget(2_000)

    for _ in range(3):
        budget.settle(budget.reserve("writer", 300, 200, run_id="run-1"), Usage(300, 100))

    assert 1_200 == budget.report().spent_tokens


def test_releasing_costs_nothing(make_budget):
    """A call that never reached the provider."""
    budget = make_budget(1_000)
    hold = budget.reserve("writer", 300, 200)

    assert budget.release(hold)
    assert not budget.release(hold)
    assert (0, 0, 1_000) == _numbers(budget)


def test_a_released_call_that_was_sent_after_all_is_charged(make_budget):
    """What was billed counts, whatever was believed before."""
    budget = make_budget(1_000)
    hold = budget.reserve("writer", 300, 200)
    budget.release(hold)

    settlement = budget.settle(hold, Usage(300, 100))

    assert (400, 400) == (settlement.charged_tokens, settlement.surplus_tokens)
    assert (400, 0, 600) == _numbers(budget)


def test_a_cached_answer_costs_nothing_and_counts_as_saved(make_budget):
    """Its tokens were spent long ago."""
    budget = make_budget(1_000)

    budget.settle(budget.reserve("writer", 300, 200), Usage(300, 100), outcome="cached")

    report = budget.report()
    assert (0, 0, 400) == (report.spent_tokens, report.held_tokens, report.saved_tokens)
    assert (0, 400) == (report.agents["writer"].calls, report.agents["writer"].saved_tokens)


@pytest.mark.parametrize(
    ("received", "charged"),
    [(0, 364), (100, 464), (220, 584), (270, 600), (300, 600)],
    ids=lambda number: f"{number}",
)
def test_a_cancelled_stream_costs_what_arrived_and_a_margin(make_budget, received, charged):
    """A quarter more, at least 64 tokens, at most the reservation."""
    budget = make_budget(1_000)
    hold = budget.reserve("writer", 300, 300)

    settlement = budget.settle(hold, Usage(300, received), outcome="cancelled")

    assert (charged, True) == (settlement.charged_tokens, settlement.estimated)
    assert (charged, 0, 1_000 - charged) == _numbers(budget)


@pytest.mark.parametrize(("received", "margin"), [(256, 64), (257, 65), (400, 100), (401, 101)])
def test_the_margin_is_a_quarter_rounded_up(make_budget, received, margin):
    """Of what arrived."""
    budget = make_budget(2_000)
    hold = budget.reserve("writer", 300, 1_000)

    settlement = budget.settle(hold, Usage(300, received), outcome="cancelled")

    assert 300 + received + margin == settlement.charged_tokens
    assert 1_000 - received - margin == settlement.possible_surplus_tokens


@pytest.mark.parametrize(("usage", "possible"), [(None, 0), (Usage(300, 10), 26)], ids=str)
def test_what_a_call_allowed_bounds_what_is_unknown(make_budget, usage, possible):
    """Not what was held beyond it."""
    budget = make_budget(1_000, cancellation_charge="margin")
    hold = budget.reserve("writer", 300, 500)

    settlement = budget.settle(hold, usage, outcome="cancelled", most_tokens=400)

    assert (400 - possible, possible) == (
        settlement.charged_tokens,
        settlement.possible_surplus_tokens,
    )
    assert possible == budget.report().possible_surplus_tokens
    assert [] == budget.check()


# What providers charge beyond a reservation


def test_a_surplus_is_charged_and_told_apart(make_budget):
    """No reservation prevents it; it reduces what is left."""
    budget = make_budget(1_000)

    settlement = budget.settle(budget.reserve("writer", 300, 200), Usage(320, 200))

    assert (520, 20) == (settlement.charged_tokens, settlement.surplus_tokens)
    assert (520, 0, 480) == _numbers(budget)
    assert (20, 0) == (budget.report().surplus_tokens, budget.report().overshoot_tokens)


def test_only_a_surplus_can_exceed_the_total(make_budget):
    """It is reported as such, and nothing more is granted."""
    budget = make_budget(1_000)

    budget.settle(budget.reserve("writer", 500, 500), Usage(540, 500))

    report = budget.report()
    assert (1_040, 40, 40, 0) == (
        report.spent_tokens,
        report.surplus_tokens,
        report.overshoot_tokens,
        report.left_tokens,
    )
    assert [] == budget.check()
    assert not budget.reserve("writer", 0, 1)


def test_a_call_without_reservation_is_charged(make_budget):
    """All of it is surplus."""
    budget = make_budget(1_000)

    settlement = budget.charge("stranger", Usage(100, 50))

    assert (150, 150, False) == (
        settlement.charged_tokens,
        settlement.surplus_tokens,
        settlement.repeated,
    )
    assert (150, 0, 850) == _numbers(budget)


def test_a_charge_must_be_known():
    """Without a reservation there is nothing to assume."""
    with pytest.raises(ValueError, match="got None"):
        TokenBudget(100).charge("stranger", None)


def test_a_call_that_was_let_through_is_charged_once_as_surplus(make_budget):
    """For those who only watch; told twice it is still one."""
    budget = make_budget(1_000)
    hold = budget.admit("watcher", 300, 200)
    assert (0, 0, 1_000) == _numbers(budget)

    first, again = (budget.settle(hold, Usage(300, 100)) for _ in range(2))

    assert (400, 400, True) == (first.charged_tokens, first.surplus_tokens, again.repeated)
    assert (400, 0, 600) == _numbers(budget)
    assert not budget.release(hold)

    never_sent = budget.admit("watcher", 300, 200)
    assert not budget.release(never_sent)
    assert budget.settle(never_sent, Usage(300, 100)).repeated


# Topping up


# Leases


def test_a_hold_without_news_is_charged_when_its_lease_ends(make_budget, clock):
    """A worker that died may have sent its call: the account is never below the bill."""
    budget = make_budget(1_000, lease_seconds=60)
    budget.reserve("writer", 300, 200)
    clock.now += 60

    assert (500, 0, 500) == _numbers(budget)
    agent = budget.report().agents["writer"]
    assert (1, 1) == (agent.calls, agent.estimated_calls)


def test_a_late_end_corrects_the_charge(make_budget, clock):
    """The worker was only slow."""
    budget = make_budget(1_000, lease_seconds=60)
    hold = budget.reserve("writer", 300, 200)
    clock.now += 61
    budget.report()

    settlement = budget.settle(hold, Usage(300, 50))

    assert (350, 150) == (settlement.charged_tokens, settlement.freed_tokens)
    assert (350, 0, 650) == _numbers(budget)
    agent = budget.report().agents["writer"]
    assert (1, 0) == (agent.calls, agent.estimated_calls)
    assert budget.settle(hold, Usage(300, 50)).repeated


def test_a_late_release_refunds_the_charge(make_budget, clock):
    """The call was never sent."""
    budget = make_budget(1_000, lease_seconds=60)
    hold = budget.reserve("writer", 300, 200)
    clock.now += 61
    budget.report()

    assert budget.release(hold)
    assert (0, 0, 1_000) == _numbers(budget)
    assert 0 == budget.report().agents["writer"].calls


def test_ended_leases_make_room(make_budget, clock):
    """None is left behind: what its call did not use can be spent."""
    budget = make_budget(1_000, lease_seconds=60)
    hold = budget.reserve("writer", 500, 500)
    assert not budget.reserve("reader", 1, 0)
    clock.now += 60
    assert not budget.reserve("reader", 1, 0)

    budget.settle(hold, Usage(500, 100))
    assert budget.reserve("reader", 300, 100)


@pytest.mark.parametrize("jump", [-10_000_000.0, 10_000_000.0], ids=["back", "forward"])
def test_clocks_that_jump_overdraw_nothing(make_budget, clock, jump):
    """A jump can end leases early, never prolong one, and what is told late is right again."""
    budget = make_budget(1_000, lease_seconds=60)
    clock.now += 30
    hold = budget.reserve("writer", 300, 200)
    clock.now += jump
    assert not budget.reserve("reader", 400, 101)

    clock.now += 60
    assert (500, 0, 500) == _numbers(budget)
    budget.settle(hold, Usage(300, 200))
    assert (500, 0, 500) == _numbers(budget)


def test_a_clock_that_jumps_forward_makes_nothing_forgotten(make_budget, clock):
    """It counts as one lease at most: what ended before is still known."""
    budget = make_budget(1_000, lease_seconds=60)
    hold = budget.reserve("writer", 300, 200)
    clock.now += 60
    assert (500, 0, 500) == _numbers(budget)
    clock.now += 10_000_000.0

    assert 350 == budget.settle(hold, Usage(300, 50)).charged_tokens
    assert (350, 0, 650) == _numbers(budget)


@pytest.mark.parametrize(("seconds", "is_known"), [(239, True), (240, False)])
@pytest.mark.parametrize("ends", ["expires", "is released"])
def test_ends_are_remembered_for_four_leases(make_budget, clock, seconds, is_known, ends):
    """What is reported in that time is right; a lease leaves nothing behind in the end."""
    budget = make_budget(1_000, lease_seconds=60)
    hold = budget.reserve("writer", 300, 200)
    if ends == "expires":
        clock.now += 60
        budget.report()
    else:
        budget.release(hold)
    for step in [60, 60, 60, seconds - 180]:
        clock.now += step
        budget.report()

    assert is_known != budget.settle(hold, Usage(300, 100)).repeated


# Money


def test_money_is_a_second_limit(make_budget):
    """Whichever is reached first refuses."""
    budget = make_budget(1_000_000, total_usd="0.01")

    assert budget.reserve("writer", 300, 200, cost_nano_usd=6_000_000)
    denial = budget.reserve("writer", 300, 200, cost_nano_usd=5_000_000)

    assert "money" == denial.reason
    with pytest.raises(
        BudgetExceededError, match=r"up to \$0\.0050+ .* has \$0\.0040+ of \$0\.010+ left"
    ):
        raise denial.error()


def test_settling_charges_the_money_that_was_spent(make_budget):
    """The rest is free again."""
    budget = make_budget(1_000_000, total_usd=0.01)
    hold = budget.reserve("writer", 300, 200, cost_nano_usd=6_000_000)

    budget.settle(hold, Usage(300, 100), cost_nano_usd=4_000_000)

    report = budget.report()
    assert (4_000_000, 0) == (report.spent_nano_usd, report.held_nano_usd)
    assert budget.reserve("writer", 300, 200, cost_nano_usd=6_000_000)
    assert [] == budget.check()


def test_a_call_without_price_does_not_slip_through_a_budget_in_money(make_budget):
    """Unknown is not zero."""
    budget = make_budget(1_000_000, total_usd=1)

    denial = budget.reserve("writer", 300, 200)

    assert "unpriced" == denial.reason
    assert "no known price" in str(denial.error())


def test_a_price_that_is_unknown_in_the_end_is_the_one_that_was_held(make_budget):
    """Who does not know must assume the worst."""
    budget = make_budget(1_000_000, total_usd=1)
    budget.settle(budget.reserve("writer", 300, 200, cost_nano_usd=7), Usage(300, 100))

    assert (7, 0) == (budget.report().spent_nano_usd, budget.report().unpriced_calls)


def test_calls_without_a_price_are_counted(make_budget):
    """The sum of money does not contain them."""
    budget = make_budget(1_000)
    budget.settle(budget.reserve("writer", 300, 200), Usage(300, 100))

    assert (0, 1) == (budget.report().spent_nano_usd, budget.report().unpriced_calls)


# Shares


def test_a_share_is_safe_from_others(make_budget):
    """What is left belongs to those who were promised it."""
    budget = make_budget(1_000)
    budget.allocate([Claim("judge", tokens=400)])

    denial = budget.reserve("news", 601, 0)

    assert ("share", 600) == (denial.reason, denial.available_tokens)
    assert budget.reserve("news", 600, 0)
    assert budget.reserve("judge", 400, 0)
    assert [] == budget.check()


def test_a_share_may_borrow_what_nobody_claims(make_budget):
    """The pool is everybody's."""
    budget = make_budget(1_000)
    budget.allocate([Claim("judge", tokens=400), Claim("news", tokens=300)])

    assert 600 == budget.available("news")
    assert budget.reserve("news", 600, 0)
    assert (400, 0) == (budget.available("judge"), budget.available("news"))


def test_a_cap_is_hard(make_budget):
    """Whatever is left."""
    budget = make_budget(1_000)
    budget.allocate([Claim("news", tokens=300, cap=350)])

    denial = budget.reserve("news", 351, 0)

    assert ("cap", 350, 350) == (denial.reason, denial.available_tokens, denial.limit_tokens)
    assert budget.reserve("news", 350, 0)


def test_what_finished_agents_leave_is_everybodys(make_budget, heard):
    """Up to their caps; who has finished has no share any more."""
    budget = make_budget(1_000, sinks=[heard])
    budget.allocate(
        [
            Claim("news", tokens=500),
            Claim("judge", tokens=200, cap=550),
            Claim("market", tokens=300),
        ]
    )
    budget.settle(budget.reserve("news", 80, 40), Usage(60, 40))

    assert 400 == budget.finish("news")
    assert 0 == budget.finish("news")
    report = budget.report()
    news = report.agents["news"]
    assert (400, 400, True) == (report.pool_tokens, news.returned_tokens, news.finished)
    assert (550, 700) == (budget.available("judge"), budget.available("market"))
    assert [] == budget.check()
    assert ["rebalanced"] == heard.kinds
    assert "returned 400 to the pool" == heard.events[0].detail


def test_calls_under_way_keep_what_they_hold_when_their_agent_finishes(make_budget):
    """Only what is not held is given away; the rest follows."""
    budget = make_budget(1_000)
    budget.allocate([Claim("news", tokens=500), Claim("judge", tokens=500)])
    hold = budget.reserve("news", 200, 100)

    assert 200 == budget.finish("news")
    budget.settle(hold, Usage(200, 0))

    report = budget.report()
    assert (300, 300) == (report.pool_tokens, report.agents["news"].returned_tokens)
    assert [] == budget.check()


def test_shares_are_given_once(make_budget):
    """Who joins later finds what was given."""
    budget = make_budget(1_000)
    first = budget.allocate([Claim("news"), Claim("judge")])

    assert {"news": 500, "judge": 500} == first
    assert first == budget.allocate([Claim("news", tokens=1)])


def test_shares_are_of_what_is_left(make_budget):
    """What was spent before is nobody's share."""
    budget = make_budget(1_000)
    budget.settle(budget.reserve("stranger", 100, 0), Usage(100, 0))
    budget.settle(budget.reserve("news", 100, 0), Usage(100, 0))

    budget.allocate([Claim("news"), Claim("judge")])

    assert (400, 400) == (budget.available("news"), budget.available("judge"))
    assert [] == budget.check()


def test_debts_are_paid_by_the_pool_then_by_the_lowest_priority(make_budget, heard):
    """Floors pay last."""
    budget = make_budget(1_000, sinks=[heard])
    budget.allocate(
        [
            Claim("news", tokens=400, floor=100, priority=1),
            Claim("judge", tokens=500, floor=300, priority=2),
        ]
    )
    budget.charge("stranger", Usage(150, 0))
    assert (350, 500) == (budget.available("news"), budget.available("judge"))

    budget.charge("stranger", Usage(300, 0))
    assert (100, 450) == (budget.available("news"), budget.available("judge"))

    budget.charge("stranger", Usage(250, 0))
    assert (0, 300) == (budget.available("news"), budget.available("judge"))
    assert [] == budget.check()
    assert {"rebalanced"} == set(heard.kinds) - {"alert"}


def test_finished_agents_pay_no_debts(make_budget, heard):
    """They have given everything back; who has a share pays."""
    budget = make_budget(1_000, sinks=[heard])
    budget.allocate([Claim("news", tokens=400), Claim("judge", tokens=500, priority=2)])
    budget.finish("news")
    budget.charge("stranger", Usage(550, 0))

    assert "paid what providers charged beyond reservations: judge 50" == heard.events[1].detail
    agents = budget.report().agents
    assert (400, 450) == (agents["news"].allocated_tokens, agents["judge"].allocated_tokens)


# Whole accounts


def test_a_stopped_budget_refuses_everything(make_budget):
    """What is held may still be settled."""
    budget = make_budget(1_000)
    hold = budget.reserve("writer", 300, 200)
    budget.stop()

    assert "stopped" == budget.reserve("writer", 1, 0).reason
    assert 0 == budget.available("writer")
    assert 400 == budget.settle(hold, Usage(300, 100)).charged_tokens
    assert budget.report().stopped


def test_a_run_goes_on_from_a_snapshot(make_budget):
    """Held calls were cut off and count as sent; restoring twice changes nothing."""
    before = make_budget(1_000, run="before")
    before.settle(before.reserve("writer", 300, 200), Usage(320, 200))
    before.reserve("reader", 50, 50)
    snapshot = before.snapshot()
    after = make_budget(1_000, run="after")

    for _ in range(2):
        after.restore(snapshot)

    assert (620, 0, 380) == _numbers(after)
    assert 20 == after.report().surplus_tokens
    assert {"writer": 520, "reader": 100} == {
        agent: part.spent_tokens for agent, part in after.report().agents.items()
    }


def test_a_snapshot_that_does_not_fit_leaves_nothing(make_budget):
    """The total was cut between two runs: what exceeds it is surplus."""
    before = make_budget(1_000, run="before")
    before.settle(before.reserve("writer", 800, 0), Usage(800, 0))
    after = make_budget(500, run="after")
    after.allocate([Claim("judge", tokens=300)])

    after.restore(before.snapshot())

    assert (800, 0, 0) == _numbers(after)
    assert not after.reserve("judge", 1, 0)


def test_denials_are_told(make_budget, heard):
    """With what was needed and what there was; the run is named."""
    budget = make_budget(1_000, sinks=[heard], run="thread-7", name="desk")
    budget.reserve("writer", 2_000, 0)

    (event,) = heard.events
    assert ("denied", "desk", "thread-7", "writer") == (
        event.kind,
        event.budget,
        event.run,
        event.agent,
    )
    assert "total: needed 2,000, available 1,000" == event.detail


def test_a_sink_that_fails_loses_no_hold(make_budget):
    """A warning, and the call goes on."""

    class Broken:
        def record(self, event):
            raise OSError("no room")

    budget = make_budget(1_000, sinks=[Broken()])
    with pytest.warns(TokenOptWarning, match="no room"):
        hold = budget.reserve("writer", 500, 0)

    assert hold
    assert (0, 500, 500) == _numbers(budget)


def test_threads_never_overdraw(make_budget):
    """Eight threads that race for the last tokens get exactly these."""
    budget = make_budget(1_000)
    start = threading.Barrier(8)
    granted = []

    def race():
        start.wait()
        for _ in range(40):
            hold = budget.reserve("writer", 10, 10, min_output_tokens=0)
            if hold:
                used = Usage(10, min(5, hold.max_output_tokens))
                granted.append(budget.settle(hold, used).charged_tokens)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    spent, held, _ = _numbers(budget)
    assert (sum(granted), 0) == (spent, held)
    assert 990 <= spent <= 1_000


def test_an_abandoned_call_may_be_settled_in_the_middle_of_another(make_budget, monkeypatch):
    """Python may collect a stream anywhere: its end is noted at once, written a moment later."""
    budget = make_budget(1_000)
    abandoned, other = budget.reserve("writer", 300, 0), budget.reserve("writer", 100, 0)
    look = leases.granted

    def collect_and_look(*asked):
        monkeypatch.undo()
        ends.append(budget.settle(abandoned, Usage(200, 0)))
        ends.append(budget.release(other))
        ends.append(budget.charge("stranger", Usage(50, 0)))
        budget.close()
        return look(*asked)

    ends = []
    monkeypatch.setattr(leases, "granted", collect_and_look)
    assert budget.reserve("reader", 600, 0)

    assert 200 == ends[0].charged_tokens
    assert (250, 600, 150) == _numbers(budget)
