"""The records of a period themselves, and its runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, RowMapping, Select, false, func, select

from langchain_tokenopt.core.dimensions import MANY_VALUED
from langchain_tokenopt.core.records import (
    COUNTS,
    BudgetEvent,
    CallRecord,
    Saving,
    ToolChoice,
    UsageTotals,
)
from langchain_tokenopt.ledger import rows
from langchain_tokenopt.ledger.measures import SPEND
from langchain_tokenopt.ledger.rows import OWN_RUN
from langchain_tokenopt.ledger.schema import budget_events, calls, names, savings, tool_choices
from langchain_tokenopt.ledger.selection import PAGE, PAGED, Key, Selection, plain
from langchain_tokenopt.ledger.sums import add, keys_of_rows

__all__ = ["Records", "RunTotals"]


@dataclass(frozen=True, slots=True)
class RunTotals:
    """One run: everything that was called below one outermost LangChain run."""

    run: str
    started_at: datetime
    ended_at: datetime
    totals: UsageTotals
    agents: tuple[str, ...] = ()
    """Who made its calls, in the order in which they began."""
    user: str | None = None
    thread_id: str | None = None


class Records:
    """Reads what was selected, page by page."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._connection = selection.connection

    def span(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last call began."""
        started = calls.c.started_at
        # Apart, each is the end of an index; together they would read all of it.
        first = self._connection.scalar(select(func.min(started)))
        last = self._connection.scalar(select(func.max(started)))
        return None if first is None else (rows.moment_of(first), rows.moment_of(last))

    def calls(self, *, newest_first: bool) -> Iterator[CallRecord]:
        """Read calls in order of time, page by page."""
        order = (calls.c.started_at, calls.c.seq)
        query = select(calls).where(*self._selection.of(calls))
        query = query.order_by(*(column.desc() if newest_first else column for column in order))
        result = self._connection.execute(query, execution_options=PAGED)
        for page in result.mappings().partitions(PAGE):
            yield from self._records(page)

    def last_call(self) -> int:
        """Return the number of the row that was inserted last."""
        return self._connection.scalar(select(func.max(calls.c.seq))) or 0

    def calls_after(self, number: int, limit: int) -> tuple[int, list[CallRecord]]:
        """Read calls in the order in which they were inserted."""
        query = select(calls).where(calls.c.seq > number, *self._selection.of(calls))
        page = list(self._connection.execute(query.order_by(calls.c.seq).limit(limit)).mappings())
        all_read = len(page) < limit  # also those that were not asked for
        number = max(number, self.last_call()) if all_read else page[-1]["seq"]
        return number, list(self._records(page)) if page else []

    def run_ids(self, beginning: str) -> list[str]:
        """Return the runs with this name, or with an id that begins so."""
        key = rows.key_of(rows.clean(beginning))
        number = self._connection.scalar(select(names.c.id).where(names.c.key == key))
        digits = beginning.replace("-", "").lower()
        if not digits or len(digits) > 32 or not set(digits) <= set("0123456789abcdef"):
            ends = key, key
        else:
            ends = bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))
        named = select(names.c.key).where(
            ((names.c.id == number) if number else false())
            | (names.c.key.between(*ends) & (func.length(names.c.key) == 16)),
            select(calls.c.seq).where(calls.c.run == names.c.id).exists(),
        )
        own = select(calls.c.id).where(calls.c.run == OWN_RUN, calls.c.id.between(*ends))
        found = [rows.name_of(bytes(key)) for key in self._connection.scalars(named.limit(10))]
        found += [str(UUID(bytes=bytes(key))) for key in self._connection.scalars(own.limit(10))]
        return [beginning] if beginning in found else sorted(found)[:10]

    def _records(self, page: Sequence[RowMapping]) -> Iterator[CallRecord]:
        saved, chosen = self._savings_of(page), self._choices_of(page)
        numbers = {row[column] for row in page for column in MANY_VALUED if row[column]}
        name = self._selection.names(numbers)
        origin = self._selection.origins(row["origin"] for row in page)
        for row in page:
            record = rows.call_record(row, origin[row["origin"]], name)
            key = bytes(row["id"])
            yield _with_parts(record, saved.get(key), chosen.get(key))

    def _savings_of(self, page: Sequence[RowMapping]) -> dict[bytes, list[Saving]]:
        """Return the savings that came with these calls: they bear the same time."""
        times = [row["started_at"] for row in page]
        query = select(savings).where(
            savings.c.started_at.between(min(times), max(times)),
            savings.c.call.in_([row["id"] for row in page]),
        )
        found: dict[bytes, list[Saving]] = defaultdict(list)
        for saving in self._savings(query.order_by(savings.c.seq)):
            assert saving.run_id is not None
            found[saving.run_id.bytes].append(saving)
        return found

    def _choices_of(self, page: Sequence[RowMapping]) -> dict[bytes, ToolChoice]:
        """Return which tools these calls were shown."""
        times = [row["started_at"] for row in page]
        query = select(tool_choices).where(
            tool_choices.c.started_at.between(min(times), max(times)),
            tool_choices.c.call.in_([row["id"] for row in page]),
        )
        found = self._connection.execute(query).mappings().all()
        origin = self._selection.origins(row["origin"] for row in found)
        return {bytes(row["call"]): rows.tool_choice(row, origin[row["origin"]]) for row in found}

    def savings(self) -> Iterator[Saving]:
        """Read savings in order of time."""
        conditions = self._selection.of(savings)
        return self._savings(
            select(savings).where(*conditions).order_by(savings.c.started_at, savings.c.seq)
        )

    def _savings(self, query: Select[Any]) -> Iterator[Saving]:
        result = self._connection.execute(query, execution_options=PAGED)
        for page in result.mappings().partitions(PAGE):
            name = self._selection.names({row["stage"] for row in page})
            origin = self._selection.origins(row["origin"] for row in page)
            for row in page:
                yield rows.saving_record(row, origin[row["origin"]], name)

    def budget_events(self) -> Iterator[BudgetEvent]:
        """Read budget events in order of time."""
        at, window = budget_events.c.at, self._selection.window
        query = select(budget_events).where(at >= window.start, at < window.end)
        for row in self._connection.execute(query.order_by(at, budget_events.c.seq)).mappings():
            yield rows.budget_event(row)

    def runs(self, limit: int) -> list[RunTotals]:
        """Return the runs that were active last, newest first."""
        keys = self._latest_runs(limit)
        sums = self._sums_of(keys)
        group = keys_of_rows(("run",))
        started, ended = calls.c.started_at, calls.c.started_at + calls.c.duration_us
        query = (
            select(*group, func.min(started), func.max(ended))
            .where(_among_runs(calls, keys), *self._selection.of(calls, by_run=True))
            .group_by(*group)
        )
        times = {plain(row[:-2]): row[-2:] for row in self._connection.execute(query)}
        name_of = self._selection.personal_names(sums)
        made_by = self._made_by(keys)
        return [
            RunTotals(
                name_of[key],
                started_at=rows.moment_of(times[key][0]),
                ended_at=rows.moment_of(times[key][1]),
                totals=UsageTotals(**dict(zip(COUNTS, sums[key], strict=False))),
                **made_by[key],
            )
            for key in keys
        ]

    def _sums_of(self, keys: Sequence[Key]) -> dict[Key, list[int]]:
        """Add up what runs did in the period."""
        sums: dict[Key, list[int]] = defaultdict(lambda: [0] * len(SPEND.counts))
        for source in SPEND.sources:
            columns = keys_of_rows(("run",), source)
            query = source.select(columns, SPEND.counts).where(
                _among_runs(source.table, keys), *self._selection.of(source.table, by_run=True)
            )
            for row in self._connection.execute(query):
                add(sums[plain(row[: len(columns)])], map(int, row[len(columns) :]))
        return sums

    def _made_by(self, keys: Sequence[Key]) -> dict[Key, dict[str, Any]]:
        """Return the agents of runs, and for whom they ran."""
        columns = [calls.c.origin, calls.c.user, calls.c.thread_id, *keys_of_rows(("run",))]
        query = (
            select(*columns)
            .where(_among_runs(calls, keys), *self._selection.of(calls, by_run=True))
            .group_by(*columns)
            .order_by(func.min(calls.c.started_at), func.min(calls.c.seq))
        )
        found = [(row[:3], plain(row[3:])) for row in self._connection.execute(query)]
        name = self._selection.names(
            {number for (_, *owner), _ in found for number in owner if number}
        )
        origins = self._selection.origins(origin for (origin, *_), _ in found)
        made: dict[Key, dict[str, Any]] = {}
        for (origin, user, thread), key in found:
            run = made.setdefault(key, {"agents": (), "user": None, "thread_id": None})
            agent = origins[origin]["agent"]
            if agent not in run["agents"]:
                run["agents"] += (agent,)
            run["user"] = run["user"] or name.get(user)
            run["thread_id"] = run["thread_id"] or name.get(thread)
        return made

    def _latest_runs(self, limit: int) -> list[Key]:
        """Walk back in time until enough runs have been met."""
        query = (
            select(*keys_of_rows(("run",)))
            .where(
                calls.c.run.is_not(None),
                *self._selection.of(calls),
            )
            .order_by(calls.c.started_at.desc(), calls.c.seq.desc())
        )
        met: dict[Key, None] = {}
        with self._connection.execute(query, execution_options=PAGED) as result:
            for row in result:
                met[plain(row)] = None
                if len(met) == limit:
                    break
        return list(met)


def _among_runs(table: FromClause, keys: Iterable[Key]) -> ColumnElement[bool]:
    numbers = [number for number, _ in keys if number != OWN_RUN]
    own = [call for number, call in keys if number == OWN_RUN]
    call = table.c.id if table is calls else table.c.call
    return table.c.run.in_(numbers) | ((table.c.run + 0 == OWN_RUN) & call.in_(own))


def _with_parts(
    call: CallRecord, saved: Sequence[Saving] | None, chosen: ToolChoice | None
) -> CallRecord:
    if not saved and chosen is None:
        return call
    return replace(call, savings=tuple(saved or ()), tool_choice=chosen)
