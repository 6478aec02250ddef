"""What a quality guard has found, by agent and kind of request; one file for many processes.

Answers may turn bad after a long good time, which must not hide it. So trials are kept in blocks,
and the test is a weighted sum of tests that begin with each block: whoever bets on every beginning
with a part of his stake cannot win either while answers are not worse (the mixture of e-processes
of J. Shin, A. Ramdas and A. Rinaldo, "E-detectors", arXiv:2203.03532).
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from langchain_tokenopt.evaluate.mean_bounds import MeanBounds
from langchain_tokenopt.storage.places import file_of
from langchain_tokenopt.storage.sqlite import SqliteFile, connect_to_read

__all__ = ["Evidence", "Found", "GuardState", "Key", "Standing", "forget_all", "found_in"]

_GRID = 1_000
"""Differences are kept on this grid, so that a file does not grow with the number of trials."""
_REFRESH_SECONDS = 1.0
_PATIENCE_SECONDS = 0.05
"""A request waits no longer for the file; trials do."""
_BLOCK = 25
"""Trials in a block."""
_BLOCKS = 40
"""Blocks that are kept apart; older ones become one."""
_TABLES = """
CREATE TABLE IF NOT EXISTS standing (
    guarded TEXT NOT NULL, agent TEXT NOT NULL, kind TEXT NOT NULL,
    level INTEGER NOT NULL, epoch INTEGER NOT NULL, until REAL, PRIMARY KEY (guarded, agent, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence (
    guarded TEXT NOT NULL, agent TEXT NOT NULL, kind TEXT NOT NULL,
    epoch INTEGER NOT NULL, judge TEXT NOT NULL, block INTEGER NOT NULL,
    low INTEGER NOT NULL, high INTEGER NOT NULL, times INTEGER NOT NULL,
    PRIMARY KEY (guarded, agent, kind, epoch, judge, block, low, high)
) WITHOUT ROWID;
"""


_Place = tuple[str, str, str, int, str]
"""What is guarded, agent, kind, epoch, judge."""


class Key(NamedTuple):
    """Whose evidence it is."""

    agent: str
    kind: str


@dataclass(frozen=True, slots=True)
class Standing:
    """At which level an agent's requests of one kind are; 0 is what was asked for."""

    level: int = 0
    epoch: int = 0
    """Counts the changes of level; evidence belongs to one."""
    until: float | None = None
    """When the level before it is tried again, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one judge has said in the present epoch."""

    trials: int
    difference: float
    low: float
    high: float


class GuardState:
    """Levels and evidence, in memory or in a file that processes share.

    Args:
        path: The file; ``None`` keeps it in memory.
        judges: Names of the judges.
        margin: How much worse is not worse yet.
        confidence: Of each epoch's verdict.
        levels: How many levels there are; the last one is "off".
        retry_seconds: After which time a level is tried again.
        guarded: Names what is guarded, and by whom it is judged: other stages begin anew.
        now: The clock, in seconds since 1970.
    """

    def __init__(
        self,
        path: str | Path | None,
        judges: Sequence[str],
        *,
        margin: float,
        confidence: float,
        levels: int,
        retry_seconds: float,
        guarded: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file = SqliteFile(None if path is None else file_of(path), _prepare)
        self._judges, self._guarded = tuple(judges), guarded
        self._margin, self._error = margin, 1 - confidence
        self._last_level = levels - 1
        self._retry_seconds, self._now = retry_seconds, now
        self._known: dict[Key, tuple[float, Standing]] = {}
        self._lock = threading.Lock()
        self.changes = 0
        """How often a level has changed, as far as this process knows."""

    def standing(self, key: Key) -> Standing:
        """Return where an agent's requests stand; a level whose time is over is tried again."""
        now = self._now()
        with self._lock:
            read_at, known = self._known.get(key, (-math.inf, Standing()))
        is_due = known.until is not None and now >= known.until
        if now - read_at < _REFRESH_SECONDS and not is_due:
            return known
        with self._file.lock:
            found = self._read_standing(self._file.connection(_PATIENCE_SECONDS), key)
        if found.until is not None and now >= found.until:
            found = self._raise(key, now)
        self._remember(key, found)
        return found

    def last_known(self, key: Key) -> Standing:
        """Return where an agent's requests stood when the file could be read last."""
        with self._lock:
            return self._known.get(key, (0.0, Standing()))[1]

    def _raise(self, key: Key, now: float) -> Standing:
        """Try the level before again, unless another process has just done so."""
        with self._file.transaction(_PATIENCE_SECONDS) as connection:
            found = self._read_standing(connection, key)
            if found.until is not None and now >= found.until:
                found = self._move(connection, key, found, max(0, found.level - 1))
            return found

    def add(
        self,
        key: Key,
        epoch: int,
        differences: Mapping[str, tuple[float, float]],
        *,
        falls: bool = True,
    ) -> Standing | None:
        """Take in a trial.

        Args:
            key: Whose it is.
            epoch: In which the request was answered; evidence of an earlier one is left out.
            differences: By judge, from where to where the difference of the scores lies.
            falls: Whether worse answers change the level; else only a new epoch begins.

        Returns:
            The new standing, where this trial has shown that answers are worse.
        """
        with self._file.transaction() as connection:
            standing = self._read_standing(connection, key)
            if standing.epoch != epoch:
                return None
            is_worse = [
                self._take(connection, (self._guarded, *key, epoch, judge), ends)
                for judge, ends in differences.items()
            ]
            if not any(is_worse) or standing.level == self._last_level:
                return None
            fallen = self._move(connection, key, standing, standing.level + falls)
        self._remember(key, fallen)
        return fallen

    def reset(self, key: Key) -> None:
        """Go back to what was asked for, with fresh evidence."""
        with self._file.transaction() as connection:
            found = self._move(connection, key, self._read_standing(connection, key), 0)
        self._remember(key, found)

    def evidence(self) -> dict[Key, tuple[Standing, dict[str, Evidence]]]:
        """Return everything that is known, by agent and kind."""
        with self._file.transaction() as connection:
            keys = connection.execute(
                "SELECT agent, kind FROM standing WHERE guarded = ? "
                "UNION SELECT agent, kind FROM evidence WHERE guarded = ?",
                (self._guarded, self._guarded),
            ).fetchall()
            found = {}
            for key in (Key(*row) for row in keys):
                standing = self._read_standing(connection, key)
                found[key] = (standing, self._evidence(connection, key, standing.epoch))
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _remember(self, key: Key, standing: Standing) -> None:
        with self._lock:
            known = self._known.get(key, (0.0, Standing()))[1]
            self.changes += standing.epoch - known.epoch
            self._known[key] = (self._now(), standing)

    def _read_standing(self, connection: sqlite3.Connection, key: Key) -> Standing:
        row = connection.execute(
            "SELECT level, epoch, until FROM standing WHERE guarded = ? AND agent = ? AND kind = ?",
            (self._guarded, *key),
        ).fetchone()
        return Standing(*row) if row else Standing()

    def _move(
        self, connection: sqlite3.Connection, key: Key, before: Standing, level: int
    ) -> Standing:
        until = self._now() + self._retry_seconds if level else None
        made = Standing(level, before.epoch + 1, until)
        connection.execute(
            "INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?, ?, ?)",
            (self._guarded, *key, made.level, made.epoch, made.until),
        )
        connection.execute(
            "DELETE FROM evidence WHERE guarded = ? AND agent = ? AND kind = ?",
            (self._guarded, *key),
        )
        return made

    def _take(
        self, connection: sqlite3.Connection, place: _Place, ends: tuple[float, float]
    ) -> bool:
        """Keep what a judge has said of a trial; say whether answers are worse by now."""
        rows = _read_evidence(connection, place)
        block = sum(row.times for row in rows) // _BLOCK
        added = _Row(block, math.floor(ends[0] * _GRID), math.ceil(ends[1] * _GRID), 1)
        _write(connection, place, added)
        _merge_older(connection, place, block - _BLOCKS, rows)
        log_sum = -math.inf
        bounds = self._no_bounds()
        newest_first = sorted((*rows, added), key=lambda row: -row.block)
        for start, members in groupby(newest_first, key=lambda row: row.block):
            for row in members:
                bounds.add(row.low / _GRID, row.high / _GRID, times=row.times)
            weight = 1 / ((start + 1) * (start + 2))
            won = math.log(weight) + bounds.evidence_below(-self._margin)
            log_sum = max(log_sum, won) + math.log1p(math.exp(-abs(log_sum - won)))
        return log_sum >= math.log(len(self._judges) / self._error)

    def _no_bounds(self) -> MeanBounds:
        return MeanBounds(
            -1, 1, error_below=self._error / 2, error_above=self._error / len(self._judges)
        )

    def _evidence(
        self, connection: sqlite3.Connection, key: Key, epoch: int
    ) -> dict[str, Evidence]:
        found = {}
        for judge in self._judges:
            rows = _read_evidence(connection, (self._guarded, *key, epoch, judge))
            if not rows:
                continue
            bounds = self._no_bounds()
            for row in rows:
                bounds.add(row.low / _GRID, row.high / _GRID, times=row.times)
            middle = sum((row.low + row.high) / 2 * row.times for row in rows) / _GRID
            found[judge] = Evidence(bounds.count, middle / bounds.count, bounds.lower, bounds.upper)
        return found


class _Row(NamedTuple):
    """So many trials of a block had this difference, in thousandths."""

    block: int
    low: int
    high: int
    times: int


def _write(connection: sqlite3.Connection, place: _Place, row: _Row) -> None:
    connection.execute(
        "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET times = times + excluded.times",
        (*place, *row),
    )


def _merge_older(
    connection: sqlite3.Connection, place: _Place, first: int, rows: Sequence[_Row]
) -> None:
    """Make one block of all before *first*."""
    for row in rows:
        if 0 < row.block < first:
            _write(connection, place, row._replace(block=0))
            connection.execute(
                "DELETE FROM evidence WHERE guarded = ? AND agent = ? AND kind = ? AND epoch = ? "
                "AND judge = ? AND block = ? AND low = ? AND high = ?",
                (*place, row.block, row.low, row.high),
            )


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)


def _read_evidence(connection: sqlite3.Connection, place: _Place) -> list[_Row]:
    found = connection.execute(
        "SELECT block, low, high, times FROM evidence "
        "WHERE guarded = ? AND agent = ? AND kind = ? AND epoch = ? AND judge = ?",
        place,
    )
    return [_Row(*row) for row in found]


class Found(NamedTuple):
    """What a file says of one agent's requests of one kind, by judge."""

    agent: str
    kind: str
    level: int
    until: float | None
    judge: str | None
    trials: int
    difference: float | None
    """The mean so far, from -1 to 1; where it lies, ``report()`` of the guard says."""


def found_in(path: Path) -> list[Found]:
    """Read the file of a guard, whatever it guards.

    Raises:
        sqlite3.Error: It is no such file.
    """
    connection = connect_to_read(path)
    try:
        rows = connection.execute(
            "SELECT e.agent, e.kind, coalesce(s.level, 0), s.until, e.judge, sum(e.times), "
            f"sum((e.low + e.high) / 2.0 * e.times) / sum(e.times) / {_GRID} "
            "FROM evidence e LEFT JOIN standing s "
            "ON (s.guarded, s.agent, s.kind) = (e.guarded, e.agent, e.kind) "
            "GROUP BY e.guarded, e.agent, e.kind, e.judge "
            "UNION ALL SELECT agent, kind, level, until, NULL, 0, NULL FROM standing s "
            "WHERE NOT EXISTS (SELECT 1 FROM evidence e "
            "WHERE (s.guarded, s.agent, s.kind) = (e.guarded, e.agent, e.kind)) ORDER BY 1, 2, 5"
        ).fetchall()
    finally:
        connection.close()
    return [Found(*row) for row in rows]


def forget_all(path: Path) -> int:
    """Delete all trials and levels of a file; return how many trials there were.

    Raises:
        sqlite3.Error: It is no such file, stays locked, or cannot be written.
    """
    file = SqliteFile(path, _prepare)
    try:
        with file.transaction() as connection:
            row = connection.execute("SELECT coalesce(sum(times), 0) FROM evidence").fetchone()
            connection.execute("DELETE FROM evidence")
            connection.execute("DELETE FROM standing")
    finally:
        file.close()
    return int(row[0])
