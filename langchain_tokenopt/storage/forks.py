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
from typing import Any, Protocol

__all__ = ["ForkAware", "give_way", "register"]

LONGEST_WAIT_SECONDS = 10.0
"""How long a fork waits for resources that are in use. Then it goes on all the same: a child that
cannot use one file is better than a process that stands still."""

_PATIENCE_SECONDS = 0.005
"""How long a fork waits for one resource while it holds others."""


class ForkAware(Protocol):
    """What has to hold still while the process forks."""

    @property
    def lock(self) -> Any:
        """Return the ``threading.RLock`` that is held while the resource is used."""
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
_held: list[tuple[ForkAware, Any]] = []
_forking: list[ForkAware] = []
_fork_waits: list[bool] = []


def register(resource: ForkAware) -> None:
    """Let *resource* hold still during forks, for as long as it lives."""
    key = id(resource)
    # Changes of a dict and copies of it are atomic: there is no lock that a finalizer could need.
    _registered[key] = weakref.ref(resource, lambda _: _registered.pop(key, None))


def _before_fork() -> None:
    _fork_lock.acquire()
    _fork_waits.append(True)
    living = [found for ref in _registered.copy().values() if (found := ref()) is not None]
    _lock_all(living)
    _forking.extend(living)
    for resource, _ in _held:
        # Python would print the error and fork all the same, without the other resources.
        with suppress(Exception):
            resource.before_fork()


def give_way() -> None:
    """Let a fork that is waiting have its turn. Called before a lock is taken."""
    if _fork_waits:
        time.sleep(_PATIENCE_SECONDS)


def _lock_all(resources: list[ForkAware]) -> None:
    """Take every lock, or none for long: a thread that has one and wants another one gets it."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not _locked_all(resources, give_up=(late := time.monotonic() >= deadline)):
        if late:
            return
        _release_all()
        time.sleep(_PATIENCE_SECONDS * random.random())


def _locked_all(resources: list[ForkAware], *, give_up: bool) -> bool:
    """Take every lock that can be had; stop at the first one that cannot, unless *give_up*."""
    complete = True
    for resource in resources:
        lock = resource.lock
        if lock.acquire(timeout=0 if give_up else _PATIENCE_SECONDS):
            _held.append((resource, lock))
        elif give_up:
            complete = False
        else:
            return False
    return complete


def _release_all() -> None:
    while _held:
        _held.pop()[1].release()


def _after_fork_in_parent() -> None:
    _forking.clear()
    _fork_waits.clear()
    _release_all()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()
    _fork_waits.clear()
    _release_all()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
