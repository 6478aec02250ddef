"""What sums of hours and days say is what adding up one by one says, whatever happened when."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.dimensions import totals_by
from langchain_tokenopt.core.records import CallRecord, Saving, ToolResult, UsageTotals, percentile
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger, period
from langchain_tokenopt.ledger.buckets import BOUNDS, percentiles_of
from tests.support.ledger_records import START, record

pytestmark = pytest.mark.exhaustive

DAYS = 4
_SECONDS = ("duration_p50", "duration_p95", "first_chunk_p50", "first_chunk_p95")


def _history(seed: int) -> list[CallRecord]:
    """Calls of every kind over days, among them an hour in which much happens."""
    some = random.Random(seed)
    calls = []
    for number in range(some.choice([0, 1, 7, 60])):
        hours = some.choice([some.random() * 24 * DAYS, 30 + some.random()])
        at = START + timedelta(hours=hours)
        run_id = UUID(int=some.getrandbits(128))
        cached = some.random() < 0.2
        savings = tuple(
            Saving(
                stage=some.choice(["Cut", "Limit"]),
                side=some.choice(["input", "output"]),
                tokens_before=some.randint(0, 900),
                tokens_after=some.randint(0, 400),
                spent_tokens=some.choice([0, 50]),
                saved_nano_usd=some.choice([None, 500, -20]),
                observed=some.random() < 0.3,
                exact=some.random() < 0.5,
                run_id=run_id,
                at=at,
                id=UUID(int=some.getrandbits(128)),
            )
            for _ in range(some.choice([0, 0, 1, 2]))
        )
        calls.append(
            CallRecord(
                run_id=run_id,
                model=some.choice(["m", "n", None]),
                provider=None,
                usage=Usage(some.randint(0, 10**5), some.randint(0, 900), 0, 0, 0),
                started_at=at,
                duration_seconds=round(some.lognormvariate(0, 2), 6),
                first_chunk_seconds=some.choice([None, round(some.random(), 6)]),
                cost_nano_usd=some.choice([None, 0, some.randint(1, 10**10)]),
                saved_nano_usd=some.choice([None, 700]) if cached else 0,
                unpriced=some.choice([(), (), ("output image",)]),
                source=some.choice(["reported", "estimated"]),
                status=some.choice(["ok", "ok", "ok", "failed", "abandoned", "refused"]),
                cached=cached,
                run=some.choice([None, str(run_id), "a", "b", f"r{number // 4}"]),
                attribution=Attribution(
                    some.choice(["news", "risk"]), user=some.choice([None, "ada", "bob"])
                ),
                stages=some.choice([(), ("Cut",), ("Cut", "Cache")]),
                savings=savings,
                tool_results=tuple(
                    ToolResult(some.choice(["search", "fetch"]), some.randint(0, 99), cost)
                    for cost in some.choice([[], [], [5], [None, 7]])
                ),
            )
        )
    return calls


def _record(ledger: Ledger, calls: list[CallRecord], some: random.Random) -> None:
    """Tell of calls in any order, of savings before, with or after their calls, some twice."""
    events = [event for call in calls for event in (call, *call.savings)]
    events += some.sample(events, len(events) // 5)
    some.shuffle(events)
    for event in events:
        late = isinstance(event, CallRecord) and some.random() < 0.5
        ledger.record(replace(event, savings=()) if late else event)
        if some.random() < 0.2:
            ledger.flush()
    for call in calls:  # what came without its savings
        for saving in call.savings:
            ledger.record(saving)


def _questions(some: random.Random):
    ends = sorted(START + timedelta(hours=some.uniform(-5, 24 * DAYS + 5)) for _ in range(2))
    whole = [START + timedelta(hours=some.randint(0, 40)), START + timedelta(hours=72)]
    for since, until in ([None, None], ends, whole, [ends[0], None]):
        for filters in ({}, {"agent": "news"}, {"user": "ada"}, {"user": "(none)", "model": "m"}):
            yield since, until, filters


def _let_by(call, since, until, filters):
    values = {"agent": call.agent, "user": call.attribution.user, "model": call.model}
    return (
        (since is None or call.started_at >= since)
        and (until is None or call.started_at < until)
        and all((values[name] or "(none)") == value for name, value in filters.items())
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 20_000]))
def test_every_figure_is_what_adding_up_says(seed, few_calls):
    """Totals, dimensions, time zones, savings, runs and durations; late and doubled records."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(period, "FEW_CALLS", few_calls)  # up to which percentiles are exact
        _check_history(seed, few_calls)


def _check_history(seed: int, few_calls: int) -> None:
    some = random.Random(seed)
    calls = _history(seed)
    with TemporaryDirectory() as folder, Ledger(Path(folder) / "x.db") as ledger:
        _record(ledger, calls, some)
        assert [] == ledger.check()
        for since, until, filters in _questions(some):
            made = [call for call in calls if _let_by(call, since, until, filters)]
            asked = {"since": since, "until": until, **filters}
            if filters.keys() <= {"agent"}:  # savings told apart from their calls have no user
                _compare(ledger, made, few_calls, asked)
            _compare_hours_and_runs(ledger, made, asked)
            figures = ledger.figures(**asked)
            costs, unpriced = _runs(calls, since, until, filters)
            assert (len(costs), sum(costs), unpriced) == (
                figures.runs, figures.runs_nano_usd, figures.unpriced_runs,
            )  # fmt: skip
            _near(percentile(costs, 0.95), figures.run_p95_nano_usd, few_calls or filters)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_what_is_forgotten_was_never_there(seed):
    """Of a user, an agent, or what is old: the ledger is as if only the others had been told."""
    some = random.Random(seed)
    calls = _history(seed)
    before = START + timedelta(hours=some.uniform(0, 24 * DAYS))
    with TemporaryDirectory() as folder, Ledger(Path(folder) / "x.db") as ledger:
        for call in calls:
            ledger.record(call)
        for until, filters in ((None, {"user": "ada"}), (before, {"agent": "risk"}), (before, {})):
            gone = [call for call in calls if _let_by(call, None, until, filters)]
            calls = [call for call in calls if call not in gone]
            assert len(gone) == ledger.forget(before=until, **filters)
            assert [] == ledger.check()
            assert sorted(c.run_id for c in calls) == sorted(c.run_id for c in ledger.calls())
            _compare(ledger, calls, True, {"since": None, "until": None})
        ledger.record(record(attribution=Attribution("x", user="ada")))
        assert 1 == ledger.totals(user="ada").calls
        assert [] == ledger.check()


def _compare(ledger, made, few_calls, asked) -> None:
    wanted, found = UsageTotals.of(made), ledger.totals(**asked, percentiles=True)
    unknown = dict.fromkeys([f"{name}_seconds" for name in _SECONDS])
    whole = replace(found, **unknown)
    if "agent" not in asked:
        assert replace(wanted, **unknown) == whole
        zone = ZoneInfo("Asia/Kolkata")
        days = ledger.by("day", tz=zone, since=asked["since"], until=asked["until"])
        assert whole == sum(days.values(), UsageTotals())
        by_day = {}
        for call in made:
            day = call.started_at.astimezone(zone).date().isoformat()
            by_day[day] = by_day.get(day, 0) + (0 if call.cached else call.cost_nano_usd or 0)
        assert by_day == {day: totals.cost_nano_usd for day, totals in days.items()}
        tools = {name: t.input_tokens for name, t in totals_by(made, "tool").items()}
        asked_tools = ledger.by("tool", since=asked["since"], until=asked["until"])
        assert tools == {name: t.input_tokens for name, t in asked_tools.items()}
    else:
        assert (wanted.calls, wanted.cost_nano_usd) == (found.calls, found.cost_nano_usd)
    for name in _SECONDS:
        _near(getattr(wanted, f"{name}_seconds"), getattr(found, f"{name}_seconds"), few_calls)
    assert sum(map(_measured, made)) == ledger.figures(**asked).measured_calls
    lost = [c for c in made if c.status != "ok"]
    assert len(lost) == ledger.unfinished(**asked).calls


def _compare_hours_and_runs(ledger, made, asked) -> None:
    costs, calls_of = Counter(), Counter()
    for call in made:
        hour = call.started_at.replace(minute=0, second=0, microsecond=0)
        costs[hour] += 0 if call.cached else call.cost_nano_usd or 0
        calls_of[str(call.run)] += bool(call.run)
    with ledger.period(**asked) as asked_period:
        assert +costs == +Counter(asked_period.costs_by_hour())
    found = {run.run: run.totals.calls for run in ledger.runs(limit=10_000, **asked)}
    assert +calls_of == Counter(found)


def _measured(call: CallRecord) -> bool:
    return call.cached or any(not saving.observed for saving in call.savings)


def _runs(calls, since, until, filters):
    """Runs belong to the period in which they began, with all that was let by."""
    runs: dict[str, list[CallRecord]] = {}
    for call in calls:
        if call.run:
            runs.setdefault(call.run, []).append(call)
    costs, unpriced = [], 0
    for made in runs.values():
        began = min(made, key=lambda call: call.started_at)
        chosen = [call for call in made if _let_by(call, None, None, filters)]
        if chosen and _let_by(began, since, until, {}):
            billed = [c for c in chosen if not c.cached]
            if any(c.cost_nano_usd is None or c.unpriced for c in billed):
                unpriced += 1
            else:
                costs.append(sum(c.cost_nano_usd for c in billed))
    return costs, unpriced


def _near(wanted, found, exact) -> None:
    if wanted is None or found is None or exact:
        assert wanted == found
    else:
        assert math.isclose(wanted, found, rel_tol=0.05, abs_tol=1e-6), (wanted, found)


@given(st.lists(st.integers(0, 10**14), min_size=1), st.floats(0, 1))
def test_a_percentile_of_buckets_is_within_five_percent(values, share):
    """Of numbers of any size."""
    counts: dict[int, int] = {}
    for value in values:
        bucket = sum(bound <= value for bound in BOUNDS)
        counts[bucket] = counts.get(bucket, 0) + 1
    wanted = percentile(values, share)

    (found,) = percentiles_of(counts, [share])
    assert abs(wanted - found) <= 0.05 * wanted


def test_days_of_all_zones_are_told_apart(tmp_path):
    """Also the days on which clocks are changed, which are 23 or 25 hours long."""
    calls = [
        replace(_history(3)[0], run_id=UUID(int=hour), savings=(), cost_nano_usd=1, cached=False,
                started_at=START.replace(month=month, day=24) + timedelta(hours=hour))
        for month in (3, 10) for hour in range(24 * 9)
    ]  # fmt: skip
    with Ledger(tmp_path / "x.db") as ledger:
        for number, call in enumerate(calls):
            ledger.record(replace(call, run_id=UUID(int=number + 1)))
        for zone in (UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")):
            wanted: dict[str, int] = {}
            for call in calls:
                day = call.started_at.astimezone(zone).date().isoformat()
                wanted[day] = wanted.get(day, 0) + 1
            assert wanted == {day: t.calls for day, t in ledger.by("day", tz=zone).items()}
