"""A ledger on a server that others use, too: writers, poolers, tables, defaults of their own."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from langchain_tokenopt.ledger import Ledger, LedgerError, database, partitions
from tests.support.ledger_records import desk_calls
from tests.support.migrations import copy_ledger
from tests.support.postgres_server import (
    FAST,
    PostgresServer,
    SilentWire,
    database_of,
    shared_server,
)

pytestmark = pytest.mark.exhaustive

CALLS = list(desk_calls(20, days=2))
NAMES = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


def _execute(url, statement):
    return shared_server().execute(statement, database_of(url))


def _wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Tables of others


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("call_hours", "CREATE TABLE call_hours (mine int)"),
        ("result_days", "CREATE TABLE result_days (mine int)"),
        ("ledger_schema", "CREATE TABLE ledger_schema (mine int)"),
        ("ledger_schema", "CREATE VIEW ledger_schema AS SELECT 'one' AS version"),
        ("origins", "CREATE VIEW origins AS SELECT 1 AS mine"),
        ("runs", "CREATE MATERIALIZED VIEW runs AS SELECT 1 AS mine"),
        ("savings_others", "CREATE TABLE savings_others (mine int)"),
        ("names", "CREATE TYPE names AS ENUM ('ada')"),
        ("calls_seq_seq", "CREATE SEQUENCE calls_seq_seq"),
        ("calls_run", "CREATE TABLE x (mine int); CREATE INDEX calls_run ON x (mine)"),
    ],
)
def test_what_has_a_name_of_ours_is_left_alone(postgres_url, name, statement):
    """Nothing is made beside it, and the sentence says what to do; that helps."""
    _execute(postgres_url, statement)
    before = _execute(postgres_url, NAMES)
    with pytest.raises(LedgerError, match=f"'{name}', which is not .* a schema of its own"):
        Ledger(postgres_url)
    assert before == _execute(postgres_url, NAMES)
    _execute(postgres_url, "CREATE SCHEMA tokens")
    with Ledger(f"{postgres_url}&options=-csearch_path%3Dtokens") as ledger:
        ledger.record(CALLS[0])
        ledger.flush()
        assert (1, []) == (ledger.totals().calls, ledger.check())


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger_schema",
        "ALTER TABLE ledger_schema ALTER version TYPE text",
        "ALTER TABLE ledger_schema DROP version",
    ],
)
def test_a_version_that_is_none(postgres_url, statement, read_only):
    """As after a restore of some tables: no step is tried."""
    Ledger(postgres_url).close()
    _execute(postgres_url, statement)
    with pytest.raises(LedgerError, match=r"'ledger_schema'.* a schema of its own"):
        Ledger(postgres_url, read_only=read_only)


def test_several_begin_at_once_where_snapshots_last(postgres_url):
    """Who waited for another one's steps sees them, whatever isolation is the default."""
    name = database_of(postgres_url)
    _execute(
        postgres_url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
    )
    waiting = (
        f"SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database "
        f"WHERE datname = '{name}' AND locktype = 'advisory' AND NOT granted"
    )
    with psycopg.connect(postgres_url) as holder, ThreadPoolExecutor(3) as threads:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (database._WRITERS_LOCK,))
        opened = [threads.submit(Ledger, postgres_url) for _ in range(3)]
        _wait_until(lambda: _execute(postgres_url, waiting) == [(3,)])
        holder.rollback()
        for ledger in opened:
            ledger.result().close()
    with Ledger(postgres_url) as ledger:
        assert [] == ledger.check()


# Other writers


def test_a_turn_comes_however_many_are_before(postgres_url):
    """Each of them is short: that all together are longer than one waits is no failure."""
    with Ledger(postgres_url, max_wait_seconds=0.3) as own:

        def hold(ready):
            with own._database.connect_to_write() as other, own._database.writing(other, 60):
                ready.set()
                time.sleep(0.25)

        with ThreadPoolExecutor(6) as threads:
            ready = threading.Event()
            held = [threads.submit(hold, ready) for _ in range(6)]
            ready.wait()
            own.record(CALLS[0])
            own.flush()
            for each in held:
                each.result()
        assert 1 == own.totals().calls


def test_who_stands_still_is_undone(postgres_url):
    """A machine that sleeps in the middle of a transaction holds up nobody for long."""
    with (
        Ledger(postgres_url, max_wait_seconds=1) as own,
        own._database.connect_to_write() as other,
    ):

        def stand_still():
            with own._database.writing(other, stopped_seconds=1):
                own.record(CALLS[0])
                own.flush()
                other.exec_driver_sql("SELECT 1")

        with pytest.raises(DBAPIError):
            stand_still()
        assert 1 == own.totals().calls


def test_who_reads_gives_up_a_silent_server(postgres_url, monkeypatch):
    """Questions and openings end, with a sentence."""
    with SilentWire(shared_server().port) as wire:
        url = f"postgresql://postgres:secret@127.0.0.1:{wire.port}/{database_of(postgres_url)}"
        with Ledger(url, max_wait_seconds=0.3) as ledger:
            ledger.record(CALLS[0])
            ledger.flush()
            monkeypatch.setattr(database, "READ_SECONDS", 0.5)
            connect = database.Database.connect_to_read

            def silently(self, *limits):
                connection = connect(self, *limits)
                wire.silent = True
                return connection

            monkeypatch.setattr(database.Database, "connect_to_read", silently)
            with pytest.raises(LedgerError, match="no answer within"):
                ledger.totals()
            wire.silent = False


# Poolers


def test_no_statement_is_prepared(tmp_path):
    """A pooler of transactions may give the next one another session."""
    with PostgresServer(dict(FAST) | {"log_min_duration_statement": "0"}) as server:
        url, other = server.new_database(), server.new_database()
        with Ledger(url) as ledger:
            for call in CALLS:
                ledger.record(call)
                ledger.flush()
            for _ in range(7):
                ledger.totals()
                ledger.runs()
            ledger.maintain("90 days")
            ledger.forget(user="nobody")
            assert [] == ledger.check()
        copy_ledger(url, tmp_path / "copy.db")
        copy_ledger(tmp_path / "copy.db", other)
        log = (server.folder / "log").read_text()
    assert "INSERT INTO ledger_schema" in log
    assert set() == set(re.findall(r"(?:parse|bind|execute) _pg\w+.{80}", log))


# Schemas

SCHEMAS = [
    *("Tenant7", "our data", "a.b", "A.b c", 'say "hi"', "o'clock", "a,b", "back\\slash", "%s :x"),
    *("zürich", "2024", "select", "team-a", "$user"),
]


@pytest.mark.parametrize(
    ("schema", "how"),
    [*((schema, "url") for schema in SCHEMAS), ("A.b c", "database"), ("$user", "database")],
)
def test_a_ledger_lives_in_any_schema(postgres_url, tmp_path, schema, how):
    """Whatever its name: months are made and dropped there, rows go there and back."""
    quoted = '"' + schema.replace('"', '""') + '"'
    if schema == "$user":  # which stands for the user's own
        _execute(postgres_url, "CREATE SCHEMA postgres")
    else:
        _execute(postgres_url, f"CREATE SCHEMA {quoted}")
    url = postgres_url
    if how == "url":
        option = re.sub(r"([\\\s])", r"\\\1", f"-csearch_path={quoted}")
        url += f"&options={quote(option, safe='')}"
    else:
        name = database_of(postgres_url)
        _execute(postgres_url, f"ALTER DATABASE {name} SET search_path TO {quoted}")
    with Ledger(url) as ledger:
        for call in CALLS:
            ledger.record(call)
        assert len(CALLS) == ledger.totals().calls
    copy_ledger(url, tmp_path / "copy.db")
    copy_ledger(tmp_path / "copy.db", url)
    with Ledger(url) as ledger:
        ledger.maintain()
        assert (len(CALLS), []) == (len(list(ledger.calls())), ledger.check())
        _drop_the_month_of_all(ledger)
    assert [(0,)] == _execute(postgres_url, NAMES)


def _drop_the_month_of_all(ledger):
    with (
        ledger._database.connect_to_write() as connection,
        ledger._database.writing(connection),
    ):
        end = partitions.start_of(partitions.this_month() + 1)
        assert len(CALLS) == partitions.drop_before(connection, end)
