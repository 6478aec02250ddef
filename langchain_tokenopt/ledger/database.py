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
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from langchain_tokenopt.core.errors import PlaceError, TokenOptError
from langchain_tokenopt.ledger import rollups, schema
from langchain_tokenopt.ledger.schema import ledger_schema
from langchain_tokenopt.storage import sqlite
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.places import place_of

__all__ = ["Database", "LedgerError"]


class LedgerError(TokenOptError):
    """A ledger cannot be opened, read or written; the message says what to do about it."""


_WRITERS_LOCK = 0x746F6B65  # any constant: PostgreSQL's advisory lock of those who write ledgers


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

    # Connections

    def connect_to_write(self, silent_seconds: float | None = None) -> Connection:
        """Return a connection for :meth:`writing`; the caller closes it.

        Args:
            silent_seconds: How long to wait for any answer of a server; by default for ever.
        """
        connection = self.engine.connect()
        if not self.is_sqlite:
            raw: Any = connection.connection.dbapi_connection
            raw.silent_seconds = silent_seconds
        return connection

    def connect_to_read(self) -> Connection:
        """Return a connection whose transactions see one state of the database."""
        connection = self.engine.connect()
        if not self.is_sqlite:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        return connection

    @contextmanager
    def writing(self, connection: Connection, wait_seconds: float | None = None) -> Iterator[None]:
        """Let only this connection write, until the end of the block commits.

        One writer at a time keeps row numbers in order and rollups free of deadlocks.

        Args:
            connection: Of :meth:`connect_to_write`.
            wait_seconds: How long to wait for other writers this time.
        """
        wait = self.wait_seconds if wait_seconds is None else wait_seconds
        connection.execution_options(tokenopt_wait_seconds=wait)
        with connection.begin():
            if not self.is_sqlite:
                milliseconds = max(1, round(1_000 * wait))  # 0 would be for ever
                connection.execute(
                    select(func.set_config("lock_timeout", f"{milliseconds}ms", True))
                )
                connection.execute(select(func.pg_advisory_xact_lock(_WRITERS_LOCK)))
            yield

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
        with self.engine.connect() as connection:
            if self.found_version(connection) == schema.SCHEMA_VERSION:
                return
        with self.connect_to_write() as connection, self.writing(connection):
            found = self.found_version(connection)
            self.refuse_newer(found)
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

    def _refuse_strangers(self) -> None:
        with self.engine.connect() as connection:
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
        """Return the schema version of the database; ``None`` when it is no ledger."""
        if self.is_sqlite:  # as SQLAlchemy's inspection, in a tenth of its time
            query = text("SELECT 1 FROM sqlite_master WHERE name = 'ledger_schema'")
            known = connection.execute(query).first() is not None
        else:
            known = inspect(connection).has_table(ledger_schema.name)
        if not known:
            return None
        found: int | None = connection.scalar(select(func.max(ledger_schema.c.version)))
        return found

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
