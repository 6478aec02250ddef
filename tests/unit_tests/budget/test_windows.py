"""Windows of time, as clocks show them: changed clocks, half hours, weeks and years."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt import UnknownTimeZoneError
from langchain_tokenopt.budget import windows
from langchain_tokenopt.budget.windows import span_at, zone_of

WINDOWS = ("hour", "day", "week", "month")
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Africa/Cairo"),
    *("Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "Australia/Lord_Howe"),
    *("Pacific/Chatham", "Pacific/Apia", "America/Havana", "America/St_Johns", "Asia/Beirut"),
)


def local(text, zone):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def shown(seconds, zone):
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


TABLE = """
day    UTC                  2026-02-28 23:59  2026-02-28 00:00  2026-03-01 00:00  24
day    Europe/Berlin        2026-03-29 12:00  2026-03-29 00:00  2026-03-30 00:00  23
day    Europe/Berlin        2026-10-25 12:00  2026-10-25 00:00  2026-10-26 00:00  25
day    America/New_York     2026-03-08 03:00  2026-03-08 00:00  2026-03-09 00:00  23
day    America/New_York     2026-11-01 23:30  2026-11-01 00:00  2026-11-02 00:00  25
day    Australia/Lord_Howe  2026-04-05 09:00  2026-04-05 00:00  2026-04-06 00:00  24.5
day    Australia/Lord_Howe  2026-10-04 09:00  2026-10-04 00:00  2026-10-05 00:00  23.5
day    Africa/Cairo         2026-04-24 08:00  2026-04-24 01:00  2026-04-25 00:00  23
day    America/Havana       2026-11-01 08:00  2026-11-01 00:00  2026-11-02 00:00  25
day    Pacific/Apia         2011-12-29 08:00  2011-12-29 00:00  2011-12-31 00:00  24
week   Europe/Berlin        2027-01-03 23:00  2026-12-28 00:00  2027-01-04 00:00  168
week   Europe/Berlin        2026-10-25 23:00  2026-10-19 00:00  2026-10-26 00:00  169
week   UTC                  2024-12-30 00:00  2024-12-30 00:00  2025-01-06 00:00  168
month  America/New_York     2026-12-31 23:59  2026-12-01 00:00  2027-01-01 00:00  744
month  America/New_York     2026-03-31 23:59  2026-03-01 00:00  2026-04-01 00:00  743
month  UTC                  2028-02-29 12:00  2028-02-01 00:00  2028-03-01 00:00  696
hour   Asia/Kolkata         2026-05-05 10:59  2026-05-05 10:00  2026-05-05 11:00  1
hour   Asia/Kathmandu       2026-05-05 10:01  2026-05-05 10:00  2026-05-05 11:00  1
hour   Australia/Lord_Howe  2026-04-05 01:10  2026-04-05 01:00  2026-04-05 02:00  1.5
hour   Pacific/Chatham      2026-09-27 02:10  2026-09-27 02:00  2026-09-27 03:45  0.75
"""
"""Window, zone, now, start and end as the zone's clocks show them, hours."""


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_windows_start_and_end_as_clocks_show(row):
    """A day has 23, 24 or 25 hours, an hour now and then 45 or 90 minutes."""
    window, zone, now, starts, ends, hours = re.split(r"\s\s+| (?=20)", row)

    span = span_at(window, ZoneInfo(zone), local(now, zone).timestamp())

    assert (starts, ends) == (shown(span.starts, zone), shown(span.ends, zone))
    assert float(hours) == (span.ends - span.starts) / 3_600


def test_an_hour_that_is_shown_twice_is_two_hours():
    """In Berlin 2 o'clock comes back after an hour."""
    zone = ZoneInfo("Europe/Berlin")
    first = local("2026-10-25 02:30", "Europe/Berlin").timestamp()

    one, other = span_at("hour", zone, first), span_at("hour", zone, first + 3_600)

    assert one.ends == other.starts
    assert shown(one.starts, "Europe/Berlin") == shown(other.starts, "Europe/Berlin")


moments = st.datetimes(datetime(2005, 1, 1), datetime(2037, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC).timestamp()
)


@st.composite
def near_changes(draw):
    """A zone, and a moment that is often near a change of its clocks."""
    name = draw(st.sampled_from(ZONES))
    zone, now = ZoneInfo(name), draw(moments)
    if draw(st.booleans()):
        days = [datetime.fromtimestamp(now + 86_400 * n, zone) for n in range(400)]
        changes = [b for a, b in pairwise(days) if a.utcoffset() != b.utcoffset()]
        if changes:
            now = changes[0].timestamp() - draw(st.integers(0, 30 * 3_600))
    return name, now


@given(near_changes(), st.sampled_from(WINDOWS))
def test_windows_follow_each_other_without_gap(where, window):
    """Every moment is in one window; it is the same for all its moments."""
    name, now = where
    zone = ZoneInfo(name)
    span = span_at(window, zone, now)

    assert span.starts <= now < span.ends
    assert span == span_at(window, zone, span.starts) == span_at(window, zone, span.ends - 0.25)
    assert span.ends == span_at(window, zone, span.ends).starts
    assert span.starts == span_at(window, zone, span.starts - 0.25).ends


@given(near_changes())
def test_an_hour_starts_when_the_clock_shows_it(where):
    """By looking at the clock at every minute of the last three hours."""
    name, now = where
    zone, minute = ZoneInfo(name), int(now // 60 * 60)
    found = minute
    while True:
        here = datetime.fromtimestamp(found, zone)
        before = datetime.fromtimestamp(found - 60, zone)
        skipped = here.replace(tzinfo=None) - before.replace(tzinfo=None) > timedelta(minutes=1)
        if here.minute == 0 or (skipped and here.hour != before.hour):
            break
        found -= 60

    assert found == span_at("hour", zone, now).starts


@given(near_changes())
def test_a_day_starts_with_its_first_minute(where):
    """By looking at the date at every minute of the last days."""
    name, now = where
    zone, minute = ZoneInfo(name), int(now // 60 * 60)
    dates = [datetime.fromtimestamp(minute - 60 * ago, zone).date() for ago in range(51 * 60)]
    latest = max(dates)  # a clock that is turned back over a midnight shows the day before again
    first = max(ago for ago, date in enumerate(dates) if date == latest)

    assert minute - 60 * first == span_at("day", zone, now).starts


@pytest.mark.parametrize("name", ["Europe/Berln", "Europe", "", "../etc/passwd", "CEST", None, 3])
def test_an_unknown_zone_is_an_error_with_a_name(name):
    """Whatever it is; the message shows how a name looks."""
    with pytest.raises(UnknownTimeZoneError, match="as in timezone="):
        zone_of(name)


def test_a_system_without_time_zones_is_told_what_to_install(monkeypatch):
    """Such as Windows, or a slim container."""
    monkeypatch.setattr(windows, "available_timezones", set)
    with pytest.raises(UnknownTimeZoneError, match="pip install tzdata"):
        zone_of("Mars/Olympus")
