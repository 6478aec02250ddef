"""New calls to everybody who watches: one look at the ledger for all of them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from langchain_tokenopt.dashboard.data import call_as_json
from langchain_tokenopt.ledger import Ledger, LedgerError

__all__ = ["Feed"]

EVERY_SECONDS = 0.1
"""A look at a file that has not changed costs two ``stat``."""
_QUEUED = 20
"""Messages that wait for a slow viewer; of more, the oldest go."""
_AT_ONCE = 100


class Feed:
    """Looks for new calls while somebody watches.

    Args:
        location: Of the ledger.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._viewers: set[asyncio.Queue[str]] = set()
        self._task: asyncio.Task[None] | None = None

    async def events(self, after: int | None) -> AsyncIterator[str]:
        """Yield server-sent events: calls after one, from now on, each with the number it goes to.

        Args:
            after: Number of the call that the viewer has seen last; ``None``: begin with now.
        """
        queue: asyncio.Queue[str] = asyncio.Queue(_QUEUED)
        self._viewers.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield "retry: 1000\n\n"
            if after is not None:
                number, message = await asyncio.to_thread(self._news, after)
                if message:
                    yield _event(number, message)
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), timeout=15)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._viewers.discard(queue)

    async def _look(self) -> None:
        seen: int | None = None
        before: object = None
        while self._viewers:
            stamp = self._stamp()
            if seen is None or stamp is None or stamp != before:
                before = stamp
                try:
                    if seen is None:
                        seen = await asyncio.to_thread(self._last)
                    number, message = await asyncio.to_thread(self._news, seen)
                except LedgerError:  # missing, or being replaced: perhaps there is one later
                    seen = None
                else:
                    seen = number
                    if message:
                        self._tell(_event(number, message))
            await asyncio.sleep(EVERY_SECONDS if stamp else 10 * EVERY_SECONDS)

    def _stamp(self) -> tuple[int, ...] | None:
        """Return what changes when the file or its log is written; ``None`` for a server."""
        found: list[int] = []
        for path in (self._location, f"{self._location}-wal"):
            with suppress(OSError, ValueError):
                stat = os.stat(path)
                found += (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        return tuple(found) or None

    def _tell(self, event: str) -> None:
        for queue in self._viewers:
            if queue.full():
                with suppress(asyncio.QueueEmpty):
                    queue.get_nowait()
            queue.put_nowait(event)

    def _last(self) -> int:
        with Ledger(self._location, read_only=True) as ledger:
            return ledger.last_call()

    def _news(self, after: int) -> tuple[int, list[dict[str, Any]]]:
        """Return the newest calls after one, at most a hundred, and the last number."""
        with Ledger(self._location, read_only=True) as ledger:
            last = ledger.last_call()
            if last <= after:
                return max(after, last), []
            number, calls = ledger.calls_after(max(after, last - _AT_ONCE), limit=_AT_ONCE + 1)
            return number, [call_as_json(call) for call in calls]


def _event(number: int, message: list[dict[str, Any]]) -> str:
    return f"id: {number}\nevent: calls\ndata: {json.dumps(message)}\n\n"
