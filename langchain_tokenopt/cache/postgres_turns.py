"""One flight for all processes: which of them asks the model, as the database says.

A turn ends by the server's clock, a moment after it was renewed: who waits need not know whether
the one who has it was killed, stopped, or lost its network.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection
from typing import Final

from langchain_tokenopt.cache.cache_schema import CacheFileError
from langchain_tokenopt.cache.postgres_server import CacheServer
from langchain_tokenopt.storage.errors import PostgresError

__all__ = ["PostgresTurns"]

_UNTIL: Final = "clock_timestamp() + interval '1.5 seconds'"
"""Of the turns that are taken, or renewed, now; three renewals may come late by then."""
_TAKE: Final = f"""
    WITH there AS (
        SELECT FROM cache_entries
        WHERE exact = %s AND (expires IS NULL OR expires > extract(epoch FROM now()))),
    taken AS (
        INSERT INTO cache_flights SELECT %s, %s, {_UNTIL}
        WHERE NOT EXISTS (SELECT FROM there)
        ON CONFLICT (exact) DO UPDATE SET owner = excluded.owner, until = excluded.until
        WHERE cache_flights.until < clock_timestamp() OR cache_flights.owner = excluded.owner
        RETURNING 1)
    SELECT EXISTS (SELECT FROM taken) OR EXISTS (SELECT FROM there)"""
_RENEW: Final = f"UPDATE cache_flights SET until = {_UNTIL} WHERE exact = ANY(%s) AND owner = %s"
_GIVE_BACK: Final = "DELETE FROM cache_flights WHERE exact = ANY(%s) AND owner = %s"
_FORGET_LOST: Final = """
    DELETE FROM cache_flights WHERE exact IN (
        SELECT exact FROM cache_flights WHERE until < now() - interval '1 minute'
        LIMIT 100 FOR UPDATE SKIP LOCKED)"""
_UNUSABLE: Final = (PostgresError, CacheFileError)


class PostgresTurns:
    """Takes turns for this process."""

    def __init__(self, server: CacheServer) -> None:
        self._server = server
        self.begin_as_another()

    def begin_as_another(self) -> None:
        """Go on as another process than before."""
        self._owner = secrets.token_hex(8)

    def take_turn(self, exact: bytes) -> bool:
        """Take the turn to ask the model, for a moment; ``False``: another process has it.

        Whoever finds an answer there needs no turn; nobody waits for a server that fails.
        """
        try:
            return bool(self._server.change(_TAKE, exact, exact, self._owner)[0][0])
        except _UNUSABLE:
            return True

    def renew_turns(self, keys: Collection[bytes]) -> None:
        """Keep turns for another moment; nothing happens to those that are not ours."""
        with contextlib.suppress(*_UNUSABLE):
            self._server.change(_RENEW, list(keys), self._owner)

    def give_turns_back(self, keys: Collection[bytes]) -> None:
        """Let another process take turns, also those that were lost with their processes."""
        with contextlib.suppress(*_UNUSABLE):
            self._server.change(_GIVE_BACK, list(keys), self._owner)
            self._server.change(_FORGET_LOST)
