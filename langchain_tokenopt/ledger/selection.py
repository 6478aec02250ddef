"""Which rows a question is about, and what the numbers in them stand for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, FromClause, exists, func, select

from langchain_tokenopt.core.dimensions import MANY_VALUED, UNATTRIBUTED, Filters
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.ledger import rows
from langchain_tokenopt.ledger.measures import width_of
from langchain_tokenopt.ledger.rollups import horizon_of
from langchain_tokenopt.ledger.rows import OWN_RUN
from langchain_tokenopt.ledger.schema import ORIGIN_FIELDS, ROLLUPS, calls, names, origins
from langchain_tokenopt.ledger.window import Span, Window

__all__ = ["PAGE", "PAGED", "Key", "Selection", "plain"]

PAGE = 500
PAGED = {"yield_per": PAGE}

_MOST_PIECES = 20
"""Of more pages of origins all are read at once."""

Key = tuple[Any, ...]


class Selection:
    """A period and filters, over one state of the database.

    Args:
        connection: A reading transaction.
        window: The period.
        filters: Which calls, by the names that stand in the ledger.
    """

    def __init__(self, connection: Connection, window: Window, filters: Filters) -> None:
        self.connection = connection
        self.window = window
        self._origins: dict[int, Mapping[str, str]] = {}
        self._has_warned = False
        given: dict[str, str] = dict(filters)  # type: ignore[arg-type]
        self._origin_wanted = {
            name: "" if value == UNATTRIBUTED else rows.clean(value)
            for name, value in given.items()
            if name in ORIGIN_FIELDS
        }
        self._personal: dict[str, tuple[str, int | None]] = {
            name: (value, self._number_of(value))
            for name, value in given.items()
            if name in MANY_VALUED
        }

    @cached_property
    def horizon(self) -> int:
        """When the rows begin, in microseconds; of what was before only the sums are known."""
        return horizon_of(self.connection)

    def lacks_rows(self, start: int) -> None:
        """Warn, once, if a question needs rows from before the horizon."""
        if start < self.horizon and not self._has_warned and self._were_there_more():
            self._has_warned = True
            warnings.warn(
                f"calls from before {rows.moment_of(self.horizon):%Y-%m-%d} are not kept any more, "
                f"only their sums by hour, agent, model... and by user: what needs the calls "
                f"themselves begins there.",
                TokenOptWarning,
                stacklevel=2,
            )

    def _were_there_more(self) -> bool:
        """Whether there are sums of what was removed."""
        return any(
            self.connection.scalar(
                select(exists().where(table.columns[0] < self.horizon // width_of(rollup, table)))
            )
            for rollup in ROLLUPS
            for table in rollup.tables
        )

    @property
    def is_everything(self) -> bool:
        """Whether there are no filters."""
        return not self._origin_wanted and not self._personal

    @property
    def users(self) -> list[int]:
        """The user that is asked for, if nothing else is."""
        chosen = {name: number for name, (_, number) in self._personal.items()}
        return [chosen["user"]] if chosen.keys() == {"user"} and chosen["user"] else []

    @property
    def origin_fields(self) -> set[str]:
        """What is asked for of the origin of calls, if nothing else is."""
        return set() if self._personal else set(self._origin_wanted)

    @property
    def keys(self) -> set[str]:
        """What sums must be told apart by, so that the filters can choose among them."""
        return self._personal.keys() | ({"origin"} if self._origin_wanted else set())

    def origins(self, numbers: Iterable[int]) -> Mapping[int, Mapping[str, str]]:
        """Return agent, model, tool... of at least these origins."""
        missing = list(set(numbers) - self._origins.keys())
        query = select(origins.c.id, *(origins.c[name] for name in ORIGIN_FIELDS))
        pieces = [missing[start : start + PAGE] for start in range(0, len(missing), PAGE)]
        few = [query.where(origins.c.id.in_(piece)) for piece in pieces]
        for each in few if len(few) <= _MOST_PIECES else [query]:
            for number, *values in self.connection.execute(each):
                self._origins[number] = dict(zip(ORIGIN_FIELDS, values, strict=True))
        return self._origins

    def _number_of(self, value: str) -> int | None:
        if value == UNATTRIBUTED:
            return 0
        key = rows.key_of(rows.clean(value))
        return self.connection.scalar(select(names.c.id).where(names.c.key == key))

    # Conditions

    def of(
        self,
        table: FromClause,
        span: Span | None = None,
        *,
        unordered: bool = False,
        by_run: bool = False,
    ) -> list[ColumnElement[bool]]:
        """Return what rows of *table* in the period, or in a part of it, have to meet.

        Args:
            table: Which.
            span: The part, in microseconds.
            unordered: They may come in any order: most of a table is read faster than by an index.
            by_run: They are rows of few runs: calls are found by those, by no other index.
        """
        start, end = span or (self.window.start, self.window.end)
        started: ColumnElement[Any] = table.c.started_at
        by_run = by_run and table is calls
        is_sqlite = self.connection.dialect.name == "sqlite"
        if by_run or (unordered and is_sqlite and self._is_most(start, end)):
            started = started + 0
        found: list[ColumnElement[bool]] = []
        if start > 0:
            found.append(started >= start)
        if end < Window.FOREVER:
            found.append(started < end)
        return found + self.chosen(table, by_user=not by_run)

    def _is_most(self, start: int, end: int) -> bool:
        first, last = self._ends
        return 2 * (min(end, last) - max(start, first)) > last - first

    @cached_property
    def _ends(self) -> Span:
        ends = (func.min(calls.c.started_at), func.max(calls.c.started_at))
        first, last = (self.connection.scalar(select(end)) or 0 for end in ends)
        return first, last

    def chosen(self, table: FromClause, *, by_user: bool = True) -> list[ColumnElement[bool]]:
        """Return what rows, or sums, have to meet at any time; an index of users may find them."""
        found: list[ColumnElement[bool]] = []
        if self._origin_wanted:
            made = select(origins.c.id).where(*self.chosen_origins())
            found.append(table.c.origin.in_(made))
        for name, (value, number) in self._personal.items():
            column = table.c[name] + 0 if name == "user" and not by_user else table.c[name]
            found.append(_personal_condition(table, column, name, value, number))
        return found

    def chosen_origins(self) -> list[ColumnElement[bool]]:
        """Return what origins have to meet."""
        return [origins.c[name] == value for name, value in self._origin_wanted.items()]

    # Names

    def names(self, numbers: Iterable[int]) -> dict[int, str]:
        """Return the names of users, threads, runs and stages."""
        wanted, found = [number for number in set(numbers) if number], {}
        for start in range(0, len(wanted), PAGE):
            query = select(names).where(names.c.id.in_(wanted[start : start + PAGE]))
            for number, key in self.connection.execute(query):
                found[number] = rows.name_of(bytes(key))
        return found

    def personal_names(self, keys: Iterable[Key]) -> dict[Key, str]:
        """Return the names of users, threads and runs; a call that is a run has its own id."""
        wanted = list(keys)
        name = self.names(key[0] or 0 for key in wanted)
        found: dict[Key, str] = {key: name[key[0]] for key in wanted if key[0]}
        return found | {
            key: str(UUID(bytes=key[1])) for key in wanted if key[0] == OWN_RUN and len(key) == 2
        }


def _personal_condition(
    table: FromClause, column: ColumnElement[Any], name: str, value: str, number: int | None
) -> ColumnElement[bool]:
    if value == UNATTRIBUTED:
        return column.is_(None) | (column == 0) if name == "user" else column.is_(None)
    known = column == (-1 if number is None else number)
    key = rows.key_of(rows.clean(value))
    if name == "run" and len(key) == 16:  # perhaps a call that is a run of its own
        own = table.c.id if table is calls else table.c.call
        return known | ((column == OWN_RUN) & (own == key))
    return known


def plain(row: Iterable[Any]) -> Key:
    """Return a row as a key: PostgreSQL's bytes cannot be looked up."""
    return tuple(bytes(part) if isinstance(part, memoryview) else part for part in row)
