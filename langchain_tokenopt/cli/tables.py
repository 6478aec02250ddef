"""How results are written: tables that fit a terminal, JSON, counts, money and times."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    "json_text",
    "known_cost",
    "print_table",
    "print_usage",
    "share",
    "shown_id",
    "tell",
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


def tell(text: str) -> None:
    """Print sentences on stdout; a terminal has them broken between words, a pipe line by line."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    for line in text.splitlines() or [""]:
        words = printable(line)
        begin = " " * (len(words) - len(words.lstrip()))
        room = console.width - len(begin)
        if not console.is_terminal or room < _NARROWEST:
            typer.echo(words)
            continue
        parts = _folded(words.lstrip(), room)
        if len(parts) > 1:  # the others stand further in
            first = parts[0]
            rest = words.lstrip()[len(first) :].lstrip()
            parts = [first, *(f"  {part}" for part in _folded(rest, room - 2))]
        for part in parts:
            typer.echo(begin + part)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str] = (),
    total: Sequence[str] | None = None,
    ids: bool = False,
) -> None:
    """Print a result table on stdout; in a pipe or a file no cell is cut to fit a terminal.

    In a terminal, names give way and figures never do: headings break into lines, words fold, names
    are cut. Where the figures alone are too wide, every row becomes a block of its own.

    Args:
        columns: The headings. All columns but the first are of figures, on the right.
        rows: The cells.
        words: Columns that are of words, too, on the left.
        total: Cells of the last row, set apart.
        ids: The first column is of ids: a terminal shows how they begin.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    room = max(_NARROWEST, console.width) if console.is_terminal else None
    columns, words = [printable(name) for name in columns], {printable(name) for name in words}
    cells = [[printable(cell) for cell in row] for row in rows]
    of_words = [not at or name in words for at, name in enumerate(columns)]
    if ids and room is not None:
        cells = [[shown_id(cell), *others] for cell, *others in cells]
    every = [*cells, [printable(cell) for cell in total]] if total else cells
    widths = _widths(columns, every, of_words, room)
    if room is None or sum(widths) + len(widths) - 1 <= room:
        blocks = [_row(columns, widths, of_words, fold=True)]
        blocks += [_row(row, widths, of_words) for row in every]
    else:
        blocks = [_block(columns, row, of_words, room) for row in every]
    for number, block in enumerate(blocks, start=1):
        style = "bold" if total is not None and number == len(blocks) else None
        for line in block:
            console.print(line.rstrip(), style=style, soft_wrap=True)


_ID_CHARACTERS = 13
"""Of LangChain's run ids: the time to the millisecond."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORTEST_NAME = 8
_NARROWEST = 20


def _widths(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    of_words: Sequence[bool],
    room: int | None,
) -> list[int]:
    """Return a width for every column, as narrow as it must be and can be."""
    from rich.cells import cell_len

    longest = [max(map(cell_len, cells), default=0) for cells in zip(*rows, strict=True)]
    longest = longest or [0] * len(columns)
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


def _row(
    cells: Sequence[str], widths: Sequence[int], of_words: Sequence[bool], *, fold: bool = False
) -> Iterator[str]:
    """Yield the lines of one row: a name is cut, words that follow it are folded.

    Args:
        cells: What stands in it.
        widths: Of the columns.
        of_words: Which columns are on the left.
        fold: True to fold all cells: those of the heading.
    """
    from rich.cells import cell_len

    folded = [
        _folded(cell, width) if fold or (of_words[at] and at) else [_cut(cell, width)]
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    height = max(map(len, folded))
    for number in range(height):
        parts = []
        for lines, width, of_word in zip(folded, widths, of_words, strict=True):
            # Headings stand at the foot, words at the top.
            at = number - (height - len(lines)) if fold else number
            part = lines[at] if 0 <= at < len(lines) else ""
            blank = " " * (width - cell_len(part))
            parts.append(part + blank if of_word else blank + part)
        yield " ".join(parts)


def _block(
    columns: Sequence[str], cells: Sequence[str], of_words: Sequence[bool], room: int
) -> Iterator[str]:
    """Yield one row as lines of "heading figure", under its name."""
    from rich.cells import cell_len

    yield _cut(cells[0], room) or " "
    line = ""
    for name, cell, of_word in list(zip(columns, cells, of_words, strict=True))[1:]:
        if not cell:
            continue
        pair = f"{name} {cell}"
        if cell_len(pair) > room - 2:
            pair = f"{name} {_cut(cell, max(1, room - 3 - len(name)))}" if of_word else pair
        if line and cell_len(line) + 2 + cell_len(pair) > room:
            yield line
            line = ""
        line = f"{line}, {pair}" if line else f"  {pair}"
    if line:
        yield line


def _folded(text: str, width: int) -> list[str]:
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=max(width, 1)), max(width, 1), overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)) + "…"


def shown_id(run: str) -> str:
    """Return how the id of a run begins, as terminals show it; a name of its own is left whole.

    Example:
        >>> shown_id("019a8f5e-77c1-7abc-8def-0123456789ab"), shown_id("nightly")
        ('019a8f5e-77c1', 'nightly')
    """
    return run[:_ID_CHARACTERS] if _ID.fullmatch(run) else run


def count(number: int) -> str:
    """Write a count; from ten million on in millions, to fit a terminal. ``--json`` is exact.

    Example:
        >>> count(9_999_999), count(1_834_304_414)
        ('9,999,999', '1,834.3M')
    """
    return f"{number:,}" if abs(number) < 10_000_000 else f"{number / 1e6:,.1f}M"


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


def print_usage(
    keys: Sequence[str],
    groups: Mapping[tuple[str, ...], UsageTotals],
    *,
    limit: int | None = None,
) -> None:
    """Print a row per group, one for those beyond *limit*, and what all of them come to.

    Args:
        keys: What the parts of a group's name are: agent, user, day...
        groups: Sums by name.
        limit: How many rows.
    """
    whole = sum(groups.values(), UsageTotals())
    rows = [(*name, *_usage_cells(totals, whole)) for name, totals in groups.items()][:limit]
    blank = [""] * (len(keys) - 1)
    if others := len(groups) - len(rows):
        rest = sum(list(groups.values())[limit:], UsageTotals())
        rows.append((f"{others:,} other{'s' * (others > 1)}", *blank, *_usage_cells(rest, whole)))
    print_table(
        (*keys, *_USAGE),
        rows,
        words=keys,
        total=("total", *blank, *_usage_cells(whole, whole)),
    )
    if whole.unpriced_calls:
        typer.echo(
            f"+ without {whole.unpriced_calls:,} calls whose price is not known; see: "
            f"tokenopt top --by model",
            err=True,
        )


_USAGE = (
    "calls", "input tokens", "cached", "output tokens", "of tokens", "cost", "of cost", "saved",
)  # fmt: skip


def _usage_cells(totals: UsageTotals, whole: UsageTotals) -> list[str]:
    return [
        count(totals.calls),
        count(totals.input_tokens),
        count(totals.cache_read_tokens),
        count(totals.output_tokens),
        share(totals.total_tokens, whole.total_tokens),
        cost_cell(totals),
        share(totals.cost_nano_usd, whole.cost_nano_usd),
        format_usd(totals.saved_nano_usd),
    ]


def share(part: int, whole: int) -> str:
    """Write a part of a whole in percent; "-" of nothing.

    Example:
        >>> share(1, 8), share(0, 0)
        ('12.5%', '-')
    """
    return f"{part / whole:.1%}" if whole else "-"
