"""Usage, savings and alerts as they happen, for the pages of an application: each user his own."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.dimensions import Filters
from langchain_tokenopt.core.records import CallRecord, UsageEvent
from langchain_tokenopt.export.event_json import type_of
from langchain_tokenopt.export.fan_out import END, FanOut, Lost, Message, Subscription
from langchain_tokenopt.export.viewers import Sight, Viewer, owner_of, viewer_of
from langchain_tokenopt.ledger import Ledger, LedgerError

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as error:
    raise ImportError(
        'EventStream needs starlette. Install it: pip install "langchain-tokenopt[live]".',
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["EventStream"]

Authorize = Callable[[HTTPConnection], object | Awaitable[object]]

_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
_RETRY: Final = "retry: 1000\n\n"
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
            user's name as in ``user_id``, a :class:`Viewer` (of an organization), :data:`EVERYBODY`
            for an operator, or ``None`` to refuse. A function, which runs in a thread, or a
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

    Source:
        https://html.spec.whatwg.org/multipage/server-sent-events.html (2026-11)
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
        self._authorize = authorize
        self._ledger = ledger
        self._history = check_whole("history", history)
        self._origins = frozenset(origins)
        self._heartbeat = _positive("heartbeat_seconds", heartbeat_seconds)
        self._lifetime = _positive("lifetime_seconds", lifetime_seconds)
        self._fan_out = FanOut(
            history=history,
            most_waiting=check_whole("max_waiting", max_waiting),
            most_viewers=check_whole("max_viewers", max_viewers),
        )

    def record(self, event: UsageEvent) -> None:
        """Tell those who may see *event* of it. From any thread; waits for nobody."""
        if type_of(event) is not None:
            self._fan_out.put(event)

    @property
    def app(self) -> EventStream:
        """The application to mount: ``app.mount("/events", stream.app)``."""
        return self

    def close(self) -> None:
        """End all connections: a server that stops waits for them."""
        self._fan_out.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a connection, as ASGI has it."""
        if scope["type"] == "websocket":
            await self._over_websocket(WebSocket(scope, receive, send))
        elif scope["type"] == "http":
            await self._over_http(Request(scope), receive, send)

    async def _over_http(self, request: Request, receive: Receive, send: Send) -> None:
        sight, response = None, PlainTextResponse("You may not see these events.", 403)
        if request.method == "GET":
            sight = await self._sight_of(request)
        else:
            response = PlainTextResponse("Events are only read.", 405, {"allow": "GET"})
        after = _last_id(request)
        subscription = None if sight is None else self._fan_out.subscribe(sight, after)
        if subscription is None:
            if sight is not None:
                response = PlainTextResponse("Too many are watching.", 503, {"retry-after": "5"})
            await response(request.scope, receive, send)
            return
        try:
            events = _as_text(self._events(subscription, after))
            stream = StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)
            await stream(request.scope, receive, send)
        finally:
            self._fan_out.unsubscribe(subscription)

    async def _over_websocket(self, socket: WebSocket) -> None:
        sight = await self._sight_of(socket) if self._is_of_own_page(socket) else None
        if sight is None:
            await socket.close(1008)  # before it is accepted: HTTP 403
            return
        after = _last_id(socket)
        subscription = self._fan_out.subscribe(sight, after)
        if subscription is None:
            await socket.close(1013)
            return
        tasks: list[asyncio.Task[None]] = []
        try:
            await socket.accept()
            events = self._events(subscription, after)
            tasks += [asyncio.create_task(each) for each in (_send(socket, events), _gone(socket))]
            done, _ = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            for task in done:
                task.result()
        finally:
            self._fan_out.unsubscribe(subscription)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _events(
        self, subscription: Subscription, after: str | None
    ) -> AsyncIterator[Message | Lost | None]:
        """Yield what the viewer is told until the connection has lived long enough."""
        ends = time.monotonic() + self._lifetime
        if after and not subscription.is_resumed:
            yield Lost(None)
            for missed in await self._missed(subscription, after):
                yield missed
        while (left := ends - time.monotonic()) > 0:
            found = await subscription.next(min(self._heartbeat, left))
            if found is END:
                return
            if found is None or isinstance(found, Message | Lost):
                yield found

    async def _missed(self, subscription: Subscription, after: str) -> list[Message]:
        """Return the calls since *after* from the ledger, which then do not come again."""
        if self._ledger is None:
            return []
        try:
            calls = await run_in_threadpool(self._read, self._ledger, subscription.sight, after)
        except LedgerError:  # it was said that something may be missing
            return []
        subscription.skip({call.run_id for call in calls})
        return [Message(call, _microseconds(_end_of(call)), owner_of(call)) for call in calls]

    def _read(self, ledger: Ledger, sight: Sight, after: str) -> list[CallRecord]:
        """Return the latest calls that ended after the message was told, oldest first."""
        now = datetime.now(UTC)
        told = max(_moment_of(after, now), now - _LONGEST_ABSENCE)
        begins = told - timedelta(seconds=_OVERLAP_SECONDS)
        filters = Filters()
        if isinstance(sight, Viewer) and sight.user is not None:
            filters["user"] = sight.user
        if isinstance(sight, Viewer) and sight.organization is not None:
            filters["organization"] = sight.organization
        found = ledger.calls(since=told - _LONGEST_CALL, newest_first=True, **filters)
        known = after.partition("-")[2]
        missed = (
            call
            for call in found
            if _end_of(call) >= begins
            and call.run_id.hex != known
            and sight.sees(owner_of(call))  # to a ledger "(none)" is a word of its own
        )
        return sorted(islice(missed, self._history), key=_end_of)

    async def _sight_of(self, connection: HTTPConnection) -> Sight | None:
        if inspect.iscoroutinefunction(self._authorize):
            answer = await self._authorize(connection)
        else:
            answer = await run_in_threadpool(self._authorize, connection)
            if inspect.isawaitable(answer):
                answer = await answer
        return viewer_of(answer)

    def _is_of_own_page(self, socket: WebSocket) -> bool:
        """Whether the page is of this host: browsers send cookies along for any page.

        Source: https://owasp.org/www-community/attacks/csrf, "cross-site WebSocket hijacking"
        """
        origin = socket.headers.get("origin")
        own = socket.headers.get("host", "")
        return origin is None or origin in self._origins or urlsplit(origin).netloc == own


async def _as_text(events: AsyncIterator[Message | Lost | None]) -> AsyncIterator[str]:
    """Write events as server-sent ones."""
    yield _RETRY
    async for each in events:
        if each is None:
            yield ": still here\n\n"
        elif isinstance(each, Lost):
            yield f"event: lost\ndata: {_lost_text(each)}\n\n"
        else:
            yield f"id: {each.id}\nevent: {each.fields['type']}\ndata: {each.text}\n\n"


async def _send(socket: WebSocket, events: AsyncIterator[Message | Lost | None]) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # it has gone in between
        async for each in events:
            if each is None:
                text = '{"type": "heartbeat"}'
            else:
                text = _lost_text(each) if isinstance(each, Lost) else each.text
            await socket.send_text(text)
        await socket.close(1012)  # come back


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # nothing is asked for here


def _last_id(connection: HTTPConnection) -> str | None:
    found = connection.headers.get("last-event-id") or connection.query_params.get("last_event_id")
    return found or None


def _lost_text(lost: Lost) -> str:
    return json.dumps({"type": "lost", "count": lost.count})


def _end_of(call: CallRecord) -> datetime:
    return call.started_at + timedelta(seconds=call.duration_seconds)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _moment_of(message_id: str, now: datetime) -> datetime:
    """Return when a message was told; *now* where the id does not say so."""
    digits = message_id.partition("-")[0]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 18):
        return now
    return datetime.fromtimestamp(int(digits) / 1_000_000, UTC)


def _positive(name: str, seconds: float) -> float:
    if not seconds > 0:
        raise ValueError(f"{name} must be above 0; got {seconds}.")
    return seconds
