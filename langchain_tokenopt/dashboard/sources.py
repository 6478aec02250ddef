"""What the dashboard shows beside the ledger: budgets, a cache, a guard, comparisons."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langchain_tokenopt.budget import BudgetReport, reports_in
from langchain_tokenopt.cache.file_stats import stats_in
from langchain_tokenopt.cache.stats import CacheStats
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.dashboard.tables import Column, Table
from langchain_tokenopt.evaluate.guard_state import found_in
from langchain_tokenopt.storage.places import file_of, label_of

__all__ = ["Sources"]

_UNREADABLE = (TokenOptError, OSError, sqlite3.Error, ValueError, TypeError, LookupError)


@dataclass(frozen=True, slots=True)
class Sources:
    """Files and databases that are read, and never written. Each may be missing or come later."""

    budgets: str | None = None
    """Store of ``plan.run(path=...)``."""
    cache: str | None = None
    """File of ``SemanticCache(path)``."""
    guard: str | None = None
    """File of ``QualityGuard(path=...)``."""
    comparisons: Sequence[str] = ()
    """Files that ``tokenopt compare --json`` has written."""

    def budget_reports(self) -> tuple[list[BudgetReport], str]:
        """Return the budgets, the fullest first, and what went wrong."""
        if self.budgets is None:
            return [], ""
        try:
            found = reports_in(self.budgets)
        except _UNREADABLE as error:
            return [], _said(self.budgets, error)
        return sorted(found, key=lambda each: (-each.used_ratio, each.budget, each.owner)), ""

    def cache_stats(self) -> tuple[CacheStats | None, str]:
        """Return what the cache file says, and what went wrong."""
        if self.cache is None:
            return None, ""
        try:
            return stats_in(self.cache), ""
        except _UNREADABLE as error:
            return None, _said(self.cache, error)

    def guarded(self) -> Table:
        """Return at which level a guard holds each agent's stages."""
        note, rows = "", []
        if self.guard is not None:
            try:
                file = file_of(self.guard)
                if not file.is_file():
                    raise FileNotFoundError(f"There is no file {file}.")
                for found in found_in(file):
                    until = None if not found.until else datetime.fromtimestamp(found.until, UTC)
                    verdict = f"worse: level {found.level}" if found.level else "not worse so far"
                    change = None if found.difference is None else 100 * found.difference
                    row = (found.agent, found.kind, found.judge or "", verdict, change)
                    rows.append((*row, found.trials, until))
            except _UNREADABLE as error:
                note = _said(self.guard, error)
        return Table(
            "guard",
            "Quality guard",
            (
                Column("agent"),
                Column("answers"),
                Column("judge"),
                Column("verdict"),
                Column("difference", "points"),
                Column("trials", "count"),
                Column("tried again", "time"),
            ),
            rows,
            empty="Nothing is guarded here. Put `QualityGuard(path='guard.db')` around your stages "
            "and start with `--guard guard.db`.",
            tones=["bad" if row[3].startswith("worse") else "good" for row in rows],
            note=note,
        )

    def compared(self) -> Table:
        """Return the verdicts of comparisons."""
        rows: list[tuple[Any, ...]] = []
        notes = []
        for file in self.comparisons:
            try:
                said = json.loads(Path(file).read_text(encoding="utf-8"))
                saved = said["savings"].get("tokens", {}).get("value")
                for judge in said["judges"]:
                    ends = (
                        100 * float(judge["difference"][end]) for end in ("value", "low", "high")
                    )
                    row = (Path(file).stem, str(judge["name"]), str(judge["verdict"]), *ends)
                    rows.append((*row, int(judge["judged"]), saved and float(saved)))
            except (*_UNREADABLE, AttributeError) as error:
                notes.append(f"{file} is no file of `tokenopt compare --json`: {error!r}.")
        return Table(
            "comparisons",
            "A/B comparisons",
            (
                Column("comparison"),
                Column("judge"),
                Column("verdict"),
                Column("difference", "points"),
                Column("from", "points"),
                Column("to", "points"),
                Column("cases", "count"),
                Column("tokens saved", "ratio"),
            ),
            rows,
            empty="None is shown. Run `tokenopt compare app:pair --cases cases.jsonl --json > "
            "verdict.json` and start with `--comparison verdict.json`.",
            tones=[{"worse": "bad", "not worse": "good"}.get(row[2], "watch") for row in rows],
            note=" ".join(notes),
        )


def _said(location: str, error: Exception) -> str:
    """Say what cannot be read, without a password, and why."""
    name, why = label_of(location), str(error)
    return why if name in why else f"{name} cannot be read: {why}."
