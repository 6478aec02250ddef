"""What the stores have to offer, wherever they keep things: the seam for other databases.

Three kinds of things are kept: usage records (``ledger``), answers (``cache``) and accounts
(``budget``). Their own records stand in those rooms; here they are type parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, TypeVar, runtime_checkable

from langchain_core.outputs import Generation

from langchain_tokenopt.core.records import CallRecord, UsageEvent, UsageTotals

__all__ = ["AccountStore", "EntryStore", "UsageStore"]

Entry_co = TypeVar("Entry_co", covariant=True)
Opening_contra = TypeVar("Opening_contra", contravariant=True)
Transaction_co = TypeVar("Transaction_co", covariant=True)


@runtime_checkable
class UsageStore(Protocol):
    """Usage records: they are added, and asked about."""

    @property
    def location(self) -> str:
        """Where the records are: a path, or a URL without its password."""
        ...

    def record(self, event: UsageEvent) -> None:
        """Add an event; known ones stay single. Never raises because of the store."""
        ...

    def flush(self) -> None:
        """Return when everything recorded before is durable."""
        ...

    def totals(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> UsageTotals:
        """Sum over the calls that began from *since* up to, not including, *until*."""
        ...

    def calls(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[CallRecord]:
        """Read the calls themselves, in order of time."""
        ...

    def close(self) -> None:
        """Write what is waiting and let go of the store."""
        ...


@runtime_checkable
class EntryStore(Protocol[Entry_co]):
    """Answers of a cache, and what tells which question they belong to."""

    def changes(self) -> tuple[Sequence[Entry_co], Sequence[int]] | None:
        """Return entries added and ids removed since the last time, by any process."""
        ...

    def answers(self, entry: int) -> list[Generation] | None:
        """Return the answers of an entry; ``None`` when it is gone, or cannot be trusted."""
        ...

    def remove(self, entries: Iterable[int]) -> None:
        """Delete entries; those that are gone already are passed over."""
        ...

    def clear(self) -> None:
        """Delete everything."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Change several things or none of them."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


@runtime_checkable
class AccountStore(Protocol[Opening_contra, Transaction_co]):
    """Accounts of budgets: opened, changed and written together, by one at a time.

    ``with store.transaction(openings) as accounts:`` is one change of all of them: the whole of it,
    or nothing when it raises.
    """

    @property
    def shared(self) -> bool:
        """True when other processes work on the same accounts."""
        ...

    @property
    def concurrent(self) -> bool:
        """True when threads may ask for the same accounts at once: it lets them wait."""
        ...

    @property
    def place(self) -> str | None:
        """Where they are kept, if it can be changed by one at a time only."""
        ...

    def transaction(
        self, openings: Sequence[Opening_contra]
    ) -> AbstractContextManager[Sequence[Transaction_co | None]]:
        """Open accounts, alone with them; ``None`` for one that there is not."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
