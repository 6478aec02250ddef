"""The command that shows how well agents keep to their word limits."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from langchain_tokenopt.cli.app import CommandError, print_table
from langchain_tokenopt.cli.spend import (
    DEFAULT_LEDGER,
    JsonOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    parse_moment,
)

if TYPE_CHECKING:
    from langchain_tokenopt.limits import Compliance

__all__ = ["limits"]


def limits(
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show per agent how many answers kept to their word limit and how many had to be stopped.

    Example: tokenopt limits --since 7d
    """
    from langchain_tokenopt.ledger import Ledger
    from langchain_tokenopt.limits.outcome import compliance_of

    now = datetime.now(UTC)
    begin = None if since is None else parse_moment(since, now=now)
    end = None if until is None else parse_moment(until, now=now, end=True)
    with Ledger(ledger, read_only=True) as opened:
        kept = compliance_of(opened.calls(since=begin, until=end))
    if not kept:
        raise CommandError(
            f"no answers under a word limit in {ledger}. Put one around the model: "
            f"optimize(model, WordLimit(150)), with TokenUsageCallbackHandler(sinks=[Ledger(...)])."
        )
    rows = sorted(kept.items(), key=lambda row: (-row[1].answers, row[0]))
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {"agent": agent, "obeyed_ratio": kept.obeyed_ratio, **asdict(kept)}
                    for agent, kept in rows
                ],
                ensure_ascii=False,
            )
        )
    else:
        _show(rows)


def _show(rows: list[tuple[str, Compliance]]) -> None:
    from rich.table import Column, Table

    from langchain_tokenopt.limits import Compliance

    names = ("answers", "asked", "obeyed", "trimmed", "stopped", "saved tokens")
    figures = (Column(name, justify="right") for name in names)
    table = Table(
        Column("agent", no_wrap=True), *figures, box=None, pad_edge=False, collapse_padding=True
    )
    for agent, kept in rows:
        table.add_row(agent, *_cells(kept))
    table.add_section()
    whole = sum((kept for _, kept in rows), Compliance())
    table.add_row("total", *_cells(whole), style="bold")
    print_table(table)
    if whole.estimated:
        typer.echo(
            "~ estimated: nobody knows how long a stopped answer would have become.", err=True
        )


def _cells(kept: Compliance) -> list[str]:
    ratio = kept.obeyed_ratio
    return [
        f"{kept.answers:,}",
        f"{kept.asked:,}",
        "-" if ratio is None else f"{ratio:.0%}",
        f"{kept.trimmed:,}",
        f"{kept.stopped:,}",
        f"{'~' if kept.estimated else ''}{kept.saved_tokens:,}",
    ]
