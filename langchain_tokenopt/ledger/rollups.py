"""Sums of hours and days: how they follow from the rows, written once, in SQL.

The writer adds the rows it has just inserted, ``check`` compares all rows with all sums, and
questions read whole hours and days from the sums and the rest from the rows. All three use the
expressions of this module, so they cannot disagree about what is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    case,
    exists,
    func,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from langchain_tokenopt.ledger.measures import (
    LATENCY,
    MEASURES,
    RESULTS,
    SAVED,
    SPEND,
    Source,
    costs_by_run,
    costs_of,
    named_runs,
    own_runs,
    total,
    width_of,
)
from langchain_tokenopt.ledger.rows import DAY_US, OWN_RUN
from langchain_tokenopt.ledger.schema import Rollup, calls, forgettings, run_sums, runs, savings
from langchain_tokenopt.ledger.window import Span, Window

# Writing

_PLACE: Final = r"\b(?:after|until)_\w+"
_AFTER: Final[Mapping[str, ColumnElement[Any]]] = {
    "calls": literal_column("after_call"),
    "savings": literal_column("after_saving"),
}


@dataclass(frozen=True)
class New:
    """What was inserted: what lies before it, and what kinds of it there are."""

    after_call: int
    after_saving: int
    """The last row numbers before it."""
    after_time: int
    until_time: int
    """When all of it began: PostgreSQL need not look at the partitions of other months."""
    calls: bool
    savings: bool
    results: bool
    """Calls that carried results of tools."""


def add_rows(connection: Connection, new: New) -> None:
    """Add to the sums what was inserted."""
    cursor: Any = connection.connection.cursor()  # without SQLAlchemy, which takes as long again
    for kind, statement, names in _additions(connection.dialect.name):
        if getattr(new, kind):
            cursor.execute(statement, tuple(getattr(new, name) for name in names))
    cursor.close()


@cache
def _additions(dialect: str) -> list[tuple[str, str, list[str]]]:
    """Return the statements as text, each with the kind of rows that it is about."""
    mark = "?" if dialect == "sqlite" else "%s"
    found = []
    for kind, statement in _statements(sqlite if dialect == "sqlite" else postgresql):
        text = str(
            statement.compile(dialect=_dialect(dialect), compile_kwargs={"literal_binds": True})
        )
        found.append((kind, re.sub(_PLACE, mark, text), re.findall(_PLACE, text)))
    return found


def _dialect(name: str) -> Any:
    return sqlite.dialect() if name == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]


def _statements(own: Any) -> Iterator[tuple[str, Any]]:
    for measure in (SPEND, SAVED, LATENCY, RESULTS):
        for source in measure.sources:
            kind = "results" if measure is RESULTS else source.table.name
            for rollup in measure.rollups:
                for statement in _adding(own, rollup, source, _new(own, source.table)):
                    yield kind, statement
    for rollup in SPEND.rollups:
        for statement in _adding(own, rollup, *_measured_late(own)):
            yield "savings", statement
    for statement in _run_statements(own):
        yield "calls", statement


def _run_statements(own: Any) -> Iterator[Any]:
    """Yield what moves the runs of new calls to where they belong now."""
    new_calls = _new(own, calls)
    changed = runs.c.run.in_(select(calls.c.run).where(*new_calls, calls.c.run != OWN_RUN))
    yield from _adding(own, run_sums, costs_of(named_runs().where(changed), -1))
    yield _new_costs(own)
    yield from _adding(own, run_sums, costs_of(named_runs().where(changed)))
    yield from _adding(own, run_sums, costs_of(own_runs().where(*new_calls)))


def _new(own: Any, table: Any) -> list[ColumnElement[bool]]:
    found = [table.c.seq > _AFTER[table.name]]
    if own is postgresql:  # SQLite would find the rows by their time, which are many more
        at = table.c.started_at
        found += [at > literal_column("after_time"), at <= literal_column("until_time")]
    return found


def _adding(
    own: Any, rollup: Rollup, source: Source, where: Sequence[ColumnElement[bool]] = ()
) -> Iterator[Any]:
    for table in rollup.tables:
        names = [table.columns.keys()[0], *rollup.keys, *rollup.counts]
        found = source.by_period(rollup, table).where(*where)
        yield _merged(own, rollup, table, names, found)


def _measured_late(own: Any) -> tuple[Source, list[ColumnElement[bool]]]:
    """Return calls that have become measured: their first saving came after them."""
    of_calls, earlier = SPEND.sources[0], savings.alias("earlier")
    c, tokens = calls.c, calls.c.input_tokens + calls.c.output_tokens
    sums = {"measured_calls": func.count(), "measured_tokens": total(tokens)}
    acted = select(savings.c.call).where(*_new(own, savings), savings.c.observed == 0)
    seq = earlier.c.seq <= _AFTER["savings"]
    before = exists().where(earlier.c.call == c.id, earlier.c.observed == 0, seq)
    late = [c.seq <= _AFTER["calls"], c.cached == 0, c.id.in_(acted), ~before]
    return Source(calls, of_calls.keys, sums), late


def _new_costs(own: Any) -> Any:
    """Return the statement that adds new calls to their runs."""
    insert = own.insert(runs).from_select(
        list(runs.columns.keys()), costs_by_run().where(*_new(own, calls))
    )
    new = insert.excluded
    earlier = case((new.started_at < runs.c.started_at, new.started_at), else_=runs.c.started_at)
    names = ("cost_nano_usd", "unpriced_calls")
    return insert.on_conflict_do_update(
        index_elements=["run"],
        set_={"started_at": earlier, **{name: runs.c[name] + new[name] for name in names}},
    )


def horizon_of(connection: Connection) -> int:
    """Return the time before which records were removed, while their sums were kept; or 0."""
    return connection.scalar(select(func.max(forgettings.c.calls_before))) or 0


def rebuild(connection: Connection) -> None:
    """Compute all sums anew from the rows, as far as these reach back."""
    horizon = horizon_of(connection)
    connection.execute(runs.delete().where(runs.c.started_at >= horizon))
    left = costs_by_run().where(~exists().where(runs.c.run == calls.c.run))
    connection.execute(runs.insert().from_select(runs.columns.keys(), left))
    rebuild_days(connection, (horizon // DAY_US, Window.FOREVER // DAY_US))


def rebuild_days(connection: Connection, days: Span) -> None:
    """Compute the sums of some days anew; ``runs`` is true already."""
    own = sqlite if connection.dialect.name == "sqlite" else postgresql
    first, end = days[0] * DAY_US, days[1] * DAY_US
    for measure in MEASURES:
        for rollup in measure.rollups:
            for table in rollup.tables:
                period, width = table.columns[0], width_of(rollup, table)
                inside = (period >= first // width, period < end // width)
                connection.execute(table.delete().where(*inside))
            for source in measure.sources:
                at = source.table.c.started_at
                for statement in _adding(own, rollup, source, (at >= first, at < end)):
                    connection.execute(statement)


def rename(
    connection: Connection, rollup: Rollup, key: str, old: int, new: int, before: int
) -> None:
    """Add sums of early periods that have one value of a key to those that have another."""
    own = sqlite if connection.dialect.name == "sqlite" else postgresql
    for table in rollup.tables:
        period, column = table.columns[0], table.c[key]
        early = [column == old, period < before // width_of(rollup, table)]
        others = [name for name in rollup.keys if name != key]
        names = [period.name, key, *others, *rollup.counts]
        found = select(
            period, literal(new), *(table.c[name] for name in (*others, *rollup.counts))
        ).where(*early)
        connection.execute(_merged(own, rollup, table, names, found))
        connection.execute(table.delete().where(*early))


def _merged(
    own: Any, rollup: Rollup, table: Table, names: Sequence[str], found: Select[Any]
) -> Any:
    insert = own.insert(table).from_select(names, found)
    return insert.on_conflict_do_update(
        index_elements=[table.columns.keys()[0], *rollup.keys],
        set_={name: table.c[name] + insert.excluded[name] for name in rollup.counts},
    )


# Checking


def differences(connection: Connection) -> list[str]:
    """Say where the sums differ from the rows, as far as these reach; empty when they are equal."""
    found: list[str] = []
    horizon = horizon_of(connection)
    for measure in MEASURES:
        for rollup in measure.rollups:
            for table in rollup.tables:
                keys, counts = [table.columns.keys()[0], *rollup.keys], rollup.counts
                of_rows = [
                    source.by_period(rollup, table).where(source.table.c.started_at >= horizon)
                    for source in measure.sources
                ]
                first = table.columns[0] >= horizon // width_of(rollup, table)
                found += _differing(connection, table, keys, counts, of_rows, first)
    names = runs.columns.keys()
    began = runs.c.started_at >= horizon
    whole = costs_by_run().where(~exists().where(runs.c.run == calls.c.run, ~began))
    return [*found, *_differing(connection, runs, names[:1], names[1:], [whole], began)]


def _differing(
    connection: Connection,
    table: Table,
    keys: Sequence[str],
    counts: Sequence[str],
    of_rows: Sequence[Select[Any]],
    kept: ColumnElement[bool],
) -> Iterator[str]:
    """Let the database compare: what it finds is little."""
    stored = select(*(table.c[name] for name in (*keys, *counts)), literal(0).label("side"))
    stored = stored.where(kept)
    both = union_all(stored, *(query.add_columns(literal(1)) for query in of_rows)).subquery("both")
    columns = list(both.c)
    key, numbers, side = columns[: len(keys)], columns[len(keys) : -1], columns[-1]

    def of(which: int) -> list[ColumnElement[Any]]:
        return [total(case((side == which, number), else_=0)) for number in numbers]

    sums = list(zip(of(0), of(1), strict=True))
    unequal = [stored_sum != counted for stored_sum, counted in sums]
    query = select(*key, func.min(side), func.max(side), *of(0), *of(1)).group_by(*key)
    condition = unequal[0]
    for each in unequal[1:]:
        condition = condition | each
    for row in connection.execute(query.having(condition).order_by(*key)):
        where = ", ".join(f"{n} {k}" for n, k in zip(keys, row, strict=False))
        first, last, *values = row[len(keys) :]
        here, there = values[: len(counts)], values[len(counts) :]
        yield f"{table.name} at {where}: {_described(counts, first, last, here, there)}"


def _described(
    counts: Sequence[str], first: int, last: int, here: Sequence[Any], there: Sequence[Any]
) -> str:
    if first == 1:
        return "no sum is stored for rows that exist"
    if last == 0:
        return "a sum is stored for rows that do not exist"
    return "; ".join(
        f"{name} is {int(stored):,} but the rows add up to {int(counted):,}"
        for name, stored, counted in zip(counts, here, there, strict=True)
        if stored != counted
    )
