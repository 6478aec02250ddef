"""What processes have learned and were asked, in a PostgreSQL database: batches of observations."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from langchain_tokenopt.cache.forgetting import without_owner
from langchain_tokenopt.cache.postgres_server import (
    SLOW_SECONDS,
    WRITING_SECONDS,
    CacheServer,
    Statement,
)

__all__ = ["PostgresEvidence"]

_LEARNING: Final = ("SELECT pg_advisory_xact_lock(%s)", (0x746F6B66,))
"""The lock of those who write what they have learned."""
_KEPT_BATCHES: Final = 32_768, 1_024
"""Of what was learned, and of what was asked."""
_READ: Final = "SELECT id, observations FROM cache_evidence WHERE id > %s ORDER BY id"
_ADD: Final = (
    "INSERT INTO cache_evidence (observations, is_traffic) VALUES (%s, %s::int::bool) RETURNING id"
)
_PRUNE: Final = """
    DELETE FROM cache_evidence
    WHERE (SELECT max(id) FROM cache_evidence) %% 64 = 0 AND is_traffic = %s::int::bool AND id <= (
        SELECT id FROM cache_evidence WHERE is_traffic = %s::int::bool
        ORDER BY id DESC LIMIT 1 OFFSET %s)"""


class PostgresEvidence:
    """The observations of all processes. Called under the cache's lock."""

    def __init__(self, server: CacheServer) -> None:
        self._server = server
        self._seen = self._losses = 0

    def new(self) -> list[Any]:
        """Return the observations that were kept since the last call, oldest first."""
        if not self._server.has_news:
            return []
        rows = self._server.run(_READ, self._last_seen())
        self._server.has_news = False
        if rows:
            self._seen = rows[-1][0]
        return _observations_in(text for _, text in rows)

    def _last_seen(self) -> int:
        if self._losses != self._server.losses:
            self._losses, self._seen = self._server.losses, 0
        return self._seen

    def keep(self, labels: Sequence[Any], asked: Sequence[Any] = ()) -> list[Any]:
        """Write what was learned and asked, the oldest leave; return that of other processes."""
        adding: list[Statement] = []
        pruning: list[Statement] = []
        for is_traffic, rows in enumerate((labels, asked)):
            if rows:
                adding.append((_ADD, (json.dumps(rows), is_traffic)))
                pruning.append((_PRUNE, (is_traffic, is_traffic, _KEPT_BATCHES[is_traffic])))
        self._server.has_news = True
        foreign = self.new()
        with self._server.session(WRITING_SECONDS) as session:
            _, others, *found = session.change(
                _LEARNING,
                (_READ, (self._last_seen(),)),
                *adding,
                *pruning,
                ("SELECT pg_notify(%s, 'evidence')", (self._server.tables.channel,)),
                durable=False,
            )
        for rows in found[: len(adding)]:
            self._seen = rows[0][0]
        return foreign + _observations_in(text for _, text in others)

    def drop(self, is_meant: Callable[[bytes], bool]) -> None:
        """Delete what was observed in the domains of an owner."""
        with self._server.session(SLOW_SECONDS) as session:
            *_, rows = session.begin(_LEARNING, (_READ, (0,)))
            session.commit(
                *(
                    ("DELETE FROM cache_evidence WHERE id = %s", (number,))
                    if text is None
                    else (
                        "UPDATE cache_evidence SET observations = %s WHERE id = %s",
                        (text, number),
                    )
                    for number, text in without_owner([(n, text) for n, text in rows], is_meant)
                )
            )


def _observations_in(texts: Iterable[str]) -> list[Any]:
    """Return what batches of evidence say, one after another; what cannot be read is left out."""
    found: list[Any] = []
    for text in texts:
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            found += json.loads(text)
    return found
