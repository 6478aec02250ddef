"""Events from any thread to everybody who watches, in any event loop, each at its own pace.

What a viewer has not taken waits in a queue of bounded length, of which the oldest goes when it is
full. Each queue knows how many have gone, and says so before the next event: a viewer's sequence
has no gap that it was not told of.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from langchain_tokenopt.core.records import CallRecord, Saving, UsageEvent
from langchain_tokenopt.export.event_json import as_json
from langchain_tokenopt.export.viewers import NOBODY_KNOWN, Owner, Viewer, owner_of
from langchain_tokenopt.ledger.rows import microseconds
from langchain_tokenopt.storage import forks

__all__ = ["END", "FanOut", "Lost", "Message", "Subscription", "id_of"]


class Message:
    """An event on its way to viewers.

    Args:
        event: What happened.
        owner: Whose it is.
        id: Where it stands. It says nothing of what others were told in between.
        at: The same as a number, which grows from message to message.
    """

    def __init__(self, event: UsageEvent, owner: Owner, id: str, at: int = 0) -> None:
        self.event = event
        self.owner = owner
        self.event_id = id_of(event)
        self.id = id
        self.at = at

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What is sent; made when somebody is there to read it."""
        return as_json(self.event)


@dataclass(frozen=True, slots=True)
class Lost:
    """Events that the viewer does not get; ``None``: nobody knows how many, perhaps none."""

    count: int | None
    id: str | None = None
    """Of the last of them: who comes back with it is not told of them again."""


END: Final = object()
"""What a subscription gives when nothing more comes."""


class Subscription:
    """What one viewer has not taken yet. Made by :meth:`FanOut.subscribe`, in an event loop."""

    def __init__(self, fan_out: FanOut, viewer: Viewer, most_waiting: int) -> None:
        self.viewer = viewer
        self._fan_out = fan_out
        self._most_waiting = most_waiting
        self._waiting: deque[Message] = deque()
        self._skipped: set[UUID] = set()
        self._lost = 0
        self._last_lost: str | None = None
        self.begins: str | None = None
        """The id to come back with, for who gets no message; ``None``: the one he came with."""
        self.is_resumed = True
        """False where nobody knows what the viewer has missed."""
        self._closed = False
        self.loop = asyncio.get_running_loop()
        self.ready = asyncio.Event()
        self.is_woken = False

    def put(self, message: Message) -> None:
        """Take a message. The caller has the lock."""
        if message.event_id in self._skipped:
            return
        self._waiting.append(message)
        while len(self._waiting) > self._most_waiting:
            self._last_lost = self._waiting.popleft().id
            self._lost += 1

    def skip(self, event_ids: set[UUID]) -> None:
        """Leave out events that the viewer has got in another way, also those still to come."""
        with self._fan_out.lock:
            self._skipped = event_ids
            waiting = [m for m in self._waiting if m.event_id not in event_ids]
            self._waiting = deque(waiting)

    def close(self) -> None:
        """End it, when what waits is taken."""
        self._closed = True

    async def next(self, longest_seconds: float) -> Message | Lost | object | None:
        """Return the next message or loss; ``None`` when none has come in that time."""
        while True:
            with self._fan_out.lock:
                if self._lost:
                    lost, self._lost = self._lost, 0
                    return Lost(lost, self._last_lost)
                if self._waiting:
                    return self._waiting.popleft()
                if self._closed:
                    return END
                self.is_woken = False
                self.ready.clear()
            try:
                await asyncio.wait_for(self.ready.wait(), longest_seconds)
            except TimeoutError:
                return None


class FanOut:
    """Passes events on to viewers, and remembers the latest for those who come back.

    Args:
        history: How many events are remembered, of all users together.
        most_waiting: How many may wait for one viewer.
        most_viewers: How many may watch at once.
    """

    def __init__(self, *, history: int, most_waiting: int, most_viewers: int) -> None:
        self._history = history
        self._most_waiting = most_waiting
        self._most_viewers = most_viewers
        self._latest: dict[tuple[UUID, Owner | None], Message] = {}
        self._made_by: dict[UUID, Owner] = {}
        """Whose the calls are that are remembered."""
        self._told_at = self._forgotten_at = 0
        self.after_fork_in_child()
        forks.register(self)

    def before_fork(self) -> None:
        """Nothing is open that a child must not share."""

    def after_fork_in_child(self) -> None:
        """Begin without viewers: their connections are the parent's."""
        self.lock = forks.ForkLock()
        self._subscriptions: set[Subscription] = set()
        self._name = secrets.token_hex(8)
        """Of this process, in ids: of others it knows nothing."""

    def put(self, event: UsageEvent) -> None:
        """Pass *event* on; one that is remembered is passed on once."""
        with self.lock:
            owner = self._owner(event)
            key = id_of(event), None if isinstance(event, CallRecord) else owner
            if key in self._latest:
                return
            at = self._next_place()
            message = Message(event, owner, self._id(at, key[0].hex), at)
            self._latest[key] = message
            if isinstance(event, CallRecord):
                self._made_by[event.run_id] = owner
            while len(self._latest) > self._history:
                oldest = next(iter(self._latest))
                if forgotten := self._latest.pop(oldest, None):
                    self._forgotten_at = forgotten.at
                self._made_by.pop(oldest[0], None)
            seeing = [each for each in self._subscriptions if each.viewer.sees(owner)]
            for subscription in seeing:
                subscription.put(message)
            _wake(seeing)

    def subscribe(self, viewer: Viewer, after: str | None = None) -> Subscription | None:
        """Let somebody watch, from the message with the id *after* on, or from now on.

        Where that message is not remembered, what is remembered comes, and the subscription says
        that it is not *resumed*. ``None``: too many watch already.
        """
        with self.lock:
            if len(self._subscriptions) >= self._most_viewers:
                return None
            subscription = Subscription(self, viewer, self._most_waiting)
            if after is None:
                subscription.begins = self._id(self._next_place())
            else:
                seen_at = self._place(after)
                subscription.is_resumed = seen_at is not None
                for message in list(self._latest.values()):
                    if message.at > (seen_at or 0) and viewer.sees(message.owner):
                        subscription.put(message)
            self._subscriptions.add(subscription)
            return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a viewer."""
        with self.lock:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End all subscriptions."""
        with self.lock:
            for subscription in self._subscriptions:
                subscription.close()
            _wake(self._subscriptions)

    def _next_place(self) -> int:
        """Return the time, in microseconds since 1970: later than before, whatever clocks do."""
        self._told_at = max(self._told_at + 1, microseconds(datetime.now(UTC)))
        return self._told_at

    def _id(self, at: int, event_hex: str = "") -> str:
        return f"{at}-{self._name}-{event_hex}"

    def _place(self, message_id: str) -> int | None:
        """Return after what it stands; ``None`` where that is forgotten, or was told elsewhere."""
        digits, _, rest = message_id.partition("-")
        if not rest.startswith(f"{self._name}-") or not re.fullmatch("[0-9]{1,19}", digits):
            return None
        return int(digits) if int(digits) >= self._forgotten_at else None

    def _owner(self, event: UsageEvent) -> Owner:
        """Return whose *event* is; a saving is the call's that it came with."""
        if isinstance(event, Saving):
            return self._made_by.get(event.run_id, NOBODY_KNOWN) if event.run_id else NOBODY_KNOWN
        return owner_of(event)


def _wake(subscriptions: Iterable[Subscription]) -> None:
    """Say in each event loop, once, that something is there: to wake a loop costs a system call."""
    sleeping: dict[asyncio.AbstractEventLoop, list[asyncio.Event]] = {}
    for each in subscriptions:
        if not each.is_woken:
            each.is_woken = True
            sleeping.setdefault(each.loop, []).append(each.ready)
    for loop, events in sleeping.items():
        with suppress(RuntimeError):  # it is closed, and so are its viewers' connections
            loop.call_soon_threadsafe(_set_all, events)


def _set_all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()


def id_of(event: UsageEvent) -> UUID:
    """Return the id by which an event is known."""
    return event.run_id if isinstance(event, CallRecord) else event.id
