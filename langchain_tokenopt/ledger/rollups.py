"""Hourly sums: how they follow from the rows, written once, in SQL.

The writer adds the rows it has just inserted, ``check`` compares all rows with all sums, and
queries read whole hours from the sums and the hours that are only partly asked for from the rows.
All three use the expressions of this module, so they cannot disagree about what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    case,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from langchain_tokenopt.core.records import COUNTS
from langchain_tokenopt.core.usage import TOKEN_COUNTS
from langchain_tokenopt.ledger.rows import HOUR_US, STATUSES
from langchain_tokenopt.ledger.schema import (
    SAVING_COUNTS,
    call_hours,
    calls,
    saving_hours,
    savings,
)

CALL_KEYS = ("hour", "origin")
SAVING_KEYS = ("hour", "origin", "stage", "output_side", "observed")


def hour_of(table: Table) -> ColumnElement[int]:
    """Return the hour since 1970 of a row."""
    return table.c.started_at // HOUR_US


def call_sums() -> list[ColumnElement[Any]]:
    """Return ``UsageTotals``' counts as sums over rows of ``calls``.

    What a cache answered was not spent again: it counts as a call, as cached, and as saved.
    """
    c = calls.c
    billed = c.cached == 0

    def spent(number: Any) -> ColumnElement[Any]:
        return _sum(case((billed, number), else_=0))

    tokens = {name: spent(c[name]) for name in COUNTS if name in TOKEN_COUNTS}
    return _in_order(
        COUNTS,
        calls=func.count(),
        cached_calls=_sum(c.cached),
        estimated_calls=spent(c.estimated),
        failed_calls=spent(case((c.status == STATUSES.index("failed"), 1), else_=0)),
        unpriced_calls=spent(
            case((c.cost_nano_usd.is_(None) | c.unpriced.is_not(None), 1), else_=0)
        ),
        cost_nano_usd=spent(func.coalesce(c.cost_nano_usd, 0)),
        saved_tokens=_sum(case((billed, 0), else_=c.input_tokens + c.output_tokens)),
        saved_nano_usd=_sum(func.coalesce(c.saved_nano_usd, 0)),
        **tokens,
    )


def saving_sums() -> list[ColumnElement[Any]]:
    """Return the sums over rows of ``savings``."""
    s = savings.c
    return _in_order(
        SAVING_COUNTS,
        savings=func.count(),
        inexact=_sum(1 - s.exact),
        unpriced=_sum(case((s.saved_nano_usd.is_(None), 1), else_=0)),
        tokens_before=_sum(s.tokens_before),
        tokens_after=_sum(s.tokens_after),
        spent_tokens=_sum(s.spent_tokens),
        saved_nano_usd=_sum(func.coalesce(s.saved_nano_usd, 0)),
    )


def _in_order(names: Sequence[str], **sums: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    return [sums[name].label(name) for name in names]


def hour_sums(table: Table) -> list[ColumnElement[Any]]:
    """Return the same sums, over rows of a rollup."""
    counts = COUNTS if table is call_hours else SAVING_COUNTS
    return [func.sum(table.c[name]).label(name) for name in counts]


def _sum(number: Any) -> ColumnElement[Any]:
    return func.coalesce(func.sum(number), 0)


def calls_by_hour() -> Select[Any]:
    """Return the query whose answer ``call_hours`` holds."""
    hour = hour_of(calls).label("hour")
    return select(hour, calls.c.origin, *call_sums()).group_by(hour, calls.c.origin)


def savings_by_hour() -> Select[Any]:
    """Return the query whose answer ``saving_hours`` holds."""
    hour = hour_of(savings).label("hour")
    keys = [hour, *(savings.c[name] for name in SAVING_KEYS[1:])]
    return select(*keys, *saving_sums()).group_by(*keys)


def add_rows_after(connection: Connection, call_seq: int, saving_seq: int) -> None:
    """Add to the sums what was inserted since those row numbers."""
    to_calls, to_savings = _additions(connection.dialect.name)
    connection.exec_driver_sql(to_calls, (call_seq,))
    connection.exec_driver_sql(to_savings, (saving_seq,))


@cache
def _additions(dialect: str) -> tuple[str, str]:
    """Return the two statements as text: SQLAlchemy would take a millisecond to build them anew."""
    after: Any = literal_column("after_this")
    mark = "?" if dialect == "sqlite" else "%s"
    statements = (
        _addition(dialect, call_hours, CALL_KEYS, calls_by_hour().where(calls.c.seq > after)),
        _addition(
            dialect, saving_hours, SAVING_KEYS, savings_by_hour().where(savings.c.seq > after)
        ),
    )
    to_calls, to_savings = (statement.replace("after_this", mark) for statement in statements)
    return to_calls, to_savings


def _addition(dialect: str, hours: Table, keys: Sequence[str], of_rows: Select[Any]) -> str:
    own: Any = sqlite if dialect == "sqlite" else postgresql
    counts = [column.name for column in hours.columns if column.name not in keys]
    insert = own.insert(hours).from_select([*keys, *counts], of_rows)
    insert = insert.on_conflict_do_update(
        index_elements=list(keys),
        set_={name: hours.c[name] + insert.excluded[name] for name in counts},
    )
    return str(insert.compile(dialect=own.dialect(), compile_kwargs={"literal_binds": True}))


def rebuild(connection: Connection) -> None:
    """Compute all sums anew from the rows."""
    for hours in (call_hours, saving_hours):
        connection.execute(hours.delete())
    add_rows_after(connection, 0, 0)


def differences(connection: Connection) -> list[str]:
    """Say where the sums differ from the rows; empty when they are equal."""
    found = []
    for hours, keys, of_rows in (
        (call_hours, CALL_KEYS, calls_by_hour()),
        (saving_hours, SAVING_KEYS, savings_by_hour()),
    ):
        counts = [column.name for column in hours.columns if column.name not in keys]
        stored = _by_key(connection, select(*(hours.c[name] for name in (*keys, *counts))), keys)
        counted = _by_key(connection, of_rows, keys)
        for key in sorted(stored.keys() | counted.keys()):
            here, there = stored.get(key), counted.get(key)
            if here != there:
                where = ", ".join(f"{n} {k}" for n, k in zip(keys, key, strict=True))
                found.append(f"{hours.name} at {where}: {_described(counts, here, there)}")
    return found


def _by_key(
    connection: Connection, query: Select[Any], keys: Sequence[str]
) -> dict[tuple[int, ...], tuple[int, ...]]:
    width = len(keys)
    return {
        tuple(map(int, row[:width])): tuple(map(int, row[width:]))
        for row in connection.execute(query)
    }


def _described(
    counts: Sequence[str], stored: tuple[int, ...] | None, counted: tuple[int, ...] | None
) -> str:
    if stored is None:
        return "no sum is stored for rows that exist"
    if counted is None:
        return "a sum is stored for rows that do not exist"
    return "; ".join(
        f"{name} is {here:,} but the rows add up to {there:,}"
        for name, here, there in zip(counts, stored, counted, strict=True)
        if here != there
    )
