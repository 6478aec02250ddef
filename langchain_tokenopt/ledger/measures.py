"""What is counted: sums of calls, savings and runs, each written once, in SQL.

Writing, checking and asking all use the expressions of this module, so they cannot disagree about
what is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnClause,
    ColumnElement,
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
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from langchain_tokenopt.core.usage import TOKEN_COUNTS
from langchain_tokenopt.ledger.buckets import bucket_of
from langchain_tokenopt.ledger.rows import DAY_US, HOUR_US, OWN_RUN, STATUSES
from langchain_tokenopt.ledger.schema import (
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


def costs_of(each: Select[Any], sign: int = 1) -> Source:
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
RUNS: Final = Measure((run_sums,), (costs_of(named_runs()), costs_of(own_runs())))
MEASURES: Final = (SPEND, SAVED, LATENCY, RESULTS, RUNS)
