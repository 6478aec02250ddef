"""Accounts from one store into another: a file into a database, or back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from langchain_tokenopt.budget.account_stores import open_accounts, open_store
from langchain_tokenopt.budget.levels import AccountLevel, Opening
from langchain_tokenopt.budget.records import (
    AccountKey,
    AccountTotals,
    AccountTransaction,
    BudgetStoreError,
)
from langchain_tokenopt.storage.protocols import AccountStore

__all__ = ["checked_account_copy"]


@contextmanager
def checked_account_copy(
    source: str | Path, target: str | Path
) -> Iterator[Callable[[Counter[str]], dict[str, int]]]:
    """Look whether every account can be copied, and yield what copies them.

    An account is copied whole or not at all, so what was interrupted is taken up by doing it again.
    Nobody should be calling meanwhile.

    Yields:
        A function that counts in its argument what it copies, and returns what both have in the
        end: accounts, agents, leases, spent and held tokens.

    Raises:
        ValueError: A path or URL names neither a file nor a PostgreSQL database.
        BudgetStoreError: A store cannot be used; *target* has other figures for an account, which
            stay; or *source* was changed meanwhile.
    """
    store = open_store(target, "migration")

    def copy(copied: Counter[str]) -> dict[str, int]:
        for account in open_accounts(source):
            if not _is_there(account, store):
                _add(account, store)
                copied["accounts"] += 1
        return _verified(source, target)

    try:
        for account in open_accounts(source):
            _is_there(account, store)
        yield copy
    finally:
        store.close()


_Store = AccountStore[Opening, AccountTransaction]


def _is_there(account: AccountTransaction, store: _Store) -> bool:
    """Say whether the account was copied before.

    Raises:
        BudgetStoreError: There is one of other figures.
    """
    with store.transaction([Opening(account.key)]) as [found]:
        known = None if found is None else _content(found)
    if known not in (None, _content(account)):
        raise BudgetStoreError(
            f"{store} has other figures for {account.key} ({account.key.owner!r}) than the source; "
            f"they were left as they are. Stop whoever calls, and copy into an empty store."
        )
    return known is not None


def _add(account: AccountTransaction, store: _Store) -> None:
    level = AccountLevel(
        account.key.budget,
        account.key.per,
        AccountTotals(account.totals.total_tokens, account.totals.total_nano_usd),
        account.key.window,
        account.key.timezone,
    )
    with store.transaction([Opening(account.key, level)]) as [made]:
        assert made is not None
        _fill(made, account)


def _fill(made: AccountTransaction, account: AccountTransaction) -> None:
    _set(made.totals, account.totals)
    for agent in account.agents():
        _set(made.agent(agent.agent), agent)
    for lease in account.leases():
        made.save(lease)


def _set(record: Any, values: Any) -> None:
    for field in fields(record):
        value = getattr(values, field.name)
        setattr(record, field.name, bool(value) if field.type == "bool" else value)


def _content(account: AccountTransaction) -> tuple[Any, ...]:
    agents = [astuple(agent) for agent in account.agents()]
    leases = sorted(astuple(lease) for lease in account.leases())
    return astuple(account.totals), agents, leases


def _verified(source: str | Path, target: str | Path) -> dict[str, int]:
    """Compare both, account by account, and return the sums."""
    copied = dict(_contents(target))
    sums = dict.fromkeys(("accounts", "agents", "leases", "spent tokens", "held tokens"), 0)
    for key, content in _contents(source):
        if copied.get(key) != content:
            raise BudgetStoreError(
                f"{key} ({key.owner!r}) was changed while it was copied. Stop whoever calls, and "
                f"copy into an empty store."
            )
        totals, agents, leases = content
        names = ("accounts", "agents", "leases")
        for name, more in zip(names, (1, len(agents), len(leases)), strict=True):
            sums[name] += more
        sums["spent tokens"] += totals[2]
        sums["held tokens"] += totals[3]
    return sums


def _contents(store: str | Path) -> Iterator[tuple[AccountKey, tuple[Any, ...]]]:
    for account in open_accounts(store):
        yield account.key, _content(account)
