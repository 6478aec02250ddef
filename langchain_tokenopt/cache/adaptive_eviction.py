"""The eviction policy ``adaptive``: uses that fade, by the rule that suits the traffic.

An entry is weighed by its uses, which fade: a use of ``h`` requests ago counts half (LRFU,
Lee et al., IEEE Transactions on Computers 2001). A short ``h`` is LRU, an endless one LFU. Entries
that have left are remembered for a while by their counts. Newcomers wait in a small window; the one
that leaves it stays only if it is worth more than the weakest of the others, and under a strict
rule if it already was before its last use, so that what is asked once, or in a long loop, does not
push out what is asked again (TinyLFU, Einziger et al., ACM Transactions on Storage 2017).

No half-life, window and strictness suit all traffic. Six rules run on a sample of the requests, at
the same ratio of room to traffic (miniature simulation, Waldspurger et al., USENIX ATC 2017), and
the cache follows the one that hits most.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from langchain_tokenopt.cache.eviction_policy import LowestValue, Use

__all__ = ["RULES", "AdaptivePolicy", "FadingPolicy", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How uses fade, and which newcomers stay."""

    half_life: float
    """Requests after which a use counts half, per entry of room."""
    window: float
    """Share of the room where newcomers wait; it holds two entries of average size at least."""
    strict: bool
    """Whether a newcomer must have been worth more than another before its last use."""


_REMEMBERED = 4
"""Entries remembered after they left, per entry of room. Twice as many gain 0.1 % of the hits."""


class FadingPolicy:
    """Evict by uses that fade, behind a window for newcomers.

    The clock runs one half-life at a time, and the worth of an entry is ``log2(count) + clock``
    for its faded count at any moment: it changes only when the entry is used, and another
    half-life is another speed of the clock.

    Args:
        room: Entries that fit.
        rule: How uses fade, and which newcomers stay.
        by_cost: Weigh each use by the tokens that it saves per byte.
    """

    def __init__(self, room: int, rule: Rule, *, by_cost: bool = True) -> None:
        self._by_cost = by_cost
        self._uses: dict[bytes, Use] = {}
        self._worth: dict[bytes, float] = {}
        self._settled: dict[bytes, float] = {}
        self._window: OrderedDict[bytes, float] = OrderedDict()
        """Entries in the window, least recent first: what each was worth before its last use."""
        self._lowest = LowestValue(self._settled.get)
        self._size = self._window_size = 0
        self._gone: dict[bytes, float] = {}
        self._gone_longer: dict[bytes, float] = {}
        self._clock = 0.0
        self.follow(rule, room)

    def __contains__(self, key: bytes) -> bool:
        return key in self._uses

    def __len__(self) -> int:
        return len(self._uses)

    def follow(self, rule: Rule, room: int) -> None:
        """Go on under another rule, or with another number of entries that fit."""
        self.rule = rule
        self.room = room
        self._speed = 1.0 / (rule.half_life * room)

    def insert(self, key: bytes, use: Use) -> None:
        """Take note of a new entry; what it was worth when it left is taken up again."""
        self.remove(key)
        self._clock += self._speed
        while self._is_window_full():
            self._settle(next(iter(self._window)))
        before = self._gone.pop(key, None)
        if before is None:
            before = self._gone_longer.pop(key, -math.inf)
        self._uses[key] = use
        self._worth[key] = self._after(before, (use.hits + 1) * self._weight(use))
        self._window[key] = before
        self._size += use.size
        self._window_size += use.size

    def touch(self, key: bytes) -> None:
        """Take note that *key* answered a request."""
        self._clock += self._speed
        use = self._uses.get(key)
        if use is None:
            return
        before = self._worth[key]
        after = self._worth[key] = self._after(before, self._weight(use))
        if key in self._window:
            self._window[key] = before
            self._window.move_to_end(key)
        else:
            self._settled[key] = after

    def remove(self, key: bytes) -> None:
        """Forget *key*, but not at once what it was worth."""
        use = self._uses.pop(key, None)
        if use is None:
            return
        self._size -= use.size
        if self._settled.pop(key, None) is None:
            del self._window[key]
            self._window_size -= use.size
        self._gone[key] = self._worth.pop(key)
        if 2 * len(self._gone) >= _REMEMBERED * self.room:
            self._gone, self._gone_longer = {}, self._gone

    def victim(self) -> bytes | None:
        """Return the weakest of the settled entries, or a newcomer that is weaker still."""
        weakest = self._lowest.key()
        if weakest is None:
            return next(iter(self._window), None)
        while self._is_window_full():
            key, before = next(iter(self._window.items()))
            if (before if self.rule.strict else self._worth[key]) <= self._settled[weakest]:
                return key
            self._settle(key)
        return weakest

    def _is_window_full(self) -> bool:
        share = max(self.rule.window, 2 / max(1, len(self._uses)))
        return self._window_size > share * self._size

    def _settle(self, key: bytes) -> None:
        del self._window[key]
        self._window_size -= self._uses[key].size
        self._settled[key] = self._worth[key]
        self._lowest.add(key)

    def _weight(self, use: Use) -> float:
        return use.saved_per_byte if self._by_cost else 1.0

    def _after(self, before: float, used: float) -> float:
        return self._clock + math.log2(used + 2.0 ** (before - self._clock))


RULES = (
    Rule(half_life=16, window=0, strict=True),
    Rule(half_life=64, window=0, strict=False),
    Rule(half_life=64, window=0.1, strict=True),
    Rule(half_life=2, window=0.3, strict=False),
    Rule(half_life=0.5, window=0, strict=False),
    Rule(half_life=0.5, window=0, strict=True),
)
"""Candidates of ``adaptive``; the first is followed until another does better.

Of 288 rules, the six whose best is never more than 0.7 % behind the best of all on any of 37 traces
made for the choice (other parameters and seeds than in ``tests/benchmarks/cache_eviction.py``).
"""
_SAMPLED_ROOM = 1_024
"""Entries in each of the sampled caches that compare the rules."""
_REVIEWS = 8
"""Comparisons while as many requests come as the sampled room has entries."""
_FORGET = 0.5 ** (1 / 80)
"""Per comparison, how far past hits count: half after ten times the room."""
_LEAD = 16
"""Hits by which another rule must lead; fewer are chance."""
_MISJUDGED = 1.25
"""By how much the room may be off before it is taken anew."""
_PLAIN = Use()


class AdaptivePolicy:
    """Follow the one of :data:`RULES` that does best on this traffic.

    Args:
        capacity: Entries that fit. With a cap in bytes, the number is learned from the first
            evictions on, and this is only where it starts.
    """

    def __init__(self, capacity: int) -> None:
        self._followed = FadingPolicy(max(1, capacity), RULES[0])
        self._fit(max(1, capacity))

    @property
    def rule(self) -> Rule:
        """The rule that is followed at present."""
        return self._followed.rule

    def insert(self, key: bytes, use: Use) -> None:
        """Take note of a new entry."""
        self._try(key)
        self._followed.insert(key, use)

    def touch(self, key: bytes) -> None:
        """Take note that *key* answered a request."""
        self._try(key)
        self._followed.touch(key)

    def remove(self, key: bytes) -> None:
        """Forget *key*, but not at once how often it was used."""
        self._followed.remove(key)

    def victim(self) -> bytes | None:
        """Return the entry that the rule gives up."""
        room = max(1, len(self._followed) - 1)
        if not 1 / _MISJUDGED < room / self._followed.room < _MISJUDGED:
            self._fit(room)
        return self._followed.victim()

    def _fit(self, room: int) -> None:
        """Compare the rules for this many entries from now on."""
        self._followed.follow(self.rule, room)
        share = min(1.0, _SAMPLED_ROOM / room)
        self._threshold = round(share * 0xFFFF)
        self._trials = [FadingPolicy(round(share * room), rule) for rule in RULES]
        self._hits = [0.0] * len(RULES)
        self._sampled = 0

    def _try(self, key: bytes) -> None:
        """Play the request on the sampled caches, and follow the best of them."""
        if int.from_bytes(key[:2], "big") > self._threshold:
            return
        for at, trial in enumerate(self._trials):
            if key in trial:
                trial.touch(key)
                self._hits[at] += 1
                continue
            trial.insert(key, _PLAIN)
            if len(trial) > trial.room:
                trial.remove(trial.victim() or key)
        self._sampled += 1
        if self._sampled % max(16, self._trials[0].room // _REVIEWS) == 0:
            self._compare()

    def _compare(self) -> None:
        best = max(range(len(RULES)), key=self._hits.__getitem__)
        if self._hits[best] > self._hits[RULES.index(self.rule)] + _LEAD:
            self._followed.follow(RULES[best], self._followed.room)
        self._hits = [hits * _FORGET for hits in self._hits]
