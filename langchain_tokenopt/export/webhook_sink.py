"""Budget alerts to a webhook, or to a channel of Slack, without anybody waiting for them."""

from __future__ import annotations

import atexit
import http.client
import random
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from langchain_tokenopt.core.argument_checks import check_choice, check_whole
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import UsageEvent
from langchain_tokenopt.export.event_json import EVENT_TYPES, EventType, type_of
from langchain_tokenopt.export.fan_out import id_of
from langchain_tokenopt.export.labels import SeenOnce
from langchain_tokenopt.export.webhook_messages import (
    WebhookFormat,
    body_of,
    key_of,
    signature_headers,
)
from langchain_tokenopt.storage import forks

__all__ = ["WebhookSink"]

ATTEMPTS: Final = 5
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
"""Also of what a receiver asks for in ``Retry-After``."""
_ALERTS: Final[tuple[EventType, ...]] = ("alert",)
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which it is tried again."""


class WebhookSink:
    """Posts budget alerts to a URL: as JSON, or as a message for Slack and what reads its format.

    A sink: give it to ``plan.run(sinks=[...])`` or ``BudgetAlert(sinks=[...])``. A thread of its
    own delivers; :meth:`record` only puts into a queue, and no failure reaches a call. What cannot
    be delivered is tried again, with growing pauses, or after the time that the receiver asks for;
    what is given up is counted in :attr:`failed`, and warned of once. Redirections are not
    followed. Neither the URL nor the secret is ever shown, but for the host.

    Args:
        url: Where to; ``https``, or ``http``.
        format: ``"json"``: the event's fields. ``"slack"``: one sentence, in which names are data.
        events: Which: ``"alert"`` (a threshold was crossed; 100 % is that nothing is left),
            ``"denied"``, ``"degraded"``, ``"rebalanced"``, ``"usage"``, ``"saving"``.
        secret: When given, requests are signed with it: see
            :func:`~langchain_tokenopt.export.webhook_messages.signature_headers`. One that begins
            with ``whsec_`` goes on in base64, as libraries for such webhooks have it.
        max_waiting: How many may wait; of more, the oldest are given up.
        timeout_seconds: How long one request may take in all.

    Raises:
        ValueError: An argument makes no sense.

    Example:
        >>> alerts = WebhookSink("https://hooks.example/T0/B0/x", format="slack")
        >>> alerts
        WebhookSink('hooks.example')
        >>> alerts.close()
        True
    """

    def __init__(
        self,
        url: str,
        *,
        format: WebhookFormat = "json",
        events: Collection[EventType] = _ALERTS,
        secret: str | None = None,
        max_waiting: int = 1_000,
        timeout_seconds: float = 10.0,
    ) -> None:
        check_choice("format", format, "json", "slack")
        if isinstance(events, str) or not set(events) <= set(EVENT_TYPES):
            raise ValueError(f"events are some of {', '.join(EVENT_TYPES)}; got {events!r}.")
        if not timeout_seconds > 0:
            raise ValueError(f"timeout_seconds must be above 0; got {timeout_seconds}.")
        self._post = _Post(url, timeout_seconds)
        self._format: WebhookFormat = format
        self._types = frozenset(events)
        self._key = None if secret is None else key_of(secret)
        self._max_waiting = check_whole("max_waiting", max_waiting)
        self.delivered = 0
        """Events that the receiver has taken."""
        self.failed = 0
        """Events that were given up."""
        self._warned = False
        self._seen = SeenOnce()
        self._closed = threading.Event()
        self._process_begins()
        forks.register(self)
        _sinks.add(self)

    def _process_begins(self) -> None:
        self.lock = forks.ForkLock()
        self._waiting: deque[UsageEvent] = deque()
        self._thread: threading.Thread | None = None
        """There while something is to be delivered."""

    def before_fork(self) -> None:
        """Nothing is open that a child must not share."""

    def after_fork_in_child(self) -> None:
        """Begin with an empty queue: what waits is the parent's to deliver."""
        self._process_begins()

    def record(self, event: UsageEvent) -> None:
        """Take *event* for delivery, if it is of the kinds that are wanted."""
        if type_of(event) not in self._types or not self._seen.is_new(event):
            return
        with self.lock:
            if self._closed.is_set():
                self.failed += 1
                return
            self._waiting.append(event)
            while len(self._waiting) > self._max_waiting:
                self._waiting.popleft()
                self.failed += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._deliver_all, name="tokenopt-webhook", daemon=True
                )
                self._thread.start()

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until nothing waits any more; False when that takes longer."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_seconds)
        return thread is None or not thread.is_alive()

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Deliver what waits, for so long at most, and end; what is left is given up.

        Returns:
            Whether everything was delivered or has failed by then.
        """
        is_done = self.flush(timeout_seconds)
        self._closed.set()
        with self.lock:
            self.failed += len(self._waiting)
            self._waiting.clear()
        return is_done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"WebhookSink({self._post.host!r})"

    def _deliver_all(self) -> None:
        while True:
            with self.lock:
                if not self._waiting:
                    self._thread = None
                    return
                event = self._waiting.popleft()
            try:
                problem = self._deliver(event)
            except Exception as error:  # noqa: BLE001  what comes after it is to be delivered
                problem = type(error).__name__
            with self.lock:
                self.delivered += problem is None
                self.failed += problem is not None
            if problem is not None:
                self._warn(problem)

    def _deliver(self, event: UsageEvent) -> str | None:
        """Post *event* until it is taken; say what is wrong when it is given up."""
        body = body_of(event, self._format)
        pause, problem = 0.0, "closed"
        for attempt in range(ATTEMPTS):
            if self._closed.wait(pause):
                break
            pause = random.uniform(0.5, 1) * FIRST_PAUSE_SECONDS * 2**attempt
            headers = {"content-type": "application/json", "user-agent": "langchain-tokenopt"}
            if self._key is not None:
                headers |= signature_headers(self._key, str(id_of(event)), int(time.time()), body)
            try:
                status, asked = self._post(body, headers)
            except (OSError, http.client.HTTPException) as error:
                problem = type(error).__name__
                continue
            if 200 <= status < 300:
                return None
            problem = f"HTTP {status}"
            if status not in _PASSING:
                break
            pause = min(max(pause, asked or 0), LONGEST_PAUSE_SECONDS)
        return problem

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            with suppress(TokenOptWarning):  # where warnings are errors
                warnings.warn(
                    f"a webhook could not be delivered to {self._post.host} ({problem}); it is "
                    f"given up, and further ones are only counted, in WebhookSink.failed.",
                    TokenOptWarning,
                    stacklevel=2,
                )


class _Post:
    """One request after the other to one URL.

    Raises:
        ValueError: The URL is none of HTTP's.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("url must begin with https:// (or http://) and name a host, no user.")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("url holds characters that must be written as %..")
        self.host = parts.hostname
        self._port = parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._is_secure = parts.scheme == "https"
        self._timeout = timeout_seconds

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None]:
        """Return the status, and the seconds after which the receiver wants to be asked again.

        Raises:
            OSError: There was no answer in time.
            HTTPException: The answer is not HTTP.
        """
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self.host, self._port, timeout=self._timeout)
        # The connection's own limit is for each read: a receiver that drips would never end it.
        limit = threading.Timer(self._timeout, _cut, [connection])
        limit.daemon = True
        limit.start()
        try:
            connection.request("POST", self._target, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, _seconds(answer.headers.get("retry-after"))
        finally:
            limit.cancel()
            connection.close()


def _cut(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(2)


def _seconds(text: str | None) -> float | None:
    """Read ``Retry-After`` in seconds; a date is not worth a clock that may be wrong."""
    return float(text) if text and text.isascii() and text.isdecimal() and len(text) < 7 else None


_sinks: weakref.WeakSet[WebhookSink] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Give what waits a moment when the process ends."""
    for sink in list(_sinks):
        sink.close(2.0)
