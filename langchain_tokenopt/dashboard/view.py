"""What viewers ask, answered once for all who ask the same."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from langchain_tokenopt.core.dimensions import Dimension
from langchain_tokenopt.core.records import UsageTotals
from langchain_tokenopt.dashboard.asked import FILTERS, Asked
from langchain_tokenopt.dashboard.sources import Sources
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.report import Facts
from langchain_tokenopt.report.figures import CostsOverTime, costs_over_time

__all__ = ["View", "Views"]

_T = TypeVar("_T")
_REMEMBERED = 32
_FRESH_SECONDS = 60.0
"""Without a new call a view grows old because its period moves on."""
_KNOWN_SHARE = 0.9
"""Of a period, for changes against it."""


_Sums = Mapping[str, UsageTotals]
_Answers = tuple[Facts, Mapping[Dimension, _Sums]]


class View:
    """One question, as the ledger answers it at one moment. Whatever is worked out, is once.

    Args:
        ledger: Which.
        asked: Period and filters.
        sources: What is shown beside the ledger.
        last_call: Number of the call that was recorded last.
    """

    def __init__(self, ledger: Ledger, asked: Asked, sources: Sources, last_call: int) -> None:
        self.ledger, self.asked, self.sources, self.last_call = ledger, asked, sources, last_call
        self.now = datetime.now(UTC)
        self.made_at = time.monotonic()
        self.span = ledger.span()
        self.begin, self.end = asked.period(self.span[0] if self.span else self.now, self.now)
        self._found: dict[str, Any] = {}
        self._locks: dict[str, threading.RLock] = {}

    def once(self, name: str, work: Callable[[], _T]) -> _T:
        """Return what *work* returned the first time."""
        with self._locks.setdefault(name, threading.RLock()):
            if name not in self._found:
                self._found[name] = work()
            found: _T = self._found[name]
            return found

    @property
    def where(self) -> dict[str, Any]:
        """The period and the filters, as a ledger takes them."""
        return {"since": self.begin, "until": self.end, **self.asked.filters}

    @property
    def has_before(self) -> bool:
        """Whether the ledger knows enough of the period before to compare with it."""
        length = self.end - self.begin
        return self.span is not None and self.span[0] < self.begin - _KNOWN_SHARE * length

    @property
    def facts(self) -> Facts:
        """What the ledger says about the period."""
        return self._now[0]

    @property
    def costs(self) -> CostsOverTime:
        """What was spent from time to time in it."""
        self._now  # noqa: B018  which asks for them as well
        return self._costs

    @property
    def before(self) -> Facts | None:
        """What the ledger says about the period before."""
        return self._before[0] if self.has_before else None

    def by(self, dimension: Dimension) -> tuple[_Sums, _Sums]:
        """Return the sums per value, now and before."""
        return self._now[1][dimension], self._before[1][dimension] if self.has_before else {}

    @property
    def _now(self) -> _Answers:
        return self.once("now", lambda: self._answers(self.begin, self.end, self.now))

    @property
    def _before(self) -> _Answers:
        since = self.begin - (self.end - self.begin)
        return self.once("before", lambda: self._answers(since, self.begin, self.begin))

    def _answers(self, since: datetime, until: datetime, now: datetime) -> _Answers:
        """Ask all that the page shows of a period at once: much is read for one and serves all."""
        where: dict[str, Any] = {"since": since, "until": until, **self.asked.filters}
        is_now = until == self.end
        with self.ledger.period(**where) as period:
            if is_now:  # first: other sums are made of these
                self._costs = costs_over_time(self.ledger, self.asked.by, period=period, **where)
            facts = Facts.of(self.ledger, now=now, beside=is_now, period=period, **where)
            by = {d: {name: t for (name,), t in period.by(d).items()} for d in FILTERS}
        return facts, by


@dataclass(slots=True)
class _Known:
    """The view of a question, and how the files were when it was asked."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    view: View | None = None
    stamp: object = None


class Views:
    """The views that were asked for last.

    Args:
        location: Of the ledger. It may come to be later, vanish or be replaced.
        sources: What is shown beside it.
    """

    def __init__(self, location: str, sources: Sources) -> None:
        self.location, self.sources = location, sources
        beside = (sources.budgets, sources.cache, sources.guard, *sources.comparisons)
        self._locations = (location, *filter(None, beside))
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None
        self._file: object = None

    def stamp(self) -> object:
        """Return what changes when any of the files does; ``None`` where a server is asked."""
        return None if "://" in self.location else stamp_of(*self._locations)

    def of(self, query: Mapping[str, str], seen: int = 0) -> View:
        """Return the view of a question.

        Args:
            query: Parameters of an address.
            seen: Number of a call that must be in it; 0: the newest one must.

        Raises:
            LedgerError: There is no ledger that can be read.
        """
        asked = Asked.of(query)
        with self._lock:
            ledger = self._opened()
            known = self._known.setdefault(asked.query, _Known())
            self._known.move_to_end(asked.query)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        with known.lock:  # several viewers of one page wait for one answer
            stamp, view = self.stamp(), known.view
            last_call = ledger.last_call()
            if view is not None and view.ledger is ledger:
                is_fresh = time.monotonic() - view.made_at < _FRESH_SECONDS
                is_all = stamp == known.stamp is not None and last_call == view.last_call
                if is_fresh and (is_all or 0 < seen <= view.last_call):
                    return view
            known.view = View(ledger, asked, self.sources, last_call)
            known.stamp = stamp
            return known.view

    def ledger(self) -> Ledger:
        """Return the ledger, opened anew where another file is there now.

        Raises:
            LedgerError: It cannot be opened.
        """
        with self._lock:
            return self._opened()

    def _opened(self) -> Ledger:
        file = _identity(self.location)
        if self._ledger is None or file != self._file:
            self._ledger = None
            self._ledger = Ledger(self.location, read_only=True)
            self._file = file
        return self._ledger

    def forget_ledger(self) -> None:
        """Open it anew next time: it could not be read."""
        with self._lock:
            self._ledger = None


def stamp_of(*locations: str) -> tuple[int, ...]:
    """Return what changes when a file or its log is written."""
    found: list[int] = []
    for location in locations:
        for path in (location, f"{location}-wal"):
            with suppress(OSError, ValueError):
                stat = os.stat(path)
                found += (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return tuple(found)


def _identity(location: str) -> object:
    with suppress(OSError, ValueError):
        stat = os.stat(location)
        return stat.st_dev, stat.st_ino
    return None
