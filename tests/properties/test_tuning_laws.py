"""Laws of tuning: bounds, small steps, and safety that grows with what is asked for."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.learn.ladder import default_in, ladder_of
from langchain_tokenopt.learn.setting_bandit import ENOUGH, Arm, Bandit, prior_of
from langchain_tokenopt.stage import TunableSetting

SHARES = st.floats(0, 1)
COSTS = st.floats(0, 1e12)


@st.composite
def bandits(draw):
    """A bandit that calls have brought about, some of them drawn to be good, bad or strange."""
    count = draw(st.integers(1, 7))
    default, target = draw(st.integers(0, count - 1)), draw(st.floats(0.05, 0.99))
    bandit = Bandit([Arm() for _ in range(count)], default, target)
    chance = random.Random(draw(st.integers(0, 10**6)))
    means = draw(st.lists(SHARES, min_size=count, max_size=count))
    costs = draw(st.lists(COSTS, min_size=count, max_size=count))
    for _ in range(draw(st.integers(0, 300))):
        used = bandit.choose(chance.random())
        bandit.bill(used, costs[used] * chance.random())
        if chance.random() < 0.8:
            bandit.judge(used, float(chance.random() < means[used]))
    return bandit


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5_000),
    st.data(),
    st.integers(1, 6),
    st.booleans(),
)
def test_every_setting_is_within_its_bounds(value, data, steps, is_whole):
    """The user's own is among them; each is cheaper than the one before it."""
    scale = 1 if is_whole else 5_000
    low = data.draw(st.integers(1, value)) / scale
    high = data.draw(st.integers(value, 5_000)) / scale
    setting = TunableSetting(value / scale, least=0, most=5_000, whole=is_whole)
    ladder = ladder_of({"x": setting}, {"x": (low, high)}, steps, "Stage")
    values = [one["x"] for one in ladder]
    assert all(low <= each <= high for each in values)
    assert {low, high} <= {*values}
    assert values == sorted(set(values), reverse=True)
    assert values[default_in(ladder, {"x": setting})] == setting.value
    assert len(values) <= 2 * steps + 1


@settings(max_examples=80, deadline=None)
@given(bandits(), st.lists(st.tuples(SHARES, COSTS, st.none() | SHARES), max_size=80))
def test_it_moves_in_small_steps_within_the_row(bandit, calls):
    """Calls use the present setting or a neighbour; moves go to neighbours, with a reason."""
    for draw, cost, quality in calls:
        used, before = bandit.choose(draw), bandit.at
        assert used in range(len(bandit.arms))
        assert abs(used - before) <= 1
        moved = [bandit.bill(used, cost)]
        if quality is not None:
            moved.append(bandit.judge(used, quality))
        for step in filter(None, moved):
            assert (step.before, abs(step.after - step.before)) == (before, 1)
            assert step.reason
            before = step.after
        assert bandit.at == before
    assert len(bandit.steps) <= 40


@settings(max_examples=80, deadline=None)
@given(bandits(), SHARES)
def test_what_is_kept_is_what_is_known(bandit, draw):
    """Written down and read again it chooses the same."""
    copy = Bandit([Arm() for _ in bandit.arms], bandit.default, bandit.target)
    assert copy.restore(json.loads(json.dumps(bandit.as_json())))
    assert copy.as_json() == bandit.as_json()


KEPT = Bandit([Arm(9, 8, 8, 9, 9, 9)] * 2, 0, 0.9).as_json()


@pytest.mark.parametrize(
    "strange",
    [
        None,
        [],
        "text",
        {},
        KEPT | {"arms": KEPT["arms"][:1]},
        KEPT | {"arms": [[1, 2, 3, 4, 5, 6, 7]] * 2},
        KEPT | {"arms": [[float("inf")] * 7] * 2},
        KEPT | {"arms": [["x"] * 7] * 2},
        KEPT | {"at": 2},
        KEPT | {"at": -1},
        KEPT | {"credit": 1e9},
        KEPT | {"credit": float("nan")},
        KEPT | {"level": -1},
        KEPT | {"unit": "bananas"},
        KEPT | {"steps": [[1, 0, 7, "why"]]},
    ],
)
def test_what_no_calls_bring_about_is_not_taken_over(strange):
    """It starts anew."""
    bandit = Bandit([Arm(), Arm()], 0, 0.9)
    assert bandit.restore(KEPT)
    fresh = Bandit([Arm(), Arm()], 0, 0.9)
    assert not fresh.restore(strange)
    assert fresh.as_json() == Bandit([Arm(), Arm()], 0, 0.9).as_json()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(SHARES, COSTS, st.none() | SHARES), max_size=150),
    st.integers(0, int(ENOUGH) - 1),
)
def test_thin_evidence_moves_nothing(calls, verdicts):
    """However many calls: with too few verdicts all use the user's own setting."""
    bandit = Bandit([Arm() for _ in range(5)], 2, 0.5)
    for draw, cost, quality in calls:
        verdicts -= quality is not None
        assert bandit.choose(draw) == 2
        bandit.bill(2, cost)
        if quality is not None and verdicts >= 0:
            bandit.judge(2, quality)
    assert bandit.steps == []


@settings(max_examples=100, deadline=None)
@given(bandits(), st.floats(0, 0.5))
def test_who_asks_for_more_is_never_given_less(bandit, more):
    """Of the same evidence, a higher target leads to no cheaper setting."""
    target = min(0.999, bandit.target + more)
    stricter = Bandit([Arm() for _ in bandit.arms], bandit.default, target)
    stricter.restore(bandit.as_json())
    usual, strict = bandit.better(), stricter.better()
    at, strict_at = (bandit.at if found is None else found[0] for found in (usual, strict))
    assert strict_at <= max(at, bandit.default)


@settings(max_examples=100, deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=60), st.data())
def test_a_better_verdict_raises_no_doubt(verdicts, data):
    """One verdict that is better instead moves the mean and both bounds up, or leaves them."""
    at = data.draw(st.integers(0, len(verdicts) - 1))
    better = [*verdicts[:at], 1.0, *verdicts[at + 1 :]]
    low, high = (Bandit([Arm()], 0, 0.9) for _ in range(2))
    for bandit, given_ in ((low, verdicts), (high, better)):
        for quality in given_:
            bandit.judge(0, quality)
    assert high.arms[0].quality >= low.arms[0].quality - 1e-9
    assert high.credit >= low.credit - 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 32), st.floats(0.5, 1), SHARES, st.floats(1, 1e7), st.floats(0, 100))
def test_one_odd_history_does_not_move_the_prior(users, quality, odd, weight, cost):
    """Whatever one of five or more users has shown, the others' prior stays what it was."""
    honest = [[Arm(20, 20 * quality, 20 * quality, 20, 20, 20)] * 2 for _ in range(users)]
    strange = Arm(weight, weight * odd, weight * odd, weight, weight * cost, weight * cost * cost)
    for arms in ([strange] * 2, [honest[0][0], strange], [strange, honest[0][0]]):
        before, after = prior_of(honest, 0), prior_of([*honest[1:], arms], 0)
        for one, other in zip(before, after, strict=True):
            assert other.quality / other.judged == pytest.approx(one.quality / one.judged)
            assert other.cost / other.billed == pytest.approx(one.cost / one.billed)
            assert max(other.judged, other.billed) <= 60.001
    assert prior_of(honest[:4], 0) == []


@settings(max_examples=40, deadline=None)
@given(bandits(), st.floats(0.01, 100))
def test_prices_do_not_matter(bandit, factor):
    """Who pays ten times as much for everything uses the same settings."""
    dear = Bandit(
        [arm.with_costs_times(factor) for arm in bandit.arms], bandit.default, bandit.target
    )
    dear.at, dear.credit = bandit.at, bandit.credit
    usual, other = bandit.better(), dear.better()
    assert (usual and usual[0]) == (other and other[0])
