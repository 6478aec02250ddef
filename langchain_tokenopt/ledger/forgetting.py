"""Deleting records, and all that follows from them: sums, runs, names that nothing bears now."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Table, false, func, select, union

from langchain_tokenopt.ledger import rollups
from langchain_tokenopt.ledger.measures import costs_by_run, width_of
from langchain_tokenopt.ledger.rows import DAY_US, OWN_RUN, digest_of
from langchain_tokenopt.ledger.schema import (
    ORIGIN_FIELDS,
    ROLLUPS,
    budget_events,
    calls,
    forgettings,
    names,
    origins,
    runs,
    savings,
    tool_choices,
)
from langchain_tokenopt.ledger.selection import Selection
from langchain_tokenopt.ledger.window import Span

__all__ = ["borne_names", "forget"]


def forget(selection: Selection) -> int:
    """Delete the calls that were selected; return how many there were.

    Of calls that are not kept any more the sums stay, without the user, the organization... that
    was selected by. Without filters the sums go, too.
    """
    connection = selection.connection
    chosen = select(calls.c.id).where(*selection.of(calls))
    of_savings = savings.c.call.in_(chosen) | _all(selection.of(savings))
    of_choices = tool_choices.c.call.in_(chosen) | _all(selection.of(tool_choices))
    of_calls = calls.c.id.in_(chosen)
    # Calls that stay may lose what a stage has said of them.
    losing = select(savings.c.call).where(of_savings)
    days = {
        *_days(connection, calls, of_calls | calls.c.id.in_(losing)),
        *_days(connection, savings, of_savings),
    }
    several = select(calls.c.run).where(of_calls, calls.c.run != OWN_RUN)
    changed = set(connection.scalars(several.distinct()))
    days |= _days_of_runs(connection, changed)
    for table, condition in ((savings, of_savings), (tool_choices, of_choices)):
        connection.execute(table.delete().where(condition))
    deleted = connection.execute(calls.delete().where(of_calls)).rowcount
    if selection.is_everything:
        connection.execute(budget_events.delete().where(budget_events.c.at < selection.window.end))
    for part in _chunks(changed):
        connection.execute(runs.delete().where(runs.c.run.in_(part)))
        left = costs_by_run().where(calls.c.run.in_(part))
        connection.execute(runs.insert().from_select(runs.columns.keys(), left))
    days |= _days_of_runs(connection, changed)
    horizon = selection.horizon
    for span in _spans(day for day in days if day * DAY_US >= horizon):
        rollups.rebuild_days(connection, span)
    _forget_in_sums(selection, min(horizon, selection.window.end // DAY_US * DAY_US))
    _drop_unused(connection)
    connection.execute(forgettings.insert().values(at=time.time_ns()))
    return deleted


def _all(conditions: Iterable[Any]) -> Any:
    found: Any = None
    for condition in conditions:
        found = condition if found is None else found & condition
    return false() if found is None else found


def _days(connection: Connection, table: Table, condition: Any) -> set[int]:
    day = table.c.started_at // DAY_US
    return set(connection.scalars(select(day).where(condition).distinct()))


def _days_of_runs(connection: Connection, numbers: Iterable[int]) -> set[int]:
    return {
        day for part in _chunks(numbers) for day in _days(connection, runs, runs.c.run.in_(part))
    }


def _chunks(numbers: Iterable[int], size: int = 500) -> Iterator[list[int]]:
    wanted = list(numbers)
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def _spans(days: Iterable[int]) -> Iterator[Span]:
    """Yield days that follow each other as one span."""
    first = last = None
    for day in sorted(days):
        if last is not None and first is not None and day != last + 1:
            yield first, last + 1
            first = day
        first, last = day if first is None else first, day
    if first is not None and last is not None:
        yield first, last + 1


def _forget_in_sums(selection: Selection, before: int) -> None:
    """Forget, in the sums of days whose calls are not kept any more, what was selected by."""
    users, fields = selection.users, selection.origin_fields
    for rollup in ROLLUPS if before > 0 else ():
        if selection.is_everything:
            for table in rollup.tables:
                period = table.columns[0] < before // width_of(rollup, table)
                selection.connection.execute(table.delete().where(period))
        elif "user" in rollup.keys and users and not fields:
            for user in users:
                rollups.rename(selection.connection, rollup, "user", user, 0, before)
        elif "origin" in rollup.keys and fields and not users:
            for old, new in _without(selection, fields):
                rollups.rename(selection.connection, rollup, "origin", old, new, before)


def _without(selection: Selection, fields: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield each origin that was selected, and one that differs in having none of some fields."""
    connection = selection.connection
    columns = [origins.c[name] for name in ORIGIN_FIELDS]
    chosen = select(origins.c.id, *columns).where(*selection.chosen_origins())
    for old, *values in connection.execute(chosen).all():
        kept = tuple(
            "" if name in fields else value
            for name, value in zip(ORIGIN_FIELDS, values, strict=True)
        )
        digest = digest_of(kept)
        new = connection.scalar(select(origins.c.id).where(origins.c.digest == digest))
        if new is None:
            new = (connection.scalar(select(func.max(origins.c.id))) or 0) + 1
            row = dict(zip(ORIGIN_FIELDS, kept, strict=True))
            connection.execute(origins.insert().values(id=new, digest=digest, **row))
        if new != old:
            yield old, new


def _drop_unused(connection: Connection) -> None:
    """Delete names that nothing bears any more."""
    connection.execute(names.delete().where(names.c.id.not_in(borne_names())))
    sums = [rollup.days for rollup in ROLLUPS if "origin" in rollup.keys]
    made = union(*(select(table.c.origin) for table in (calls, savings, tool_choices, *sums)))
    connection.execute(origins.delete().where(origins.c.id.not_in(made)))


def borne_names() -> Any:
    """Return the query for the numbers of names that something bears."""
    columns = [
        column
        for table in (calls, savings, tool_choices)
        for column in (table.c.user, table.c.thread_id, table.c.run)
    ]
    columns += [savings.c.stage, runs.c.run]
    for rollup in ROLLUPS:
        columns += [rollup.days.c[key] for key in ("user", "stage") if key in rollup.keys]
    return union(*(select(column).where(column.is_not(None)) for column in columns))
