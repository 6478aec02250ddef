"""What days and months will have cost."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from langchain_tokenopt import Ledger, forecast_spend
from langchain_tokenopt.core.attribution import Attribution
from tests.support.ledger_records import record
from tests.support.spend_traces import KINDS, spend_trace

HOUR = timedelta(hours=1)
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
CALM = ("plain", "ramp", "weekly", "constant", "nightly", "month_end")


def costs(hours, until: datetime) -> dict[datetime, float]:
    """Name hours, the last of which ends at a time."""
    return {until - HOUR * (len(hours) - n): cost for n, cost in enumerate(hours)}


def at_hour(kind: str, seed: int, known: int, done: int):
    """Forecast a day of a trace at an hour, from so many days before; and what it came to."""
    hours = spend_trace(kind, seed, known + 1)
    day = datetime(2026, 11, 18, tzinfo=UTC)
    seen = forecast_spend(costs(hours, day + 24 * HOUR), now=day + done * HOUR)
    return seen, sum(hours[24 * known :])


@pytest.mark.parametrize("known", [5, 9, 28])
def test_forecasts_hit_and_their_intervals_hold(known):
    """Of fifteen kinds of spending, four of five days end within; calm ones within 15 % by noon."""
    within, missed = [], []
    for kind in KINDS:
        for seed in range(3):
            for done in (0, 12, 18):
                seen, end = at_hour(kind, 100 * known + seed, known, done)
                if seen.at_end is None or not end:  # it began with days without any
                    continue
                within.append(seen.low <= end <= seen.high)
                if done == 12 and kind in CALM:
                    missed.append(abs(seen.expected - end) / end)

    assert 0.68 <= sum(within) / len(within) <= 0.92
    assert statistics.mean(missed) < 0.15


def test_too_little_is_said():
    """Four days before, or a sentence that says how many there are."""
    known = costs([10] * 24 * 3 + [10] * 12, NOON)

    seen = forecast_spend(known, now=NOON)

    assert (None, None, None, 120) == (seen.expected, seen.low, seen.high, seen.spent)
    assert "4 whole days" in seen.notes[0]
    assert "there are 3." in seen.notes[0]
    assert forecast_spend({}, now=NOON).at_end is None


def test_constant_spending_is_known():
    """Nothing varies: an interval of nothing, for the day as for the month."""
    known = costs([10] * (24 * 40 + 12), NOON)

    day, month = (forecast_spend(known, period, now=NOON) for period in ("day", "month"))

    assert (240, 240, 240) == (day.expected, day.low, day.high)
    assert (7200, 7200, 7200) == (month.expected, month.low, month.high)
    assert (17 * 24 + 12) * 10 == month.spent


def test_a_period_of_ones_own():
    """From when to when; one that is over has cost what it has."""
    known = costs([10] * 24 * 10, NOON)

    to_come = forecast_spend(known, (NOON - 5 * HOUR, NOON + 5 * HOUR), now=NOON)
    over = forecast_spend(known, (NOON - 5 * HOUR, NOON), now=NOON)

    assert (50, 100) == (to_come.spent, to_come.expected)
    assert (50, 50, 50) == (over.spent, over.expected, over.high)
    with pytest.raises(ValueError, match="begins before it ends"):
        forecast_spend(known, (NOON, NOON), now=NOON)
    with pytest.raises(ValueError, match="'day', 'month' or"):
        forecast_spend(known, "decade", now=NOON)


def test_what_the_running_hour_has_cost_is_spent():
    """However little was expected."""
    known = costs([10] * 24 * 10, NOON) | {NOON: 5_000}

    seen = forecast_spend(known, now=NOON + 0.5 * HOUR)

    assert 5_120 == seen.spent
    assert 5_120 <= seen.low <= seen.expected <= seen.high


@pytest.mark.parametrize("amount", [math.nan, math.inf, -5.0, "ten", None])
def test_amounts_that_cannot_be_are_left_out(amount):
    """And said aloud."""
    known = costs([10] * 24 * 10, NOON) | {NOON - 3 * HOUR: amount}

    seen = forecast_spend(known, now=NOON)

    assert 110 == seen.spent
    assert seen.expected == pytest.approx(230, abs=10)
    assert "1 hours were left out" in seen.notes[0]


def test_a_clock_that_was_set_back_is_noticed():
    """What has not happened yet is left out, and said; not where the past is replayed."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    known = costs([10] * 24 * 10, now + 30 * HOUR)

    odd = forecast_spend(known)
    replayed = forecast_spend(known, now=NOON)

    assert "hours with calls are still to come" in odd.notes[0]
    assert not any("still to come" in note for note in replayed.notes)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)]
)
def test_days_are_as_long_as_clocks_make_them(day, hours):
    """Where clocks go forward, or back, in the night."""
    berlin = ZoneInfo("Europe/Berlin")
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=berlin)
    known = costs([10] * 24 * 20, noon.astimezone(UTC))

    seen = forecast_spend(known, now=noon, tz=berlin)

    assert hours * HOUR == seen.ends - seen.begins
    assert 10 * hours == seen.expected


def test_others_odd_calls_do_not_move_a_user(tmp_path):
    """One user's million: it is in the sum, and not in the forecast of another."""

    def forecast(odd: bool):
        path = tmp_path / f"{odd}.db"
        with Ledger(path) as ledger:
            for n in range(24 * 8):
                at = NOON - HOUR * (n + 1)
                ledger.record(record(started_at=at, attribution=Attribution(user="ada")))
                if odd and n % 3 == 0:
                    cost = 10**15 * (n % 7)
                    ledger.record(
                        record(
                            started_at=at, cost_nano_usd=cost, attribution=Attribution(user="eve")
                        )
                    )
        with Ledger(path, read_only=True) as ledger:
            return [forecast_spend(ledger, now=NOON, user=name) for name in ("ada", "eve")]

    calm, poisoned = forecast(False), forecast(True)

    assert calm[0] == poisoned[0]
    assert calm[0].expected == 24 * 4_500_000
    assert calm[1].expected is None
    assert poisoned[1].expected > 10**15


@pytest.mark.parametrize("hours_ago", [20, 21 + 24, 21 + 24 * 3, 21 + 24 * 6, 21 + 24 * 7])
@pytest.mark.parametrize("known", [7, 12, 40])
def test_an_hour_that_ran_away_moves_no_other_day(known, hours_ago):
    """A million times the usual, yesterday or a week ago: today stays what it would have been."""
    calm = costs(spend_trace("plain", 5, known), NOON)
    wild = {**calm, NOON - HOUR * hours_ago: 1e15}

    usual, seen = (forecast_spend(hours, now=NOON) for hours in (calm, wild))

    if NOON - HOUR * hours_ago in calm:
        assert seen.expected == pytest.approx(usual.expected, rel=0.25)
        assert seen.low < usual.expected < seen.high


def test_an_hour_that_ran_away_this_morning_is_spent_and_does_not_go_on():
    """What it has cost is in the sum; the rest of the day is what it usually is."""
    calm = costs(spend_trace("plain", 6, 28), NOON)
    wild = {**calm, NOON - 5 * HOUR: 1e15}

    usual, seen = (forecast_spend(hours, now=NOON) for hours in (calm, wild))

    assert seen.spent > 1e15
    assert seen.expected - seen.spent < 2 * (usual.expected - usual.spent)


@pytest.mark.parametrize("factor", [0.2, 6.0])
@pytest.mark.parametrize("since", [12, 36, 84])
def test_another_level_is_followed(since, factor):
    """Since this morning, yesterday, or some days ago everything costs more, or less."""
    hours = spend_trace("constant", 7, 28)
    every = [*hours[:-since], *(factor * cost for cost in hours[-since:])]

    seen = forecast_spend(costs(every, NOON), now=NOON)

    assert seen.expected == pytest.approx(24 * factor * statistics.fmean(hours), rel=0.05)


@pytest.mark.parametrize(
    ("error", "begins", "call"),
    [
        (TypeError, "history must be a ledger", lambda: forecast_spend(None)),
        (TypeError, "an hour must be a datetime", lambda: forecast_spend({3: 1.0})),
        (TypeError, "now must be a datetime", lambda: forecast_spend({}, now=3.0)),
        (TypeError, "a period's begin and end must be", lambda: forecast_spend({}, (1, 2))),
    ],
)
def test_what_is_no_history_is_refused(error, begins, call):
    """In a sentence that says what is needed."""
    with pytest.raises(error, match=begins):
        call()


def test_a_period_without_a_zone_is_in_utc():
    """As hours and the present are."""
    known = costs([10] * 24 * 10, NOON)
    naive = tuple(at.replace(tzinfo=None) for at in (NOON - 5 * HOUR, NOON + 5 * HOUR))

    assert forecast_spend(known, naive, now=NOON).expected == 100


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "UTC"])
@pytest.mark.parametrize("past", [0, 15, 30, 45])
def test_no_hour_is_counted_in_two_days(zone, past):
    """Midnight is not on the hour of UTC everywhere."""
    tz = ZoneInfo(zone)
    noon = datetime(2026, 11, 15, 12, past, tzinfo=tz)
    hours = {noon - n * timedelta(hours=1): 10 for n in range(1, 24 * 9)}
    days = [datetime(2026, 11, day, tzinfo=tz) for day in range(9, 16)]
    spent = [forecast_spend(hours, day, now=noon).spent for day in pairwise(days)]
    today = forecast_spend(hours, now=noon, tz=tz)

    assert spent == [240] * 6
    assert today.spent == (noon - noon.replace(hour=0, minute=0)) // timedelta(hours=1) * 10
    assert (today.low, today.expected, today.high) == (240, 240, 240)
