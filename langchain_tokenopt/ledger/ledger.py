"""The ledger itself: a sink to write to, and the questions it answers."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack

from langchain_tokenopt.core.argument_checks import check_path, check_whole, takes_names
from langchain_tokenopt.core.dimensions import Filters
from langchain_tokenopt.core.moments import Moment
from langchain_tokenopt.core.records import (
    BudgetEvent,
    CallRecord,
    Saving,
    ToolChoice,
    TuningStep,
    UsageEvent,
)
from langchain_tokenopt.ledger import rollups, snapshots
from langchain_tokenopt.ledger.database import LONG_SECONDS, READ_SECONDS, Database, LedgerError
from langchain_tokenopt.ledger.forgetting import forget
from langchain_tokenopt.ledger.questions import Questions, refuse_unknown
from langchain_tokenopt.ledger.retention import Keeper, keep_from, maintain
from langchain_tokenopt.ledger.rows import without_user
from langchain_tokenopt.ledger.snapshots import KpiSnapshot
from langchain_tokenopt.ledger.window import Window
from langchain_tokenopt.ledger.writer import Writer

_EVENTS = (CallRecord, Saving, BudgetEvent, ToolChoice)


class Ledger(Questions):
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
            ``"full"`` commits before :meth:`record` returns, at the price of waiting for the disk;
            a thread that runs an event loop waits for no server, and hands over instead.
        user_key: When given, users are stored as a keyed hash (HMAC-SHA256): the same user always
            under the same name, nobody can tell who. Filters take the plain user.
        max_pending: How many events may wait in memory. A caller that finds the queue full writes
            a batch itself; nothing is dropped.
        max_wait_seconds: How long anybody waits for a database that others have locked. A server
            has a queue, in which each has a turn: who flushes, closes, opens or maintains waits up
            to twelve times as long in it. In :meth:`record` a thread that runs an event loop waits
            for nobody, and nobody waits again while the trouble lasts.
        read_only: Only answer; never create or change the file.
        keep: How long calls are kept, at least: ``"90 days"`` or ``timedelta(days=90)``. Older
            ones go by themselves, whole days of a file and whole months of a server. Their sums
            by the hour and the day stay, so totals, :meth:`by` and money add up over all time;
            of single calls, runs and threads nothing is known any more. By default all are kept.

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
        keep: timedelta | str | None = None,
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
        self._keep = None if keep is None else keep_from(keep)
        if not read_only:
            self._writer.take_in_waiting()
        self._keeper: Keeper | None = None
        if self._keep is not None and not read_only:
            self._keeper = Keeper(self._database, self._keep)
            weakref.finalize(self, self._keeper.stop)

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
        if self._keeper is not None:
            self._keeper.stop()
        self._writer.close()

    def _settle(self) -> None:
        self._writer.settle()

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

    def keep_snapshot(self, figures: Iterable[KpiSnapshot]) -> None:
        """Keep figures as they are; of one hour, span and name the latest.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        with (
            self._explained(),
            self._database.connect_to_write(READ_SECONDS) as connection,
            self._database.writing(connection),
        ):
            snapshots.keep(connection, figures)

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
        refuse_unknown(filters)
        window = Window(None, before)
        self.flush()
        with (
            self._explained(),
            self._database.connect_to_write() as connection,
            self._database.writing(connection),
        ):
            return forget(self._selection(connection, window, filters))

    def maintain(self, keep: timedelta | str | None = None) -> int:
        """Do now what is done from time to time: remove what is not kept, make partitions ahead.

        For a ledger in PostgreSQL whose workers do not own the tables: let the owner do it once a
        month or more often, ``tokenopt maintain``. He makes the partitions of a year ahead, and
        moves rows into them that waited for one, month by month; others can write in between.

        Args:
            keep: How long calls are kept; by default as the ledger was opened.

        Returns:
            How many calls have been removed.

        Raises:
            LedgerError: The ledger cannot be written, or not by this user.
            ValueError: *keep* is no length of time.

        Example:
            >>> from tempfile import mkdtemp
            >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger:
            ...     ledger.maintain("90 days")
            0
        """
        length = self._keep if keep is None else keep_from(keep)
        self.flush()
        with self._explained():
            return maintain(self._database, length)

    def check(self) -> list[str]:
        """Prove that the rollups equal the rows. Returns what is wrong; empty when all is well.

        Reads everything: some seconds for a million calls.
        """
        found = []
        with self._reading(LONG_SECONDS) as connection:
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
