"""Where a ledger can live, and what is said where it cannot."""

from __future__ import annotations

import os
import sqlite3
import threading

import pytest
from sqlalchemy import text

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import ToolChoice
from langchain_tokenopt.core.usage import TOKEN_COUNTS, Usage
from langchain_tokenopt.ledger import Ledger, LedgerError, schema
from tests.support.ledger_records import desk_calls, record

pytestmark = pytest.mark.exhaustive

as_user = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere"
)


def test_a_file_is_created(path):
    """Naming a file that is not there makes one."""
    Ledger(path).close()

    assert path.is_file()


@pytest.mark.parametrize("form", ["sqlite:///{}", "{}"], ids=["url", "path"])
def test_a_file_can_be_named_in_two_ways(path, form):
    """SQLAlchemy's spelling of a file means that file."""
    Ledger(form.format(path)).close()

    assert path.is_file()


def test_an_empty_file_becomes_a_ledger(path):
    """A temporary file made beforehand is as good as none."""
    path.touch()
    with Ledger(path) as ledger:
        ledger.record(record())
        ledger.flush()

        assert 1 == ledger.totals().calls


def test_odd_file_names_work(tmp_path):
    """Spaces, question marks, percent signs and letters of any kind."""
    path = tmp_path / "my ledger?%20#é.db"
    Ledger(path).close()

    assert path.is_file()


def test_reading_creates_nothing(path):
    """Looking for a ledger does not make one."""
    with pytest.raises(LedgerError, match=r"no ledger at .*tokenopt.db. Create one with Ledger\("):
        Ledger(path, read_only=True)

    assert not path.exists()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_text_file_is_no_ledger(path, read_only):
    """Another kind of file is named as such and left alone."""
    path.write_text("just some notes\n" * 100)
    with pytest.raises(LedgerError, match="is not a ledger but some other kind of file"):
        Ledger(path, read_only=read_only)

    assert "just some notes\n" * 100 == path.read_text()


@pytest.mark.parametrize("read_only", [True, False])
def test_another_database_is_no_ledger(path, read_only):
    """Somebody else's database is not touched, not even its journal mode."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="is a database but not a token ledger"):
        Ledger(path, read_only=read_only)

    assert before == path.read_bytes()


def test_a_folder_is_no_ledger(tmp_path):
    """The message names a file in it."""
    with pytest.raises(LedgerError, match=r"is a folder. Name a file in it: .*tokenopt.db"):
        Ledger(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    """A typing error in the path makes no folders."""
    with pytest.raises(LedgerError, match=r"the folder .*missing does not exist"):
        Ledger(tmp_path / "missing" / "tokenopt.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "needs a file or a database URL"),
        (":memory:", "needs a file or a database URL"),
        ("sqlite://", "is a file, sqlite:///file or postgresql://.*; sqlite:// is none"),
        ("mysql://localhost/x", "is a file, sqlite:///file or postgresql://.*; mysql:// is none"),
        ("://", "is a file, sqlite:///file or postgresql://"),
    ],
)
def test_other_places_are_refused(url, message):
    """Each with its own sentence."""
    with pytest.raises(LedgerError, match=message):
        Ledger(url)


def test_a_missing_driver_is_named():
    """PostgreSQL needs a package; the message installs it."""
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(LedgerError, match=r'pip install "psycopg\[binary\]"'):
            Ledger("postgresql://localhost/ledger")
    else:
        with pytest.raises(LedgerError, match="cannot be reached"):
            Ledger("postgresql://127.0.0.1:1/ledger")


def test_a_newer_ledger_is_refused(path):
    """An old package does not guess at new tables."""
    Ledger(path).close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO ledger_schema VALUES (99, 0, '9.9')")
    other.close()
    for read_only in (True, False):
        with pytest.raises(LedgerError, match=r"version 99, written by a newer.*pip install -U"):
            Ledger(path, read_only=read_only)


def test_an_old_ledger_is_brought_up_to_date(path, monkeypatch):
    """Steps that are missing are applied once, in order, and noted."""
    with Ledger(path) as ledger:
        ledger.record(record())

    def add_a_column(connection):
        connection.execute(text("ALTER TABLE calls ADD COLUMN colour TEXT"))

    old = schema.SCHEMA_VERSION
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, add_a_column])
    monkeypatch.setattr(schema, "SCHEMA_VERSION", old + 1)
    with pytest.raises(LedgerError, match=rf"has the old schema version {old};.*Open it once"):
        Ledger(path, read_only=True)
    for _ in range(2):
        with Ledger(path) as ledger:
            assert 1 == ledger.totals().calls
    with sqlite3.connect(path) as other:
        versions = [row[0] for row in other.execute("SELECT version FROM ledger_schema")]
    other.close()

    assert [*range(1, old + 2)] == versions


def test_a_ledger_of_the_first_version_learns_of_organizations_tags_and_media(path):
    """What was recorded before stays, under no organization, and sums up with what comes."""
    with Ledger(path) as ledger:
        ledger.record(record(source="estimated"))
    with sqlite3.connect(path) as old:
        for column in ("organization", "tag"):
            old.execute(f"ALTER TABLE origins DROP COLUMN {column}")
        old.execute("DROP TABLE kpi_snapshots")
        added = TOKEN_COUNTS[TOKEN_COUNTS.index("input_image_tokens") :]
        for column in (*added, "unpriced", "source", "tool_results"):
            old.execute(f"ALTER TABLE calls DROP COLUMN {column}")
        old.execute("DROP TABLE tool_choices")
        old.execute("DELETE FROM ledger_schema WHERE version > 1")
    old.close()
    with Ledger(path) as ledger:
        ledger.record(record())
        drawn = Usage(1_000, 1_500, output_image_tokens=1_290)
        acme = Attribution(organization="acme", tag="checkout")
        shown = ToolChoice(offered=(), left_out=2, tokens_before=90, tokens_after=0)
        painted = {"usage": drawn, "unpriced": ("output image",), "tool_choice": shown}
        ledger.record(record(attribution=acme, **painted))
        ledger.flush()
        calls = {name: totals.calls for name, totals in ledger.by("organization").items()}

        assert {"(none)": 2, "acme": 1} == calls
        assert 1 == ledger.totals(organization="acme").calls
        assert [2] == [c.tool_choice.left_out for c in ledger.calls() if c.tool_choice]
        assert 1 == ledger.totals(tag="checkout").calls
        assert 1 == ledger.totals().unpriced_calls
        assert [((), 0)] * 2 + [(("output image",), 1_290)] == sorted(
            (call.unpriced, call.usage.output_image_tokens) for call in ledger.calls()
        )
        sources = sorted(call.source for call in ledger.calls())
        assert ["estimated", "reported", "reported"] == sources
        assert {"acme", None} == {call.attribution.organization for call in ledger.calls()}
    with sqlite3.connect(path) as new:
        assert (2,) == new.execute("SELECT count(*) FROM origins").fetchone()
    new.close()


def test_a_step_that_fails_leaves_the_ledger_as_it_was(path, monkeypatch):
    """Half a migration does not exist."""
    Ledger(path).close()

    def fail_halfway(connection):
        connection.execute(text("ALTER TABLE calls ADD COLUMN colour TEXT"))
        connection.execute(text("ALTER TABLE no_such_table ADD COLUMN colour TEXT"))

    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, fail_halfway])
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    with pytest.raises(LedgerError, match="no such table"):
        Ledger(path)
    monkeypatch.undo()
    with Ledger(path) as ledger:
        ledger.record(record())
        ledger.flush()

        assert 1 == ledger.totals().calls


def test_many_open_a_new_file_at_once(path):
    """Whoever comes first makes the tables; nobody fails."""
    failures = []

    def open_one():
        try:
            with Ledger(path) as ledger:
                ledger.record(record())
        except LedgerError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Ledger(path, read_only=True) as ledger:
        assert 8 == ledger.totals().calls
    assert [] == failures


def test_a_reader_sees_what_a_writer_commits(path):
    """Reading and writing go on side by side."""
    with Ledger(path) as writer, Ledger(path, read_only=True) as reader:
        assert 0 == reader.totals().calls
        writer.record(record())
        writer.flush()

        assert 1 == reader.totals().calls


def test_a_reader_leaves_no_files_behind(path):
    """After asking, the ledger is one file again."""
    with Ledger(path) as ledger:
        ledger.record(record())
    with Ledger(path, read_only=True) as reader:
        reader.totals()

    assert [path] == list(path.parent.iterdir())


def test_a_reader_does_not_write(path):
    """Recording into a ledger opened for reading is a mistake, and said to be one."""
    Ledger(path).close()
    with (
        Ledger(path, read_only=True) as reader,
        pytest.raises(LedgerError, match="opened with read_only=True"),
    ):
        reader.record(record())


@as_user
def test_a_place_that_may_not_be_written(tmp_path):
    """The message says that it is a matter of rights."""
    tmp_path.chmod(0o500)
    with pytest.raises(LedgerError, match="you may"):
        Ledger(tmp_path / "tokenopt.db")
    tmp_path.chmod(0o700)


@as_user
def test_a_ledger_in_a_read_only_folder_can_be_read(path):
    """A copy on a read-only disk answers."""
    with Ledger(path) as ledger:
        ledger.record(record())
    path.parent.chmod(0o500)
    path.chmod(0o400)
    try:
        with Ledger(path, read_only=True) as ledger:
            assert 1 == ledger.totals().calls
    finally:
        path.parent.chmod(0o700)


def test_a_damaged_file_is_named_as_such(path):
    """A file with a hole in it says so instead of answering."""
    with Ledger(path) as ledger:
        for _ in range(300):
            ledger.record(record())
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"is damaged. Restore it from a copy"):
        Ledger(path)


def test_a_ledger_shows_where_it_is(path):
    """Its repr names the place."""
    with Ledger(path) as ledger:
        assert f"Ledger({str(path)!r})" == repr(ledger)


def test_a_ledger_of_the_version_before_gets_its_sums(path):
    """They are computed from the rows, whatever the older sums were; then it goes on."""
    with Ledger(path) as ledger:
        for call in desk_calls(60, days=2):
            ledger.record(call)
        ledger.flush()
        before = (ledger.totals(percentiles=True), ledger.by("user"), ledger.figures())
    with sqlite3.connect(path) as old:
        for table in (*schema.DERIVED, schema.forgettings):
            old.execute(f"DROP TABLE {table.name}")
        for index in ("calls_user", "savings_call", "savings_user"):
            old.execute(f"DROP INDEX {index}")
        old.execute("CREATE TABLE call_hours (hour, origin, calls, PRIMARY KEY (hour, origin))")
        old.execute("INSERT INTO call_hours VALUES (1, 1, 999)")
        old.execute("DELETE FROM ledger_schema WHERE version > 7")
    old.close()
    with pytest.raises(LedgerError, match="old schema version 7"):
        Ledger(path, read_only=True)
    opened = [threading.Thread(target=lambda: Ledger(path).close()) for _ in range(4)]
    for thread in opened:
        thread.start()
    for thread in opened:
        thread.join()
    with Ledger(path) as ledger:
        assert before == (ledger.totals(percentiles=True), ledger.by("user"), ledger.figures())
        ledger.record(record())
        assert [] == ledger.check()
        assert 61 == ledger.totals().calls
