"""How results are written: tables that fit a terminal, JSON, counts, money and times."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from langchain_tokenopt.cli.app import STEERING_CHARACTERS, printable
from langchain_tokenopt.core.records import UsageTotals
from langchain_tokenopt.pricing.money import exact_usd, format_usd

__all__ = [
    "JsonOption",
    "LimitOption",
    "cost_cell",
    "count",
    "format_seconds",
    "json_text",
    "known_cost",
    "print_table",
    "print_usage",
    "totals_as_json",
    "write_json",
]

JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
LimitOption = Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows to show.")]


def json_text(value: object) -> str:
    r"""Return *value* as JSON on one line; what a terminal would not show as it is, is escaped.

    Example:
        >>> json_text({"name": "Zo\u00eb \u202e"})
        '{"name": "Zo\xeb \\u202e"}'
    """
    return STEERING_CHARACTERS.sub(
        lambda found: json.dumps(found[0])[1:-1], json.dumps(value, ensure_ascii=False)
    )


def write_json(value: object) -> None:
    """Print *value* on stdout, on one line."""
    typer.echo(json_text(value))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str] = (),
    total: Sequence[str] | None = None,
) -> None:
    """Print a result table on stdout; in a pipe or a file no cell is cut to fit a terminal.

    Args:
        columns: The headings. All columns but the first are of figures, on the right.
        rows: The cells.
        words: Columns that are of words, too, on the left.
        total: Cells of the last row, set apart.
    """
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(highlight=False, markup=False, emoji=False)
    cells = [[printable(cell) for cell in row] for row in rows]
    of_words = [not at or name in words for at, name in enumerate(columns)]
    widths = _widths(
        columns,
        [*cells, total] if total else cells,
        of_words,
        console.width if console.is_terminal else None,
    )
    console.width = max(console.width, sum(widths) + len(widths))
    table = Table(
        *(
            Column(
                name if len(name) <= width else name.replace(" ", "\n"),
                width=width,
                justify="left" if word else "right",
                no_wrap=not (word and at),
            )
            for at, (name, word, width) in enumerate(zip(columns, of_words, widths, strict=True))
        ),
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    for row in cells:
        table.add_row(*row)
    if total is not None:
        table.add_row(*total, style="bold")
    console.print(table)


_SHORTEST_NAME = 8


def _widths(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    of_words: Sequence[bool],
    room: int | None,
) -> list[int]:
    """Return a width for every column. In a narrow terminal names give way, figures never do."""
    from rich.cells import cell_len

    longest = [max(map(cell_len, cells), default=0) for cells in zip(*rows, strict=True)]
    widths = [max(wide, len(name)) for wide, name in zip(longest, columns, strict=True)]
    if room is None or sum(widths) + len(widths) - 1 <= room:
        return widths
    for at, name in enumerate(columns):
        if not of_words[at]:  # its heading is broken into lines
            widths[at] = max([longest[at], *map(len, name.split())])
    while sum(widths) + len(widths) - 1 > room:
        wide, at = max((width, at) for at, width in enumerate(widths) if of_words[at])
        if wide <= _SHORTEST_NAME:
            break
        widths[at] -= 1
    return widths


def count(number: int) -> str:
    """Write a count; from ten million on in millions, to fit a terminal. ``--json`` is exact.

    Example:
        >>> count(9_999_999), count(1_834_304_414)
        ('9,999,999', '1,834.3M')
    """
    return f"{number:,}" if abs(number) < 10_000_000 else f"{number / 1e6:,.1f}M"


def format_seconds(seconds: float | None) -> str:
    """Write a duration; "-" where none was measured.

    Example:
        >>> format_seconds(0.0421), format_seconds(3.26), format_seconds(185), format_seconds(None)
        ('42 ms', '3.3 s', '3 min 5 s', '-')
    """
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


# What a group of calls comes to


def known_cost(totals: UsageTotals) -> int | None:
    """Return what the priced calls cost; ``None`` if there are calls and none has a price."""
    none_priced = totals.billed_calls > 0 and totals.unpriced_calls == totals.billed_calls
    return None if none_priced else totals.cost_nano_usd


def cost_cell(totals: UsageTotals) -> str:
    """Write what calls cost, with a plus where some of them have no price.

    Example:
        >>> cost_cell(UsageTotals(calls=2, unpriced_calls=1, cost_nano_usd=2_500_000_000))
        '$2.50+'
    """
    cost = known_cost(totals)
    return format_usd(cost) + ("+" if cost is not None and totals.unpriced_calls else "")


def totals_as_json(totals: UsageTotals) -> dict[str, Any]:
    """Return totals for ``--json``; money is a string, ``None`` where no price is known."""
    found: dict[str, Any] = {}
    for field in fields(totals):
        name, value = field.name, getattr(totals, field.name)
        if name == "cost_nano_usd":
            value = known_cost(totals)
        if name.endswith("_nano_usd"):
            name, value = name.replace("_nano_usd", "_usd"), exact_usd(value)
        if not name.endswith("_seconds"):
            found[name] = value
        if name == "output_tokens":
            found["total_tokens"] = totals.total_tokens
    return found


def print_usage(key: str, groups: Mapping[str, UsageTotals], *, limit: int | None = None) -> None:
    """Print a row per group, one for those beyond *limit*, and what all of them come to."""
    whole = sum(groups.values(), UsageTotals())
    rows = [(name, *_usage_cells(totals, whole)) for name, totals in groups.items()][:limit]
    if others := len(groups) - len(rows):
        rest = sum(list(groups.values())[limit:], UsageTotals())
        rows.append((f"{others:,} other{'s' * (others > 1)}", *_usage_cells(rest, whole)))
    print_table(
        (key, "calls", "input tokens", "cached", "output tokens", "cost", "saved", "share"),
        rows,
        total=("total", *_usage_cells(whole, whole)),
    )
    if whole.unpriced_calls:
        typer.echo(
            f"+ without {whole.unpriced_calls:,} calls whose price is not known; see: "
            f"tokenopt top --by model",
            err=True,
        )


def _usage_cells(totals: UsageTotals, whole: UsageTotals) -> list[str]:
    return [
        count(totals.calls),
        count(totals.input_tokens),
        count(totals.cache_read_tokens),
        count(totals.output_tokens),
        cost_cell(totals),
        format_usd(totals.saved_nano_usd),
        f"{totals.total_tokens / max(1, whole.total_tokens):.1%}",
    ]
