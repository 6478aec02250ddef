"""Eviction policies by name.

``lru``, ``ttl`` and ``fifo`` are a value per entry: the entry of the lowest value leaves first, and
the newest last. ``lfu`` counts uses, ``cost`` weighs each by the tokens that it saves per byte;
both let uses fade slowly, and newcomers wait a while before they are compared with what has long
been used. ``adaptive`` learns from the traffic: see ``adaptive_eviction.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, get_args

from langchain_tokenopt.cache.adaptive_eviction import AdaptivePolicy, FadingPolicy, Rule
from langchain_tokenopt.cache.eviction_policy import EvictionPolicy, LowestValue, Use

__all__ = ["Eviction", "ValuePolicy", "policy_for"]

Eviction = Literal["adaptive", "lru", "lfu", "ttl", "cost", "fifo"]

VALUES: dict[str, Callable[[Use], tuple[float, ...]]] = {
    "fifo": lambda use: (use.born,),
    "lru": lambda use: (use.last,),
    "ttl": lambda use: (math.inf if use.expires is None else use.expires, use.last),
}
"""What an entry is worth under each plain policy; the lowest leaves first."""
COUNTING: Final = Rule(half_life=64, window=0.2, strict=False)
"""How ``lfu`` and ``cost`` count. On the traces of ``tests/benchmarks/cache_eviction.py`` it hits 5
points more than counts that never fade and newcomers that leave first."""


class ValuePolicy:
    """Evict the entry of the lowest value, but the newest only when it is the last one."""

    def __init__(self, value: Callable[[Use], tuple[float, ...]]) -> None:
        self._value = value
        self._uses: dict[bytes, Use] = {}
        self._lowest = LowestValue(self._value_of)
        self._newest: bytes | None = None
        self._clock = 0

    def insert(self, key: bytes, use: Use) -> None:
        """Take note of a new entry."""
        self._clock += 1
        use.born = use.last = self._clock
        self._uses[key] = use
        earlier, self._newest = self._newest, key
        if earlier is not None and earlier in self._uses and earlier != key:
            self._lowest.add(earlier)

    def touch(self, key: bytes) -> None:
        """Take note that *key* answered a request."""
        self._clock += 1
        use = self._uses.get(key)
        if use is not None:
            use.hits += 1
            use.last = self._clock

    def remove(self, key: bytes) -> None:
        """Forget *key*."""
        self._uses.pop(key, None)

    def victim(self) -> bytes | None:
        """Return the entry of the lowest value."""
        lowest = self._lowest.key()
        return self._newest if lowest is None and self._newest in self._uses else lowest

    def _value_of(self, key: bytes) -> tuple[float, ...] | None:
        use = self._uses.get(key)
        return None if use is None or key == self._newest else self._value(use)


def policy_for(eviction: Eviction | EvictionPolicy, capacity: int) -> EvictionPolicy:
    """Return the policy of a name; a policy is returned as it is.

    Args:
        eviction: One of the names of :data:`Eviction`, or a policy.
        capacity: Entries that fit.

    Raises:
        ValueError: If there is no policy of that name.

    Example:
        >>> policy = policy_for("lru", capacity=2)
        >>> for key in (b"a", b"b", b"c"):
        ...     policy.insert(key, Use())
        >>> policy.touch(b"a")
        >>> policy.victim()
        b'b'
    """
    if isinstance(eviction, EvictionPolicy):
        return eviction
    if eviction == "adaptive":
        return AdaptivePolicy(capacity)
    if eviction in ("lfu", "cost"):
        return FadingPolicy(max(1, capacity), COUNTING, by_cost=eviction == "cost")
    if eviction not in VALUES:
        raise ValueError(
            f"eviction must be one of {', '.join(get_args(Eviction))}, or an object with the "
            f"methods of EvictionPolicy; got {eviction!r}"
        )
    return ValuePolicy(VALUES[eviction])
