"""What other processes notify (``LISTEN``), heard without a thread and without waiting.

PostgreSQL forgets what it would have told a session that is gone, and a network or a pooler in
between (PgBouncer, where it pools transactions) may swallow everything. So a listener proves now
and then that it hears, by a message to itself, and says when it may have missed something.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from typing import Any, Final

import psycopg

from langchain_tokenopt.storage.postgres import PatientConnection, PostgresPool, is_quiet

__all__ = ["PostgresListener"]

_inherited: list[PatientConnection] = []
"""Connections of the parent, never closed here: that would end them for the parent."""


class PostgresListener:
    """Hears a channel, on a connection of its own. Called by one thread at a time.

    Args:
        pool: The database.
        channel: Of letters, digits and underscores.
        proof_seconds: For how long it is believed to hear, once it has proved it.
        wait_seconds: How long a proof may take.
    """

    def __init__(
        self, pool: PostgresPool, channel: str, *, proof_seconds: float, wait_seconds: float
    ) -> None:
        self.hears = False
        """Whether the last proof succeeded; a pooler may keep messages from us."""
        self._pool = pool
        self._channel: Final = channel
        self._own_channel: Final = f"{channel}_{secrets.token_hex(8)}"
        self._proof_seconds = proof_seconds
        self._wait_seconds = wait_seconds
        self._connection: PatientConnection | None = None
        self._process = 0
        self._proved_at = 0.0
        self._heard: list[str] = []
        self._proofs: list[str] = []

    def heard(self) -> list[str] | None:
        """Return the messages since the last time; ``None``: some may have been missed.

        Raises:
            PostgresError: The server cannot be reached.
        """
        try:
            if self._connection is None or self._process != os.getpid():
                self._begin()
                return None
            if time.monotonic() - self._proved_at > self._proof_seconds:
                self._prove()
            elif not is_quiet(self._connection):
                self._connection.pgconn.consume_input()
                self._drain()
        except psycopg.Error as error:
            self.close()
            raise self._pool.explained(error) from error
        if not self.hears:
            return None
        heard, self._heard = self._heard, []
        return heard

    def _begin(self) -> None:
        self.close()
        connection = self._pool.connect()
        connection.silent_seconds = self._wait_seconds
        connection.add_notify_handler(self._take)
        self._connection, self._process = connection, os.getpid()
        for channel in (self._channel, self._own_channel):
            connection.execute(f'LISTEN "{channel}"')
        self._prove()
        self._heard.clear()

    def _prove(self) -> None:
        """See whether a message to ourselves arrives: with the answer, or not at all."""
        assert self._connection is not None
        self._proofs.clear()
        self._connection.execute("SELECT pg_notify(%s, '')", (self._own_channel,))
        self._drain()
        self.hears = bool(self._proofs)
        self._proved_at = time.monotonic()

    def _drain(self) -> None:
        assert self._connection is not None
        while note := self._connection.pgconn.notifies():
            self._put(note.relname.decode(), note.extra.decode())

    def _take(self, note: Any) -> None:
        self._put(note.channel, note.payload)

    def _put(self, channel: str, message: str) -> None:
        (self._proofs if channel == self._own_channel else self._heard).append(message)

    def close(self) -> None:
        """Stop listening; the next :meth:`heard` begins anew."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._process != os.getpid():
            _inherited.append(connection)
            return
        with suppress(psycopg.Error):
            connection.close()
