"""Where accounts are kept, by the path or URL that names it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from langchain_tokenopt.budget import sqlite_accounts
from langchain_tokenopt.budget.levels import Opening
from langchain_tokenopt.budget.records import AccountTransaction, BudgetStoreError
from langchain_tokenopt.storage.places import place_of
from langchain_tokenopt.storage.protocols import AccountStore

__all__ = ["open_accounts", "open_store"]


def open_store(path: str | Path, name: str) -> AccountStore[Opening, AccountTransaction]:
    """Return the store that a path or URL names; nothing is opened yet.

    Args:
        path: A file, ``sqlite:///file`` or ``postgresql://user@host/database``.
        name: Name of the budget, for messages.

    Raises:
        ValueError: It is a URL of something else.
        BudgetStoreError: The package that reaches it is not installed.
    """
    place = place_of(path)
    if isinstance(place, Path):
        return sqlite_accounts.SqliteAccountStore(place, name)
    store: AccountStore[Opening, AccountTransaction]
    store = _postgres_accounts().PostgresAccountStore(place, name)
    return store


def open_accounts(path: str | Path) -> Iterator[AccountTransaction]:
    """Yield every account in a store, to look at; nothing is changed.

    Raises:
        ValueError: It is a URL of something else.
        BudgetStoreError: There is none, or it cannot be read.
    """
    place = place_of(path)
    if isinstance(place, Path):
        yield from sqlite_accounts.open_accounts(place)
    else:
        yield from _postgres_accounts().open_accounts(place)


def _postgres_accounts() -> Any:
    """Import what needs psycopg, which is an extra."""
    try:
        return import_module("langchain_tokenopt.budget.postgres_accounts")
    except ImportError as error:
        raise BudgetStoreError(
            f"budgets in PostgreSQL need the Python package {error.name!r}. "
            f'Install it: pip install "langchain-tokenopt[postgres]".'
        ) from error
