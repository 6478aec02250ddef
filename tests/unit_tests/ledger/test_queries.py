"""What the ledger answers."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.dimensions import GROUPINGS, value_of
from langchain_tokenopt.core.records import BudgetEvent, Saving, ToolResult, UsageTotals
from langchain_tokenopt.ledger import Ledger
from tests.support.ledger_records import START, desk_calls, record

pytestmark = pytest.mark.exhaustive

CALLS = list(desk_calls(400, days=3))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with Ledger(tmp_path_factory.mktemp("ledger") / "desk.db") as ledger:
        for call in CALLS:
            ledger.record(call)
        ledger.flush()
        yield ledger


def _sums(records) -> UsageTotals:
    """Return the totals of records without percentiles: rollups cannot know those."""
    return replace(
        UsageTotals.of(records),
        duration_p50_seconds=None,
        duration_p95_seconds=None,
        first_chunk_p50_seconds=None,
        first_chunk_p95_seconds=None,
    )


_PERIODS = {
    "everything": (None, None),
    "whole hours": (START + timedelta(hours=2), START + timedelta(hours=40)),
    "broken hours": (START + timedelta(minutes=17), START + timedelta(hours=30, minutes=1)),
    "within one hour": (START + timedelta(minutes=5), START + timedelta(minutes=50)),
    "over one full hour": (START + timedelta(minutes=59), START + timedelta(hours=1, minutes=1)),
    "nothing": (START - timedelta(days=9), START - timedelta(days=8)),
}


def _within(since, until):
    return [
        call
        for call in CALLS
        if (since is None or call.started_at >= since)
        and (until is None or call.started_at < until)
    ]


@pytest.mark.parametrize(("since", "until"), _PERIODS.values(), ids=_PERIODS)
def test_totals_equal_the_records(desk, since, until):
    """Any period adds up to what its records say, to the last token."""
    assert _sums(_within(since, until)) == desk.totals(since=since, until=until)


_KEY = {
    "agent": lambda r: r.agent,
    "node": lambda r: r.attribution.node,
    "tool": lambda r: r.attribution.tool or "(none)",
    "model": lambda r: r.model,
    "provider": lambda r: r.provider,
    "user": lambda r: r.attribution.user,
    "thread_id": lambda r: r.attribution.thread_id,
    "run": lambda r: r.run,
    "stages": lambda r: " + ".join(r.stages) or "(none)",
    "day": lambda r: r.started_at.date().isoformat(),
    "hour": lambda r: f"{r.started_at:%Y-%m-%dT%H}:00+00:00",
}


@pytest.mark.parametrize("dimension", _KEY)
def test_parts_equal_the_records(desk, dimension):
    """Grouping by any dimension gives what grouping the records gives."""
    since, until = _PERIODS["broken hours"]
    expected: dict[str, list] = {}
    for call in _within(since, until):
        expected.setdefault(_KEY[dimension](call), []).append(call)

    assert {key: _sums(calls) for key, calls in expected.items()} == desk.by(
        dimension, since=since, until=until
    )


@pytest.mark.parametrize("dimension", GROUPINGS)
def test_parts_add_up_to_the_whole(desk, dimension):
    """No call is left out of a grouping or counted twice."""
    parts = sum(desk.by(dimension).values(), UsageTotals())

    assert desk.totals() == parts


def test_largest_spender_comes_first(desk):
    """The first row is who to look at."""
    tokens = [totals.total_tokens for totals in desk.by("agent").values()]

    assert sorted(tokens, reverse=True) == tokens


@pytest.mark.parametrize(
    "filters",
    [
        {"agent": "news"},
        {"agent": "news", "tool": "(none)"},
        {"user": CALLS[0].attribution.user},
        {"run": CALLS[0].run},
        {"thread_id": CALLS[0].attribution.thread_id, "agent": "bull"},
        {"agent": "nobody"},
        {"user": "nobody"},
    ],
    ids=str,
)
def test_filters_choose_calls(desk, filters):
    """Filtered sums and filtered rows are the same calls."""
    keys = {"user": lambda r: r.attribution.user, "thread_id": lambda r: r.attribution.thread_id}
    wanted = [
        call
        for call in CALLS
        if all((keys.get(k) or _KEY[k])(call) == value for k, value in filters.items())
    ]

    assert _sums(wanted) == desk.totals(**filters)
    assert wanted == list(desk.calls(**filters))


def test_percentiles_are_nearest_rank(desk):
    """Durations are those of UsageTotals.of, not estimates from buckets."""
    assert UsageTotals.of(CALLS) == desk.totals(percentiles=True)


def test_percentiles_of_nothing_are_none(desk):
    """Unknown is not zero."""
    since, until = _PERIODS["nothing"]

    assert UsageTotals() == desk.totals(since=since, until=until, percentiles=True)


def test_days_are_those_of_the_zone(desk):
    """Midnight in India falls into the middle of a UTC hour."""
    zone = ZoneInfo("Asia/Kolkata")
    expected: dict[str, list] = {}
    for call in CALLS:
        expected.setdefault(call.started_at.astimezone(zone).date().isoformat(), []).append(call)

    assert {day: _sums(calls) for day, calls in expected.items()} == desk.by("day", tz=zone)


def test_a_period_in_the_middle_of_a_zones_broken_hour(desk):
    """Broken hours and broken zones together still count every call once."""
    since = START + timedelta(hours=18, minutes=20)
    until = START + timedelta(hours=18, minutes=40)
    by_day = desk.by("day", tz=ZoneInfo("Asia/Kolkata"), since=since, until=until)

    assert desk.totals(since=since, until=until) == sum(by_day.values(), UsageTotals())


def test_calls_come_in_order_of_time(desk):
    """Oldest first, or newest first on request."""
    assert CALLS == list(desk.calls())
    assert CALLS[::-1] == list(desk.calls(newest_first=True))


def test_reading_can_stop_early(desk):
    """A reader that goes away holds nothing back."""
    reader = desk.calls()
    first = next(reader)
    reader.close()

    assert CALLS[0] == first


def test_runs_come_newest_first_with_their_sums(desk):
    """The latest runs, each with everything below it."""
    latest = list(dict.fromkeys(call.run for call in reversed(CALLS)))[:3]
    found = desk.runs(limit=3)

    assert latest == [run.run for run in found]
    for run in found:
        calls = [call for call in CALLS if call.run == run.run]
        assert _sums(calls) == run.totals
        assert calls[0].started_at == run.started_at


def test_a_call_by_itself_is_a_run(ledger):
    """Single calls are runs of their own, each with its savings, and are found by their id."""
    ids = [uuid4(), uuid4()]
    for number, run_id in enumerate(ids, 1):
        saving = Saving(stage="s", tokens_before=10 * number, tokens_after=0)
        ledger.record(record(run_id=run_id, run=str(run_id), savings=(saving,)))
    ledger.record(record(run=None))
    ledger.flush()

    assert {str(ids[0]): 10, str(ids[1]): 20, "(none)": 0} == {
        run: totals.saved_tokens for run, totals in ledger.by("run").items()
    }
    assert {str(ids[0]), str(ids[1])} == {run.run for run in ledger.runs()}
    assert 10 == ledger.totals(run=str(ids[0])).saved_tokens
    assert [ids[1]] == [call.run_id for call in ledger.calls(run=str(ids[1]))]


def test_effects_name_savings_spending_and_net(ledger):
    """Per optimizer: what it saved, what it spent itself, what it only would have saved."""
    ledger.record(
        record(
            savings=(
                Saving(
                    stage="PromptCompressor",
                    tokens_before=900,
                    tokens_after=300,
                    spent_tokens=50,
                    saved_nano_usd=1_000,
                ),
                Saving(stage="WordLimit", tokens_before=90, tokens_after=30, observed=True),
            )
        )
    )
    ledger.record(record(cached=True, saved_nano_usd=4_500, stages=("SemanticCache",)))
    ledger.flush()
    found = {effect.stage: effect for effect in ledger.effects()}

    assert ["SemanticCache", "PromptCompressor", "WordLimit"] == list(found)
    compressor = found["PromptCompressor"]
    assert (600, 50, 550) == (
        compressor.gross_saved_tokens,
        compressor.spent_tokens,
        compressor.net_saved_tokens,
    )
    assert (1_200, 4_500) == (
        found["SemanticCache"].net_saved_tokens,
        found["SemanticCache"].saved_nano_usd,
    )
    assert (True, 1) == (found["WordLimit"].observed, found["WordLimit"].unpriced_uses)


def test_observed_savings_are_not_counted_as_saved(ledger):
    """What a stage would have saved is not money saved."""
    saving = Saving(stage="s", tokens_before=9, tokens_after=1, saved_nano_usd=5, observed=True)
    ledger.record(record(savings=(saving,)))
    ledger.flush()

    assert (0, 0) == (ledger.totals().saved_tokens, ledger.totals().saved_nano_usd)


def test_effects_of_broken_hours_equal_the_rows(desk):
    """Whole hours from sums and edges from rows give the same as the rows alone."""
    since, until = _PERIODS["broken hours"]
    savings = [s for call in _within(since, until) for s in call.savings]
    (effect,) = [e for e in desk.effects(since=since, until=until) if e.stage != "SemanticCache"]

    assert len(savings) == effect.uses
    assert sum(s.saved_tokens for s in savings) == effect.net_saved_tokens


def test_effects_can_be_asked_for_one_user(desk):
    """Filters that rollups cannot answer are answered by the rows."""
    user = CALLS[0].attribution.user
    uses = sum(len(call.savings) for call in CALLS if call.attribution.user == user)

    assert uses == sum(e.uses for e in desk.effects(user=user) if e.stage == "PromptCompressor")


def test_savings_can_be_read(desk):
    """Every saving is there once, in order of time."""
    assert [s for call in CALLS for s in call.savings] == list(desk.savings())


def test_budget_events_of_a_period(ledger):
    """Events are chosen by their time."""
    for hour in (1, 2, 3):
        ledger.record(
            BudgetEvent(
                kind="alert",
                budget="b",
                agent=str(hour),
                spent_tokens=0,
                held_tokens=0,
                limit_tokens=0,
                at=START + timedelta(hours=hour),
            )
        )
    ledger.flush()
    since, until = START + timedelta(hours=2), START + timedelta(hours=3)

    assert ["2"] == [e.agent for e in ledger.budget_events(since=since, until=until)]


def test_an_unknown_dimension_is_refused(desk):
    """The message lists what can be asked."""
    with pytest.raises(ValueError, match="cannot group by 'colour'; choose one of agent, node"):
        desk.by("colour")


def test_an_unknown_filter_is_refused(desk):
    """A misspelled filter does not silently choose everything."""
    with pytest.raises(TypeError, match="cannot filter by 'agnet'"):
        desk.totals(agnet="news")


def test_a_period_that_ends_before_it_begins_is_refused(desk):
    """Dates swapped by mistake are no empty period."""
    with pytest.raises(ValueError, match="is later than until"):
        desk.totals(since=START + timedelta(days=1), until=START)


def test_a_limit_of_no_runs_is_refused(desk):
    """Zero rows are never what was meant."""
    with pytest.raises(ValueError, match="limit must be a whole number of at least 1; got 0"):
        desk.runs(limit=0)


def test_an_empty_ledger_answers(ledger):
    """Nothing recorded is no error."""
    assert UsageTotals() == ledger.totals(percentiles=True)
    assert ({}, [], [], []) == (
        ledger.by("agent"),
        list(ledger.calls()),
        ledger.runs(),
        ledger.effects(),
    )
    assert UsageTotals() == ledger.totals(since=datetime(2026, 1, 1, tzinfo=UTC))


def test_attribution_without_agent_is_default(ledger):
    """Nothing is lost for want of a name."""
    ledger.record(record(attribution=Attribution()))
    ledger.flush()

    assert ["default"] == list(ledger.by("agent"))


_PAIRS = [
    ("user", "agent"),
    ("week", "user"),
    ("agent", "day"),
    ("tool", "model"),
    ("run", "tool"),
    ("hour", "day", "agent"),
    ("thread_id", "run", "user", "model"),
]


def _value(dimension, call, zone):
    local = call.started_at.astimezone(zone)
    year, week, _ = local.isocalendar()
    periods = {
        "hour": local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes"),
        "day": local.date().isoformat(),
        "week": f"{year}-W{week:02}",
        "month": local.strftime("%Y-%m"),
    }
    if dimension in periods:
        return periods[dimension]
    return value_of(dimension)(call) or "(none)"


@pytest.mark.parametrize(
    "zone", [UTC, *map(ZoneInfo, ("UTC", "Asia/Kolkata", "America/New_York"))], ids=repr
)
@pytest.mark.parametrize("dimensions", [*_PAIRS, ("week",)], ids="+".join)
@pytest.mark.parametrize(("since", "until"), _PERIODS.values(), ids=_PERIODS)
def test_several_dimensions_are_what_adding_up_says(desk, dimensions, zone, since, until):
    """Every combination that occurs has its sum, and they come in order."""
    wanted = {}
    for call in _within(since, until):
        wanted.setdefault(tuple(_value(d, call, zone) for d in dimensions), []).append(call)
    found = desk.by(*dimensions, since=since, until=until, tz=zone)
    if len(dimensions) == 1:
        found = {(name,): totals for name, totals in found.items()}

    assert {key: _sums(calls) for key, calls in wanted.items()} == found
    if dimensions[0] in ("week", "hour"):
        assert sorted(found) == list(found) or dimensions[1:]
        assert sorted(key[0] for key in found) == [key[0] for key in found]


def test_several_dimensions_have_what_tools_weighed(tmp_path):
    """By user and tool, a tool has what its results weighed for this user."""
    with Ledger(tmp_path / "x.db") as ledger:
        for user, tokens in (("ada", 100), ("bob", 7)):
            ledger.record(
                record(
                    attribution=Attribution(user=user),
                    tool_results=(ToolResult("search", tokens, 1_000),),
                )
            )
        found = ledger.by("user", "tool")

        assert 100 == found["ada", "search"].input_tokens
        assert 900 == found["ada", "(none)"].input_tokens
        assert 7 == found["bob", "search"].input_tokens
        assert ledger.totals().cost_nano_usd == sum(t.cost_nano_usd for t in found.values())


def test_money_is_in_dollars_too(desk):
    """Exactly, as decimals; unknown is None."""
    totals = desk.totals()

    assert Decimal(totals.cost_nano_usd) == totals.cost_usd * 10**9
    assert Decimal(totals.saved_nano_usd) == totals.saved_usd * 10**9
    assert record(cost_nano_usd=None).cost_usd is None
    assert Decimal("0.0045") == record().cost_usd
    assert sum(effect.saved_usd for effect in desk.effects()) == totals.saved_usd


@pytest.mark.parametrize("wrong", [["ada"], None, 7])
def test_a_filter_that_is_no_name_is_refused(desk, wrong):
    """No silent zero."""
    with pytest.raises(TypeError, match="is no name; filter by one"):
        desk.totals(user=wrong)


@pytest.mark.parametrize("wrong", ["soon", 3, "2026-13-01"])
def test_a_time_that_is_none_is_refused(desk, wrong):
    """The error shows what a time is."""
    with pytest.raises((TypeError, ValueError), match="7d"):
        desk.totals(since=wrong)


def test_calls_come_after_a_number_each_once(tmp_path):
    """In the order of recording, also when they began earlier; filters do not stop the number."""
    with Ledger(tmp_path / "x.db") as ledger:
        ledger.record(record())
        at = ledger.last_call()
        late = [record(started_at=START + timedelta(hours=h)) for h in (3, 1, 2)]
        for call in late:
            ledger.record(call)
        number, first = ledger.calls_after(at, limit=2)
        end, rest = ledger.calls_after(number, limit=2)

        assert late == [*first, *rest]
        assert (end, []) == ledger.calls_after(at, agent="nobody")
        assert (end, []) == ledger.calls_after(end)


def test_a_table_of_pandas_has_every_call(desk):
    """One row a call, typed."""
    pandas = pytest.importorskip("pandas")
    table = desk.to_pandas()

    assert len(CALLS) == len(table)
    assert [str(call.run_id) for call in CALLS] == list(table["run_id"])
    assert sum(c.cost_nano_usd for c in CALLS) == table["cost_nano_usd"].sum()
    assert str(table["started_at"].dtype).startswith("datetime64[")
    assert pandas.api.types.is_float_dtype(table["cost_usd"])
    nobody = desk.to_pandas(agent="nobody")
    assert nobody.empty
    assert list(table.columns) == list(nobody.columns)
    assert table["started_at"].dtype.kind == nobody["started_at"].dtype.kind == "M"


def test_without_pandas_the_error_says_how_to_get_it(desk, monkeypatch):
    """The name of the extra."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "langchain-tokenopt\[pandas\]"'):
        desk.to_pandas()
