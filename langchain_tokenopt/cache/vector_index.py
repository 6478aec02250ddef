"""Nearest neighbours within one scope; this is the only module that knows FAISS.

Vectors lie in one matrix, as 16-bit whole numbers, which NumPy turns into floats five times as fast
as 16-bit floats. A scope is a list of rows in it. A small scope is searched by multiplying; a large
one by the signs of its coordinates: 384 bits instead of 1,536 bytes, compared by FAISS's binary
index, and the best 128 are then compared by their true cosine. Neighbours of cosine 0.6 and more
survive that: their signs differ in 30 % of the bits, those of strangers in 50 % (Charikar 2002).
The neighbours of the nearest one are looked for among the same 128: on banking77's questions 97 %
of them are there. ``tests/benchmarks/bench_cache.py`` times it beside FAISS's ``IndexFlatIP`` and
counts how often both find the same nearest neighbour.

FAISS crashes when one thread searches while another adds, so nothing here locks: every call must
be made under the one lock of the cache that owns the index.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["ScopedIndex", "Shortlist", "unit_vector"]

SMALL_SCOPE = 128
"""Rows up to which multiplying beats the binary index."""
SHORTLIST = 128
"""Rows that the binary index proposes for the exact comparison."""
_ONE = 32_767
"""The whole number that stands for 1."""


def unit_vector(vector: Iterable[float]) -> NDArray[np.float32]:
    """Return *vector* with length 1.

    Raises:
        ValueError: If it is no plain vector of finite numbers, or has no length.
    """
    array = np.asarray(vector, dtype=np.float64)  # what 32 bits cannot hold is no error yet
    with np.errstate(over="ignore"):
        length = math.sqrt(array @ array) if array.ndim == 1 else math.nan
    if not math.isfinite(length) or length == 0.0:
        raise ValueError(
            f"the embedder returned an array of shape {array.shape} and length {length}; "
            f"one vector of finite numbers, not all zero, is needed"
        )
    return (array / length).astype(np.float32)


class Shortlist:
    """Entries of one scope that may be near a question, and their vectors.

    Args:
        entries: Their numbers.
        rows: One vector each, in whole numbers.
    """

    def __init__(self, entries: NDArray[np.int64], rows: NDArray[np.int16]) -> None:
        self._entries, self._rows = entries, rows.astype(np.float32)

    def near(self, vector: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """Return up to *k* entries and their cosines with a unit vector, nearest first."""
        cosines = self._rows @ (vector * np.float32(1 / _ONE))
        nearest = np.argsort(-cosines)[:k]
        return list(zip(self._entries[nearest].tolist(), cosines[nearest].tolist(), strict=True))

    def vector(self, entry: int) -> NDArray[np.float32]:
        """Return the vector of one of the entries."""
        row: NDArray[np.float32] = self._rows[int(np.flatnonzero(self._entries == entry)[0])]
        return row * np.float32(1 / _ONE)


class ScopedIndex:
    """Unit vectors of entries, searched scope by scope.

    Args:
        dimension: Numbers per vector.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._matrix: NDArray[np.int16] = np.empty((64, dimension), dtype=np.int16)
        self._free: list[int] = []
        self._used = 0
        self._row_of: dict[int, int] = {}
        self._scopes: dict[bytes, _Scope] = {}
        self._scope_of: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def add(self, entry: int, scope: bytes, vector: NDArray[np.floating[Any]]) -> None:
        """Put *entry* into *scope*.

        Raises:
            ValueError: If the vector has another dimension than the index.
        """
        self.add_many([entry], [scope], vector[None])

    def add_many(
        self, entries: list[int], scopes: list[bytes], vectors: NDArray[np.floating[Any]]
    ) -> None:
        """Put many entries in at once; *vectors* has one row for each."""
        if vectors.shape[1] != self.dimension:
            raise ValueError(f"got {vectors.shape[1]} numbers for an index of {self.dimension}")
        rows = [self._take_row() for _ in entries]
        exact = np.clip(vectors, -1, 1).astype(np.float32)  # NumPy 1 would stay in 16 bits
        self._matrix[rows] = np.rint(exact * np.float32(_ONE))
        members: dict[bytes, list[int]] = {}
        for entry, scope, row in zip(entries, scopes, rows, strict=True):
            self._row_of[entry] = row
            self._scope_of[entry] = scope
            members.setdefault(scope, []).append(entry)
        for scope, added in members.items():
            held = self._scopes.get(scope)
            if held is None:
                held = self._scopes[scope] = _Scope(self.dimension)
            held.add(added, [self._row_of[e] for e in added], self._matrix)

    def remove(self, entry: int) -> None:
        """Take *entry* out; nothing happens when it is not in."""
        row = self._row_of.pop(entry, None)
        if row is None:
            return
        name = self._scope_of.pop(entry)
        scope = self._scopes[name]
        scope.remove(entry)
        if not scope.entries:
            del self._scopes[name]
        elif scope.is_mostly_dead:
            alive = list(scope.entries)
            fresh = self._scopes[name] = _Scope(self.dimension)
            fresh.add(alive, [self._row_of[e] for e in alive], self._matrix)
        self._free.append(row)

    def shortlist(self, scope: bytes, query: NDArray[np.float32]) -> Shortlist | None:
        """Return the entries of *scope* that may be near *query*; ``None`` where there is none."""
        held = self._scopes.get(scope)
        return held.shortlist(query, self._matrix) if held is not None else None

    def _take_row(self) -> int:
        if self._free:
            return self._free.pop()
        if self._used == len(self._matrix):
            grown = np.empty((2 * self._used, self.dimension), dtype=np.int16)
            grown[: self._used] = self._matrix
            self._matrix = grown
        self._used += 1
        return self._used - 1


class _Scope:
    """The rows of one scope, and the signs of their vectors once there are many."""

    def __init__(self, dimension: int) -> None:
        self.entries: dict[int, int] = {}
        """Entry to its place in the lists below."""
        self._places = 0
        self._at = np.empty(8, dtype=np.int64)
        """The entry in each place, -1 where it has been removed."""
        self._rows = np.empty(8, dtype=np.int64)
        self._signs: Any = None
        self._signs_width = _width_of_signs(dimension)

    @property
    def is_mostly_dead(self) -> bool:
        return self._places > 64 and len(self.entries) < 0.6 * self._places

    def add(self, entries: list[int], rows: list[int], matrix: NDArray[np.int16]) -> None:
        start, self._places = self._places, self._places + len(entries)
        if self._places > len(self._at):
            room = 2 * self._places
            self._at, self._rows = _grown(self._at, room), _grown(self._rows, room)
        self._at[start : self._places] = entries
        self._rows[start : self._places] = rows
        self.entries.update(zip(entries, range(start, self._places), strict=True))
        if self._signs is not None:
            self._signs.add(self._signs_of(matrix[rows]))
        elif self._places > SMALL_SCOPE:
            import faiss

            self._signs = faiss.IndexBinaryFlat(8 * self._signs_width)
            self._signs.use_heap = False  # counting is quicker than a heap of this many
            self._signs.add(self._signs_of(matrix[self._rows[: self._places]]))

    def remove(self, entry: int) -> None:
        self._at[self.entries.pop(entry)] = -1

    def shortlist(self, query: NDArray[np.float32], matrix: NDArray[np.int16]) -> Shortlist:
        dead = self._places - len(self.entries)
        if self._signs is None:
            rows, at = self._rows[: self._places], self._at[: self._places]
        else:
            wanted = min(self._places, SHORTLIST + min(dead, SHORTLIST))
            places = _search_alone(self._signs, self._signs_of(query[None]), wanted)
            rows, at = self._rows[places], self._at[places]
        if dead:
            rows, at = rows[at >= 0], at[at >= 0]
        return Shortlist(at, matrix.take(rows, axis=0))

    def _signs_of(
        self, vectors: NDArray[np.floating[Any]] | NDArray[np.int16]
    ) -> NDArray[np.uint8]:
        signs = np.packbits(vectors > 0, axis=1)
        if signs.shape[1] == self._signs_width:
            return signs
        padded = np.zeros((len(signs), self._signs_width), dtype=np.uint8)
        padded[:, : signs.shape[1]] = signs
        return padded


def _width_of_signs(dimension: int) -> int:
    """Return the bytes that signs are filled up to: a width that FAISS has unrolled its loop for.

    48 bytes, those of 384 numbers, take twice the time of 64 (FAISS 1.15).
    """
    needed = -(-dimension // 8)
    return next((width for width in (16, 32, 64) if width >= needed), needed)


def _grown(array: NDArray[np.int64], room: int) -> NDArray[np.int64]:
    grown = np.empty(room, dtype=np.int64)
    grown[: len(array)] = array
    return grown


def _search_alone(index: Any, query: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """Search with one thread: waking others up for one query costs more than the search.

    On a busy machine 5 ms instead of 0.05 ms. The setting is that of the calling thread, and is
    put back.
    """
    import faiss

    distances, found = np.empty(k, dtype=np.int32), np.empty(k, dtype=np.int64)
    threads = faiss.omp_get_max_threads()
    if threads != 1:
        faiss.omp_set_num_threads(1)
    try:  # search() itself takes as long again to check what it is given
        asked, far, near = [faiss.swig_ptr(array) for array in (query, distances, found)]
        index.search_c(1, asked, k, far, near)
    finally:
        if threads != 1:
            faiss.omp_set_num_threads(threads)
    return found
