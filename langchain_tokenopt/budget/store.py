"""An account in a file that several processes share, and that outlives them: SQLite in WAL mode.

The standard library's ``sqlite3`` rather than SQLAlchemy: a reservation is one short transaction,
and its statements would take less time than the layers around them.

Each change is one ``BEGIN IMMEDIATE`` transaction. SQLite's own busy handler sleeps for growing,
fixed times, and under load some process always wakes when the lock is taken again (up to 350 ms
were seen); so it is switched off, and who finds the file locked waits a short random time here.

What has been committed survives a killed process. After a power cut the last moments before it may
be missing (``synchronous=NORMAL``), the rest is whole.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import socket
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from langchain_tokenopt.budget.books import (
    BudgetStoreError,
    Crossing,
    HoldRow,
    Line,
    ReenteredError,
    Totals,
)

__all__ = ["SqliteBooks", "accounts_in", "path_of"]

SCHEMA_VERSION: Final = 2
_APPLICATION_ID: Final = 0x746F6B62  # "tokb"
_BUSY_SECONDS: Final = 10.0
"""How long to try before the file counts as unreachable."""
_AWAY_SECONDS: Final = 0.2
"""How long to try while it does: a call asks more than once, and must not wait each time."""
_FIRST_WAIT: Final = 0.0001
_REMEMBERED_SECONDS: Final = 86_400.0
"""How long a charged run is known when it is told again. That happens within one process, so within
seconds; a day is 96 leases."""
_FORGET_EVERY: Final = 32
"""Charges after which the oldest are looked at, twice as many as have come since."""
_LONGEST_WAIT: Final = 0.001
"""Waits are random up to a bound that doubles from the first to the longest. A change takes about
0.05 ms; with a bound of 4 ms eight busy processes finished half as many, and the slowest took
twice as long."""

_PAGE_BYTES: Final = 1024
"""Rows are short, and a change rewrites whole pages: small ones are a quarter of the writing."""
_CHECKPOINT_PAGES: Final = 8_000
"""Pages of changes, 8 MB, that come together before they are moved into the file; who commits
then waits for the disk. SQLite's default of 1,000 would be one change in a hundred."""

_TOTALS = [f.name for f in fields(Totals)]
_LINE = [f.name for f in fields(Line)]
_HOLD = [f.name for f in fields(HoldRow)]
_CROSSING = [f.name for f in fields(Crossing)]
_totals_of: Callable[[Totals], tuple[Any, ...]] = attrgetter(*_TOTALS)
_line_of: Callable[[Line], tuple[Any, ...]] = attrgetter(*_LINE)
_hold_of: Callable[[HoldRow], tuple[Any, ...]] = attrgetter(*_HOLD)
_crossing_of: Callable[[Crossing], tuple[Any, ...]] = attrgetter(*_CROSSING)


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _marks(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}" = ?' for name in names)


_TABLES: Final = f"""
CREATE TABLE account (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, run TEXT NOT NULL, {_columns(_TOTALS)},
    UNIQUE (name, run)
);
CREATE TABLE line (account INTEGER NOT NULL, {_columns(_LINE)}, PRIMARY KEY (account, agent))
WITHOUT ROWID;
CREATE TABLE hold (account INTEGER NOT NULL, {_columns(_HOLD)}, PRIMARY KEY (account, id))
WITHOUT ROWID;
CREATE INDEX hold_run ON hold (account, run_id) WHERE run_id IS NOT NULL;
CREATE TABLE charged (
    id INTEGER PRIMARY KEY, account INTEGER NOT NULL, key TEXT NOT NULL, at REAL NOT NULL,
    UNIQUE (account, key)
);
CREATE TABLE crossed (
    account INTEGER NOT NULL, {_columns(_CROSSING)}, PRIMARY KEY (account, percent)
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
_FIND = "SELECT id FROM account WHERE name = ? AND run = ?"
_ADD = f"INSERT INTO account (name, run, {_columns(_TOTALS)}) VALUES (?, ?{', ?' * len(_TOTALS)})"
_READ = f"SELECT {_columns(_TOTALS)} FROM account WHERE id = ?"
_WRITE = f"UPDATE account SET {_marks(_TOTALS)} WHERE id = ?"
_READ_LINE = f"SELECT {_columns(_LINE)} FROM line WHERE account = ? AND agent = ?"
_READ_LINES = f"SELECT {_columns(_LINE)} FROM line WHERE account = ? ORDER BY agent"
_ADD_LINE = f"INSERT INTO line (account, {_columns(_LINE)}) VALUES (?{', ?' * len(_LINE)})"
_WRITE_LINE = f"UPDATE line SET {_marks(_LINE)} WHERE account = ? AND agent = ?"
_READ_HOLD = f"SELECT {_columns(_HOLD)} FROM hold WHERE account = ? AND id = ?"
_READ_RUN = (
    f"SELECT {_columns(_HOLD)} FROM hold WHERE account = ? AND run_id = ? AND charged IS NULL"
)
_READ_HOLDS = f"SELECT {_columns(_HOLD)} FROM hold WHERE account = ?"
_CROSS = (
    f"INSERT OR REPLACE INTO crossed (account, {_columns(_CROSSING)}) "
    f"VALUES (?{', ?' * len(_CROSSING)})"
)
_UNTOLD = f"SELECT {_columns(_CROSSING)} FROM crossed WHERE account = ? AND told = 0"
_FORGET = "DELETE FROM charged WHERE at < ? AND id IN (SELECT id FROM charged ORDER BY id LIMIT ?)"
_KEEP = f"INSERT OR REPLACE INTO hold (account, {_columns(_HOLD)}) VALUES (?{', ?' * len(_HOLD)})"


class SqliteBooks:
    """One account in a file. Opened lazily, again in each forked process.

    Args:
        store: A path, or ``sqlite:///path``.
        name: Name of the budget.
        run: Which run of it.
        totals: What a new account begins with.

    Raises:
        ValueError: The URL names something that is not SQLite.
    """

    shared = True

    def __init__(self, store: str | Path, name: str, run: str, totals: Totals) -> None:
        self._path = path_of(store)
        self._name = name
        self._run = run
        self._blank = totals
        self._lock = threading.Lock()
        self._thread = 0
        """The thread that has the books open."""
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._account = 0
        self._away = False
        """Whether the file could not be reached the last time."""
        self._begin_anew()
        _all_books.add(self)

    def __str__(self) -> str:
        return str(self._path)

    def _begin_anew(self) -> None:
        """Set what belongs to one process."""
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self.owner = _this_process()

    def before_fork(self) -> None:
        """Wait until no change is under way, and close the file.

        A child must not inherit an open one: SQLite would take locks of the parent for the
        child's own, and either waits for itself or works without any.
        """
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Go on; the next use opens the file again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on as another process."""
        self._lock = threading.Lock()
        self._begin_anew()

    def next_id(self) -> str:
        """Return a name that nobody else uses."""
        return f"{self._prefix}-{next(self._numbers)}"

    def dead(self, owners: Iterable[str]) -> set[str]:
        """Return those of *owners* that are surely gone."""
        return {owner for owner in owners if _is_gone(owner)}

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # One change

    def __enter__(self) -> Self:
        thread = threading.get_ident()
        if self._thread == thread:
            raise ReenteredError(f"{self._path} is being changed by this very thread.")
        self._lock.acquire()
        self._thread = thread
        try:
            patience = _AWAY_SECONDS if self._away else _BUSY_SECONDS
            connection = self._connected(patience)
            _begin(connection, patience)
            row = connection.execute(_READ, (self._account,)).fetchone()
            if row is None:
                raise BudgetStoreError(
                    f"{self._path} no longer has the budget {self._name!r} (run {self._run!r}): "
                    f"somebody has removed it. Open a new TokenBudget to begin again."
                )
        except BaseException as error:
            self._undo()
            self._thread = 0
            self._lock.release()
            if isinstance(error, (sqlite3.Error, OSError)):
                self._away = True
                raise self._unreachable(error) from error
            raise
        self._away = False
        self._open = connection
        self._read: tuple[Any, ...] = row
        self.totals = Totals(*row)
        self._lines: dict[str, Line] = {}
        self._lines_read: dict[str, tuple[Any, ...] | None] = {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._write()
                self._open.execute("COMMIT")
        except sqlite3.Error as failure:
            self._undo()
            raise self._unreachable(failure) from failure
        finally:
            if error is not None:
                self._undo()
            self._thread = 0
            self._lock.release()
        if isinstance(error, sqlite3.Error):
            raise self._unreachable(error) from error

    def _write(self) -> None:
        connection, account = self._open, self._account
        values = _totals_of(self.totals)
        if values != self._read:
            connection.execute(_WRITE, (*values, account))
        for agent, line in self._lines.items():
            values, before = _line_of(line), self._lines_read[agent]
            if before is None:
                connection.execute(_ADD_LINE, (account, *values))
            elif values != before:
                connection.execute(_WRITE_LINE, (*values, account, agent))

    def _undo(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:  # what cannot be rolled back is rolled back by closing
                connection.close()
                self._connection = None

    def _unreachable(self, error: Exception) -> BudgetStoreError:
        return BudgetStoreError(
            f"the store {self._path} of the budget {self._name!r} cannot be used: {error}. "
            f"Check that the folder exists and can be written, or use another store."
        )

    # The file

    def _connected(self, patience: float) -> sqlite3.Connection:
        """Return the connection, to the very file that was opened first."""
        if self._connection is not None:
            self._check_file()
            return self._connection
        if self._file is not None:
            self._check_file()
        connection = _connect(self._path, patience)
        try:
            self._account = self._find_account(connection, patience)
        except BaseException:
            connection.close()
            raise
        status = os.stat(self._path)
        self._file = (status.st_dev, status.st_ino)
        self._connection = connection
        return connection

    def _check_file(self) -> None:
        """Refuse to go on when the file is gone: a blank one would know of no spending."""
        status = os.stat(self._path)
        if (status.st_dev, status.st_ino) != self._file:
            raise BudgetStoreError(
                f"{self._path} was replaced by another file while the budget {self._name!r} was "
                f"open. Put it back, or open a new TokenBudget."
            )

    def _find_account(self, connection: sqlite3.Connection, patience: float) -> int:
        key = (self._name, self._run)
        _begin(connection, patience)
        row = connection.execute(_FIND, key).fetchone()
        if row is None:
            connection.execute(_ADD, (*key, *_totals_of(self._blank)))
            row = connection.execute(_FIND, key).fetchone()
        connection.execute("COMMIT")
        return int(row[0])

    # The page

    def line(self, agent: str) -> Line:
        """Return the agent's line."""
        line = self._lines.get(agent)
        if line is None:
            row = self._open.execute(_READ_LINE, (self._account, agent)).fetchone()
            line = self._lines[agent] = Line(agent) if row is None else Line(*row)
            self._lines_read[agent] = row
        return line

    def lines(self) -> list[Line]:
        """Return every line, by name."""
        for row in self._open.execute(_READ_LINES, (self._account,)).fetchall():
            line = Line(*row)
            if line.agent not in self._lines:
                self._lines[line.agent] = line
                self._lines_read[line.agent] = row
        return [self._lines[agent] for agent in sorted(self._lines)]

    def hold(self, hold_id: str) -> HoldRow | None:
        """Return a reservation that has not been settled."""
        row = self._open.execute(_READ_HOLD, (self._account, hold_id)).fetchone()
        return None if row is None else HoldRow(*row)

    def hold_of_run(self, run_id: str) -> HoldRow | None:
        """Return the reservation that is held for a run."""
        row = self._open.execute(_READ_RUN, (self._account, run_id)).fetchone()
        return None if row is None else HoldRow(*row)

    def holds(self) -> list[HoldRow]:
        """Return every reservation that has not been settled."""
        rows = self._open.execute(_READ_HOLDS, (self._account,)).fetchall()
        return [HoldRow(*row) for row in rows]

    def keep(self, hold: HoldRow) -> None:
        """Write a reservation."""
        self._open.execute(_KEEP, (self._account, *_hold_of(hold)))

    def drop(self, hold: HoldRow) -> None:
        """Forget a reservation."""
        self._open.execute(
            "DELETE FROM hold WHERE account = ? AND id = ?", (self._account, hold.id)
        )

    def charge_once(self, key: str) -> bool:
        """Note that this call has been charged; False when that was known.

        Notes are kept for a day: told again later, a call would be charged again, never forgotten.
        """
        now = time.time()
        noted = self._open.execute(
            "INSERT OR IGNORE INTO charged (account, key, at) VALUES (?, ?, ?)",
            (self._account, key, now),
        )
        if noted.rowcount == 1 and (noted.lastrowid or 0) % _FORGET_EVERY == 0:
            self._open.execute(_FORGET, (now - _REMEMBERED_SECONDS, 2 * _FORGET_EVERY))
        return noted.rowcount == 1

    def crossed(self) -> list[int]:
        """Return the thresholds that were crossed."""
        rows = self._open.execute(
            "SELECT percent FROM crossed WHERE account = ? ORDER BY percent", (self._account,)
        )
        return [row[0] for row in rows]

    def cross(self, crossing: Crossing) -> None:
        """Note that a threshold was crossed."""
        self._open.execute(_CROSS, (self._account, *_crossing_of(crossing)))

    def untold(self) -> list[Crossing]:
        """Return the crossings that have not been told."""
        rows = self._open.execute(_UNTOLD, (self._account,)).fetchall()
        return sorted((Crossing(*row) for row in rows), key=lambda crossing: crossing.percent)


# Forks

_all_books: weakref.WeakSet[SqliteBooks] = weakref.WeakSet()
_fork_lock = threading.Lock()
"""Two threads that fork at once would wait for each other's books."""
_waiting: list[SqliteBooks] = []
"""Those that were told of the fork that is under way."""


def _before_fork() -> None:
    _fork_lock.acquire()
    _waiting.extend(_all_books)
    for books in _waiting:
        books.before_fork()


def _after_fork_in_parent() -> None:
    while _waiting:
        _waiting.pop().after_fork_in_parent()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    while _waiting:
        _waiting.pop().after_fork_in_child()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


# Places


def path_of(store: str | Path) -> Path:
    """Return the file that *store* names.

    Raises:
        ValueError: It is a URL of something else.

    Example:
        >>> path_of("sqlite:///budgets.db").name
        'budgets.db'
    """
    if isinstance(store, Path):
        return store
    scheme, separator, rest = store.partition("://")
    if not separator:
        return Path(store)
    if scheme != "sqlite" or not rest.startswith("/") or len(rest) < 2:
        raise ValueError(
            f"a budget's store is a path or sqlite:///path, got {store!r}. Of databases behind a "
            f"server only ledgers know."
        )
    return Path(rest[1:])


def accounts_in(store: str | Path) -> list[tuple[str, str, Totals]]:
    """Return name, run and head of every account in a file; it is not created.

    Raises:
        BudgetStoreError: There is no such file, or it cannot be read.
    """
    path = path_of(store)
    if not path.is_file():
        raise BudgetStoreError(
            f"there are no budgets at {path}. Make one with TokenBudget(..., store={str(path)!r})."
        )
    try:
        connection = _connect(path, _BUSY_SECONDS)
        try:
            rows = connection.execute(
                f"SELECT name, run, {_columns(_TOTALS)} FROM account ORDER BY name, run"
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise BudgetStoreError(f"{path} cannot be read as a store of budgets: {error}.") from error
    return [(name, run, Totals(*rest)) for name, run, *rest in rows]


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # for a file that is made now
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        _retried(lambda: connection.execute("PRAGMA journal_mode = WAL"), patience)
        connection.execute("PRAGMA synchronous = NORMAL")
        _begin(connection, patience)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        kind = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not tables:
            for statement in _TABLES.split(";")[:-1]:
                connection.execute(statement)
        elif kind != _APPLICATION_ID:
            raise BudgetStoreError(
                f"{path} is a database of something else. Give the budget a file of its own."
            )
        elif version != SCHEMA_VERSION:
            raise BudgetStoreError(
                f"{path} has version {version} of the store, this package reads version "
                f"{SCHEMA_VERSION}. Install the package that wrote it, or use a new file."
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin(connection: sqlite3.Connection, patience: float) -> None:
    """Begin a change as its only author."""
    _retried(lambda: connection.execute("BEGIN IMMEDIATE"), patience)


def _retried(attempt: Callable[[], object], patience: float) -> None:
    """Repeat *attempt* while the file is locked, for *patience* seconds, after short random waits.

    Raises:
        sqlite3.OperationalError: Something else is wrong, or the file stays locked.
    """
    bound, deadline = _FIRST_WAIT, None
    while True:
        try:
            attempt()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            now = time.monotonic()
            deadline = deadline or now + patience
            if now > deadline:
                raise
            time.sleep(random.uniform(0, bound))
            bound = min(2 * bound, _LONGEST_WAIT)


# Which process, and does it live


def _this_process() -> str:
    """Name this process so that no later one has the same name: machine, process id, start."""
    started = _started(os.getpid())
    return "|".join([_machine(), str(os.getpid()), started or "?"])


def _machine() -> str:
    """Name this boot of this machine, and the namespace in which process ids count."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: leases end by time alone
        return socket.gethostname()


def _started(pid: int) -> str | None:
    """Return when a process has started, in ticks since boot; ``None``: it is not there."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    after_name = status.rpartition(b")")[2].split()
    state, started = after_name[0], after_name[19]
    return None if state in b"ZX" else started.decode("ascii")


def _is_gone(owner: str) -> bool:
    """Return whether the process of this name has ended; False where nobody can know."""
    machine, pid, started = owner.split("|")
    return started != "?" and machine == _machine() and _started(int(pid)) != started
