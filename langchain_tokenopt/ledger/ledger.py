"""The ledger itself: a sink to write to, and the questions it answers."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack, overload

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from langchain_tokenopt.core.argument_checks import (
    check_path,
    check_whole,
    did_you_mean,
    takes_names,
)
from langchain_tokenopt.core.dimensions import (
    DIMENSIONS,
    UNATTRIBUTED,
    Filters,
    Grouping,
    check_groupings,
)
from langchain_tokenopt.core.moments import Moment
from langchain_tokenopt.core.records import (
    BudgetEvent,
    CallRecord,
    Saving,
    ToolChoice,
    TuningStep,
    UsageEvent,
    UsageTotals,
)
from langchain_tokenopt.ledger import rollups, snapshots
from langchain_tokenopt.ledger.database import Database, LedgerError
from langchain_tokenopt.ledger.figures import Effect, PeriodFigures
from langchain_tokenopt.ledger.forgetting import forget
from langchain_tokenopt.ledger.period import Period
from langchain_tokenopt.ledger.reading import Records, RunTotals
from langchain_tokenopt.ledger.rows import hidden, without_user
from langchain_tokenopt.ledger.selection import Selection
from langchain_tokenopt.ledger.snapshots import KpiSnapshot
from langchain_tokenopt.ledger.tool_questions import ToolFigures, tool_figures
from langchain_tokenopt.ledger.window import Window
from langchain_tokenopt.ledger.writer import Writer

if TYPE_CHECKING:
    import pandas

_EVENTS = (CallRecord, Saving, BudgetEvent, ToolChoice)
_UNREADABLE = (AssertionError, LookupError, TypeError, ValueError, OverflowError, AttributeError)
"""What reading values raises that are of another kind than those the ledger writes."""


class Ledger:
    """Keep every call, saving and budget event; answer what was spent, when, by whom, on what.

    A sink: give it to ``TokenUsageCallbackHandler(sinks=[ledger])``. Any number of threads and
    processes may write one file. Prompts and answers never enter it.

    Answers include everything recorded through the same object before, and what others have
    committed.

    An event recorded twice is stored once: calls are known by their run id, savings and budget
    events by their own id. Recording never fails because of the database: while that cannot be
    written, events wait in memory, then in files beside it, which are taken in when it can be.

    Args:
        path: A file, created where there is none and readable by its owner only, or a database URL:
            ``postgresql://user@host/database``.
        durability: ``"background"`` writes what has come together every 50 milliseconds; what
            :meth:`flush` has acknowledged survives a crash of the process and a power cut.
            ``"full"`` commits before :meth:`record` returns, at the price of waiting for the disk.
        user_key: When given, users are stored as a keyed hash (HMAC-SHA256): the same user always
            under the same name, nobody can tell who. Filters take the plain user.
        max_pending: How many events may wait in memory. A caller that finds the queue full writes
            a batch itself; nothing is dropped.
        max_wait_seconds: How long anybody waits for a database that others have locked. In
            :meth:`record` a thread that runs an event loop waits for nobody, and nobody waits
            again while the trouble lasts.
        read_only: Only answer; never create or change the file.

    Raises:
        LedgerError: The ledger cannot be opened; the message says what to do.
        ValueError: An argument makes no sense.

    Example:
        >>> from datetime import UTC, datetime
        >>> from tempfile import mkdtemp
        >>> from uuid import uuid4
        >>> from langchain_tokenopt.core.records import CallRecord
        >>> from langchain_tokenopt.core.usage import Usage
        >>> ledger = Ledger(mkdtemp() + "/tokenopt.db")
        >>> ledger.record(CallRecord(
        ...     run_id=uuid4(), model="gpt-4o", provider="openai", usage=Usage(1_200, 300),
        ...     started_at=datetime(2026, 11, 20, 9, tzinfo=UTC), duration_seconds=1.5,
        ...     cost_nano_usd=6_000_000,
        ... ))
        >>> ledger.by("day")["2026-11-20"].total_tokens
        1500
        >>> ledger.check()
        []
        >>> ledger.close()
    """

    @takes_names
    def __init__(
        self,
        path: str | Path,
        *,
        durability: Literal["background", "full"] = "background",
        user_key: str | bytes | None = None,
        max_pending: int = 10_000,
        max_wait_seconds: float = 5.0,
        read_only: bool = False,
    ) -> None:
        check_path("path", path)
        if durability not in ("background", "full"):
            raise ValueError(f"durability must be 'background' or 'full', got {durability!r}.")
        check_whole("max_pending", max_pending)
        if not max_wait_seconds >= 0:
            raise ValueError(f"max_wait_seconds must be 0 or more, got {max_wait_seconds}.")
        if user_key is not None and not user_key:
            raise ValueError("user_key is empty: that would hide nobody.")
        self._user_key = user_key.encode() if isinstance(user_key, str) else user_key
        self._database = Database(path, read_only=read_only, wait_seconds=max_wait_seconds)
        self._writer = Writer(
            self._database,
            in_background=durability == "background",
            max_pending=max_pending,
            max_wait_seconds=max_wait_seconds,
        )
        self._end = weakref.finalize(self, self._writer.retire)
        self._end.atexit = False  # the writer has its own way out, which says what went wrong
        if not read_only:
            self._writer.take_in_waiting()

    @property
    def location(self) -> str:
        """Where it is: the path as given, or the URL without its password."""
        return self._database.label

    # Writing

    def record(self, event: UsageEvent) -> None:
        """Take note of *event*. From any thread; never raises because of the database.

        Raises:
            TypeError: *event* is no usage event.
            LedgerError: The ledger was opened with ``read_only=True``.
        """
        if isinstance(event, TuningStep):
            return
        if not isinstance(event, _EVENTS):
            names = ", ".join(kind.__name__ for kind in _EVENTS)
            raise TypeError(f"a ledger records events ({names}); got {event!r}.")
        if self._database.read_only:
            raise LedgerError(f"the ledger {self.location} was opened with read_only=True.")
        if self._user_key is not None:
            event = without_user(event, self._user_key)
        self._writer.put(event)

    def flush(self) -> None:
        """Return when everything recorded before is committed.

        Raises:
            LedgerError: It could not be written; the events are kept and tried again.
        """
        self._writer.flush()

    def close(self) -> None:
        """Write what is waiting and close. Happens by itself when the process ends.

        Raises:
            LedgerError: Something could not be written; the message names the file it is in.
        """
        self._end.detach()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({self.location!r})"

    def take_in(self, file: str | Path) -> int:
        """Record the events that wait in *file*, then delete it. Returns how many there were.

        Such files are made when a ledger could not be written. Events that are already here stay
        single.

        Raises:
            LedgerError: The ledger or the file cannot be used, or lines of it are no usage events;
                the events in it were stored, and the file stays.
        """
        path = Path(file)
        try:
            count, damaged = self._writer.take_in(path)
            if damaged:
                raise LedgerError(
                    f"{damaged:,} lines of {path} are no usage events. {count:,} events were "
                    f"stored; the file stays."
                )
            path.unlink()
        except OSError as error:
            raise LedgerError(f"{path} cannot be taken in: {error}.") from error
        return count

    # What is asked

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
            >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger, ledger.period() as period:
            ...     period.totals().calls, period.by("agent"), period.effects()
            (0, {}, [])
        """
        _refuse_unknown(filters)
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

    def keep_snapshot(self, figures: Iterable[KpiSnapshot]) -> None:
        """Keep figures as they are; of one hour, span and name the latest.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        with (
            self._explained(),
            self._database.connect_to_write() as connection,
            self._database.writing(connection),
        ):
            snapshots.keep(connection, figures)

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

    # Care

    def forget(self, *, before: Moment | None = None, **filters: Unpack[Filters]) -> int:
        """Delete calls, with their savings and choices of tools, and all that follows from them.

        Names that no record bears any more go, too; figures that :meth:`keep_snapshot` has kept
        stay. Others can write meanwhile: their events wait.

        Args:
            before: Only calls that began earlier.
            **filters: Only calls of this ``user``, ``organization``... Without any, the events of
                budgets before that time go, too.

        Returns:
            How many calls there were.

        Raises:
            ValueError: Neither is given: that would be everything.
            LedgerError: The ledger cannot be written.

        Example:
            >>> from tempfile import mkdtemp
            >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger:
            ...     ledger.forget(user="ada"), ledger.forget(before="90d")
            (0, 0)
        """
        if before is None and not filters:
            raise ValueError(
                'forget(before="90d") forgets what is older, forget(user="ada") a user: say what.'
            )
        _refuse_unknown(filters)
        window = Window(None, before)
        self.flush()
        with (
            self._explained(),
            self._database.connect_to_write() as connection,
            self._database.writing(connection),
        ):
            return forget(self._selection(connection, window, filters))

    def check(self) -> list[str]:
        """Prove that the rollups equal the rows. Returns what is wrong; empty when all is well.

        Reads everything: some seconds for a million calls.
        """
        found = []
        with self._reading() as connection:
            if self._database.is_sqlite:
                verdicts = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
                found += [f"the file is damaged: {text}" for text in verdicts if text != "ok"]
            return found + rollups.differences(connection)

    def rebuild(self) -> None:
        """Compute the rollups anew from the rows, should :meth:`check` find them different."""
        with (
            self._explained(),
            self._database.connect_to_write() as connection,
            self._database.writing(connection),
        ):
            rollups.rebuild(connection)

    @contextmanager
    def _selected(
        self,
        since: Moment | None = None,
        until: Moment | None = None,
        filters: Filters | None = None,
    ) -> Iterator[Selection]:
        filters = filters or {}
        _refuse_unknown(filters)
        window = Window(since, until)
        with self._reading() as connection:
            yield self._selection(connection, window, filters)

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
    def _reading(self) -> Iterator[Connection]:
        with self._explained(), self._connected() as connection:
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        self._writer.settle()
        with self._database.connect_to_read() as connection, connection.begin():
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


def _refuse_unknown(filters: Filters) -> None:
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
