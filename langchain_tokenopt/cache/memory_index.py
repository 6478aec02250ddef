"""What is kept in memory of the stored answers: found by request, by words, by meaning."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langchain_tokenopt.cache.answer_groups import AnswerGroups
from langchain_tokenopt.cache.eviction_policy import EvictionPolicy, Use
from langchain_tokenopt.cache.features import NEIGHBOURS, Neighbour, Neighbourhood
from langchain_tokenopt.cache.key import Question, is_wording_hash, wording_hash
from langchain_tokenopt.cache.stored_row import Row
from langchain_tokenopt.cache.vector_index import ScopedIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Entry", "MemoryIndex"]

_READ_AT_ONCE = 100
"""Entries without a known wording (of an older file) that are read at one lookup, in some 6 ms."""
_LENGTH_ERROR = 0.05
"""Unit vectors of 16-bit floats are this near to length 1; a row with NaN or infinity is not."""


@dataclass(slots=True)
class Entry:
    """What is kept in memory about a stored answer."""

    id: int
    exact: bytes
    scope: bytes
    near: bytes | None
    question: str | None
    answer: int
    """The oldest entry with the same answer."""
    expires: float | None
    size: int
    tokens: int
    hits: int
    use: Use
    """What the policy knows of it."""

    def is_alive(self, now: float) -> bool:
        """Say whether the answer may be served at this time."""
        return self.expires is None or self.expires > now


class MemoryIndex(Mapping[int, Entry]):
    """Entries by their number. Not thread-safe: the cache's lock is held around every call.

    Args:
        policy: Decides which entry leaves, and follows which ones come, are used and leave.
    """

    def __init__(self, policy: EvictionPolicy) -> None:
        self.policy = policy
        self.by_exact: dict[bytes, int] = {}
        self.by_near: dict[bytes, int] = {}
        self.answer_groups = AnswerGroups()
        self.bytes = 0
        """Of questions, vectors and answers."""
        self._known: dict[int, Entry] = {}
        self._expiries: list[tuple[float, int]] = []
        self._unread: list[int] = []
        """Entries of which the wording is not known yet."""
        self.read_anew: list[tuple[int, bytes]] = []
        """Entries of which the file does not know the wording, and their ``wording_hash``."""
        self._index: ScopedIndex | None = None

    def __getitem__(self, entry: int) -> Entry:
        return self._known[entry]

    def __iter__(self) -> Iterator[int]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def dimension(self) -> int | None:
        """Numbers per vector; ``None`` before there is one."""
        return None if self._index is None else self._index.dimension

    def scopes(self) -> set[bytes]:
        """Return the scopes that have entries; also while others come and go."""
        return {entry.scope for entry in list(self._known.values())}

    # --- coming and going

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Put rows of the file, with vectors of this cache's embedder, into memory."""
        vectors = [row for row in rows if row.vector is not None and self._fits_index(row)]
        for row in rows:
            earlier = self.by_exact.get(row.exact)
            if earlier is not None:
                self.forget(earlier)
            self._remember(row)
        present = [row for row in vectors if row.id in self._known]
        if present and self._index is not None:
            numbers = np.frombuffer(b"".join(row.vector or b"" for row in present), dtype="<f2")
            matrix = numbers.reshape(len(present), self._index.dimension)
            lengths = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float32)
            sound = np.abs(lengths - 1.0) < _LENGTH_ERROR
            if not sound.all():
                matrix = matrix[sound]
                present = [row for row, is_sound in zip(present, sound, strict=True) if is_sound]
            self._index.add_many(
                [row.id for row in present], [row.scope for row in present], matrix
            )

    def _remember(self, row: Row) -> None:
        near = row.near if row.question is not None and is_wording_hash(row.near) else None
        if near is None and row.question is not None:
            self._unread.append(row.id)
        use = Use(row.tokens, row.size, row.expires, row.hits)
        self._known[row.id] = Entry(
            row.id,
            row.exact,
            row.scope,
            near,
            row.question,
            row.group,
            row.expires,
            row.size,
            row.tokens,
            row.hits,
            use,
        )
        self.by_exact[row.exact] = row.id
        if near is not None:
            self.by_near[near] = row.id
        self.bytes += row.size
        if row.expires is not None:
            heapq.heappush(self._expiries, (row.expires, row.id))
        self.policy.insert(row.exact, use)

    def _read_some(self) -> None:
        """Read the wording of some entries; those of an older file are read little by little."""
        for _ in range(min(_READ_AT_ONCE, len(self._unread))):
            known = self._known.get(self._unread.pop())
            if known is not None and known.question is not None:
                known.near = wording_hash(known.scope, known.question)
                self.by_near.setdefault(known.near, known.id)
                self.read_anew.append((known.id, known.near))

    def _fits_index(self, row: Row) -> bool:
        """Say whether a stored vector can be compared; the first one sets the dimension."""
        numbers = len(row.vector or b"") // 2
        if self._index is None and numbers:
            self._index = ScopedIndex(numbers)
        return self._index is not None and numbers == self._index.dimension

    def forget(self, entry: int) -> None:
        """Forget an entry; nothing happens when it is unknown."""
        known = self._known.pop(entry, None)
        if known is None:
            return
        self.bytes -= known.size
        if self.by_exact.get(known.exact) == entry:
            del self.by_exact[known.exact]
            self.policy.remove(known.exact)
        if known.near is not None and self.by_near.get(known.near) == entry:
            del self.by_near[known.near]
        if self._index is not None:
            self._index.remove(entry)

    def victim(self) -> int | None:
        """Return the entry that should leave next; ``None`` when there is none."""
        exact = self.policy.victim()
        return None if exact is None else self.by_exact[exact]

    def prolong(self, entry: int, expires: float) -> None:
        """Move an entry's expiry."""
        known = self._known[entry]
        known.expires = known.use.expires = expires
        heapq.heappush(self._expiries, (expires, entry))

    def overdue(self, now: float) -> Iterator[Entry]:
        """Yield entries whose time is over; each must be left out or prolonged."""
        while self._expiries and self._expiries[0][0] <= now:
            _, entry = heapq.heappop(self._expiries)
            known = self._known.get(entry)
            if known is not None and not known.is_alive(now):
                yield known

    # --- looking up

    def equal(self, question: Question, now: float) -> int | None:
        """Return the entry of an equal request that may be served at this time."""
        return self._alive(self.by_exact.get(question.exact), now)

    def same_question(
        self,
        question: Question,
        now: float,
        *,
        anew: bool = False,
    ) -> int | None:
        """Return the entry of a wording of the same question that may be served at this time."""
        if self._unread:
            self._read_some()
        return self._alive(self.by_near.get(question.near), now)

    def _alive(self, entry: int | None, now: float) -> int | None:
        return entry if entry is not None and self.is_alive(entry, now) else None

    def is_alive(self, entry: int, now: float, scope: bytes | None = None) -> bool:
        """Say whether an entry is there, of that scope, and may be served at this time."""
        known = self._known.get(entry)
        return known is not None and scope in (None, known.scope) and known.is_alive(now)

    def totals(self) -> tuple[int, int]:
        """Return the number of entries and the bytes they take."""
        return len(self._known), self.bytes

    def top(self, limit: int) -> list[Entry]:
        """Return the entries that were served most, most served first."""
        return heapq.nlargest(limit, self._known.values(), key=lambda e: (e.hits, -e.id))

    def touch(self, entry: int) -> None:
        """Take note that an entry was served."""
        known = self._known[entry]
        known.hits += 1
        self.policy.touch(known.exact)

    def near_to(
        self, vector: NDArray[np.float32], scope: bytes, now: float, least: float
    ) -> Neighbourhood:
        """Return the neighbours of a question, and those of the nearest of them.

        Args:
            vector: Of the question.
            scope: Whose entries are looked at.
            now: Seconds since the epoch; what has expired is no neighbour.
            least: Cosine that the nearest must have, or there are none.
        """
        found = None if self._index is None else self._index.shortlist(scope, vector)
        if found is None:
            return Neighbourhood()
        near = self._named(found.near(vector, NEIGHBOURS), now)
        if not near or near[0].cosine < least:
            return Neighbourhood()
        nearest = near[0].entry
        around = found.near(found.vector(nearest), NEIGHBOURS + 1)
        return Neighbourhood(near, self._named(around, -math.inf, nearest))

    def _named(
        self, found: Iterable[tuple[int, float]], now: float, but: int | None = None
    ) -> list[Neighbour]:
        """Name the groups of the answers of entries that are alive, and give their cosines."""
        known, group_of = self._known, self.answer_groups.of
        named = []
        for entry, cosine in found:
            if entry != but and (there := known.get(entry)) and there.is_alive(now):
                named.append(Neighbour(entry, cosine, group_of(there.answer)))
        return named
