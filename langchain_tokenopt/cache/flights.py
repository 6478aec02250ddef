"""Identical requests at the same time: one asks the model, the others wait for its answer.

LangChain tells a cache of an answer that has come, never of one that will not: a call that raised
or was cancelled is simply not heard of again. So a flight belongs to the context (or task) of the
call that began it, and is given up with it; the next one who waits then takes its turn.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from contextvars import ContextVar
from typing import Any

__all__ = ["Claim", "Flights"]

_REMEMBERED = 16
_POLL_SECONDS = 0.005
_SYNC_POLL_SECONDS = 0.02


class Claim:
    """Kept by whoever makes an answer; when nobody keeps it any more, nobody waits for it."""

    __slots__ = ("__weakref__", "flight")

    def __init__(self, deadline: float) -> None:
        self.flight = _Flight(deadline, self)


class _Flight:
    __slots__ = ("_claim", "_task", "deadline", "done", "waits_for")

    def __init__(self, deadline: float, claim: Claim) -> None:
        self.deadline = deadline
        self.done = threading.Event()
        self.waits_for: _Flight | None = None
        """What the one who makes this answer is waiting for."""
        self._claim = weakref.ref(claim)
        task = _current_task()
        self._task = None if task is None else weakref.ref(task)

    @property
    def is_given_up(self) -> bool:
        """Whether the call that was to make the answer has ended without it."""
        task = None if self._task is None else self._task()
        return self._claim() is None or (self._task is not None and (task is None or task.done()))

    @property
    def is_over(self) -> bool:
        return self.done.is_set() or self.is_given_up or time.monotonic() >= self.deadline


_OWNED: ContextVar[tuple[Claim, ...]] = ContextVar("tokenopt_cache_flights", default=())
"""What began in this context: nobody waits for itself, nor for its own caller."""


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

    def begin(self, key: bytes) -> Claim | None:
        """Begin to make the answer to *key*, or wait for the one who has begun.

        Threads of an event loop's executor are few, and whoever makes the answer needs one to
        store it: only two of them may wait here at a time, the others go on without.

        Returns:
            A claim when it is the caller's turn; keep it until the answer is there. ``None`` when
            somebody else has answered, or the caller is not to wait (any longer). Either way: look
            again, then ask the model.
        """
        in_loop = threading.current_thread().name.startswith("asyncio_")
        if in_loop and not self._loop_threads.acquire(blocking=False):
            return self._claim(key)[0]
        try:
            deadline = time.monotonic() + self._seconds
            while True:
                claim, flight = self._claim(key)
                if flight is None or time.monotonic() >= deadline:
                    return claim
                if flight.done.wait(_SYNC_POLL_SECONDS):
                    return None
        finally:
            _wait_for(None)
            if in_loop:
                self._loop_threads.release()

    async def abegin(self, key: bytes) -> Claim | None:
        """Like :meth:`begin`, without holding a thread."""
        deadline = time.monotonic() + self._seconds
        try:
            while True:
                claim, flight = self._claim(key)
                if flight is None or time.monotonic() >= deadline:
                    return claim
                await asyncio.sleep(_POLL_SECONDS)
                if flight.done.is_set():
                    return None
        finally:
            _wait_for(None)

    def end(self, key: bytes) -> None:
        """Say that the answer is there; nothing happens if none was awaited."""
        with self._lock:
            flight = self._flights.pop(key, None)
        if flight is not None:
            flight.done.set()

    def give_up(self, key: bytes, claim: Claim | None) -> None:
        """Say that the answer will not come, so that somebody else may begin."""
        with self._lock:
            if claim is not None and self._flights.get(key) is claim.flight:
                del self._flights[key]

    def end_all(self) -> None:
        """Let everybody go."""
        for key in list(self._flights):
            self.end(key)

    def _claim(self, key: bytes) -> tuple[Claim | None, _Flight | None]:
        """Return a claim on *key*, or the flight of the one who has it, if it may be waited for."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and not flight.is_over:
                own = next((c for c in _OWNED.get() if c.flight is flight), None)
                if own is not None or _waits_for_us(flight):
                    return own, None
                _wait_for(flight)
                return None, flight
            claim = Claim(time.monotonic() + self._seconds)
            self._flights[key] = claim.flight
            if len(self._flights) > 4_096:
                self._flights = {k: f for k, f in self._flights.items() if not f.is_over}
        _OWNED.set((*_OWNED.get(), claim)[-_REMEMBERED:])
        return claim, None


def _waits_for_us(flight: _Flight) -> bool:
    """Whether who makes that answer waits, by however many others, for one made in this context."""
    ours = {id(claim.flight) for claim in _OWNED.get()}
    seen: _Flight | None = flight
    for _ in range(_REMEMBERED):
        if seen is None or seen.is_over:
            return False
        if id(seen) in ours:
            return True
        seen = seen.waits_for
    return False


def _wait_for(flight: _Flight | None) -> None:
    """Note what this context waits for from now on."""
    for claim in _OWNED.get():
        claim.flight.waits_for = flight


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
