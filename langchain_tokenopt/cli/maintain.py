"""The command that takes care of a ledger: removes old calls, makes partitions ahead."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.period import DEFAULT_LEDGER, LedgerOption
from langchain_tokenopt.cli.tables import JsonOption, tell, write_json

__all__ = ["maintain"]


def maintain(
    ledger: LedgerOption = DEFAULT_LEDGER,
    keep: Annotated[
        str | None, typer.Option(help="Remove calls that are older: '90 days', 12w. Sums stay.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove calls that are too old, and make a server's partitions for a year ahead.

    Needed where those who write do not own the tables: do it as their owner, once a month. A ledger
    that is opened with keep= by its owner does it by itself.

    Example: tokenopt maintain --ledger postgresql://owner@db.example/tokens --keep "90 days"
    """
    from langchain_tokenopt.ledger import Ledger

    try:
        with Ledger(ledger) as opened:
            removed = opened.maintain(keep)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if as_json:
        write_json({"removed_calls": removed})
    else:
        tell(f"{removed:,} calls were removed; their sums stay.")
