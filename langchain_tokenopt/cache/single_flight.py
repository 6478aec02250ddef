"""Identical requests at the same time: one asks the model, the others wait for its answer.

LangChain hands a cache the answers that came. It does not report a call that raised or was
cancelled. So the turn to ask belongs to the context (or task)
of the call that took it, and ends with it; then one of those who wait takes its turn.

Whoever is about to ask the model does not wait for another: two calls never wait for each other.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from contextvars import ContextVar
from typing import Any, Protocol

from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.storage import forks

__all__ = ["Claim", "SingleFlight", "Turns"]

_REMEMBERED = 16
"""Claims that a context remembers as its own."""
_POLL_SECONDS = 0.005
_SHARED_POLL_SECONDS = 0.05
"""Between two questions whether another process has answered."""
_MOST_IN_FLIGHT = 4_096


class Turns(Protocol):
    """Where the processes that share a cache agree on who asks the model."""

    def take_turn(self, key: bytes, seconds: float) -> bool:
        """Take the turn for some seconds, or find the answer; ``False``: another one has it."""
        ...

    def give_turn_back(self, key: bytes) -> None:
        """Let another one take the turn; nothing happens when it is not ours."""
        ...


class Claim:
    """The turn to ask the model; when nobody holds it any more, nobody waits for its answer."""

    __slots__ = ("__weakref__", "flight", "key")

    def __init__(self, key: bytes, deadline: float, abandoned: deque[bytes]) -> None:
        self.key = key
        self.flight = _Flight(deadline, self, abandoned)


class _Flight:
    """An answer that is being made. What changes is one attribute: there is nothing to lock."""

    __slots__ = ("_claim", "_task", "deadline", "has_answer", "has_turn", "is_given_up")

    def __init__(self, deadline: float, claim: Claim, abandoned: deque[bytes]) -> None:
        self.deadline = deadline
        self.has_answer = self.is_given_up = False
        self.has_turn = False
        """Whether it is good for all processes."""
        key = claim.key
        # The collector may drop a claim anywhere: no more is done there than to take note of it.
        self._claim = weakref.ref(claim, lambda _: abandoned.append(key) if self.has_turn else None)
        task = _current_task()
        self._task = None if task is None else weakref.ref(task)

    @property
    def is_over(self) -> bool:
        """Whether the answer is there, or will not come (in time)."""
        if self.has_answer or self.is_given_up or self._claim() is None:
            return True
        task = None if self._task is None else self._task()
        has_ended = self._task is not None and (task is None or task.done())
        return has_ended or time.monotonic() >= self.deadline


_OWNED: ContextVar[tuple[Claim, ...]] = ContextVar("tokenopt_cache_claims", default=())
"""Claims that were taken in this context: nobody waits for itself, nor for its own caller."""


class SingleFlight:
    """Lets one of several identical requests ask the model.

    The lock can be taken again by the thread that holds it: the garbage collector may close an
    abandoned stream in the middle of a method here, and that gives its claim up.

    Args:
        wait_seconds: How long to wait for an answer; 0 switches waiting off.
        turns: Where processes agree on it, too.
    """

    def __init__(self, wait_seconds: float, turns: Turns | None = None) -> None:
        self._wait_seconds = wait_seconds
        self._turns = turns
        self._lock = forks.ForkLock()
        self._flights: dict[bytes, _Flight] = {}
        self._abandoned: deque[bytes] = deque()
        """Of which the turn was taken, and dropped with a call that was cancelled."""
        self._waiting_executor_threads = 0
        forks.register(self)

    def begin(self, key: bytes) -> Claim | None:
        """Take the turn to ask for *key*, or wait for the one who has it.

        Threads of an event loop's executor are few, and whoever makes the answer needs one to
        store it: only two of them may wait here at a time, the others go on without.

        Returns:
            A claim when it is the caller's turn; keep it until the answer is there. ``None`` when
            somebody else has answered, or the caller is not to wait (any longer). Either way: look
            again, then ask the model.
        """
        is_executor_thread = threading.current_thread().name.startswith("asyncio_")
        if is_executor_thread:
            with self._lock:
                if self._waiting_executor_threads >= _MOST_WAITING_EXECUTOR_THREADS:
                    return self._claim(key)[0]
                self._waiting_executor_threads += 1
        try:
            deadline = time.monotonic() + self._wait_seconds
            while True:
                claim, flight = self._claim(key)
                is_ours = flight is None and (self._turns is None or self._has_turn(claim))
                if is_ours or time.monotonic() >= deadline:
                    return claim
                time.sleep(_SHARED_POLL_SECONDS if flight is None else _POLL_SECONDS)
                if flight is not None and flight.has_answer:
                    return None
        finally:
            if is_executor_thread:
                with self._lock:
                    self._waiting_executor_threads -= 1

    async def abegin(self, key: bytes) -> Claim | None:
        """Like :meth:`begin`, without holding a thread."""
        deadline = time.monotonic() + self._wait_seconds
        while True:
            claim, flight = self._claim(key)
            is_ours = flight is None
            if is_ours and self._turns is not None:
                is_ours = await run_in_executor(None, self._has_turn, claim)
            if is_ours or time.monotonic() >= deadline:
                return claim
            await asyncio.sleep(_SHARED_POLL_SECONDS if flight is None else _POLL_SECONDS)
            if flight is not None and flight.has_answer:
                return None

    def _has_turn(self, claim: Claim | None) -> bool:
        """Say whether no other process is to be waited for."""
        if claim is None or self._turns is None or claim.flight.has_turn:
            return True
        while self._abandoned:
            self._turns.give_turn_back(self._abandoned.popleft())
        claim.flight.has_turn = self._turns.take_turn(claim.key, self._wait_seconds)
        return claim.flight.has_turn

    def _give_turn_back(self, key: bytes, flight: _Flight) -> None:
        if not flight.has_turn or self._turns is None:
            return
        flight.has_turn = False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._turns.give_turn_back(key)
        else:  # which does not wait for a server
            loop.run_in_executor(None, self._turns.give_turn_back, key)

    def end(self, key: bytes) -> None:
        """Say that the answer is there; nothing happens if none was awaited."""
        flight = self._flights.pop(key, None)
        if flight is not None:
            flight.has_answer = True
            self._give_turn_back(key, flight)

    def give_up(self, key: bytes, claim: Claim | None) -> None:
        """Say that the answer will not come, so that somebody else may take the turn."""
        if claim is None:
            return
        claim.flight.is_given_up = True
        with self._lock:
            if self._flights.get(key) is claim.flight:
                del self._flights[key]
        self._give_turn_back(key, claim.flight)

    def end_all(self) -> None:
        """Let everybody go."""
        for key in list(self._flights):
            self.end(key)

    def _claim(self, key: bytes) -> tuple[Claim | None, _Flight | None]:
        """Return a claim on *key*, or what the one who has it makes, if it may be waited for."""
        owned = _OWNED.get()
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and not flight.is_over:
                own = next((c for c in owned if c.flight is flight), None)
                if own is not None or any(map(self._is_open, owned)):
                    return own, None
                return None, flight
            claim = Claim(key, time.monotonic() + self._wait_seconds, self._abandoned)
            self._flights[key] = claim.flight
            if len(self._flights) > _MOST_IN_FLIGHT:
                self._flights = {k: f for k, f in self._flights.copy().items() if not f.is_over}
        _OWNED.set((*owned, claim)[-_REMEMBERED:])
        return claim, None

    def _is_open(self, claim: Claim) -> bool:
        """Say whether others may wait here for what the owner of *claim* makes."""
        return self._flights.get(claim.key) is claim.flight and not claim.flight.is_over

    # Forks

    @property
    def lock(self) -> forks.ForkLock:
        """Return the lock that is held while claims change. It is another one after a fork."""
        return self._lock

    def before_fork(self) -> None:
        """There is nothing to let go of."""

    def after_fork_in_child(self) -> None:
        """Forget the calls of the parent's threads, which do not go on here."""
        self._lock = forks.ForkLock()
        self._flights = {}
        self._abandoned.clear()
        self._waiting_executor_threads = 0


_MOST_WAITING_EXECUTOR_THREADS = 2


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
