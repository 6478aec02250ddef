"""Connections of browsers: server-sent events and WebSockets, for whom the application lets in."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from langchain_tokenopt.export.fan_out import END, FanOut, Lost, Message, Subscription
from langchain_tokenopt.export.viewers import Viewer, viewer_of

__all__ = ["Authorize", "Connections"]

Authorize = Callable[[HTTPConnection], object | Awaitable[object]]

_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
_RETRY: Final = "retry: 1000\n"


class Connections:
    """The ASGI application of an event stream.

    Args:
        authorize: Says whose events a connection gets.
        fan_out: Where they come from.
        missed: Reads what a subscription has missed since the message with an id.
        origins: Sites whose pages may open a WebSocket, beside those of the host itself.
        heartbeat_seconds: How often an idle connection is told that it is still there.
        lifetime_seconds: After how long a connection ends.

    Source:
        https://html.spec.whatwg.org/multipage/server-sent-events.html (2026-11)
    """

    def __init__(
        self,
        authorize: Authorize,
        fan_out: FanOut,
        missed: Callable[[Subscription, str], Awaitable[list[Message]]],
        *,
        origins: Collection[str],
        heartbeat_seconds: float,
        lifetime_seconds: float,
    ) -> None:
        self._authorize = authorize
        self._fan_out = fan_out
        self._missed = missed
        self._origins = frozenset(origins)
        self._heartbeat = heartbeat_seconds
        self._lifetime = lifetime_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a connection, as ASGI has it."""
        if scope["type"] == "websocket":
            await self._over_websocket(WebSocket(scope, receive, send))
        elif scope["type"] == "http":
            await self._over_http(Request(scope), receive, send)

    async def _over_http(self, request: Request, receive: Receive, send: Send) -> None:
        viewer, response = None, PlainTextResponse("You may not see these events.", 403)
        if request.method == "GET":
            viewer = await self._viewer_of(request)
        else:
            response = PlainTextResponse("Events are only read.", 405, {"allow": "GET"})
        after = _last_id(request)
        subscription = None if viewer is None else self._fan_out.subscribe(viewer, after)
        if subscription is None:
            if viewer is not None:
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
        viewer = await self._viewer_of(socket) if self._is_of_own_page(socket) else None
        if viewer is None:
            await socket.close(1008)  # before it is accepted: HTTP 403
            return
        after = _last_id(socket)
        subscription = self._fan_out.subscribe(viewer, after)
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

    async def _events(self, subscription: Subscription, after: str | None) -> AsyncIterator[Sent]:
        """Yield what the viewer is told until the connection has lived long enough."""
        ends = time.monotonic() + self._lifetime
        yield Sent("ready", {"type": "ready"}, subscription.begins)
        if after and not subscription.is_resumed:
            yield _as_sent(Lost(None))
            for missed in await self._missed(subscription, after):
                yield _as_sent(missed)
        while (left := ends - time.monotonic()) > 0:
            found = await subscription.next(min(self._heartbeat, left))
            if found is END:
                return
            yield _as_sent(found)

    async def _viewer_of(self, connection: HTTPConnection) -> Viewer | None:
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


class Sent(NamedTuple):
    """One thing that a viewer is told."""

    type: str
    fields: dict[str, Any]
    id: str | None = None
    """With which to come back."""

    @property
    def json(self) -> str:
        """As one line."""
        return json.dumps(self.fields if self.id is None else {**self.fields, "id": self.id})


def _as_sent(found: Message | Lost | object | None) -> Sent:
    if isinstance(found, Message):
        return Sent(found.fields["type"], found.fields, found.id)
    if isinstance(found, Lost):
        return Sent("lost", {"type": "lost", "count": found.count}, found.id)
    return Sent("heartbeat", {"type": "heartbeat"})


async def _as_text(events: AsyncIterator[Sent]) -> AsyncIterator[str]:
    """Write server-sent events."""
    yield _RETRY
    async for each in events:
        place = "" if each.id is None else f"id: {each.id}\n"
        yield f"{place}event: {each.type}\ndata: {each.json}\n\n"


async def _send(socket: WebSocket, events: AsyncIterator[Sent]) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # it has gone in between
        async for each in events:
            await socket.send_text(each.json)
        await socket.close(1012)  # come back


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # nothing is asked for here


def _last_id(connection: HTTPConnection) -> str | None:
    found = connection.headers.get("last-event-id") or connection.query_params.get("last_event_id")
    return found or None
