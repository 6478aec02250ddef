"""Where answers are stored, by the path or URL that names it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from langchain_tokenopt.cache.cache_schema import CacheFileError
from langchain_tokenopt.cache.repository import Repository

__all__ = ["is_server", "open_repository"]


def open_repository(path: str | Path | None, **options: Any) -> Repository:
    """Return the stored answers that a path or URL names.

    Args:
        path: A file, or ``postgresql://user@host/database``; ``None`` keeps all in memory.
        **options: As :class:`Repository` takes them.

    Raises:
        CacheFileError: It cannot be used with these settings, or what reaches it is not installed.
        ValueError: It is a URL of something else.
    """
    if not is_server(path):
        return Repository(None if path is None else Path(path), **options)
    try:
        module = import_module("langchain_tokenopt.cache.postgres_repository")
    except ImportError as error:
        raise CacheFileError(
            f"a cache in PostgreSQL needs the Python package {error.name!r}. "
            f'Install it: pip install "langchain-tokenopt[postgres]".'
        ) from error
    found: Repository = module.PostgresRepository(path, **options)
    return found


def is_server(path: object) -> bool:
    """Say whether *path* is the URL of a database."""
    return isinstance(path, str) and path.partition("://")[0].startswith("postgres")
