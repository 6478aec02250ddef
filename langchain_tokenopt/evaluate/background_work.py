"""Work in the background, for whoever must not wait for it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["BackgroundWork"]

_AT_ONCE: Final = 2
_WAITING: Final = 32
"""Works that may wait; further ones are refused."""
_IDLE_SECONDS: Final = 10.0
"""After which a thread without work ends."""


class BackgroundWork:
    """Work in the background, on threads that do not keep a process from ending.

    A child of a fork has neither the threads nor the work.

    Args:
        name: Of the threads.
    """

    def __init__(self, name: str = "tokenopt-guard") -> None:
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._queue: deque[Callable[[], None]] = deque()
        self._threads = self._busy = 0

    def start(self, work: Callable[[], None]) -> bool:
        """Have *work* done some time; ``False`` where too much waits."""
        if self._process != os.getpid():
            self._begin()
        with self._changed:
            if len(self._queue) >= _WAITING:
                return False
            self._queue.append(work)
            if self._threads < _AT_ONCE:
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            self._changed.notify_all()
            return True

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._queue, _IDLE_SECONDS):
                    self._threads -= 1
                    return
                work = self._queue.popleft()
                self._busy += 1
            try:
                with suppress(Warning):  # where warnings are errors: nobody could catch them
                    work()
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait until nothing is under way."""
        if self._process == os.getpid():
            with self._changed:
                self._changed.wait_for(lambda: not self._queue and not self._busy, timeout_seconds)

    def close(self, timeout_seconds: float | None = None) -> None:
        """Give up what waits, and wait for what has begun."""
        if self._process == os.getpid():
            with self._changed:
                self._queue.clear()
            self.wait(timeout_seconds)
