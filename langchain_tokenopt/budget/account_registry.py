"""Accounts of threads in memory, for runs that go on in the same process."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["AccountRegistry"]

Account = TypeVar("Account")


class AccountRegistry(Generic[Account]):
    """One account per key, whoever asks for it first.

    An account stays for as long as anybody uses it, and the latest stay beyond that.

    Args:
        keep: How many accounts stay that nobody uses.

    Example:
        >>> class Account: ...
        >>> registry = AccountRegistry(keep=10)
        >>> registry.open(("plan", "thread"), Account) is registry.open(("plan", "thread"), Account)
        True
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._in_use: weakref.WeakValueDictionary[Hashable, Account] = weakref.WeakValueDictionary()
        self._latest: OrderedDict[Hashable, Account] = OrderedDict()
        self._lock = threading.RLock()

    def open(self, key: Hashable, make: Callable[[], Account]) -> Account:
        """Return the account of *key*; where there is none, the one that *make* returns."""
        with self._lock:
            account = self._in_use.get(key)
            if account is None:
                account = self._in_use[key] = make()
            self._latest[key] = account
            self._latest.move_to_end(key)
            forgotten = []
            while len(self._latest) > self._keep:
                forgotten.append(self._latest.popitem(last=False))
        # What is forgotten is freed here, outside of the lock.
        return account
