"""Deleting records, and all that follows from them: sums, runs, names that nothing bears now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Table, false, select, union

from langchain_tokenopt.ledger import rollups
from langchain_tokenopt.ledger.rows import DAY_US, OWN_RUN
from langchain_tokenopt.ledger.schema import (
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

__all__ = ["forget"]


def forget(selection: Selection) -> int:
    """Delete the calls that were selected; return how many there were."""
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
        left = rollups.costs_by_run().where(calls.c.run.in_(part))
        connection.execute(runs.insert().from_select(runs.columns.keys(), left))
    days |= _days_of_runs(connection, changed)
    for span in _spans(days):
        rollups.rebuild_days(connection, span)
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


def _drop_unused(connection: Connection) -> None:
    """Delete names that no record bears any more."""
    borne = [
        select(column).where(column.is_not(None))
        for table in (calls, savings, tool_choices)
        for column in (table.c.user, table.c.thread_id, table.c.run)
    ]
    used = union(*borne, select(savings.c.stage))
    connection.execute(names.delete().where(names.c.id.not_in(used)))
    made = union(*(select(table.c.origin) for table in (calls, savings, tool_choices)))
    connection.execute(origins.delete().where(origins.c.id.not_in(made)))
