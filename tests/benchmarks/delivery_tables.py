"""The tables of ``bench_delivery`` for the README, beside the figures of the version before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.results import RESULTS

__all__ = ["delivery_tables"]

Figures = Mapping[str, Any]
_SHOWN = {
    "refused within its own": "refused although its own share suffices",
    "overshoot": "spent more than the total",
    "account is not the bill": "account other than the bill",
    "system message changed": "system message cut",
    "question or role line changed": "question or role line cut",
    "empty answer": "empty answer",
    "made up where a paragraph fits": "made-up answer where a paragraph for each fits",
    "answer cut off": "answer ends in the middle of a sentence",
    "structured answer invalid": "structured answer invalid",
    "more tokens, no end": "more tokens, no end",
    "more tokens, fewer reports": "more tokens, fewer reports",
    "more tokens, fewer facts": "more tokens, fewer facts at the end",
    "ample budget changes the output": "ample budget changes the output",
    "crash": "crash",
    "unspent": "more than 5 % left though something was shortened",
}


def delivery_tables(figures: Figures) -> str:
    """Random graphs, the desk, a loop of tools, the time that a plan adds, as Markdown."""
    parts = [
        _graphs(figures["graphs"]["build"]),
        _loop(figures["create_agent"]),
        _desk(figures["desk"]),
    ]
    overhead = RESULTS / "budget_overhead.json"
    if overhead.is_file():
        parts.append(_overhead(json.loads(overhead.read_text(encoding="utf-8"))["figures"]))
    return "\n\n".join(parts)


def _before() -> Figures:
    text = (RESULTS / "delivery_today.json").read_text(encoding="utf-8")
    found: Figures = json.loads(text)["figures"]
    return found


def _graphs(now: Figures) -> str:
    before = _before()["graphs"]["build"]
    rows: list[tuple[Any, ...]] = [
        (said, *(_share(half["faults"][kind]["runs"], half["runs"]) for half in (now, before)))
        for kind, said in _SHOWN.items()
    ]
    left = now["more than 5 % left"]
    rows += [
        (f"... {kind}", count, "") for kind, count in left.items() if kind.startswith("most of it")
    ]
    rows += [
        ("... of these not explained by the report", left["not explained by the report"], ""),
        (
            "... of these avoidable if the others' later use were known",
            left["avoidable with foreknowledge"],
            "",
        ),
        ("left, median", f"{now['unspent_median']:.1%}", f"{before['unspent_median']:.1%}"),
    ]
    head = (
        f"random graphs under plans: {now['graphs']:,} graphs, {now['runs']:,} runs",
        "runs",
        f"version before, {before['runs']} runs",
    )
    return _table(head, rows)


def _share(runs: int, of: int) -> str:
    return f"{runs} ({runs / of:.1%})" if runs else "0"


def _loop(now: Figures) -> str:
    before = _before()["create_agent"]
    rows = [
        (said, now[key], before[key])
        for key, said in (
            ("answered", "answered"),
            ("steps that lose the answer", "steps up that lose the answer"),
            ("steps with fewer searches", "steps up with fewer searches"),
            ("steps with fewer facts", "steps up with fewer facts in the answer"),
            ("overspent", "overspent"),
        )
    ]
    head = f"`create_agent`, four searches, {now['totals']} rising totals"
    return _table((head, "now", "version before"), rows)


def _desk(rows: Sequence[Figures]) -> str:
    before = {_which(row): row for row in _before()["desk"]}
    shown = [
        (
            f"{row['total']:,} tokens, {row['rounds']} round{'s' * (row['rounds'] != 1)}, "
            f"facts {row['facts']}",
            f"{row['same decision']} of {row['runs']}",
            f"{row['reports made up or empty']}",
            f"{row['facts lost']:.1%}",
            f"{before[_which(row)]['facts lost']:.1%}",
        )
        for row in rows
    ]
    head = ("the desk", "same decision", "reports made up", "facts lost", "version before")
    return _table(head, shown)


def _overhead(figures: Figures) -> str:
    rows = [
        (name, f"{row['ratio']:.3f}", f"{row['CPU added per call, ms']:.1f} ms")
        for name, row in figures.items()
        if isinstance(row, dict)
    ]
    seconds = f"{figures['calls of a run']} calls of {figures['seconds of a call'] * 1_000:.0f} ms"
    head = (f"a run of {seconds} under a plan", "time, of the run's own", "CPU added per call")
    return _table(head, rows)


def _which(row: Figures) -> tuple[Any, ...]:
    return row["total"], row["rounds"], row["facts"]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])
