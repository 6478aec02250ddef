"""What holds for strategies that learn, whatever they were told, by whom, and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.budget import Auto, Claim, ForecastNeed, Performance, allocate

pytestmark = [pytest.mark.exhaustive, pytest.mark.filterwarnings("ignore:The strategy")]

AGENTS = ("news", "judge", "clerk", "nobody")
agents = st.sampled_from(AGENTS[:3])
users = st.sampled_from([None, "ann", "bob", "mallory"])
tokens = st.integers(1, 10**9)
verdicts = st.lists(
    st.tuples(
        agents, st.floats(0, 1), st.integers(1, 10**9), st.none() | st.integers(1, 10**9), users
    ),
    max_size=40,
)
runs = st.lists(st.tuples(st.dictionaries(agents, st.integers(0, 10**9)), users), max_size=30)
claims = st.lists(
    st.builds(Claim, st.sampled_from(AGENTS), priority=st.floats(0.01, 100)),
    min_size=1,
    unique_by=lambda claim: claim.agent,
)


def judged(found, user=None):
    performance = Performance(user=user, clock=lambda: 1e9)
    for agent, quality, tokens, wanted, its_user in found:
        performance.record(agent, quality, tokens, wanted=wanted, user=its_user)
    return performance


def learned(past, found, user=None):
    """Return one strategy of each kind, with the same past."""
    needs, auto = ForecastNeed(user=user), Auto(performance=judged(found, user), user=user)
    for tokens, its_user in past:
        needs.observe(tokens, user=its_user)
        auto.observe(tokens, user=its_user)
    return needs, auto, auto.performance


@settings(max_examples=60, deadline=None)
@given(runs, verdicts, claims, users)
def test_weights_are_numbers_above_0_for_every_claim(past, found, asked, user):
    """So that everybody has a share, and shares sum to the total, of whatever size."""
    for strategy in learned(past, found, user):
        weights = strategy.weights(asked)
        assert {claim.agent for claim in asked} == weights.keys()
        assert all(math.isfinite(weight) and weight > 0 for weight in weights.values())
        assert 9_973 == sum(allocate(9_973, weights).values())


@settings(max_examples=60, deadline=None)
@given(runs, verdicts, claims, st.randoms())
def test_neither_the_order_of_claims_nor_asking_again_matters(past, found, asked, chance):
    """Deterministic, and the same for the same agents."""
    other = [*asked]
    chance.shuffle(other)
    for strategy, again in zip(learned(past, found), learned(past, found), strict=True):
        first = strategy.weights(asked)
        assert first == strategy.weights(asked) == again.weights(asked)
        assert first == pytest.approx(again.weights(other))


@settings(max_examples=60, deadline=None)
@given(verdicts, claims)
def test_no_return_counts_beyond_its_bounds(found, asked):
    """Nobody starves, whatever was said of him."""
    weights = judged(found).weights(asked)
    returns = [weights[claim.agent] / claim.priority for claim in asked]
    assert max(returns) <= 9.001 * min(returns)


@settings(max_examples=60, deadline=None)
@given(runs, st.integers(1, 10**9), st.data())
def test_who_runs_longer_weighs_more(past, tokens, data):
    """A forecast rises with what was used."""
    name = data.draw(agents)
    more = [({**used, name: used.get(name, 0) + tokens}, user) for used, user in past]
    before, after = (learned(each, [])[0].need(name) for each in (past, more))
    if before is not None:
        assert after.expected_tokens >= min(before.expected_tokens, tokens)
        assert after.upper_tokens >= min(before.upper_tokens, tokens)


@settings(max_examples=60, deadline=None)
@given(runs, st.data())
def test_who_was_cut_needs_no_less(past, data):
    """Than if what it has used were all that it had needed."""
    whole, cut = ForecastNeed(), ForecastNeed()
    for used, user in past:
        whole.observe(used, user=user)
        cut.observe(used, user=user, cut=data.draw(st.sets(agents)))
    for name in AGENTS:
        before, after = whole.need(name), cut.need(name)
        assert (before is None) == (after is None)
        if before is not None:
            assert after.expected_tokens >= before.expected_tokens
            assert after.upper_tokens >= before.upper_tokens


@settings(max_examples=60, deadline=None)
@given(verdicts, verdicts, st.integers(1, 30))
def test_another_users_verdicts_are_one_vote(own, odd, times):
    """However many: ten times as many move ann's agents no further than a vote can."""
    mine = [(*each[:4], "ann") for each in own]
    theirs = [(*each[:4], "mallory") for each in odd]
    before = judged(mine, "ann").returns()
    after = judged(mine + theirs * times, "ann").returns()
    for agent, found in before.items():
        assert abs(found.quality - after[agent].quality) <= 0.6
        if found.verdicts >= 1:
            assert abs(found.slope - after[agent].slope) <= 0.5
            assert found.verdicts == after[agent].verdicts
            assert found.log_tokens == after[agent].log_tokens


@settings(max_examples=40, deadline=None)
@given(runs, runs)
def test_another_users_runs_count_as_four(own, odd):
    """A user of twenty runs is forecast from his own."""
    mine = [(tokens, "ann") for tokens, _ in own if tokens.get("news")]
    if len(mine) < 10:
        return
    theirs = [(tokens, "mallory") for tokens, _ in odd] * 50
    alone, beside = (learned(each, [], "ann")[0].need("news") for each in (mine, mine + theirs))
    used = sorted(tokens["news"] for tokens, _ in mine[-20:])
    assert used[0] <= alone.expected_tokens <= used[-1]
    assert used[0] <= beside.expected_tokens <= used[-1]
