"""What the compressor remembers: how texts were read and counted, and what was kept of them."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from langchain_tokenopt.compress.fill import Tokenized
from langchain_tokenopt.compress.roles import Reading

if TYPE_CHECKING:
    import re

    from langchain_tokenopt.counting.tokens import TokenCounter

__all__ = ["Memory", "Plan"]

Value = TypeVar("Value")

MOST_CHARACTERS = 16_000_000
"""Characters of text that readings and counts may keep alive, each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which units of a content were kept, and how many tokens that made."""

    kept: list[bool]
    tokens: int


class _Recent(Generic[Value]):
    """The values used last, bounded in number and in weight."""

    def __init__(self, most: int, most_weight: int) -> None:
        self._most = most
        self._most_weight = most_weight
        self._weight = 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value, weight: int) -> None:
        with self._lock:
            if weight > self._most_weight or self._most == 0:
                return
            if key in self._values:
                self._weight -= self._values.pop(key)[1]
            self._values[key] = value, weight
            self._weight += weight
            while len(self._values) > self._most or self._weight > self._most_weight:
                self._weight -= self._values.popitem(last=False)[1][1]


class Memory:
    """Bounded; safe to use from several threads.

    Args:
        most: Results to remember; 0 for none.
        path: SQLite file that keeps plans beyond the process. It holds hashes, numbers and which
            units were kept, no text.
    """

    def __init__(self, most: int, path: str | None) -> None:
        self._plans: _Recent[Plan] = _Recent(most, MOST_CHARACTERS)
        self._readings: _Recent[Reading] = _Recent(most * 16, MOST_CHARACTERS)
        self._tokenized: _Recent[Tokenized] = _Recent(most, MOST_CHARACTERS)
        self._file = _PlanFile(path) if path is not None else None
        self.plans = most > 0 or path is not None
        """Whether anything is remembered at all."""

    @property
    def on_disk(self) -> bool:
        """Whether plans are kept in a file."""
        return self._file is not None

    def read(
        self, reader: Callable[..., Reading], text: str, patterns: Sequence[re.Pattern[str]]
    ) -> Reading:
        """Read *text*, or copy an earlier reading: units are changed by those who use them."""
        key = (reader.__name__, tuple(patterns), text)
        found = self._readings.get(key)
        if found is None:
            found = reader(text, patterns)
            self._readings.put(key, found, len(text))
        return replace(found, units=[copy(unit) for unit in found.units])

    def tokenize(self, model: str, text: str, counter: TokenCounter) -> Tokenized:
        """Tokenize *text*, or return the earlier pass."""
        key = (model, text)
        found = self._tokenized.get(key)
        if found is None:
            found = Tokenized(text, counter)
            self._tokenized.put(key, found, len(text))
        return found

    def plan(self, key: str) -> Plan | None:
        """Return what was kept of a content."""
        found = self._plans.get(key)
        if found is None and self._file is not None:
            found = self._file.get(key)
        return found

    def keep(self, key: str, plan: Plan) -> None:
        """Remember what was kept of a content."""
        self._plans.put(key, plan, len(plan.kept))
        if self._file is not None:
            self._file.put(key, plan)


class _PlanFile:
    """Plans in SQLite; the oldest leave first."""

    MOST = 100_000

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS plans (key TEXT PRIMARY KEY, kept BLOB, tokens INTEGER)"
        )

    def get(self, key: str) -> Plan | None:
        with self._lock:
            row: Any = self._database.execute(
                "SELECT kept, tokens FROM plans WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else Plan([bool(byte) for byte in row[0]], row[1])

    def put(self, key: str, plan: Plan) -> None:
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO plans VALUES (?, ?, ?)",
                (key, bytes(plan.kept), plan.tokens),
            )
            self._database.execute(
                "DELETE FROM plans WHERE rowid <= (SELECT max(rowid) FROM plans) - ?", (self.MOST,)
            )
