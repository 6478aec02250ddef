"""The rows of one transaction: events, with names and origins turned into numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, LargeBinary, Table, any_, cast, select
from sqlalchemy.dialects.postgresql import ARRAY

from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, ToolChoice, UsageEvent
from langchain_tokenopt.ledger import rows
from langchain_tokenopt.ledger.partitions import TABLES as PARTITIONED
from langchain_tokenopt.ledger.rollups import New
from langchain_tokenopt.ledger.rows import OWN_RUN, Origin
from langchain_tokenopt.ledger.schema import (
    budget_events,
    calls,
    columns_of,
    names,
    origins,
    savings,
    tool_choices,
)

__all__ = ["UNSTORABLE", "Batch", "KnownIds"]

UNSTORABLE = (TypeError, ValueError, AttributeError, OverflowError, KeyError)
"""What :meth:`Batch.add` raises for a record whose fields are not what their types say."""

_MOST_KNOWN = 50_000
_CHUNK = 512  # rows in one INSERT; 28 columns * 512 stay below SQLite's 32,766 parameters

_IDS = ARRAY(LargeBinary)

_ITS_OWN = ""
"""In place of a run's name: the call is a run of its own."""

_NO_NAMES: dict[str | None, int | None] = {None: None, _ITS_OWN: OWN_RUN}


class KnownIds:
    """Numbers that the database has given, as far as they are remembered."""

    def __init__(self) -> None:
        self.names = dict(_NO_NAMES)
        self.origins: dict[Origin, int] = {}
        self._forgettings = 0

    def forget_some(self, forgettings: int) -> None:
        """Stay bounded; forget all when records were deleted, and perhaps their names with them."""
        deleted, self._forgettings = forgettings != self._forgettings, forgettings
        if deleted or len(self.names) > _MOST_KNOWN:
            self.names = dict(_NO_NAMES)
        if deleted or len(self.origins) > _MOST_KNOWN:
            self.origins = {}


class Batch:
    """The rows of one transaction, while names turn into numbers.

    Args:
        known: Numbers that need not be looked up; new ones are added.
        horizon: What began earlier is not kept any more: it may have been here, and been counted.
    """

    def __init__(self, known: KnownIds, horizon: int = 0) -> None:
        self._known = known
        self._horizon = horizon
        self._calls: list[tuple[list[Any], Origin, list[str | None], list[Any]]] = []
        self._savings: list[tuple[list[Any], str, Origin, list[str | None], bytes | None]] = []
        self._choices: list[tuple[list[Any], Origin, list[str | None], bytes | None]] = []
        self._budget_events: list[list[Any]] = []
        self._saving_ids: set[bytes] = set()

    @property
    def times(self) -> list[int]:
        """When what was added began, in microseconds since 1970."""
        parts = (self._calls, self._savings, self._choices)
        return [row[0][1] for part in parts for row in part]

    def add(self, event: UsageEvent, at: int) -> None:
        """Add an event.

        Args:
            event: What is stored.
            at: When it came, in microseconds since 1970, in case it does not say.

        Raises:
            Exception: One of :data:`UNSTORABLE`: it cannot be stored, and is left out.
        """
        if isinstance(event, CallRecord):
            self._add_call(event)
        elif isinstance(event, Saving):
            self._add_saving(event, at)
        elif isinstance(event, ToolChoice):
            self._add_choice(event, at)
        elif isinstance(event, BudgetEvent):
            happened = max(0, rows.microseconds(event.at)) if event.at else at
            self._budget_events.append(rows.budget_row(event, happened))

    def _add_call(self, call: CallRecord) -> None:
        numbers, last = rows.call_numbers(call)
        self._refuse_old(numbers[1])
        origin = rows.origin_of(call)
        made_by = call.attribution
        run = call.run or None
        if run is not None and run not in self._known.names and run == str(call.run_id):
            run = _ITS_OWN
        called = [made_by.user or None, made_by.thread_id or None, run]
        hash((origin, *called))  # refuse here, alone, what could not be looked up later
        self._calls.append((numbers, origin, called, last))
        for saving in call.savings:
            self._append_saving(saving, numbers[1], origin, called, numbers[0])
        if call.tool_choice is not None:
            choice = rows.choice_numbers(call.tool_choice, numbers[1])
            self._choices.append((choice, origin, called, numbers[0]))

    def _refuse_old(self, started_at: int) -> None:
        if started_at < self._horizon:
            raise ValueError(
                f"it is of {rows.moment_of(started_at):%Y-%m-%d}, and this ledger keeps nothing "
                f"from before {rows.moment_of(self._horizon):%Y-%m-%d} any more"
            )

    def _add_choice(self, choice: ToolChoice, at: int) -> None:
        started_at = max(0, rows.microseconds(choice.at)) if choice.at else at
        self._refuse_old(started_at)
        call = None if choice.run_id is None else choice.run_id.bytes
        origin = rows.origin_alone(choice)
        hash(origin)
        numbers = rows.choice_numbers(choice, started_at)
        self._choices.append((numbers, origin, [None] * 3, call))

    def _add_saving(self, saving: Saving, at: int) -> None:
        started_at = max(0, rows.microseconds(saving.at)) if saving.at else at
        self._refuse_old(started_at)
        call = None if saving.run_id is None else saving.run_id.bytes
        origin = rows.origin_alone(saving)
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

    def new_after(self, call_seq: int, saving_seq: int) -> New:
        """Return what was inserted after those row numbers."""
        times = self.times or [0]
        return New(
            call_seq,
            saving_seq,
            min(times) - 1,
            max(times),
            calls=bool(self._calls),
            savings=bool(self._savings),
            results=any(last[-1] for _, _, _, last in self._calls),
        )

    # Numbers

    def insert(self, connection: Connection, last_name: int, last_origin: int) -> None:
        """Insert everything: new names and origins first, then what refers to them."""
        _insert(connection, names, self._number_names(connection, last_name))
        _insert(connection, origins, self._number_origins(connection, last_origin))
        name, number = self._known.names, self._known.origins
        for numbers, origin, (user, thread, run), last in self._calls:
            numbers += (number[origin], name[user], name[thread], name[run], *last)
        _insert(connection, calls, [row[0] for row in self._calls])
        _insert(
            connection,
            savings,
            [
                (
                    *numbers[:2],
                    name[stage],
                    *numbers[2:],
                    number[origin],
                    *(name[part] for part in called),
                    call,
                )
                for numbers, stage, origin, called, call in self._savings
            ],
        )
        _insert(
            connection,
            tool_choices,
            [
                (*numbers, number[origin], *(name[part] for part in called), call)
                for numbers, origin, called, call in self._choices
            ],
        )
        _insert(connection, budget_events, self._budget_events)

    def _number_names(self, connection: Connection, last: int) -> list[Any]:
        known = self._known.names
        used = chain(
            chain.from_iterable(called for _, _, called, _ in self._calls),
            chain.from_iterable((stage, *called) for _, stage, _, called, _ in self._savings),
            chain.from_iterable(called for _, _, called, _ in self._choices),
        )
        fresh_names = dict.fromkeys(text for text in used if text not in known)
        keys = {text: rows.key_of(rows.clean(text)) for text in fresh_names}
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
        known = self._known.origins
        used = chain(
            (row[1] for row in self._calls),
            (row[2] for row in self._savings),
            (row[1] for row in self._choices),
        )
        fresh_origins = dict.fromkeys(origin for origin in used if origin not in known)
        cleaned = {origin: tuple(map(rows.clean, origin)) for origin in fresh_origins}
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

    In PostgreSQL ids are unique in each partition, so those of other months are looked for.

    Many rows go into one statement: SQLite lets other threads run while it works on a statement,
    and taking turns for every single row would make the writer wait for them every time.
    Sizes are powers of two, so that few statements are prepared and all of them are reused.
    """
    if table.name in PARTITIONED and connection.dialect.name == "postgresql":
        by_id = {bytes(row[0]): row for row in reversed(table_rows)}
        query = select(table.c.id).where(table.c.id == any_(cast(list(by_id), _IDS)))
        for known in connection.scalars(query) if by_id else ():
            del by_id[bytes(known)]
        table_rows = list(by_id.values())[::-1]
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
