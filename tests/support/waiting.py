"""Waiting for what has happened, not for a time that is long enough on an idle machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

__all__ = ["limit_once", "until"]

LONGEST_WAIT_SECONDS = 30
POLL_SECONDS = 0.002


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as *condition* is true.

    Raises:
        TimeoutError: It never was.
    """
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def limit_once(condition: Callable[[], object]) -> AsyncIterator[None]:
    """Let a time limit (``asyncio.timeout``) run out as soon as *condition* is true.

    Raises:
        TimeoutError: It has.
    """

    async def expire() -> None:
        await until(condition)
        limit.reschedule(0)

    async with asyncio.timeout(None) as limit:
        watching = asyncio.create_task(expire())
        try:
            yield
        finally:
            watching.cancel()
