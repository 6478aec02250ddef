"""Sums over a period: the one way in which figures are read.

Whole days and hours come from the sums that are kept of them, the rest of a period from the rows,
by the same expressions: an answer is exact to the microsecond, and a question about a year reads a
few thousand sums.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, case, func, select

from langchain_tokenopt.ledger.measures import Measure, Source
from langchain_tokenopt.ledger.rows import DAY_US, HOUR_US, OWN_RUN
from langchain_tokenopt.ledger.schema import ORIGIN_FIELDS, Rollup, calls, origins
from langchain_tokenopt.ledger.selection import PAGED, Key, Selection, plain
from langchain_tokenopt.ledger.window import Span

__all__ = ["Sums", "add", "keys_of_rows", "places"]

_PERIODS = {"hour": HOUR_US, "day": DAY_US}

_MADE = origins.alias("made")
"""Where the database adds up; filters ask the table under its own name."""

Counted = dict[Key, list[int]]


class Sums:
    """Sums of what was selected; what was asked once is not read again."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._known: dict[Measure, dict[tuple[str, ...], Counted]] = {}

    def of(self, measure: Measure, groups: tuple[str, ...] = ()) -> Counted:
        """Return sums by groups: keys of the measure, "user", "thread_id", "run", "hour", "day".

        In place of "origin" also "agent", "model"...: what many origins have in common. Each key
        is as wide as its groups together: that of a run is two columns wide.
        """
        known = self._known.setdefault(measure, {})
        if groups not in known:
            finer = next((each for each in known if set(groups) <= set(each)), None)
            known[groups] = (
                self._read(self._queries(measure, groups), groups)
                if finer is None
                else _coarser(known[finer], finer, groups)
            )
        return known[groups]

    def of_rows(self, measure: Measure, groups: tuple[str, ...], span: Span) -> Counted:
        """Return sums over the rows of a part of the period."""
        return self._read(self._row_queries(measure, groups, span), groups)

    def _read(self, queries: Iterable[Select[Any]], groups: Sequence[str]) -> Counted:
        width = sum(stop.stop - stop.start for stop in places(groups).values())
        sums: Counted = {}
        for query in queries:
            for row in self._selection.connection.execute(query, execution_options=PAGED):
                key = plain(row[:width]) if "run" in groups else row[:width]  # has bytes
                known = sums.get(key)
                # Of no rows SQL sums to NULL, and PostgreSQL to decimals.
                whole = [int(count or 0) for count in row[width:]]
                if known is None:
                    sums[key] = whole
                else:
                    add(known, whole)
        return sums

    def _queries(self, measure: Measure, groups: tuple[str, ...]) -> Iterator[Select[Any]]:
        needed = self._selection.keys | {
            "origin" if group in ORIGIN_FIELDS else group
            for group in groups
            if group not in _PERIODS
        }
        rollup = next((each for each in measure.rollups if needed <= set(each.keys)), None)
        window = self._selection.window
        if rollup is None:
            self._selection.lacks_rows(window.start)
            parts = window.whole
        else:
            parts = window.parts(days="hour" not in groups, horizon=self._selection.horizon)
            yield from self._rollup_queries(rollup, groups, parts.days, parts.hours)
        for span in parts.edges:
            yield from self._row_queries(measure, groups, span)

    def _rollup_queries(
        self, rollup: Rollup, groups: Sequence[str], days: Span | None, hours: Sequence[Span]
    ) -> Iterator[Select[Any]]:
        spans = [(rollup.days, days)] if days else []
        for table, (first, end) in [*spans, *((rollup.hours, span) for span in hours)]:
            period = table.c[table.columns.keys()[0]]
            keys = [
                period // 24
                if group == "day" and table is rollup.hours
                else _MADE.c[group]
                if group in ORIGIN_FIELDS
                else table.c[group]
                for group in groups
            ]
            query = select(*keys, *(func.sum(table.c[name]) for name in rollup.counts))
            query = _with_origins(query.select_from(table), table, groups)
            query = query.where(period >= first, period < end, *self._selection.chosen(table))
            yield query.group_by(*keys)

    def _row_queries(
        self, measure: Measure, groups: Sequence[str], span: Span
    ) -> Iterator[Select[Any]]:
        for source in measure.sources:
            query = source.select(keys_of_rows(groups, source), measure.counts)
            query = _with_origins(query, source.table, groups)
            yield query.where(*self._selection.of(source.table, span, unordered=True))


def keys_of_rows(groups: Sequence[str], source: Source | None = None) -> list[ColumnElement[Any]]:
    """Return the columns of rows, by default of calls, that tell groups apart."""
    table: FromClause = calls if source is None else source.table
    found: list[ColumnElement[Any]] = []
    for group in groups:
        if group in ORIGIN_FIELDS:
            found.append(_MADE.c[group])
        elif group in _PERIODS:
            found.append(table.c.started_at // _PERIODS[group])
        elif source is not None and group in source.keys:
            found.append(source.keys[group])
        else:
            found.append(table.c[group])
        if group == "run":  # of the runs that are single calls, each is a group of its own
            own = table.c.id if table is calls else table.c.call
            found.append(case((table.c.run == OWN_RUN, own)))
    return found


def _with_origins(query: Select[Any], table: FromClause, groups: Sequence[str]) -> Select[Any]:
    is_asked = any(group in ORIGIN_FIELDS for group in groups)
    return query.join(_MADE, _MADE.c.id == table.c.origin) if is_asked else query


def places(groups: Sequence[str]) -> dict[str, slice]:
    """Return where the columns of each group stand in a key."""
    found, at = {}, 0
    for group in groups:
        width = 2 if group == "run" else 1
        found[group] = slice(at, at + width)
        at += width
    return found


def _coarser(sums: Counted, finer: Sequence[str], groups: Sequence[str]) -> Counted:
    """Add up groups that are told apart by less."""
    found: Counted = {}
    columns = places(finer)
    for key, counts in sums.items():
        part = tuple(value for group in groups for value in key[columns[group]])
        if part in found:
            add(found[part], counts)
        else:
            found[part] = counts.copy()
    return found


def add(sums: list[int], counts: Iterable[int]) -> None:
    """Add counts in place."""
    sums[:] = map(operator.add, sums, counts)
