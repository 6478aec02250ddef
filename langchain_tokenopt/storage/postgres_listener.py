"""What other processes notify (``LISTEN``), heard without a thread and without waiting.

PostgreSQL forgets what it would have told a session that is gone, and a network or a pooler in
between (PgBouncer, where it pools transactions) may swallow everything. So a listener proves now
and then that it hears, by a message to itself, and says when it may have missed something.
"""

from __future__ import annotations

import os
import secrets
import time
import weakref
from contextlib import suppress
from typing import Any, Final

import psycopg

from langchain_tokenopt.storage.postgres import PatientConnection, PostgresPool, is_quiet

__all__ = ["PostgresListener"]

_inherited: list[PatientConnection] = []
"""Connections of the parent, never closed here: that would end them for the parent."""


class _Held:
    """The connection of a listener, which is closed when nobody has the listener any more."""

    connection: PatientConnection | None = None
    process = 0

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.process != os.getpid():
            _inherited.append(connection)
            return
        with suppress(psycopg.Error):
            connection.close()


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
        self._held = _Held()
        self._proved_at = 0.0
        self._heard: list[str] = []
        self._proofs: list[str] = []
        weakref.finalize(self, self._held.close)

    def heard(self) -> list[str] | None:
        """Return the messages since the last time; ``None``: some may have been missed.

        Raises:
            PostgresError: The server cannot be reached.
        """
        connection = self._held.connection
        if connection is None or self._held.process != os.getpid():
            self._begin()
            return None
        began = time.monotonic()
        try:
            if began - self._proved_at > self._proof_seconds:
                self._prove(connection)
            elif not is_quiet(connection):
                connection.pgconn.consume_input()
                self._drain(connection)
        except psycopg.Error as error:
            self.close()
            if time.monotonic() - began >= self._wait_seconds:
                raise self._pool.explained(error) from error
            self._begin()  # it was ended; the server need not be away
            return None
        if not self.hears:
            return None
        heard, self._heard = self._heard, []
        return heard

    def _begin(self) -> None:
        self.close()
        connection = self._pool.connect()
        connection.silent_seconds = self._wait_seconds
        connection.add_notify_handler(_put_into(weakref.ref(self)))
        self._held.connection, self._held.process = connection, os.getpid()
        try:
            for channel in (self._channel, self._own_channel):
                connection.execute(f'LISTEN "{channel}"')
            self._prove(connection)
        except psycopg.Error as error:
            self.close()
            raise self._pool.explained(error) from error
        self._heard.clear()

    def _prove(self, connection: PatientConnection) -> None:
        """See whether a message to ourselves arrives: with the answer, or not at all."""
        self._proofs.clear()
        connection.execute("SELECT pg_notify(%s, '')", (self._own_channel,))
        self._drain(connection)
        self.hears = bool(self._proofs)
        self._proved_at = time.monotonic()

    def _drain(self, connection: PatientConnection) -> None:
        while note := connection.pgconn.notifies():
            self.put(note.relname.decode(), note.extra.decode())

    def put(self, channel: str, message: str) -> None:
        """Take a message of a channel."""
        (self._proofs if channel == self._own_channel else self._heard).append(message)

    def close(self) -> None:
        """Stop listening; the next :meth:`heard` begins anew."""
        self._held.close()


def _put_into(reference: weakref.ref[PostgresListener]) -> Any:
    """Return what psycopg calls with a message, without keeping the listener."""

    def take(note: Any) -> None:
        listener = reference()
        if listener is not None:
            listener.put(note.channel, note.payload)

    return take
