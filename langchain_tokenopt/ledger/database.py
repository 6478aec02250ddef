"""Where a ledger lives: an SQLite file or a PostgreSQL database, and how it is reached."""

from __future__ import annotations

import hashlib
import math
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.pool import NullPool

from langchain_tokenopt.core.errors import PlaceError, TokenOptError
from langchain_tokenopt.ledger import partitions, rollups, schema
from langchain_tokenopt.ledger.schema import ledger_schema
from langchain_tokenopt.storage import sqlite
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.places import place_of

__all__ = ["Database", "LedgerError"]


class LedgerError(TokenOptError):
    """A ledger cannot be opened, read or written; the message says what to do about it."""


_UNDEFINED_COLUMN: Final = "42703"
"""https://www.postgresql.org/docs/current/errcodes-appendix.html (read 2026-11-30)"""
_WRITERS_LOCK: Final = 0x746F6B65
"""PostgreSQL's advisory lock of those who write ledgers; any constant."""
_QUEUE: Final = 12
"""How many who each hold a server up for as long as was said one waits for, where there is a queue.
Whoever tried again sooner would lose the place in it, and with many writers never have a turn."""
_STOPPED_SECONDS: Final = 5
"""After which the server undoes a writer that stands still in the middle of a transaction."""
_LEAST_SECONDS: Final = 1.0
"""How long a server may take, at least, for its first answer, where nobody is to wait for it."""
ANSWER_SECONDS: Final = 10.0
"""How long a server may take for one answer to a writer, once nobody else holds the ledger."""
READ_SECONDS: Final = 60.0
"""How long a server may take to answer a question."""
LONG_SECONDS: Final = 3_600.0
"""How long it may take where all rows are read or written: checks, moves, steps of the schema."""


class Database:
    """Where a ledger lives, and how to reach it.

    Args:
        path: A file, or a database URL such as ``postgresql://user@host/db``.
        read_only: Never create or change anything.
        wait_seconds: How long to wait for other writers, and for a server.

    Raises:
        LedgerError: There is no ledger, or it cannot be used; the message says what to do.
    """

    def __init__(
        self, path: str | Path, *, read_only: bool = False, wait_seconds: float = 5.0
    ) -> None:
        self.path, url = _parse(path)
        self.read_only = read_only
        self.wait_seconds = wait_seconds
        self._server: Any = None if url is None else _server_at(url)
        self.label = self._server.label if self._server is not None else str(self.path)
        self._identity: tuple[int, int] | None = None
        self._files = 0
        if self.path is not None:
            _refuse_impossible_path(self.path, read_only=read_only)
        self.engine = self._make_engine()
        self._prepare()

    @property
    def is_sqlite(self) -> bool:
        """True for a file, False for a server."""
        return self.path is not None

    @property
    def spool_name(self) -> str:
        """How files begin that hold events for this ledger: it is in their folder, or far away."""
        if self.path is not None:
            return self.path.name
        where = sorted((k, v) for k, v in self._server.parameters.items() if k != "password")
        return f"tokenopt-{hashlib.sha256(repr(where).encode()).hexdigest()[:16]}"

    @property
    def queue_seconds(self) -> float:
        """How long one waits whom nobody waits for: on a server in its queue, and until a turn."""
        return self.wait_seconds * (1 if self.is_sqlite else _QUEUE)

    # Connections

    def connect_to_write(self, silent_seconds: float = LONG_SECONDS) -> Connection:
        """Return a connection for :meth:`writing`; the caller closes it.

        Args:
            silent_seconds: How long to wait for any answer of a server.
        """
        return self._connected(silent_seconds)

    def connect_to_read(self, silent_seconds: float | None = None) -> Connection:
        """Return a connection whose transactions see one state of the database.

        Args:
            silent_seconds: How long to wait for any answer of a server; by default a minute.
        """
        connection = self._connected(READ_SECONDS if silent_seconds is None else silent_seconds)
        if not self.is_sqlite:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        return connection

    def _connected(self, silent_seconds: float) -> Connection:
        connection = self.engine.connect()
        if not self.is_sqlite:
            if silent_seconds > READ_SECONDS:  # who is silent already is not waited for so long
                connection.execute(select(1))
                connection.rollback()
            raw: Any = connection.connection.dbapi_connection
            raw.silent_seconds = silent_seconds
        return connection

    @contextmanager
    def writing(
        self,
        connection: Connection,
        wait_seconds: float | None = None,
        *,
        stopped_seconds: float = _STOPPED_SECONDS,
    ) -> Iterator[None]:
        """Let only this connection write, until the end of the block commits.

        One writer at a time keeps row numbers in order and rollups free of deadlocks.

        Args:
            connection: Of :meth:`connect_to_write`.
            wait_seconds: How long to wait for other writers this time; by default
                :attr:`queue_seconds`.
            stopped_seconds: After which a server undoes a block in which nothing is asked of it.
        """
        wait = self.queue_seconds if wait_seconds is None else wait_seconds
        connection.execution_options(tokenopt_wait_seconds=wait)
        with connection.begin():
            if not self.is_sqlite:
                self._wait_for_turn(connection, wait, stopped_seconds)
            yield

    def _wait_for_turn(self, connection: Connection, wait: float, stopped_seconds: float) -> None:
        limit = select(
            func.set_config("idle_in_transaction_session_timeout", f"{stopped_seconds:.0f}s", True),
            _lock_timeout(wait),
        )
        raw: Any = connection.connection.dbapi_connection
        silent_seconds = raw.silent_seconds
        raw.silent_seconds = min(silent_seconds, READ_SECONDS, max(_LEAST_SECONDS, wait))
        connection.execute(limit)  # a server that is silent already is noticed here
        raw.silent_seconds = min(silent_seconds, READ_SECONDS)
        raw.silent_seconds += wait
        connection.execute(select(func.pg_advisory_xact_lock(_WRITERS_LOCK)))
        raw.silent_seconds = silent_seconds
        connection.execute(select(_lock_timeout(min(wait, self.wait_seconds))))

    def follow_path(self) -> int:
        """Open the file that is there now, or make it, where it was removed or replaced.

        Returns:
            How many files there have been.

        Raises:
            LedgerError: What is there now is no ledger.
        """
        if (
            self.path is not None
            and not self.read_only
            and self._identity != _identity_of(self.path)
        ):
            self._prepare()
        return self._files

    def _make_engine(self) -> Engine:
        """Make an engine whose connections begin their own transactions."""
        if self._server is not None:
            return create_engine(
                "postgresql+psycopg://",
                poolclass=NullPool,
                creator=partial(self._server.open, max(2, math.ceil(self.wait_seconds))),
                isolation_level="READ COMMITTED",  # who waited must see what the others have made
                hide_parameters=True,
            )
        engine = create_engine(
            "sqlite://", poolclass=NullPool, creator=self._open_file, hide_parameters=True
        )
        event.listen(engine, "begin", _begin)
        return engine

    def _open_file(self) -> sqlite3.Connection:
        assert self.path is not None
        if self.read_only:
            return sqlite.connect_to_read(self.path, wait_seconds=self.wait_seconds)
        # FULL: what flush() has acknowledged survives a power cut, not only a crash.
        settings = sqlite.Settings(synchronous="FULL", busy_seconds=self.wait_seconds)
        return sqlite.connect(self.path, settings, wait_seconds=self.wait_seconds)

    # What is there

    def _prepare(self) -> None:
        """Make the tables, or bring them up to date; refuse what is no ledger."""
        try:
            if self.path is not None and self.path.exists():
                self._refuse_other_files(self.path)
            if not self.read_only:
                self._bring_up_to_date()
            self._refuse_strangers()
            if self.path is not None:
                self._identity = _identity_of(self.path)
                self._files += 1
        except (DBAPIError, sqlite3.Error, OSError, UnicodeError) as error:
            raise self.explained(error) from error

    def _bring_up_to_date(self) -> None:
        """Create the tables, or apply the steps that are missing, as one transaction."""
        with self._connected(ANSWER_SECONDS) as connection:
            found = self.found_version(connection)
        if found == schema.SCHEMA_VERSION:
            return
        silent_seconds = READ_SECONDS if found is None else LONG_SECONDS
        with self.connect_to_write(silent_seconds) as connection, self.writing(connection):
            found = self.found_version(connection)
            self.refuse_newer(found)
            if found is None and not self.is_sqlite:
                self._refuse_taken_names(connection)
            for number in range(found or 0, schema.SCHEMA_VERSION):
                schema.MIGRATIONS[number](connection)
                connection.execute(
                    ledger_schema.insert().values(
                        version=number + 1,
                        applied_at=time.time_ns() // 1_000,
                        package_version=package_version("langchain-tokenopt"),
                    )
                )
            if found and found < schema.ROLLUPS_VERSION:
                rollups.rebuild(connection)

    def _refuse_taken_names(self, connection: Connection) -> None:
        """Make nothing beside what has one of the names that are needed, whatever it is."""
        wanted = [name for table in schema.metadata.tables for name in partitions.names_of(table)]
        wanted += [str(index.name) for t in schema.metadata.tables.values() for index in t.indexes]
        taken = connection.scalar(_TAKEN, {"names": wanted})
        if taken is not None:
            raise self._foreign(taken)

    def _foreign(self, name: str) -> LedgerError:
        return LedgerError(
            f"{self.label} has {name!r}, which is not a ledger's; nothing was changed. Give the "
            f"ledger a schema of its own: CREATE SCHEMA tokens, and "
            f"?options=-csearch_path%3Dtokens in the URL."
        )

    def _refuse_strangers(self) -> None:
        with self._connected(ANSWER_SECONDS) as connection:
            found = self.found_version(connection)
        if found is None:
            raise LedgerError(self._stranger())
        self.refuse_newer(found)
        if found < schema.SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger {self.label} has the old schema version {found}; this package reads "
                f"version {schema.SCHEMA_VERSION}. Open it once for writing: "
                f"Ledger({self.label!r})."
            )

    def _refuse_other_files(self, path: Path) -> None:
        """Look before touching: even turning on write-ahead logging would change the file."""
        with closing(sqlite.connect_to_read(path, wait_seconds=self.wait_seconds)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if tables and ledger_schema.name not in tables:
            raise LedgerError(self._stranger())

    def _stranger(self) -> str:
        return (
            f"{self.label} is a database but not a token ledger; it was left as it is. "
            f"Name another file."
        )

    def found_version(self, connection: Connection) -> int | None:
        """Return the schema version of the database; ``None`` when it is no ledger.

        Raises:
            LedgerError: It has a table of that name, which says no version.
        """
        there = _IS_IN_FILE if self.is_sqlite else _IS_ON_SERVER
        if connection.scalar(there) is None:
            return None
        found: Any = None
        try:
            found = connection.scalar(select(func.max(ledger_schema.c.version)))
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != _UNDEFINED_COLUMN:
                raise
        if isinstance(found, int):
            return found
        if not self.is_sqlite:
            raise self._foreign(ledger_schema.name)
        raise LedgerError(
            f"{self.label} has a table {ledger_schema.name!r} that says no version: {found!r}. "
            f"Restore it from a copy, or name another file."
        )

    def refuse_newer(self, version: int | None) -> None:
        """Raise when the database has moved to a schema that this package does not know."""
        if version is not None and version > schema.SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger {self.label} has schema version {version}, written by a newer "
                f"langchain-tokenopt; this one knows versions up to {schema.SCHEMA_VERSION}. "
                f"Upgrade it: pip install -U langchain-tokenopt."
            )

    def explained(self, error: BaseException) -> LedgerError:
        """Return the one sentence that says what went wrong here and what to do."""
        if isinstance(error, LedgerError):
            return error
        error = getattr(error, "orig", None) or error
        if self._server is not None and hasattr(error, "sqlstate"):
            why = error if isinstance(error, PostgresError) else self._server.explained(error)
            return LedgerError(f"the ledger {why}.")
        cause = " ".join(str(error).split())
        for pattern, remedy in _REMEDIES:
            if re.search(pattern, cause, re.IGNORECASE):
                return LedgerError(f"the ledger {self.label} {remedy} ({cause}).")
        return LedgerError(f"the ledger {self.label} failed: {cause}")


def _lock_timeout(seconds: float) -> Any:
    milliseconds = max(1, round(1_000 * seconds))  # 0 would be for ever
    return func.set_config("lock_timeout", f"{milliseconds}ms", True)


_IS_IN_FILE: Final = text("SELECT 1 FROM sqlite_master WHERE name = 'ledger_schema'")
_IS_ON_SERVER: Final = text(
    "SELECT 1 FROM pg_class WHERE relname = 'ledger_schema' AND pg_table_is_visible(oid)"
)
_TAKEN: Final = text(
    "WITH own AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) "
    "SELECT relname::text FROM pg_class WHERE relname = ANY(CAST(:names AS text[])) "
    "AND (pg_table_is_visible(oid) OR relnamespace IN (SELECT oid FROM own)) "
    "UNION ALL SELECT typname::text FROM pg_type WHERE typname = ANY(CAST(:names AS text[])) "
    "AND typnamespace IN (SELECT oid FROM own) LIMIT 1"
)
"""Relations of any kind, and types: a table is one, too."""

_DAMAGED = "is damaged. Restore it from a copy, or start another file"

_REMEDIES = (
    (r"disk is full|no space|EFBIG|too large", "has no room left. Free some disk space"),
    (r"readonly|read-only", "may not be written. Choose a place where you may, or change its mode"),
    (r"unable to open", "cannot be opened. Check that its folder exists and that you may write"),
    (r"not a database", "is not a ledger but some other kind of file. Name another file"),
    (r"malformed|corrupt|UTF-8", _DAMAGED),
    (
        r"locked|lock timeout|deadlock|busy",
        "is held by another process. Try again when that one has finished",
    ),
    (r"disk I/O error", "could not be written to disk. Check its space and limits"),
)


def _parse(path: str | Path) -> tuple[Path | None, str | None]:
    """Tell files from servers."""
    try:
        place = place_of(path)
    except PlaceError as error:
        raise LedgerError(f"the ledger cannot be opened: {error}") from None
    if isinstance(place, str):
        return None, place
    if str(place) in ("", ".", ":memory:"):
        raise LedgerError("a ledger needs a file or a database URL: Ledger('tokenopt.db').")
    return place, None


def _server_at(url: str) -> Any:
    try:
        return import_module("langchain_tokenopt.storage.postgres").pool_of(url)
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"a ledger in PostgreSQL needs the Python package {error.name!r}. "
            f'Install it: pip install "langchain-tokenopt[postgres]".'
        ) from error
    except PlaceError as error:
        raise LedgerError(f"the ledger cannot be opened: {error}") from None


def _refuse_impossible_path(path: Path, *, read_only: bool) -> None:
    if path.is_dir():
        raise LedgerError(f"{path} is a folder. Name a file in it: {path / 'tokenopt.db'}.")
    if read_only and not path.exists():
        raise LedgerError(
            f"no ledger at {path}. Create one with Ledger({str(path)!r}), "
            f"or name another with --ledger or TOKENOPT_LEDGER."
        )
    if not path.absolute().parent.is_dir():
        raise LedgerError(f"the folder {path.absolute().parent} does not exist. Create it first.")


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        return sqlite.identity_of(path)
    except OSError:
        return None


def _begin(connection: Connection) -> None:
    """Begin what SQLAlchemy thinks has begun: one snapshot, or the right to write."""
    wait_seconds = connection.get_execution_options().get("tokenopt_wait_seconds")
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    if wait_seconds is None:
        raw.execute("BEGIN")
    else:
        raw.execute("PRAGMA busy_timeout = 0")
        sqlite.begin(raw, wait_seconds=wait_seconds)
