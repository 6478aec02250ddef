"""What a cache counts, and how it gets into its file while the cache is in use.

Whoever looks at the file from another process finds what happened up to two seconds ago; processes
that end without closing their caches write the rest when they leave.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

__all__ = ["KeptCounts"]

_SECONDS: Final = 2.0


class KeptCounts:
    """Writes the growth of counters now and then.

    Args:
        totals: Returns all counters of this process.
        write: Called with what was added since the last time; says whether that is written.
    """

    def __init__(
        self, totals: Callable[[], Counter[str]], write: Callable[[Mapping[str, int]], bool]
    ) -> None:
        self._totals = totals
        self._write = write
        self._written: Counter[str] = Counter()
        self._process = os.getpid()
        self._due = time.monotonic() + _SECONDS
        _kept.add(self)

    def write_sometimes(self) -> None:
        """Write, where that is due."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write what has been counted since the last time; with the cache's lock held."""
        self._due = time.monotonic() + _SECONDS
        totals = self._totals()
        if self._process != os.getpid():  # what was counted before the fork is the parent's
            self._process, self._written = os.getpid(), totals
            return
        added = {name: n - self._written[name] for name, n in totals.items()}
        added = {name: n for name, n in added.items() if n}
        if not added or self._write(added):
            self._written = totals


_kept: weakref.WeakSet[KeptCounts] = weakref.WeakSet()


def _write_all() -> None:
    for counts in list(_kept):
        with suppress(Exception):  # nobody is left to be told
            counts.write()


atexit.register(_write_all)
