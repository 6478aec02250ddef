"""Identical requests at the same time: one asks the model, the others wait for its answer.

LangChain hands a cache the answers that came. It does not report a call that raised or was
cancelled. So the turn to ask belongs to the context (or task)
of the call that took it, and ends with it; then one of those who wait takes its turn.

Two calls never wait for each other: whoever is about to ask the model waits only for calls that
were begun on behalf of all that it was itself begun on behalf of.

Processes agree on it by turns that end by themselves in a moment. A thread of the one who asks
renews them until the answer is there, so nobody waits for a process that is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import weakref
from collections.abc import Collection
from contextlib import suppress
from contextvars import ContextVar
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.storage import forks

__all__ = ["Claim", "SingleFlight", "Turns"]

_REMEMBERED = 16
"""Claims that a context remembers as its own."""
_POLL_SECONDS = 0.005
_SHARED_POLL_SECONDS = 0.05
"""Between two questions whether another process has answered."""
_RENEWING_SECONDS = 0.4
"""Between two renewals of turns."""
_MOST_IN_FLIGHT = 4_096


class Turns(Protocol):
    """Where the processes that share a cache agree on who asks the model. Nothing raises."""

    def take_turn(self, key: bytes) -> bool:
        """Take the turn for a moment, or find the answer; ``False``: another one has it."""
        ...

    def renew_turns(self, keys: Collection[bytes]) -> None:
        """Keep turns for another moment, as far as they are ours."""
        ...

    def give_turns_back(self, keys: Collection[bytes]) -> None:
        """Let others take the turns, as far as they are ours."""
        ...


class Claim:
    """The turn to ask the model; when nobody holds it any more, nobody waits for its answer."""

    __slots__ = ("__weakref__", "flight", "key", "number")

    def __init__(self, key: bytes, deadline: float, above: frozenset[int]) -> None:
        self.key = key
        self.number = next(_numbers)
        self.flight = _Flight(deadline, self, above)


_numbers = itertools.count()
_number_of = attrgetter("number")


class _Flight:
    """An answer that is being made. What changes is one attribute: there is nothing to lock."""

    __slots__ = ("_claim", "_task", "above", "deadline", "has_answer", "is_given_up")

    def __init__(self, deadline: float, claim: Claim, above: frozenset[int]) -> None:
        self.above: Final = above
        """Numbers of the claims on whose behalf it was begun, perhaps."""
        self.deadline = deadline
        self.has_answer = self.is_given_up = False
        self._claim = weakref.ref(claim)
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
        self._shared: dict[bytes, _Flight] = {}
        """Those whose turn was taken among the processes."""
        self._ended: SimpleQueue[None] = SimpleQueue()
        """Wakes the thread that renews turns; a finalizer may put something in."""
        self._is_renewing = False
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
        if claim is None or self._turns is None or self._shared.get(claim.key) is claim.flight:
            return True
        if not self._turns.take_turn(claim.key):
            return False
        with self._lock:
            self._shared[claim.key] = claim.flight
            if not self._is_renewing:
                with suppress(RuntimeError):  # at the end of the process no thread can begin
                    threading.Thread(target=self._renew, args=(self._turns,), daemon=True).start()
                    self._is_renewing = True
        return True

    def _renew(self, turns: Turns) -> None:
        """Keep the turns of what is in flight, and give others back, until there is none."""
        while True:
            with suppress(Empty):
                self._ended.get(timeout=_RENEWING_SECONDS)
            ended = self._take_ended()
            with self._lock:
                kept = list(self._shared)
                self._is_renewing = bool(kept or ended)
                if not self._is_renewing:
                    return
            with suppress(Exception):  # nobody is there to be told
                if ended:
                    turns.give_turns_back(ended)
                if kept:
                    turns.renew_turns(kept)

    def _take_ended(self) -> list[bytes]:
        with self._lock:
            ended = [key for key, flight in self._shared.items() if flight.is_over]
            for key in ended:
                del self._shared[key]
        return ended

    def __contains__(self, key: bytes) -> bool:
        return key in self._flights

    def end(self, key: bytes) -> None:
        """Say that the answer is there; nothing happens if none was awaited."""
        flight = self._flights.pop(key, None)
        if flight is not None:
            flight.has_answer = True
            self._ended.put(None)

    def give_up(self, key: bytes, claim: Claim | None) -> None:
        """Say that the answer will not come, so that somebody else may take the turn."""
        if claim is None:
            return
        claim.flight.is_given_up = True
        with self._lock:
            if self._flights.get(key) is claim.flight:
                del self._flights[key]
        self._ended.put(None)

    def end_all(self) -> None:
        """Let everybody go; waits until other processes may take the turns."""
        for key in list(self._flights):
            self.end(key)
        if self._turns is not None and (ended := self._take_ended()):
            self._turns.give_turns_back(ended)

    def _claim(self, key: bytes) -> tuple[Claim | None, _Flight | None]:
        """Return a claim on *key*, or what the one who has it makes, if it may be waited for."""
        owned = _OWNED.get()
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and not flight.is_over:
                own = next((c for c in owned if c.flight is flight), None)
                if own is not None or not self._may_wait(owned, flight):
                    return own, None
                return None, flight
            above = frozenset(map(_number_of, owned))
            claim = Claim(key, time.monotonic() + self._wait_seconds, above)
            self._flights[key] = claim.flight
            if len(self._flights) > _MOST_IN_FLIGHT:
                self._flights = {k: f for k, f in self._flights.copy().items() if not f.is_over}
        _OWNED.set((*owned, claim)[-_REMEMBERED:])
        return claim, None

    def _may_wait(self, owned: tuple[Claim, ...], flight: _Flight) -> bool:
        """Say whether *flight* was begun on behalf of all *owned* that others may wait for."""
        return all(c.number in flight.above or not self._is_open(c) for c in owned)

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
        self._shared = {}
        self._ended = SimpleQueue()
        self._is_renewing = False
        self._waiting_executor_threads = 0


_MOST_WAITING_EXECUTOR_THREADS = 2


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
