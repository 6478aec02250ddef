"""A pooler between clients and a PostgreSQL server, as unkind as one may be (PgBouncer and others).

It speaks just enough of the protocol to give every transaction of a client another session.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Literal, Self

__all__ = ["Pooler"]

_SSL_AND_GSS: Final = (80877103, 80877104)
_PARAMETERS: Final = b"RSKZ"
Message = tuple[bytes, bytes]


class Pooler:
    """A port that passes on to a server's: ``with Pooler(server.port) as pooler:``.

    Args:
        port: Of the server, which asks for no password.
        sessions: How many it has for all clients.
        pooling: What a client keeps its session for: one transaction, or as long as it lives.
        lingering: Whether what a session says unasked goes to whoever had it last, else to nobody.
    """

    def __init__(
        self,
        port: int,
        sessions: int = 2,
        *,
        pooling: Literal["transaction", "session"] = "transaction",
        lingering: bool = False,
    ) -> None:
        self._server_port = port
        self._pooling, self._lingering = pooling, lingering
        self._changed = threading.Condition()
        self._sessions: list[_Session] = []
        self._wanted = sessions
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """Return the URL of a database behind it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in self._open:
            _end(each)
            each.close()

    def replace_sessions(self) -> None:
        """Let clients go on with other sessions, without a word to them."""
        with self._changed:
            for session in self._sessions:
                session.client = None
                _end(session.socket)
            self._sessions.clear()
            self._changed.notify_all()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        session: _Session | None = None
        with contextlib.suppress(OSError, EOFError):
            start = _start_of(client)
            with self._changed:
                while len(self._sessions) < self._wanted:
                    self._add_session(start)
                client.sendall(self._sessions[0].greeting)
            while True:
                message = _message_of(client)
                if message[0] == b"X":
                    break
                session = self._session_for(client, start)
                session.send(message)
        with self._changed:
            for each in [each for each in self._sessions if each.client is client]:
                each.client = None
                if not each.is_idle:  # another one comes in its place
                    self._sessions.remove(each)
                    _end(each.socket)
            self._changed.notify_all()
        client.close()

    def _session_for(self, client: socket.socket, start: bytes) -> _Session:
        with self._changed:
            while True:
                while len(self._sessions) < self._wanted:
                    self._add_session(start)
                for session in self._sessions:
                    if session.client is client and not session.is_idle:
                        return session
                for session in self._sessions:  # the one that has waited for longest
                    if session.client is None or (session.is_idle and self._is_shared):
                        self._sessions.remove(session)
                        self._sessions.append(session)
                        session.client, session.is_idle = client, False
                        return session
                self._changed.wait()

    @property
    def _is_shared(self) -> bool:
        return self._pooling == "transaction"

    def _add_session(self, start: bytes) -> None:
        session = _Session(self._server_port, start)
        self._open.append(session.socket)
        self._sessions.append(session)
        threading.Thread(target=self._pass_back, args=(session,), daemon=True).start()

    def _pass_back(self, session: _Session) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, content = _message_of(session.socket)
                with self._changed:
                    client = session.client
                    if client is not None:
                        with contextlib.suppress(OSError):
                            client.sendall(_packed(kind, content))
                    if kind == b"Z" and content == b"I" and self._is_shared:
                        session.is_idle = True
                        if not self._lingering:
                            session.client = None
                        self._changed.notify_all()


class _Session:
    """A session of the server."""

    def __init__(self, port: int, start: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(start)
        self.client: socket.socket | None = None
        self.is_idle = True
        self.greeting = b""
        kind = b""
        while kind != b"Z":
            kind, content = _message_of(self.socket)
            if kind in (b"R", b"S", b"K", b"Z"):
                self.greeting += _packed(kind, content)

    def send(self, message: Message) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(_packed(*message))


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _packed(kind: bytes, content: bytes) -> bytes:
    return kind + (len(content) + 4).to_bytes(4, "big") + content


def _read(one: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = one.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def _message_of(one: socket.socket) -> Message:
    kind = _read(one, 1)
    return kind, _read(one, int.from_bytes(_read(one, 4), "big") - 4)


def _start_of(client: socket.socket) -> bytes:
    """Return what a client begins with; it is told that there is no encryption."""
    while True:
        size = _read(client, 4)
        content = _read(client, int.from_bytes(size, "big") - 4)
        if int.from_bytes(content[:4], "big") not in _SSL_AND_GSS:
            return size + content
        client.sendall(b"N")
