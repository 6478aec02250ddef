"""Forks of the process: whoever shares a file or a thread between threads holds still for them.

A child must not inherit an open SQLite connection: it would take locks of its parent for its own,
and wait for itself or work without any (https://www.sqlite.org/howtocorrupt.html, section 2.6).
Nor may it inherit a lock that a thread holds which the child does not have. So all registered
resources are locked before a fork, let go of what cannot be shared, and go on afterwards.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

__all__ = ["ForkAware", "ForkLock", "register"]

LONGEST_WAIT_SECONDS = 10.0
"""How long a fork waits for resources that are in use. Then it goes on all the same: a child that
cannot use one file is better than a process that stands still."""

_PATIENCE_SECONDS = 0.005
"""How long a fork waits for one resource while it holds others."""
_POLL_SECONDS = 0.001


class _Here(threading.local):
    def __init__(self) -> None:
        self.held = 0
        """How many such locks this thread has, or is about to take."""


_here = _Here()
_waiting: list[bool] = []
"""Whether a thread is about to fork."""


class ForkLock:
    """A re-entrant lock of something that holds still for forks.

    Who has none of these locks yet lets a fork go first that is waiting: otherwise busy threads,
    who take their locks in another order, could keep it waiting for ever. Who has one gets the
    others, whatever their order.

    Example:
        >>> lock = ForkLock()
        >>> with lock, lock:
        ...     lock.acquire(blocking=False)
        True
        >>> lock.release()
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as ``threading.RLock.acquire`` does; whether it was taken."""
        # Counted before it is taken, and longer than it is had: a finalizer that runs on this
        # thread in between must not wait for a fork that waits for this thread.
        _here.held += 1
        taken = False
        try:
            if _waiting and blocking and _here.held == 1:
                _let_fork(timeout)
            taken = self._lock.acquire(blocking, timeout)
        finally:
            if not taken:
                _here.held -= 1
        return taken

    def release(self) -> None:
        """Give the lock back, as ``threading.RLock.release`` does."""
        self._lock.release()
        _here.held -= 1

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def _let_fork(timeout: float) -> None:
    """Wait until nobody is about to fork, for as long as *timeout* or a fork itself may wait."""
    longest = LONGEST_WAIT_SECONDS if timeout < 0 else timeout
    deadline = time.monotonic() + longest
    while _waiting and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


class ForkAware(Protocol):
    """What has to hold still while the process forks."""

    @property
    def lock(self) -> ForkLock:
        """Return the lock that is held while the resource is used."""
        ...

    def before_fork(self) -> None:
        """Let go of what a child must not share. Called with the lock held."""
        ...

    def after_fork_in_child(self) -> None:
        """Begin anew as another process, with a new lock. Nothing else runs yet."""
        ...


_registered: dict[int, weakref.ref[ForkAware]] = {}
_fork_lock = threading.RLock()
"""Two threads that fork at once would wait for each other's resources."""
_held: list[ForkLock] = []
_forking: list[ForkAware] = []


def register(resource: ForkAware) -> None:
    """Let *resource* hold still during forks, for as long as it lives."""
    key = id(resource)
    # Changes of a dict and copies of it are atomic: there is no lock that a finalizer could need.
    _registered[key] = weakref.ref(resource, lambda _: _registered.pop(key, None))


def _before_fork() -> None:
    _fork_lock.acquire()
    _here.held += 1  # this very thread does not wait for its fork
    _waiting.append(True)
    living = [found for ref in _registered.copy().values() if (found := ref()) is not None]
    _forking.extend(living)
    for resource in _lock_all(living):
        # Python would print the error and fork all the same, without the other resources.
        with suppress(Exception):
            resource.before_fork()


def _lock_all(resources: list[ForkAware]) -> list[ForkAware]:
    """Take every lock, or none for long: a thread that has one and wants another one gets it.

    Returns:
        Whose lock was taken: in the end all but those that stay in use.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        late = time.monotonic() >= deadline
        locked = _locked(resources, wait_seconds=0 if late else _PATIENCE_SECONDS)
        if late or len(locked) == len(resources):
            return locked
        _release_all()
        time.sleep(_PATIENCE_SECONDS * random.random())


def _locked(resources: list[ForkAware], *, wait_seconds: float) -> list[ForkAware]:
    """Take every lock that can be had; where there is time, stop at the first that cannot."""
    locked = []
    for resource in resources:
        lock = resource.lock
        if lock.acquire(timeout=wait_seconds):
            _held.append(lock)
            locked.append(resource)
        elif wait_seconds:
            break
    return locked


def _release_all() -> None:
    while _held:
        _held.pop().release()


def _end_fork() -> None:
    _waiting.clear()
    _release_all()
    _here.held -= 1
    _fork_lock.release()


def _after_fork_in_parent() -> None:
    _forking.clear()
    _end_fork()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()
    _end_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
