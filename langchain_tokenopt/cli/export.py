"""The command that writes every call of a period."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.tables import json_text
from langchain_tokenopt.core.printable import disarmed

__all__ = ["export", "write_csv"]


class Format(StrEnum):
    """How calls are exported."""

    csv = "csv"
    json = "json"


@asks()
def export(
    asked: Question,
    form: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.csv,
) -> None:
    """Write every call of a period to stdout, oldest first.

    Example: tokenopt export --format csv --since 7d > calls.csv
    """
    from langchain_tokenopt.ledger.flat_rows import flat_row

    as_json = asked.as_json or form is Format.json
    with asked.opened() as opened:
        calls = map(flat_row, opened.calls(**asked.where))
        first = next(calls, None)
        replace(asked, as_json=as_json).refuse_empty(opened, first is not None)
        if first is None:
            sys.stdout.write("[]\n")
        else:
            (_write_json if as_json else write_csv)(first, calls)


def _write_json(first: dict[str, Any], others: Iterable[dict[str, Any]]) -> None:
    """Write one list, call by call: a million of them need no memory."""
    sys.stdout.write("[" + json_text(first))
    for call in others:
        sys.stdout.write(",\n" + json_text(call))
    sys.stdout.write("]\n")


def write_csv(first: dict[str, Any], others: Iterable[dict[str, Any]]) -> None:
    """Write rows under a line of headings."""
    writer = csv.DictWriter(sys.stdout, fieldnames=list(first), lineterminator="\n")
    writer.writeheader()
    writer.writerow(disarmed(first))
    for call in others:
        writer.writerow(disarmed(call))
