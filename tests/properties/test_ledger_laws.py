"""What holds for every ledger, whatever was recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.dimensions import GROUPINGS
from langchain_tokenopt.core.records import CallRecord, Saving, Source, UsageTotals
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.ledger.rows import clean, key_of, name_of
from langchain_tokenopt.ledger.spill import from_line, to_line
from tests.support.ledger_records import START

pytestmark = pytest.mark.exhaustive

_counts = st.integers(-5, 10**7)
_money = st.none() | st.integers(-5, 10**12)
_names = st.sampled_from(["a", "b", "ü"])
_maybe = st.none() | _names
_moments = st.integers(0, 4 * 3_600 * 10**6).map(lambda us: START + timedelta(microseconds=us))
_seconds = st.integers(0, 10**9).map(lambda us: us / 1e6)
_ids = st.integers(1, 10**6).map(lambda n: UUID(int=n))
_savings = st.builds(
    Saving,
    stage=_names,
    tokens_before=_counts,
    tokens_after=_counts,
    spent_tokens=st.integers(0, 100),
    side=st.sampled_from(["input", "output"]),
    saved_nano_usd=_money,
    exact=st.booleans(),
    observed=st.booleans(),
)
_calls = st.builds(
    CallRecord,
    run_id=_ids,
    model=_maybe,
    provider=_maybe,
    usage=st.builds(Usage, _counts, _counts, _counts, _counts, _counts, _counts, _counts, _counts),
    started_at=_moments,
    duration_seconds=_seconds,
    cost_nano_usd=_money,
    source=st.sampled_from(get_args(Source)),
    status=st.sampled_from(["ok", "failed", "abandoned"]),
    cached=st.booleans(),
    attribution=st.builds(Attribution, _names, _maybe, _maybe, _maybe, _maybe, _maybe),
    run=_maybe,
    saved_nano_usd=_money,
    first_chunk_seconds=st.none() | _seconds,
    response_model=_maybe,
    service_tier=_maybe,
    stages=st.lists(_names, max_size=2).map(tuple),
    savings=st.lists(_savings, max_size=2).map(tuple),
)
_told = st.lists(st.tuples(_calls, st.booleans()), max_size=20)
"""Calls, and whether the ledger is flushed after each."""


def _written(folder: str, told: list[tuple[CallRecord, bool]]) -> tuple[Ledger, list[CallRecord]]:
    """Record everything; return the ledger and the calls that it should hold."""
    ledger = Ledger(Path(folder) / "tokenopt.db")
    kept: dict[UUID, CallRecord] = {}
    for call, flushed in told:
        kept.setdefault(call.run_id, call)
        for event in (call, *call.savings) if call is kept[call.run_id] else (kept[call.run_id],):
            ledger.record(event)
        if flushed:
            ledger.flush()
    ledger.flush()
    return ledger, list(kept.values())


@settings(max_examples=30, deadline=None)
@given(_told)
def test_totals_are_those_of_the_records(told):
    """However events arrive, sums and percentiles equal those of the distinct records."""
    with TemporaryDirectory() as folder:
        ledger, kept = _written(folder, told)
        with ledger:
            assert UsageTotals.of(kept) == ledger.totals(percentiles=True)
            assert [] == ledger.check()


@settings(max_examples=25, deadline=None)
@given(_told, st.lists(_moments, max_size=3))
def test_a_period_is_the_sum_of_its_parts(told, cuts):
    """Cut anywhere, the parts add up; so do the groups of every dimension in every part."""
    with TemporaryDirectory() as folder:
        ledger, _ = _written(folder, told)
        bounds = [None, *sorted(cuts), None]
        with ledger:
            parts = [ledger.totals(since=since, until=until) for since, until in pairwise(bounds)]
            assert ledger.totals() == sum(parts, UsageTotals())
            for dimension in GROUPINGS:
                groups = ledger.by(dimension, since=bounds[0], until=bounds[1])
                assert parts[0] == sum(groups.values(), UsageTotals())


@settings(max_examples=25, deadline=None)
@given(_told)
def test_calls_come_back(told):
    """What was recorded is what is read, savings completed by their call."""
    with TemporaryDirectory() as folder:
        ledger, kept = _written(folder, told)
        with ledger:
            found = {call.run_id: call for call in ledger.calls()}
    assert {call.run_id: _completed(call) for call in kept} == found


def _completed(call: CallRecord) -> CallRecord:
    savings = tuple(
        replace(saving, run_id=call.run_id, agent=call.agent, model=call.model, at=call.started_at)
        for saving in call.savings
    )
    return replace(call, savings=savings)


@given(_calls)
def test_lines_give_back_calls(call):
    """What waits in a file is the whole record."""
    assert call == from_line(to_line(call))


@given(st.text() | st.uuids().map(str) | st.text(min_size=16, max_size=16))
def test_names_survive_their_short_form(name):
    """Any text that can be stored comes back in the same letters."""
    assert clean(name) == name_of(key_of(clean(name)))
