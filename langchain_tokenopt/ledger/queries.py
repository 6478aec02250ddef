"""What a ledger is asked.

Whole hours are answered from the rollups, the rest of a period from the rows: the answer is exact
to the microsecond, and a question about a year reads a few thousand sums.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    case,
    false,
    func,
    select,
)

from langchain_tokenopt.core.dimensions import (
    MANY_VALUED,
    PERIODS,
    STAGE_SEPARATOR,
    UNATTRIBUTED,
    Filters,
    Grouping,
    give_to_tools,
)
from langchain_tokenopt.core.moments import Moment, moment_from
from langchain_tokenopt.core.money import usd
from langchain_tokenopt.core.records import (
    COUNTS,
    BudgetEvent,
    CallRecord,
    Saving,
    ToolChoice,
    UsageTotals,
)
from langchain_tokenopt.ledger import rollups, rows
from langchain_tokenopt.ledger.rows import HOUR_US, OWN_RUN
from langchain_tokenopt.ledger.schema import (
    ORIGIN_FIELDS,
    SAVING_COUNTS,
    budget_events,
    call_hours,
    calls,
    names,
    origins,
    saving_hours,
    savings,
    tool_choices,
)

_PAGE = 500
_PAGED = {"yield_per": _PAGE}
_FOREVER = 2**62


@dataclass(frozen=True, slots=True)
class Effect:
    """What one optimizer brought in a period. Nothing here is claimed: all of it was recorded."""

    stage: str
    """Name of the stage, or of the cache that answered."""
    uses: int = 0
    """Calls it acted on."""
    tokens_before: int = 0
    tokens_after: int = 0
    spent_tokens: int = 0
    """What it spent itself, for instance by asking a model."""
    saved_nano_usd: int = 0
    unpriced_uses: int = 0
    """Uses whose saving has no known price: ``saved_nano_usd`` does not contain them."""
    inexact_uses: int = 0
    """Uses whose tokens were estimated."""
    observed: bool = False
    """True when the stage only watched: this would have been saved."""

    @property
    def saved_usd(self) -> Decimal:
        """Money saved, in US dollars."""
        return usd(self.saved_nano_usd)

    @property
    def gross_saved_tokens(self) -> int:
        """Tokens before minus after."""
        return self.tokens_before - self.tokens_after

    @property
    def net_saved_tokens(self) -> int:
        """Tokens before, minus after, minus what it spent itself. Can be negative."""
        return self.gross_saved_tokens - self.spent_tokens


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


class Window:
    """A period in microseconds, from *since* up to, not including, *until*.

    Raises:
        ValueError: *since* is later than *until*, or a text is no time.
    """

    def __init__(self, since: Moment | None, until: Moment | None) -> None:
        begin = None if since is None else moment_from(since)
        end = None if until is None else moment_from(until, end=True)
        self.start = 0 if begin is None else max(0, rows.microseconds(begin))
        self.end = _FOREVER if end is None else max(0, rows.microseconds(end))
        if self.start > self.end:
            raise ValueError(f"since ({since}) is later than until ({until}).")

    def split(self) -> tuple[tuple[int, int], list[tuple[int, int]]]:
        """Return the whole hours as (first, end), and the rest as microseconds."""
        first, end = -(-self.start // HOUR_US), self.end // HOUR_US
        if first >= end:
            return (0, 0), [(self.start, self.end)]
        edges = [(self.start, first * HOUR_US), (end * HOUR_US, self.end)]
        return (first, end), [(start, stop) for start, stop in edges if start < stop]


class Queries:
    """Everything that can be asked about a period, over one snapshot of the database.

    Args:
        connection: A reading transaction.
        window: The period.
        filters: Which calls, by the names that stand in the ledger.
    """

    def __init__(self, connection: Connection, window: Window, filters: Filters) -> None:
        self._connection = connection
        self._window = window
        self._filters = filters
        self._needs_rows = not filters.keys().isdisjoint(MANY_VALUED)
        self._origin: dict[int, Mapping[str, str]] = {
            row["id"]: row for row in map(dict, connection.execute(select(origins)).mappings())
        }

    # Sums

    def totals(self) -> UsageTotals:
        """Sum over all calls."""
        return _totals(self._sums()[()])

    def unfinished(self) -> UsageTotals:
        """Sum over the calls that brought no whole answer."""
        among: dict[Table, ColumnElement[bool]] = {calls: calls.c.status != 0, savings: false()}
        return _totals(self._row_sums(among=among)[()])

    def span(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last call began."""
        started = calls.c.started_at
        # Apart, each is the end of an index; together they would read all of it.
        first = self._connection.scalar(select(func.min(started)))
        last = self._connection.scalar(select(func.max(started)))
        return None if first is None else (rows.moment_of(first), rows.moment_of(last))

    def by(
        self, dimensions: Sequence[Grouping], zone: tzinfo | None
    ) -> dict[tuple[str, ...], UsageTotals]:
        """Sum per combination of values: periods in their order, then the largest spender first."""
        groups = tuple(
            dict.fromkeys(
                d if d in MANY_VALUED else "origin" for d in dimensions if d not in PERIODS
            )
        )
        pieces = list(self._pieces(groups, [d for d in dimensions if d in PERIODS], zone))
        values = self._namer(dimensions, groups, (key for _, key, _ in pieces), zone)
        grouped = _no_sums()
        for begin, key, counts in pieces:
            if any(counts):
                _add(grouped[values(begin, key)], counts)
        totals = {name: _totals(counts) for name, counts in grouped.items()}
        if "tool" in dimensions:
            self._give_to_tools(totals, dimensions.index("tool"), groups, values)
        times = [place for place, d in enumerate(dimensions) if d in PERIODS]

        def order(item: tuple[tuple[str, ...], UsageTotals]) -> tuple[Any, ...]:
            return ([item[0][place] for place in times], *_largest_first(item))

        return dict(sorted(totals.items(), key=order))

    def _pieces(
        self, groups: tuple[str, ...], periods: Sequence[str], zone: tzinfo | None
    ) -> Iterator[tuple[int, _Key, list[int]]]:
        """Yield sums by group, each of a time that lies within one of all *periods*."""
        if not periods:
            for key, counts in self._sums(groups).items():
                yield 0, key, counts
            return
        # Days of UTC are whole hours wherever they are: the database can add them up.
        unit = "hour" if zone is not UTC or "hour" in periods else "day"
        width = HOUR_US if unit == "hour" else 24 * HOUR_US
        sums = self._sums((unit, *groups))
        split = {
            start
            for start in {number * width for number, *_ in sums}
            if any(
                _period_name(period, start, zone) != _period_name(period, start + width - 1, zone)
                for period in periods
            )
        }
        for (number, *key), counts in sums.items():
            if number * width not in split:
                yield number * width, tuple(key), counts
        # A boundary falls into these hours: zones such as India's are half an hour off.
        quarter = HOUR_US // 4
        for begin in (start + n * quarter for start in sorted(split) for n in range(4)):
            part = max(self._window.start, begin), min(self._window.end, begin + quarter)
            if part[0] < part[1]:
                for row_key, counts in self._row_sums(groups, part).items():
                    yield begin, row_key, counts

    def _namer(
        self,
        dimensions: Sequence[Grouping],
        groups: Sequence[str],
        keys: Iterable[_Key],
        zone: tzinfo | None,
    ) -> Callable[[int, _Key], tuple[str, ...]]:
        """Return the function from a time and the key of a group to its values."""
        columns = _places(groups)
        distinct = set(keys)
        names = {
            group: self._personal_names({key[place] for key in distinct})
            for group, place in columns.items()
            if group != "origin"
        }

        @cache
        def period(dimension: str, at: int) -> str:
            return _period_name(dimension, at, zone)

        def value(dimension: Grouping, at: int, key: _Key) -> str | None:
            if dimension in PERIODS:
                return period(dimension, at)
            if dimension in MANY_VALUED:
                return names[dimension].get(key[columns[dimension]])
            return self._origin[key[columns["origin"]][0]][dimension]

        return lambda at, key: tuple(value(d, at, key) or UNATTRIBUTED for d in dimensions)

    def _give_to_tools(
        self,
        totals: dict[tuple[str, ...], UsageTotals],
        place: int,
        groups: Sequence[str],
        values: Callable[[int, _Key], tuple[str, ...]],
    ) -> None:
        """Move what results of tools weighed from where the calls were made to the tools."""
        column = calls.c.tool_results
        keys = [key for group in groups for key in _keys((group,), calls)]
        query = select(column, calls.c.started_at, *keys).where(
            column.is_not(None), calls.c.cached == 0, *self._conditions(calls)
        )
        for text, at, *key in self._connection.execute(query, execution_options=_PAGED):
            caller = values(at, _key(key))
            results = rows.tool_results(text)
            give_to_tools(totals, caller, results, partial(_with_tool, caller, place))

    def selected(
        self,
        table: Table,
        *columns: ColumnElement[Any],
        where: Sequence[ColumnElement[bool]] = (),
        group_by: Sequence[ColumnElement[Any]] = (),
    ) -> list[tuple[Any, ...]]:
        """Ask about the rows of a table that the question is about."""
        query = select(*columns).where(*self._conditions(table), *where).group_by(*group_by)
        return [tuple(row) for row in self._connection.execute(query)]

    def grouped(self, table: Table, column: str, *sums: Any) -> Iterator[Sequence[Any]]:
        """Yield the different texts of a column, with how many rows have each, and sums."""
        query = select(table.c[column], func.count(), *sums).where(*self._conditions(table))
        query = query.group_by(table.c[column])
        yield from self._connection.execute(query, execution_options=_PAGED)

    def percentiles(self, shares: Sequence[float]) -> dict[str, list[float | None]]:
        """Return nearest-rank percentiles of how long billed, successful calls took."""
        measured = {}
        for name in ("duration_us", "first_chunk_us"):
            column = calls.c[name]
            wanted = [
                column.is_not(None),
                calls.c.cached == 0,
                calls.c.status == 0,
                *self._conditions(calls),
            ]
            count = self._connection.scalar(select(func.count()).where(*wanted)) or 0
            ranks = [max(0, -int(-share * count // 1) - 1) for share in shares]
            ordered = (
                select(column, func.row_number().over(order_by=column).label("rank"))
                .where(*wanted)
                .subquery()
            )
            query = select(ordered.c.rank, ordered.c[name]).where(
                ordered.c.rank.in_([rank + 1 for rank in ranks])
            )
            at_rank = {row[0]: row[1] for row in self._connection.execute(query)}
            measured[name] = [
                at_rank[rank + 1] / 1e6 if rank + 1 in at_rank else None for rank in ranks
            ]
        return measured

    def effects(self) -> list[Effect]:
        """Sum the savings per stage, and the answers of caches."""
        hours, edges = self._window.split()
        keys = ("stage", "observed")
        sums: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * len(SAVING_COUNTS))
        queries: list[Select[Any]] = []
        if self._needs_rows:
            edges = [(self._window.start, self._window.end)]
        else:
            sources = [saving_hours.c[name] for name in keys]
            queries.append(
                select(*sources, *rollups.hour_sums(saving_hours))
                .where(*self._hour_conditions(saving_hours, hours))
                .group_by(*sources)
            )
        for part in edges:
            sources = [savings.c[name] for name in keys]
            queries.append(
                select(*sources, *rollups.saving_sums())
                .where(*self._conditions(savings, part))
                .group_by(*sources)
            )
        for query in queries:
            for stage, observed, *counts in self._connection.execute(query):
                _add(sums[stage, observed], counts)
        name = self._names({stage for stage, _ in sums})
        found = [
            _effect(name.get(stage, "?"), observed, counts)
            for (stage, observed), counts in sums.items()
        ]
        found += self._cache_effects()
        return sorted(found, key=lambda effect: (effect.observed, -effect.net_saved_tokens))

    def _cache_effects(self) -> list[Effect]:
        """Return what caches answered, under the name of the last stage that acted: the cache."""
        query = (
            select(
                calls.c.origin,
                func.count(),
                func.sum(calls.c.input_tokens + calls.c.output_tokens),
                func.sum(func.coalesce(calls.c.saved_nano_usd, 0)),
                func.sum(case((calls.c.saved_nano_usd.is_(None), 1), else_=0)),
                func.sum(calls.c.estimated),
            )
            .where(calls.c.cached == 1, *self._conditions(calls))
            .group_by(calls.c.origin)
        )
        sums: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
        for origin, *counts in self._connection.execute(query):
            stage = self._origin[origin]["stages"].rpartition(STAGE_SEPARATOR)[2]
            _add(sums[stage or "response cache"], counts)
        return [
            Effect(
                stage,
                uses=uses,
                tokens_before=tokens,
                saved_nano_usd=money,
                unpriced_uses=unpriced,
                inexact_uses=estimated,
            )
            for stage, (uses, tokens, money, unpriced, estimated) in sums.items()
        ]

    # Rows

    def calls(self, *, newest_first: bool) -> Iterator[CallRecord]:
        """Read calls in order of time, page by page."""
        order = (calls.c.started_at, calls.c.seq)
        query = select(calls).where(*self._conditions(calls))
        query = query.order_by(*(column.desc() if newest_first else column for column in order))
        result = self._connection.execute(query, execution_options=_PAGED)
        for page in result.mappings().partitions(_PAGE):
            yield from self._records(page)

    def last_call(self) -> int:
        """Return the number of the row that was inserted last."""
        return self._connection.scalar(select(func.max(calls.c.seq))) or 0

    def calls_after(self, number: int, limit: int) -> tuple[int, list[CallRecord]]:
        """Read calls in the order in which they were inserted."""
        query = select(calls).where(calls.c.seq > number, *self._conditions(calls))
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
        name = self._names(numbers)
        for row in page:
            record = rows.call_record(row, self._origin[row["origin"]], name)
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
        return {
            bytes(row["call"]): rows.tool_choice(row, self._origin[row["origin"]])
            for row in self._connection.execute(query).mappings()
        }

    def savings(self) -> Iterator[Saving]:
        """Read savings in order of time."""
        conditions = self._conditions(savings)
        return self._savings(
            select(savings).where(*conditions).order_by(savings.c.started_at, savings.c.seq)
        )

    def _savings(self, query: Select[Any]) -> Iterator[Saving]:
        result = self._connection.execute(query, execution_options=_PAGED)
        for page in result.mappings().partitions(_PAGE):
            name = self._names({row["stage"] for row in page})
            for row in page:
                yield rows.saving_record(row, self._origin[row["origin"]], name)

    def budget_events(self) -> Iterator[BudgetEvent]:
        """Read budget events in order of time."""
        at = budget_events.c.at
        query = select(budget_events).where(at >= self._window.start, at < self._window.end)
        for row in self._connection.execute(query.order_by(at, budget_events.c.seq)).mappings():
            yield rows.budget_event(row)

    def runs(self, limit: int) -> list[RunTotals]:
        """Return the runs that were active last, newest first."""
        keys = self._latest_runs(limit)
        among = {table: _among_runs(table, keys) for table in (calls, savings)}
        sums = self._row_sums(("run",), among=among)
        group = _keys(("run",), calls)
        started, ended = calls.c.started_at, calls.c.started_at + calls.c.duration_us
        query = (
            select(*group, func.min(started), func.max(ended))
            .where(among[calls], *self._conditions(calls))
            .group_by(*group)
        )
        times = {_key(row[:-2]): row[-2:] for row in self._connection.execute(query)}
        name_of = self._personal_names(sums)
        made_by = self._made_by(keys)
        return [
            RunTotals(
                name_of[key],
                started_at=rows.moment_of(times[key][0]),
                ended_at=rows.moment_of(times[key][1]),
                totals=_totals(sums[key]),
                **made_by[key],
            )
            for key in keys
        ]

    def _made_by(self, keys: Sequence[_Key]) -> dict[_Key, dict[str, Any]]:
        """Return the agents of runs, and for whom they ran."""
        columns = [calls.c.origin, calls.c.user, calls.c.thread_id, *_keys(("run",), calls)]
        query = (
            select(*columns)
            .where(_among_runs(calls, keys), *self._conditions(calls))
            .group_by(*columns)
            .order_by(func.min(calls.c.started_at), func.min(calls.c.seq))
        )
        found = [(row[:3], _key(row[3:])) for row in self._connection.execute(query)]
        name = self._names({number for (_, *owner), _ in found for number in owner if number})
        made: dict[_Key, dict[str, Any]] = {}
        for (origin, user, thread), key in found:
            run = made.setdefault(key, {"agents": (), "user": None, "thread_id": None})
            agent = self._origin[origin]["agent"]
            if agent not in run["agents"]:
                run["agents"] += (agent,)
            run["user"] = run["user"] or name.get(user)
            run["thread_id"] = run["thread_id"] or name.get(thread)
        return made

    def _latest_runs(self, limit: int) -> list[_Key]:
        """Walk back in time until enough runs have been met."""
        query = (
            select(*_keys(("run",), calls))
            .where(
                calls.c.run.is_not(None),
                *self._conditions(calls),
            )
            .order_by(calls.c.started_at.desc(), calls.c.seq.desc())
        )
        met: dict[_Key, None] = {}
        with self._connection.execute(query, execution_options=_PAGED) as result:
            for row in result:
                met[_key(row)] = None
                if len(met) == limit:
                    break
        return list(met)

    # How sums are put together

    def _sums(self, groups: tuple[str, ...] = ()) -> _Sums:
        """Return counts by personal dimensions, "origin" and "hour"; in all without any."""
        sums = _no_sums()
        hours, edges = self._window.split()
        if self._needs_rows or not set(groups).isdisjoint(MANY_VALUED):
            edges = [(self._window.start, self._window.end)]
        else:
            self._add_hours(sums, groups, hours)
        for part in edges:
            for key, counts in self._row_sums(groups, part).items():
                _add(sums[key], counts)
        return sums

    def _add_hours(self, sums: _Sums, groups: Sequence[str], hours: tuple[int, int]) -> None:
        for table in (call_hours, saving_hours):
            keys = [table.c.hour // 24 if group == "day" else table.c[group] for group in groups]
            query = select(*keys, *rollups.hour_sums(table)).group_by(*keys)
            query = query.where(*self._hour_conditions(table, hours))
            if table is saving_hours:
                query = query.where(table.c.observed == 0)
            for row in self._connection.execute(query):
                _add(sums[_key(row[: len(keys)])], _as_call_counts(table, row[len(keys) :]))

    def _row_sums(
        self,
        groups: Sequence[str] = (),
        part: tuple[int, int] | None = None,
        among: Mapping[Table, ColumnElement[bool]] | None = None,
    ) -> _Sums:
        sums = _no_sums()
        for table, sums_of in ((calls, rollups.call_sums()), (savings, rollups.saving_sums())):
            keys = _keys(groups, table)
            query = select(*keys, *sums_of).group_by(*keys)
            query = query.where(*self._conditions(table, part))
            if table is savings:
                query = query.where(savings.c.observed == 0)
            if among is not None:
                query = query.where(among[table])
            for row in self._connection.execute(query):
                _add(sums[_key(row[: len(keys)])], _as_call_counts(table, row[len(keys) :]))
        return sums

    # How rows are chosen

    def _conditions(
        self, table: Table, part: tuple[int, int] | None = None
    ) -> list[ColumnElement[bool]]:
        start, end = part or (self._window.start, self._window.end)
        found: list[ColumnElement[bool]] = []
        if start > 0:
            found.append(table.c.started_at >= start)
        if end < _FOREVER:
            found.append(table.c.started_at < end)
        found += self._origin_conditions(table)
        for name in MANY_VALUED:
            if name in self._filters:
                found.append(self._personal_condition(table, name, self._filters[name]))
        return found

    def _hour_conditions(self, table: Table, hours: tuple[int, int]) -> list[ColumnElement[bool]]:
        first, end = hours
        return [
            table.c.hour >= first,
            table.c.hour < end,
            *self._origin_conditions(table),
        ]

    def _origin_conditions(self, table: Table) -> list[ColumnElement[bool]]:
        wanted = {
            name: "" if value == UNATTRIBUTED else rows.clean(value)
            for name, value in self._filters.items()
            if name in ORIGIN_FIELDS
        }
        if not wanted:
            return []
        fitting = [
            number
            for number, origin in self._origin.items()
            if all(origin[name] == value for name, value in wanted.items())
        ]
        return [table.c.origin.in_(fitting)]

    def _personal_condition(self, table: Table, name: str, value: str) -> ColumnElement[bool]:
        column = table.c[name]
        if value == UNATTRIBUTED:
            return column.is_(None)
        key = rows.key_of(rows.clean(value))
        number = self._connection.scalar(select(names.c.id).where(names.c.key == key))
        known = column == (-1 if number is None else number)
        if name == "run" and len(key) == 16:  # perhaps a call that is a run of its own
            own = calls.c.id if table is calls else table.c.call
            return known | ((column == OWN_RUN) & (own == key))
        return known

    def _names(self, numbers: set[int]) -> dict[int, str]:
        wanted, found = list(numbers), {}
        for start in range(0, len(wanted), _PAGE):
            query = select(names).where(names.c.id.in_(wanted[start : start + _PAGE]))
            for number, key in self._connection.execute(query):
                found[number] = rows.name_of(bytes(key))
        return found

    def _personal_names(self, keys: Iterable[_Key]) -> dict[_Key, str]:
        """Return the names of users, threads and runs."""
        wanted = list(keys)
        name = self._names({key[0] for key in wanted if key[0]})
        found: dict[_Key, str] = {key: name[key[0]] for key in wanted if key[0]}
        return found | {
            key: str(UUID(bytes=key[1])) for key in wanted if key[0] == OWN_RUN and len(key) == 2
        }


# What sums are keyed by, and how they are added

_Key = tuple[Any, ...]
_Sums = defaultdict[Any, list[int]]


def _keys(groups: Sequence[str], table: Table) -> list[ColumnElement[Any]]:
    """Return the columns of *table* that tell groups apart."""
    found: list[ColumnElement[Any]] = []
    for group in groups:
        if group in ("hour", "day"):
            found.append(rollups.hour_of(table) // (1 if group == "hour" else 24))
        else:
            found.append(table.c[group])
        if group == "run":  # of the runs that are single calls, each is a group of its own
            own = calls.c.id if table is calls else savings.c.call
            found.append(case((table.c.run == OWN_RUN, own)))
    return found


def run_keys() -> list[ColumnElement[Any]]:
    """Return the columns of a call that tell runs apart."""
    return _keys(("run",), calls)


def _places(groups: Sequence[str]) -> dict[str, slice]:
    """Return where the columns of each group stand in a key."""
    places, at = {}, 0
    for group in groups:
        width = 2 if group == "run" else 1
        places[group] = slice(at, at + width)
        at += width
    return places


def _with_tool(key: tuple[str, ...], place: int, tool: str) -> tuple[str, ...]:
    return (*key[:place], tool, *key[place + 1 :])


def _key(row: Iterable[Any]) -> _Key:
    return tuple(bytes(part) if isinstance(part, memoryview) else part for part in row)


def _among_runs(table: Table, keys: Iterable[_Key]) -> ColumnElement[bool]:
    numbers = [number for number, _ in keys if number != OWN_RUN]
    own = [call for number, call in keys if number == OWN_RUN]
    call = calls.c.id if table is calls else savings.c.call
    return table.c.run.in_(numbers) | ((table.c.run == OWN_RUN) & call.in_(own))


def _no_sums() -> _Sums:
    return defaultdict(lambda: [0] * len(COUNTS))


def _add(sums: list[int], counts: Iterable[Any]) -> None:
    for place, count in enumerate(counts):
        sums[place] += int(count or 0)  # of no rows SQL sums to NULL, PostgreSQL to decimals


def _as_call_counts(table: Table, counts: Sequence[Any]) -> list[int]:
    """Return sums over savings in the places of the sums over calls."""
    if table is calls or table is call_hours:
        return list(counts)
    saved = dict(zip(SAVING_COUNTS, counts, strict=True))
    as_counts = dict.fromkeys(COUNTS, 0)
    if saved["tokens_before"] is not None:
        as_counts["saved_tokens"] = (
            saved["tokens_before"] - saved["tokens_after"] - saved["spent_tokens"]
        )
    as_counts["saved_nano_usd"] = saved["saved_nano_usd"]
    return list(as_counts.values())


def _totals(counts: Iterable[int]) -> UsageTotals:
    return UsageTotals(**dict(zip(COUNTS, counts, strict=True)))


def _largest_first(item: tuple[tuple[str, ...], UsageTotals]) -> tuple[Any, ...]:
    name, totals = item
    return (-totals.total_tokens, -totals.calls, name)


def _period_name(period: str, at: int, zone: tzinfo | None) -> str:
    moment = rows.moment_of(at).astimezone(zone)
    if period == "hour":
        return moment.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")
    return moment.strftime(_PERIOD_FORMATS[period])


_PERIOD_FORMATS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
"""Weeks are those of ISO 8601: they begin on Monday, and sort as text."""


def _effect(stage: str, observed: int, counts: Iterable[Any]) -> Effect:
    sums = dict(zip(SAVING_COUNTS, map(int, counts), strict=True))
    return Effect(
        stage,
        uses=sums["savings"],
        tokens_before=sums["tokens_before"],
        tokens_after=sums["tokens_after"],
        spent_tokens=sums["spent_tokens"],
        saved_nano_usd=sums["saved_nano_usd"],
        unpriced_uses=sums["unpriced"],
        inexact_uses=sums["inexact"],
        observed=bool(observed),
    )


def _with_parts(
    call: CallRecord, saved: Sequence[Saving] | None, chosen: ToolChoice | None
) -> CallRecord:
    if not saved and chosen is None:
        return call
    return replace(call, savings=tuple(saved or ()), tool_choice=chosen)
