"""Identical requests at the same time: one asks the model, the others wait for its answer."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar

__all__ = ["Flights"]

_OWNED: ContextVar[tuple[int, ...]] = ContextVar("tokenopt_cache_flights", default=())
"""Flights that began in this context: nobody waits for itself, nor for its own caller."""
_REMEMBERED = 16
_POLL_SECONDS = 0.005


class _Flight:
    __slots__ = ("begun", "done")

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.done = threading.Event()


class Flights:
    """Requests whose answers are being made.

    Args:
        seconds: How long to wait for one; 0 switches waiting off.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._flights: dict[bytes, _Flight] = {}
        self._loop_threads = threading.Semaphore(2)

    def claim(self, key: bytes) -> bool:
        """Begin to make the answer to *key*, unless somebody else has begun already.

        Returns:
            False when somebody else is at it.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and not self._is_over(flight):
                return id(flight) in _OWNED.get()
            flight = self._flights[key] = _Flight()
            if len(self._flights) > 4_096:
                self._flights = {k: f for k, f in self._flights.items() if not self._is_over(f)}
        _OWNED.set((*_OWNED.get(), id(flight))[-_REMEMBERED:])
        return True

    def end(self, key: bytes) -> None:
        """Say that the answer is there, or will not come; nothing happens if none was awaited."""
        with self._lock:
            flight = self._flights.pop(key, None)
        if flight is not None:
            flight.done.set()

    def end_all(self) -> None:
        """Let everybody go."""
        for key in list(self._flights):
            self.end(key)

    def wait(self, key: bytes) -> bool:
        """Wait for an identical request of somebody else; say whether there was one.

        Threads of an event loop's executor are few, and whoever makes the answer needs one to
        store it: only two of them may wait here at a time, the others go on without.
        """
        flight = self._foreign(key)
        if flight is None:
            return False
        in_loop = threading.current_thread().name.startswith("asyncio_")
        if in_loop and not self._loop_threads.acquire(blocking=False):
            return False
        try:
            return flight.done.wait(self._left(flight))
        finally:
            if in_loop:
                self._loop_threads.release()

    async def await_(self, key: bytes) -> bool:
        """Like :meth:`wait`, without holding a thread."""
        flight = self._foreign(key)
        if flight is None:
            return False
        deadline = time.monotonic() + self._left(flight)
        while not flight.done.is_set() and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        return flight.done.is_set()

    def _foreign(self, key: bytes) -> _Flight | None:
        flight = self._flights.get(key)
        if flight is None or id(flight) in _OWNED.get() or self._is_over(flight):
            return None
        return flight

    def _is_over(self, flight: _Flight) -> bool:
        return flight.done.is_set() or self._left(flight) <= 0

    def _left(self, flight: _Flight) -> float:
        return max(0.0, flight.begun + self._seconds - time.monotonic())
