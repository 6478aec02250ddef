"""Where caches of a test are kept: in memory and files, or in PostgreSQL, by the same names."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from langchain_tokenopt.storage.postgres import pool_of
from tests.support.postgres_server import database_of, shared_server

__all__ = ["FilePlaces", "ServerPlaces", "in_files", "soon"]

_schemas = itertools.count(1)
_database: list[str] = []


def _shared_database() -> str:
    """Return one database for all caches, each in a schema of its own: quicker than a new one."""
    if not _database:
        _database.append(shared_server().new_database())
        shared_server().execute("CREATE EXTENSION vector", database_of(_database[0]))
    return _database[0]


class FilePlaces:
    """A path is a file; none is memory."""

    is_server = False

    def of(self, path: Any = None) -> Any:
        """Return where the cache of a name is."""
        return path

    def close(self) -> None:
        """There is nothing to let go of."""


class ServerPlaces:
    """A path, and none, is a schema."""

    is_server = True

    def __init__(self) -> None:
        self._urls: dict[Path | None, str] = {}
        self._all: list[str] = []

    def of(self, path: Path | None = None) -> str:
        """Return where the cache of a name is; without a name, at another place each time."""
        if path is None or path not in self._urls:
            name = f"cache_{next(_schemas)}"
            shared_server().execute(f"CREATE SCHEMA {name}", database_of(_shared_database()))
            options = quote(f"-csearch_path={name},public", safe="")
            self._urls[path] = f"{_shared_database()}&options={options}"
            self._all.append(self._urls[path])
        return self._urls[path]

    def close(self) -> None:
        """Close the connections to all of them."""
        for url in self._all:
            pool_of(url).close()


in_files = pytest.mark.parametrize("places", [FilePlaces], indirect=True, ids=["file"])
"""For a test that looks into a file, or is about files alone."""


def soon(happens: Callable[[], object], seconds: float = 5.0) -> bool:
    """Say whether something happens; what another process did is heard of a moment later."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
