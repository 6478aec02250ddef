"""The command that moves budgets, ledgers and caches between files and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.tables import JsonOption, tell, write_json

__all__ = ["migrate"]


class Kind(StrEnum):
    """What can be moved."""

    budgets = "budgets"
    ledger = "ledger"
    cache = "cache"


def migrate(
    source: Annotated[str, typer.Argument(help="A file, or postgresql://user@host/database.")],
    target: Annotated[str, typer.Argument(help="Where it goes: the same kinds.")],
    only: Annotated[Kind | None, typer.Option(help="Move only these, of all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy budgets, a ledger or a cache from a file into PostgreSQL or back; compare all sums.

    All is checked before anything is copied. What was interrupted goes on when it is done again.
    The source stays as it is. Stop what writes there first.

    Example: tokenopt migrate budgets.db postgresql://me@db.example/tokens
    """
    from langchain_tokenopt.storage.migration_lock import locked_for_migration
    from langchain_tokenopt.storage.places import label_of, place_of

    if _is_same(source, target):
        raise CommandError("the source and the target are the same place. Name another target.")
    kinds, refusals = ([only], []) if only else _kinds_in(source)
    if len(kinds) > 1 and isinstance(place_of(target), Path):
        raise CommandError(
            f"the source has {' and '.join(kinds)}, and each needs a file of its own. Add "
            f"--only {' or --only '.join(kinds)}."
        )
    with locked_for_migration(target) as is_mine:
        if not is_mine:
            raise CommandError(
                f"another tokenopt migrate is copying to {label_of(target)}; nothing was copied "
                f"by this one. Run it again when that one has ended."
            )
        moved = _moved(kinds, source, target)
    if as_json:
        write_json(moved)
    else:
        for kind, sums in moved.items():
            tell(f"{kind}: {_figures(sums)}; the same in both.")
    if not isinstance(place_of(source), Path):  # a file is of one kind
        for refusal in refusals:
            say(f"Passed over: {refusal}")


def _moved(kinds: Sequence[Kind], source: str, target: str) -> dict[str, dict[str, int]]:
    """Check all kinds, then copy one after another; say what was copied where it ends early."""
    from langchain_tokenopt.budget.account_migration import checked_account_copy
    from langchain_tokenopt.cache.cache_migration import checked_cache_copy
    from langchain_tokenopt.core.errors import TokenOptError
    from langchain_tokenopt.ledger.migration import checked_ledger_copy

    checked = {
        Kind.budgets: checked_account_copy,
        Kind.ledger: checked_ledger_copy,
        Kind.cache: checked_cache_copy,
    }
    copied: dict[str, Counter[str]] = {str(kind): Counter() for kind in kinds}
    try:
        with ExitStack() as stack:
            copies = [stack.enter_context(checked[kind](source, target)) for kind in kinds]
            return {name: copy(copied[name]) for name, copy in zip(copied, copies, strict=True)}
    except (TokenOptError, OSError) as error:
        raise CommandError(f"{str(error).rstrip('.')}. {_so_far(copied)}") from error
    except KeyboardInterrupt:
        say(_so_far(copied))
        raise


def _so_far(copied: Mapping[str, Counter[str]]) -> str:
    done = [f"{_figures(sums)} ({kind})" for kind, sums in copied.items() if sums.total()]
    if not done:
        return "Nothing was copied."
    return f"Copied before that: {'; '.join(done)}. Run it again when that is mended: it goes on."


def _figures(sums: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sums.items() if number) or "nothing"


def _is_same(source: str, target: str) -> bool:
    """Say whether two words name one file, or one schema of one database, however they do it."""
    from langchain_tokenopt.storage.places import place_of

    one, other = place_of(source), place_of(target)
    if isinstance(one, Path) and isinstance(other, Path):
        return one.exists() and other.exists() and one.samefile(other)
    if isinstance(one, Path) or isinstance(other, Path):
        return False
    from langchain_tokenopt.storage.postgres import identity_of

    return identity_of(one) == identity_of(other)


def _kinds_in(source: str) -> tuple[list[Kind], list[str]]:
    """Return what can be read there, and why the rest cannot."""
    from langchain_tokenopt.budget import BudgetStoreError, reports_in
    from langchain_tokenopt.cache import CacheFileError
    from langchain_tokenopt.cache.repositories import embedder_in
    from langchain_tokenopt.ledger import Ledger, LedgerError

    _refuse_unreachable(source)
    found, refusals = [], []
    try:
        reports_in(source)
        found.append(Kind.budgets)
    except BudgetStoreError as error:
        refusals.append(str(error))
    try:
        Ledger(source, read_only=True).close()
        found.append(Kind.ledger)
    except LedgerError as error:
        refusals.append(str(error))
    try:
        embedder_in(source)
        found.append(Kind.cache)
    except CacheFileError as error:
        refusals.append(str(error))
    if not found:
        raise CommandError(" ".join(refusals))
    return found, refusals


def _refuse_unreachable(source: str) -> None:
    """Look once whether there is anything at all: each kind would say and wait the same."""
    from langchain_tokenopt.storage.errors import PostgresError
    from langchain_tokenopt.storage.migration_lock import pool_at
    from langchain_tokenopt.storage.places import place_of
    from langchain_tokenopt.storage.sqlite import connect_to_read

    place = place_of(source)
    if not isinstance(place, Path):
        try:
            with pool_at(place).session() as session:
                session.run("SELECT 1")
        except PostgresError as error:
            raise CommandError(f"{error}.") from error
    elif not place.exists():
        raise CommandError(f"there is no file {place}. Name the one to copy from.")
    elif place.is_dir():
        raise CommandError(f"{place} is a folder. Name a file in it.")
    else:
        try:
            connect_to_read(place).close()
        except (sqlite3.Error, OSError) as error:
            raise CommandError(f"{place} cannot be read: {error}.") from error
