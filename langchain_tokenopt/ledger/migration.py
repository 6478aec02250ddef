"""A ledger from one database into another: a file into PostgreSQL, or back."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Integer, Row, Table, cast, func, select, text
from sqlalchemy.exc import DBAPIError

from langchain_tokenopt.ledger import partitions, rollups
from langchain_tokenopt.ledger.database import LONG_SECONDS, Database, LedgerError
from langchain_tokenopt.ledger.schema import DERIVED, forgettings, ledger_schema, metadata

__all__ = ["checked_ledger_copy"]

BATCH_ROWS: Final = 10_000
_PART: Final = 1 << 20

_TABLES: Final = [table for table in metadata.sorted_tables if table is not ledger_schema]


@contextmanager
def checked_ledger_copy(
    source: str | Path, target: str | Path
) -> Iterator[Callable[[Counter[str]], dict[str, int]]]:
    """Look whether a ledger can be copied, and yield what copies it.

    *source* is read as it is at one moment.

    Yields:
        A function that counts in its argument the rows it copies, and returns the rows per table,
        the same in both.

    Raises:
        LedgerError: One of them cannot be used, *source* does not add up, or *target* has rows that
            *source* has not; these stay, and nothing is added.
    """
    old, new = Database(source, read_only=True), Database(target)
    try:
        with (
            old.connect_to_read(LONG_SECONDS) as reading,
            new.connect_to_write() as writing,
            reading.begin(),
        ):
            with new.writing(writing, stopped_seconds=LONG_SECONDS):
                last = {
                    table.name: _last_in_both(table, number, reading, writing, new)
                    for table in _TABLES
                    if (number := _number_of(table)) is not None
                }
            _refuse_wrong_sums(reading, old)
            yield partial(_copy, last, reading, writing, new)
    except (DBAPIError, sqlite3.Error, OSError, new.engine.dialect.loaded_dbapi.Error) as error:
        raise new.explained(error) from error


def _copy(
    last: dict[str, int | None],
    reading: Connection,
    writing: Connection,
    new: Database,
    copied: Counter[str],
) -> dict[str, int]:
    if not new.is_sqlite:
        _make_months(reading, writing, new)
    for table in _TABLES:
        if table.name in last:
            _copy_behind(table, last[table.name], reading, writing, new, copied)
    with new.writing(writing, stopped_seconds=LONG_SECONDS):  # while the source is read
        for table in _TABLES:
            if table.name not in last:
                _replace(table, reading, writing)
        found = {table.name: _sums(table, writing) for table in _TABLES}
        if found != {table.name: _sums(table, reading) for table in _TABLES}:
            raise LedgerError(_different(new))
        _refuse_wrong_sums(writing, new)
    return {name: sums[0] for name, sums in found.items()}


def _refuse_wrong_sums(connection: Connection, database: Database) -> None:
    wrong = rollups.differences(connection)
    if wrong:
        raise LedgerError(f"{database.label} does not add up: {wrong[0]}.")


def _number_of(table: Table) -> Column[int] | None:
    """Return the column that numbers the rows, where one does and no row is ever changed."""
    if table in (*DERIVED, forgettings):
        return None
    key = list(table.primary_key.columns)
    return key[0] if len(key) == 1 and isinstance(key[0].type, Integer) else None


def _last_in_both(
    table: Table, number: Column[int], reading: Connection, writing: Connection, new: Database
) -> int | None:
    """Return the last row that the target has; it and all before it are those of the source.

    Raises:
        LedgerError: They are others.
    """
    last: int | None = writing.scalar(select(func.max(number)))
    if last is not None:
        query = select(table).where(number <= last).order_by(number)
        pairs = zip_longest(reading.execute(query), writing.execute(query))
        if any(
            before is None or after is None or tuple(before) != tuple(after)
            for before, after in pairs
        ):
            raise LedgerError(_different(new))
    return last


def _copy_behind(
    table: Table,
    last: int | None,
    reading: Connection,
    writing: Connection,
    new: Database,
    copied: Counter[str],
) -> None:
    """Copy the rows behind *last*, some thousand at a time."""
    number = _number_of(table)
    assert number is not None
    while True:
        query = select(table).order_by(number).limit(BATCH_ROWS)
        found = reading.execute(query if last is None else query.where(number > last)).all()
        if not found:
            break
        with new.writing(writing):
            _insert(table, found, writing)
            last = found[-1][list(table.columns).index(number)]
            if number.name == "seq" and not new.is_sqlite:
                set_next = text("SELECT setval(pg_get_serial_sequence(:name, 'seq'), :last)")
                writing.execute(set_next, {"name": table.name, "last": last})
        copied[table.name] += len(found)


def _replace(table: Table, reading: Connection, writing: Connection) -> None:
    """Copy all of what follows from other rows."""
    writing.execute(table.delete())
    for rows in reading.execute(select(table)).partitions(BATCH_ROWS):
        _insert(table, rows, writing)


def _make_months(reading: Connection, writing: Connection, new: Database) -> None:
    """Let each month have its partition before its rows come, where this user may make some."""
    months = {
        month
        for name in partitions.TABLES
        for month in partitions.months_in(reading, metadata.tables[name].c.started_at)
    }
    with new.writing(writing):
        if partitions.may_make(writing):
            partitions.make(writing, months, most_rows=None)


def _insert(table: Table, rows: Sequence[Row[Any]], writing: Connection) -> None:
    if writing.dialect.name == "sqlite":
        keys = table.columns.keys()
        writing.execute(table.insert(), [dict(zip(keys, row, strict=True)) for row in rows])
        return
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    cursor: Any = writing.connection.cursor()
    with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copying:
        for row in rows:
            copying.write_row(row)
    cursor.close()


def _sums(table: Table, connection: Connection) -> list[int]:
    """Return how many rows there are, and the sum of every column of numbers."""
    columns = [column for column in table.columns if isinstance(column.type, Integer)]
    numbers = [cast(column, BigInteger) for column in columns]
    # In two parts: five thousand times in microseconds are more than a sum in SQLite can hold.
    parts = [part for number in numbers for part in (number // _PART, number % _PART)]
    query: Any = select(func.count(), *map(func.sum, parts)).select_from(table)
    rows, *sums = [int(value or 0) for value in connection.execute(query).one()]
    return [rows, *(_PART * high + low for high, low in zip(sums[::2], sums[1::2], strict=True))]


def _different(new: Database) -> str:
    return f"{new.label} has other records than the source. Copy into an empty ledger."
