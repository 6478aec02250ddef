"""Budgets, ledgers and caches copied as ``tokenopt migrate`` does, of one kind."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from langchain_tokenopt.budget.account_migration import checked_account_copy
from langchain_tokenopt.cache.cache_migration import checked_cache_copy
from langchain_tokenopt.ledger.migration import checked_ledger_copy

__all__ = ["copy_accounts", "copy_cache", "copy_ledger"]


def _copy(checked: Any, source: str | Path, target: str | Path) -> dict[str, int]:
    with checked(source, target) as copy:
        sums: dict[str, int] = copy(Counter())
    return sums


copy_accounts = partial(_copy, checked_account_copy)
copy_ledger = partial(_copy, checked_ledger_copy)
copy_cache = partial(_copy, checked_cache_copy)
