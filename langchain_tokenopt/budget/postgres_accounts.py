"""Accounts in a PostgreSQL database, for any number of machines.

A change is two round trips: the first locks the accounts and brings along what will be asked for,
the second writes what has become of them and commits. Between them decides the same arithmetic as
for accounts in memory and in files; the server knows nothing of it, so there is one answer, and
workers of several releases need not agree about functions in the database. Threads that wait for
the same accounts share the round trips (``storage.group_queue``).

Accounts are locked in the order of their numbers, by one statement, before anything else is
touched; new ones are made, and old ones deleted, in transactions that wait for no account. So no
two changes can wait for each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from langchain_tokenopt.budget.account_columns import (
    AGENT,
    KEY,
    PLACE,
    TOTALS,
    columns,
    values_of_totals,
)
from langchain_tokenopt.budget.levels import NOTHING, Opening
from langchain_tokenopt.budget.postgres_rows import (
    AccountRows,
    PostgresTransaction,
    Wanted,
    lock_rows,
)
from langchain_tokenopt.budget.postgres_tables import explained, prepare, version_of
from langchain_tokenopt.budget.records import (
    AccountKey,
    AccountTransaction,
    BudgetStoreError,
)
from langchain_tokenopt.budget.windows import KEPT_SECONDS
from langchain_tokenopt.storage import postgres
from langchain_tokenopt.storage.group_queue import GroupQueue
from langchain_tokenopt.storage.postgres import (
    PostgresError,
    PostgresPool,
    Session,
    from_text,
    pool_of,
    to_text,
)

__all__ = ["PostgresAccountStore", "open_accounts"]

_KNOWN: Final = 10_000
"""Accounts of which a budget remembers that they were there."""

_FIND: Final = (
    f"SELECT id FROM budget_accounts "
    f"WHERE {' AND '.join(f'{columns([name])} = %s' for name in PLACE)}"
)
_ADD: Final = (
    f"INSERT INTO budget_accounts ({columns([*KEY, *TOTALS])}) "
    f"VALUES ({', '.join(['%s'] * len(KEY + TOTALS))}) ON CONFLICT DO NOTHING"
)
_READ_ALL: Final = (
    f"SELECT id, {columns([*KEY, *TOTALS])}, "
    f"(SELECT json_agg(json_build_array(account, {columns(AGENT)})) FROM budget_agents "
    f"WHERE account = budget_accounts.id) FROM budget_accounts ORDER BY {columns(PLACE)}"
)
_READ_FORGOTTEN: Final = 'SELECT until FROM budget_forgotten WHERE name = %s AND "window" = %s'
_FORGET: Final = (
    'WITH old AS (SELECT id, name, "window", ends FROM budget_accounts '
    'WHERE "window" = %s AND ends <= %s FOR UPDATE SKIP LOCKED), '
    "leases AS (DELETE FROM budget_leases USING old WHERE account = old.id), "
    "agents AS (DELETE FROM budget_agents USING old WHERE account = old.id), "
    "accounts AS (DELETE FROM budget_accounts USING old WHERE budget_accounts.id = old.id) "
    'INSERT INTO budget_forgotten SELECT name, "window", max(ends) FROM old '
    'GROUP BY name, "window" ORDER BY name, "window" '
    'ON CONFLICT (name, "window") DO UPDATE '
    "SET until = greatest(budget_forgotten.until, excluded.until)"
)


class PostgresAccountStore:
    """Accounts in a database.

    Args:
        url: ``postgresql://user@host/database``. It is reached by the first transaction.
        name: Name of the budget, for messages.

    Raises:
        ValueError: *url* is no URL of a PostgreSQL database.
    """

    shared = True
    concurrent = True

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self._pool = pool_of(url)
        self._queue = _queue_of(self._pool)
        self._prepared = False
        self._known: dict[tuple[Any, ...], int] = {}
        """Numbers of accounts that have been there: they are not made anew."""
        self._time: tuple[float, float] | None = None
        """What the server's clock last showed, and ours, which only ever runs forward."""

    def __str__(self) -> str:
        return self._pool.label

    @property
    def place(self) -> str:
        """Where the accounts are: a thread that is changing one cannot wait for another there."""
        return self._pool.label

    def clock(self) -> float:
        """Return what the server's clock shows: one for all machines."""
        if self._time is None:
            try:
                with self._pool.session() as session:
                    shown = session.run("SELECT extract(epoch FROM now())::float8")[0][0]
            except PostgresError:  # whoever needs the server will hear of it
                return time.time()
            self._time = shown, time.monotonic()
        shown, at = self._time
        return shown + time.monotonic() - at

    @contextmanager
    def transaction(
        self, openings: Sequence[Opening]
    ) -> Iterator[Sequence[AccountTransaction | None]]:
        """Lock accounts; all that is changed is written at the end, or nothing.

        Raises:
            BudgetStoreError: The server cannot be used, or somebody has removed an account.
        """
        try:
            while True:
                found = self._numbered(openings)
                numbers = [number for number, _ in found if number is not None]
                expects = (openings[0].expects if openings else None) or NOTHING
                wanted = Wanted(numbers, expects)
                with self._queue.turn(wanted, frozenset(numbers)) as rows:
                    self._time = rows.time
                    gone = [
                        opening
                        for number, opening in found
                        if number is not None and not rows.has(number, opening.key)
                    ]
                    if not gone:
                        accounts = [
                            None if number is None else _opened(rows, number, opening)
                            for number, opening in found
                        ]
                        yield accounts
                        rows.keep(accounts)
                if not gone:
                    return
                self._refuse_removed(gone)
        except PostgresError as error:
            if error.sqlstate == "42P01":  # no such table
                self._prepared = False
            raise BudgetStoreError(
                f"the store of the budget {self._name!r} cannot be used: {explained(error)}"
            ) from error

    def _numbered(self, openings: Sequence[Opening]) -> list[tuple[int | None, Opening]]:
        """Return the number of each account; new ones are made where they are to be."""
        wanted = list(openings)
        if not self._prepared or any(_place(each) not in self._known for each in wanted):
            with self._pool.session() as session:
                if not self._prepared:
                    prepare(session, str(self))
                    self._prepared = True
                self._find_or_make(session, wanted)
        return [(self._known.get(_place(opening)), opening) for opening in wanted]

    def _find_or_make(self, session: Session, wanted: list[Opening]) -> None:
        self._find(session, wanted)
        missing = [
            place
            for place, opening in enumerate(wanted)
            if opening.level is not None and _place(opening) not in self._known
        ]
        if missing:
            for place in missing:
                if _is_forgotten(session, wanted[place]):  # the clock was set back
                    until = _forgotten_until(session, wanted[place])
                    wanted[place] = wanted[place].at(until)
            _make(session, [wanted[place] for place in missing])
            self._find(session, wanted)

    def _find(self, session: Session, openings: Iterable[Opening]) -> None:
        """Look for accounts, and remember their numbers; of many, the latest."""
        unknown = [place for each in openings if (place := _place(each)) not in self._known]
        if unknown:
            found = session.run_all(*((_FIND, _stored(place)) for place in unknown))
            for place, rows in zip(unknown, found, strict=True):
                if rows:
                    self._known[place] = rows[0][0]
            while len(self._known) > _KNOWN:
                self._known.pop(next(iter(self._known)))

    def _refuse_removed(self, openings: Iterable[Opening]) -> None:
        """Forget the numbers of accounts that are gone; raise if nobody should have removed them.

        Windows that ended long ago are deleted, and remembered as such.
        """
        for opening in openings:
            self._known.pop(_place(opening), None)
            if opening.level is None:
                continue
            with self._pool.session() as session:
                is_forgotten = _is_forgotten(session, opening)
            if not is_forgotten:
                key = opening.key
                raise BudgetStoreError(
                    f"{self} no longer has {key} ({key.owner!r}): somebody has removed it. "
                    f"Open a new TokenBudget to begin again."
                )

    def close(self) -> None:
        """Do nothing: connections belong to the process, which keeps those that are in use."""


def _opened(rows: AccountRows, number: int, opening: Opening) -> PostgresTransaction:
    account = PostgresTransaction(rows, number, opening.key)
    if opening.level is not None:
        opening.level.renew(account.totals)
    return account


_queues: dict[PostgresPool, GroupQueue[Wanted, AccountRows]] = {}
_queues_lock = threading.RLock()


def _queue_of(pool: PostgresPool) -> GroupQueue[Wanted, AccountRows]:
    """Return where all changes of this process wait for accounts in a database."""
    with _queues_lock:
        if pool not in _queues:
            _queues[pool] = GroupQueue(
                partial(lock_rows, pool), postgres.POOL_SIZE, postgres.LOCK_SECONDS
            )
        return _queues[pool]


# Accounts that are made and forgotten


def _place(opening: Opening) -> tuple[Any, ...]:
    """Return what tells an account from all others."""
    return opening.key[: len(PLACE)]


def _stored(place: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(to_text(part) if isinstance(part, str) else part for part in place)


def _make(session: Session, openings: Iterable[Opening]) -> None:
    """Make accounts, unless others were faster, and delete those of windows long over."""
    made = sorted(
        openings, key=lambda each: _stored(_place(each))
    )  # who makes the same ones waits in the same order
    adding = []
    for opening in made:
        assert opening.level is not None
        _, ends, timezone = opening.key[len(PLACE) - 1 : len(KEY)]
        values = (ends, timezone, *values_of_totals(opening.level.totals))
        adding.append((_ADD, (*_stored(_place(opening)), *values)))
    session.begin(*adding)
    session.commit()
    ended = {
        key.window: key.starts - KEPT_SECONDS[key.window]
        for key in (opening.key for opening in made)
        if key.ends is not None
    }
    if ended:
        session.begin(*((_FORGET, place) for place in sorted(ended.items())))
        session.commit(durable=False)


def _forgotten_until(session: Session, opening: Opening) -> int:
    """Return until when accounts of its name and window may have been deleted."""
    key = opening.key
    rows = session.run(_READ_FORGOTTEN, to_text(key.budget), key.window)
    until: int = rows[0][0] if rows else 0
    return until


def _is_forgotten(session: Session, opening: Opening) -> bool:
    ends = opening.key.ends
    return ends is not None and ends <= _forgotten_until(session, opening)


# For those who only want to look


def open_accounts(url: str) -> Iterator[AccountTransaction]:
    """Yield every account in a database, as all are at one moment; nothing is changed.

    Raises:
        BudgetStoreError: There are none, or the server cannot be used.
    """
    pool = pool_of(url)
    try:
        with pool.session() as session:
            if not version_of(session, pool.label):
                raise BudgetStoreError(
                    f"there are no budgets at {pool.label}. Make one with "
                    f"plan.run(store='postgresql://...')."
                )
            for number, *values, agents in session.run(_READ_ALL):
                named: list[Any] = [from_text(x) if isinstance(x, str) else x for x in values]
                rows = AccountRows(
                    session, [(number, *named[: len(PLACE)], True, *named[len(KEY) :])], 0.0
                )
                rows.bring(agents, every=[number])
                yield PostgresTransaction(rows, number, AccountKey(*named[: len(KEY)]))
    except PostgresError as error:
        raise BudgetStoreError(
            f"the store of budgets cannot be read: {explained(error)}"
        ) from error
