"""The one list of dimensions and the one list of counts."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from langchain_tokenopt.core.dimensions import DIMENSIONS, MANY_VALUED, Filters, value_of
from langchain_tokenopt.core.records import UsageTotals
from tests.support.ledger_records import desk_calls

CALLS = list(desk_calls(40))
PERCENTILES = [field.name for field in fields(UsageTotals) if field.name.endswith("_seconds")]


def test_filters_are_the_dimensions():
    """A type checker needs them spelled out; nothing else may differ."""
    assert DIMENSIONS == tuple(Filters.__annotations__)
    assert ("user", "thread_id", "run") == MANY_VALUED


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_dimension_is_read_from_a_call(dimension):
    """Its value is text, or nothing."""
    assert {type(value_of(dimension)(call)) for call in CALLS} <= {str, type(None)}


@pytest.mark.parametrize("cut", [0, 1, 7, 40])
def test_percentiles_of_a_sum_are_true_or_missing(cut):
    """Never those of one part."""
    whole = UsageTotals.of(CALLS)
    total = UsageTotals.of(CALLS[:cut]) + UsageTotals.of(CALLS[cut:])
    for name in PERCENTILES:
        assert getattr(total, name) in (None, getattr(whole, name))
    assert replace(whole, **dict.fromkeys(PERCENTILES)) == replace(
        total, **dict.fromkeys(PERCENTILES)
    )


def test_what_has_no_billed_calls_leaves_percentiles_as_they_are():
    """Nothing in it was measured, so nothing is lost."""
    whole = UsageTotals.of(CALLS)
    cached = UsageTotals(calls=2, cached_calls=2, saved_tokens=9)

    assert whole.duration_p95_seconds == (whole + cached).duration_p95_seconds
    assert whole.duration_p95_seconds == (cached + whole).duration_p95_seconds
    assert whole == UsageTotals() + whole == whole + UsageTotals()
