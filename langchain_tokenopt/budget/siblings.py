"""Calls that are made at the same time: each is to know of the others before any is granted.

Where a node makes several calls side by side (``asyncio.gather``, ``batch``, threads of its own),
the first would else be given what all of them need. Such calls are made in other tasks or threads
than the node's own; so one that is waits a moment, for as long as others come.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final

__all__ = ["HOME", "here", "wait_for_siblings", "wait_for_siblings_async"]

HOME: Final[ContextVar[object]] = ContextVar("langchain_tokenopt_home", default=None)
"""The task or thread in which the node at work, or the run, has begun."""
_MOMENT = 0.008
"""Seconds: several times what a task or a thread takes from its start to its call."""
_MOST: Final = 4
"""Moments that a call waits at most."""


def here() -> object:
    """Return what tells this task, or this thread where there is none, from others."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        task = None
    return threading.get_ident() if task is None else id(task)


def wait_for_siblings(asking: Callable[[], int]) -> None:
    """Wait for calls that other threads are about to make, if this is one of several threads.

    Args:
        asking: Says how many calls have asked so far.
    """
    for _ in _while_others_come(asking):
        time.sleep(_MOMENT)


async def wait_for_siblings_async(asking: Callable[[], int]) -> None:
    """Do the same without holding up the event loop."""
    for _ in _while_others_come(asking):
        await asyncio.sleep(_MOMENT)


def _while_others_come(asking: Callable[[], int]) -> Iterator[None]:
    if HOME.get() in (None, here()):
        return
    before = 0
    for _ in range(_MOST):
        now = asking()
        if now == before:
            return
        before = now
        yield
