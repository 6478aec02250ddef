"""Whether an event loop runs here, and what becomes of calls when their task ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

__all__ = ["TaskWatch", "on_event_loop"]

_Done = Callable[["asyncio.Task[Any]"], None]


def on_event_loop() -> bool:
    """Whether an event loop runs in this thread; ``asyncio.get_running_loop`` raises to say so."""
    return asyncio._get_running_loop() is not None


class TaskWatch:
    """Tells when a task has ended in which calls began that have not ended themselves.

    LangChain tells handlers nothing of a cancelled ``agenerate``: it gathers its calls, and a
    cancelled gather raises past the callbacks. A call that ends takes its watch off the task again,
    so that a task may make any number of calls.

    Args:
        give_up: Called with the run's id, and whether the task was cancelled, when the task ends
            before the run does.
    """

    def __init__(self, give_up: Callable[[UUID, bool], None]) -> None:
        self._give_up = give_up
        self._watched: dict[int, tuple[asyncio.Task[Any], _Done]] = {}

    def begin(self, run_id: UUID) -> None:
        """Watch the task that runs here, if any does."""
        if not on_event_loop():
            return
        task = asyncio.current_task()
        if task is None:
            return

        def done(task: asyncio.Task[Any]) -> None:
            if self._watched.pop(run_id.int, None) is not None:
                self._give_up(run_id, task.cancelled())

        self._watched[run_id.int] = task, done
        task.add_done_callback(done)

    def end(self, run_id: UUID) -> None:
        """Stop watching: the run has ended."""
        watched = self._watched.pop(run_id.int, None) if self._watched else None
        if watched is not None:
            task, done = watched
            task.remove_done_callback(done)
