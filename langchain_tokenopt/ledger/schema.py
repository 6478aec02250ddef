"""Tables of the ledger, how a database is opened, and how it moves to a newer schema.

Times are integers: microseconds since 1970 in UTC. Money is billionths of a US dollar. What repeats
is stored once: ``origins`` holds each combination of agent, node, tool, model... and ``names`` the
users, threads and runs, so that a call is a row of small integers.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from langchain_tokenopt.core.dimensions import DIMENSIONS, MANY_VALUED
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.core.records import COUNTS
from langchain_tokenopt.core.usage import TOKEN_COUNTS

__all__ = ["SCHEMA_VERSION", "LedgerError", "Place"]


class LedgerError(TokenOptError):
    """A ledger cannot be opened, read or written; the message says what to do about it."""


ORIGIN_FIELDS: Final = tuple(name for name in DIMENSIONS if name not in MANY_VALUED)
"""What a call has in common with many others; '' stands for none."""

metadata = MetaData()

_KEY = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is SQLite's own row number


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


ledger_schema = Table(
    "ledger_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", BigInteger, nullable=False),
    Column("package_version", Text, nullable=False),
)

names = Table(
    "names",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False, unique=True),
)

origins = Table(
    "origins",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    *(Column(name, Text, nullable=False) for name in ORIGIN_FIELDS),
)

calls = Table(
    "calls",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=True),
    Column("id", LargeBinary, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("first_chunk_us", BigInteger),
    *map(_count, TOKEN_COUNTS),
    Column("cost_nano_usd", BigInteger),
    Column("saved_nano_usd", BigInteger),
    Column("status", SmallInteger, nullable=False),
    Column("cached", SmallInteger, nullable=False),
    Column("estimated", SmallInteger, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("user", BigInteger),
    Column("thread", BigInteger, key="thread_id"),
    Column("run", BigInteger),  # 0: the call is a run of its own
    Column("flaws", Text),
    Index("calls_id", "id", unique=True),
    Index("calls_started_at", "started_at"),
    Index("calls_run", "run"),
)

savings = Table(
    "savings",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=True),
    Column("id", LargeBinary, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("stage", BigInteger, nullable=False),
    Column("output_side", SmallInteger, nullable=False),
    Column("observed", SmallInteger, nullable=False),
    Column("exact", SmallInteger, nullable=False),
    _count("tokens_before"),
    _count("tokens_after"),
    _count("spent_tokens"),
    Column("saved_nano_usd", BigInteger),
    Column("origin", BigInteger, nullable=False),
    Column("user", BigInteger),
    Column("thread", BigInteger, key="thread_id"),
    Column("run", BigInteger),
    Column("call", LargeBinary),
    Index("savings_id", "id", unique=True),
    Index("savings_started_at", "started_at"),
)

budget_events = Table(
    "budget_events",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=True),
    Column("id", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("budget", Text, nullable=False),
    Column("agent", Text, nullable=False),
    _count("spent_tokens"),
    _count("held_tokens"),
    _count("limit_tokens"),
    Column("detail", Text, nullable=False),
    Column("run", Text),
    Column("run_id", LargeBinary),
    Column("thread", Text, key="thread_id"),
    Index("budget_events_id", "id", unique=True),
    Index("budget_events_at", "at"),
)

SAVING_COUNTS = (
    "savings",
    "inexact",
    "unpriced",
    "tokens_before",
    "tokens_after",
    "spent_tokens",
    "saved_nano_usd",
)

call_hours = Table(
    "call_hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("origin", BigInteger, primary_key=True, autoincrement=False),
    *map(_count, COUNTS),
    sqlite_with_rowid=False,
)

saving_hours = Table(
    "saving_hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("origin", BigInteger, primary_key=True, autoincrement=False),
    Column("stage", BigInteger, primary_key=True, autoincrement=False),
    Column("output_side", SmallInteger, primary_key=True, autoincrement=False),
    Column("observed", SmallInteger, primary_key=True, autoincrement=False),
    *map(_count, SAVING_COUNTS),
    sqlite_with_rowid=False,
)


def _first_tables(connection: Connection) -> None:
    """Version 1: everything above."""
    metadata.create_all(connection)


def _organizations(connection: Connection) -> None:
    """Version 2: a call's organization. New ledgers have the column since version 1."""
    if "organization" not in {
        column["name"] for column in inspect(connection).get_columns("origins")
    }:
        connection.execute(
            text("ALTER TABLE origins ADD COLUMN organization TEXT NOT NULL DEFAULT ''")
        )


MIGRATIONS: list[Callable[[Connection], None]] = [_first_tables, _organizations]
"""Step *n* brings a database from version *n* to *n + 1*. Steps are only ever added."""

SCHEMA_VERSION = len(MIGRATIONS)

_WRITERS_LOCK = 0x746F6B65  # any constant: PostgreSQL's advisory lock of those who write ledgers
_OPEN_ATTEMPTS = 200
_OPEN_PAUSE_SECONDS = 0.02


class Place:
    """Where a ledger lives, and how to reach it.

    Args:
        path_or_url: A file, or a database URL such as ``postgresql://user@host/db``.
        read_only: Never create or change anything.
        busy_seconds: How long to wait for other writers.

    Raises:
        LedgerError: There is no ledger, or it cannot be used; the message says what to do.
    """

    def __init__(
        self, path_or_url: str | Path, *, read_only: bool = False, busy_seconds: float = 30.0
    ) -> None:
        self.path, self.url = _parse(path_or_url)
        self.read_only = read_only
        self.busy_seconds = busy_seconds
        self.label = str(self.path) if self.path else self.url.render_as_string()
        if self.path is not None:
            _refuse_impossible_path(self.path, read_only=read_only)
        try:
            self.engine = self._reach()
            if self.path is not None and self.path.exists():
                self._refuse_other_files(self.path)
            if not read_only:
                self._bring_up_to_date()
            self._refuse_strangers()
        except (DBAPIError, sqlite3.Error, OSError) as error:
            raise self.explained(error) from error

    @property
    def is_sqlite(self) -> bool:
        """True for a file, False for a server."""
        return self.path is not None

    @property
    def spill_name(self) -> str:
        """What files are called that hold events which could not be written here."""
        return self.path.name if self.path is not None else "tokenopt"

    def connect_to_write(self) -> Connection:
        """Return a connection for :meth:`writing`; the caller closes it."""
        return self.engine.connect().execution_options(tokenopt_writes=True)

    def connect_to_read(self) -> Connection:
        """Return a connection whose transactions see one state of the database."""
        connection = self.engine.connect()
        if not self.is_sqlite:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        return connection

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """Let only this connection write, until the end of the block commits.

        One writer at a time keeps row numbers in order and rollups free of deadlocks.
        """
        with connection.begin():
            if not self.is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(_WRITERS_LOCK)))
            yield

    def refuse_newer(self, version: int | None) -> None:
        """Raise when the database has moved to a schema that this package does not know."""
        if version is not None and version > SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger {self.label} has schema version {version}, written by a newer "
                f"langchain-tokenopt; this one knows versions up to {SCHEMA_VERSION}. "
                f"Upgrade it: pip install -U langchain-tokenopt."
            )

    def explained(self, error: BaseException) -> LedgerError:
        """Return the one sentence that says what went wrong here and what to do."""
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        for pattern, remedy in _REMEDIES:
            if re.search(pattern, cause, re.IGNORECASE):
                return LedgerError(f"the ledger {self.label} {remedy} ({cause}).")
        return LedgerError(f"the ledger {self.label} failed: {cause}")

    def _reach(self) -> Engine:
        """Make an engine whose connections begin their own transactions."""
        if self.path is None:
            try:
                return create_engine(self.url, poolclass=NullPool, hide_parameters=True)
            except ModuleNotFoundError as error:
                raise LedgerError(
                    f"the ledger {self.label} needs the Python package {error.name!r}. "
                    f'Install it: pip install "psycopg[binary]".'
                ) from error
        engine = create_engine(
            "sqlite://",
            poolclass=NullPool,
            creator=self._connect_sqlite,
            hide_parameters=True,
        )
        event.listen(engine, "begin", _begin_reading)
        return engine

    def _connect_sqlite(self) -> sqlite3.Connection:
        assert self.path is not None
        if self.read_only:
            return self._connect_to_ask(self.path)
        connection = self._connect("file:" + quote(str(self.path.absolute())))
        try:
            _switch_to_wal(connection)
            # FULL: what flush() has acknowledged survives a power cut, not only a crash.
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _connect_to_ask(self, path: Path) -> sqlite3.Connection:
        """Open *path* to read, and leave no files of the write-ahead log behind.

        A connection that may not write cannot clear them away, so this one only promises not to.
        """
        connection = self._connect("file:" + quote(str(path.absolute())) + "?mode=rw")
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            return self._look(path)
        return connection

    def _look(self, path: Path) -> sqlite3.Connection:
        """Open *path* without the right to change it."""
        location = "file:" + quote(str(path.absolute()))
        connection = self._connect(location + "?mode=ro")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            connection.close()
            if not isinstance(error, sqlite3.OperationalError) or Path(f"{path}-wal").exists():
                raise
            # A folder that nobody may write to: no lock files possible, and none needed.
            connection = self._connect(location + "?immutable=1")
        return connection

    def _connect(self, location: str) -> sqlite3.Connection:
        return sqlite3.connect(
            location,
            uri=True,
            timeout=self.busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )

    def _bring_up_to_date(self) -> None:
        """Create the tables, or apply the steps that are missing, as one transaction."""
        with self.engine.connect() as connection:
            if self.found_version(connection) == SCHEMA_VERSION:
                return
        with self.connect_to_write() as connection, self.writing(connection):
            found = self.found_version(connection)
            self.refuse_newer(found)
            for number in range(found or 0, SCHEMA_VERSION):
                MIGRATIONS[number](connection)
                connection.execute(
                    ledger_schema.insert().values(
                        version=number + 1,
                        applied_at=time.time_ns() // 1_000,
                        package_version=package_version("langchain-tokenopt"),
                    )
                )

    def _refuse_strangers(self) -> None:
        with self.engine.connect() as connection:
            found = self.found_version(connection)
        if found is None:
            raise LedgerError(self._stranger())
        self.refuse_newer(found)
        if found < SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger {self.label} has the old schema version {found}; this package reads "
                f"version {SCHEMA_VERSION}. Open it once for writing: Ledger({self.label!r})."
            )

    def _refuse_other_files(self, path: Path) -> None:
        """Look before touching: even turning on write-ahead logging would change the file."""
        with closing(self._look(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if tables and "ledger_schema" not in tables:
            raise LedgerError(self._stranger())

    def _stranger(self) -> str:
        return (
            f"{self.label} is a database but not a token ledger; it was left as it is. "
            f"Name another file."
        )

    def found_version(self, connection: Connection) -> int | None:
        """Return the schema version of the database; ``None`` when it is no ledger."""
        if self.is_sqlite:
            query = text("SELECT 1 FROM sqlite_master WHERE name = 'ledger_schema'")
            known = connection.execute(query).first() is not None
        else:
            known = inspect(connection).has_table("ledger_schema")
        if not known:
            return None
        found: int | None = connection.scalar(select(func.max(ledger_schema.c.version)))
        return found


_REMEDIES = (
    (r"disk is full|no space|EFBIG|too large", "has no room left. Free some disk space"),
    (r"readonly|read-only", "may not be written. Choose a place where you may, or change its mode"),
    (r"unable to open", "cannot be opened. Check that its folder exists and that you may write"),
    (r"not a database", "is not a ledger but some other kind of file. Name another file"),
    (r"malformed", "is damaged. Restore it from a copy, or start another file"),
    (r"locked|busy", "is held by another process. Try again when that one has finished"),
    (r"disk I/O error", "could not be written to disk. Check its space and limits"),
    (r"connect|refused|resolve", "cannot be reached. Check that the server runs and the URL"),
)


def _parse(path_or_url: str | Path) -> tuple[Path | None, URL]:
    """Tell files from URLs; ``sqlite:///x.db`` is a file too."""
    if isinstance(path_or_url, str) and "://" in path_or_url:
        try:
            url = make_url(path_or_url)
        except ArgumentError as error:
            raise LedgerError(
                f"{path_or_url!r} is no database URL. "
                f"Write a file name or postgresql://user@host/database."
            ) from error
        if url.get_backend_name() in ("postgres", "postgresql"):
            return None, url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() != "sqlite":
            raise LedgerError(
                f"{url.get_backend_name()!r} databases are not supported. "
                f"Write a file name (SQLite) or postgresql://user@host/database."
            )
        path_or_url = url.database or ""
    if str(path_or_url) in ("", ".", ":memory:"):
        raise LedgerError("a ledger needs a file or a database URL: Ledger('tokenopt.db').")
    return Path(path_or_url), make_url("sqlite://")


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


def _begin_reading(connection: Connection) -> None:
    """Begin what SQLAlchemy thinks has begun: one snapshot, or the right to write."""
    if connection.get_execution_options().get("tokenopt_writes"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Turn on write-ahead logging; SQLite does not wait for others here, so we do."""
    for attempt in range(_OPEN_ATTEMPTS):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == _OPEN_ATTEMPTS - 1:
                raise
            time.sleep(_OPEN_PAUSE_SECONDS)
        else:
            return


def columns_of(table: Table) -> Sequence[Any]:
    """Return the columns that a writer fills in: all but the running number."""
    return [column for column in table.columns if column.name != "seq"]
