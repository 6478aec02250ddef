"""One run as a timeline of its calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import quote

from langchain_tokenopt.core.durations import format_seconds
from langchain_tokenopt.core.printable import printable
from langchain_tokenopt.core.records import CallRecord, UsageTotals
from langchain_tokenopt.core.run_tree import notes_of, path_of
from langchain_tokenopt.dashboard.tables import Column, Table, format_cell
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.pricing.money import format_usd

__all__ = ["run_of", "run_path", "run_table"]

_SHOWN = 1_000
_TICKS = 4
_LEAST = 0.4
"""Percent: shorter calls are drawn as long."""


def run_path(run: str) -> str:
    """Return where the page of a run is.

    Example:
        >>> run_path("a/b?c#d")
        '/run/a%2Fb%3Fc%23d'
    """
    return f"/run/{quote(run, safe='', errors='replace')}"


@dataclass(frozen=True, slots=True)
class _Line:
    """A call of the timeline: where it is in percent of the run, and what it was."""

    path: str
    model: str
    notes: str
    tone: str
    start: float
    width: float
    first: float | None
    """When the first chunk of the answer came."""
    said: str
    cells: Sequence[str]


def run_of(ledger: Ledger, run: str) -> dict[str, Any]:
    """Return what the page of a run shows.

    Args:
        ledger: Which.
        run: Its id, or how it begins.
    """
    names = ledger.run_ids(run)
    if len(names) != 1:
        return {"asked": printable(run), "others": [(name, run_path(name)) for name in names]}
    calls = list(islice(ledger.calls(run=names[0]), _SHOWN + 1))
    more, calls = len(calls) > _SHOWN, calls[:_SHOWN]
    totals = UsageTotals.of(calls)
    begin = min(call.started_at for call in calls)
    end = max(_end(call) for call in calls)
    length = max((end - begin).total_seconds(), 1e-6)
    agents = dict.fromkeys(call.agent for call in calls)
    return {
        "asked": printable(names[0]),
        "others": [],
        "tiles": [
            ("took", format_seconds(length)),
            ("calls", f"{totals.calls:,}"),
            ("cost", format_usd(totals.cost_nano_usd) + ("+" if totals.unpriced_calls else "")),
            ("tokens", f"{totals.total_tokens:,}"),
            ("saved", format_usd(totals.saved_nano_usd)),
            ("agents", f"{len(agents):,}"),
        ],
        "facts": _facts(calls, begin),
        "ticks": [
            (100 * n / _TICKS, format_seconds(length * n / _TICKS)) for n in range(_TICKS + 1)
        ],
        "lines": [_line(call, begin, length) for call in calls],
        "more": more,
        "csv": f"{run_path(names[0])}.csv",
    }


def _facts(calls: Sequence[CallRecord], begin: datetime) -> list[tuple[str, str]]:
    made_by = [call.attribution for call in calls]
    named = {
        "user": [each.user for each in made_by],
        "thread": [each.thread_id for each in made_by],
        "tag": [each.tag for each in made_by],
    }
    said = [("began", f"{begin:%Y-%m-%d %H:%M:%S} UTC")]
    for name, values in named.items():
        if found := ", ".join(dict.fromkeys(printable(value) for value in values if value)):
            said.append((name, found))
    return said


def _end(call: CallRecord) -> datetime:
    return call.started_at + timedelta(seconds=max(0.0, call.duration_seconds))


def _line(call: CallRecord, begin: datetime, length: float) -> _Line:
    start = (call.started_at - begin).total_seconds()
    took, first = max(0.0, call.duration_seconds), call.first_chunk_seconds
    tones = {"failed": "bad", "refused": "bad", "abandoned": "watch"}
    usage = call.usage
    notes = ", ".join(notes_of(call))
    path = " › ".join(path_of(call))
    return _Line(
        printable(path),
        printable(call.model or "a model"),
        notes,
        "cached" if call.cached else tones.get(call.status, ""),
        min(100 * start / length, 100 - _LEAST),
        max(100 * took / length, _LEAST),
        None if first is None or not 0 < first < took else 100 * (start + first) / length,
        printable(f"{path}: from {format_seconds(start)} on, {format_seconds(took)}"),
        (
            f"+{format_seconds(start)}",
            format_seconds(took),
            f"{0 if call.cached else usage.input_tokens:,}",
            f"{0 if call.cached else usage.output_tokens:,}",
            format_cell(call.cost_nano_usd, "usd"),
        ),
    )


def run_table(ledger: Ledger, run: str) -> Table | None:
    """Return the calls of a run as a table; ``None``: there is no such run."""
    if run not in ledger.run_ids(run):
        return None
    calls = list(ledger.calls(run=run))
    return Table(
        "run",
        "Calls",
        (
            Column("call"),
            Column("agent"),
            Column("node"),
            Column("tool"),
            Column("model"),
            Column("started", "time"),
            Column("seconds", "seconds"),
            Column("input tokens", "count"),
            Column("output tokens", "count"),
            Column("cost_usd", "usd"),
            Column("status"),
        ),
        [
            (
                str(call.run_id),
                call.agent,
                call.attribution.node or "",
                call.attribution.tool or "",
                call.model or "",
                call.started_at,
                call.duration_seconds,
                call.usage.input_tokens,
                call.usage.output_tokens,
                call.cost_nano_usd,
                ", ".join(notes_of(call)) or "ok",
            )
            for call in calls
        ],
    )
