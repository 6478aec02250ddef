"""``tokenopt guard``: what a quality guard has found, from its file."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Annotated

import typer

from langchain_tokenopt.cli.app import CommandError, named_file
from langchain_tokenopt.cli.period import local
from langchain_tokenopt.cli.tables import JsonOption, print_table, write_json

__all__ = ["guard"]


def guard(
    file: Annotated[str | None, typer.Argument(help="As --guard.", hidden=True)] = None,
    guard: Annotated[
        str | None,
        typer.Option(
            "--guard",
            envvar="TOKENOPT_GUARD",
            help="The file of QualityGuard(path=...).",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show for every agent at which level a quality guard holds its stages, and what it has seen.

    Example: tokenopt guard --guard guard.db
    """
    from langchain_tokenopt.evaluate.guard_state import found_in
    from langchain_tokenopt.storage.places import file_of

    path = file_of(named_file("guard", guard, file))
    if not path.is_file():
        raise CommandError(f"no file {path}: give the one of QualityGuard(path=...).")
    try:
        found = found_in(path)
    except sqlite3.Error as error:
        raise CommandError(f"{path} is no file of a quality guard: {error}.") from error
    if as_json:
        write_json([row._asdict() for row in found])
        return
    print_table(
        ("agent", "answers", "level", "tried again", "judge", "trials", "difference"),
        [
            (
                row.agent,
                row.kind,
                str(row.level),
                local(datetime.fromtimestamp(row.until, UTC)) if row.until else "",
                row.judge or "",
                f"{row.trials:,}",
                "" if row.difference is None else f"{100 * row.difference:+.1f} points",
            )
            for row in found
        ],
        words=("answers", "judge"),
    )
