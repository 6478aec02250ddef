"""The command that shows how well agents keep to their word limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.tables import print_table, write_json

if TYPE_CHECKING:
    from langchain_tokenopt.limits import Compliance

__all__ = ["limits"]


@asks()
def limits(asked: Question) -> None:
    """Show per agent how many answers kept to their word limit and how many had to be stopped.

    Example: tokenopt limits --since 7d
    """
    from langchain_tokenopt.limits.compliance import compliance_of

    with asked.opened() as opened:
        kept = compliance_of(opened.calls(**asked.where))
        if not kept and not asked.as_json:
            raise CommandError(
                f"no answers under a word limit in {opened.location}. Put one around the model: "
                f"optimize(model, WordLimit(150)), with "
                f"TokenUsageCallbackHandler(sinks=[Ledger(...)])."
            )
    rows = sorted(kept.items(), key=lambda row: (-row[1].answers, row[0]))
    if asked.as_json:
        write_json(
            [
                {"agent": agent, "obeyed_ratio": kept.obeyed_ratio, **asdict(kept)}
                for agent, kept in rows
            ]
        )
    else:
        _print(rows)


def _print(rows: list[tuple[str, Compliance]]) -> None:
    from langchain_tokenopt.limits import Compliance

    whole = sum((kept for _, kept in rows), Compliance())
    print_table(
        ("agent", "answers", "asked", "obeyed", "trimmed", "stopped", "saved tokens"),
        [(agent, *_cells(kept)) for agent, kept in rows],
        total=("total", *_cells(whole)),
    )
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
