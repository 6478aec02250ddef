"""What a series comes to next."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.forecast.series import FEWEST, Begun, believed, estimate_next

AMOUNTS = st.floats(0, 1e12, allow_nan=False)


def test_little_is_not_guessed_from():
    """Three values, or nothing but zeros, say nothing."""
    assert estimate_next([1, 2, 3]) is None
    assert estimate_next([0] * 50) is None
    assert estimate_next([0] * 50 + [1, 2, 3]) is None
    assert estimate_next([1, 2, 3, 4]) is not None


@pytest.mark.parametrize(
    ("values", "season", "expected", "method"),
    [
        ([5] * 20, None, 5, "the last one"),
        ([1, 1, 1, 1, 1, 9, 9] * 5, 7, 1, "a season ago"),
        ([10 * n for n in range(1, 30)], None, 300, "linear regression"),
    ],
    ids=["constant", "weekly", "growing"],
)
def test_the_method_that_fits_is_believed(values, season, expected, method):
    """What has hit before is followed, and its error is none."""
    found = estimate_next(values, season=season)

    exact = {each.name for each in found.methods if (each.error or 0) < 1e-9}
    assert expected == pytest.approx(found.expected, rel=0.05)
    assert method in exact
    assert found.methods[0].name in exact


def test_how_it_has_begun_decides():
    """Half of the days are ten times as large, which their mornings show."""
    chance = random.Random(1)
    sizes = [chance.choice([10, 100]) for _ in range(28)]

    def rest(now: float) -> float:
        return estimate_next([3 * size for size in sizes], begun=Begun(now, sizes, 0.25)).expected

    assert rest(10) == pytest.approx(30, rel=0.2)
    assert rest(100) == pytest.approx(300, rel=0.2)


@pytest.mark.parametrize("steps", [1.0, 5.5, 20.0])
def test_several_steps_are_added_up(steps):
    """A part of a step counts as much as it is."""
    assert estimate_next([10] * 40, steps=steps, season=7).expected == pytest.approx(10 * steps)


def test_a_wild_value_moves_little():
    """One day of a million times the usual does not make the next one so."""
    calm = [10, 11, 9, 10, 12, 10, 9] * 4
    wild = [*calm[:-3], 1e7, *calm[-3:]]

    assert estimate_next(wild, season=7).expected < 3 * estimate_next(calm, season=7).expected


@given(st.lists(AMOUNTS, max_size=40), st.sampled_from([1.0, 3.5]), st.sampled_from([None, 7]))
def test_estimates_are_amounts_in_order(values, steps, season):
    """Whatever came: none, or four finite numbers of which each is as large as the one before."""
    found = estimate_next(values, steps=steps, season=season)

    assert (found is None) <= (sum(map(bool, values)) < len(values) or len(values) < FEWEST)
    if found is not None:
        limits = [0.0, found.low, found.high, found.p95]
        assert all(map(math.isfinite, limits))
        assert limits == sorted(limits)
        assert found.low <= found.expected <= found.high
        assert sum(method.weight for method in found.methods) == pytest.approx(1, abs=1e-6)


@given(st.lists(st.floats(1, 1e6), min_size=5, max_size=30), st.floats(0.001, 1000))
def test_the_unit_does_not_matter(values, factor):
    """Dollars or billionths of them: the same forecast."""
    one, other = estimate_next(values), estimate_next([factor * value for value in values])

    assert other.expected == pytest.approx(factor * one.expected, rel=1e-4)
    assert other.high == pytest.approx(factor * one.high, rel=1e-4)


@pytest.mark.parametrize("age", range(1, 15))
def test_one_or_two_wild_values_move_nothing_far(age):
    """Whatever place they have, a season ago or the last one: the estimate stays near."""
    chance = random.Random(2)
    calm = [chance.uniform(9, 11) for _ in range(28)]
    wild = list(calm)
    wild[-age] = wild[-age - 5] = 1e7

    seen, usual = (estimate_next(values, season=7) for values in (wild, calm))

    assert seen.expected == pytest.approx(usual.expected, rel=0.5)
    assert seen.low < 1.2 * usual.expected


@given(st.lists(st.floats(1, 10), min_size=7, max_size=30), st.integers(3, 30))
def test_what_comes_three_times_is_believed(values, count):
    """A level is none of chance: of three values or more that are above, all are believed."""
    assert believed([*values, *[1e6] * count])[-count:] == [1e6] * count


@pytest.mark.parametrize("factor", [0.15, 0.4, 2.5, 6.0])
def test_a_beginning_that_is_out_of_the_ordinary_shows_another_level(factor):
    """No day began like this one: what methods made of usual days is left at once."""
    chance = random.Random(3)
    begins = [10 * chance.lognormvariate(0, 0.1) for _ in range(28)]
    rests = [3 * begin * chance.lognormvariate(0, 0.05) for begin in begins]

    found = estimate_next(rests, season=7, begun=Begun(10 * factor, begins, 0.25))

    assert found.expected == pytest.approx(30 * factor, rel=0.15)
    assert found.low <= 30 * factor <= found.high


def test_after_days_without_anything_the_beginning_decides():
    """The last values are nothing, and say nothing."""
    begins = [10.0, 11, 9, 10] * 6 + [0] * 4
    rests = [31.0, 30, 29, 30] * 6 + [0] * 4

    found = estimate_next(rests, season=7, begun=Begun(10, begins, 0.25))

    assert found.expected == pytest.approx(30, rel=0.15)
