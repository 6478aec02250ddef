"""Events into the database: in batches, from any thread, and never at the model call's expense.

``put`` appends to a queue. A background thread writes what has come together, one transaction per
batch, every 50 milliseconds at most. When the queue is full the caller writes a batch itself, or
waits a bounded time for others who write. While the database cannot be written, events wait; beyond
the bound they go to files beside it (``spill``), which are taken in as soon as it can.

Events are also put by finalizers: Python's garbage collector closes an abandoned stream wherever it
happens to run, also inside of this module, on the thread that holds its lock. So the queue and the
wake-up need no lock, and whoever finds that his own thread is writing leaves the rest to it.
"""

from __future__ import annotations

import asyncio
import atexit
import sqlite3
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import CallRecord, TuningStep, UsageEvent
from langchain_tokenopt.ledger import rollups, rows, spill
from langchain_tokenopt.ledger.batch import UNSTORABLE, Batch, KnownIds
from langchain_tokenopt.ledger.database import ANSWER_SECONDS, Database, LedgerError
from langchain_tokenopt.ledger.partitions import Months
from langchain_tokenopt.ledger.spool import EVENTS_PER_FILE, Spool
from langchain_tokenopt.storage import forks

__all__ = ["Writer"]

BATCH_EVENTS = 1_000
"""Events in one transaction. 30,000 rows/s need no more; a larger batch locks others out longer."""

GATHER_SECONDS = 0.05
"""How long the background thread lets events come together before it writes them."""

RETRY_SECONDS = (0.05, 0.2, 1.0)
"""How long it waits after the first, second... failure in a row."""

SPOOL_EVERY = 5
"""After so many failures in a row what waits in memory goes to files: a killed process loses less.
A file every five seconds or so."""

Queued = tuple[UsageEvent, int]
"""An event, and when it was put, in nanoseconds since 1970."""


_COMMIT_SECONDS: Final = 0.25
"""More than a commit takes, and less than what stops an event loop noticeably."""


class Writer:
    """Write events to one database.

    Args:
        database: Where.
        in_background: False to commit inside of :meth:`put`.
        max_pending: How many events may wait.
        max_wait_seconds: How long anybody waits for a database that others have locked. A thread
            that runs an event loop does not wait in :meth:`put` at all.
    """

    def __init__(
        self, database: Database, *, in_background: bool, max_pending: int, max_wait_seconds: float
    ) -> None:
        self.database = database
        self.in_background = in_background
        self.max_pending = max_pending
        self.max_wait_seconds = max_wait_seconds
        self._queue_seconds = database.queue_seconds
        self.refused = 0
        """Events that were no usage records at all and could not be stored."""
        self.trouble: LedgerError | None = None
        """Why the last attempt to write failed; ``None`` when it did not."""
        self.closed = False
        self._retired = False
        self._file = database.follow_path()
        self._connection: Connection | None = None
        self._known = KnownIds()
        self._months = Months()
        self._warned: set[str] = set()
        self._begin_anew()
        _writers.add(self)
        forks.register(self)

    def _begin_anew(self) -> None:
        """Set what belongs to one process."""
        self._pending: deque[Queued] = deque()
        self._spool = Spool(self.database)
        self.lock = forks.ForkLock()
        """Held by whoever writes."""
        self._writing = False
        self._wake: SimpleQueue[None] = SimpleQueue()  # may be used by finalizers
        self._awake = False
        self._thread: threading.Thread | None = None
        self._may_start = threading.Lock()
        """Taken once, by whoever starts the thread; nobody ever waits for it."""

    # For callers

    def put(self, event: UsageEvent) -> None:
        """Take *event*. Never raises because of the database."""
        self._pending.append((event, time.time_ns()))
        if self.in_background and len(self._pending) < self.max_pending and not self.closed:
            if not self._awake:
                self._wake_up()
        else:
            self._write_here()

    def flush(self) -> None:
        """Return when everything put before has been committed.

        Raises:
            LedgerError: It could not be; the events are kept and tried again.
        """
        with self.lock:  # others hold it for a bounded time, too
            if not self._writing:  # else a finalizer asks for it, while this very thread writes
                self._drain(self._queue_seconds)

    def settle(self) -> None:
        """Write what is waiting, if that can be done now: answers should include it.

        Also what another thread has taken and not yet committed.
        """
        if self._pending or self._spool.files or self._writing:
            self._try_drain(0.0 if self.trouble is not None else self._reader_seconds())

    def close(self) -> None:
        """Write what is waiting and stop. What cannot be written goes to files beside the ledger.

        Raises:
            LedgerError: Some events went to such files; the message names them.
        """
        self.closed = True
        self._wake.put(None)
        with self.lock:
            if self._writing:  # whoever collected the ledger is writing: it disconnects, too
                return
            try:
                self._drain(self._queue_seconds)
            except LedgerError as error:
                where = self._write_aside(len(self._pending))
                raise LedgerError(f"{error} {where}".strip()) from error
            finally:
                self._disconnect()

    def retire(self) -> None:
        """Close soon, without waiting: nobody holds the ledger any more.

        Called by the garbage collector, which may run while this very thread is writing.
        """
        self._retired = True
        self._wake.put(None)
        if self._thread is None and self.lock.acquire(blocking=False):
            if not self._writing:
                self._disconnect()
            self.lock.release()

    # Who writes

    def _patience(self) -> float:
        """Return how long the calling thread may wait for the database now."""
        return 0.0 if self.trouble is not None or _runs_event_loop() else self.max_wait_seconds

    def _reader_seconds(self) -> float:
        """Return how long an answer may wait; on an event loop for a commit that is under way."""
        longest = self.max_wait_seconds
        return min(_COMMIT_SECONDS, longest) if _runs_event_loop() else longest

    def _write_here(self) -> None:
        """Write in the caller's thread: nobody else does, or the queue is full.

        Never on an event loop, but for what a file takes in a moment: a server may be silent.
        """
        elsewhere = self.in_background or not self.database.is_sqlite
        if elsewhere and not self.closed and _runs_event_loop():
            self._wake_up()
        elif not self._try_drain(self._patience()):
            if self.closed:
                self._write_aside(len(self._pending))
            self._make_room()
            self._wake_up()

    def _wake_up(self) -> None:
        """Let the background thread write what is waiting; start it if need be."""
        self._awake = True
        if self._thread is None and not self.closed and self._may_start.acquire(blocking=False):
            thread = threading.Thread(
                target=self._write_in_background, name="tokenopt-ledger", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: no more threads
                self.in_background = False
                return
            self._thread = thread
            _close_when_worker_process_ends()
        self._wake.put(None)

    def _write_in_background(self) -> None:
        failures = 0
        while not self.closed:
            self._wake.get()
            time.sleep(GATHER_SECONDS)
            self._awake = False
            if self._try_drain(self._queue_seconds):
                failures = 0
                if self._retired:
                    self.close()
            else:
                self._make_room()
                time.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
                if failures % SPOOL_EVERY == 0:
                    self._write_aside(len(self._pending))
                self._wake_up()

    def _try_drain(self, wait_seconds: float) -> bool:
        """Write what is waiting; on failure warn once and keep it."""
        if not self.lock.acquire(timeout=wait_seconds):
            return False
        try:
            if self._writing:  # this very thread is: a finalizer has put an event meanwhile
                self._wake_up()
                return True
            self._drain(wait_seconds)
        except LedgerError as error:
            self._warn("waiting", f"{error} Events wait in memory and are tried again.")
            return False
        finally:
            if self.closed and not self._writing:  # a late event: nothing stays open for it
                self._disconnect()
            self.lock.release()
        return True

    # What is written

    def _drain(self, wait_seconds: float) -> None:
        """Write all that is waiting by now, batch by batch. Only with the lock held."""
        with self._as_writer():
            left = len(self._pending)
            while self._pending and (left > 0 or self.closed):
                batch = self._take(BATCH_EVENTS)
                left -= len(batch)
                self._write(batch, wait_seconds)
            while self._spool.files:  # what could not be written before
                self._take_in_file(self._spool.files[0], wait_seconds)
                self._spool.files.popleft()

    @contextmanager
    def _as_writer(self) -> Iterator[None]:
        """Let finalizers on this thread see that it is writing. Only with the lock held."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before

    def _write(self, batch: Sequence[Queued], wait_seconds: float) -> None:
        try:
            refused = self._store(batch, wait_seconds)
        except BaseException:
            self._pending.extendleft(reversed(batch))
            raise
        for event, error in refused:
            self.refused += 1
            self._warn(
                "refused",
                f"an event was not stored, {type(error).__name__}: {error} ({event!r:.200})",
            )

    def _take(self, most: int) -> list[Queued]:
        """Remove the oldest events; others may do the same at the same time."""
        taken: list[Queued] = []
        with suppress(IndexError):
            while len(taken) < most:
                taken.append(self._pending.popleft())
        return taken

    def _store(
        self, batch: Sequence[Queued], wait_seconds: float
    ) -> list[tuple[UsageEvent, Exception]]:
        """Insert a batch and add it to the rollups, all or nothing.

        Returns:
            The events that could not be stored, ever, and why.

        Raises:
            LedgerError: Nothing was stored.
        """
        try:
            refused = self._insert(batch, wait_seconds)
        except BaseException as error:
            # Numbers given to new names are not true, and the connection may not be usable.
            self._known = KnownIds()
            self._disconnect()
            if isinstance(error, LedgerError | SQLAlchemyError | sqlite3.Error | OSError):
                self.trouble = self.database.explained(error)
                raise self.trouble from error
            raise
        self.trouble = None
        return refused

    def _insert(
        self, queued: Sequence[Queued], wait_seconds: float
    ) -> list[tuple[UsageEvent, Exception]]:
        connection = self._connected()
        refused: list[tuple[UsageEvent, Exception]] = []
        with self.database.writing(connection, wait_seconds):
            heads = connection.exec_driver_sql(_HEADS).one()
            version, call_seq, saving_seq, last_name, last_origin, forgot, horizon = (
                head or 0 for head in heads
            )
            self.database.refuse_newer(version)
            self._known.forget_some(forgot)
            batch = Batch(self._known, horizon)
            for event, at in queued:
                try:
                    batch.add(event, at // 1_000)
                except UNSTORABLE as error:  # made by foreign code
                    refused.append((event, error))
            if not self.database.is_sqlite:
                self._months.prepare(connection, batch.times)
            batch.insert(connection, last_name, last_origin)
            rollups.add_rows(connection, batch.new_after(call_seq, saving_seq))
        return refused

    def _connected(self) -> Connection:
        file = self.database.follow_path()
        if file != self._file:
            self._file = file
            self._known = KnownIds()
            self._disconnect()
            self._warn(
                "replaced",
                f"the ledger {self.database.label} was removed or replaced while it was open. "
                f"Events go to the one that is there now; what was in the other one is not in it.",
            )
        if self._connection is None:
            self._connection = self.database.connect_to_write(
                self.max_wait_seconds + ANSWER_SECONDS
            )
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, sqlite3.Error):
                connection.close()

    # When the database cannot be written

    def _make_room(self) -> None:
        """Move the older half of a full queue to files."""
        if len(self._pending) >= self.max_pending:
            where = self._write_aside(len(self._pending) - self.max_pending // 2)
            reason = self.trouble or f"the ledger {self.database.label} is held by another thread."
            self._warn("aside", f"{reason} {where}")

    def _write_aside(self, count: int) -> str:
        """Move the oldest *count* events to files; return a sentence that says where they are."""
        moved = left = 0
        while moved < count and (part := self._take(min(EVENTS_PER_FILE, count - moved))):
            if not self._spool.put([_timed(*queued) for queued in part]):
                self._pending.extendleft(reversed(part))
                left = len(self._pending)
                break
            moved += len(part)
        sentences = [self._spool.told(moved)]
        if left and self.closed:
            sentences.append(f"No file could take {left:,} events: they are lost.")
        elif left:
            sentences.append(f"No file can take {left:,} events: they wait in memory.")
        return " ".join(filter(None, sentences))

    def take_in(self, path: Path) -> tuple[int, int]:
        """Store the events in a file; return how many there are, and how many lines are none.

        Raises:
            LedgerError: The database or the file cannot be used.
            FileNotFoundError: There is no such file.
        """
        with self.lock, self._as_writer():
            found = self._take_in(path, self._queue_seconds)
            if found.later:
                raise LedgerError(_later(path, found.later))
            return found.events, found.damaged

    def take_in_waiting(self) -> None:
        """Take in what earlier processes could not write here; what cannot be read is put aside."""
        with self.lock:
            self._spool.look()
        if not self._try_drain(self._queue_seconds):
            self._spool.files.clear()  # for the next one

    def _take_in_file(self, path: Path, wait_seconds: float) -> None:
        try:
            found = self._take_in(path, wait_seconds)
            if found.later:
                self._warn("later", _later(path, found.later))
            elif found.damaged:
                aside = path.with_name(path.name + ".damaged")
                path.replace(aside)
                self._warn(
                    "damaged",
                    f"{found.damaged:,} lines of {path} are no usage events; {found.events:,} "
                    f"others were stored. The file is now called {aside.name}.",
                )
            else:
                path.unlink()
        except FileNotFoundError:
            pass  # another process has taken it in: ids make sure that nothing is doubled
        except OSError as error:
            self._warn("unreadable", f"{path} cannot be taken in: {error}.")

    def _take_in(self, path: Path, wait_seconds: float) -> _Found:
        found = _Found()
        lines = spill.read(path)
        while part := list(islice(lines, BATCH_EVENTS)):
            events = [
                (event, time.time_ns())
                for event in part
                if not isinstance(event, bytes | spill.LaterEventError)
            ]
            refused = self._store(events, wait_seconds)
            later = sum(isinstance(event, spill.LaterEventError) for event in part)
            found.events += len(events) - len(refused)
            found.later += later
            found.damaged += len(part) - len(events) - later + len(refused)
        return found

    def _warn(self, kind: str, message: str) -> None:
        """Warn once about each kind of trouble."""
        if kind not in self._warned:
            self._warned.add(kind)
            # A user may have turned warnings into errors: still, no model call fails for it.
            with suppress(TokenOptWarning):
                warnings.warn(message, TokenOptWarning, stacklevel=2)

    # Forks

    def before_fork(self) -> None:
        """Let go of the connection, unless this very thread forks while it writes."""
        if not self._writing:
            self._disconnect()

    def after_fork_in_child(self) -> None:
        """Begin anew: what was waiting is the parent's to write."""
        if self._connection is not None:  # to close it would end the parent's session
            _inherited.append(self._connection)
            self._connection = None
        self._begin_anew()


_HEADS = (
    "SELECT (SELECT max(version) FROM ledger_schema), (SELECT max(seq) FROM calls), "
    "(SELECT max(seq) FROM savings), (SELECT max(id) FROM names), (SELECT max(id) FROM origins), "
    "(SELECT count(*) FROM forgettings), (SELECT max(calls_before) FROM forgettings)"
)

_inherited: list[Connection] = []


def _runs_event_loop() -> bool:
    """Say whether the calling thread runs an event loop, which must not stand still."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _timed(event: UsageEvent, at: int) -> UsageEvent:
    """Return *event* with the time when it was put, where it has none of its own."""
    if not isinstance(event, CallRecord | TuningStep) and event.at is None:
        return replace(event, at=rows.moment_of(at // 1_000))
    return event


@dataclass
class _Found:
    """What was in a file, by lines."""

    events: int = 0
    damaged: int = 0
    later: int = 0


def _later(path: Path, count: int) -> str:
    return (
        f"{count:,} events in {path} were written by a newer langchain-tokenopt. The file stays "
        f"for it; or upgrade this one: pip install -U langchain-tokenopt."
    )


# Ends of processes

_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _close_all() -> None:
    """Write what waits when the interpreter ends."""
    for writer in list(_writers):
        if not writer.closed:
            try:
                writer.close()
            except LedgerError as error:
                print(f"tokenopt: {error}", file=sys.stderr)  # noqa: T201  warnings are gone by now


def _close_when_worker_process_ends() -> None:
    """Workers of ``multiprocessing`` leave without ``atexit``; they have their own list."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _close_all, exitpriority=100)


atexit.register(_close_all)
