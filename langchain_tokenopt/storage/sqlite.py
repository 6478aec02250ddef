"""SQLite files as this package uses them: one way to open, share, retry and close them.

The standard library's ``sqlite3``, in autocommit mode: transactions begin and end where this module
says so. Files are in WAL mode, so that readers and the one writer do not wait for each other, and
new ones can be read by their owner only.

SQLite's own busy handler sleeps for growing, fixed times, and under load some process always wakes
when the lock is taken again (350 ms were seen). So who wants to write and finds the file locked
waits for short random times here.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from langchain_tokenopt.storage import forks

__all__ = [
    "FileReplacedError",
    "Settings",
    "SqliteFile",
    "begin",
    "connect",
    "connect_to_read",
    "identity_of",
    "is_damaged",
    "is_locked",
    "roll_back",
    "writing",
]

_FIRST_WAIT_SECONDS = 0.0001
_LONGEST_WAIT_SECONDS = 0.001
"""Waits are random, up to a bound that doubles from the first to the longest. A change takes about
0.05 ms; with a bound of 4 ms eight busy processes finished half as many, and the slowest took
twice as long (tests/benchmarks/bench_budget.py)."""

_creating = threading.RLock()
"""Held while a new file is made. To close a file drops all POSIX locks that the process has on it,
so no other thread may have got one before."""


class FileReplacedError(OSError):
    """A file was removed, or replaced by another one, while it was open."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How SQLite treats a file."""

    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    """``FULL``: what was committed survives a power cut. ``NORMAL``: it survives a crash of the
    process; after a power cut the last moments may be missing, the rest is whole."""
    page_bytes: int | None = None
    """Only for a file that is made now. Small pages are less writing where rows are short."""
    checkpoint_pages: int | None = None
    """Pages of changes that come together before they are moved into the file; who commits then
    waits for the disk."""
    journal_bytes: int | None = None
    """What is left of the write-ahead log when it is not in use."""
    busy_seconds: float = 0.0
    """How long statements outside of :func:`begin` wait for others, such as reading."""

    def pragmas(self) -> Iterator[str]:
        """Yield the statements that make it so."""
        yield "PRAGMA journal_mode = WAL"
        yield f"PRAGMA synchronous = {self.synchronous}"
        if self.checkpoint_pages is not None:
            yield f"PRAGMA wal_autocheckpoint = {self.checkpoint_pages}"
        if self.journal_bytes is not None:
            yield f"PRAGMA journal_size_limit = {self.journal_bytes}"
        yield f"PRAGMA busy_timeout = {round(1_000 * self.busy_seconds)}"


def connect(
    path: Path | None,
    settings: Settings = Settings(),
    *,
    prepare: Callable[[sqlite3.Connection], None] | None = None,
    wait_seconds: float = 5.0,
) -> sqlite3.Connection:
    """Open a file to write, creating it where there is none.

    Args:
        path: The file; ``None`` for a database in memory.
        settings: How SQLite treats it.
        prepare: Is given the connection inside of a change, before anything else is changed: makes
            the tables of an empty file, and raises where a file is not its own.
        wait_seconds: How long to wait while others have locked it.

    Raises:
        sqlite3.Error: It cannot be opened, is no database, or stays locked.

    Example:
        >>> connection = connect(None)
        >>> with writing(connection):
        ...     _ = connection.execute("CREATE TABLE colour (name TEXT)")
        >>> connection.close()
    """
    if path is not None:
        _create_private(path)
    connection = _connection(path)
    try:
        if settings.page_bytes is not None:  # has to come before the first table
            connection.execute(f"PRAGMA page_size = {settings.page_bytes}")
        if prepare is not None:
            with writing(connection, wait_seconds=wait_seconds):
                prepare(connection)
        for pragma in settings.pragmas():
            _execute(connection, pragma, wait_seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path, *, wait_seconds: float = 5.0) -> sqlite3.Connection:
    """Open a file that exists, to read; it is not changed, and nothing is left beside it.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    # A connection that may not write cannot clear away the files of the write-ahead log, so this
    # one only promises not to; where it may not write, it is opened without the right to.
    for mode in ("?mode=rw", "?mode=ro"):
        connection = _connection(path, mode, wait_seconds)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            refused = error
        except UnicodeDecodeError as error:  # SQLite's message quotes what is damaged
            connection.close()
            raise sqlite3.DatabaseError("database disk image is malformed") from error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    if Path(f"{path}-wal").exists():
        raise refused
    # A folder that nobody may write to: no lock files are possible, and none are needed.
    return _connection(path, "?immutable=1", wait_seconds)


def _connection(path: Path | None, mode: str = "", busy_seconds: float = 0.0) -> sqlite3.Connection:
    if path is not None:
        _refuse_inherited(path)
    connection = sqlite3.connect(
        ":memory:" if path is None else "file:" + quote(str(path.absolute())) + mode,
        uri=path is not None,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    if path is not None:
        connection.identity = _identity_or_none(path)
        _connections.add(connection)
    return connection


def _create_private(path: Path) -> None:
    """Make an empty file that only its owner can read; SQLite's side files get the same mode."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    with _creating, suppress(OSError):  # SQLite says better than we could why it cannot be made
        os.close(os.open(path, flags, 0o600))


class _Connection(sqlite3.Connection):
    identity: tuple[int, int] | None = None
    """Of its file."""


_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
"""Those to files that may be open."""
_inherited: list[_Connection] = []
"""Connections of the parent, never closed here: that would take its locks."""


def _put_aside_inherited() -> None:
    """Keep what a child has of its parent: all was closed, but what somebody went on using."""
    for connection in list(_connections):
        with suppress(sqlite3.ProgrammingError):  # it is closed
            _ = connection.in_transaction
            _inherited.append(connection)
    _connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_put_aside_inherited)


def _refuse_inherited(path: Path) -> None:
    """Refuse a file that was open in the parent when it forked.

    SQLite notes locks once per process and file. It would take the parent's for ours, wait for
    them for ever or set none at all, and what is written then can be lost.
    """
    identity = _identity_or_none(path) if _inherited else None
    if identity is not None and any(identity == known.identity for known in _inherited):
        raise sqlite3.OperationalError(
            f"{path} was in use when this process was forked, and cannot be used here; "
            f"fork when no thread uses it, or start a process that is not forked"
        )


def _identity_or_none(path: Path) -> tuple[int, int] | None:
    try:
        return identity_of(path)
    except OSError:
        return None


def identity_of(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one that takes its name.

    Raises:
        FileReplacedError: There is no such file any more.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise FileReplacedError(f"{path} was removed while it was open.") from error
    return status.st_dev, status.st_ino


def is_locked(error: BaseException) -> bool:
    """Say whether *error* means that others use the file."""
    return _code(error) == sqlite3.SQLITE_BUSY


def is_damaged(error: BaseException) -> bool:
    """Say whether *error* means that the file itself is bad, or is no database."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


# Transactions


def begin(connection: sqlite3.Connection, *, wait_seconds: float = 5.0) -> None:
    """Begin a change as its only author.

    Raises:
        sqlite3.OperationalError: The file stays locked, or something else is wrong.
    """
    _execute(connection, "BEGIN IMMEDIATE", wait_seconds)


@contextmanager
def writing(connection: sqlite3.Connection, *, wait_seconds: float = 5.0) -> Iterator[None]:
    """Do all of the block, or nothing of it, as the only author.

    Raises:
        sqlite3.Error: The file stays locked, or cannot be written.
    """
    begin(connection, wait_seconds=wait_seconds)
    try:
        yield
        # In a new file, which has no write-ahead log yet, it waits for those who read.
        _execute(connection, "COMMIT", wait_seconds)
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the change that is under way, if there is one and it can be undone."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _execute(connection: sqlite3.Connection, statement: str, wait_seconds: float) -> None:
    """Repeat *statement* while the file is locked, after short random waits."""
    bound, deadline = _FIRST_WAIT_SECONDS, None
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            now = time.monotonic()
            deadline = deadline or now + wait_seconds
            if now >= deadline:
                raise
            time.sleep(random.uniform(0, bound))
            bound = min(2 * bound, _LONGEST_WAIT_SECONDS)


# A file that the threads of a process share


class SqliteFile:
    """A file that the threads of a process share: one connection, opened when it is needed.

    It is closed before the process forks, in a moment when no thread uses it, and parent and child
    open it again for themselves. A finalizer that runs inside of a change on the same thread does
    not wait for itself: what it changes becomes part of that change.

    Args:
        path: The file; ``None`` for a database in memory, which a child gets a copy of.
        prepare: Is given every new connection, inside of a change: makes the tables of an empty
            file, and raises where a file is not its own.
        settings: How SQLite treats the file.
        wait_seconds: How long to wait while other processes have locked it.

    Example:
        >>> def prepare(connection):
        ...     connection.execute("CREATE TABLE IF NOT EXISTS colour (name TEXT)")
        >>> file = SqliteFile(None, prepare)
        >>> with file.transaction() as connection:
        ...     _ = connection.execute("INSERT INTO colour VALUES ('red')")
        >>> file.connection().execute("SELECT name FROM colour").fetchall()
        [('red',)]
        >>> file.close()
    """

    def __init__(
        self,
        path: Path | None,
        prepare: Callable[[sqlite3.Connection], None],
        settings: Settings = Settings(),
        *,
        wait_seconds: float = 5.0,
    ) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self.openings = 0
        """How often it was opened: what was known of an earlier connection no longer holds."""
        self._prepare = prepare
        self._settings = settings
        self._lock = forks.ForkLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        forks.register(self)

    @property
    def lock(self) -> forks.ForkLock:
        """Return the lock that is held while the file is used. It is another one after a fork."""
        return self._lock

    @property
    def in_transaction(self) -> bool:
        """Say whether a change is under way; with the lock held: on this very thread."""
        return self._connection is not None and self._connection.in_transaction

    def connection(self, wait_seconds: float | None = None) -> sqlite3.Connection:
        """Return the connection, to the very file that was opened first.

        Args:
            wait_seconds: How long to wait for others this time.

        Raises:
            FileReplacedError: The file is gone, or another one has its name; after :meth:`forget`
                that one is opened.
            sqlite3.Error: It cannot be opened.
        """
        with self._lock:
            if self._connection is None:
                self._open(self.wait_seconds if wait_seconds is None else wait_seconds)
                assert self._connection is not None
            return self._connection

    @contextmanager
    def transaction(self, wait_seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """Do all of the block, or nothing of it. Inside of a change it is part of that change.

        Raises:
            FileReplacedError: See :meth:`connection`.
            sqlite3.Error: The file stays locked, or cannot be written.
        """
        patience = self.wait_seconds if wait_seconds is None else wait_seconds
        with self._lock:
            if self._connection is not None and self._connection.in_transaction:
                yield self._connection
                return
            self._refuse_replaced()
            connection = self.connection(patience)
            try:
                with writing(connection, wait_seconds=patience):
                    yield connection
            except BaseException:
                if connection.in_transaction:  # what cannot be undone is undone by closing
                    self.close()
                raise

    def forget(self) -> None:
        """Close the file; the next use opens whatever has its name then."""
        with self._lock:
            self.close()
            self._identity = None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _open(self, wait_seconds: float) -> None:
        self._refuse_replaced()
        self._connection = connect(
            self.path, self._settings, prepare=self._prepare, wait_seconds=wait_seconds
        )
        if self.path is not None:
            self._identity = identity_of(self.path)
        self.openings += 1

    def _refuse_replaced(self) -> None:
        if (
            self.path is not None
            and self._identity is not None
            and identity_of(self.path) != self._identity
        ):
            raise FileReplacedError(f"{self.path} was replaced by another file while it was open.")

    # Forks

    def before_fork(self) -> None:
        """Close the file, unless this very thread forks in the middle of a change."""
        if self.path is not None and not self.in_transaction:
            self.close()

    def after_fork_in_child(self) -> None:
        """Go on as another process, with a connection of its own."""
        self._lock = forks.ForkLock()
        if self.path is not None:
            _put_aside_inherited()
            self._connection = None
