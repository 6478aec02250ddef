"""Months of a ledger on a server are partitions, whoever may make them and whenever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from langchain_tokenopt.ledger import Ledger, LedgerError, partitions, schema
from tests.support.ledger_records import desk_calls, record
from tests.support.postgres_server import database_of, shared_server

CALLS = list(desk_calls(120, days=40))
RIGHTS = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"


def _where(url, table="calls"):
    query = f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1 ORDER BY 1"
    return dict(shared_server().execute(query, database_of(url)))


@pytest.fixture
def worker(postgres_url):
    """The same database for a user who owns nothing in it."""
    server, database = shared_server(), database_of(postgres_url)
    if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'hand'"):
        server.execute("CREATE ROLE hand LOGIN PASSWORD 'hand'")
    return server.url(database, user="hand", password="hand")


def _lend(url):
    shared_server().execute(f"GRANT {RIGHTS} TO hand", database_of(url))


def test_calls_stand_in_their_months(postgres_url):
    """Those of strange times among the others; ids are single across months."""
    strange = [record(started_at=datetime(year, 1, 1, tzinfo=UTC)) for year in (1971, 2019, 2999)]
    with Ledger(postgres_url) as ledger:
        for call in [*CALLS, *strange, *CALLS[::7]]:
            ledger.record(call)
        ledger.flush()
        same = CALLS[0]
        later = record(run_id=same.run_id, started_at=same.started_at + timedelta(days=35))
        ledger.record(later)
        ledger.flush()
        assert 3 == _where(postgres_url)["calls_others"]
        assert {"calls_2026_11", "calls_2026_12", "calls_others"} == _where(postgres_url).keys()
        assert (len(CALLS) + 3, []) == (ledger.totals().calls, ledger.check())


def test_a_ledger_of_the_release_before(postgres_url, worker, monkeypatch):
    """It is divided without a row being moved; rights stay; later months get their rows."""
    with monkeypatch.context() as patched:
        patched.setattr(schema, "SCHEMA_VERSION", 9)
        patched.setattr(partitions.Months, "prepare", lambda *_: None)
        with Ledger(postgres_url) as old:
            for call in CALLS:
                old.record(call)
            before = old.by("day"), old.figures()
        _lend(postgres_url)
    with pytest.raises(LedgerError, match="owner"):
        Ledger(worker)
    with Ledger(postgres_url) as new:
        assert before == (new.by("day"), new.figures())
        assert ["calls_others"] == list(_where(postgres_url))
    with Ledger(worker) as hand:
        hand.record(record())
        hand.flush()
        assert len(CALLS) + 1 == hand.totals().calls
    monkeypatch.setattr(partitions, "MOVED_AT_ONCE", 10)
    with Ledger(postgres_url) as new:
        new.record(record())
        new.flush()
        assert ["calls_others"] == list(_where(postgres_url))  # too many to be moved by the way
        new.maintain()
        assert ["calls_2026_11", "calls_2026_12"] == list(_where(postgres_url))
        assert (len(CALLS) + 2, []) == (new.totals().calls, new.check())


def test_who_owns_nothing_writes_among_the_others(postgres_url, worker):
    """Until the owner comes; old calls go row by row."""
    Ledger(postgres_url).close()
    _lend(postgres_url)
    old = record(started_at=datetime.now(UTC) - timedelta(days=100))
    with Ledger(worker) as hand:
        for call in [*CALLS, old]:
            hand.record(call)
        hand.flush()
        assert {"calls_others": len(CALLS) + 1} == _where(postgres_url)
        with pytest.raises(LedgerError, match="only who owns its tables can make partitions"):
            hand.maintain("60 days")
        assert len(CALLS) == sum(1 for _ in hand.calls())
        assert (len(CALLS) + 1, []) == (hand.totals().calls, hand.check())
    with Ledger(postgres_url) as owner:
        owner.maintain()
        assert "calls_others" not in _where(postgres_url)
        assert [] == owner.check()


def test_who_reads_for_long_holds_nobody_up(postgres_url):
    """A partition is made later; the call is written at once."""
    with Ledger(postgres_url) as ledger, ledger._database.engine.connect() as reader:
        reader.execute(text("SELECT * FROM calls"))
        ledger.record(record())
        ledger.flush()
        assert {"calls_others": 1} == _where(postgres_url)
        reader.rollback()
        ledger._writer._months._not_before = 0.0
        ledger.record(record())
        ledger.flush()
        assert {"calls_2026_11": 2} == _where(postgres_url)
