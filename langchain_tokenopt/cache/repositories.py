"""Where answers are stored, by the path or URL that names it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from langchain_tokenopt.cache.cache_schema import CacheFileError, embedder_of
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.storage.places import place_of

__all__ = ["embedder_in", "open_repository"]


def open_repository(path: str | Path | None, **options: Any) -> Repository:
    """Return the stored answers that a path or URL names.

    Args:
        path: A file, or ``postgresql://user@host/database``; ``None`` keeps all in memory.
        **options: As :class:`Repository` takes them.

    Raises:
        CacheFileError: It cannot be used with these settings, or what reaches it is not installed.
        ValueError: It is a URL of something else.
    """
    place = None if path is None else place_of(path)
    if isinstance(place, str):
        found: Repository = _module("postgres_repository").PostgresRepository(place, **options)
        return found
    return Repository(place, **options)


def embedder_in(path: str | Path) -> str:
    """Return the fingerprint of the embedder whose vectors are stored there; changes nothing.

    Raises:
        CacheFileError: There is no cache, or it cannot be used.
        ValueError: It is a URL of something else.
    """
    place = place_of(path)
    if isinstance(place, Path):
        return embedder_of(place)
    found: str = _module("postgres_schema").embedder_at(place)
    return found


def _module(name: str) -> Any:
    """Import what needs psycopg, which is an extra."""
    try:
        return import_module(f"langchain_tokenopt.cache.{name}")
    except ImportError as error:
        raise CacheFileError(
            f"a cache in PostgreSQL needs the Python package {error.name!r}. "
            f'Install it: pip install "langchain-tokenopt[postgres]".'
        ) from error
