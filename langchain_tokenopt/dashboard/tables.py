"""Tables: rows of plain values, of which both the page and the CSV files are made."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from langchain_tokenopt.core.durations import format_seconds
from langchain_tokenopt.core.printable import disarmed, printable
from langchain_tokenopt.pricing.money import exact_usd, format_usd

__all__ = ["Column", "Table", "format_cell"]

Kind = Literal[
    "text", "note", "said", "count", "usd", "ratio", "change", "points", "seconds", "time"
]


@dataclass(frozen=True, slots=True)
class Column:
    """What stands in a column.

    Money is in billionths of a dollar, a ratio is a fraction; ``"said"`` is a figure in words, and
    a ``"note"`` may take several lines.
    """

    title: str
    kind: Kind = "text"
    bar: bool = False
    """Whether a bar shows how large the cell is."""

    @property
    def is_figure(self) -> bool:
        """Whether it is aligned to the right."""
        return self.kind not in ("text", "note", "time")


@dataclass(frozen=True, slots=True)
class Table:
    """What is known, in rows."""

    name: str
    """Of its CSV file."""
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    empty: str = ""
    """What to do so that there is something in it."""
    links: Sequence[str] = field(default=())
    """Where the first cell of each row leads."""
    tones: Sequence[str] = field(default=())
    """Of each row: good, watch, bad or nothing."""
    more: int = 0
    """How many rows there are beside those that are shown."""
    note: str = ""

    def head(self, count: int) -> Table:
        """Return the first rows."""
        parts = {name: getattr(self, name)[:count] for name in ("rows", "links", "tones")}
        return replace(self, **parts, more=max(0, len(self.rows) - count))

    def largest(self, column: int) -> float:
        """Return the largest size in a column, for bars."""
        return max((abs(row[column] or 0) for row in self.rows), default=0) or 1

    def csv(self) -> str:
        """Return all rows with plain values, which run in no spreadsheet."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        rows = [
            [_plain(v, c.kind) for c, v in zip(self.columns, r, strict=True)] for r in self.rows
        ]
        for cells in ([column.title for column in self.columns], *rows):
            writer.writerow(disarmed({str(n): cell for n, cell in enumerate(cells)}).values())
        return text.getvalue()


def _plain(value: Any, kind: Kind) -> Any:
    if kind == "usd":
        return exact_usd(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if value == math.inf:
        return "new"
    return round(value, 6) if isinstance(value, float) else value


def format_cell(value: Any, kind: Kind) -> str:
    """Write a value for people; what is not known is a dash.

    Example:
        >>> format_cell(1_234, "count"), format_cell(-0.051, "change"), format_cell(None, "usd")
        ('1,234', '-5.1%', '-')
    """
    if value is None:
        return "-"
    if kind in ("text", "note", "said"):
        return printable(str(value))
    if value == math.inf:
        return "new"
    if kind == "time":
        return f"{value:%b %d %H:%M}"
    if kind == "seconds":
        return format_seconds(value)
    written = {
        "count": "{:,}",
        "ratio": "{:.1%}",
        "change": "{:+,.1%}",
        "points": "{:+.1f} pt",
    }
    return format_usd(value) if kind == "usd" else written[kind].format(value)
