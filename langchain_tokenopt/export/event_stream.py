"""Usage, savings and alerts as they happen, for the pages of an application: each user his own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.dimensions import Filters
from langchain_tokenopt.core.records import CallRecord, UsageEvent
from langchain_tokenopt.export.event_json import type_of
from langchain_tokenopt.export.fan_out import FanOut, Message, Subscription
from langchain_tokenopt.export.viewers import Viewer, owner_of
from langchain_tokenopt.ledger import Ledger, LedgerError
from langchain_tokenopt.ledger.rows import microseconds, moment_of

if TYPE_CHECKING:
    from langchain_tokenopt.export.event_connections import Authorize, Connections

__all__ = ["EventStream"]

_LONGEST_ABSENCE: Final = timedelta(hours=24)
"""Whoever was away for longer reads the ledger itself."""
_LONGEST_CALL: Final = timedelta(hours=1)
_OVERLAP_SECONDS: Final = 1.0
"""A call ends a moment before it is told of, and threads may tell of theirs in another order."""


class EventStream:
    """Sends calls, savings and budget alerts to browsers as they happen, to each user his own.

    A sink, and an ASGI application to mount in yours (Starlette, FastAPI): over HTTP it answers
    with server-sent events, over a WebSocket with the same events as JSON texts. Events hold names
    and numbers, never prompts or answers.

    Who has been away comes back with the id of the last event (browsers do so by themselves;
    elsewhere ``?last_event_id=``) and gets what he missed. Whoever reads too slowly loses the
    oldest events; ``{"type": "lost", "count": 3}`` says how many, ``null`` that nobody knows.

    Args:
        authorize: Says for each connection whose events it gets, from a session, a token...: the
            user's name as in ``user_id``, a :class:`Viewer` (of an organization, or an operator's),
            or ``None`` to refuse. A function, which runs in a thread, or a
            coroutine function. There is no default: none would be safe behind a proxy.
        ledger: Of the same calls, with plain users. Whoever missed more than the history remembers,
            or comes back to another process, gets the calls since then from it: of a day at most,
            and as many as the history holds. ``lost`` comes with them, for what it does not have.
        history: How many events are remembered, of all users together.
        max_waiting: How many may wait for one slow viewer.
        max_viewers: How many may watch at once; more are answered with 503.
        origins: Other sites whose pages may open a WebSocket here, such as ``https://app.example``.
            Those of the same host may.
        heartbeat_seconds: How often an idle connection is told that it is still there.
        lifetime_seconds: After how long a connection ends, so that whoever has logged out since is
            refused when coming back.

    Raises:
        ImportError: Starlette is not installed.
        TypeError: *authorize* cannot be called.
        ValueError: A number makes no sense.

    Example:
        >>> from starlette.applications import Starlette
        >>> from langchain_tokenopt import track_usage
        >>> stream = EventStream(lambda request: request.cookies.get("user"))
        >>> app = Starlette()
        >>> app.mount("/events", stream.app)
        >>> with track_usage(sinks=[stream], user="ann"):
        ...     pass  # what is called here, ann sees on /events/
    """

    def __init__(
        self,
        authorize: Authorize,
        *,
        ledger: Ledger | None = None,
        history: int = 1_000,
        max_waiting: int = 1_000,
        max_viewers: int = 1_000,
        origins: Collection[str] = (),
        heartbeat_seconds: float = 15.0,
        lifetime_seconds: float = 3_600.0,
    ) -> None:
        if not callable(authorize):
            raise TypeError(
                f"authorize is a function of the request that returns whose events it gets; "
                f"{authorize!r} is none."
            )
        try:
            from langchain_tokenopt.export.event_connections import Connections
        except ImportError as error:
            raise ImportError(
                'EventStream needs starlette. Install it: pip install "langchain-tokenopt[live]".',
                name=error.name,
            ) from error
        self._ledger = ledger
        self._history = check_whole("history", history)
        self._fan_out = FanOut(
            history=history,
            most_waiting=check_whole("max_waiting", max_waiting),
            most_viewers=check_whole("max_viewers", max_viewers),
        )
        self._connections = Connections(
            authorize,
            self._fan_out,
            self._missed,
            origins=origins,
            heartbeat_seconds=_positive("heartbeat_seconds", heartbeat_seconds),
            lifetime_seconds=_positive("lifetime_seconds", lifetime_seconds),
        )

    def record(self, event: UsageEvent) -> None:
        """Tell those who may see *event* of it. From any thread; waits for nobody."""
        if type_of(event) is not None:
            self._fan_out.put(event)

    @property
    def app(self) -> Connections:
        """The application to mount: ``app.mount("/events", stream.app)``."""
        return self._connections

    def close(self) -> None:
        """End all connections: a server that stops waits for them."""
        self._fan_out.close()

    async def _missed(self, subscription: Subscription, after: str) -> list[Message]:
        """Return the calls since *after* from the ledger, which then do not come again."""
        if self._ledger is None:
            return []
        try:
            calls = await asyncio.to_thread(self._read, self._ledger, subscription.viewer, after)
        except LedgerError:  # it was said that something may be missing
            return []
        subscription.skip({call.run_id for call in calls})
        ends = [microseconds(_end_of(call)) for call in calls]
        return [
            Message(call, owner_of(call), f"{end}-ledger-{call.run_id.hex}")
            for call, end in zip(calls, ends, strict=True)
        ]

    def _read(self, ledger: Ledger, viewer: Viewer, after: str) -> list[CallRecord]:
        """Return the latest calls that ended after the message was told, oldest first."""
        now = datetime.now(UTC)
        told = max(_moment_of(after, now), now - _LONGEST_ABSENCE)
        begins = told - timedelta(seconds=_OVERLAP_SECONDS)
        filters = Filters()
        if viewer.user is not None:
            filters["user"] = viewer.user
        if viewer.organization is not None:
            filters["organization"] = viewer.organization
        found = ledger.calls(since=told - _LONGEST_CALL, newest_first=True, **filters)
        known = after.rpartition("-")[2]
        missed = (
            call
            for call in found
            if _end_of(call) >= begins
            and call.run_id.hex != known
            and viewer.sees(owner_of(call))  # to a ledger "(none)" is a word of its own
        )
        return sorted(islice(missed, self._history), key=_end_of)


def _end_of(call: CallRecord) -> datetime:
    return call.started_at + timedelta(seconds=call.duration_seconds)


def _moment_of(message_id: str, now: datetime) -> datetime:
    """Return when a message was told; *now* where the id does not say so."""
    digits = message_id.partition("-")[0]
    return moment_of(int(digits)) if re.fullmatch("[0-9]{1,17}", digits) else now


def _positive(name: str, seconds: float) -> float:
    if not seconds > 0:
        raise ValueError(f"{name} must be above 0; got {seconds}.")
    return seconds
