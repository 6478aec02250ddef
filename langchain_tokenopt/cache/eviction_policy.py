"""What decides which entry leaves a full cache."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["EvictionPolicy", "LowestValue", "Use"]


@dataclass(slots=True)
class Use:
    """What a policy may know about an entry."""

    tokens: int = 0
    """What asking again would cost."""
    size: int = 1
    """Bytes that the entry takes."""
    expires: float | None = None
    """Seconds since the epoch."""
    hits: int = 0
    born: int = 0
    """Number of the request that brought it."""
    last: int = 0
    """Number of the request that used it last."""

    @property
    def saved_per_byte(self) -> float:
        """Tokens that one hit saves per byte of room; 1 when neither is known."""
        return max(self.tokens, 1) / self.size


@runtime_checkable
class EvictionPolicy(Protocol):
    """Decides which entry leaves. Called under the cache's lock; belongs to one cache.

    A new entry is inserted first; then, while there are too many, the :meth:`victim` is removed. A
    policy that names the new entry itself does not let it in.
    """

    def insert(self, key: bytes, use: Use) -> None:
        """Take note of a new entry."""
        ...

    def touch(self, key: bytes) -> None:
        """Take note that *key* answered a request."""
        ...

    def remove(self, key: bytes) -> None:
        """Forget *key*; nothing happens when it is unknown."""
        ...

    def victim(self) -> bytes | None:
        """Return the entry that should leave next; ``None`` when there is none."""
        ...


class LowestValue:
    """Finds the key of the lowest value while values rise.

    A key is moved only when its old place comes up, so a rise costs nothing by itself.

    Args:
        value: The value of a key at present; ``None`` for a key that is gone.
    """

    def __init__(self, value: Callable[[bytes], Any]) -> None:
        self._value = value
        self._heap: list[tuple[Any, bytes]] = []
        self._limit = 64

    def add(self, key: bytes) -> None:
        """Take note of a key that is here again, or for the first time."""
        heapq.heappush(self._heap, (self._value(key), key))
        if len(self._heap) > self._limit:
            keys = dict.fromkeys(key for _, key in self._heap)
            valued = ((self._value(key), key) for key in keys)
            self._heap = [item for item in valued if item[0] is not None]
            heapq.heapify(self._heap)
            self._limit = 2 * len(self._heap) + 64

    def key(self) -> bytes | None:
        """Return the key of the lowest value; ``None`` when there is none."""
        while self._heap:
            noted, key = self._heap[0]
            value = self._value(key)
            if value == noted:
                return key
            if value is None:
                heapq.heappop(self._heap)
            else:
                heapq.heapreplace(self._heap, (value, key))
        return None
