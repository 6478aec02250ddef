"""Bounds of a mean hold at every look, for every kind of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_tokenopt.evaluate.mean_bounds import MeanBounds


def bounds(error: float = 0.05) -> MeanBounds:
    return MeanBounds(-1, 1, error_below=error, error_above=error)


DRAWS = {
    "rare losses": lambda rng: rng.choice([0.0, -1.0], p=[0.97, 0.03]),
    "wins and losses": lambda rng: rng.choice([1.0, 0.0, -1.0], p=[0.1, 0.77, 0.13]),
    "anything": lambda rng: rng.uniform(-1, 1),
    "all or nothing": lambda rng: rng.choice([1.0, -1.0], p=[0.485, 0.515]),
}
MEANS = {"rare losses": -0.03, "wins and losses": -0.03, "anything": 0.0, "all or nothing": -0.03}


@pytest.mark.parametrize("kind", DRAWS)
def test_a_true_mean_is_hardly_ever_ruled_out_though_every_case_is_looked_at(kind: str) -> None:
    """Of 100 runs with a chance of 10 % each, 23 or more would come once in 10,000 times."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(100):
        kept = bounds(0.1)
        for _ in range(150):
            kept.add(float(DRAWS[kind](rng)))
            if kept.is_above(MEANS[kind]):
                wrong += 1
                break
    assert wrong < 23


@pytest.mark.parametrize("kind", DRAWS)
def test_the_bounds_close_in_on_the_mean(kind: str) -> None:
    rng = np.random.default_rng(3)
    kept = bounds()
    for _ in range(4_000):
        kept.add(float(DRAWS[kind](rng)))
    assert kept.lower < MEANS[kind] < kept.upper
    assert kept.upper - kept.lower < 0.2


def test_both_bounds_are_mirror_images() -> None:
    one, other = bounds(), bounds()
    for value in (0.2, -0.7, 0.1, 0.9, 0.0, -0.3) * 20:
        one.add(value)
        other.add(-value)
    assert one.lower == pytest.approx(-other.upper)
    assert one.upper == pytest.approx(-other.lower)


def test_a_bound_says_what_its_shortcut_says() -> None:
    kept = bounds()
    for value in (0.0, 0.5, -0.25) * 60:
        kept.add(value)
    assert kept.is_above(kept.lower - 1e-6)
    assert not kept.is_above(kept.lower + 1e-6)
    assert kept.is_below(kept.upper + 1e-6)
    assert not kept.is_below(kept.upper - 1e-6)


def test_an_unknown_number_counts_against_both_bounds() -> None:
    known, unknown = bounds(), bounds()
    for _ in range(100):
        known.add(0.0)
        unknown.add(0.0)
    for _ in range(10):
        unknown.add(-1.0, 1.0)
    assert unknown.lower < known.lower
    assert unknown.upper > known.upper


def test_before_any_number_nothing_is_known() -> None:
    kept = bounds()
    assert (kept.lower, kept.upper) == (-1, 1)
    assert not kept.is_above(-0.9)
    assert not kept.is_below(0.9)


@pytest.mark.parametrize("value", [1.1, -1.1, float("nan")])
def test_a_number_outside_of_the_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="from -1 to 1"):
        bounds().add(value)


@pytest.mark.parametrize("error", [0.0, 1.0, -0.1])
def test_a_chance_that_is_none_is_refused(error: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bounds(error)
