"""Shares that can be checked by hand; the laws are among the properties."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from langchain_tokenopt.budget import (
    AllocationStrategy,
    Claim,
    Equal,
    Priority,
    Proportional,
    allocate,
)
from langchain_tokenopt.budget.strategies import divide, strategy_for
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.forecast import UsageForecaster


def test_shares_follow_weights():
    """Twice the weight, twice the share."""
    assert {"a": 250, "b": 500, "c": 250} == allocate(1_000, {"a": 1, "b": 2, "c": 1})


def test_rounding_goes_to_the_largest_remainders():
    """3.33, 3.33 and 3.33 of 10; equal losses by name."""
    assert {"c": 3, "a": 4, "b": 3} == allocate(10, {"c": 1, "a": 1, "b": 1})
    assert {"a": 1, "b": 3, "c": 6} == allocate(10, {"a": 12, "b": 28, "c": 60})


def test_floors_come_first_and_the_rest_is_shared():
    """An agent at its floor takes no part in the division of the rest."""
    assert {"a": 700, "b": 150, "c": 150} == allocate(
        1_000, {"a": 1, "b": 1, "c": 1}, floors={"a": 700}
    )


def test_what_caps_refuse_goes_to_the_others():
    """Water flows on."""
    assert {"a": 100, "b": 450, "c": 450} == allocate(
        1_000, {"a": 8, "b": 1, "c": 1}, caps={"a": 100, "b": None}
    )


def test_caps_of_all_may_leave_something():
    """Nobody gets more than its cap."""
    assert {"a": 100, "b": 200} == allocate(1_000, {"a": 1, "b": 1}, caps={"a": 100, "b": 200})


def test_fractions_are_exact():
    """Seven tenths and a tenth are not eight tenths in floating point."""
    assert 10**18 == sum(allocate(10**18, {"a": 0.7, "b": 0.1, "c": 1e-9}).values())


def test_nobody_to_share_with_is_no_error():
    """An empty plan."""
    assert {} == allocate(1_000, {})


def test_floors_that_cannot_be_met_are_named_with_both_numbers():
    """Before anything is spent."""
    with pytest.raises(BudgetInfeasibleError, match=r"need 1,100 tokens but only 1,000"):
        allocate(1_000, {"a": 1, "b": 1}, floors={"a": 600, "b": 500})


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_are_above_zero(weight):
    """An agent without weight does not belong into the plan."""
    with pytest.raises(ValueError, match=f"'a': a weight must be a number above 0, got {weight}"):
        allocate(10, {"a": weight})


def test_a_negative_total_is_refused():
    """As any impossible count."""
    with pytest.raises(ValueError, match="got -1"):
        allocate(-1, {"a": 1})


def test_a_floor_above_its_cap_is_refused():
    """Both numbers are told."""
    with pytest.raises(ValueError, match=r"floor of 20 tokens .* cap of 10"):
        allocate(100, {"a": 1}, floors={"a": 20}, caps={"a": 10})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tokens": -1}, "tokens must be at least 0, got -1"),
        ({"priority": 0}, "priority must be a number above 0, got 0"),
        ({"floor": 20, "cap": 10}, "floor of 20 tokens exceeds its cap of 10"),
        ({"floor": 20, "tokens": 10}, "floor of 20 tokens exceeds its share of 10"),
        ({"tokens": 20, "cap": 10}, "share of 20 tokens exceeds its cap of 10"),
    ],
    ids=str,
)
def test_claims_that_contradict_themselves_are_refused(wrong, message):
    """The agent is named, with both numbers."""
    with pytest.raises(ValueError, match=f"'news': (its )?{message}"):
        Claim("news", **wrong)


def test_promised_shares_come_before_the_division():
    """The rest is divided among those who were promised nothing."""
    claims = [Claim("judge", tokens=400), Claim("a", floor=500), Claim("b")]

    assert {"judge": 400, "a": 500, "b": 100} == divide(1_000, claims)


def test_shares_and_floors_that_exceed_the_total_are_named():
    """Which are shares, which floors, what there is."""
    with pytest.raises(BudgetInfeasibleError, match=r"need 1,100 .* 1,000 .*\(900\).*\(200\)"):
        divide(1_000, [Claim("a", tokens=900), Claim("b", floor=200)])


def test_an_agent_claims_once():
    """Two claims of one name are a mistake."""
    with pytest.raises(ValueError, match="named more often: a"):
        divide(1_000, [Claim("a"), Claim("b"), Claim("a")])


def test_every_strategy_is_one():
    """They keep the protocol that others can keep too."""
    assert all(isinstance(s, AllocationStrategy) for s in (Equal(), Priority(), Proportional()))


def test_strategies_divide_differently():
    """The same claims, by three measures."""
    claims = [Claim("a", priority=3), Claim("b", priority=1)]

    assert {"a": 50, "b": 50} == divide(100, claims, "equal")
    assert {"a": 75, "b": 25} == divide(100, claims, "priority")
    assert {"a": 50, "b": 50} == divide(100, claims, "proportional")


def test_demand_is_foretold():
    """By a forecaster; unknown agents count as the mean of the known."""
    forecaster = UsageForecaster()
    for _ in range(40):
        forecaster.observe("long", 300)
        forecaster.observe("short", 100)
    weights = Proportional(forecaster).weights([Claim("long"), Claim("short")])

    assert {"long": 300.0, "short": 100.0} == weights


def test_an_unknown_demand_is_the_mean_of_the_known():
    """Neither nothing nor everything."""

    @dataclass
    class Expected:
        expected_tokens: int

    class Known:
        def forecast(self, agent):
            return {"a": Expected(100), "b": Expected(300)}.get(agent)

    weights = Proportional(Known()).weights([Claim("a"), Claim("b"), Claim("c", tokens=0)])

    assert {"a": 100.0, "b": 300.0, "c": 200.0} == weights
    # A share in tokens is not to be mixed with an answer's length.
    weights = Proportional(Known()).weights([Claim("a"), Claim("c", tokens=9_000)])
    assert {"a": 100.0, "c": 100.0} == weights
    assert {"d": 1.0} == Proportional().weights([Claim("d")])


def test_a_strategy_of_ones_own():
    """Any object that can weigh."""

    class ByName:
        def weights(self, claims):
            return {claim.agent: len(claim.agent) for claim in claims}

    assert {"a": 25, "bbb": 75} == divide(100, [Claim("a"), Claim("bbb")], ByName())


def test_a_forecaster_reaches_the_strategy_that_asks_for_one():
    """Named strategies are made here."""
    forecaster = UsageForecaster()

    assert forecaster is strategy_for("proportional", forecaster).forecaster
    assert isinstance(strategy_for("equal"), Equal)
