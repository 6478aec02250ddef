"""The tables of accounts in PostgreSQL, made and brought up to date under a lock."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.budget.records import BudgetStoreError
from langchain_tokenopt.storage.postgres import PostgresError, Session

__all__ = ["SCHEMA_VERSION", "VERSION", "check_version", "explained", "prepare", "version_of"]

_MIGRATING: Final = 0x746F6B62
"""The advisory lock of those who change the tables; any constant."""

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
    "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'budget_schema' AND relkind = 'r' "
    "AND pg_table_is_visible(oid))"
)
VERSION: Final = "SELECT json_agg(budget_schema.version) FROM budget_schema"
"""Of whatever type it is; the sentence about one that is missing names the table."""

_OWN_SCHEMA: Final = (
    "Restore it from a copy, or give the budgets a schema of their own: CREATE SCHEMA name, and "
    "add ?options=-csearch_path%3Dname to the URL"
)


def prepare(session: Session, place: str) -> None:
    """Make the tables, or bring them up to date, as the only one who does.

    Raises:
        BudgetStoreError: They are those of a newer release, or do not say what they are.
    """
    if version_of(session, place) == SCHEMA_VERSION:
        return
    session.begin(("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,)))
    found = version_of(session, place)
    steps = [step for steps in _MIGRATIONS[found:] for step in steps]
    noted = ("INSERT INTO budget_schema VALUES (%s)", (SCHEMA_VERSION,))
    session.commit(*((step, ()) for step in steps), *([noted] if steps else []))


def version_of(session: Session, place: str) -> int:
    """Return the version of the tables; 0 where there are none.

    Raises:
        BudgetStoreError: As :func:`check_version`.
    """
    if not session.run(_IS_THERE)[0][0]:
        return 0
    return check_version(session.run(VERSION)[0][0], place)


def check_version(found: list[object] | None, place: str) -> int:
    """Return the last of the versions that were read, if this release can work with its tables.

    Raises:
        BudgetStoreError: Another release has changed the tables, or it is no version.
    """
    versions = [each for each in found or () if type(each) is int and each > 0]
    if not versions or versions != found:
        raise _not_ours(place)
    version = max(versions)
    if version > SCHEMA_VERSION:
        raise BudgetStoreError(
            f"{place} has version {version} of the budgets' tables, written by a newer "
            f"langchain-tokenopt; this one knows versions up to {SCHEMA_VERSION}. "
            f"Upgrade it: pip install -U langchain-tokenopt."
        )
    return version


def _not_ours(place: str) -> BudgetStoreError:
    return BudgetStoreError(
        f"the table budget_schema at {place} does not say which version the budgets' tables have: "
        f"it was emptied or changed, or is another program's. {_OWN_SCHEMA}."
    )


def explained(error: PostgresError) -> str:
    """Return what a server has refused, and what to do where a name is another program's."""
    if not error.is_of_others:
        return f"{error}."
    return (
        f"{error}: that was removed or changed, or a table, view or type of another program has "
        f"this name. {_OWN_SCHEMA}."
    )
