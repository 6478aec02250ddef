"""The tables of ``agents_routing``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["routing_tables"]

Figures = Mapping[str, Any]


def routing_tables(figures: Figures) -> str:
    """Quality, time and the bill of a cascade, as Markdown."""
    return "\n\n".join(
        (_quality(figures["gsm8k"]), _cascade(figures["cascade"]), _time(figures["decisions"]))
    )


def _quality(gsm8k: Figures) -> str:
    rows = [
        [
            name,
            f"{way['apgr']:.3f} ({way['low']:.3f} to {way['high']:.3f})",
            f"{way['cpt50']:.0%}",
            f"{way['cpt80']:.0%}",
        ]
        for name, way in gsm8k["ways"].items()
    ]
    head = [
        f"gsm8k, {gsm8k['questions']:,} questions, {gsm8k['parts']}-fold",
        "APGR (95 %)",
        "strong calls for 50 % of the gap",
        "for 80 %",
    ]
    said = "; ".join(
        f"{name}: {more['low']:+.3f} to {more['high']:+.3f}"
        for name, more in gsm8k["ahead_of_length"].items()
    )
    return f"{_table(head, rows)}\n\nAhead of the prompt's length on the same draws, {said}."


def _cascade(cascade: Figures) -> str:
    rows = [
        [
            name,
            f"{found['parsed']:,}",
            f"{found['asked']['cheap']:,}",
            f"{found['asked']['strong']:,}",
            f"{found['tokens']:,}",
            f"${found['cost_usd']:.4f}",
        ]
        for name, found in cascade.items()
        if name != "requests"
    ]
    head = [f"{cascade['requests']:,} requests", "parsed", "cheap asked", "strong asked"]
    return _table([*head, "tokens", "bill"], rows)


def _time(decisions: Figures) -> str:
    said = {
        "nothing_known": "a decision, nothing known yet",
        "2,000_outcomes": "... 2,000 outcomes known",
        "5,000_words": "... about a prompt of 5,000 words",
    }
    rows = [
        [title, f"{decisions[name]['p50']:.2f} ms", f"{decisions[name]['p95']:.2f} ms"]
        for name, title in said.items()
    ]
    call = decisions["call"]
    for name, title in (
        ("plain", "a call of a model that takes no time"),
        ("routed", "... routed"),
    ):
        rows.append([title, f"{call[name]['p50']:.2f} ms", f"{call[name]['p95']:.2f} ms"])
    return _table([f"of {call['plain']['n']:,} questions", "own work, median", "95 % within"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
