"""The values that were used last, for many threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Holds so many values by their keys; those that were not used for longest go first.

    Args:
        most: How many.

    Example:
        >>> held = Recent[int](2)
        >>> held.put("a", 1)
        >>> held.put("b", 2)
        >>> held.get("a")
        1
        >>> held.put("c", 3)
        >>> held.get("b") is None
        True
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key; ``None``: it is not held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        """Hold a value."""
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)

    def clear(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._held.clear()
