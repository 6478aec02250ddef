"""The same ledger on PostgreSQL, on a server of the tests' own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.dimensions import GROUPINGS
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, Saving, UsageTotals
from langchain_tokenopt.ledger import Ledger, LedgerError, writer
from tests.support.ledger_records import START, desk_calls, record
from tests.support.postgres_server import (
    PostgresServer,
    SilentWire,
    database_of,
    shared_server,
)

CALLS = list(desk_calls(600, days=3))


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Ledger]:
    with Ledger(postgres_url) as fresh:
        yield fresh


def test_calls_come_back_as_they_were(ledger, tmp_path):
    """What SQLite answers, PostgreSQL answers: rows, sums of every kind, runs and effects."""
    with Ledger(tmp_path / "same.db") as other:
        for call in CALLS:
            ledger.record(call)
            other.record(call)
        ledger.flush()
        other.flush()
        since = START + timedelta(minutes=17)
        until = START + timedelta(hours=30, minutes=1)

        assert CALLS == list(ledger.calls())
        assert other.totals(percentiles=True) == ledger.totals(percentiles=True)
        for dimension in GROUPINGS:
            assert other.by(dimension, since=since, until=until) == ledger.by(
                dimension, since=since, until=until
            )
        assert other.runs() == ledger.runs()
        assert other.effects(since=since) == ledger.effects(since=since)
        assert other.totals(user="user-1", agent="news") == ledger.totals(
            user="user-1", agent="news"
        )
        assert list(other.savings()) == list(ledger.savings())
    assert [] == ledger.check()


def test_events_told_twice_are_one(ledger):
    """Ids decide, in one batch and across batches."""
    saving = Saving(stage="s", tokens_before=100, tokens_after=40)
    call = record(savings=(saving,), run="r", attribution=Attribution("a\0b", user="ü"))
    alert = BudgetEvent(
        kind="alert", budget="b", agent="a", spent_tokens=1, held_tokens=2, limit_tokens=3
    )
    for _ in range(2):
        for event in (call, saving, alert, call):
            ledger.record(event)
        ledger.flush()

    assert (1, 60) == (ledger.totals().calls, ledger.totals().saved_tokens)
    assert 1 == len(ledger.budget_events())
    assert [] == ledger.check()


def test_several_writers_at_once(ledger, postgres_url):
    """Writers wait for each other; nothing is lost, doubled or deadlocked."""

    def write(part: int) -> None:
        with Ledger(postgres_url) as own:
            for call in CALLS[part::4]:
                own.record(call)
                if call.usage.input_tokens % 7 == 0:
                    own.flush()

    threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum((UsageTotals.of([c]) for c in CALLS), UsageTotals()).calls == ledger.totals().calls
    assert CALLS == list(ledger.calls())
    assert [] == ledger.check()


def test_sums_can_be_rebuilt(ledger):
    """Rows are the truth here too."""
    for call in CALLS[:50]:
        ledger.record(call)
    ledger.flush()
    before = ledger.totals()
    with ledger._database.engine.begin() as connection:
        connection.execute(text("DELETE FROM call_hours"))
    assert ledger.check() != []
    ledger.rebuild()

    assert before == ledger.totals()


def test_a_newer_schema_is_refused(ledger, postgres_url):
    """As on SQLite."""
    with ledger._database.engine.begin() as connection:
        connection.execute(text("INSERT INTO ledger_schema VALUES (99, 0, '9.9')"))
    with pytest.raises(LedgerError, match="written by a newer"):
        Ledger(postgres_url)
    with ledger._database.engine.begin() as connection:
        connection.execute(text("DELETE FROM ledger_schema WHERE version = 99"))


def test_a_database_without_a_ledger_can_not_be_read(postgres_url):
    """Reading creates nothing."""
    with pytest.raises(LedgerError, match="not a token ledger"):
        Ledger(postgres_url, read_only=True)


def test_a_locked_ledger_is_waited_for_as_long_as_was_said(ledger, postgres_url):
    """Another writer that does not end holds up nobody for longer, and nothing is lost."""
    ledger.record(CALLS[0])
    ledger.flush()
    with (
        ledger._database.connect_to_write() as other,
        Ledger(postgres_url, max_wait_seconds=0.3) as own,
    ):
        with ledger._database.writing(other):
            own.record(CALLS[1])
            started = time.monotonic()
            with pytest.raises(LedgerError, match="kept busy by others"):
                own.flush()
            assert time.monotonic() - started < 5
        own.flush()

        assert CALLS[:2] == list(own.calls())


def test_a_server_that_is_away_loses_nothing():
    """Events wait, and are written when it is back."""
    with PostgresServer() as server, Ledger(server.new_database(), max_wait_seconds=1) as ledger:
        ledger.record(CALLS[0])
        ledger.flush()
        server.stop(crash=True)
        for call in CALLS[1:40]:
            ledger.record(call)
        with pytest.raises(LedgerError, match="cannot be reached"):
            ledger.flush()
        server.start()
        ledger.flush()

        assert CALLS[:40] == list(ledger.calls())
        assert [] == ledger.check()


def test_a_server_that_falls_silent_is_given_up(monkeypatch, postgres_url):
    """Nobody waits for it for ever, and what it did not take is kept."""
    monkeypatch.setattr(writer, "ANSWER_SECONDS", 1.0)
    with SilentWire(shared_server().port) as wire:
        url = f"postgresql://postgres:secret@127.0.0.1:{wire.port}/{database_of(postgres_url)}"
        with Ledger(url, max_wait_seconds=0.5, durability="full") as ledger:
            ledger.record(CALLS[0])
            wire.silent = True
            began = time.monotonic()
            with pytest.warns(TokenOptWarning, match="no answer within 1 seconds"):
                ledger.record(CALLS[1])
            assert time.monotonic() - began < 8
            wire.silent = False
            ledger.flush()
            assert CALLS[:2] == list(ledger.calls())
