"""Events into the database: in batches, from any thread, and never at the model call's expense.

``put`` appends to a queue. A background thread writes what has come together, one transaction per
batch, every 50 milliseconds at most. When the queue is full the caller writes a batch itself. While
the database cannot be written, events wait; beyond the bound they go to a file beside it, which the
next ledger that is opened there takes in.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.exc import DBAPIError

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, UsageEvent
from langchain_tokenopt.ledger import rollups, rows
from langchain_tokenopt.ledger.rows import OWN_RUN, Origin
from langchain_tokenopt.ledger.schema import (
    LedgerError,
    Place,
    budget_events,
    calls,
    columns_of,
    names,
    origins,
    savings,
)

BATCH_EVENTS = 1_000
"""Events in one transaction. 30,000 rows/s need no more; a larger batch locks others out longer."""

GATHER_SECONDS = 0.05
"""How long the background thread lets events come together before it writes them."""

RETRY_SECONDS = (0.05, 0.2, 1.0, 5.0)
"""How long it waits after the first, second... failure in a row."""

_KNOWN_NAMES = 50_000
_CHUNK = 512  # rows in one INSERT; 22 columns * 512 stay below SQLite's 32,766 parameters

_SPILLED_EVENTS = 250

Queued = tuple[UsageEvent, int]
"""An event, and when it was put, in microseconds since 1970."""


class Writer:
    """Write events to one place.

    Args:
        place: Where.
        in_background: False to commit inside :meth:`put`.
        max_pending: How many events may wait.
    """

    def __init__(self, place: Place, *, in_background: bool, max_pending: int) -> None:
        self.place = place
        self.in_background = in_background
        self.max_pending = max_pending
        self.refused = 0
        """Events that were no usage records at all and could not be stored."""
        self.trouble: LedgerError | None = None
        """Why the last attempt to write failed; ``None`` when it did not."""
        self.closed = False
        self._retired = False
        self._pending: deque[Queued] = deque()
        self.name_ids: dict[str | None, int | None] = dict(_NO_NAMES)
        """Numbers of names that the database has given, as far as they are remembered."""
        self.origin_ids: dict[Origin, int] = {}
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._warned: set[str] = set()
        with _fork_lock:  # no fork may look through the set while it changes
            _writers.add(self)

    # For callers

    def put(self, event: UsageEvent) -> None:
        """Take *event*. Never raises because of the database."""
        self._pending.append((event, time.time_ns() // 1_000))
        if self._thread is None and self.in_background and not self.closed:
            self._start_thread()
        if not self.in_background or self.closed or len(self._pending) >= self.max_pending:
            self._try_drain()
        if not self._wake.is_set():
            self._wake.set()

    def flush(self) -> None:
        """Return when everything put before has been committed.

        Raises:
            LedgerError: It could not be; the events are kept and tried again.
        """
        with self._lock:
            self._drain()

    def settle(self) -> None:
        """Write what is waiting, if that can be done now: answers should include it."""
        if self._pending:
            self._try_drain()

    def close(self) -> None:
        """Write what is waiting and stop. What cannot be written goes to a file beside the ledger.

        Raises:
            LedgerError: Some events went to that file; the message names it.
        """
        with self._lock:
            self.closed = True
            try:
                self._drain()
            except LedgerError as error:
                told = self._spill(len(self._pending))
                raise LedgerError(f"{error} {told}") from error
            finally:
                self._disconnect()
                self._wake.set()

    def retire(self) -> None:
        """Close soon, without waiting: nobody holds the ledger any more.

        Called by the garbage collector, which may run while this very thread is writing.
        """
        self._retired = True
        self._wake.set()
        if self._thread is None and self._lock.acquire(blocking=False):
            self._disconnect()
            self._lock.release()

    # The queue

    def _start_thread(self) -> None:
        with self._lock:
            if self._thread is None and not self.closed:
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

    def _write_in_background(self) -> None:
        failures = 0
        while not self.closed:
            self._wake.wait()
            time.sleep(GATHER_SECONDS)
            self._wake.clear()
            if self._try_drain():
                failures = 0
                if self._retired:
                    self.close()
            else:
                time.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
                self._wake.set()

    def _try_drain(self) -> bool:
        """Write what is waiting; on failure warn once, keep it, and spill what is too much."""
        with self._lock:
            try:
                self._drain()
                if self.closed:  # a late event: written all the same, and nothing stays open
                    self._disconnect()
            except LedgerError as error:
                if len(self._pending) >= self.max_pending:
                    self._warn("spilled", f"{error} {self._spill(self.max_pending // 2)}")
                else:
                    self._warn("waiting", f"{error} Events wait in memory and are tried again.")
                return False
            return True

    def _drain(self) -> None:
        """Write all that waits, batch by batch. Only with the lock held."""
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(BATCH_EVENTS, len(self._pending)))]
            try:
                self._store(batch)
            except (LedgerError, DBAPIError, sqlite3.Error, OSError) as error:
                self._take_back(batch)
                known = error if isinstance(error, LedgerError) else self.place.explained(error)
                self.trouble = known
                raise known from error
            except BaseException:
                self._take_back(batch)
                raise
            self.trouble = None

    def _take_back(self, batch: Sequence[Queued]) -> None:
        """Undo an attempt: nothing was stored, and numbers given to new names are not true."""
        self._pending.extendleft(reversed(batch))
        self._disconnect()
        self.name_ids = dict(_NO_NAMES)
        self.origin_ids = {}

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError, sqlite3.Error):
                connection.close()

    # One transaction

    def _store(self, batch: Sequence[Queued]) -> None:
        """Insert a batch and add it to the rollups, all or nothing."""
        if self._connection is None:
            self._connection = self.place.connect_to_write()
        connection = self._connection
        with self.place.writing(connection):
            heads = connection.exec_driver_sql(_HEADS).one()
            version, call_seq, saving_seq, last_name, last_origin = (head or 0 for head in heads)
            self.place.refuse_newer(version)
            rows_of = _Rows(self)
            for queued in batch:
                rows_of.add(*queued)
            for table, table_rows in rows_of.numbered(connection, last_name, last_origin).items():
                _insert(connection, table, table_rows)
            rollups.add_rows_after(connection, call_seq, saving_seq)
        for known in (self.name_ids, self.origin_ids):
            if len(known) > _KNOWN_NAMES:
                known.clear()
        self.name_ids |= _NO_NAMES

    def refuse(self, event: object, error: Exception) -> None:
        """Leave out an event that is no record, and say so."""
        self.refused += 1
        self._warn(
            "refused", f"an event was not stored, {type(error).__name__}: {error} ({event!r:.200})"
        )

    # When the database cannot be written

    def _spill(self, count: int) -> str:
        """Move the oldest *count* events to files; return a sentence that says where they are."""
        moved, files = 0, []
        # Small files: where one large file has no room, some small ones may have.
        while moved < count and self._pending:
            size = min(_SPILLED_EVENTS, count - moved, len(self._pending))
            text = "".join(
                rows.to_line(_timed(*self._pending[place])) + "\n" for place in range(size)
            )
            file = self._write_aside(text)
            if file is None:
                break
            files.append(file)
            for _ in range(size):
                self._pending.popleft()
            moved += size
        told = []
        if files:
            told.append(f"{moved:,} events wait in {_named(files)}; {self._how_taken_in(files[0])}")
        if self._pending and self.closed:
            told.append(f"No file could take {len(self._pending):,} events: they are lost.")
        return " ".join(told)

    def _write_aside(self, text: str) -> Path | None:
        """Write *text* to a file of its own, beside the ledger or else among temporary files."""
        for folder in self._spill_folders():
            with suppress(OSError):
                handle, name = tempfile.mkstemp(
                    prefix=f"{self.place.spill_name}.unwritten-", suffix=".jsonl", dir=folder
                )
                try:
                    with open(handle, "w", encoding="utf-8") as file:
                        file.write(text)
                        file.flush()
                        os.fsync(file.fileno())
                except OSError:
                    os.unlink(name)
                    raise
                return Path(name)
        return None

    def _how_taken_in(self, file: Path) -> str:
        if self.place.path is not None and file.parent == self.place.path.absolute().parent:
            return "the next Ledger opened here takes them in."
        return f"Ledger({self.place.label!r}).take_in(file) adds them."

    def _spill_folders(self) -> list[Path]:
        beside = [] if self.place.path is None else [self.place.path.absolute().parent]
        return [*beside, Path(tempfile.gettempdir())]

    def _warn(self, kind: str, message: str) -> None:
        """Warn once about each kind of trouble."""
        if kind not in self._warned:
            self._warned.add(kind)
            # A user may have turned warnings into errors: still, no model call fails for it.
            with suppress(TokenOptWarning):
                warnings.warn(message, TokenOptWarning, stacklevel=2)

    # Forks

    def before_fork(self) -> None:
        """Hold still, without any connection that the child would share."""
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: what was waiting is the parent's to write."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        self._pending = deque()


class _Rows:
    """The rows of one batch, while names turn into numbers."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._calls: list[tuple[list[Any], Origin, list[str | None], str | None]] = []
        self._savings: list[tuple[list[Any], str, Origin, list[str | None], bytes | None]] = []
        self._budget_events: list[list[Any]] = []
        self._saving_ids: set[bytes] = set()

    def add(self, event: UsageEvent, at: int) -> None:
        try:
            if isinstance(event, CallRecord):
                self._add_call(event)
            elif isinstance(event, Saving):
                self._add_saving(event, at)
            else:
                happened = rows.microseconds(event.at) if event.at else at
                self._budget_events.append(rows.budget_row(event, happened))
        except (TypeError, ValueError, AttributeError, OverflowError, KeyError) as error:
            # A record whose fields are not what their types say, made by foreign code.
            self._writer.refuse(event, error)

    def _add_call(self, call: CallRecord) -> None:
        numbers = rows.call_numbers(call)
        flaws = numbers.pop()
        origin = rows.origin_of(call)
        made_by = call.attribution
        run = call.run or None
        if run is not None and run not in self._writer.name_ids and run == str(call.run_id):
            run = _ITS_OWN
        called = [made_by.user or None, made_by.thread_id or None, run]
        hash((origin, *called))  # refuse here, alone, what could not be looked up later
        self._calls.append((numbers, origin, called, flaws))
        for saving in call.savings:
            self._append_saving(saving, numbers[1], origin, called, numbers[0])

    def _add_saving(self, saving: Saving, at: int) -> None:
        started_at = max(0, rows.microseconds(saving.at)) if saving.at else at
        call = None if saving.run_id is None else saving.run_id.bytes
        origin = rows.saving_origin(saving)
        hash((origin, saving.stage))
        self._append_saving(saving, started_at, origin, [None] * 3, call)

    def _append_saving(
        self,
        saving: Saving,
        started_at: int,
        origin: Origin,
        called: list[str | None],
        call: bytes | None,
    ) -> None:
        numbers = rows.saving_numbers(saving, started_at)
        if numbers[0] not in self._saving_ids:
            self._saving_ids.add(numbers[0])
            self._savings.append((numbers, saving.stage or "stage", origin, called, call))

    def numbered(
        self, connection: Connection, last_name: int, last_origin: int
    ) -> dict[Table, list[Any]]:
        """Return what to insert, table by table: new names and origins first."""
        name_rows = self._number_names(connection, last_name)
        origin_rows = self._number_origins(connection, last_origin)
        name, number = self._writer.name_ids, self._writer.origin_ids
        return {
            names: name_rows,
            origins: origin_rows,
            calls: [
                (*numbers, number[origin], name[user], name[thread], name[run], flaws)
                for numbers, origin, (user, thread, run), flaws in self._calls
            ],
            savings: [
                (
                    *numbers[:2],
                    name[stage],
                    *numbers[2:],
                    number[origin],
                    name[user],
                    name[thread],
                    name[run],
                    call,
                )
                for numbers, stage, origin, (user, thread, run), call in self._savings
            ],
            budget_events: self._budget_events,
        }

    def _number_names(self, connection: Connection, last: int) -> list[Any]:
        known = self._writer.name_ids
        used = chain(
            chain.from_iterable(called for _, _, called, _ in self._calls),
            chain.from_iterable((stage, *called) for _, stage, _, called, _ in self._savings),
        )
        keys = {text: rows.key_of(rows.clean(text)) for text in used if text not in known}
        stored = _stored_ids(connection, names.c.key, keys.values())
        fresh = []
        for text, key in keys.items():
            if key not in stored:
                last += 1
                stored[key] = last
                fresh.append((last, key))
            known[text] = stored[key]
        return fresh

    def _number_origins(self, connection: Connection, last: int) -> list[Any]:
        known = self._writer.origin_ids
        used = chain((row[1] for row in self._calls), (row[2] for row in self._savings))
        cleaned = {origin: tuple(map(rows.clean, origin)) for origin in used if origin not in known}
        digests = {origin: rows.digest_of(stored_as) for origin, stored_as in cleaned.items()}
        stored = _stored_ids(connection, origins.c.digest, digests.values())
        fresh = []
        for origin, digest in digests.items():
            if digest not in stored:
                last += 1
                stored[digest] = last
                fresh.append((last, digest, *cleaned[origin]))
            known[origin] = stored[digest]
        return fresh


_ITS_OWN = ""
"""In place of a run's name: the call is a run of its own."""

_NO_NAMES: dict[str | None, int | None] = {None: None, _ITS_OWN: OWN_RUN}

_HEADS = (
    "SELECT (SELECT max(version) FROM ledger_schema), (SELECT max(seq) FROM calls), "
    "(SELECT max(seq) FROM savings), (SELECT max(id) FROM names), (SELECT max(id) FROM origins)"
)


def _stored_ids(connection: Connection, column: Any, keys: Iterable[bytes]) -> dict[bytes, int]:
    """Return the numbers of those *keys* that the database knows."""
    wanted = list(dict.fromkeys(keys))
    found: dict[bytes, int] = {}
    for start in range(0, len(wanted), _CHUNK):
        query = select(column, column.table.c.id).where(column.in_(wanted[start : start + _CHUNK]))
        found |= {bytes(key): number for key, number in connection.execute(query)}
    return found


def _insert(connection: Connection, table: Table, table_rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows, leaving out those whose id is there already.

    Many rows go into one statement: SQLite lets other threads run while it works on a statement,
    and taking turns for every single row would make the writer wait for them every time.
    Sizes are powers of two, so that few statements are prepared and all of them are reused.
    """
    done, size = 0, _CHUNK
    while done < len(table_rows):
        while size > len(table_rows) - done:
            size //= 2
        statement = _insert_statement(connection, table, size)
        part = table_rows[done : done + size]
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))
        done += size


def _insert_statement(connection: Connection, table: Table, size: int) -> str:
    key = (connection.dialect.name, table.name, size)
    if key not in _statements:
        quoted = connection.dialect.identifier_preparer
        columns = columns_of(table)
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        row = "(" + ", ".join([mark] * len(columns)) + ")"
        _statements[key] = (
            f"INSERT INTO {quoted.format_table(table)} "
            f"({', '.join(quoted.format_column(column) for column in columns)}) "
            f"VALUES {', '.join([row] * size)} ON CONFLICT DO NOTHING"
        )
    return _statements[key]


_statements: dict[tuple[str, str, int], str] = {}


def _timed(event: UsageEvent, at: int) -> UsageEvent:
    """Return *event* with the time when it was put, where it has none of its own."""
    if isinstance(event, Saving | BudgetEvent) and event.at is None:
        return replace(event, at=rows.moment_of(at))
    return event


def _named(files: Sequence[Path]) -> str:
    return str(files[0]) + (f" and {len(files) - 1:,} more" if len(files) > 1 else "")


# Ends and forks of processes

_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
_held: list[Writer] = []
_fork_lock = threading.Lock()


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


def _before_fork() -> None:
    _fork_lock.acquire()
    for writer in list(_writers):
        writer.before_fork()
        _held.append(writer)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().after_fork_in_parent()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    while _held:
        _held.pop().after_fork_in_child()
    _fork_lock.release()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
