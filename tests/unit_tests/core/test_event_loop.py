"""What is given up with its task is heard of; what ends leaves nothing behind."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from langchain_tokenopt.core.event_loop import TaskWatch


async def test_a_cancelled_task_gives_up_its_runs():
    """Those that have not ended, and only those."""
    given_up: list[tuple[object, bool]] = []
    watch = TaskWatch(lambda run_id, cancelled: given_up.append((run_id, cancelled)))
    ended, hanging = uuid4(), uuid4()

    async def work() -> None:
        watch.begin(ended)
        watch.begin(hanging)
        watch.end(ended)
        await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)

    assert given_up == [(hanging, True)]


async def test_a_task_that_makes_many_calls_keeps_no_trace_of_them():
    """A worker that lives for weeks does not grow."""
    watch = TaskWatch(lambda run_id, cancelled: None)
    task = asyncio.current_task()
    for _ in range(1_000):
        run_id = uuid4()
        watch.begin(run_id)
        watch.end(run_id)

    assert not watch._watched
    assert "done.<locals>" not in repr(task)


def test_outside_of_a_loop_there_is_nothing_to_watch():
    """Sync code calls it all the same."""
    watch = TaskWatch(lambda run_id, cancelled: None)
    watch.begin(uuid4())
    watch.end(uuid4())
