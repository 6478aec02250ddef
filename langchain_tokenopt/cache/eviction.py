"""Who leaves when the cache is full.

A policy is a value per entry; the entry of the lowest value leaves first. Values only change when
an entry is used, so a heap with stale items finds the victim in logarithmic time.

``adaptive`` counts uses that fade: a use of ``h`` requests ago counts half (LRFU, Lee et al., IEEE
Transactions on Computers 2001). A short ``h`` is LRU, an endless one LFU; which of seven suits the
traffic is found by running each on a sample of the requests, at the same ratio of room to traffic
(the sampling of SHARDS, Waldspurger et al., FAST 2015), and following the one that hits most.
Entries that have left are remembered for a while by their counts, and an entry that is worth less
than everything it would push out is the one that leaves, so a scan does not wash the cache out.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal as _Literal
from typing import Protocol, get_args, runtime_checkable

__all__ = ["Eviction", "EvictionPolicy", "Use", "policy_named"]

Eviction = _Literal["adaptive", "lru", "lfu", "ttl", "cost", "fifo"]


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


@runtime_checkable
class EvictionPolicy(Protocol):
    """Decides who leaves. Called under the cache's lock."""

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


VALUES: dict[str, Callable[[Use], tuple[float, ...]]] = {
    "fifo": lambda use: (use.born,),
    "lru": lambda use: (use.last,),
    "lfu": lambda use: (use.hits, use.last),
    "ttl": lambda use: (math.inf if use.expires is None else use.expires, use.last),
    "cost": lambda use: ((use.hits + 1) * max(use.tokens, 1) / use.size, use.last),
}
"""What an entry is worth under each plain policy; the lowest leaves first.

``cost`` is saved tokens times uses so far (the best guess of those to come) per byte.
"""


class ValuePolicy:
    """Evict the entry of the lowest value."""

    def __init__(self, value: Callable[[Use], tuple[float, ...]]) -> None:
        self._value = value
        self._uses: dict[bytes, Use] = {}
        self._heap: list[tuple[tuple[float, ...], bytes]] = []
        self._clock = 0

    def insert(self, key: bytes, use: Use) -> None:
        """Take note of a new entry."""
        self._clock += 1
        use.born = use.last = self._clock
        self._uses[key] = use
        self._push(key, use)

    def touch(self, key: bytes) -> None:
        """Take note that *key* answered a request."""
        self._clock += 1
        use = self._uses.get(key)
        if use is not None:
            use.hits += 1
            use.last = self._clock
            self._push(key, use)

    def remove(self, key: bytes) -> None:
        """Forget *key*."""
        self._uses.pop(key, None)

    def victim(self) -> bytes | None:
        """Return the entry of the lowest value."""
        while self._heap:
            value, key = self._heap[0]
            use = self._uses.get(key)
            if use is not None and self._value(use) == value:
                return key
            heapq.heappop(self._heap)
        return None

    def _push(self, key: bytes, use: Use) -> None:
        heapq.heappush(self._heap, (self._value(use), key))
        if len(self._heap) > 4 * len(self._uses) + 64:
            self._heap = [(self._value(u), k) for k, u in self._uses.items()]
            heapq.heapify(self._heap)


class _Fading:
    """Counts of uses that fade by half every *half_life* requests, for entries in and out.

    The fading count of an entry compares with another's at any time by
    ``log2(count) + last / half_life``, which does not change between its uses.
    """

    def __init__(self, capacity: int, half_life: float, remembered: int) -> None:
        self.capacity = capacity
        self.half_life = half_life
        self._remembered = remembered
        self._inside: dict[bytes, tuple[float, int]] = {}
        self._outside: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        self._heap: list[tuple[float, bytes]] = []

    def request(self, key: bytes, now: int) -> bool:
        """Play one request for *key*; say whether it was inside."""
        hit = key in self._inside
        count, last = self._inside.get(key) or self._outside.pop(key, None) or (0.0, now)
        count = 1.0 + count * 2.0 ** ((last - now) / self.half_life)
        self._inside[key] = (count, now)
        heapq.heappush(self._heap, (self._worth(count, now), key))
        if len(self._inside) > self.capacity:
            self._evict()
        if len(self._heap) > 4 * self.capacity + 64:
            self._heap = [(self._worth(*held), k) for k, held in self._inside.items()]
            heapq.heapify(self._heap)
        return hit

    def _evict(self) -> None:
        while True:
            worth, key = heapq.heappop(self._heap)
            held = self._inside.get(key)
            if held is not None and self._worth(*held) == worth:
                self._outside[key] = self._inside.pop(key)
                if len(self._outside) > self._remembered:
                    self._outside.popitem(last=False)
                return

    def _worth(self, count: float, last: int) -> float:
        return math.log2(count) + last / self.half_life


HALF_LIVES = (0.05, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0)
"""Candidates of ``adaptive``, in requests per entry of room."""
_SAMPLED_ROOM = 1_024
"""Entries in each of the sampled caches that compare the candidates."""
_FORGET = 0.5 ** (1 / 40)
"""Per period, how far past success counts when candidates are compared: half after 40 periods."""
_REMEMBERED = 4
"""Entries remembered after they left, per entry of room."""


class AdaptivePolicy:
    """Evict by fading counts, with the half-life that does best on this traffic.

    Args:
        capacity: Entries that fit; with a cap in bytes only, the number that fitted lately.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = max(1, capacity)
        self._share = min(1.0, _SAMPLED_ROOM / self._capacity)
        room = max(1, round(self._capacity * self._share))
        self._trials = [_Fading(room, h * room, _REMEMBERED * room) for h in HALF_LIVES]
        self._scores = [0.0] * len(HALF_LIVES)
        self._chosen = HALF_LIVES.index(1.0)
        self._uses: dict[bytes, Use] = {}
        self._counts: dict[bytes, float] = {}
        self._gone: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        self._heap: list[tuple[float, bytes]] = []
        self._clock = 0
        self._sampled = 0
        self._threshold = round(self._share * 0xFFFF)

    @property
    def half_life(self) -> float:
        """Requests after which a use counts half."""
        return HALF_LIVES[self._chosen] * self._capacity

    def insert(self, key: bytes, use: Use) -> None:
        """Take note of a new entry; the count it had when it left is taken up again."""
        self._tick(key)
        count, last = self._gone.pop(key, (0.0, self._clock))
        use.born = use.last = self._clock
        self._uses[key] = use
        self._counts[key] = 1.0 + count * 2.0 ** ((last - self._clock) / self.half_life)
        self._push(key)

    def touch(self, key: bytes) -> None:
        """Take note that *key* answered a request."""
        self._tick(key)
        use = self._uses.get(key)
        if use is None:
            return
        faded = 2.0 ** ((use.last - self._clock) / self.half_life)
        self._counts[key] = 1.0 + self._counts[key] * faded
        use.hits += 1
        use.last = self._clock
        self._push(key)

    def remove(self, key: bytes) -> None:
        """Forget *key*, but not at once how often it was used."""
        use = self._uses.pop(key, None)
        if use is not None:
            self._gone[key] = (self._counts.pop(key), use.last)
            if len(self._gone) > _REMEMBERED * self._capacity:
                self._gone.popitem(last=False)

    def victim(self) -> bytes | None:
        """Return the entry of the lowest value."""
        while self._heap:
            worth, key = self._heap[0]
            if key in self._uses and self._worth(key) == worth:
                return key
            heapq.heappop(self._heap)
        return None

    def _worth(self, key: bytes) -> float:
        use = self._uses[key]
        per_byte = math.log2(max(use.tokens, 1) / use.size) if use.tokens else 0.0
        return math.log2(self._counts[key]) + per_byte + use.last / self.half_life

    def _push(self, key: bytes) -> None:
        heapq.heappush(self._heap, (self._worth(key), key))
        if len(self._heap) > 4 * len(self._uses) + 64:
            self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(self._worth(key), key) for key in self._uses]
        heapq.heapify(self._heap)

    def _tick(self, key: bytes) -> None:
        """Count the request, play it on the sampled caches, and follow the best of them."""
        self._clock += 1
        if int.from_bytes(key[:2], "big") > self._threshold:
            return
        self._sampled += 1
        for at, trial in enumerate(self._trials):
            self._scores[at] += trial.request(key, self._sampled)
        if self._sampled % max(16, self._trials[0].capacity // 8) == 0:
            best = max(range(len(HALF_LIVES)), key=lambda at: self._scores[at])
            if self._scores[best] > 1.01 * self._scores[self._chosen]:
                self._chosen = best
                self._rebuild()
            self._scores = [score * _FORGET for score in self._scores]


def policy_named(name: Eviction, capacity: int) -> EvictionPolicy:
    """Return a policy by its name.

    Args:
        name: One of the names of :data:`Eviction`.
        capacity: Entries that fit.

    Raises:
        ValueError: If there is no policy of that name.

    Example:
        >>> policy = policy_named("lru", capacity=2)
        >>> for key in (b"a", b"b"):
        ...     policy.insert(key, Use())
        >>> policy.touch(b"a")
        >>> policy.victim()
        b'b'
    """
    if name == "adaptive":
        return AdaptivePolicy(capacity)
    if name not in VALUES:
        raise ValueError(f"eviction must be one of {', '.join(get_args(Eviction))}; got {name!r}")
    return ValuePolicy(VALUES[name])
