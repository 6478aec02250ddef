"""Forks while other threads are busy."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PRELUDE = """
    import os, sqlite3, sys, threading, time, warnings
    from pathlib import Path
    from langchain_tokenopt.storage import forks
    from langchain_tokenopt.storage.sqlite import SqliteFile, connect_to_read

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


def run(path, *scripts, argument=""):
    code = "".join(map(textwrap.dedent, scripts if FIRST in scripts else (PRELUDE, *scripts)))
    command = [sys.executable, "-c", code, str(path), argument]
    subprocess.run(command, timeout=60, check=True)


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
        argument=order,
    )


INNER_AND_OUTER = """
    class Outer:
        def __init__(self):
            self.lock = forks.ForkLock()
            forks.register(self)

        def before_fork(self):
            pass

        def after_fork_in_child(self):
            self.lock = forks.ForkLock()

"""


@pytest.mark.parametrize("registered", ["outer first", "inner first"])
def test_busy_threads_do_not_keep_a_fork_waiting(tmp_path, registered):
    """Whatever they nest, without a pause, and in whichever order it was made."""
    run(
        tmp_path / "store.db",
        INNER_AND_OUTER,
        """
        if sys.argv[2] == "outer first":
            outer, file = Outer(), SqliteFile(path, make_table)
        else:
            file, outer = SqliteFile(path, make_table), Outer()
        forks.LONGEST_WAIT_SECONDS = 60  # a fork that waits as long as it may is ended from outside
        stop, added = threading.Event(), []

        def work():
            while not stop.is_set():
                with outer.lock:
                    add(file, "thread")
                    added.append(1)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()

        def work_in_child():
            with outer.lock:
                add(file, "child")

        for _ in range(20):
            in_child(work_in_child)
        stop.set()
        for thread in threads:
            thread.join()
        assert count() == len(added) + 20, (count(), len(added))
        """,
        argument=registered,
    )


FIRST = """
    import os
    used = []
    # Such hooks run in reverse: one that is registered before the package's runs after it.
    os.register_at_fork(before=lambda: used.append(count()))
"""


def test_who_forks_may_use_what_it_holds_still(tmp_path):
    """Other hooks of the fork run on the same thread while everybody else waits."""
    run(
        tmp_path / "store.db",
        FIRST,
        PRELUDE,
        """
        file = SqliteFile(path, make_table)
        add(file, "parent")
        child = os.fork()
        if not child:
            os._exit(0 if used == [1] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert used == [1]
        """,
    )


HELD = """
    forks.LONGEST_WAIT_SECONDS = 0.3
    file, locked, done = SqliteFile(path, make_table), threading.Event(), threading.Event()
    other = SqliteFile(path.with_name("other.db"), make_table)

    def hold():
        with file.lock:
            if sys.argv[2] == "open":
                add(file, "parent")
            locked.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()

    def refused(use):
        try:
            use()
        except sqlite3.OperationalError as error:
            return "was in use when this process was forked" in str(error)
"""


def test_a_fork_goes_on_without_a_resource_that_stays_in_use(tmp_path):
    """The child works with a lock and a connection of its own."""
    run(
        tmp_path / "store.db",
        HELD,
        """
        in_child(lambda: add(file, "child"))
        done.set()
        thread.join()
        add(file, "parent")
        assert count() == 2
        """,
        argument="closed",
    )


def test_a_file_that_was_open_in_the_fork_is_refused_at_once(tmp_path):
    """SQLite would take the parent's locks for the child's: what it writes could be lost."""
    run(
        tmp_path / "store.db",
        HELD,
        """
        def child():
            assert refused(lambda: add(file, "child"))
            assert refused(lambda: add(SqliteFile(path, make_table), "child"))
            assert refused(lambda: connect_to_read(path))
            add(other, "child")
            in_child(lambda: refused(lambda: add(file, "grandchild")) or sys.exit(1))

        in_child(child)
        done.set()
        thread.join()
        in_child(lambda: add(file, "later child"))
        assert count() == 2
        """,
        argument="open",
    )


def test_a_fork_in_the_middle_of_a_change(tmp_path):
    """The child leaves the parent's change alone and cannot commit it."""
    run(
        tmp_path / "store.db",
        HELD,
        """
        done.set()
        thread.join()
        with file.transaction() as connection:
            connection.execute("INSERT INTO word VALUES ('parent')")
            in_child(lambda: file.in_transaction and sys.exit(1))
            in_child(lambda: refused(lambda: add(file, "child")) or sys.exit(1))
        in_child(lambda: add(file, "child"))
        assert count() == 2
        """,
        argument="closed",
    )


def test_a_file_that_is_read_during_the_fork_is_refused(tmp_path):
    """A connection to read has locks, too."""
    run(
        tmp_path / "store.db",
        HELD,
        """
        done.set()
        thread.join()
        add(file, "parent")
        reading = connect_to_read(path)
        in_child(lambda: refused(lambda: add(file, "child")) or sys.exit(1))
        reading.close()
        in_child(lambda: add(file, "child"))
        assert count() == 2
        """,
        argument="closed",
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
