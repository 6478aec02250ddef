"""What a ledger is asked: each question reads one state of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Unpack, overload

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from langchain_tokenopt.core.argument_checks import check_whole, did_you_mean
from langchain_tokenopt.core.dimensions import (
    DIMENSIONS,
    UNATTRIBUTED,
    Filters,
    Grouping,
    check_groupings,
)
from langchain_tokenopt.core.moments import Moment
from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, UsageTotals
from langchain_tokenopt.ledger import snapshots
from langchain_tokenopt.ledger.database import Database, LedgerError
from langchain_tokenopt.ledger.figures import Effect, PeriodFigures
from langchain_tokenopt.ledger.period import Period
from langchain_tokenopt.ledger.reading import Records, RunTotals
from langchain_tokenopt.ledger.rows import hidden
from langchain_tokenopt.ledger.selection import Selection
from langchain_tokenopt.ledger.snapshots import KpiSnapshot
from langchain_tokenopt.ledger.tool_questions import ToolFigures, tool_figures
from langchain_tokenopt.ledger.window import Window

if TYPE_CHECKING:
    import pandas

__all__ = ["Questions"]

_UNREADABLE = (AssertionError, LookupError, TypeError, ValueError, OverflowError, AttributeError)
"""What reading values raises that are of another kind than those the ledger writes."""


class Questions:
    """What a :class:`Ledger` answers."""

    _database: Database
    _user_key: bytes | None

    def _settle(self) -> None:
        """Let answers include what was recorded before."""
        raise NotImplementedError

    @property
    def location(self) -> str:
        """Where it is: the path as given, or the URL without its password."""
        return self._database.label

    @contextmanager
    def period(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[Period]:
        """Ask several questions about one period, at one moment; each thing is read once.

        Args:
            since: See :meth:`totals`.
            until: See :meth:`totals`.
            **filters: See :meth:`totals`.

        Example:
            >>> from tempfile import mkdtemp
            >>> from langchain_tokenopt.ledger import Ledger
            >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger, ledger.period() as period:
            ...     period.totals().calls, period.by("agent"), period.effects()
            (0, {}, [])
        """
        refuse_unknown(filters)
        window = Window(since, until)
        with ExitStack() as stack:
            with self._explained():
                connection = stack.enter_context(self._connected())
                selection = self._selection(connection, window, filters)
            yield Period(selection, self._explained)

    def totals(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        percentiles: bool = False,
        **filters: Unpack[Filters],
    ) -> UsageTotals:
        """Sum over the calls that began in a period: from *since* up to, not including, *until*.

        Args:
            since: A time (without a zone it is in UTC), a day, how long ago, or a text such as
                ``"7d"``, ``"today"``, ``"2026-11-20"`` (on this machine's clock).
            until: Likewise; a day includes that day.
            percentiles: Also say how long calls took: exactly as long as a period has few calls
                (20,000), and within 5 % when it has more.
            **filters: Only calls of this ``agent``, ``tool``, ``model``, ``user``... The value
                ``"(none)"`` asks for calls without one.
        """
        with self.period(since=since, until=until, **filters) as period:
            return period.totals(percentiles=percentiles)

    @overload
    def by(
        self,
        dimension: Grouping,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        tz: tzinfo | None = UTC,
        **filters: Unpack[Filters],
    ) -> dict[str, UsageTotals]: ...

    @overload
    def by(
        self,
        dimension: Grouping,
        *more: Grouping,
        since: Moment | None = None,
        until: Moment | None = None,
        tz: tzinfo | None = UTC,
        **filters: Unpack[Filters],
    ) -> dict[tuple[str, ...], UsageTotals]: ...

    def by(
        self,
        dimension: Grouping,
        *more: Grouping,
        since: Moment | None = None,
        until: Moment | None = None,
        tz: tzinfo | None = UTC,
        **filters: Unpack[Filters],
    ) -> dict[str, UsageTotals] | dict[tuple[str, ...], UsageTotals]:
        """Sum per agent, tool, model, node, user, run, tag..., most tokens first, or per period.

        Calls without a value stand under ``"(none)"``, so the parts add up to :meth:`totals`.

        Args:
            dimension: Also ``"hour"``, ``"day"``, ``"week"`` (2026-W47) and ``"month"``, which come
                oldest first.
            *more: Further dimensions: ``by("user", "agent")`` has a sum for each pair that occurs,
                under the key ``("ada", "news")``.
            since: See :meth:`totals`.
            until: See :meth:`totals`.
            tz: Whose hours, days, weeks and months; ``None`` is the machine's own time.
            **filters: See :meth:`totals`.

        Raises:
            ValueError: There is no such dimension.
        """
        check_groupings((dimension, *more))
        with self.period(since=since, until=until, **filters) as period:
            found = period.by(dimension, *more, tz=tz)
        return found if more else {value: totals for (value,), totals in found.items()}

    def calls(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        newest_first: bool = False,
        **filters: Unpack[Filters],
    ) -> Iterator[CallRecord]:
        """Read the calls themselves, in order of time, with the savings that came with them."""
        with self._selected(since, until, filters) as selection:
            yield from Records(selection).calls(newest_first=newest_first)

    def last_call(self) -> int:
        """Return the number of the call that was recorded last; 0 before the first."""
        with self._selected() as selection:
            return Records(selection).last_call()

    def calls_after(
        self,
        number: int,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 1_000,
        **filters: Unpack[Filters],
    ) -> tuple[int, list[CallRecord]]:
        """Read the calls that were recorded after the call with a *number*, in that order.

        Returns:
            The number to go on from, and at most *limit* calls.

        Example:
            >>> from tempfile import mkdtemp
            >>> from langchain_tokenopt.ledger import Ledger
            >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger:
            ...     ledger.calls_after(ledger.last_call())
            (0, [])
        """
        check_whole("limit", limit)
        with self._selected(since, until, filters) as selection:
            return Records(selection).calls_after(number, limit)

    def run_ids(self, beginning: str) -> list[str]:
        """Return the run called *beginning*, or those of which the id begins so: at most ten."""
        with self._selected() as selection:
            return Records(selection).run_ids(beginning)

    def to_pandas(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> pandas.DataFrame:
        """Return the calls as a table, one row each, in order of time.

        Columns are those of ``tokenopt export``; ``started_at`` is a time in UTC, money (also in
        ``cost_nano_usd``, exactly) a number, and absent where no price is known.

        Raises:
            ImportError: pandas is not installed.
        """
        from langchain_tokenopt.ledger.flat_rows import data_frame

        return data_frame(self.calls(since=since, until=until, **filters))

    def savings(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[Saving]:
        """Read the savings of stages, in order of time."""
        with self._selected(since, until, filters) as selection:
            yield from Records(selection).savings()

    def budget_events(
        self, *, since: Moment | None = None, until: Moment | None = None
    ) -> list[BudgetEvent]:
        """Read what budgets did, in order of time."""
        with self._selected(since, until) as selection:
            return list(Records(selection).budget_events())

    def runs(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 20,
        **filters: Unpack[Filters],
    ) -> list[RunTotals]:
        """Return the runs that made calls last, newest first, with what each has spent.

        Raises:
            ValueError: *limit* is not positive.
        """
        check_whole("limit", limit)
        with self._selected(since, until, filters) as selection:
            return Records(selection).runs(limit)

    def costs_by_hour(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> dict[datetime, int]:
        """Sum what calls cost, in billionths of a dollar, by the hour in which they began."""
        with self.period(since=since, until=until, **filters) as period:
            return period.costs_by_hour()

    def parts_of_runs(
        self, *, limit: int = 20, **filters: Unpack[Filters]
    ) -> dict[str, dict[str, UsageTotals]]:
        """Return the runs that made calls last, oldest first: by id, what each agent used.

        Raises:
            ValueError: *limit* is not positive.
        """
        latest = self.runs(limit=limit, **filters)
        parts: dict[str, dict[str, UsageTotals]] = {run.run: {} for run in reversed(latest)}
        if latest:
            since = min(run.started_at for run in latest)
            for (run, agent), totals in self.by("run", "agent", since=since, **filters).items():
                if run in parts:
                    parts[run][agent] = totals
        return parts

    def unfinished(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> UsageTotals:
        """Sum over the billed calls that failed or were abandoned: spent without a whole answer."""
        with self.period(since=since, until=until, **filters) as period:
            return period.unfinished()

    def span(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last call began; ``None`` without calls."""
        with self._selected() as selection:
            return Records(selection).span()

    def effects(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> list[Effect]:
        """Return what each optimizer saved and what it spent itself, largest net saving first."""
        with self.period(since=since, until=until, **filters) as period:
            return period.effects()

    def figures(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> PeriodFigures:
        """Return what key figures are made of beside :meth:`totals`."""
        with self.period(since=since, until=until, **filters) as period:
            return period.figures()

    def snapshots(
        self, *, since: Moment | None = None, until: Moment | None = None
    ) -> list[KpiSnapshot]:
        """Return the figures that were kept, oldest first."""
        window = Window(since, until)
        with self._reading() as connection:
            return snapshots.kept(connection, window.start, window.end)

    def tools(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        **filters: Unpack[Filters],
    ) -> list[ToolFigures]:
        """Return what each tool cost and what it was used for, the costliest first.

        Args:
            since: See :meth:`totals`.
            until: See :meth:`totals`.
            **filters: See :meth:`totals`; of the calls whose requests showed the tools.

        Example:
            >>> from tempfile import mkdtemp
            >>> from langchain_tokenopt.ledger import Ledger
            >>> from langchain_tokenopt.core.records import OfferedTool, ToolChoice
            >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger:
            ...     ledger.record(ToolChoice(
            ...         offered=(OfferedTool("search", 120), OfferedTool("refund", 900)),
            ...         called=("search",), left_out=0, tokens_before=1_020, tokens_after=1_020,
            ...     ))
            ...     [(tool.tool, tool.schema_tokens, tool.called) for tool in ledger.tools()]
            [('refund', 900, 0), ('search', 120, 1)]
        """
        with self._selected(since, until, filters) as selection:
            return tool_figures(selection)

    @contextmanager
    def _selected(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        filters: Filters | None = None,
    ) -> Iterator[Selection]:
        filters = filters or {}
        refuse_unknown(filters)
        window = Window(since, until)
        with self._reading() as connection:
            selection = self._selection(connection, window, filters)
            if since is not None or until is not None:
                selection.lacks_rows(window.start)
            yield selection

    def _selection(
        self,
        connection: Connection,
        window: Window,
        filters: Filters,
    ) -> Selection:
        if self._user_key is not None and filters.get("user", UNATTRIBUTED) != UNATTRIBUTED:
            filters = {**filters, "user": hidden(filters["user"], self._user_key)}
        return Selection(connection, window, filters)

    @contextmanager
    def _reading(self, silent_seconds: float | None = None) -> Iterator[Connection]:
        with self._explained(), self._connected(silent_seconds) as connection:
            yield connection

    @contextmanager
    def _connected(self, silent_seconds: float | None = None) -> Iterator[Connection]:
        self._settle()
        with self._database.connect_to_read(silent_seconds) as connection, connection.begin():
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            self._database.follow_path()
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._database.explained(error) from error
        except _UNREADABLE as error:
            raise LedgerError(
                f"the ledger {self.location} is damaged: it holds what this package does not "
                f"write ({type(error).__name__}: {error}). Restore it from a copy, or start "
                f"another file."
            ) from error


def refuse_unknown(filters: Filters) -> None:
    for name, value in filters.items():
        if not isinstance(value, str):
            raise TypeError(
                f'{name}={value!r} is no name; filter by one: {name}="ada". For several, ask for '
                f"by({name!r})."
            )
    unknown = sorted(filters.keys() - set(DIMENSIONS))
    if unknown:
        raise TypeError(
            f"cannot filter by {unknown[0]!r}; choose from {', '.join(DIMENSIONS)}."
            f"{did_you_mean(unknown[0], DIMENSIONS)}"
        )
