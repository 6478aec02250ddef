"""``tokenopt report --ab``: the two halves of users that a quality guard has split."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.tables import format_seconds, print_table, write_json
from langchain_tokenopt.evaluate.guard import HALVES

if TYPE_CHECKING:
    from langchain_tokenopt.core.records import CallRecord

__all__ = ["print_halves"]

_Z = 1.96
"""Of a 95 % interval of the normal distribution."""


def print_halves(calls: Iterable[CallRecord], *, as_json: bool) -> None:
    """Print what both halves took a call, and how far they differ, with a 95 % interval.

    Raises:
        CommandError: One half has fewer than two calls.
    """
    halves: dict[str, list[CallRecord]] = {half: [] for half in HALVES}
    for call in calls:
        for half in halves.keys() & set(call.stages):
            halves[half].append(call)
    few = [half for half, found in halves.items() if len(found) < 2]
    if few:
        raise CommandError(
            f"fewer than two calls of the half {few[0]!r} here. Halves are made by "
            f'QualityGuard(stages, mode="split").'
        )
    amounts: Mapping[str, Callable[[CallRecord], float]] = {
        "tokens": lambda call: call.spent_tokens,
        "output tokens": lambda call: 0 if call.cached else call.usage.output_tokens,
        "cost in USD": lambda call: (call.cost_nano_usd or 0) / 1e9,
        "seconds": lambda call: call.duration_seconds,
        "failed": lambda call: float(call.status == "failed"),
    }
    plain, staged = (halves[half] for half in HALVES)
    rows = {
        name: _differing(list(map(amount, plain)), list(map(amount, staged)))
        for name, amount in amounts.items()
    }
    if as_json:
        counts = {half: len(found) for half, found in halves.items()}
        write_json({"calls": counts, "means": rows})
        return
    print_table(
        ("a call", *(f"{half} ({len(found):,})" for half, found in halves.items()), "difference"),
        [
            (name, _cell(name, row["plain"]), _cell(name, row["staged"]),
             f"{_cell(name, row['difference'])} ({_cell(name, row['low'])} to "
             f"{_cell(name, row['high'])})")
            for name, row in rows.items()
        ],
    )  # fmt: skip


def _differing(plain: Sequence[float], staged: Sequence[float]) -> dict[str, Any]:
    """Return both means and their difference with Welch's interval."""
    difference = statistics.fmean(staged) - statistics.fmean(plain)
    half = _Z * math.sqrt(
        statistics.variance(plain) / len(plain) + statistics.variance(staged) / len(staged)
    )
    return {
        "plain": statistics.fmean(plain),
        "staged": statistics.fmean(staged),
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
    }


def _cell(name: str, value: float) -> str:
    if name == "seconds":
        return f"-{format_seconds(-value)}" if value < 0 else format_seconds(value)
    if name == "failed":
        return f"{value:.1%}"
    return f"{value:,.6f}" if name == "cost in USD" else f"{value:,.1f}"
