"""The rows of accounts that are locked on a PostgreSQL server, and changes of them.

What a transaction has read stays as rows until it is written. Each change makes records of them
and, when it is whole, gives them back: the next change in the same transaction goes on from there,
and one that failed has left nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from langchain_tokenopt.budget.account_columns import (
    AGENT,
    LEASE,
    PLACE,
    TOTALS,
    columns,
    values_of_agent,
    values_of_lease,
    values_of_totals,
)
from langchain_tokenopt.budget.levels import Expects
from langchain_tokenopt.budget.postgres_tables import VERSION, check_version
from langchain_tokenopt.budget.records import AccountKey, AccountTotals, AgentAccount, Lease
from langchain_tokenopt.storage.postgres import (
    PostgresError,
    PostgresPool,
    Session,
    from_text,
    to_text,
)

__all__ = ["AccountRows", "PostgresTransaction", "Wanted", "lock_rows"]

Row = tuple[Any, ...]

_CLOCK_TOTALS: Final = 3
"""The last totals only say what time it is: to lose them loses nothing."""
_RUN_ID: Final = LEASE.index("run_id")
_CHARGED: Final = LEASE.index("charged")

_LOCK: Final = (
    f"SELECT id, {columns(PLACE)}, begun, {columns(TOTALS)} FROM budget_accounts "
    f"WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE"
)
_AGENTS: Final = f"SELECT account, {columns(AGENT)} FROM budget_agents WHERE account"
_LEASES: Final = f"SELECT account, {columns(LEASE)} FROM budget_leases WHERE account"
_PAIRS: Final = "(SELECT * FROM unnest(%s::bigint[], %s::text[]))"


def _listed(rows: str, names: list[str]) -> str:
    return f"(SELECT json_agg(json_build_array(account, {columns(names)})) FROM ({rows}) AS rows)"


def _with(rows: str, name: str) -> str:
    return rows.replace("WHERE account", f"WHERE (account, {name}) IN {_PAIRS}")


_BRING: Final = (
    f"SELECT ({VERSION}), extract(epoch FROM clock_timestamp())::double precision, "
    + _listed(f"{_AGENTS} = ANY(%s::bigint[]) UNION ALL {_with(_AGENTS, 'agent')}", AGENT)
    + ", "
    + _listed(
        f"{_with(_LEASES, 'id')} UNION ALL {_with(_LEASES, 'run_id')} AND charged IS NULL", LEASE
    )
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
    f"gone AS (DELETE FROM budget_leases WHERE (account, id) IN {_PAIRS}) "
    f"UPDATE budget_accounts SET (begun, {columns(TOTALS)}) = "
    f"(true, {columns(TOTALS, of='new.')}) "
    "FROM json_populate_recordset(NULL::budget_accounts, %s::json) AS new "
    "WHERE budget_accounts.id = new.id"
)


class Wanted(NamedTuple):
    """What a change is going to look at."""

    numbers: list[int]
    """The accounts; first that of the run."""
    expects: Expects


@contextmanager
def lock_rows(pool: PostgresPool, wishes: Sequence[Wanted]) -> Iterator[AccountRows]:
    """Lock the accounts of all changes in one transaction; what is not committed is undone.

    Raises:
        PostgresError: The server cannot be used.
        BudgetStoreError: A newer release, or another program, has changed the tables.
    """
    every: list[int] = []
    agents: list[tuple[int, str]] = []
    leases: list[tuple[int, str]] = []
    runs: list[tuple[int, str]] = []
    for numbers, (agent, lease, run_id) in wishes:
        if lease is None:  # shares are looked at before a call
            every += numbers[:1]
        if agent is not None:
            agents += [(number, agent) for number in numbers]
        if lease is not None:
            leases += [(number, lease) for number in numbers]
        if run_id is not None:
            runs += [(number, run_id) for number in numbers[:1]]
    locked = sorted({number for numbers, _ in wishes for number in numbers})
    with pool.session() as session:
        found, [[version, shown, *brought]] = session.begin(
            (_LOCK, (locked,)), (_BRING, (every, *_apart(agents), *_apart(leases), *_apart(runs)))
        )
        check_version(version, pool.label)
        rows = AccountRows(session, found, shown)
        rows.bring(brought[0], brought[1], every, agents, leases, runs)
        yield rows


class AccountRows:
    """Rows of accounts: those that are locked until :meth:`commit`, or those that are looked at.

    Args:
        session: Reads what is asked for besides.
        found: Of each account its number, place, whether it has been used, and its totals.
        shown: What the server's clock shows.
    """

    def __init__(self, session: Session, found: Iterable[Sequence[Any]], shown: float) -> None:
        self._session = session
        self.time = shown, time.monotonic()
        """What the server's clock showed, and ours."""
        self.totals: dict[int, Row] = {}
        """By number of the account."""
        self.new: set[int] = set()
        self._places: dict[int, list[Any]] = {}
        for number, *values in found:
            self._places[number], values = values[: len(PLACE)], values[len(PLACE) :]
            begun, *totals = values
            self.totals[number] = tuple(totals)
            if not begun:
                self.new.add(number)
        self._totals_read = dict(self.totals)
        self._agents: dict[int, dict[str, Row | None]] = {number: {} for number in self.totals}
        self._leases: dict[int, dict[str, Row | None]] = {number: {} for number in self.totals}
        self._runs: set[tuple[int, str]] = set()
        """Runs whose leases were looked for."""
        self._all_agents: set[int] = set()
        """Accounts of which every agent was read."""
        self._all_leases: set[int] = set()
        self._is_torn = False
        """Whether somebody is in the middle of giving back what was changed."""
        self._changed_totals: set[int] = set()
        self._changed_agents: set[tuple[int, str]] = set()
        self._changed_leases: set[tuple[int, str]] = set()

    def bring(
        self,
        agents_found: Iterable[Sequence[Any]] | None,
        leases_found: Iterable[Sequence[Any]] | None = None,
        every: Iterable[int] = (),
        agents: Iterable[tuple[int, str]] = (),
        leases: Iterable[tuple[int, str]] = (),
        runs: Iterable[tuple[int, str]] = (),
    ) -> None:
        """Take rows that came along, and what they are: what is not among them does not exist."""
        self._take_agents(agents_found or ())
        self._take_leases(leases_found or ())
        self._all_agents.update(every)
        self._runs.update(runs)
        for found, names in ((self._agents, agents), (self._leases, leases)):
            for number, name in names:
                if number in found:
                    found[number].setdefault(name, None)

    def _take_agents(self, rows: Iterable[Sequence[Any]]) -> None:
        for number, name, *values in rows:
            agent = from_text(name)
            self._agents[number].setdefault(agent, (agent, *values))

    def _take_leases(self, rows: Iterable[Sequence[Any]]) -> None:
        for number, *values in rows:
            known = [from_text(value) if isinstance(value, str) else value for value in values]
            self._leases[number].setdefault(known[0], tuple(known))

    # Reading

    def has(self, number: int, key: AccountKey) -> bool:
        """Say whether the account of this number is there, and still that one.

        A server that was set back to an older state gives numbers a second time.
        """
        place = self._places.get(number)
        return place is not None and all(
            kept == wanted or from_text(kept) == wanted
            for kept, wanted in zip(place, key, strict=False)
        )

    def agent(self, number: int, name: str) -> Row | None:
        """Return the row of an agent."""
        found = self._agents[number]
        if name not in found and number not in self._all_agents:
            self._take_agents(self._session.run(_with(_AGENTS, "agent"), [number], [to_text(name)]))
            found.setdefault(name, None)
        return found.get(name)

    def agents(self, number: int) -> list[str]:
        """Return the names of all agents."""
        if number not in self._all_agents:
            self._all_agents.add(number)
            self._take_agents(self._session.run(f"{_AGENTS} = %s", number))
        return [name for name, row in self._agents[number].items() if row is not None]

    def lease(self, number: int, lease_id: str) -> Row | None:
        """Return the row of a lease."""
        found = self._leases[number]
        if lease_id not in found and number not in self._all_leases:
            self._take_leases(
                self._session.run(_with(_LEASES, "id"), [number], [to_text(lease_id)])
            )
            found.setdefault(lease_id, None)
        return found.get(lease_id)

    def leases_of_run(self, number: int, run_id: str) -> list[str]:
        """Return the ids of leases that are held for a run."""
        if (number, run_id) not in self._runs:
            self._runs.add((number, run_id))
            query = f"{_with(_LEASES, 'run_id')} AND charged IS NULL"
            self._take_leases(self._session.run(query, [number], [to_text(run_id)]))
        return [
            lease_id
            for lease_id, row in self._leases[number].items()
            if row is not None and row[_RUN_ID] == run_id and row[_CHARGED] is None
        ]

    def leases(self, number: int) -> list[str]:
        """Return the ids of all leases."""
        if number not in self._all_leases:
            self._all_leases.add(number)
            self._take_leases(self._session.run(f"{_LEASES} = %s", number))
        return [lease_id for lease_id, row in self._leases[number].items() if row is not None]

    # Changing

    def keep(self, accounts: Iterable[PostgresTransaction | None]) -> None:
        """Take what one change has made of its accounts: all of it, or the transaction fails."""
        self._is_torn = True
        for account in accounts:
            if account is not None:
                account.keep()
        self._is_torn = False

    def put_totals(self, number: int, values: Row) -> None:
        """Keep what has become of an account."""
        if values != self.totals[number] or number in self.new:
            self.totals[number] = values
            self.new.discard(number)
            self._changed_totals.add(number)

    def put_agent(self, number: int, name: str, values: Row) -> None:
        """Keep what has become of an agent."""
        if values != self._agents[number].get(name):
            self._agents[number][name] = values
            self._changed_agents.add((number, name))

    def put_lease(self, number: int, lease_id: str, values: Row | None) -> None:
        """Keep what has become of a lease; ``None``: it is deleted."""
        self._leases[number][lease_id] = values
        self._changed_leases.add((number, lease_id))

    def commit(self) -> None:
        """Write what was changed.

        Raises:
            PostgresError: A change was interrupted half-way, or the server refuses something.
        """
        if self._is_torn:
            raise PostgresError("a change in the transaction was interrupted. Try again")
        agents = [
            dict(zip(AGENT, self._agents[number][name] or (), strict=True))
            | {"account": number, "agent": to_text(name)}
            for number, name in self._changed_agents
        ]
        leases, gone = [], []
        for number, lease_id in self._changed_leases:
            row = self._leases[number][lease_id]
            if row is None:
                gone.append((number, lease_id))
            else:
                stored = [to_text(value) if isinstance(value, str) else value for value in row]
                leases.append({"account": number, **dict(zip(LEASE, stored, strict=True))})
        totals = [
            {"id": number, **dict(zip(TOTALS, self.totals[number], strict=True))}
            for number in self._changed_totals
        ]
        self._has_moved = bool(self._changed_agents or self._changed_leases) or any(
            self.totals[number][:-_CLOCK_TOTALS] != self._totals_read[number][:-_CLOCK_TOTALS]
            for number in self._changed_totals
        )
        if self._has_moved or totals:
            values = (json.dumps(agents), json.dumps(leases), *_apart(gone), json.dumps(totals))
            self._session.commit((_WRITE, values), durable=False)
        else:
            self._session.commit(durable=False)

    def flush(self) -> None:
        """Wait for the disk, if there is anything that must not be lost."""
        if self._has_moved:
            self._session.flush()


class PostgresTransaction:
    """An account that is locked, in the hands of one change; :meth:`keep` gives it back."""

    def __init__(self, rows: AccountRows, number: int, key: AccountKey) -> None:
        self.key = key
        self.is_new = number in rows.new
        self.totals = AccountTotals(*rows.totals[number])
        self._rows = rows
        self._number = number
        self._agents: dict[str, AgentAccount] = {}
        self._leases: dict[str, Lease | None] = {}
        """Those that were looked for; ``None``: there is none, or none any more."""
        self._changed: set[str] = set()

    def agent(self, name: str) -> AgentAccount:
        """Return the account of an agent."""
        account = self._agents.get(name)
        if account is None:
            row = self._rows.agent(self._number, name)
            account = self._agents[name] = AgentAccount(name) if row is None else AgentAccount(*row)
        return account

    def agents(self) -> list[AgentAccount]:
        """Return every agent's account, by name."""
        return [
            self.agent(name) for name in sorted({*self._rows.agents(self._number), *self._agents})
        ]

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease that has not been deleted."""
        if lease_id not in self._leases:
            row = self._rows.lease(self._number, lease_id)
            self._leases[lease_id] = None if row is None else Lease(*row)
        return self._leases[lease_id]

    def lease_of_run(self, run_id: str) -> Lease | None:
        """Return the lease that is held for a run."""
        for lease_id in {*self._rows.leases_of_run(self._number, run_id), *self._leases}:
            lease = self.lease(lease_id)
            if lease is not None and lease.run_id == run_id and lease.charged is None:
                return lease
        return None

    def leases(self) -> list[Lease]:
        """Return every lease that has not been deleted."""
        every = [self.lease(name) for name in {*self._rows.leases(self._number), *self._leases}]
        return [lease for lease in every if lease is not None]

    def save(self, lease: Lease) -> None:
        """Write a lease."""
        self._leases[lease.id] = lease
        self._changed.add(lease.id)

    def delete(self, lease: Lease) -> None:
        """Forget a lease."""
        self._leases[lease.id] = None
        self._changed.add(lease.id)

    def keep(self) -> None:
        """Let what was changed be written."""
        rows, number = self._rows, self._number
        rows.put_totals(number, values_of_totals(self.totals))
        for name, account in self._agents.items():
            rows.put_agent(number, name, values_of_agent(account))
        for lease_id in self._changed:
            lease = self._leases[lease_id]
            rows.put_lease(number, lease_id, None if lease is None else values_of_lease(lease))


def _apart(pairs: Sequence[tuple[int, str]]) -> tuple[list[int], list[str]]:
    return [number for number, _ in pairs], [to_text(name) for _, name in pairs]
