"""Neighbours of a question among the vectors in a database, in one scope and no other.

All vectors of a small scope are compared; in a large one an index (HNSW) proposes some, and goes on
until enough of them lie in the scope (https://github.com/pgvector/pgvector#iterative-index-scans,
read 2026-11-30). Without pgvector, the vectors of a scope are compared here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokenopt.cache.postgres_rows import ALIVE, ROW, row_of, vector_text
from langchain_tokenopt.cache.postgres_server import CacheServer
from langchain_tokenopt.cache.stored_row import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Near", "Neighbours"]

_SMALL_SCOPE: Final = 1_024
_SMALL_SHARE: Final = 8.0
"""Vectors up to which all of a scope are compared: so many, or so many square roots of all vectors.
The index proposes near ones of all scopes, and needs the more the smaller the scope's share is: 16
in a scope of s take about 16 n / s proposals. Of 100,000 vectors, 4,000 in a scope cost 8.5 ms of a
CPU to compare and 6.5 ms by the index, which misses some (2026-11-30)."""
_SIZE_SECONDS: Final = 60.0
"""How long the size of a scope is believed."""
_SCOPES: Final = 10_000
_COMPARED_HERE: Final = 10_000
"""Vectors of a scope that are compared without pgvector."""
_INDEXED: Final = (
    "SELECT set_config('hnsw.iterative_scan', 'strict_order', true), "
    "set_config('hnsw.ef_search', '200', true)"
)
_IS_LARGE: Final = f"""
    WITH small AS (
        SELECT greatest({_SMALL_SCOPE}, {_SMALL_SHARE} * sqrt(entries))::bigint AS size
        FROM cache_totals)
    SELECT count(*) > (SELECT size FROM small) FROM (
        SELECT FROM cache_vectors WHERE scope = %s LIMIT (SELECT size + 1 FROM small)) AS counted"""
_NO_ROW: Final = (
    "NULL::bytea, NULL::bytea, NULL::text, agrees_with, NULL::bigint, NULL::double precision, "
    "NULL::double precision, NULL::bigint, NULL::bigint, NULL::bytea"
)


def _near(order: str) -> str:
    """Return the statement that finds neighbours in a scope, and what is around the nearest.

    Args:
        order: How two vectors are put in order, with ``{}`` for the other one.
    """
    asked = "(SELECT asked FROM given)"
    return f"""
        WITH given AS MATERIALIZED (SELECT %s::halfvec AS asked),
        near AS MATERIALIZED (
            SELECT entry, vector, vector <#> {asked} AS far FROM cache_vectors
            WHERE scope = %s ORDER BY {order.format(asked)} LIMIT %s),
        alive AS MATERIALIZED (
            SELECT e.*, near.vector, near.far FROM near JOIN cache_entries e ON e.id = near.entry
            WHERE {ALIVE}),
        first AS MATERIALIZED (SELECT id, vector FROM alive ORDER BY far LIMIT 1),
        around AS MATERIALIZED (
            SELECT entry, vector <#> (SELECT vector FROM first) AS far FROM cache_vectors
            WHERE scope = %s ORDER BY {order.format("(SELECT vector FROM first)")} LIMIT %s)
        SELECT true, {ROW}, far FROM alive
        UNION ALL SELECT false, id, {_NO_ROW}, around.far FROM around
        JOIN cache_entries ON id = entry WHERE id <> (SELECT id FROM first)"""


@dataclass(frozen=True, slots=True)
class Near:
    """The neighbours of a question, nearest first, and those of the nearest of them."""

    rows: list[tuple[Row, float]]
    """Those that may be served now, with their cosines."""
    around: list[tuple[int, float, int]]
    """Entry, cosine and group of answers."""


class Neighbours:
    """Finds neighbours.

    Args:
        server: Compares vectors, where it has pgvector.
    """

    def __init__(self, server: CacheServer) -> None:
        self._ask, self._server = server.ask, server
        self._sizes: dict[bytes, tuple[float, bool]] = {}

    def of(self, vector: NDArray[np.float32], scope: bytes, now: float, number: int) -> Near:
        """Return up to *number* neighbours in a scope."""
        if not self._server.tables.has_pgvector:
            return self._here(vector, scope, now, number)
        size = len(vector)
        order = f"vector::halfvec({size}) <#> {{}}::halfvec({size})"
        if not self._is_large(scope):
            order = "(vector <#> {}) + 0"  # which no index is in the order of
        values = vector_text(vector), scope, number, now, scope, number + 1
        found = self._ask(scope, (_INDEXED, ()), (_near(order), values))
        rows = [(row_of(values), -far) for is_near, *values, far in found if is_near]
        around = [
            (values[0], -far, values[0] if values[4] is None else values[4])
            for is_near, *values, far in found
            if not is_near
        ]
        return Near(
            sorted(rows, key=lambda pair: -pair[1]), sorted(around, key=lambda one: -one[1])
        )

    def _is_large(self, scope: bytes) -> bool:
        until, is_large = self._sizes.get(scope, (0.0, False))
        if time.monotonic() >= until:
            is_large = self._ask(scope, (_IS_LARGE, (scope,)))[0][0]
            if len(self._sizes) >= _SCOPES:
                self._sizes.clear()
            self._sizes[scope] = time.monotonic() + _SIZE_SECONDS, is_large
        return is_large

    def _here(self, vector: NDArray[np.float32], scope: bytes, now: float, number: int) -> Near:
        """Find neighbours without pgvector: the vectors of the scope are compared here."""
        newest = (
            "SELECT entry, vector FROM cache_vectors WHERE scope = %s AND length(vector) = %s "
            "ORDER BY entry DESC LIMIT %s"
        )
        stored = self._ask(scope, (newest, (scope, 2 * len(vector), _COMPARED_HERE)))
        if not stored:
            return Near([], [])
        entries = np.array([entry for entry, _ in stored])
        numbers = np.frombuffer(b"".join(part for _, part in stored), dtype="<f2")
        matrix = numbers.reshape(len(stored), -1).astype(np.float32)

        def nearest(other: NDArray[np.float32], count: int) -> dict[int, float]:
            cosines = matrix @ other
            best = np.argsort(-cosines)[:count]
            return dict(zip(entries[best].tolist(), cosines[best].tolist(), strict=True))

        def rows_of(found: Mapping[int, float], time: float) -> list[tuple[Row, float]]:
            named = f"SELECT {ROW} FROM cache_entries WHERE id = ANY(%s) AND {ALIVE}"
            rows = map(row_of, self._ask(scope, (named, (list(found), time))))
            return sorted(((row, found[row.id]) for row in rows), key=lambda pair: -pair[1])

        rows = rows_of(nearest(vector, number), now)
        if not rows:
            return Near([], [])
        first = rows[0][0].id
        at = int(np.flatnonzero(entries == first)[0])
        others = rows_of(nearest(matrix[at], number + 1), -np.inf)
        return Near(rows, [(r.id, cosine, r.group) for r, cosine in others if r.id != first])
