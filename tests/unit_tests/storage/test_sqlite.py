"""One way to open, share, retry and close a file."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing

import pytest

from langchain_tokenopt.storage.sqlite import (
    FileReplacedError,
    Settings,
    SqliteFile,
    begin,
    connect,
    connect_to_read,
    is_damaged,
    is_locked,
    writing,
)

pytestmark = pytest.mark.exhaustive

as_user = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere"
)
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and modes")


def make_table(connection):
    connection.execute("CREATE TABLE IF NOT EXISTS word (text TEXT)")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def file(path):
    file = SqliteFile(path, make_table)
    yield file
    file.close()


def words(path):
    with closing(sqlite3.connect(path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM word ORDER BY rowid")]


def add(file, text, **options):
    with file.transaction(**options) as connection:
        connection.execute("INSERT INTO word VALUES (?)", (text,))


@posix
def test_a_new_file_can_be_read_by_its_owner_only(file, path):
    """So can the files beside it; what exists keeps its mode."""
    add(file, "a")

    assert {0o600} == {stat.S_IMODE(part.stat().st_mode) for part in path.parent.iterdir()}

    path.chmod(0o640)
    file.forget()
    add(file, "b")
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


def test_a_file_of_another_program_is_left_as_it_is(path):
    """Not even its journal mode changes when it is refused."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()

    def refuse(connection):
        raise ValueError("not ours")

    with pytest.raises(ValueError, match="not ours"):
        SqliteFile(path, refuse).connection()
    assert before == path.read_bytes()


def test_settings_hold(path):
    """Every connection has them."""
    settings = Settings(
        synchronous="FULL",
        page_bytes=1024,
        checkpoint_pages=77,
        journal_bytes=4096,
        busy_seconds=1.5,
    )
    with closing(connect(path, settings, prepare=make_table)) as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in [
                "journal_mode",
                "synchronous",
                "page_size",
                "wal_autocheckpoint",
                "journal_size_limit",
                "busy_timeout",
            ]
        }
    assert ["wal", 2, 1024, 77, 4096, 1500] == list(found.values())


def test_a_change_is_whole_or_not_at_all(file, path):
    """What raises is undone, and the file can be used again."""
    add(file, "kept")
    with pytest.raises(sqlite3.OperationalError), file.transaction() as connection:  # noqa: PT012
        connection.execute("INSERT INTO word VALUES (0)")
        connection.execute("INSERT INTO word VALUES (1, 2)")
    add(file, "kept too")

    assert ["kept", "kept too"] == words(path)


def test_a_change_inside_of_a_change_is_part_of_it(file, path):
    """So a finalizer on the same thread neither waits for itself nor commits half of it."""
    with pytest.raises(ZeroDivisionError), file.transaction():  # noqa: PT012
        add(file, "outer")
        add(file, "inner")
        1 / 0  # noqa: B018

    assert [] == words(path)


def test_a_finalizer_inside_of_a_change_does_not_hang(path):
    """A left object in a reference cycle is collected while its own file is being changed."""
    script = f"""
        import gc
        from pathlib import Path
        from langchain_tokenopt.storage.sqlite import SqliteFile

        file = SqliteFile(Path({str(path)!r}), lambda c: c.execute(
            "CREATE TABLE IF NOT EXISTS word (text TEXT)"))

        class Left:
            def __init__(self):
                self.itself = self
            def __del__(self):
                with file.transaction() as connection:
                    connection.execute("INSERT INTO word VALUES ('left')")

        Left()
        with file.transaction() as connection:
            gc.collect()
            connection.execute("INSERT INTO word VALUES ('change')")
        file.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=30, check=True)

    assert ["left", "change"] == words(path)


def test_a_locked_file_is_waited_for(file, path):
    """As long as was said, and no longer."""
    add(file, "a")
    with closing(connect(path)) as other:
        begin(other)
        started = time.monotonic()
        with pytest.raises(sqlite3.OperationalError) as caught:
            add(file, "b", wait_seconds=0.2)
        waited = time.monotonic() - started
        assert is_locked(caught.value)
        assert 0.2 <= waited < file.wait_seconds

        threading.Timer(0.2, other.execute, ["COMMIT"]).start()
        add(file, "c", wait_seconds=20)
    assert ["a", "c"] == words(path)


def test_many_threads_and_connections_write(file, path):
    """Nothing is lost between threads of one object and another process' connection."""
    add(file, "first")

    def write(number):
        with closing(connect(path)) as own:
            for part in range(25):
                add(file, f"{number} {part}")
                with writing(own):
                    own.execute("INSERT INTO word VALUES (?)", (f"own {number} {part}",))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 + 4 * 25 * 2 == len(set(words(path)))


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_not_the_one_it_was_is_refused(file, path, how):
    """A blank one would know of nothing; who wants it has to say so."""
    add(file, "a")
    if how == "removed":
        path.unlink()
    else:
        with closing(connect(path.with_name("other.db"), prepare=make_table)):
            pass
        path.with_name("other.db").replace(path)
        for end in ("-wal", "-shm"):  # as whoever replaces a database has to
            path.with_name(path.name + end).unlink()
    for _ in range(2):
        with pytest.raises(FileReplacedError, match=f"store.db was {how}"):
            add(file, "b")
    file.forget()
    add(file, "c")

    assert ["c"] == words(path)


def test_a_database_in_memory(monkeypatch, tmp_path):
    """Nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    file = SqliteFile(None, make_table)
    add(file, "a")

    assert [("a",)] == file.connection().execute("SELECT text FROM word").fetchall()
    assert [] == list(tmp_path.iterdir())
    file.close()


def test_closing_is_not_the_end(file, path):
    """The next use opens the file again, and says so."""
    add(file, "a")
    file.close()
    file.close()
    add(file, "b")

    assert ["a", "b"] == words(path)
    assert 2 == file.openings


@pytest.mark.parametrize("content", [b"just some notes\n" * 100, b"\0" * 5000])
def test_what_is_no_database_is_told_as_damage(path, content):
    """Not as something to wait for."""
    path.write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        SqliteFile(path, make_table).connection()
    assert is_damaged(caught.value)
    assert not is_locked(caught.value)


def test_reading_leaves_nothing_behind(file, path):
    """A reader sees what was written, cannot write, and leaves one file."""
    add(file, "a")
    file.close()
    with closing(connect_to_read(path)) as connection:
        assert [("a",)] == connection.execute("SELECT text FROM word").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("INSERT INTO word VALUES ('b')")
    assert [path] == list(path.parent.iterdir())


def test_reading_creates_nothing(path):
    """A file that is not there is an error."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connect_to_read(path)
    assert not path.exists()


@as_user
def test_a_file_in_a_folder_that_may_not_be_written_can_be_read(file, path):
    """A copy on a read-only disk answers."""
    add(file, "a")
    file.close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with closing(connect_to_read(path)) as connection:
            assert [("a",)] == connection.execute("SELECT text FROM word").fetchall()
    finally:
        path.parent.chmod(0o700)


def test_a_forgotten_file_is_no_burden(path):
    """Nothing keeps it alive: forks do not have to hold it still."""
    from langchain_tokenopt.storage import forks

    file = SqliteFile(path, make_table)
    key = id(file)
    assert key in forks._registered
    del file
    gc.collect()
    assert key not in forks._registered


def test_a_change_of_a_new_file_waits_for_those_who_read(tmp_path):
    """Without a write-ahead log yet, nobody can commit while somebody reads."""
    path = tmp_path / "new.db"
    writer, reader = sqlite3.connect(path, timeout=0), sqlite3.connect(path, timeout=0)
    writer.isolation_level = reader.isolation_level = None
    writer.execute("CREATE TABLE colour (name TEXT)")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM colour").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="locked"), writing(writer, wait_seconds=0):
        writer.execute("INSERT INTO colour VALUES ('red')")

    def stop_reading(statement: str) -> None:
        if statement == "COMMIT" and reader.in_transaction:
            reader.execute("ROLLBACK") if refused else refused.append(statement)

    refused: list[str] = []
    writer.set_trace_callback(stop_reading)
    with writing(writer):
        writer.execute("INSERT INTO colour VALUES ('blue')")
    assert refused
    assert [("blue",)] == reader.execute("SELECT name FROM colour").fetchall()
    writer.close()
    reader.close()
