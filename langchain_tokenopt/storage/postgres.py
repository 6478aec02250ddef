"""PostgreSQL as this package uses it: connections that are shared, and no wait without an end.

Every process keeps a few connections per database, for whoever needs one. Limits of time are set
inside of each transaction, so that a pooler in between (PgBouncer) may give every transaction
another connection. A server that has been stopped, or a network that swallows everything, is given
up on this side.
"""

from __future__ import annotations

import atexit
import os
import re
import select
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from langchain_tokenopt.core.errors import PlaceError
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.places import in_one_line, place_of

__all__ = [
    "PatientConnection",
    "PostgresError",
    "PostgresPool",
    "Session",
    "from_text",
    "identity_of",
    "is_quiet",
    "pool_of",
    "to_text",
]

LEAST_VERSION: Final = 13
"""PostgreSQL before it is years out of support."""
POOL_SIZE: Final = 4
"""Connections per process and database. Accounts that all share are changed by one at a time, so
more would wait inside of the server."""
CONNECT_SECONDS: Final = 5
"""How long to wait for a connection; ``?connect_timeout=`` in the URL says otherwise."""
LOCK_SECONDS: Final = 10.0
"""How long to wait for others who have locked the same rows."""
SILENT_SECONDS: Final = 15.0
"""How long to wait for an answer of any kind."""
_STOPPED_SECONDS: Final = 5.0
"""After which the server undoes a transaction whose process stands still, for others wait."""
_IDLE_SECONDS: Final = 60.0
"""How long an unused connection is kept. What lies between may forget one that is silent."""
_RETRY_SECONDS: Final = 1.0
"""How long, at least, a server that was not reached is not asked again: a call asks more than
once, and must not wait each time."""

_SETTINGS: Final = (
    f"SELECT set_config('lock_timeout', '{LOCK_SECONDS:.0f}s', true), "
    f"set_config('statement_timeout', '{LOCK_SECONDS + 2:.0f}s', true), "
    f"set_config('idle_in_transaction_session_timeout', '{_STOPPED_SECONDS:.0f}s', true), "
    f"set_config('synchronous_commit', 'off', true)"
)
_FLUSH: Final = "SELECT pg_logical_emit_message(true, 'tokenopt', '')"
"""A transaction of nothing but a record in the write-ahead log: waits until it is on the disk, and
with it all that was written before (https://www.postgresql.org/docs/current/wal-async-commit.html:
"transactions ... become durable in the order of commit"; read 2026-11-29)."""

_NETWORK_LIMITS: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Within which the system notices a machine, or a way to it, that is gone, also in long waits."""

T = TypeVar("T")


# Connections


class PatientConnection(psycopg.Connection[Any]):
    """Gives up on a server that does not answer; psycopg alone would wait for ever."""

    used_at = 0.0
    silent_seconds = SILENT_SECONDS
    """How long to wait for an answer."""
    silence: _SilentServerError | None = None
    """Why it was given up."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Do as psycopg does, for as long as a wait may take."""
        ending = _ending(gen, self.silent_seconds)
        try:  # what psycopg 3.2 has in C says nothing while nothing comes
            return psycopg.waiting.wait_selector(ending, self.pgconn.socket, 0.1)
        except (_SilentServerError, KeyboardInterrupt) as error:
            if isinstance(error, _SilentServerError):
                self.silence = error
            self.close()  # an answer that comes later would be taken for that of another question
            raise


class _SilentServerError(psycopg.OperationalError):
    """A server has not answered."""


def _ending(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """Pass on what *gen* wants and is told; raise when it is late. It is asked all the time."""
    ready, deadline = None, time.monotonic() + seconds
    while True:
        try:
            wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
        ready = yield wanted
        if not ready and time.monotonic() > deadline:
            raise _SilentServerError(f"no answer within {seconds:.0f} seconds")


class Session:
    """A connection for a moment, and transactions in it, a round trip for each half.

    Example: see ``langchain_tokenopt.budget.postgres_accounts``.
    """

    def __init__(
        self, connection: PatientConnection, explained: Callable[[psycopg.Error], PostgresError]
    ) -> None:
        self._lent: PatientConnection | None = connection
        self._explained = explained

    @contextmanager
    def _connection(self) -> Iterator[PatientConnection]:
        """Lend the connection to the thread that asks, which need not be the one that began.

        Raises:
            PostgresError: The server refuses something or is gone, or the transaction is over.
        """
        connection = self._lent
        if connection is None:  # a thread that was not waited for any longer
            raise PostgresError("the transaction is over. Try again")
        try:
            yield connection
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError):
                connection.close()
            raise self._explained(error) from error

    def end(self) -> None:
        """Let the connection go, which others will have."""
        self._lent = None

    def begin(self, *statements: tuple[str, tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
        """Begin a transaction with *statements*; return the rows of each.

        Each sees what others have committed before it, also while an earlier one waited for a lock.
        """
        begin = ("BEGIN ISOLATION LEVEL READ COMMITTED", ()), (_SETTINGS, ())
        return self.run_all(*begin, *statements)[len(begin) :]

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement; return its rows."""
        with self._connection() as connection:
            return connection.execute(statement, values).fetchall()

    def run_all(self, *statements: tuple[str, tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
        """Execute statements in one round trip; return the rows of each."""
        # One message with all of them. (In psycopg's pipelines the server never notices that a
        # transaction stands still: the message that ends them stops its watch.)
        values = [value for _, values in statements for value in values]
        found = []
        with self._connection() as connection:
            cursor = psycopg.ClientCursor(connection)
            cursor.execute("; ".join(text for text, _ in statements), values)
            while True:
                found.append(cursor.fetchall() if cursor.description else [])
                if not cursor.nextset():
                    return found

    def change(
        self, *statements: tuple[str, tuple[Any, ...]], durable: bool = True
    ) -> list[list[tuple[Any, ...]]]:
        """Execute statements as a transaction, in one round trip; return the rows of each."""
        begin = ("BEGIN ISOLATION LEVEL READ COMMITTED", ()), (_SETTINGS, ())
        end = [("COMMIT", ()), *([(_FLUSH, ())] if durable else [])]
        return self.run_all(*begin, *statements, *end)[len(begin) : -len(end)]

    def roll_back(self) -> None:
        """Undo the transaction."""
        with self._connection() as connection:
            connection.rollback()

    def commit(self, *statements: tuple[str, tuple[Any, ...]], durable: bool = True) -> None:
        """End the transaction with *statements*; return when all of it is on the disk.

        Locks are given back before that: who comes next need not wait for the disk, and cannot
        become durable earlier than what it has seen.

        Args:
            *statements: What is written, each with its values.
            durable: Else it is on the disk a moment later, and a crash of the server may undo it.
        """
        self.run_all(*statements, ("COMMIT", ()), *([(_FLUSH, ())] if durable else []))

    def flush(self) -> None:
        """Return when all that was committed before is on the disk."""
        self.run(_FLUSH)


class PostgresPool:
    """The connections of this process to a database; made by :func:`pool_of`.

    Args:
        url: ``postgresql://user@host:port/database``, and whatever else libpq knows.

    Raises:
        PlaceError: It is no such URL.
    """

    def __init__(self, url: str) -> None:
        self.parameters = parameters_of(url)
        self.label = _label(self.parameters)
        """Where it is, without the password."""
        self._changed = threading.Condition()  # re-entrant: a finalizer may run within it
        self._idle: list[PatientConnection] = []
        self._count = 0
        """Connections that are in use, or being made."""
        self._failed: tuple[float, PostgresError] | None = None
        """Until when no connection is tried, and why."""

    @contextmanager
    def session(self, seconds: float | None = None) -> Iterator[Session]:
        """Lend a connection. What has been begun and not committed is undone at the end.

        Args:
            seconds: How long to wait for a connection that is in use, and then for any answer.

        Raises:
            PostgresError: There is none to be had, or the server refuses something.
        """
        connection = self._take(LOCK_SECONDS if seconds is None else seconds)
        connection.silent_seconds = SILENT_SECONDS if seconds is None else seconds
        session = Session(connection, self.explained)
        try:
            yield session
        finally:
            session.end()
            if connection.silence is not None and seconds is None:
                self._leave_alone(self.explained(connection.silence), _RETRY_SECONDS)
                self.close()  # what goes the same way
            self._give_back(connection)

    def explained(self, error: psycopg.Error) -> PostgresError:
        """Return the one sentence that says what went wrong here and what to do."""
        cause = error.diag.message_primary or str(error) or type(error).__name__
        cause = " ".join(cause.split())
        cause = cause.rstrip(".")
        state = error.sqlstate
        for pattern, remedy in _REMEDIES:
            if re.search(pattern, f"{state} {cause}", re.IGNORECASE):
                return PostgresError(f"{self.label} {remedy} ({cause})", state)
        return PostgresError(f"{self.label} cannot be used: {cause}", state)

    def close(self) -> None:
        """Close what is not in use."""
        with self._changed:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self, seconds: float) -> PatientConnection:
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._count >= POOL_SIZE:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise PostgresError(
                        f"{self.label} is busy: all {POOL_SIZE} connections of this process have "
                        f"been in use for {seconds:.0f} seconds. Try again later"
                    )
            self._count += 1
            while self._idle:
                connection = self._idle.pop()
                if time.monotonic() - connection.used_at < _IDLE_SECONDS and is_quiet(connection):
                    return connection
                connection.close()
        try:
            return self.connect()
        except BaseException:
            self._leave()
            raise

    def connect(self) -> PatientConnection:
        """Return a connection that is the caller's own.

        Raises:
            PostgresError: There is none to be had.
        """
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._failed[1].with_traceback(None)
        began = time.monotonic()
        try:
            connection = self.open()
        except psycopg.Error as error:
            refused = self.explained(error)
            self._leave_alone(refused, max(_RETRY_SECONDS, time.monotonic() - began))
            raise refused from error
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            connection.close()
            raise PostgresError(
                f"{self.label} has the encoding {encoding}, which lacks what names may have. Make "
                f"another: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )
        self._failed = None
        connection.autocommit = True
        connection.silent_seconds = SILENT_SECONDS
        return connection

    def _leave_alone(self, why: PostgresError, seconds: float) -> None:
        self._failed = time.monotonic() + seconds, why

    def open(self, seconds: int = CONNECT_SECONDS) -> PatientConnection:
        """Return a new connection, whatever failed before.

        Args:
            seconds: How long to wait for it, unless the URL says that.

        Raises:
            psycopg.Error: There is none to be had.
            PostgresError: The server is too old.
        """
        limits = _NETWORK_LIMITS | {"connect_timeout": seconds}
        given = limits | self.parameters | {"client_encoding": "UTF8"}
        connection = PatientConnection.connect(**given)
        version = connection.info.server_version // 10_000
        if version < LEAST_VERSION:
            connection.close()
            raise PostgresError(
                f"{self.label} is PostgreSQL {version}; {LEAST_VERSION} is needed at least. "
                f"Upgrade the server"
            )
        connection.prepare_threshold = None  # a pooler may give the next one another session
        return connection

    def _give_back(self, connection: PatientConnection) -> None:
        if not connection.closed and connection.info.transaction_status:
            with suppress(psycopg.Error):
                connection.rollback()
        if not connection.closed and connection.info.transaction_status:
            connection.close()
        connection.used_at = time.monotonic()
        with self._changed:
            if not connection.closed:
                self._idle.append(connection)
        self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify()


def is_quiet(connection: PatientConnection, seconds: float = 0.0) -> bool:
    """Say whether the server has not said anything unasked, such as that it goes away.

    Args:
        connection: Not in use.
        seconds: How long to wait for that.
    """
    if connection.closed:
        return False
    if not hasattr(select, "poll"):
        return not select.select([connection.fileno()], [], [], seconds)[0]
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(1_000 * seconds)


def parameters_of(url: str) -> dict[str, Any]:
    """Return what libpq connects with.

    Raises:
        PlaceError: It is no URL of a PostgreSQL database; the message does not repeat it.
    """
    given = place_of(url)
    if not isinstance(given, str):
        raise PlaceError("a PostgreSQL database is postgresql://user@host/database, not a file.")
    parameters: dict[str, Any] = {}
    wrong = _ambiguity_of(given)
    if not wrong:
        try:
            parameters = conninfo_to_dict(given)
        except (ValueError, psycopg.Error) as error:  # whose text may tell the password
            option = re.match(
                r'invalid (?:URI query parameter|connection option): "(\w+)"', str(error)
            )
            wrong = f"there is no option {option[1]}" if option else "a % or an option stands alone"
    for name in ("port", "connect_timeout"):
        if not re.fullmatch(r"(\d{1,5}(,|$)|,)*", str(parameters.get(name, ""))):
            wrong = f"its {name} is not a number that can be"
    if wrong:
        raise PlaceError(
            f"the URL of the database cannot be read: {wrong}. Write postgresql://user:password@"
            f"host:5432/database, and special characters of the password by "
            f"urllib.parse.quote(password, '')."
        )
    return {"application_name": "tokenopt"} | parameters


def _ambiguity_of(url: str) -> str:
    """Say what in a URL means something else than was meant; empty where all is clear."""
    network, _, rest = url.removeprefix("postgresql://").partition("/")
    if network.count("@") > 1 or "@" in rest.partition("?")[0]:
        return "a password or a name has an @ or a / in it"
    return ""


def _label(parameters: dict[str, Any]) -> str:
    host, port = str(parameters.get("host", "")), parameters.get("port")
    if host.startswith("/") or (":" in host and "," not in host):
        host = f"[{host}]"
    where = f"{host}:{port}" if port else host
    user = f"{parameters['user']}@" if "user" in parameters else ""
    return in_one_line(f"postgresql://{user}{where}/{parameters.get('dbname', '')}")


_REMEDIES: Final = (
    (
        r"28P01|28000|password authentication failed|no password supplied|no pg_hba",
        "refuses this user or password. Check both, in the URL or in PGPASSWORD",
    ),
    (
        r"3D000|database \S+ does not exist",
        "has no such database. Create it first (createdb), or name another",
    ),
    (
        r"3F000|no schema has been selected",
        "has no schema to make tables in. Create the one that search_path names",
    ),
    (
        r"permission denied for (table|relation)",
        "does not allow this user to use its tables. Let their owner run GRANT SELECT, INSERT, "
        "UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO the user",
    ),
    (
        r"42501|permission denied|must be owner",
        "does not allow this user to do that. Let its owner run "
        "GRANT CREATE, USAGE ON SCHEMA public TO the user, or open it once as its owner",
    ),
    (
        r"25006|read-only",
        "can only be read. Name the primary server, or add ?target_session_attrs=read-write; where "
        "default_transaction_read_only is on, let its owner turn that off",
    ),
    (
        r"53300|too many clients|remaining connection slots|too many connections",
        "has no connection left. Raise max_connections, or put a pooler such as PgBouncer before",
    ),
    (
        r"25P03|25P04",
        "has ended a change that stood still or took too long. Try again, or free the CPU",
    ),
    (r"55P03|57014|40P01", "has been kept busy by others for too long. Try again"),
    (r"53100|No space left", "has no room left. Free some disk space there"),
    (
        r"does not support SSL|certificate|SSL error|no encryption",
        "does not agree about encryption. Mend sslmode and what belongs to it in the URL",
    ),
    (
        r"invalid response to SSL|expected authentication request",
        "is no PostgreSQL server. Check the host and port of the URL",
    ),
    (
        r"invalid \w+ value|unrecognized configuration|invalid value for parameter|number: \"",
        "does not take a setting of its URL. Mend it",
    ),
    (
        r"57P0|starting up|shutting down|refused|resolve|translate host|timeout|timed out|"
        r"not known|no answer|No such file|unreachable|terminating|closed the connection|"
        r"connection (is|to server|failed|socket|not)",
        "cannot be reached. Check that the server runs, and the host and port of the URL",
    ),
)
"""Patterns of SQLSTATE and message, and what to do."""

# Texts


_FORBIDDEN: Final = re.compile("[\x00\x1a\ud800-\udfff]")
"""What PostgreSQL does not take in a text, and the sign that stands for it here."""


def to_text(text: str) -> str:
    """Return a text as PostgreSQL takes it; others stay others.

    Example:
        >>> text = chr(0) + "a"
        >>> to_text(text) == text, from_text(to_text(text)) == text
        (False, True)
    """
    return _FORBIDDEN.sub(lambda found: f"\x1a{ord(found[0]):x}\x1a", text)


def from_text(stored: str) -> str:
    """Return the text that was stored."""
    return re.sub("\x1a([0-9a-f]+)\x1a", lambda found: chr(int(found[1], 16)), stored)


_pools: dict[str, PostgresPool] = {}
_pools_lock = threading.RLock()
_inherited: list[object] = []
"""Connections of the parent, never closed here: that would end them for the parent."""


def pool_of(url: str) -> PostgresPool:
    """Return the connections of this process to a database.

    Raises:
        PlaceError: It is no URL of one.
    """
    with _pools_lock:
        pool = _pools.get(url)
        if pool is None:
            pool = _pools[url] = PostgresPool(url)
        return pool


def identity_of(url: str) -> tuple[object, ...]:
    """Return what tells a schema of a database from all others, by whatever name it is reached.

    Raises:
        PlaceError: It is no URL of one.
        PostgresError: It cannot be reached.
    """
    query = (
        "SELECT (pg_control_system()).system_identifier, current_database(), current_schema()::text"
    )
    pool = pool_of(url)
    try:
        with pool.open() as connection:  # of whatever encoding: a ledger may be there
            found: tuple[object, ...] = connection.execute(query).fetchall()[0]
            return found
    except psycopg.Error as error:
        raise pool.explained(error) from error


@atexit.register
def close_all() -> None:
    """Close all connections that are not in use."""
    with _pools_lock:
        for pool in _pools.values():
            pool.close()


def _begin_anew_in_child() -> None:
    global _pools_lock
    _pools_lock = threading.RLock()
    for pool in _pools.values():
        _inherited.extend(pool._idle)
        pool._idle, pool._count, pool._failed = [], 0, None
        pool._changed = threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
