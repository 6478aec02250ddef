"""Old calls go, and their sums stay: in a file and on a server, whole months and single rows."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.ledger import Ledger, LedgerError, partitions, retention
from tests.support.ledger_records import START, desk_calls, record

pytestmark = pytest.mark.exhaustive

INDIA = timezone(timedelta(hours=5, minutes=30))
SUMMED = ("agent", "model", "day", "week", "month", "user", "tool")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where a ledger can be."""
    if request.param == "sqlite":
        return str(tmp_path / "usage.db")
    return request.getfixturevalue("postgres_url")


def _months(count=600, months=5):
    """Calls of some months up to now, a few of them of runs that went on over a boundary."""
    now = datetime.now(UTC)
    shift = now - timedelta(days=30 * months) - START
    for call in desk_calls(count, days=30 * months - 0.1):
        at = call.started_at + shift
        savings = tuple(replace(saving, at=at) for saving in call.savings)
        yield replace(call, started_at=at, savings=savings)


def _answers(ledger):
    """Whatever sums can say of all time."""
    found = {name: ledger.by(name) for name in SUMMED}
    found |= {f"{name}, day": ledger.by(name, "day") for name in ("agent", "model")}
    found["totals"] = ledger.totals()
    found["user"] = ledger.by("day", user="user-1")
    found["hours"] = ledger.costs_by_hour()
    found["unfinished"] = ledger.unfinished()
    found["effects"] = ledger.effects()
    figures = ledger.figures()
    found["figures"] = replace(figures, run_p50_nano_usd=0, run_p95_nano_usd=0)
    return found


def test_what_is_removed_still_adds_up(place):
    """Days, agents, users, money, savings, runs: the same before and after."""
    with Ledger(place) as ledger:
        for call in _months():
            ledger.record(call)
        figures = {"spent_tokens": 1, "held_tokens": 2, "limit_tokens": 3}
        at = START - timedelta(days=400)
        ledger.record(BudgetEvent(kind="alert", budget="b", agent="a", at=at, **figures))
        ledger.flush()
        before, count = _answers(ledger), sum(1 for _ in ledger.calls())
        removed = ledger.maintain("60 days")
        assert removed > 150
        assert count - removed == sum(1 for _ in ledger.calls())
        oldest = min(call.started_at for call in ledger.calls())
        assert timedelta(days=58) < datetime.now(UTC) - oldest < timedelta(days=92)
        assert [] == ledger.budget_events()
        assert before == _answers(ledger)
        assert [] == ledger.check()
        ledger.rebuild()
        assert before == _answers(ledger)
        assert 0 == ledger.maintain("60 days")
        assert 0 == ledger.maintain("90 days")
        ledger.record(record(started_at=datetime.now(UTC)))
        assert before["totals"].calls + 1 == ledger.totals().calls
        assert [] == ledger.check()


def test_days_of_half_hour_zones_add_up(place):
    """An hour of a removed time belongs to the day in which it begins; none is lost or doubled."""
    with Ledger(place) as ledger:
        for call in _months(300):
            ledger.record(call)
        ledger.flush()
        exact = ledger.by("day", tz=INDIA)
        oracle: dict[str, int] = {}
        ledger.maintain("40 days")
        kept_from = min(call.started_at for call in ledger.calls())
        found = ledger.by("day", tz=INDIA)
        whole = ledger.totals()
        assert sum(day.calls for day in found.values()) == whole.calls
        for day, totals in found.items():
            if day > kept_from.astimezone(INDIA).date().isoformat():
                assert exact[day] == totals
        for begin, cost in ledger.costs_by_hour().items():
            day = begin.astimezone(INDIA).date().isoformat()
            oracle[day] = oracle.get(day, 0) + cost
        for day, totals in found.items():
            if day < kept_from.astimezone(INDIA).date().isoformat():
                assert oracle[day] == totals.cost_nano_usd
        first = datetime.fromisoformat(min(found)).replace(tzinfo=INDIA)
        parts = [
            ledger.totals(since=first + timedelta(days=n), until=first + timedelta(days=n + 1))
            for n in range(160)
        ]
        assert sum(part.calls for part in parts) == whole.calls


def test_who_asks_for_removed_calls_is_told(place):
    """Sums by run or by two names need the calls; a list of them begins where they begin."""
    with Ledger(place) as ledger:
        for call in _months(200):
            ledger.record(call)
        ledger.maintain("40 days")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ledger.by("agent", "day")
            ledger.totals(user="user-1", percentiles=False)
            ledger.runs()
            list(ledger.calls())
            ledger.by("run", since="20d")
        for ask in (
            lambda: ledger.by("run"),
            lambda: ledger.by("user", "agent"),
            lambda: list(ledger.calls(since="120d")),
            lambda: ledger.totals(thread_id="t"),
        ):
            with pytest.warns(TokenOptWarning, match="are not kept any more, only their sums"):
                ask()


def test_a_user_is_forgotten_in_sums_too(place):
    """His sums of removed times become nobody's: money stays, names go."""
    with Ledger(place) as ledger:
        for call in _months(400):
            made_by = replace(call.attribution, organization="acme")
            ledger.record(replace(call, attribution=made_by))
        ledger.flush()
        before = ledger.totals()
        ledger.maintain("40 days")
        ledger.forget(user="user-1")
        left, users = ledger.totals(), ledger.by("user")
        assert "user-1" not in users
        assert 0 == ledger.totals(user="user-1").calls
        assert users["(none)"].calls > 0
        assert sum(each.calls for each in users.values()) == left.calls < before.calls
        assert [] == ledger.check()
        with ledger._database.engine.connect() as connection:
            stored = connection.execute(text("SELECT key FROM names")).scalars().all()
        assert b"user-1" not in [bytes(key) for key in stored]

        ledger.forget(organization="acme")
        assert {"(none)"} == ledger.by("organization").keys()
        assert sum(day.calls for day in ledger.by("day").values()) == ledger.totals().calls
        assert [] == ledger.check()

        ledger.forget(before="100d")
        first = min(ledger.by("day"))
        assert first >= (datetime.now(UTC) - timedelta(days=101)).date().isoformat()
        assert sum(u.calls for u in ledger.by("user").values()) == ledger.totals().calls


def test_a_saving_that_came_before_its_call_stays_with_it(place):
    """Over a boundary between what goes and what stays."""
    with Ledger(place) as ledger:
        ledger.record(record(started_at=datetime.now(UTC) - timedelta(days=100)))
        now = datetime.now(UTC)
        edge = now - timedelta(days=45)
        edge = datetime(edge.year, edge.month, 1, tzinfo=UTC)
        call = record(started_at=edge + timedelta(milliseconds=1))
        at = edge - timedelta(milliseconds=1)
        saving = Saving(stage="s", tokens_before=100, tokens_after=40, run_id=call.run_id, at=at)
        ledger.record(saving)
        ledger.record(call)
        measured = ledger.figures().measured_calls
        ledger.maintain(now - edge)
        assert 1 == measured == ledger.figures().measured_calls
        assert [] == ledger.check()


def test_what_comes_later_than_its_time_is_kept_is_refused(place):
    """It may have been here, and been counted."""
    old = record(started_at=datetime.now(UTC) - timedelta(days=100))
    with Ledger(place) as ledger:
        ledger.record(old)
        ledger.record(record(started_at=datetime.now(UTC)))
        ledger.maintain("30 days")
        ledger.record(old)
        with pytest.warns(TokenOptWarning, match="keeps nothing from before"):
            ledger.flush()
        assert (2, []) == (ledger.totals().calls, ledger.check())


def test_the_thread_does_it(place):
    """Whoever opens a ledger with ``keep=`` need not think of it again."""
    with Ledger(place) as ledger:
        for call in _months(100):
            ledger.record(call)
    with Ledger(place, keep="40 days") as ledger:
        for _ in range(200):
            if ledger._keeper.rounds:
                break
            ledger._keeper._thread.join(0.1)
        assert sum(1 for _ in ledger.calls()) < 60
        assert 100 == ledger.totals().calls


@pytest.mark.parametrize("keep", ["", "soon", "5 minutes", timedelta(hours=3), 90, "-3d"])
def test_lengths_that_are_none(keep, tmp_path):
    """A sentence, and no ledger is made that would forget all."""
    with pytest.raises(ValueError, match="keep="):
        Ledger(tmp_path / "usage.db", keep=keep)


def test_whoever_is_killed_leaves_the_rest_to_the_next(place, monkeypatch):
    """After any number of steps: sums are whole, and it can go on."""
    monkeypatch.setattr(retention, "STEP_ROWS", 7)
    monkeypatch.setattr(partitions, "may_make", lambda connection: False)  # all row by row
    with Ledger(place) as ledger:
        for call in _months(120):
            ledger.record(call)
        ledger.flush()
        before = _answers(ledger)
        for steps in (0, 1, 2, 5, 9):
            _interrupted(ledger, monkeypatch, steps)
            assert before == _answers(ledger)
            assert [] == ledger.check()
            ledger.record(record(started_at=datetime.now(UTC)))
            ledger.flush()
            before = _answers(ledger)
        retention.remove_old(ledger._database, timedelta(days=40))
        assert before == _answers(ledger)
        oldest = min(call.started_at for call in ledger.calls())
        assert oldest > datetime.now(UTC) - timedelta(days=75)


def _interrupted(ledger, monkeypatch, steps):
    writing, left = type(ledger._database).writing, iter(range(steps))

    def fail_later(self, *arguments):
        if next(left, None) is None:
            raise LedgerError("killed")
        return writing(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(type(ledger._database), "writing", fail_later)
        with pytest.raises(LedgerError, match="killed"):
            retention.remove_old(ledger._database, timedelta(days=40))


def test_attribution_of_nobody(place):
    """Calls without a user are nobody's before and after."""
    with Ledger(place) as ledger:
        for day in (1, 100):
            at = datetime.now(UTC) - timedelta(days=day)
            ledger.record(record(started_at=at, attribution=Attribution("news")))
        ledger.maintain("40 days")
        assert 2 == ledger.by("user")["(none)"].calls
        ledger.forget(user="nobody")
        assert 2 == ledger.by("user")["(none)"].calls
