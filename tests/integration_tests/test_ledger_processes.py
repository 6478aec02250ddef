"""The ledger among processes: killed, forked, ended, without room on the disk."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from langchain_tokenopt.ledger import Ledger
from tests.support.ledger_kills import ROOT, kill_writers
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.exhaustive

_HEAD = """
import sys
from langchain_tokenopt.ledger import Ledger
from tests.support.ledger_records import desk_calls, record
path = sys.argv[1]
"""

_FORKS = "ignore:This process:DeprecationWarning"
"""Python 3.12 and later warn of what is tested here: a fork while threads run."""

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="no fork")


def _run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", _FORKS, "-c", _HEAD + dedent(script), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _stored(path: Path) -> int:
    with Ledger(path) as ledger:
        assert [] == ledger.check()
        return ledger.totals().calls


@needs_fork
def test_killed_writers_lose_nothing_acknowledged(tmp_path):
    """Three kill -9 at random moments, then all at once: whole, exact, nothing missing."""
    report = kill_writers(tmp_path, kills=3, processes=4, seed=3)

    assert [] == report.findings
    assert (0, 0) == (report.missing, report.doubled)
    assert len(report.acknowledged) > 0


@needs_fork
def test_writers_go_on_when_their_server_is_back(tmp_path):
    """It crashes under three of them, one is killed, twice: each then has more acknowledged."""
    with PostgresServer({}) as server:

        def disturb(chance):
            server.stop(crash=True)
            time.sleep(chance.uniform(0, 0.3))
            server.start()

        place = server.new_database()
        report = kill_writers(tmp_path, kills=2, processes=3, seed=7, place=place, disturb=disturb)
    assert [] == report.findings
    assert (0, 0, 0) == (report.missing, report.doubled, report.files_left)
    assert len(report.acknowledged) > 0


def test_what_waits_is_written_when_the_process_ends(tmp_path):
    """Neither flush() nor close() is needed before the program ends."""
    done = _run(
        """
        ledger = Ledger(path)
        for call in desk_calls(500):
            ledger.record(call)
        """,
        tmp_path / "a.db",
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert 500 == _stored(tmp_path / "a.db")


def test_what_waits_is_written_when_the_program_fails(tmp_path):
    """An exception that ends the program loses no record."""
    done = _run(
        """
        ledger = Ledger(path)
        ledger.record(record())
        raise SystemExit(3)
        """,
        tmp_path / "a.db",
    )

    assert 3 == done.returncode
    assert 1 == _stored(tmp_path / "a.db")


@needs_fork
@pytest.mark.parametrize("durability", ["background", "full"])
def test_parent_and_forked_child_both_record(tmp_path, durability):
    """After a fork each process writes its own events, once, also while the writer is busy."""
    done = _run(
        f"""
        import os
        ledger = Ledger(path, durability={durability!r})
        calls = list(desk_calls(900))
        for call in calls[:300]:
            ledger.record(call)
        child = os.fork()
        for call in calls[300:600] if child else calls[600:]:
            ledger.record(call)
        if child == 0:
            ledger.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ledger.record(record())
        """,
        tmp_path / "a.db",
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert 901 == _stored(tmp_path / "a.db")


@needs_fork
def test_forks_in_several_threads_at_once(tmp_path):
    """Forking while others record and fork neither hangs nor loses."""
    done = _run(
        """
        import os, threading
        ledgers = [Ledger(path), Ledger(path)]
        def work(place):
            for number in range(5):
                ledgers[place % 2].record(record())
                child = os.fork()
                if child == 0:
                    ledgers[place % 2].record(record())
                    ledgers[place % 2].flush()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
        tmp_path / "a.db",
    )

    assert 0 == done.returncode, done.stderr
    assert 40 == _stored(tmp_path / "a.db")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_write_when_they_end(tmp_path, method):
    """Such workers leave without atexit; their events are written all the same."""
    if method == "fork" and sys.platform == "win32":
        pytest.skip("no fork")
    script = tmp_path / "script.py"
    script.write_text(
        _HEAD
        + dedent(
            f"""
            import multiprocessing
            def work(path):
                ledger = Ledger(path)
                for number in range(10):
                    ledger.record(record())
            if __name__ == "__main__":
                context = multiprocessing.get_context({method!r})
                with Ledger(path) as ledger:
                    ledger.record(record())
                    workers = [context.Process(target=work, args=(path,)) for _ in range(3)]
                    for worker in workers: worker.start()
                    for worker in workers: worker.join()
                assert [worker.exitcode for worker in workers] == [0, 0, 0]
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "a.db")],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert 31 == _stored(tmp_path / "a.db")


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
def test_a_limit_on_file_size_loses_nothing(tmp_path):
    """A disk that is full for this process: one line says where the events are, none is missing."""
    done = _run(
        """
        import resource, warnings
        ledger = Ledger(path)
        ledger.record(record())
        ledger.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        for call in desk_calls(3_000):
            ledger.record(call)
        """,
        tmp_path / "a.db",
    )

    assert "Traceback" not in done.stderr
    assert "events wait in" in done.stderr
    assert 3_001 == _stored(tmp_path / "a.db")


def test_a_record_made_while_the_interpreter_ends_is_kept(tmp_path):
    """Other exit handlers may still call models."""
    done = _run(
        """
        import atexit
        ledger = Ledger(path)
        def last_words():
            for call in desk_calls(20):
                ledger.record(call)
        atexit.register(last_words)
        ledger.record(record())
        """,
        tmp_path / "a.db",
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert 21 == _stored(tmp_path / "a.db")
