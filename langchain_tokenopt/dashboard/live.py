"""New calls to everybody who watches: one look at the ledger for all of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from langchain_tokenopt.core.printable import printable
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.run_tree import notes_of
from langchain_tokenopt.dashboard.asked import FILTERS
from langchain_tokenopt.dashboard.run_page import run_path
from langchain_tokenopt.dashboard.view import Views
from langchain_tokenopt.ledger import LedgerError
from langchain_tokenopt.pricing.money import format_usd

__all__ = ["Feed"]

EVERY_SECONDS = 0.04
"""A look at a file that has not changed costs two ``stat``."""
_ASKED_SECONDS = 0.4
"""The ledger is asked, also where no file has changed: SQLite writes its log before anybody can
read what is in it, so whoever looks between the two sees a change and nothing new."""
_QUEUED = 20
"""Messages that wait for a slow viewer; of more, the oldest go."""
_AT_ONCE = 100


class Feed:
    """Looks for new calls while somebody watches.

    Args:
        views: Of the ledger.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._viewers: set[asyncio.Queue[str | None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def events(self, after: int | None, latest: int = 0) -> AsyncIterator[str]:
        """Yield server-sent events: calls after one, from now on, each with the number it goes to.

        Args:
            after: Number of the call that the viewer has seen last; ``None``: begin with now.
            latest: So many of the calls before now are sent to whoever begins.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue(_QUEUED)
        self._viewers.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield "retry: 1000\n\n"
            if after is not None or latest:
                with suppress(LedgerError):
                    number, calls = await asyncio.to_thread(self._missed, after, latest)
                    if calls:
                        yield _event(number, calls)
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), timeout=15)
                except TimeoutError:
                    event = ": still here\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._viewers.discard(queue)

    def end(self) -> None:
        """Let everybody go: a server that ends waits for those who watch."""
        self._tell(None)

    async def _look(self) -> None:
        seen: int | None = None
        before: object = ()
        asked = 0.0
        while self._viewers:
            stamp = self._views.stamp()
            is_changed = stamp != before
            if is_changed or time.monotonic() - asked >= _ASKED_SECONDS:
                had, before = before, stamp
                asked = time.monotonic()
                try:
                    if seen is None:
                        seen = await asyncio.to_thread(self._last)
                    number, calls = await asyncio.to_thread(self._news, seen)
                except LedgerError:  # missing, or away: it is looked for again
                    self._views.forget_ledger()
                    seen = seen or 0
                else:
                    seen = number
                    if calls:
                        self._tell(_event(number, calls))
                    elif had and is_changed:
                        self._tell("event: figures\ndata: {}\n\n")
            await asyncio.sleep(_ASKED_SECONDS if stamp is None else EVERY_SECONDS)

    def _tell(self, event: str | None) -> None:
        for queue in self._viewers:
            if queue.full():
                with suppress(asyncio.QueueEmpty):
                    queue.get_nowait()
            queue.put_nowait(event)

    def _last(self) -> int:
        return self._views.ledger().last_call()

    def _missed(self, after: int | None, latest: int) -> tuple[int, list[dict[str, Any]]]:
        return self._news(max(0, self._last() - latest) if after is None else after)

    def _news(self, after: int) -> tuple[int, list[dict[str, Any]]]:
        """Return the newest calls after one, at most a hundred, and the last number."""
        ledger = self._views.ledger()
        last = ledger.last_call()
        if last <= after:
            return last, []  # fewer: another ledger is there now
        number, calls = ledger.calls_after(max(after, last - _AT_ONCE), limit=_AT_ONCE + 1)
        return number, [_as_json(call) for call in calls]


def _as_json(call: CallRecord) -> dict[str, Any]:
    """Return a call as the list of latest calls shows it."""
    return {
        "at": call.started_at.isoformat(timespec="seconds"),
        **{name: getattr(call.attribution, name, None) or "" for name in FILTERS},
        "model": call.model or "",
        "tokens": f"{call.spent_tokens:,}",
        "cost": format_usd(call.cost_nano_usd),
        "status": printable(", ".join(notes_of(call)) or "ok"),
        "path": run_path(call.run) if call.run else "",
    }


def _event(number: int, message: list[dict[str, Any]]) -> str:
    return f"id: {number}\nevent: calls\ndata: {json.dumps(message)}\n\n"
