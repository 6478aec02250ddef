"""What an entry is worth under an eviction policy, as a number that the database keeps in order."""

from __future__ import annotations

import math
from typing import Any, Final

from langchain_tokenopt.cache.stored_row import Row

__all__ = ["Worth"]

_SHORT, _LONG = 4.0, 64.0
"""Half-lives of uses: entries stored, per entry of room."""
_NEVER: Final = 1e300


class Worth:
    """By what an entry stays: its last use, its end, its age, or its uses, which fade.

    Uses fade with what is stored after them (LRFU, Lee et al., IEEE Transactions on Computers
    2001), so no entry need be touched while they do: the worth of an entry is the logarithm of its
    faded uses, at a clock that only rises.

    Args:
        eviction: The name of a policy.
        room: Entries that fit.
    """

    def __init__(self, eviction: str, room: int) -> None:
        self.name = eviction
        self._half_life = max(1.0, room * (_LONG if eviction == "lfu" else _SHORT))

    def of(self, row: Row, number: int, size: int) -> float:
        """Return what a new entry is worth."""
        if self.name == "ttl":
            return _NEVER if row.expires is None else row.expires
        if self.name in ("lru", "fifo"):
            return row.created
        weight = 1.0 if self.name == "lfu" else max(row.tokens, 1) / size
        return number / self._half_life + math.log2(weight)

    def risen(self, now: float) -> tuple[str, tuple[Any, ...]]:
        """Return, as SQL, what an entry is worth after ``number`` uses."""
        if self.name == "lru":
            return "%s", (now,)
        if self.name in ("fifo", "ttl"):
            return "worth", ()
        weight = "number" if self.name == "lfu" else "number * greatest(tokens, 1) / size::float8"
        clock = "((SELECT next FROM cache_numbers) / %s::float8)"
        used = f"({clock} + log(2.0, ({weight})::numeric)::float8)"
        more = f"log(2.0, (1 + 2.0 ^ (-least(abs(worth - {used}), 60)))::numeric)::float8"
        return f"greatest(worth, {used}) + {more}", (self._half_life,) * 2
