"""Forks while other threads are busy."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PRELUDE = """
    import os, sys, threading, time, warnings
    from pathlib import Path
    from langchain_tokenopt.storage import forks
    from langchain_tokenopt.storage.sqlite import SqliteFile

    warnings.simplefilter("ignore", DeprecationWarning)  # that threads and fork do not go together
    path = Path(sys.argv[1])

    def make_table(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS word (text TEXT)")

    def add(file, text):
        with file.transaction() as connection:
            connection.execute("INSERT INTO word VALUES (?)", (text,))

    def in_child(work):
        child = os.fork()
        if not child:
            status = 1
            try:
                work()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

    def count():
        with file.transaction() as connection:
            return connection.execute("SELECT count(*) FROM word").fetchone()[0]
"""


def run(path, script, *arguments):
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    subprocess.run([sys.executable, "-c", code, str(path), *arguments], timeout=60, check=True)


def test_a_child_of_busy_threads_works(tmp_path):
    """No child inherits a lock that is held for ever, nor a connection; nothing is lost."""
    run(
        tmp_path / "store.db",
        """
        file, stop, added = SqliteFile(path, make_table), threading.Event(), []

        def work():
            while not stop.is_set():
                add(file, "thread")
                added.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            in_child(lambda: add(file, "child"))
        stop.set()
        for thread in threads:
            thread.join()
        assert count() == len(added) + 40, (count(), len(added))
        """,
    )


@pytest.mark.parametrize("order", ["same", "other"])
def test_two_resources_held_in_any_order_do_not_stop_a_fork(tmp_path, order):
    """A thread that has one and waits for the other gets it: the fork gives way."""
    run(
        tmp_path / "store.db",
        """
        file, stop = SqliteFile(path, make_table), threading.Event()
        other = SqliteFile(path.with_name("other.db"), make_table)

        first, second = (file, other) if sys.argv[2] == "same" else (other, file)

        def nest():
            while not stop.is_set():
                with first.lock:
                    time.sleep(0.0005)
                    with second.lock:
                        pass
                time.sleep(0.001)

        threading.Thread(target=nest).start()
        for _ in range(40):
            in_child(lambda: (add(file, "child"), add(other, "child")))
        stop.set()
        assert count() == 40
        """,
        order,
    )


def test_a_fork_goes_on_without_a_resource_that_stays_in_use(tmp_path):
    """The child works with a lock and a connection of its own."""
    run(
        tmp_path / "store.db",
        """
        forks.LONGEST_WAIT_SECONDS = 0.3
        file, locked, done = SqliteFile(path, make_table), threading.Event(), threading.Event()
        add(file, "parent")

        def hold():
            with file.lock:
                locked.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        locked.wait()
        in_child(lambda: add(file, "child"))
        done.set()
        thread.join()
        add(file, "parent")
        assert count() == 3
        """,
    )


def test_a_fork_in_the_middle_of_a_change(tmp_path):
    """The child leaves the parent's change alone and cannot commit it."""
    run(
        tmp_path / "store.db",
        """
        file = SqliteFile(path, make_table)
        with file.transaction() as connection:
            connection.execute("INSERT INTO word VALUES ('parent')")
            in_child(lambda: file.in_transaction and sys.exit(1))
        in_child(lambda: add(file, "child"))
        assert count() == 2
        """,
    )


def test_a_database_in_memory_is_copied(tmp_path):
    """Parent and child go separate ways."""
    run(
        tmp_path,
        """
        file = SqliteFile(None, make_table)
        add(file, "both")
        in_child(lambda: (add(file, "child"), count() == 2 or sys.exit(1)))
        assert count() == 1
        """,
    )
