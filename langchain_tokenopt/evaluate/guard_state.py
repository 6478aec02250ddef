"""What a quality guard has found, by agent and kind of request; one file for many processes."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from langchain_tokenopt.evaluate.mean_bounds import MeanBounds
from langchain_tokenopt.storage.sqlite import SqliteFile

__all__ = ["Evidence", "GuardState", "Key", "Standing"]

_GRID = 1_000
"""Differences are kept on this grid, so that a file does not grow with the number of trials."""
_REFRESH_SECONDS = 1.0
_TABLES = """
CREATE TABLE IF NOT EXISTS standing (
    agent TEXT NOT NULL, kind TEXT NOT NULL, level INTEGER NOT NULL, epoch INTEGER NOT NULL,
    until REAL, PRIMARY KEY (agent, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence (
    agent TEXT NOT NULL, kind TEXT NOT NULL, epoch INTEGER NOT NULL, judge TEXT NOT NULL,
    low INTEGER NOT NULL, high INTEGER NOT NULL, times INTEGER NOT NULL,
    PRIMARY KEY (agent, kind, epoch, judge, low, high)
) WITHOUT ROWID;
"""


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
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file = SqliteFile(None if path is None else Path(path), _prepare)
        self._judges = tuple(judges)
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
        with self._file.transaction() as connection:
            found = _read_standing(connection, key)
            if found.until is not None and now >= found.until:
                found = self._move(connection, key, found, max(0, found.level - 1))
        self._remember(key, found)
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
            standing = _read_standing(connection, key)
            if standing.epoch != epoch:
                return None
            for judge, (low, high) in differences.items():
                ends = math.floor(low * _GRID), math.ceil(high * _GRID)
                connection.execute(
                    "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, 1) "
                    "ON CONFLICT DO UPDATE SET times = times + 1",
                    (*key, epoch, judge, *ends),
                )
            bounds = self._bounds(connection, key, epoch)
            is_worse = any(found.is_below(-self._margin) for found in bounds.values())
            if not is_worse or standing.level == self._last_level:
                return None
            fallen = self._move(connection, key, standing, standing.level + falls)
        self._remember(key, fallen)
        return fallen

    def reset(self, key: Key) -> None:
        """Go back to what was asked for, with fresh evidence."""
        with self._file.transaction() as connection:
            found = self._move(connection, key, _read_standing(connection, key), 0)
        self._remember(key, found)

    def evidence(self) -> dict[Key, tuple[Standing, dict[str, Evidence]]]:
        """Return everything that is known, by agent and kind."""
        with self._file.transaction() as connection:
            keys = connection.execute(
                "SELECT agent, kind FROM standing UNION SELECT agent, kind FROM evidence"
            ).fetchall()
            found = {}
            for key in (Key(*row) for row in keys):
                standing = _read_standing(connection, key)
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

    def _move(
        self, connection: sqlite3.Connection, key: Key, before: Standing, level: int
    ) -> Standing:
        until = self._now() + self._retry_seconds if level else None
        made = Standing(level, before.epoch + 1, until)
        connection.execute(
            "INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?, ?)",
            (*key, made.level, made.epoch, made.until),
        )
        connection.execute("DELETE FROM evidence WHERE agent = ? AND kind = ?", key)
        return made

    def _bounds(
        self, connection: sqlite3.Connection, key: Key, epoch: int
    ) -> dict[str, MeanBounds]:
        found = {
            judge: MeanBounds(
                -1, 1, error_below=self._error / 2, error_above=self._error / len(self._judges)
            )
            for judge in self._judges
        }
        for judge, low, high, times in _read_evidence(connection, key, epoch):
            if judge in found:
                found[judge].add(low / _GRID, high / _GRID, times=times)
        return found

    def _evidence(
        self, connection: sqlite3.Connection, key: Key, epoch: int
    ) -> dict[str, Evidence]:
        rows = _read_evidence(connection, key, epoch)
        return {
            judge: Evidence(bounds.count, _middle(rows, judge), bounds.lower, bounds.upper)
            for judge, bounds in self._bounds(connection, key, epoch).items()
            if bounds.count
        }


def _middle(rows: Sequence[tuple[str, int, int, int]], judge: str) -> float:
    own = [row for row in rows if row[0] == judge]
    total = sum(times for *_, times in own)
    return sum((low + high) / 2 * times for _, low, high, times in own) / total / _GRID


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)


def _read_standing(connection: sqlite3.Connection, key: Key) -> Standing:
    row = connection.execute(
        "SELECT level, epoch, until FROM standing WHERE agent = ? AND kind = ?", key
    ).fetchone()
    return Standing(*row) if row else Standing()


def _read_evidence(
    connection: sqlite3.Connection, key: Key, epoch: int
) -> list[tuple[str, int, int, int]]:
    return connection.execute(
        "SELECT judge, low, high, times FROM evidence WHERE agent = ? AND kind = ? AND epoch = ?",
        (*key, epoch),
    ).fetchall()
