"""Locked, removed and damaged files, torn leftovers, finalizers: nothing hangs, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from contextlib import closing, contextmanager, suppress

import pytest

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.ledger import Ledger, LedgerError, spill
from tests.support.ledger_records import desk_calls, record

pytestmark = pytest.mark.exhaustive


@contextmanager
def locked(path):
    """Let another connection keep the right to write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def slowest(calls, ledger):
    """Record *calls*; return how long the slowest took, and all of them, in seconds."""
    times = []
    for call in calls:
        started = time.monotonic()
        ledger.record(call)
        times.append(time.monotonic() - started)
    return max(times), sum(times)


def leftover(path, content, name="x"):
    """Write a file as a ledger leaves one that could not be written."""
    file = path.with_name(f"{path.name}.unwritten-{name}.jsonl")
    file.write_bytes(content)
    return file


def lines(calls):
    return [spill.to_line(call).encode() + b"\n" for call in calls]


# Locked


@pytest.mark.parametrize("durability", ["background", "full"])
@pytest.mark.filterwarnings("ignore::langchain_tokenopt.core.errors.TokenOptWarning")
def test_a_locked_ledger_holds_a_caller_up_once_and_loses_nothing(path, durability):
    """A bounded wait, then files beside the ledger, which it takes in when it can be written."""
    calls = list(desk_calls(200))
    with Ledger(path, durability=durability, max_pending=20, max_wait_seconds=0.5) as ledger:
        ledger.record(calls[0])
        ledger.flush()
        with locked(path):
            longest, together = slowest(calls[1:], ledger)
            assert list(path.parent.glob("*.unwritten-*.jsonl"))
            assert longest < 2
            assert together < 10
        ledger.flush()

        assert calls == list(ledger.calls())
        assert [] == ledger.check()
    assert [] == list(path.parent.glob("*.unwritten-*"))


@pytest.mark.parametrize("durability", ["background", "full"])
@pytest.mark.filterwarnings("ignore::langchain_tokenopt.core.errors.TokenOptWarning")
def test_an_event_loop_does_not_stand_still(path, durability):
    """Whatever happens to the database, async callers only put events into the queue."""
    calls = list(desk_calls(200))
    with Ledger(path, durability=durability, max_pending=20, max_wait_seconds=3) as ledger:
        ledger.record(calls[0])
        ledger.flush()

        async def record_all():
            return slowest(calls[1:], ledger)

        with locked(path):
            longest, _ = asyncio.run(record_all())
        assert longest < 0.5
        ledger.flush()

        assert calls == list(ledger.calls())


def test_flushing_a_locked_ledger_says_so(path):
    """It waits as long as was said; then the events are kept."""
    with Ledger(path, max_wait_seconds=0.2) as ledger:
        ledger.record(record())
        ledger.flush()
        with locked(path):
            ledger.record(record())
            started = time.monotonic()
            with pytest.raises(LedgerError, match="held by another process"):
                ledger.flush()
            assert time.monotonic() - started < 5
        ledger.flush()

        assert 2 == ledger.totals().calls


def test_full_durability_is_made_up_for_in_the_background(path):
    """What could not be committed at once is committed as soon as it can be, by itself."""
    with Ledger(path, durability="full", max_wait_seconds=0.1) as ledger:
        ledger.record(record())
        with locked(path), pytest.warns(TokenOptWarning, match="Events wait in memory"):
            ledger.record(record())
        with Ledger(path, read_only=True) as other:
            deadline = time.monotonic() + 20
            while other.totals().calls < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert 2 == other.totals().calls


@pytest.mark.filterwarnings("ignore::langchain_tokenopt.core.errors.TokenOptWarning")
def test_a_late_event_for_a_locked_ledger_is_kept(path):
    """After close() nobody would come back for it: it goes to a file at once."""
    ledger = Ledger(path, max_wait_seconds=0.1)
    ledger.close()
    with locked(path):
        ledger.record(record())
    with Ledger(path) as again:
        assert 1 == again.totals().calls


# Finalizers

LEFT = """
    import gc, sys
    from langchain_tokenopt.ledger import Ledger, batch, writer
    from tests.support.ledger_records import record

    class Left:
        def __init__(self, work):
            self.itself, self.work = self, work
        def __del__(self):
            self.work()

    def collecting(function, work):
        def wrapped(*arguments, **named):
            Left(work)
            gc.collect()
            return function(*arguments, **named)
        return wrapped

    path, durability, place, what = sys.argv[1:]
    ledger = Ledger(path, durability=durability, max_pending=3)
    done = []
    def work():
        done.append(1)
        if what == "record":
            ledger.record(record())
        elif what == "flush":
            ledger.record(record()); ledger.flush()
        else:
            ledger.record(record()); ledger.close()
    owner, name = {"insert": (batch, "_insert"), "store": (writer.Writer, "_store"),
                   "take": (writer.Writer, "_take"), "wake": (writer.Writer, "_wake_up"),
                   "write": (writer.Writer, "_write")}[place]
    original = getattr(owner, name)
    setattr(owner, name, collecting(original, lambda: len(done) < 9 and work()))
    for _ in range(7):
        ledger.record(record())
    setattr(owner, name, original)
    ledger.close()
    with Ledger(path, read_only=True) as again:
        print(again.totals().calls, 7 + len(done), again.check())
        assert again.totals().calls == 7 + len(done) and not again.check()
"""


@pytest.mark.parametrize(
    ("place", "what"),
    [
        *((place, "record") for place in ["insert", "store", "take", "write", "wake"]),
        ("insert", "flush"),
        ("insert", "close"),
    ],
)
@pytest.mark.parametrize("durability", ["background", "full"])
def test_an_event_from_a_finalizer_inside_of_our_own_code(path, durability, place, what):
    """A left stream is closed by the collector while this very thread writes: no hang, no loss."""
    code = textwrap.dedent(LEFT)
    subprocess.run(
        [sys.executable, "-c", code, str(path), durability, place, what], timeout=60, check=True
    )


def test_left_streams_under_a_tracker_with_a_ledger(path):
    """As an application meets it: streams are left, calls go on, the collector runs anywhere."""
    code = """
        import gc, sys
        from langchain_core.language_models import FakeListChatModel
        from langchain_tokenopt import track_usage
        from langchain_tokenopt.ledger import Ledger

        gc.set_threshold(5, 2, 2)
        model = FakeListChatModel(responses=["a b c d e f"])

        class Cycle:
            pass

        with Ledger(sys.argv[1], max_pending=5) as ledger, track_usage(sinks=[ledger]) as usage:
            for _ in range(60):
                left = Cycle()
                left.me, left.stream = left, model.stream("?")
                next(left.stream)
                del left
                model.invoke("!")
            gc.collect()
            made = usage.totals().calls
            ledger.flush()
            assert made == ledger.totals().calls >= 120, (made, ledger.totals().calls)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], timeout=120, check=True
    )


# Leftovers


def test_a_torn_leftover_is_read_as_far_as_it_goes(path):
    """A ledger opens whatever lies beside it; what cannot be read is kept under another name."""
    calls = list(desk_calls(3))
    content = b"".join(lines(calls))
    leftover(path, content[:-40])
    with pytest.warns(TokenOptWarning, match=r"1 lines of .* are no usage events; 2 others were"):
        Ledger(path).close()
    with Ledger(path) as again:
        assert calls[:2] == list(again.calls())
    (aside,) = path.parent.glob("*.damaged")
    assert content[:-40] == aside.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\xff\xfe\x00" * 100,
        b"x" * (3 << 20),
        b"[" * 100_000,
        b"null\n1\n[]\n{}\n",
        b'{"event": "Bill"}\n',
        b'{"event": "CallRecord"}\n',
        b'{"event": "Saving", "stage": ["s"], "tokens_before": "x", "tokens_after": null}\n',
    ],
    ids=["empty", "blank", "binary", "long", "deep", "json", "unknown", "partial", "types"],
)
@pytest.mark.filterwarnings("ignore::langchain_tokenopt.core.errors.TokenOptWarning")
def test_a_foreign_leftover_does_not_stop_a_ledger(path, content):
    """It opens, takes in what else there is, and asks for nothing the next time."""
    leftover(path, content, "a")
    leftover(path, b"".join(lines(desk_calls(2))), "b")
    for _ in range(2):
        with Ledger(path) as ledger:
            assert 2 == ledger.totals().calls
    assert [] == list(path.parent.glob("*.unwritten-*.jsonl"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_left_alone(path):
    """A pipe of that name would be waited for without end, a folder cannot be read."""
    os.mkfifo(f"{path}.unwritten-a.jsonl")
    os.mkdir(f"{path}.unwritten-b.jsonl")
    script = f"from langchain_tokenopt.ledger import Ledger; Ledger({str(path)!r}).close()"
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)

    assert 2 == len(list(path.parent.glob("*.unwritten-*.jsonl")))


def test_a_leftover_that_is_being_written_is_not_touched(path, monkeypatch):
    """It has its name only when it is complete."""
    Ledger(path).close()
    calls = list(desk_calls(2))
    half_written, go_on = threading.Event(), threading.Event()
    fsync = os.fsync

    def wait(handle):
        half_written.set()
        go_on.wait(20)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", wait)
    thread = threading.Thread(target=spill.write, args=(calls, path.name, [path.parent]))
    thread.start()
    half_written.wait(20)
    Ledger(path).close()
    go_on.set()
    thread.join()
    with Ledger(path) as again:
        assert calls == list(again.calls())


@pytest.mark.filterwarnings("ignore::langchain_tokenopt.core.errors.TokenOptWarning")
def test_leftovers_of_a_locked_ledger_wait(path):
    """Opening does not fail for them, and does not make more of them."""
    Ledger(path).close()
    leftover(path, b"".join(lines(desk_calls(5))))
    with locked(path), Ledger(path, max_wait_seconds=0.1):
        assert 1 == len(list(path.parent.glob("*.unwritten-*.jsonl")))
    with Ledger(path) as ledger:
        assert 5 == ledger.totals().calls


def test_taking_in_a_file_of_something_else(ledger, tmp_path):
    """It is named and stays; what events it has are stored."""
    notes = tmp_path / "notes.txt"
    notes.write_bytes(b"notes\n" + lines([record()])[0])
    with pytest.raises(LedgerError, match=r"1 lines of .*notes.txt are no usage events. 1 events"):
        ledger.take_in(notes)
    with pytest.raises(LedgerError, match=r"missing.* cannot be taken in"):
        ledger.take_in(tmp_path / "missing")

    assert notes.exists()
    assert 1 == ledger.totals().calls


# Removed and damaged


@pytest.mark.parametrize("how", ["removed", "moved away", "replaced"])
def test_a_ledger_that_is_removed_while_open_begins_again(path, tmp_path, how):
    """Not in silence; what is recorded from then on is in the file of that name."""
    with Ledger(path) as ledger:
        ledger.record(record())
        ledger.flush()
        if how == "removed":
            path.unlink()
        else:
            path.rename(tmp_path / "old.db")
        if how == "replaced":
            for end in ("-wal", "-shm"):
                path.with_name(path.name + end).unlink()
            with Ledger(tmp_path / "new.db") as new:
                new.record(record())
            shutil.move(tmp_path / "new.db", path)
        ledger.record(record())
        with pytest.warns(TokenOptWarning, match="was removed or replaced while it was open"):
            ledger.flush()
    with Ledger(path) as again:
        assert (2 if how == "replaced" else 1) == again.totals().calls
        assert [] == again.check()


def test_a_question_to_a_removed_ledger_is_answered(path):
    """By the file that is there now."""
    with Ledger(path) as ledger, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ledger.record(record())
        ledger.flush()
        path.unlink()
        assert 0 == ledger.totals().calls


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_told_as_a_ledger_error(tmp_path, seed, damaged_source):
    """Every question to a file with holes has an answer or ends in one sentence."""
    chance = random.Random(seed)
    content = bytearray(damaged_source)
    for _ in range(chance.choice([1, 5, 50])):
        at, size = chance.randrange(100, len(content)), chance.choice([1, 8, 200])
        content[at : at + size] = chance.randbytes(size)
    path = tmp_path / "damaged.db"
    path.write_bytes(content)
    try:
        with Ledger(path, read_only=True) as ledger:
            for ask in (
                ledger.check,
                ledger.runs,
                ledger.effects,
                ledger.span,
                ledger.budget_events,
                lambda: ledger.by("agent"),
                lambda: ledger.by("user"),
                lambda: ledger.by("day"),
                lambda: ledger.totals(percentiles=True),
                lambda: list(ledger.calls()),
                lambda: list(ledger.savings()),
            ):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    with suppress(LedgerError):
                        ask()
    except LedgerError:
        pass


@pytest.fixture(scope="module")
def damaged_source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "tokenopt.db"
    with Ledger(path) as ledger:
        for call in desk_calls(1_500):
            ledger.record(call)
        for _ in range(20):
            ledger.record(Saving(stage="s", tokens_before=9, tokens_after=1))
    return path.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE calls SET started_at = 'never' WHERE seq = 2",
        "UPDATE calls SET id = 'short' WHERE seq = 2",
        "UPDATE calls SET status = 77 WHERE seq = 2",
        "UPDATE calls SET origin = 12345 WHERE seq = 2",
        "UPDATE call_hours SET calls = 'many'",
        "UPDATE names SET key = key || x'ff'",
        "DROP TABLE saving_hours",
    ],
)
def test_values_of_another_kind_are_told_as_damage(path, damage):
    """Not as a mistake of Python."""
    with Ledger(path) as ledger:
        for call in desk_calls(30):
            ledger.record(call)
        ledger.flush()
        with closing(sqlite3.connect(path)) as other, other:
            other.execute(damage)
        for ask in (
            ledger.check,
            ledger.runs,
            ledger.effects,
            lambda: ledger.by("user"),
            lambda: ledger.by("agent"),
            lambda: list(ledger.calls()),
        ):
            with suppress(LedgerError):
                ask()


def test_waiting_for_nobody_is_possible(path):
    """With ``max_wait_seconds=0`` a flush still waits for the ledger's own thread."""
    with Ledger(path, max_wait_seconds=0, max_pending=50) as ledger:
        for number, call in enumerate(desk_calls(400)):
            ledger.record(call)
            if number % 40 == 0:
                ledger.flush()
        ledger.flush()

        assert 400 == ledger.totals().calls
