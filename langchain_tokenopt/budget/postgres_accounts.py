"""Accounts in a PostgreSQL database, for any number of machines.

A change is two round trips: the first locks the accounts and brings along what will be asked for,
the second writes what has become of them and commits. Between them decides the same arithmetic as
for accounts in memory and in files; the server knows nothing of it, so there is one answer, and
workers of several releases need not agree about functions in the database.

Accounts are locked in the order of their numbers, by one statement, before anything else is
touched; new ones are made, and old ones deleted, in transactions that wait for no account. So no
two changes can wait for each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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
from langchain_tokenopt.budget.levels import NOTHING, Expects, Opening
from langchain_tokenopt.budget.records import (
    AccountKey,
    AccountTotals,
    AccountTransaction,
    AgentAccount,
    BudgetStoreError,
    Lease,
)
from langchain_tokenopt.budget.windows import KEPT_SECONDS
from langchain_tokenopt.storage.postgres import PostgresError, Session, from_text, pool_of, to_text

__all__ = ["PostgresAccountStore", "open_accounts"]

_KNOWN: Final = 10_000
"""Accounts of which a budget remembers that they were there."""
_MIGRATING: Final = 0x746F6B62
"""The advisory lock of those who change the tables; any constant."""
_CLOCK_TOTALS: Final = 3
"""The last totals only say what time it is: to lose them loses nothing."""

_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE budget_schema (version integer PRIMARY KEY)",
        """CREATE TABLE budget_accounts (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text NOT NULL, per text NOT NULL, owner text NOT NULL, part text NOT NULL,
            "window" text NOT NULL, starts bigint NOT NULL, ends bigint, timezone text NOT NULL,
            begun boolean NOT NULL DEFAULT false,
            total_tokens bigint NOT NULL, total_nano_usd bigint,
            spent bigint NOT NULL, held bigint NOT NULL, claimed bigint NOT NULL,
            surplus bigint NOT NULL, possible bigint NOT NULL, saved bigint NOT NULL,
            spent_nano bigint NOT NULL, held_nano bigint NOT NULL, unpriced bigint NOT NULL,
            alerted double precision NOT NULL, stopped boolean NOT NULL,
            ticks double precision NOT NULL, clock_at double precision, earliest double precision,
            UNIQUE (name, per, owner, part, "window", starts)
        ) WITH (fillfactor = 50)""",
        'CREATE INDEX budget_accounts_end ON budget_accounts ("window", ends) '
        "WHERE ends IS NOT NULL",
        """CREATE TABLE budget_agents (
            account bigint NOT NULL, agent text NOT NULL, weight double precision,
            floor bigint NOT NULL, cap bigint, allocated bigint NOT NULL, returned bigint NOT NULL,
            finished boolean NOT NULL, spent bigint NOT NULL, held bigint NOT NULL,
            surplus bigint NOT NULL, possible bigint NOT NULL, saved bigint NOT NULL,
            spent_nano bigint NOT NULL, held_nano bigint NOT NULL, calls bigint NOT NULL,
            denied bigint NOT NULL, estimated bigint NOT NULL, PRIMARY KEY (account, agent)
        ) WITH (fillfactor = 50)""",
        """CREATE TABLE budget_leases (
            account bigint NOT NULL, id text NOT NULL, agent text NOT NULL, tokens bigint NOT NULL,
            nano_usd bigint NOT NULL, expires double precision NOT NULL, run_id text,
            charged bigint, charged_nano bigint NOT NULL, PRIMARY KEY (account, id)
        )""",
        "CREATE INDEX budget_leases_run ON budget_leases (account, run_id) WHERE charged IS NULL",
        """CREATE TABLE budget_forgotten (
            name text NOT NULL, "window" text NOT NULL, until bigint NOT NULL,
            PRIMARY KEY (name, "window")
        )""",
    ),
)
"""What brings the tables from one version to the next. Steps are only ever added."""
SCHEMA_VERSION: Final = len(_MIGRATIONS)

_IS_THERE: Final = (  # to_regclass may still say what was true before a lock was waited for
    "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'budget_schema' "
    "AND pg_table_is_visible(oid))"
)
_VERSION: Final = "SELECT max(version) FROM budget_schema"
_FIND: Final = (
    f"SELECT id FROM budget_accounts "
    f"WHERE {' AND '.join(f'{columns([name])} = %s' for name in PLACE)}"
)
_ADD: Final = (
    f"INSERT INTO budget_accounts ({columns([*KEY, *TOTALS])}) "
    f"VALUES ({', '.join(['%s'] * len(KEY + TOTALS))}) ON CONFLICT DO NOTHING"
)
_LOCK: Final = (
    f"SELECT id, begun, {columns(TOTALS)} FROM budget_accounts "
    f"WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE"
)
_ROWS_OF_AGENTS: Final = f"SELECT account, {columns(AGENT)} FROM budget_agents WHERE account"
_ROWS_OF_LEASES: Final = f"SELECT account, {columns(LEASE)} FROM budget_leases WHERE account"


def _listed(rows: str, names: list[str]) -> str:
    return f"(SELECT json_agg(json_build_array(account, {columns(names)})) FROM ({rows}) AS rows)"


_BRING: Final = (
    f"SELECT ({_VERSION}), extract(epoch FROM clock_timestamp())::double precision, "
    + _listed(
        f"{_ROWS_OF_AGENTS} = %s::bigint UNION ALL "
        f"{_ROWS_OF_AGENTS} = ANY(%s::bigint[]) AND agent = %s::text",
        AGENT,
    )
    + ", "
    + _listed(
        f"{_ROWS_OF_LEASES} = ANY(%s::bigint[]) AND id = %s::text UNION ALL "
        f"{_ROWS_OF_LEASES} = %s::bigint AND run_id = %s::text AND charged IS NULL",
        LEASE,
    )
)
_READ_AGENT: Final = f"{_ROWS_OF_AGENTS} = %s AND agent = %s"
_READ_AGENTS: Final = f"{_ROWS_OF_AGENTS} = %s"
_READ_LEASE: Final = f"{_ROWS_OF_LEASES} = %s AND id = %s"
_READ_LEASE_OF_RUN: Final = f"{_ROWS_OF_LEASES} = %s AND run_id = %s AND charged IS NULL"
_READ_LEASES: Final = f"{_ROWS_OF_LEASES} = %s"
_READ_ALL: Final = (
    f"SELECT id, {columns([*KEY, *TOTALS])}, "
    f"(SELECT json_agg(json_build_array(account, {columns(AGENT)})) FROM budget_agents "
    f"WHERE account = budget_accounts.id) FROM budget_accounts ORDER BY {columns(PLACE)}"
)


def _upsert(table: str, names: list[str], unique: str) -> str:
    every = columns(["account", *names])
    values = ", ".join(f"excluded.{columns([name])}" for name in names)
    return (
        f"INSERT INTO {table} ({every}) SELECT {every} "
        f"FROM json_populate_recordset(NULL::{table}, %s::json) "
        f"ON CONFLICT (account, {unique}) DO UPDATE SET ({columns(names)}) = ({values})"
    )


_WRITE: Final = (
    f"WITH agents AS ({_upsert('budget_agents', AGENT, 'agent')}), "
    f"leases AS ({_upsert('budget_leases', LEASE, 'id')}), "
    "gone AS (DELETE FROM budget_leases USING "
    "json_populate_recordset(NULL::budget_leases, %s::json) AS old "
    "WHERE budget_leases.account = old.account AND budget_leases.id = old.id) "
    f"UPDATE budget_accounts SET (begun, {columns(TOTALS)}) = "
    f"(true, {columns(TOTALS, of='new.')}) "
    "FROM json_populate_recordset(NULL::budget_accounts, %s::json) AS new "
    "WHERE budget_accounts.id = new.id"
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

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        self._pool = pool_of(url)
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
                    self._note_time(session.run("SELECT extract(epoch FROM now())::float8")[0][0])
            except PostgresError:  # whoever needs the server will hear of it
                return time.time()
            assert self._time is not None
        shown, at = self._time
        return shown + time.monotonic() - at

    def _note_time(self, shown: float) -> None:
        self._time = shown, time.monotonic()

    @contextmanager
    def transaction(
        self, openings: Sequence[Opening]
    ) -> Iterator[Sequence[AccountTransaction | None]]:
        """Lock accounts; all that is changed is written at the end, or nothing.

        Raises:
            BudgetStoreError: The server cannot be used, or somebody has removed an account.
        """
        try:
            with self._pool.session() as session:
                accounts = self._opened(session, openings)
                yield accounts
                _write(session, [account for account in accounts if account is not None])
        except PostgresError as error:
            if error.sqlstate == "42P01":  # no such table
                self._prepared = False
            raise BudgetStoreError(
                f"the store of the budget {self._name!r} cannot be used: {error}."
            ) from error

    def _opened(self, session: Session, openings: Sequence[Opening]) -> list[_Transaction | None]:
        """Begin a transaction with the accounts locked."""
        if not self._prepared:
            prepare(session, str(self))
            self._prepared = True
        found = self._numbered(session, openings)
        own = found[0][0] if found else None
        numbers = [number for number, _ in found if number is not None]
        expects = (openings[0].expects if openings else None) or NOTHING
        agent, lease, run_id = map(_text_or_none, expects)
        rows, [[version, shown, agents, leases]] = session.begin(
            (_LOCK, (numbers,)),
            (_BRING, (own, numbers, agent, numbers, lease, own, run_id)),
        )
        _refuse_newer(version, str(self))
        self._note_time(shown)
        locked = {number: values for number, *values in rows}
        gone = [opening for number, opening in found if number and number not in locked]
        if gone:
            session.roll_back()
            self._refuse_removed(session, gone)
            return self._opened(session, openings)
        accounts: list[_Transaction | None] = []
        for number, opening in found:
            account = None
            if number is not None:
                begun, *values = locked[number]
                account = _Transaction(session, number, opening.key, values, is_new=not begun)
                if opening.level is not None:
                    opening.level.renew(account.totals)
                account.bring(agents or (), leases or (), expects, every_agent=number == own)
            accounts.append(account)
        return accounts

    def _numbered(
        self, session: Session, openings: Sequence[Opening]
    ) -> list[tuple[int | None, Opening]]:
        """Return the number of each account; new ones are made where they are to be."""
        wanted = list(openings)
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
        return [(self._known.get(_place(opening)), opening) for opening in wanted]

    def _find(self, session: Session, openings: Iterable[Opening]) -> None:
        """Look for accounts, and remember their numbers; of many, the latest."""
        unknown = [place for each in openings if (place := _place(each)) not in self._known]
        if unknown:
            found = session.run_all(*((_FIND, place) for place in unknown))
            for place, rows in zip(unknown, found, strict=True):
                if rows:
                    self._known[place] = rows[0][0]
            while len(self._known) > _KNOWN:
                self._known.pop(next(iter(self._known)))

    def _refuse_removed(self, session: Session, openings: Iterable[Opening]) -> None:
        """Forget the numbers of accounts that are gone; raise if nobody should have removed them.

        Windows that ended long ago are deleted, and remembered as such.
        """
        for opening in openings:
            self._known.pop(_place(opening), None)
            if opening.level is not None and not _is_forgotten(session, opening):
                key = opening.key
                raise BudgetStoreError(
                    f"{self} no longer has {key} ({key.owner!r}): somebody has removed it. "
                    f"Open a new TokenBudget to begin again."
                )

    def close(self) -> None:
        """Do nothing: connections belong to the process, which keeps those that are in use."""


class _Transaction:
    """An account that is locked; what becomes of it is written by :func:`_write`."""

    def __init__(
        self,
        session: Session,
        number: int,
        key: AccountKey,
        values: Sequence[Any],
        *,
        is_new: bool,
    ) -> None:
        self.key = key
        self.is_new = is_new
        self.totals = AccountTotals(*values)
        self._session = session
        self._number = number
        self._totals_read = tuple(values)
        self._agents: dict[str, AgentAccount] = {}
        self._agents_read: dict[str, tuple[Any, ...]] = {}
        self._has_every_agent = False
        self._leases: dict[str, Lease | None] = {}
        """Those that were looked for; ``None``: there is none, or none any more."""
        self._changed: set[str] = set()
        self._looked_for_run: str | None = None

    def bring(
        self,
        agents: Iterable[Sequence[Any]],
        leases: Iterable[Sequence[Any]],
        expects: Expects,
        *,
        every_agent: bool,
    ) -> None:
        """Take what came along with the account, of all that came."""
        self._take_agents(agents)
        self._has_every_agent = every_agent
        if expects.lease is not None:
            self._leases[expects.lease] = None
        self._take_leases(leases)
        if every_agent:  # it is the run's own
            self._looked_for_run = expects.run_id

    def _take_agents(self, rows: Iterable[Sequence[Any]]) -> None:
        for number, name, *values in rows:
            account = AgentAccount(from_text(name), *values)
            if number == self._number and account.agent not in self._agents:
                self._agents[account.agent] = account
                self._agents_read[account.agent] = values_of_agent(account)

    def _take_leases(self, rows: Iterable[Sequence[Any]]) -> None:
        for number, *values in rows:
            if number == self._number:
                lease = Lease(*values)
                lease.id, lease.agent = from_text(lease.id), from_text(lease.agent)
                lease.run_id = None if lease.run_id is None else from_text(lease.run_id)
                if lease.id not in self._changed:
                    self._leases[lease.id] = lease

    def agent(self, name: str) -> AgentAccount:
        """Return the account of an agent."""
        if name not in self._agents and not self._has_every_agent:
            self._take_agents(self._session.run(_READ_AGENT, self._number, to_text(name)))
        account = self._agents.get(name)
        if account is None:
            account = self._agents[name] = AgentAccount(name)
        return account

    def agents(self) -> list[AgentAccount]:
        """Return every agent's account, by name."""
        if not self._has_every_agent:
            self._take_agents(self._session.run(_READ_AGENTS, self._number))
            self._has_every_agent = True
        return [self._agents[name] for name in sorted(self._agents)]

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease that has not been deleted."""
        if lease_id not in self._leases:
            self._leases[lease_id] = None
            self._take_leases(self._session.run(_READ_LEASE, self._number, to_text(lease_id)))
        return self._leases[lease_id]

    def lease_of_run(self, run_id: str) -> Lease | None:
        """Return the lease that is held for a run."""
        if run_id != self._looked_for_run:
            rows = self._session.run(_READ_LEASE_OF_RUN, self._number, to_text(run_id))
            self._take_leases(rows)
        held = (lease for lease in self._leases.values() if lease and lease.run_id == run_id)
        return next((lease for lease in held if lease.charged is None), None)

    def leases(self) -> list[Lease]:
        """Return every lease that has not been deleted."""
        self._take_leases(self._session.run(_READ_LEASES, self._number))
        return [lease for lease in self._leases.values() if lease is not None]

    def save(self, lease: Lease) -> None:
        """Write a lease."""
        self._leases[lease.id] = lease
        self._changed.add(lease.id)

    def delete(self, lease: Lease) -> None:
        """Forget a lease."""
        self._leases[lease.id] = None
        self._changed.add(lease.id)

    # What has changed

    def changed_totals(self) -> Iterator[dict[str, Any]]:
        """Yield the account's row, if it is another one than it was."""
        values = values_of_totals(self.totals)
        if self.is_new or values != self._totals_read:
            yield {"id": self._number, **dict(zip(TOTALS, values, strict=True))}

    def has_moved(self) -> bool:
        """Say whether more has changed than what time it is."""
        before = self._totals_read[:-_CLOCK_TOTALS]
        return values_of_totals(self.totals)[:-_CLOCK_TOTALS] != before

    def changed_agents(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of agents that are others than they were."""
        for name, account in self._agents.items():
            values = values_of_agent(account)
            if values != self._agents_read.get(name):
                row = dict(zip(AGENT, values, strict=True))
                yield row | {"account": self._number, "agent": to_text(name)}

    def changed_leases(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of leases that are new or were changed."""
        for lease_id in self._changed:
            lease = self._leases[lease_id]
            if lease is not None:
                row = dict(zip(LEASE, values_of_lease(lease), strict=True))
                row |= {"id": to_text(lease.id), "agent": to_text(lease.agent)}
                yield row | {"account": self._number, "run_id": _text_or_none(lease.run_id)}

    def deleted_leases(self) -> Iterator[dict[str, Any]]:
        """Yield the places of leases that are to go."""
        for lease_id in self._changed:
            if self._leases[lease_id] is None:
                yield {"account": self._number, "id": to_text(lease_id)}


def _write(session: Session, accounts: Sequence[_Transaction]) -> None:
    """Write what was changed, and commit."""
    totals = [row for account in accounts for row in account.changed_totals()]
    agents = [row for account in accounts for row in account.changed_agents()]
    leases = [row for account in accounts for row in account.changed_leases()]
    gone = [row for account in accounts for row in account.deleted_leases()]
    changes = [json.dumps(rows) for rows in (agents, leases, gone, totals)]
    moved = bool(agents or leases or gone) or any(account.has_moved() for account in accounts)
    session.commit(*([(_WRITE, tuple(changes))] if moved or totals else []), durable=moved)


# Accounts that are made and forgotten


def _place(opening: Opening) -> tuple[Any, ...]:
    """Return what tells an account from all others, as it is stored."""
    return tuple(
        to_text(part) if isinstance(part, str) else part for part in opening.key[: len(PLACE)]
    )


def _make(session: Session, openings: Iterable[Opening]) -> None:
    """Make accounts, unless others were faster, and delete those of windows long over."""
    made = sorted(openings, key=_place)  # who makes the same ones waits in the same order
    adding = []
    for opening in made:
        assert opening.level is not None
        _, ends, timezone = opening.key[len(PLACE) - 1 : len(KEY)]
        values = (ends, timezone, *values_of_totals(opening.level.totals))
        adding.append((_ADD, (*_place(opening), *values)))
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


# Tables


def prepare(session: Session, place: str) -> None:
    """Make the tables, or bring them up to date, as the only one who does.

    Raises:
        BudgetStoreError: They are those of a newer release.
    """
    if _version(session) == SCHEMA_VERSION:
        return
    session.begin(("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,)))
    found = _version(session)
    _refuse_newer(found, place)
    steps = [step for steps in _MIGRATIONS[found:] for step in steps]
    noted = ("INSERT INTO budget_schema VALUES (%s)", (SCHEMA_VERSION,))
    session.commit(*((step, ()) for step in steps), *([noted] if steps else []))


def _version(session: Session) -> int:
    """Return the version of the tables; 0 where there are none."""
    if not session.run(_IS_THERE)[0][0]:
        return 0
    found: int = session.run(_VERSION)[0][0]
    return found


def _refuse_newer(version: int, place: str) -> None:
    if version > SCHEMA_VERSION:
        raise BudgetStoreError(
            f"{place} has version {version} of the budgets' tables, written by a newer "
            f"langchain-tokenopt; this one knows versions up to {SCHEMA_VERSION}. "
            f"Upgrade it: pip install -U langchain-tokenopt."
        )


def _text_or_none(name: str | None) -> str | None:
    return None if name is None else to_text(name)


# For those who only want to look


def open_accounts(url: str) -> Iterator[AccountTransaction]:
    """Yield every account in a database, as all are at one moment; nothing is changed.

    Raises:
        BudgetStoreError: There are none, or the server cannot be used.
    """
    pool = pool_of(url)
    try:
        with pool.session() as session:
            found = _version(session)
            if not found:
                raise BudgetStoreError(
                    f"there are no budgets at {pool.label}. Make one with "
                    f"plan.run(store='postgresql://...')."
                )
            _refuse_newer(found, pool.label)
            rows = session.run(_READ_ALL)
            for number, *values, agents in rows:
                key, totals = values[: len(KEY)], values[len(KEY) :]
                named: list[Any] = [from_text(x) if isinstance(x, str) else x for x in key]
                account = _Transaction(session, number, AccountKey(*named), totals, is_new=False)
                account.bring(agents or (), (), NOTHING, every_agent=True)
                yield account
    except PostgresError as error:
        raise BudgetStoreError(f"the store of budgets cannot be read: {error}.") from error
