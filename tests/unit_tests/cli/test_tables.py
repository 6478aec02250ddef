"""Tables in terminals of every width: names give way, figures never do."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from rich.cells import cell_len

from langchain_tokenopt.cli.tables import count, print_table, print_usage
from langchain_tokenopt.core.durations import format_seconds
from langchain_tokenopt.core.records import COUNTS, UsageTotals
from langchain_tokenopt.pricing.money import format_usd

HOSTILE = [
    "[/bold]", "a\x1b[31mred", "two\nlines", "\u202eright to left", "=1+1",
    "<script>alert(1)</script>",
    "x" * 300, "", " ", "名前" * 40, "e\u0301" * 50, "👩‍👩‍👧‍👦" * 20, "\t\ttabs", "{0} %s", "…",
]  # fmt: skip
NAMES = some.sampled_from(HOSTILE) | some.text(max_size=40)
FIGURES = some.one_of(
    some.integers(-(10**15), 10**15).map(count),
    some.integers(-(10**15), 10**15).map(format_usd),
    some.floats(0, 1e9).map(format_seconds),
    some.just("100.0%"),
)
HEADINGS = some.sampled_from(["calls", "input tokens", "of cost", "spent itself", "net saved"])


@some.composite
def tables(draw):
    kinds = [True, *draw(some.lists(some.booleans(), min_size=1, max_size=9))]  # True: words
    columns = [f"{draw(HEADINGS)}{'' if not word else ' of'}" for word in kinds]
    columns = [f"{name} {at}" for at, name in enumerate(columns)]
    row = some.tuples(*(NAMES if word else FIGURES for word in kinds))
    return columns, kinds, draw(some.lists(row, max_size=5)), draw(row | some.none())


def shown(monkeypatch, width: int | None, *arguments, **options) -> str:
    out = io.StringIO()
    if width is None:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    else:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
    with redirect_stdout(out):
        print_table(*arguments, **options)
    return re.sub("\x1b\\[[0-9;]*m", "", out.getvalue())


@pytest.mark.parametrize("width", [40, 60, 80, 120, None])
@given(table=tables())
@settings(max_examples=40, deadline=None)
def test_no_figure_is_cut_at_any_width(width, table):
    """Every figure stands whole on one line, and no line is longer than the terminal."""
    columns, kinds, rows, total = table
    words = [name for name, word in zip(columns, kinds, strict=True) if word]
    with pytest.MonkeyPatch.context() as patch:
        out = shown(patch, width, columns, rows, words=words, total=total)
    lines = out.split("\n")
    for row in [*rows, *([total] if total else [])]:
        for cell, word in zip(row, kinds, strict=True):
            if not word:
                assert any(cell in line for line in lines), cell
    if width is not None:
        assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_usage_of_absurd_size_fits(monkeypatch, width, capsys):
    """The widest table there is, with numbers as large as a ledger holds."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    huge = UsageTotals(**dict.fromkeys(COUNTS, 10**15))
    print_usage(["user", "agent"], {(name, name): huge for name in HOSTILE}, limit=3)
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert sum("1,000,000,000.0M" in line for line in lines) >= 4
    assert not any(re.search(r"\d…", line) for line in lines)


def test_piped_cells_are_whole(monkeypatch):
    """A pipe has no width: nothing is cut, one line a row."""
    out = shown(monkeypatch, None, ["name", "calls"], [["x" * 300, "1"], ["y", "2"]])
    assert out == f"name{' ' * 296} calls\n{'x' * 300}     1\ny{' ' * 299}     2\n"


def test_an_empty_table_is_its_heading(monkeypatch):
    """No rows are no error."""
    assert shown(monkeypatch, 80, ["name", "calls"], []) == "name calls\n"
