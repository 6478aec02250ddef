"""Accounts in an SQLite file that several processes share, and that outlives them.

What has been committed survives a killed process. After a power cut the last moments before it may
be missing, the rest is whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from langchain_tokenopt.budget.account_columns import (
    AGENT,
    KEY,
    LEASE,
    PLACE,
    TOTALS,
    columns,
    values_of_agent,
    values_of_lease,
    values_of_totals,
)
from langchain_tokenopt.budget.levels import Opening
from langchain_tokenopt.budget.records import (
    AccountKey,
    AccountTotals,
    AccountTransaction,
    AgentAccount,
    BudgetStoreError,
    Lease,
)
from langchain_tokenopt.budget.windows import KEPT_SECONDS
from langchain_tokenopt.storage.sqlite import (
    FileReplacedError,
    Settings,
    SqliteFile,
    connect_to_read,
)

__all__ = ["SqliteAccountStore", "open_accounts"]

SCHEMA_VERSION: Final = 4
_APPLICATION_ID: Final = 0x746F6B62  # "tokb"
_BUSY_SECONDS: Final = 10.0
"""How long to wait for a locked file before it counts as unreachable."""
_UNREACHABLE_SECONDS: Final = 0.2
"""How long to wait while it does: a call asks more than once, and must not wait each time."""
_KNOWN: Final = 10_000
"""Accounts of which a budget remembers that they were there."""
_SETTINGS: Final = Settings(page_bytes=1024, checkpoint_pages=8_000)
"""Rows are short, and a change rewrites whole pages: small ones are a quarter of the writing. 8 MB
of changes come together before they are moved into the file; SQLite's default would be one change
in a hundred that waits for the disk."""


def _assignments(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}" = ?' for name in names)


def _insert(table: str, names: list[str], *, verb: str = "INSERT") -> str:
    return f"{verb} INTO {table} ({columns(names)}) VALUES (?{', ?' * (len(names) - 1)})"


_TABLES: Final = (
    f"CREATE TABLE account (id INTEGER PRIMARY KEY, {columns(KEY)}, {columns(TOTALS)}, "
    f"UNIQUE ({columns(PLACE)}))",
    "CREATE INDEX account_end ON account (window, ends) WHERE ends IS NOT NULL",
    f"CREATE TABLE agent (account INTEGER NOT NULL, {columns(AGENT)}, "
    f"PRIMARY KEY (account, agent)) WITHOUT ROWID",
    f"CREATE TABLE lease (account INTEGER NOT NULL, {columns(LEASE)}, "
    f"PRIMARY KEY (account, id)) WITHOUT ROWID",
    "CREATE TABLE forgotten (name, window, until INTEGER NOT NULL, PRIMARY KEY (name, window)) "
    "WITHOUT ROWID",
    "CREATE INDEX lease_run ON lease (account, run_id) WHERE run_id IS NOT NULL",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_READ = (
    f"SELECT id, {columns(TOTALS)} FROM account "
    f"WHERE {' AND '.join(f'{name} = ?' for name in PLACE)}"
)
_READ_ALL = f"SELECT id, {columns([*KEY, *TOTALS])} FROM account ORDER BY {columns(PLACE)}"
_ADD = _insert("account", [*KEY, *TOTALS])
_WRITE = f"UPDATE account SET {_assignments(TOTALS)} WHERE id = ?"
_READ_AGENT = f"SELECT {columns(AGENT)} FROM agent WHERE account = ? AND agent = ?"
_READ_AGENTS = f"SELECT {columns(AGENT)} FROM agent WHERE account = ? ORDER BY agent"
_ADD_AGENT = _insert("agent", ["account", *AGENT])
_WRITE_AGENT = f"UPDATE agent SET {_assignments(AGENT)} WHERE account = ? AND agent = ?"
_READ_LEASES = f"SELECT {columns(LEASE)} FROM lease WHERE account = ?"
_READ_LEASE = f"{_READ_LEASES} AND id = ?"
_READ_LEASE_OF_RUN = f"{_READ_LEASES} AND run_id = ? AND charged IS NULL"
_SAVE_LEASE = _insert("lease", ["account", *LEASE], verb="INSERT OR REPLACE")
_DELETE_LEASE = "DELETE FROM lease WHERE account = ? AND id = ?"
_READ_FORGOTTEN = "SELECT until FROM forgotten WHERE name = ? AND window = ?"
_FORGET_UNTIL = (
    "INSERT INTO forgotten VALUES (?, ?, ?) "
    "ON CONFLICT DO UPDATE SET until = max(until, excluded.until)"
)
_READ_ENDED = "SELECT id, name, ends FROM account WHERE window = ? AND ends <= ?"
_FORGET = (
    "DELETE FROM lease WHERE account = ?",
    "DELETE FROM agent WHERE account = ?",
    "DELETE FROM account WHERE id = ?",
)


class SqliteAccountStore:
    """Accounts in a file.

    Args:
        path: The file. It is opened by the first transaction.
        name: Name of the budget, for messages.
    """

    shared = True
    concurrent = False

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._file = SqliteFile(path, self._prepare, _SETTINGS)
        self._known: dict[tuple[Any, ...], None] = {}
        """Accounts that have been there: they are not made anew."""
        self._unreachable = False
        """Whether the file could not be used the last time."""

    def __str__(self) -> str:
        return str(self._file.path)

    @property
    def place(self) -> str:
        """The file, by whatever name it is opened."""
        return os.path.realpath(str(self._file.path))

    def _prepare(self, connection: sqlite3.Connection) -> None:
        prepare(connection, self._file.path)

    @contextmanager
    def transaction(
        self, openings: Sequence[Opening]
    ) -> Iterator[Sequence[AccountTransaction | None]]:
        """Open accounts; all that is changed is written at the end, or nothing.

        Raises:
            BudgetStoreError: The file cannot be used, or somebody has removed an account.
        """
        wait_seconds = _UNREACHABLE_SECONDS if self._unreachable else _BUSY_SECONDS
        try:
            with self._file.transaction(wait_seconds) as connection:
                accounts = [self._opened(connection, opening) for opening in openings]
                yield accounts
                for account in accounts:
                    if account is not None:
                        account.write()
        except FileReplacedError as error:
            raise BudgetStoreError(f"{error} Put it back, or open a new TokenBudget.") from error
        except (sqlite3.Error, OSError) as error:
            self._unreachable = True
            raise BudgetStoreError(
                f"the store {self} of the budget {self._name!r} cannot be used: {error}. "
                f"Check that the folder exists and can be written, or use another file."
            ) from error
        self._unreachable = False
        for account in accounts:
            if account is not None:
                self._remember(account)

    def _opened(self, connection: sqlite3.Connection, opening: Opening) -> _Transaction | None:
        """Return an account; a new one where there has never been one and one is to be made."""
        key, level = opening.key, opening.level
        row: tuple[Any, ...] | None = connection.execute(_READ, key[: len(PLACE)]).fetchone()
        if row is not None:
            account, *values = row
            opened = _Transaction(connection, account, key, values)
            if level is not None:
                level.renew(opened.totals)
            return opened
        if level is None:
            return None
        if key.ends is not None:
            kept = connection.execute(_READ_FORGOTTEN, (key.budget, key.window)).fetchone()
            if kept is not None and key.ends <= kept[0]:  # the clock was set back
                return self._opened(connection, opening.at(kept[0]))
        if key[: len(PLACE)] in self._known:
            raise BudgetStoreError(
                f"{self} no longer has {key} ({key.owner!r}): somebody has removed it. "
                f"Open a new TokenBudget to begin again."
            )
        values = [*values_of_totals(level.totals)]
        added = connection.execute(_ADD, (*key[: len(KEY)], *values))
        assert added.lastrowid is not None
        if key.ends is not None:
            _forget(connection, key.window, key.starts - KEPT_SECONDS[key.window])
        return _Transaction(connection, added.lastrowid, key, values, is_new=True)

    def _remember(self, account: _Transaction) -> None:
        """Remember that an account exists; of many, the latest."""
        self._known[account.key[: len(PLACE)]] = None
        if len(self._known) > _KNOWN:
            self._known.pop(next(iter(self._known)), None)

    def close(self) -> None:
        """Let go of the file; the next transaction opens it again."""
        self._file.close()


class _Transaction:
    """An account that is open; what was asked for is written by :meth:`write`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        account: int,
        key: AccountKey,
        values: Sequence[Any],
        *,
        is_new: bool = False,
    ) -> None:
        self.key = key
        self.is_new = is_new
        self.totals = AccountTotals(*values)
        self._connection = connection
        self._account = account
        self._totals_read = tuple(values)
        self._agents: dict[str, AgentAccount] = {}
        self._agents_read: dict[str, tuple[Any, ...] | None] = {}

    def agent(self, name: str) -> AgentAccount:
        """Return the account of an agent."""
        account = self._agents.get(name)
        if account is None:
            row = self._connection.execute(_READ_AGENT, (self._account, name)).fetchone()
            account = self._agents[name] = AgentAccount(name) if row is None else AgentAccount(*row)
            self._agents_read[name] = row
        return account

    def agents(self) -> list[AgentAccount]:
        """Return every agent's account, by name."""
        for row in self._connection.execute(_READ_AGENTS, (self._account,)).fetchall():
            account = AgentAccount(*row)
            if account.agent not in self._agents:
                self._agents[account.agent] = account
                self._agents_read[account.agent] = row
        return [self._agents[name] for name in sorted(self._agents)]

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease that has not been deleted."""
        return self._lease(_READ_LEASE, lease_id)

    def lease_of_run(self, run_id: str) -> Lease | None:
        """Return the lease that is held for a run."""
        return self._lease(_READ_LEASE_OF_RUN, run_id)

    def _lease(self, query: str, key: str) -> Lease | None:
        row = self._connection.execute(query, (self._account, key)).fetchone()
        return None if row is None else Lease(*row)

    def leases(self) -> list[Lease]:
        """Return every lease that has not been deleted."""
        rows = self._connection.execute(_READ_LEASES, (self._account,)).fetchall()
        return [Lease(*row) for row in rows]

    def save(self, lease: Lease) -> None:
        """Write a lease."""
        self._connection.execute(_SAVE_LEASE, (self._account, *values_of_lease(lease)))

    def delete(self, lease: Lease) -> None:
        """Forget a lease."""
        self._connection.execute(_DELETE_LEASE, (self._account, lease.id))

    def write(self) -> None:
        """Write the totals and the agents that were changed."""
        values = values_of_totals(self.totals)
        if values != self._totals_read:
            self._connection.execute(_WRITE, (*values, self._account))
        for name, account in self._agents.items():
            values, before = values_of_agent(account), self._agents_read[name]
            if before is None:
                self._connection.execute(_ADD_AGENT, (self._account, *values))
            elif values != before:
                self._connection.execute(_WRITE_AGENT, (*values, self._account, name))


def _forget(connection: sqlite3.Connection, window: str, until: int) -> None:
    """Delete the accounts of windows that ended long ago, and remember that it was done."""
    for account, name, ends in connection.execute(_READ_ENDED, (window, until)).fetchall():
        for statement in _FORGET:
            connection.execute(statement, (account,))
        connection.execute(_FORGET_UNTIL, (name, window, ends))


def prepare(connection: sqlite3.Connection, path: object) -> None:
    """Make the tables of an empty file.

    Raises:
        BudgetStoreError: The file is something else, or of another version.
    """
    if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
        for statement in _TABLES:
            connection.execute(statement)
    else:
        _refuse_other_files(connection, path)


def _refuse_other_files(connection: sqlite3.Connection, path: object) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise BudgetStoreError(
            f"{path} is a database of something else. Give the budget a file of its own."
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise BudgetStoreError(
            f"{path} has version {version} of the store, this package reads version "
            f"{SCHEMA_VERSION}. Install the package that wrote it, or use a new file."
        )


def open_accounts(file: Path) -> Iterator[AccountTransaction]:
    """Yield every account in a file, to look at; nothing is changed.

    Raises:
        BudgetStoreError: There is no such file, or it cannot be read.
    """
    if not file.is_file():
        raise BudgetStoreError(
            f"there are no budgets at {file}. Make one with TokenBudget(..., path={str(file)!r})."
        )
    try:
        with closing(connect_to_read(file, wait_seconds=_BUSY_SECONDS)) as connection:
            _refuse_other_files(connection, file)
            for row in connection.execute(_READ_ALL).fetchall():
                account, *values = row
                key, totals = values[: len(KEY)], values[len(KEY) :]
                yield _Transaction(connection, account, AccountKey(*key), totals)
    except sqlite3.Error as error:
        raise BudgetStoreError(f"{file} cannot be read as a store of budgets: {error}.") from error
