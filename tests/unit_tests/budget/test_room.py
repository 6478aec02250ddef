"""What a call may have: laws of the pure function, and what runs make of it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.budget import Claim, TokenBudget
from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.room import Demand, Demands, Stake, may_have
from langchain_tokenopt.core.usage import Usage

tokens = st.integers(0, 5_000)
demands = st.builds(Demand, st.integers(0, 400), st.integers(0, 3_000), st.integers(0, 300))
stakes = st.builds(Stake, st.integers(0, 600), demands, st.sampled_from([0.5, 1.0, 2.0, 3.0]))
others = st.lists(stakes, max_size=6)


def missing(stake: Stake) -> int:
    """Return what an agent needs for short answers beside its share."""
    return max(stake.demand.least - stake.share, 0)


@given(tokens, stakes, others, demands)
def test_a_call_never_has_more_than_is_left_beside_the_shares_of_others(left, own, those, later):
    """And what it should do with is no more than what it is granted."""
    found = may_have(left, own, those, later)

    assert 0 <= found.fair <= found.most
    assert found.most <= max(left - sum(other.share for other in those), 0)


@given(tokens, st.integers(1, 400), st.integers(0, 3_000), demands)
def test_short_answers_of_its_own_that_may_come_are_kept(left, least, more, later):
    """As those of others are: what it should do with leaves them, as far as it has its own."""
    own = Stake(left, Demand(least, least + more))

    assert may_have(left, own, (), later).fair <= max(least, left - later.least - later.hoped)


@given(tokens, stakes, others, demands)
def test_its_own_share_is_always_its_own(left, own, those, later):
    """Whatever the others need, and however much of it its later calls will need."""
    left += own.share + sum(other.share for other in those)

    assert own.share <= may_have(left, own, those, later).most


@given(tokens, tokens, stakes, others, demands)
def test_with_more_it_never_has_less(left, more, own, those, later):
    """Of both."""
    fair, most = may_have(left, own, those, later)
    larger = may_have(left + more, own, those, later)

    assert larger.fair >= fair
    assert larger.most >= most


@given(tokens, stakes, others, demands)
def test_short_answers_are_left_to_all_where_there_is_room_for_them(left, own, those, later):
    """The others can each have theirs after whatever this call takes."""
    needed = sum(missing(other) for other in those)
    left += own.share + sum(other.share for other in those)
    left += needed + max(own.demand.least + later.least - own.share, 0)
    most = may_have(left, own, those, later).most

    assert most >= min(own.demand.least, left)
    rest = left - most - sum(other.share for other in those)
    if most > own.share:
        assert rest >= needed


@given(tokens, stakes, others, demands)
def test_no_call_is_refused_for_later_ones_of_its_own_or_for_doubtful_ones(left, own, those, later):
    """They only make it shorter."""
    sure = sum(max(other.share, other.demand.least) for other in those)
    most = may_have(left, own, those, later).most

    assert most >= min(own.demand.least, max(left - sure, 0))


@given(st.integers(200, 900), st.integers(1, 5))
def test_a_share_shrinks_before_others_are_left_without_an_answer(share, count):
    """It is still granted, where the call cannot do with less."""
    waiting = [Stake(0, Demand(150, 600))] * count
    found = may_have(share, Stake(share, Demand(120, 800)), waiting)

    assert share == found.most
    assert found.fair == max(120, share - 150 * count)


@given(tokens, stakes, others)
def test_what_nobody_needs_is_the_calls(left, own, those):
    """Nothing is kept for agents beyond what they likely need."""
    likely = sum(
        max(other.share, other.demand.least + other.demand.hoped, other.demand.likely)
        for other in those
    )
    left += likely

    assert may_have(left, own, those).fair >= left - likely


@given(tokens, stakes, others)
def test_the_last_of_a_row_of_calls_has_all_that_is_left(left, own, those):
    """So that nothing is stranded."""
    assert left == may_have(left, own).fair == may_have(left, own).most
    done = [replace_demand(other) for other in those]
    shares = sum(other.share for other in those)
    assert max(left - shares, 0) == may_have(left, own, done).most


def replace_demand(stake: Stake) -> Stake:
    """Return an agent that needs nothing any more."""
    return stake._replace(demand=replace(stake.demand, least=0, likely=0))


# In an account


def test_a_reservation_leaves_the_others_a_short_answer_each() -> None:
    """In the account itself, so that calls that look at the same time do not both take it."""
    budget = TokenBudget(1_000)
    coming = Demands(Demand(100, 900), others={"a": Demand(150, 400), "b": Demand(150, 400)})
    hold = budget.reserve("writer", 100, 900, min_output_tokens=10, demands=coming)
    denial = budget.reserve("reader", 1, 0, demands=coming)

    assert isinstance(hold, Hold)
    assert 700 == hold.tokens
    assert isinstance(denial, Hold)  # its part of what is left
    assert isinstance(budget.reserve("reader", 200, 0, demands=coming), Denial)


def test_what_a_finished_agent_has_left_is_used_by_the_next() -> None:
    """All of it."""
    budget = TokenBudget(1_000)
    budget.allocate([Claim("news", tokens=600), Claim("judge", tokens=400)])
    coming = Demands(Demand(100, 900))
    assert 400 == budget.room_of("judge", coming).own

    budget.settle(budget.reserve("news", 100, 0), Usage(100, 0))
    budget.finish("news")
    assert 900 == budget.room_of("judge", coming).own


def test_a_tentative_reservation_is_not_counted_as_a_refused_call() -> None:
    """Only what the caller makes of it in the end."""
    budget = TokenBudget(100)
    for tentative in (True, True, False):
        assert not budget.reserve("writer", 200, 0, tentative=tentative)

    assert 1 == budget.report().agents["writer"].denied_calls
