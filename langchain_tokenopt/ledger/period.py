"""What a period can be asked: each answer is put together from :class:`Sums`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import cache, cached_property, partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, case, func, select

from langchain_tokenopt.core.dimensions import (
    MANY_VALUED,
    PERIODS,
    STAGE_SEPARATOR,
    UNATTRIBUTED,
    Grouping,
    give_to_tools,
)
from langchain_tokenopt.core.records import COUNTS, ToolResult, UsageTotals, percentile
from langchain_tokenopt.ledger import rows
from langchain_tokenopt.ledger.buckets import percentiles_of
from langchain_tokenopt.ledger.figures import BudgetState, Effect, PeriodFigures
from langchain_tokenopt.ledger.measures import (
    CACHED_KIND,
    COST,
    LATENCIES,
    LATENCY,
    RESULTS,
    RUNS,
    SAVED,
    SAVING_KIND,
    SPEND,
    UNPRICED_RUN,
    Measure,
    cost_of_calls,
    total,
)
from langchain_tokenopt.ledger.rows import DAY_US, HOUR_US, OWN_RUN, STATUSES
from langchain_tokenopt.ledger.schema import SAVING_COUNTS, SPEND_COUNTS, budget_events, calls, runs
from langchain_tokenopt.ledger.selection import PAGED, Key, Selection
from langchain_tokenopt.ledger.sums import Sums, add, places

__all__ = ["FEW_CALLS", "Period"]

FEW_CALLS = 20_000
"""Percentiles of a period with as many calls are exact; of more they come from buckets."""
_SHARES: Final = (0.50, 0.95)


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _explained(
    ask: Callable[Concatenate[Period, _P], _T],
) -> Callable[Concatenate[Period, _P], _T]:
    """Let a question that fails say why; what fails between questions is not the ledger's."""

    @wraps(ask)
    def asked(self: Period, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self._explained():
            return ask(self, *args, **kwargs)

    return asked


class Period:
    """A period of a ledger, at one moment: what is asked twice is read once.

    Comes from :meth:`Ledger.period`.
    """

    def __init__(
        self, selection: Selection, explained: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._explained = explained
        self._selection = selection
        self._sums = Sums(selection)

    # Sums of calls

    @_explained
    def totals(self, *, percentiles: bool = False) -> UsageTotals:
        """Sum over all calls. See :meth:`Ledger.totals`."""
        totals = _totals(self._spent(lambda kind: True))
        return replace(totals, **self._took()) if percentiles else totals

    @_explained
    def unfinished(self) -> UsageTotals:
        """Sum over the calls that brought no whole answer."""
        counts = self._spent(lambda kind: kind < SAVING_KIND and kind % CACHED_KIND != 0)
        return _totals(counts)

    def _spent(self, wanted: Callable[[int], bool]) -> list[int]:
        """Sum over the calls of some kinds."""
        sums = [0] * len(SPEND_COUNTS)
        # Other questions need origins as well; of one user's calls they are not summed up.
        of_user = self._selection.keys == {"user"}
        groups = ("kind",) if of_user else ("origin", "kind")
        for (*_, kind), counts in self._sums.of(SPEND, groups).items():
            if wanted(kind):
                add(sums, counts)
        return sums

    @_explained
    def by(
        self, *dimensions: Grouping, tz: tzinfo | None = UTC, whole_answers: bool = False
    ) -> dict[tuple[str, ...], UsageTotals]:
        """Sum per combination of values: periods in their order, then the largest spender first.

        Args:
            *dimensions: See :meth:`Ledger.by`.
            tz: Whose hours and days.
            whole_answers: Only over billed calls that were answered.
        """
        periods = [d for d in dimensions if d in PERIODS]
        # Days of origins are many: the database adds them up. Rows are read once, for all.
        by_name = periods and self._selection.is_everything
        groups = tuple(
            dict.fromkeys(
                d if d in MANY_VALUED or by_name else "origin"
                for d in dimensions
                if d not in PERIODS
            )
        )
        pieces = [
            (begin, key, counts)
            for begin, (*key, kind), counts in self._pieces(SPEND, (*groups, "kind"), periods, tz)
            if any(counts[: len(COUNTS)]) and (kind == 0 or not whole_answers)
        ]
        values = self._namer(dimensions, groups, (tuple(key) for _, key, _ in pieces), tz)
        grouped: dict[tuple[str, ...], list[int]] = {}
        for begin, key, counts in pieces:
            name = values(begin, tuple(key))
            known = grouped.setdefault(name, [0] * len(SPEND_COUNTS))
            add(known, counts)
        totals = {name: _totals(counts) for name, counts in grouped.items()}
        if "tool" in dimensions and not whole_answers:
            place = dimensions.index("tool")
            for begin, (*key, tool), counts in self._pieces(
                RESULTS, (*groups, "result_tool"), periods, tz
            ):
                caller = values(begin, tuple(key))
                result = ToolResult(tool, tokens=counts[1], cost_nano_usd=counts[2])
                give_to_tools(totals, caller, [result], partial(_with_tool, caller, place))
        times = [place for place, d in enumerate(dimensions) if d in PERIODS]

        def order(item: tuple[tuple[str, ...], UsageTotals]) -> tuple[Any, ...]:
            return ([item[0][place] for place in times], *_largest_first(item))

        return dict(sorted(totals.items(), key=order))

    @_explained
    def costs_by_hour(self) -> dict[datetime, int]:
        """Sum what calls cost, in billionths of a dollar, by the hour in which they began."""
        hours = self._sums.of(COST, ("hour",)).items()
        return {rows.moment_of(hour * HOUR_US): cost for (hour,), (cost,) in hours}

    def _pieces(
        self, measure: Measure, groups: tuple[str, ...], periods: Sequence[str], zone: tzinfo | None
    ) -> Iterator[tuple[int, Key, list[int]]]:
        """Yield sums by group, each of a time that lies within one of all *periods*."""
        if not periods:
            for key, counts in self._sums.of(measure, groups).items():
                yield 0, key, counts
            return
        # Days of UTC are whole hours wherever they are: the database can add them up.
        unit = "hour" if zone is not UTC or "hour" in periods else "day"
        width = HOUR_US if unit == "hour" else DAY_US
        sums = self._sums.of(measure, (unit, *groups))
        split = {
            start
            for start in {number * width for number, *_ in sums}
            if start >= self._selection.horizon
            and any(
                _period_name(period, start, zone) != _period_name(period, start + width - 1, zone)
                for period in periods
            )
        }
        for (number, *rest), counts in sums.items():
            if number * width not in split:
                yield number * width, tuple(rest), counts
        # A boundary falls into these hours: zones such as India's are half an hour off.
        window, quarter = self._selection.window, HOUR_US // 4
        for begin in (start + n * quarter for start in sorted(split) for n in range(4)):
            part = max(window.start, begin), min(window.end, begin + quarter)
            if part[0] < part[1]:
                for row_key, counts in self._sums.of_rows(measure, groups, part).items():
                    yield begin, row_key, counts

    def _namer(
        self,
        dimensions: Sequence[Grouping],
        groups: Sequence[str],
        keys: Iterable[Key],
        zone: tzinfo | None,
    ) -> Callable[[int, Key], tuple[str, ...]]:
        """Return the function from a time and the key of a group to its values."""
        columns = places(groups)
        distinct = set(keys)
        names = {
            group: self._selection.personal_names({key[place] for key in distinct})
            for group, place in columns.items()
            if group in MANY_VALUED
        }

        origins = self._selection.origins(
            key[columns["origin"]][0] for key in distinct if "origin" in columns
        )

        @cache
        def period(dimension: str, at: int) -> str:
            return _period_name(dimension, at, zone)

        def value(dimension: Grouping, at: int, key: Key) -> str | None:
            if dimension in PERIODS:
                return period(dimension, at)
            if dimension in MANY_VALUED:
                return names[dimension].get(key[columns[dimension]])
            if dimension in columns:
                return str(key[columns[dimension]][0])
            return origins[key[columns["origin"]][0]][dimension]

        return cache(lambda at, key: tuple(value(d, at, key) or UNATTRIBUTED for d in dimensions))

    # How long calls took, and what runs cost

    @cached_property
    def _is_short(self) -> bool:
        """Whether so few calls were made that rows can be sorted."""
        if self._selection.window.start < self._selection.horizon:
            return False
        inside = select(calls.c.seq).where(
            calls.c.started_at >= self._selection.window.start,
            calls.c.started_at < self._selection.window.end,
        )
        some = inside.limit(FEW_CALLS + 1).subquery()
        found = self._selection.connection.scalar(select(func.count()).select_from(some))
        return (found or 0) <= FEW_CALLS

    def _took(self) -> dict[str, Any]:
        """Return nearest-rank percentiles of how long billed, successful calls took."""
        found: dict[str, Any] = {}
        for number, name in enumerate(LATENCIES):
            if self._is_short:
                column = calls.c[name]
                wanted = [column.is_not(None), calls.c.cached == 0, calls.c.status == 0]
                query = select(column).where(*wanted, *self._selection.of(calls))
                values = self._selection.connection.scalars(query).all()
                took = [percentile(values, share) for share in _SHARES]
            else:
                of_all = self._sums.of(LATENCY, ("measure", "bucket"))
                counts = {b: times for (m, b), (times,) in of_all.items() if m == number}
                took = percentiles_of(counts, _SHARES)
            kind = name.removesuffix("_us")
            for share, microseconds in zip(_SHARES, took, strict=True):
                seconds = None if microseconds is None else microseconds / 1e6
                found[f"{kind}_p{share:.0%}_seconds".replace("%", "")] = seconds
        return found

    def _runs(self) -> tuple[int, int, int, list[float | None]]:
        """Return how many runs began, their cost, how many have no price, and percentiles."""
        if self._selection.is_everything and not self._is_short:
            sums = self._sums.of(RUNS, ("bucket",))
            unpriced = sums.get((UNPRICED_RUN,), [0])[0]
            priced = {b: n for (b,), (n, _) in sums.items() if b != UNPRICED_RUN}
            cost = sum(cost for _, cost in sums.values())
            return sum(priced.values()), cost, unpriced, percentiles_of(priced, _SHARES)
        found = [
            row
            for query in self._run_queries()
            for row in self._selection.connection.execute(query)
        ]
        costs = [int(cost) for cost, unpriced in found if not unpriced]
        middle = [percentile(costs, share) for share in _SHARES]
        return len(costs), sum(costs), len(found) - len(costs), middle

    def _run_queries(self) -> Iterator[Any]:
        """Yield what runs cost, one row each; with filters what the calls did that these let by."""
        chosen, window = self._selection.chosen(calls), self._selection.window
        cost, unpriced = cost_of_calls()
        own = [calls.c.run == OWN_RUN, *self._selection.of(calls)]
        yield select(cost, unpriced).where(*own)
        if self._selection.is_everything:
            began = [runs.c.started_at >= window.start, runs.c.started_at < window.end]
            yield select(runs.c.cost_nano_usd, runs.c.unpriced_calls).where(*began)
            return
        self._selection.lacks_rows(window.start)
        at = runs.c.started_at + 0  # calls are found by the filters, and their runs by the calls
        began = [at >= window.start, at < window.end, calls.c.started_at + 0 >= window.start]
        of_runs = select(total(cost), total(unpriced)).select_from(
            calls.join(runs, runs.c.run == calls.c.run)
        )
        yield of_runs.where(*began, *chosen).group_by(calls.c.run + 0)

    # Savings and key figures

    @_explained
    def effects(self) -> list[Effect]:
        """Sum the savings per stage, and the answers of caches."""
        sums = self._sums.of(SAVED, ("stage", "observed"))
        name = self._selection.names(stage for stage, _ in sums)
        found = [
            Effect.of(name.get(stage, "?"), observed, counts)
            for (stage, observed), counts in sums.items()
        ]
        found += self._cache_effects()
        return sorted(found, key=lambda effect: (effect.observed, -effect.net_saved_tokens))

    def _cache_effects(self) -> list[Effect]:
        """Return what caches answered, under the name of the last stage that acted: the cache."""
        sums: dict[str, list[int]] = defaultdict(lambda: [0] * len(SPEND_COUNTS))
        cached = [
            (origin, counts)
            for (origin, kind), counts in self._sums.of(SPEND, ("origin", "kind")).items()
            if CACHED_KIND <= kind < SAVING_KIND
        ]
        made = self._selection.origins(origin for origin, _ in cached)
        for origin, counts in cached:
            stage = made[origin]["stages"].rpartition(STAGE_SEPARATOR)[2]
            add(sums[stage or "response cache"], counts)
        named = {
            stage: dict(zip(SPEND_COUNTS, counts, strict=True)) for stage, counts in sums.items()
        }
        return [
            Effect(
                stage,
                uses=of["calls"],
                tokens_before=of["saved_tokens"],
                saved_nano_usd=of["saved_nano_usd"],
                unpriced_uses=of["unpriced_savings"],
                inexact_uses=of["inexact_calls"],
            )
            for stage, of in named.items()
        ]

    @_explained
    def figures(self) -> PeriodFigures:
        """Return what key figures are made of beside the totals."""
        spent = dict(zip(SPEND_COUNTS, self._spent(lambda kind: True), strict=True))
        hits = self._spent(lambda kind: CACHED_KIND <= kind < SAVING_KIND)
        cached = dict(zip(SPEND_COUNTS, hits, strict=True))
        refused = self._spent(lambda kind: kind % CACHED_KIND == STATUSES.index("refused"))
        acted = [0] * len(SAVING_COUNTS)
        for (_, observed), counts in self._sums.of(SAVED, ("stage", "observed")).items():
            if not observed:
                add(acted, counts)
        saved = dict(zip(SAVING_COUNTS, acted, strict=True))
        count, cost, unpriced, (p50, p95) = self._runs()
        return PeriodFigures(
            refused_calls=refused[SPEND_COUNTS.index("calls")],
            unpriced_tokens=spent["unpriced_tokens"],
            cached_saved_nano_usd=cached["saved_nano_usd"],
            unpriced_hits=cached["unpriced_savings"],
            runs=count,
            runs_nano_usd=cost,
            unpriced_runs=unpriced,
            run_p50_nano_usd=None if p50 is None else round(p50),
            run_p95_nano_usd=None if p95 is None else round(p95),
            measured_calls=spent["measured_calls"],
            measured_tokens=spent["measured_tokens"],
            avoided_tokens=cached["saved_tokens"] + saved["net_of_calls"],
            shortened=saved["shortened"],
            tokens_before=saved["shortened_before"],
            tokens_after=saved["shortened_after"],
            not_shortened=saved["savings"] - saved["shortened"],
        )

    # Budgets

    @_explained
    def budgets(self, agent: str | None = None) -> list[BudgetState]:
        """Return the latest state of every budget that did something, the fullest first."""
        e = budget_events.c
        owner = func.coalesce(func.nullif(e.run, ""), e.thread_id, "")
        window: dict[str, Any] = {"partition_by": (e.budget, owner)}

        def so_often(kind: str) -> ColumnElement[Any]:
            return func.sum(case((e.kind == kind, 1), else_=0)).over(**window)

        latest = func.row_number().over(**window, order_by=(e.at.desc(), e.seq.desc()))
        columns = [e.budget, owner.label("owner"), e.spent_tokens, e.held_tokens, e.limit_tokens]
        span = self._selection.window
        query = select(
            *columns,
            so_often("alert").label("alerts"),
            so_often("denied").label("denied"),
            latest.label("place"),
        ).where(e.at >= span.start, e.at < span.end)
        if agent is not None:
            query = query.where(e.agent == agent)
        each = query.subquery()
        found = self._selection.connection.execute(
            select(*list(each.c)[:-1]).where(each.c.place == 1), execution_options=PAGED
        )
        states = [BudgetState(*row[:2], *map(int, row[2:])) for row in found]
        return sorted(states, key=lambda state: (-state.used_ratio, state.budget, state.owner))


def _totals(counts: Iterable[int]) -> UsageTotals:
    return UsageTotals(**dict(zip(COUNTS, counts, strict=False)))


def _with_tool(key: tuple[str, ...], place: int, tool: str) -> tuple[str, ...]:
    return (*key[:place], tool, *key[place + 1 :])


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
