"""One migration at a time into a file or a database, whatever it copies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from langchain_tokenopt.core.errors import PlaceError
from langchain_tokenopt.storage import sqlite
from langchain_tokenopt.storage.places import place_of

__all__ = ["locked_for_migration", "pool_at"]

_MIGRATING: Final = 0x746F6B6D
"""The first half of the advisory lock; any constant. The second half stands for the schema."""


@contextmanager
def locked_for_migration(target: str | Path) -> Iterator[bool]:
    """Say whether nobody else copies to *target*; until the end of the block nobody else can.

    The lock ends with the process, however that ends. A file is locked by another one beside it,
    which is removed afterwards.

    Raises:
        PlaceError: It is no place, or one that cannot be written.
        PostgresError: The server cannot be used.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, locked_for_migration(f"{folder}/x.db") as first:
        ...     with locked_for_migration(f"{folder}/x.db") as second:
        ...         print(first, second)
        True False
    """
    place = place_of(target)
    with _locked_file(place) if isinstance(place, Path) else _locked_schema(place) as is_mine:
        yield is_mine


@contextmanager
def _locked_schema(url: str) -> Iterator[bool]:
    """Hold the lock by a transaction that stays open, which a pooler leaves on its connection."""
    pool = pool_at(url)
    with closing(pool.connect()) as connection:
        try:
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            (is_mine,) = connection.execute(
                "SELECT pg_try_advisory_xact_lock(%s, hashtext(coalesce(current_schema(), '')))",
                (_MIGRATING,),
            ).fetchone()
        except import_module("psycopg").Error as error:
            raise pool.explained(error) from error
        yield is_mine


def pool_at(url: str) -> Any:
    """Return the connections to a database.

    Raises:
        PlaceError: The driver is not installed, or it is no URL of a database.
    """
    try:
        return import_module("langchain_tokenopt.storage.postgres").pool_of(url)
    except ImportError as error:
        raise PlaceError(
            f"PostgreSQL needs the Python package {error.name!r}. "
            f'Install it: pip install "langchain-tokenopt[postgres]".'
        ) from error


@contextmanager
def _locked_file(path: Path) -> Iterator[bool]:
    target = path.resolve()
    if not target.parent.is_dir():
        raise PlaceError(f"the folder {target.parent} does not exist. Create it first.")
    lock = Path(f"{target}-migrating")
    connection, is_mine = _connection_to(lock)
    with closing(connection):
        yield is_mine
        if is_mine:
            with suppress(OSError):  # some systems keep what is open
                lock.unlink()


def _connection_to(lock: Path) -> tuple[sqlite3.Connection, bool]:
    """Lock the file of this name, and no other that had it before."""
    while True:
        try:
            lock.touch()
            before = sqlite.identity_of(lock)
            connection = sqlite3.connect(lock, timeout=0, isolation_level=None)
            try:
                connection.execute("BEGIN EXCLUSIVE")
                if sqlite.identity_of(lock) == before:
                    return connection, True
            except sqlite3.Error as error:
                if sqlite.is_locked(error):
                    return connection, False
                connection.close()
                raise
            connection.close()
        except sqlite.FileReplacedError:
            continue
        except (sqlite3.Error, OSError) as error:
            raise PlaceError(f"{lock} cannot be made: {error}. Name another target.") from error
