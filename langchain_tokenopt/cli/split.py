"""``tokenopt report --ab``: the two halves of users that a quality guard has split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.tables import print_table, write_json
from langchain_tokenopt.core.durations import format_seconds
from langchain_tokenopt.evaluate.guard import HALVES

if TYPE_CHECKING:
    from langchain_tokenopt.core.records import CallRecord

__all__ = ["print_halves"]

_Z = 1.96
"""Of a 95 % interval of the normal distribution."""
_COST = "cost in USD"
_AMOUNTS: Mapping[str, Callable[[CallRecord], float]] = {
    "tokens": lambda call: call.spent_tokens,
    "output tokens": lambda call: 0 if call.cached else call.usage.output_tokens,
    _COST: lambda call: (call.cost_nano_usd or 0) / 1e9,
    "seconds": lambda call: call.duration_seconds,
    "failed": lambda call: float(call.status == "failed"),
}


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
    if few and as_json:
        write_json({"calls": {half: len(found) for half, found in halves.items()}, "means": {}})
        return
    if few:
        raise CommandError(
            f"fewer than two calls of the half {few[0]!r} here. Halves are made by "
            f'QualityGuard(stages, mode="split").'
        )
    plain, staged = (halves[half] for half in HALVES)
    rows = {
        name: _differing([_by_owner(half, amount) for half in (plain, staged)])
        for name, amount in _AMOUNTS.items()
        if name != _COST or not any(call.cost_nano_usd is None for call in (*plain, *staged))
    }
    if as_json:
        counts = {half: len(found) for half, found in halves.items()}
        write_json({"calls": counts, "means": rows})
        return
    print_table(
        ("a call", *(f"{half} ({len(found):,})" for half, found in halves.items()), "difference"),
        [
            (
                name,
                _cell(name, row["plain"]),
                _cell(name, row["staged"]),
                f"{_cell(name, row['difference'])} ({_cell(name, row['low'])} to "
                f"{_cell(name, row['high'])})",
            )
            for name, row in rows.items()
        ],
    )


def _by_owner(
    calls: Sequence[CallRecord], amount: Callable[[CallRecord], float]
) -> list[tuple[float, int]]:
    """Return the sum and the number of calls of every user or thread: these were split."""
    sums: dict[str, tuple[float, int]] = {}
    for call in calls:
        made_by = call.attribution
        owner = made_by.user or made_by.thread_id or str(call.run_id)
        total, count = sums.get(owner, (0.0, 0))
        sums[owner] = total + amount(call), count + 1
    return list(sums.values())


def _differing(halves: Sequence[Sequence[tuple[float, int]]]) -> dict[str, Any]:
    """Return both means a call, and their difference with an interval for whole users.

    The variance of a ratio of sums over clusters (Cochran, Sampling Techniques, 1977, 6.4).
    """
    means, variances = [], []
    for half in halves:
        calls = sum(count for _, count in half)
        mean = sum(total for total, _ in half) / calls
        off = sum((total - mean * count) ** 2 for total, count in half)
        means.append(mean)
        variances.append(off * len(half) / max(1, len(half) - 1) / calls**2)
    difference, half_width = means[1] - means[0], _Z * math.sqrt(sum(variances))
    return {
        "plain": means[0],
        "staged": means[1],
        "difference": difference,
        "low": difference - half_width,
        "high": difference + half_width,
    }


def _cell(name: str, value: float) -> str:
    if name == "seconds":
        return f"-{format_seconds(-value)}" if value < 0 else format_seconds(value)
    if name == "failed":
        return f"{value:.1%}"
    return f"{value:,.6f}" if name == _COST else f"{value:,.1f}"
