"""The command that writes every call of a period."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import printable
from langchain_tokenopt.cli.period import (
    DEFAULT_LEDGER,
    LedgerOption,
    Period,
    SinceOption,
    UntilOption,
    opened_ledger,
    refuse_empty,
)
from langchain_tokenopt.cli.tables import json_text
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.money import exact_usd

if TYPE_CHECKING:
    from langchain_tokenopt.core.records import CallRecord

__all__ = ["export", "write_csv"]


class Format(StrEnum):
    """How calls are exported."""

    csv = "csv"
    json = "json"


def export(
    form: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.csv,
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Write every call of a period to stdout, oldest first.

    Example: tokenopt export --format csv --since 7d > calls.csv
    """
    period = Period.of(since, until)
    with opened_ledger(ledger) as opened:
        calls = opened.calls(since=period.since, until=period.until)
        first = next(calls, None)
        refuse_empty(opened, period, first is not None)
        assert first is not None
        write = _write_json if as_json or form is Format.json else write_csv
        write(_row(first), map(_row, calls))


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
    writer.writerow(_as_cells(first))
    for call in others:
        writer.writerow(_as_cells(call))


_FORMULA = ("=", "+", "-", "@")


def _as_cells(call: Mapping[str, Any]) -> dict[str, Any]:
    """Disarm text that would steer a terminal or that a spreadsheet would run.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    cells = {name: printable(v) if isinstance(v, str) else v for name, v in call.items()}
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for name, value in cells.items()
    }


_MADE_BY = tuple(field.name for field in fields(Attribution))
_COUNTED = tuple(field.name for field in fields(Usage))
_CALL = (
    "run", "model", "provider", "response_model", "service_tier", "status", "source", "cached",
)  # fmt: skip


def _row(call: CallRecord) -> dict[str, Any]:
    """Return a call as one flat row."""
    return {
        "run_id": str(call.run_id),
        "started_at": call.started_at.isoformat(),
        "duration_seconds": call.duration_seconds,
        "first_chunk_seconds": call.first_chunk_seconds,
        **{name: getattr(call.attribution, name) for name in _MADE_BY},
        **{name: getattr(call, name) for name in _CALL},
        **{name: getattr(call.usage, name) for name in _COUNTED},
        "cost_usd": exact_usd(call.cost_nano_usd),
        "saved_tokens": call.saved_tokens,
        "saved_usd": exact_usd(_saved(call)),
        "stages": " + ".join(call.stages),
        "flaws": "; ".join(call.flaws),
        "unpriced": "; ".join(call.unpriced),
        "rates_version": call.rates_version,
        "tool_results": "; ".join(f"{r.tool}: {r.tokens}" for r in call.tool_results),
    }


def _saved(call: CallRecord) -> int | None:
    """Return what a cache and stages saved on this call; ``None`` where none of it has a price."""
    parts = [call.saved_nano_usd]
    parts += [saving.saved_nano_usd for saving in call.savings if not saving.observed]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
