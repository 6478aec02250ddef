"""What other processes notify (``LISTEN``), heard without a thread and without waiting.

PostgreSQL forgets what it would have told a session that is gone, and a network or a pooler in
between (PgBouncer, where it pools transactions) may swallow everything, or give the session that
listens to others. So a listener proves now and then that it hears others:

- another connection notifies it, and the message arrives while the one that listens asks for
  nothing: a pooler has no session for who is idle, and cannot pass it on;
- the server says that the session has done nothing since it began to listen: nobody else has used
  it and taken messages along.
"""

from __future__ import annotations

import os
import secrets
import time
import weakref
from contextlib import suppress
from typing import Any, Final

import psycopg

from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.postgres import PatientConnection, PostgresPool, is_quiet

__all__ = ["PostgresListener"]

_PATIENCE_SECONDS: Final = 0.5
"""How long a message may take that usually takes a millisecond: a call waits for it."""
_LONGEST_PAUSE: Final = 60.0
"""Who could not hear tries again after a pause, which doubles up to this."""

_LISTEN: Final = (
    'LISTEN "{}"; SELECT pg_backend_pid(), extract(epoch FROM statement_timestamp())::text'
)
"""In one message, so that the time is that of the session's last activity."""
_PROVE: Final = (
    "SELECT pg_notify(%s, %s), (SELECT extract(epoch FROM query_start)::text "
    "FROM pg_stat_activity WHERE pid = %s)"
)

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
        pool: The database; its connections notify the one that listens.
        channel: Of letters, digits and underscores.
        proof_seconds: For how long it is believed to hear, once it has proved it.
        wait_seconds: How long to wait for a server that does not answer.
    """

    def __init__(
        self, pool: PostgresPool, channel: str, *, proof_seconds: float, wait_seconds: float
    ) -> None:
        self._pool = pool
        self._channel: Final = channel
        self._own_channel: Final = f"{channel}_{secrets.token_hex(8)}"
        self._proof_seconds = proof_seconds
        self._wait_seconds = wait_seconds
        self._held = _Held()
        self._backend: tuple[int, str] | None = None
        """The process of the server that listens, and when it was last asked for something."""
        self._proved_at = 0.0
        self._pause, self._again_at = proof_seconds, 0.0
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
            if time.monotonic() >= self._again_at:
                self._begin()
            return None
        try:
            self._take_in(connection)
            is_old = time.monotonic() - self._proved_at > self._proof_seconds
            if is_old and not self._prove(connection):
                self._give_up()
                return None
        except psycopg.Error:  # it was ended; the server need not be away
            self._begin()
            return None
        heard, self._heard = self._heard, []
        return heard

    def _begin(self) -> None:
        """Listen, if messages arrive.

        Raises:
            PostgresError: Others cannot reach the server either.
        """
        self.close()
        with self._pool.session(self._wait_seconds) as session:
            session.run("SELECT")
        try:
            connection = self._pool.open(max(1, round(self._wait_seconds)))
        except (psycopg.Error, PostgresError):
            self._give_up()  # there is no connection left, say
            return
        self._held.connection, self._held.process = connection, os.getpid()
        connection.autocommit = True
        connection.silent_seconds = _PATIENCE_SECONDS
        connection.add_notify_handler(_put_into(weakref.ref(self)))
        self._backend = None
        try:
            # First where nobody speaks: in a pooler the session that listens is that of others,
            # who would have to hear it all.
            hears = all(
                self._listen(connection, channel) and self._prove(connection)
                for channel in (self._own_channel, self._channel)
            )
        except psycopg.Error:
            hears = False
        except BaseException:  # it may listen to the first one only
            self.close()
            raise
        if not hears:
            self._give_up()
            return
        self._pause = self._proof_seconds
        self._heard.clear()

    def _listen(self, connection: PatientConnection, channel: str) -> bool:
        """Listen to one more channel; say whether the same process of the server does."""
        cursor = connection.execute(_LISTEN.format(channel))
        cursor.nextset()
        ((process, asked_at),) = cursor.fetchall()
        before, self._backend = self._backend, (process, asked_at)
        return before is None or before[0] == process

    def _prove(self, connection: PatientConnection) -> bool:
        """See whether a message of another connection arrives, and the session is ours alone.

        Raises:
            PostgresError: Others cannot reach the server either.
        """
        assert self._backend is not None
        process, asked_at = self._backend
        began, message = time.monotonic(), secrets.token_hex(8)
        with self._pool.session(self._wait_seconds) as session:
            ((_, last_asked_at),) = session.run(_PROVE, self._own_channel, message, process)
        if last_asked_at != asked_at or not self._arrives(message, connection):
            return False
        self._proved_at = began
        return True

    def _arrives(self, message: str, connection: PatientConnection) -> bool:
        """Wait for a message, without a word."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self._take_in(connection)
        while message not in self._proofs:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._take_in(connection, left)
        self._proofs.clear()
        return True

    def _take_in(self, connection: PatientConnection, seconds: float = 0.0) -> None:
        if is_quiet(connection, seconds):
            return
        connection.pgconn.consume_input()
        while note := connection.pgconn.notifies():
            self.put(note.relname.decode(), note.extra.decode())

    def put(self, channel: str, message: str) -> None:
        """Take a message of a channel."""
        (self._proofs if channel == self._own_channel else self._heard).append(message)

    def _give_up(self) -> None:
        """Hear nothing for a while."""
        self.close()
        self._again_at = time.monotonic() + self._pause
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause)

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
