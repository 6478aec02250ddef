"""What a ledger keeps: calls for some time, and their sums for ever.

Old calls go in small steps, each a transaction of a writer's: whoever is killed leaves a whole step
to the next one. First the time is written down before which nothing is kept (the horizon): from
then on sums of earlier hours and days are all that is known of them, and they are never computed
again. Then the rows go: in PostgreSQL whole months, by dropping their partitions, if the user owns
them; all else some thousand rows at a time. In the end the names go that nothing bears any more.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Table, exists, func, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.ledger import partitions
from langchain_tokenopt.ledger.database import LONG_SECONDS, Database, LedgerError
from langchain_tokenopt.ledger.forgetting import borne_names
from langchain_tokenopt.ledger.rollups import horizon_of
from langchain_tokenopt.ledger.rows import DAY_US
from langchain_tokenopt.ledger.schema import (
    budget_events,
    calls,
    forgettings,
    names,
    runs,
    savings,
    tool_choices,
)

__all__ = ["Keeper", "keep_from", "maintain", "remove_old"]

STEP_ROWS: Final = 5_000
"""How many rows go in one transaction: others that write wait for it."""
MONTHS_AHEAD: Final = 12
"""Of partitions that :func:`maintain` makes."""
OFTEN_SECONDS: Final = 3_600.0
"""How often a ledger looks for what is too old."""

_LENGTH: Final = re.compile(r"(\d{1,5})\s*(d|days?|w|weeks?)")


def keep_from(keep: timedelta | str) -> timedelta:
    """Return how long calls are kept.

    Raises:
        ValueError: The text is no length of time, or it is less than a day.

    Example:
        >>> keep_from("90 days"), keep_from("2w")
        (datetime.timedelta(days=90), datetime.timedelta(days=14))
    """
    length = keep
    if isinstance(keep, str) and (found := _LENGTH.fullmatch(keep.strip().lower())):
        length = timedelta(days=int(found[1]) * (7 if found[2].startswith("w") else 1))
    if not isinstance(length, timedelta):
        raise ValueError(
            f"keep={keep!r} is no length of time. Write '90 days', '12w' or timedelta(days=90)."
        )
    if length < timedelta(days=1):
        raise ValueError(f"keep={keep!r} is less than a day; calls are kept for at least one.")
    return length


def maintain(database: Database, keep: timedelta | None) -> int:
    """Make partitions for a year ahead and for rows that wait for one; remove what is too old.

    Returns:
        How many calls have been removed.

    Raises:
        LedgerError: The user does not own the tables.
    """
    removed = 0 if keep is None else remove_old(database, keep)
    if database.is_sqlite:
        return removed
    with database.connect_to_write() as connection:
        with database.writing(connection):
            if not partitions.may_make(connection):
                raise LedgerError(
                    f"{database.label} is not this user's: only who owns its tables can make "
                    f"partitions. Name the owner in the URL."
                )
            months = partitions.months_among_others(connection)
        now = partitions.this_month()
        for month in sorted({*months, *range(now, now + MONTHS_AHEAD + 1)}):
            with database.writing(connection):
                partitions.make(connection, [month], most_rows=None)
    return removed


def remove_old(database: Database, keep: timedelta) -> int:
    """Remove what began longer ago than is kept; sums stay. Returns how many calls went.

    What was interrupted goes on. Any number of processes may do this at the same time.

    Raises:
        LedgerError: The ledger cannot be written.
    """
    with database.connect_to_write() as connection:
        before = _move_horizon(database, connection, keep)
        removed, all_dropped = 0, True
        if not database.is_sqlite:
            removed, all_dropped = _drop_months(database, connection, before)
        if all_dropped:
            removed += _delete_rows(database, connection, before)
    _delete_names(database)
    return removed


def _move_horizon(database: Database, connection: Connection, keep: timedelta) -> int:
    """Write down from when on records are kept; it never goes back."""
    with database.writing(connection):
        before = _wanted_horizon(database, connection, keep)
        known = horizon_of(connection)
        if before > known:
            connection.execute(forgettings.insert().values(at=time.time_ns(), calls_before=before))
    return max(before, known)


def _wanted_horizon(database: Database, connection: Connection, keep: timedelta) -> int:
    """Return the begin of a day, or with partitions of a month."""
    if database.is_sqlite:
        now = time.time_ns() // 1_000
    else:  # one worker's wrong clock must not empty the ledger of all
        now = int(connection.scalar(text("SELECT extract(epoch FROM now()) * 1000000")) or 0)
    oldest = max(0, now - keep // timedelta(microseconds=1))
    if database.is_sqlite:
        return oldest // DAY_US * DAY_US
    return partitions.start_of(partitions.month_of(oldest))


def _drop_months(database: Database, connection: Connection, before: int) -> tuple[int, bool]:
    """Return how many calls went, and whether no month is left that could be dropped later."""
    removed = 0
    try:
        while True:
            with database.writing(connection):
                if not partitions.may_make(connection):
                    return removed, True
                count = partitions.drop_before(connection, before)
            if count is None:
                return removed, True
            removed += count
    except OperationalError as error:
        if error.connection_invalidated:  # the server is gone
            raise
        return removed, False  # somebody reads for long


def _delete_rows(database: Database, connection: Connection, before: int) -> int:
    removed = 0
    for table in (savings, tool_choices, budget_events, calls):
        at = table.c.at if table is budget_events else table.c.started_at
        while True:
            with database.writing(connection):
                deleted = _delete_some(connection, table, at, before)
            removed += deleted if table is calls else 0
            if deleted < STEP_ROWS:
                break
    while True:
        without_calls = ~exists().where(calls.c.run == runs.c.run)
        some = select(runs.c.run).where(runs.c.started_at < before, without_calls).limit(STEP_ROWS)
        with database.writing(connection):
            found = connection.execute(runs.delete().where(runs.c.run.in_(some)))
        if found.rowcount < STEP_ROWS:
            return removed


def _delete_some(connection: Connection, table: Table, at: Any, before: int) -> int:
    wanted = [at < before]
    if table is savings:  # a stage acts before the call begins that it is told of
        later = exists().where(calls.c.id == savings.c.call, calls.c.started_at >= before)
        wanted.append((at < before - partitions.LATE_US) | ~later)
    some = select(table.c.seq).where(*wanted).limit(STEP_ROWS)
    return connection.execute(table.delete().where(table.c.seq.in_(some), at < before)).rowcount


def _delete_names(database: Database) -> None:
    """Delete the names that nothing bears. Who reads all for that hinders nobody who writes."""
    with database.connect_to_read(LONG_SECONDS) as reading, reading.begin():
        last = {t: reading.scalar(select(func.max(t.c.seq))) or 0 for t in _BEARERS}
        borne = borne_names().subquery("borne")
        unused = select(names.c.id).except_(select(borne.c[0]))
        found = reading.execute(unused, execution_options={"yield_per": STEP_ROWS})
        with database.connect_to_write() as connection:
            for part in found.scalars().partitions(STEP_ROWS):
                with database.writing(connection):
                    gone = set(part) - set(_named_since(connection, last))
                    connection.execute(names.delete().where(names.c.id.in_(gone)))
                    connection.execute(forgettings.insert().values(at=time.time_ns()))


_BEARERS: Final = (calls, savings, tool_choices)


def _named_since(connection: Connection, last: dict[Table, int]) -> Iterator[int]:
    for table, number in last.items():
        columns = [table.c.user, table.c.thread_id, table.c.run]
        columns += [savings.c.stage] if table is savings else []
        for row in connection.execute(select(*columns).where(table.c.seq > number)):
            yield from (value for value in row if value)


class Keeper:
    """Removes what is too old from time to time, in a thread of its own.

    Args:
        database: Of the ledger.
        keep: How long calls are kept.
    """

    def __init__(self, database: Database, keep: timedelta) -> None:
        self._database = database
        self._keep = keep
        self.rounds = 0
        """How often all of it was done."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tokenopt-keep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the step that it is at; nobody waits for it."""
        self._end.set()

    def _work(self) -> None:
        warned = False
        while not self._end.is_set():
            try:
                remove_old(self._database, self._keep)
                self.rounds += 1
            except (LedgerError, SQLAlchemyError, sqlite3.Error, OSError) as error:
                if not warned and not self._end.is_set():
                    warned = True
                    reason = self._database.explained(error)
                    warnings.warn(
                        f"{reason} What is older than {self._keep.days} days stays for now.",
                        TokenOptWarning,
                        stacklevel=1,
                    )
            self._end.wait(OFTEN_SECONDS)
