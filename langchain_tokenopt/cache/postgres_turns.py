"""One flight for all processes: which of them asks the model, as the database says."""

from __future__ import annotations

import contextlib
import secrets
from typing import Final

from langchain_tokenopt.cache.postgres_server import CacheServer
from langchain_tokenopt.storage.errors import PostgresError

__all__ = ["PostgresTurns"]

_TAKE: Final = """
    WITH there AS (
        SELECT FROM cache_entries
        WHERE exact = %s AND (expires IS NULL OR expires > extract(epoch FROM now()))),
    taken AS (
        INSERT INTO cache_flights SELECT %s, %s, now() + %s * interval '1 second'
        WHERE NOT EXISTS (SELECT FROM there)
        ON CONFLICT (exact) DO UPDATE SET owner = excluded.owner, until = excluded.until
        WHERE cache_flights.until < now() OR cache_flights.owner = excluded.owner RETURNING 1)
    SELECT EXISTS (SELECT FROM taken) OR EXISTS (SELECT FROM there)"""
_GIVE_BACK: Final = "DELETE FROM cache_flights WHERE exact = %s AND owner = %s RETURNING 1"


class PostgresTurns:
    """Takes turns for this process."""

    def __init__(self, server: CacheServer) -> None:
        self._server = server
        self.begin_as_another()

    def begin_as_another(self) -> None:
        """Go on as another process than before."""
        self._owner = secrets.token_hex(8)

    def take_turn(self, exact: bytes, seconds: float) -> bool:
        """Take the turn to ask the model, for some seconds; ``False``: another process has it.

        Whoever finds an answer there needs no turn; nobody waits for a server that fails.
        """
        try:
            ((goes_on,),) = self._server.run(_TAKE, exact, exact, self._owner, seconds)
        except PostgresError:
            return True
        return bool(goes_on)

    def give_turn_back(self, exact: bytes) -> None:
        """Let another process take the turn; nothing happens when it is not ours."""
        with contextlib.suppress(PostgresError):
            self._server.run(_GIVE_BACK, exact, self._owner)
