"""Whether an event loop runs here, work beside it, and which calls have ended unnoticed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar
from uuid import UUID

__all__ = ["RunWatch", "done_beside_loop", "on_event_loop"]

Result = TypeVar("Result")

_Done = Callable[["asyncio.Task[Any]"], None]


def on_event_loop() -> bool:
    """Whether an event loop runs in this thread; ``asyncio.get_running_loop`` raises to say so."""
    return asyncio._get_running_loop() is not None


async def done_beside_loop(work: Callable[[], Result]) -> Result:
    """Return what *work* returns, done in a thread of the loop's pool.

    Once asked for, it is done: also where whoever waits is cancelled while the pool is busy, and
    where the loop ends.
    """

    def until_done() -> Result:
        try:
            return work()
        except StopIteration as error:  # no future takes it, and the caller would wait for ever
            raise RuntimeError("the work has stopped an iteration") from error

    loop = asyncio.get_running_loop()
    return await asyncio.shield(loop.run_in_executor(None, copy_context().run, until_done))


class RunWatch:
    """Tells of runs that have ended although LangChain has notified nobody of it.

    LangChain tells handlers nothing of a cancelled ``agenerate``: it gathers its calls, and a
    cancelled gather raises past the callbacks. Whether the task goes on (a time-out) or ends with
    its call, nobody holds the object of the run's id any more then, and it is collected. Where
    another handler keeps it, the run is given up when its task ends.

    A call that ends takes its watch off the task again, so that a task may make any number of
    calls.

    Args:
        give_up: Called with the integer of the run's id, and whether the run is certainly over: a
            stream may go on when the task in which it began has ended.
    """

    def __init__(self, give_up: Callable[[int, bool], None]) -> None:
        self._give_up = give_up
        self._watched: dict[int, tuple[asyncio.Task[Any], _Done, weakref.ref[UUID]]] = {}

    def begin(self, run_id: UUID) -> None:
        """Watch a run of the task that runs here, if any does; keep *run_id* nowhere."""
        if not on_event_loop():
            return
        task = asyncio.current_task()
        if task is None:
            return
        key = run_id.int

        def done(task: asyncio.Task[Any]) -> None:
            if self._watched.pop(key, None) is not None:
                self._give_up(key, task.cancelled())

        def collected(_: object) -> None:
            if key in self._watched:
                self.end(key)
                self._give_up(key, True)

        self._watched[key] = task, done, weakref.ref(run_id, collected)
        task.add_done_callback(done)

    def end(self, key: int) -> None:
        """Stop watching: the run has ended."""
        watched = self._watched.pop(key, None) if self._watched else None
        if watched is not None:
            task, done, _ = watched
            task.remove_done_callback(done)
