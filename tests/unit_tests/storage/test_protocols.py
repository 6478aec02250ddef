"""The stores offer what their protocols say."""

from __future__ import annotations

from contextlib import closing

import pytest

from langchain_tokenopt.budget.memory_accounts import MemoryAccountStore
from langchain_tokenopt.budget.postgres_accounts import PostgresAccountStore
from langchain_tokenopt.budget.sqlite_accounts import SqliteAccountStore
from langchain_tokenopt.cache.cache_file import CacheFile
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.storage.protocols import AccountStore, EntryStore, UsageStore


@pytest.mark.parametrize(
    ("make", "protocol"),
    [
        (lambda folder: Ledger(folder / "tokenopt.db"), UsageStore),
        (lambda _: CacheFile(None, embedder="none"), EntryStore),
        (lambda _: MemoryAccountStore(), AccountStore),
        (lambda folder: SqliteAccountStore(folder / "b.db", "b"), AccountStore),
        (lambda _: PostgresAccountStore("postgresql://h/d", "b"), AccountStore),
    ],
    ids=["ledger", "cache", "account in memory", "account in a file", "account on a server"],
)
def test_stores_offer_what_their_protocols_say(tmp_path, make, protocol):
    """So another database can take the place of each."""
    with closing(make(tmp_path)) as store:
        assert isinstance(store, protocol)
