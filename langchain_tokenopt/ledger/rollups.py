"""Sums of hours and days: how they follow from the rows, written once, in SQL.

The writer adds the rows it has just inserted, ``check`` compares all rows with all sums, and
questions read whole hours and days from the sums and the rest from the rows. All three use the
expressions of this module, so they cannot disagree about what is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnClause,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from langchain_tokenopt.core.usage import TOKEN_COUNTS
from langchain_tokenopt.ledger.buckets import bucket_of
from langchain_tokenopt.ledger.rows import DAY_US, HOUR_US, OWN_RUN, STATUSES
from langchain_tokenopt.ledger.schema import (
    DERIVED,
    Rollup,
    call_sums,
    calls,
    latency_sums,
    result_sums,
    run_sums,
    runs,
    saving_sums,
    savings,
    user_sums,
)
from langchain_tokenopt.ledger.window import Span

CACHED_KIND: Final = len(STATUSES)
"""Kinds of calls: the number of the status; with this added, of those that a cache answered."""
SAVING_KIND: Final = 2 * CACHED_KIND
"""In place of a kind: what a stage has saved, which counts as no call."""
UNPRICED_RUN: Final = -1
"""In place of a bucket."""


@dataclass(frozen=True, eq=False)
class Source:
    """Rows that are counted: where they stand, what tells them apart, and what is added up."""

    table: Any
    """Has ``started_at``, and what filters need."""
    keys: Mapping[str, ColumnElement[Any]]
    sums: Mapping[str, ColumnElement[Any]]
    where: tuple[ColumnElement[bool], ...] = ()
    among: FromClause | None = None
    """What is selected from, where it is more than the table."""

    def select(self, keys: Sequence[ColumnElement[Any]], counts: Sequence[str]) -> Select[Any]:
        """Return the query for sums, grouped by *keys*; what it does not add up is 0."""
        query = select(*keys, *(self.sums.get(name, literal(0)).label(name) for name in counts))
        query = query.select_from(self.table if self.among is None else self.among)
        # A number in GROUP BY would be the place of a column.
        return query.where(*self.where).group_by(*(k for k in keys if not _is_constant(k)))

    def by_period(self, rollup: Rollup, table: Table) -> Select[Any]:
        """Return the query whose answer a table of *rollup* holds."""
        period = self.table.c.started_at // width_of(rollup, table)
        return self.select([period, *(self.keys[key] for key in rollup.keys)], rollup.counts)


@dataclass(frozen=True, eq=False)
class Measure:
    """Sums that belong together: the rows they are of, and the rollups that hold them."""

    rollups: tuple[Rollup, ...]
    sources: tuple[Source, ...]

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of the sums."""
        return self.rollups[0].counts


def _is_constant(key: ColumnElement[Any]) -> bool:
    return isinstance(key, ColumnClause) and key.is_literal


def width_of(rollup: Rollup, table: Table) -> int:
    """Return how many microseconds a period in a table has."""
    return HOUR_US if table is rollup.hours else DAY_US


def total(number: Any) -> ColumnElement[Any]:
    """Return a sum; of no rows it is 0."""
    return func.coalesce(func.sum(number), 0)


def times(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    """Return how many rows meet a condition."""
    return total(case((condition, 1), else_=0))


def _named(**sums: ColumnElement[Any]) -> Mapping[str, ColumnElement[Any]]:
    return sums


def _spending_of_calls() -> Source:
    """What a cache answered was not spent again: it counts as a call, as cached, and as saved."""
    c = calls.c
    billed = c.cached == 0
    tokens = c.input_tokens + c.output_tokens
    other = savings.alias("other_savings")
    acted = exists().where(other.c.call == c.id, other.c.observed == 0)

    def spent(number: Any) -> ColumnElement[Any]:
        return total(case((billed, number), else_=0))

    return Source(
        calls,
        {
            "origin": c.origin,
            "user": func.coalesce(c.user, 0),
            "kind": c.status + CACHED_KIND * c.cached,
        },
        _named(
            **{name: spent(c[name]) for name in TOKEN_COUNTS if name in call_sums.counts},
            calls=func.count(),
            cached_calls=total(c.cached),
            estimated_calls=spent(c.estimated),
            failed_calls=times(billed & (c.status == STATUSES.index("failed"))),
            unpriced_calls=times(billed & (c.cost_nano_usd.is_(None) | c.unpriced.is_not(None))),
            cost_nano_usd=spent(func.coalesce(c.cost_nano_usd, 0)),
            saved_tokens=total(case((billed, 0), else_=tokens)),
            saved_nano_usd=total(func.coalesce(c.saved_nano_usd, 0)),
            inexact_calls=total(c.estimated),
            unpriced_tokens=total(case((billed & c.cost_nano_usd.is_(None), tokens), else_=0)),
            unpriced_savings=times(c.saved_nano_usd.is_(None)),
            measured_calls=times(~billed | acted),
            measured_tokens=total(case((billed & acted, tokens), else_=0)),
        ),
    )


def _savings_in_spending() -> Source:
    s = savings.c
    return Source(
        savings,
        {
            "origin": s.origin,
            "user": func.coalesce(s.user, 0),
            "kind": literal_column(str(SAVING_KIND)),
        },
        {
            "saved_tokens": total(s.tokens_before - s.tokens_after - s.spent_tokens),
            "saved_nano_usd": total(func.coalesce(s.saved_nano_usd, 0)),
        },
        (s.observed == 0,),
    )


def _savings_of_stages() -> Source:
    s = savings.c
    prompt = (s.output_side == 0) & (s.tokens_after > 0)
    net = s.tokens_before - s.tokens_after - s.spent_tokens
    return Source(
        savings,
        {name: s[name] for name in saving_sums.keys},
        {
            "savings": func.count(),
            "inexact": total(1 - s.exact),
            "unpriced": times(s.saved_nano_usd.is_(None)),
            "tokens_before": total(s.tokens_before),
            "tokens_after": total(s.tokens_after),
            "spent_tokens": total(s.spent_tokens),
            "saved_nano_usd": total(func.coalesce(s.saved_nano_usd, 0)),
            "shortened": times(prompt),
            "shortened_before": total(case((prompt, s.tokens_before), else_=0)),
            "shortened_after": total(case((prompt, s.tokens_after), else_=0)),
            "net_of_calls": total(case((s.call.is_(None), 0), else_=net)),
        },
    )


LATENCIES: Final = ("duration_us", "first_chunk_us")


def _latency(number: int) -> Source:
    column = calls.c[LATENCIES[number]]
    return Source(
        calls,
        {
            "origin": calls.c.origin,
            "measure": literal_column(str(number)),
            "bucket": bucket_of(column),
        },
        {"times": func.count()},
        (column.is_not(None), calls.c.cached == 0, calls.c.status == 0),
    )


class _Elements(FunctionElement[Any]):
    """The elements of a JSON list, one row each."""

    name = "elements"
    inherit_cache = True


class _Item(FunctionElement[Any]):
    """One item of a JSON list, as text."""

    name = "item"
    inherit_cache = True


@compiles(_Elements, "sqlite")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **kw)})"


@compiles(_Elements, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    text = compiler.process(cast(next(iter(element.clauses)), JSON), **kw)
    return f"json_array_elements({text})"


@compiles(_Item, "sqlite")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    value, place = (compiler.process(each, **kw) for each in element.clauses)
    return f"json_extract({value}, '$[' || {place} || ']')"


@compiles(_Item, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    value, place = (compiler.process(each, **kw) for each in element.clauses)
    return f"({value} ->> {place})"


def _results_of_tools() -> Source:
    element = _Elements(calls.c.tool_results).table_valued("value", name="result")

    def item(place: int) -> Any:
        return _Item(element.c.value, literal_column(str(place)))

    cost = cast(item(2), BigInteger)
    return Source(
        calls,
        {"origin": calls.c.origin, "result_tool": item(0)},
        {
            "results": func.count(),
            "tokens": total(cast(item(1), BigInteger)),
            "cost_nano_usd": total(cost),
            "unpriced": times(cost.is_(None)),
        },
        (calls.c.tool_results.is_not(None), calls.c.cached == 0),
        calls.join(element, true()),
    )


def cost_of_calls() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return what a call has cost its run, and whether some of that has no price."""
    c = calls.c
    unpriced = c.cost_nano_usd.is_(None) | c.unpriced.is_not(None)
    return (
        case((c.cached == 0, func.coalesce(c.cost_nano_usd, 0)), else_=0),
        case(((c.cached == 0) & unpriced, 1), else_=0),
    )


def costs_by_run() -> Select[Any]:
    """Return the query whose answer ``runs`` holds."""
    cost, unpriced = cost_of_calls()
    run: ColumnElement[int] = calls.c.run + 0  # else SQLite reads the whole index of runs
    query = select(run, func.min(calls.c.started_at), total(cost), total(unpriced))
    return query.where(calls.c.run != OWN_RUN).group_by(run)


def own_runs() -> Select[Any]:
    """Return the query for calls that are runs of their own."""
    cost, unpriced = cost_of_calls()
    query = select(
        calls.c.started_at, cost.label("cost_nano_usd"), unpriced.label("unpriced_calls")
    )
    return query.where(calls.c.run == OWN_RUN)


def named_runs() -> Select[Any]:
    """Return the query for all other runs."""
    return select(runs.c.started_at, runs.c.cost_nano_usd, runs.c.unpriced_calls)


def _costs_of(each: Select[Any], sign: int = 1) -> Source:
    """Count runs by what they cost; a *sign* of -1 takes them away again."""
    table = each.subquery("each_run")
    priced = table.c.unpriced_calls == 0
    bucket = case((priced, bucket_of(table.c.cost_nano_usd)), else_=UNPRICED_RUN)
    cost = case((priced, table.c.cost_nano_usd), else_=0)
    return Source(
        table,
        {"bucket": bucket},
        {"runs": sign * func.count(), "cost_nano_usd": sign * total(cost)},
    )


SPEND: Final = Measure((call_sums, user_sums), (_spending_of_calls(), _savings_in_spending()))
COST: Final = Measure(
    tuple(replace(each, counts=("cost_nano_usd",)) for each in SPEND.rollups), SPEND.sources
)
"""The one of these sums that a forecast needs, hour by hour over weeks."""
SAVED: Final = Measure((saving_sums,), (_savings_of_stages(),))
LATENCY: Final = Measure((latency_sums,), tuple(map(_latency, range(len(LATENCIES)))))
RESULTS: Final = Measure((result_sums,), (_results_of_tools(),))
RUNS: Final = Measure((run_sums,), (_costs_of(named_runs()), _costs_of(own_runs())))
MEASURES: Final = (SPEND, SAVED, LATENCY, RESULTS, RUNS)


# Writing

_PLACE: Final = r"\bafter_\w+"
_AFTER: Final[Mapping[str, ColumnElement[Any]]] = {
    "calls": literal_column("after_call"),
    "savings": literal_column("after_saving"),
}


@dataclass(frozen=True)
class New:
    """What was inserted: the last row numbers before it, and what kinds of it there are."""

    after_call: int = 0
    after_saving: int = 0
    calls: bool = True
    savings: bool = True
    results: bool = True
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
                for statement in _adding(own, rollup, source, _new(source.table)):
                    yield kind, statement
    for rollup in SPEND.rollups:
        for statement in _adding(own, rollup, *_measured_late()):
            yield "savings", statement
    for statement in _run_statements(own):
        yield "calls", statement


def _run_statements(own: Any) -> Iterator[Any]:
    """Yield what moves the runs of new calls to where they belong now."""
    new_calls = _new(calls)
    changed = runs.c.run.in_(select(calls.c.run).where(*new_calls, calls.c.run != OWN_RUN))
    yield from _adding(own, run_sums, _costs_of(named_runs().where(changed), -1))
    yield _new_costs(own)
    yield from _adding(own, run_sums, _costs_of(named_runs().where(changed)))
    yield from _adding(own, run_sums, _costs_of(own_runs().where(*new_calls)))


def _new(table: Any) -> list[ColumnElement[bool]]:
    return [table.c.seq > _AFTER[table.name]]


def _adding(
    own: Any, rollup: Rollup, source: Source, where: Sequence[ColumnElement[bool]] = ()
) -> Iterator[Any]:
    for table in rollup.tables:
        period = table.columns.keys()[0]
        insert = own.insert(table).from_select(
            [period, *rollup.keys, *rollup.counts], source.by_period(rollup, table).where(*where)
        )
        yield insert.on_conflict_do_update(
            index_elements=[period, *rollup.keys],
            set_={name: table.c[name] + insert.excluded[name] for name in rollup.counts},
        )


def _measured_late() -> tuple[Source, list[ColumnElement[bool]]]:
    """Return calls that have become measured: their first saving came after them."""
    of_calls, earlier = SPEND.sources[0], savings.alias("earlier")
    c, tokens = calls.c, calls.c.input_tokens + calls.c.output_tokens
    sums = {"measured_calls": func.count(), "measured_tokens": total(tokens)}
    acted = select(savings.c.call).where(*_new(savings), savings.c.observed == 0)
    seq = earlier.c.seq <= _AFTER["savings"]
    before = exists().where(earlier.c.call == c.id, earlier.c.observed == 0, seq)
    late = [c.seq <= _AFTER["calls"], c.cached == 0, c.id.in_(acted), ~before]
    return Source(calls, of_calls.keys, sums), late


def _new_costs(own: Any) -> Any:
    """Return the statement that adds new calls to their runs."""
    insert = own.insert(runs).from_select(
        list(runs.columns.keys()), costs_by_run().where(*_new(calls))
    )
    new = insert.excluded
    earlier = case((new.started_at < runs.c.started_at, new.started_at), else_=runs.c.started_at)
    names = ("cost_nano_usd", "unpriced_calls")
    return insert.on_conflict_do_update(
        index_elements=["run"],
        set_={"started_at": earlier, **{name: runs.c[name] + new[name] for name in names}},
    )


def rebuild(connection: Connection) -> None:
    """Compute all sums anew from the rows."""
    for table in DERIVED:
        connection.execute(table.delete())
    add_rows(connection, New())


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


# Checking


def differences(connection: Connection) -> list[str]:
    """Say where the sums differ from the rows; empty when they are equal."""
    found: list[str] = []
    for measure in MEASURES:
        for rollup in measure.rollups:
            for table in rollup.tables:
                keys, counts = [table.columns.keys()[0], *rollup.keys], rollup.counts
                of_rows = [source.by_period(rollup, table) for source in measure.sources]
                found += _differing(connection, table, keys, counts, of_rows)
    names = runs.columns.keys()
    return [*found, *_differing(connection, runs, names[:1], names[1:], [costs_by_run()])]


def _differing(
    connection: Connection,
    table: Table,
    keys: Sequence[str],
    counts: Sequence[str],
    of_rows: Sequence[Select[Any]],
) -> Iterator[str]:
    """Let the database compare: what it finds is little."""
    stored = select(*(table.c[name] for name in (*keys, *counts)), literal(0).label("side"))
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
