"""What is given up with its task is heard of; what ends leaves nothing behind."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from uuid import uuid4

import pytest

from langchain_tokenopt.core.event_loop import RunWatch, done_beside_loop


async def test_a_cancelled_task_gives_up_its_runs():
    """Those that have not ended, and only those."""
    given_up: list[tuple[int, bool]] = []
    watch = RunWatch(lambda key, over: given_up.append((key, over)))
    ended, hanging = uuid4(), uuid4()

    async def work() -> None:
        watch.begin(ended)
        watch.begin(hanging)
        watch.end(ended.int)
        await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)

    assert given_up == [(hanging.int, True)]


async def test_a_run_whose_id_nobody_holds_is_over():
    """A call that a time-out has cancelled, in a task that goes on."""
    given_up: list[tuple[int, bool]] = []
    watch = RunWatch(lambda key, over: given_up.append((key, over)))
    run_id = uuid4()
    key = run_id.int
    watch.begin(run_id)
    del run_id

    assert given_up == [(key, True)]
    assert not watch._watched
    assert "done.<locals>" not in repr(asyncio.current_task())


async def test_a_task_that_makes_many_calls_keeps_no_trace_of_them():
    """A worker that lives for weeks does not grow."""
    watch = RunWatch(lambda key, over: None)
    task = asyncio.current_task()
    for _ in range(1_000):
        run_id = uuid4()
        watch.begin(run_id)
        watch.end(run_id.int)

    assert not watch._watched
    assert "done.<locals>" not in repr(task)


def test_outside_of_a_loop_there_is_nothing_to_watch():
    """Sync code calls it all the same."""
    watch = RunWatch(lambda key, over: None)
    watch.begin(uuid4())
    watch.end(uuid4().int)


def test_work_that_was_asked_for_is_done():
    """In a pool that is busy, for a caller who is cancelled, of a loop that ends."""
    done = list[int]()

    async def ask():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        waiting = [
            asyncio.create_task(done_beside_loop(partial(_later, done, n))) for n in range(3)
        ]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()

    asyncio.run(ask())
    assert [0, 1, 2] == done


def _later(done: list[int], number: int) -> None:
    time.sleep(0.02)
    done.append(number)


async def test_work_beside_a_loop_returns_and_raises():
    """What the work returns, in the caller's context; what it raises, an end of iteration too."""
    known = ContextVar("known", default=0)
    known.set(7)
    assert 7 == await done_beside_loop(known.get)
    with pytest.raises(ZeroDivisionError):
        await done_beside_loop(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="iteration"):
        await done_beside_loop(lambda: next(iter(())))
