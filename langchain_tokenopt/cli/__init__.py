"""The command ``tokenopt``: one module per family of commands, registered here.

Starting it must be quick: what is heavy is imported inside the commands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from langchain_tokenopt.cli import (
    budget,
    cache,
    compare,
    context,
    dashboard,
    demo,
    doctor,
    export,
    forecast,
    guard,
    learned,
    limits,
    maintain,
    migrate,
    prices,
    report,
    runs,
    spend,
    suggest,
    text,
    tools,
    validate,
)
from langchain_tokenopt.cli.app import app, main

__all__ = ["app", "main"]

_COMMANDS: Final[dict[str, list[Callable[..., None]]]] = {
    "Begin": [demo.demo, doctor.doctor, validate.validate],
    "What was spent": [
        spend.stats,
        spend.top,
        spend.daily,
        spend.weekly,
        spend.monthly,
        runs.runs,
        runs.run,
        runs.live,
        export.export,
    ],
    "How it goes, and what to do": [
        report.report,
        report.kpi,
        forecast.forecast,
        dashboard.dashboard,
        spend.effectiveness,
        tools.tools,
        limits.limits,
    ],
    "Are answers as good as before": [compare.compare, guard.guard],
    "Before a call": [prices.prices, text.count, text.compress, context.context],
}
_STORES: Final = "Budgets, caches, ledgers"

for _panel, _commands in _COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.command(cls=suggest.OrSuggest, rich_help_panel=_STORES)(budget.budget)
app.add_typer(cache.app, name="cache", rich_help_panel=_STORES)
app.command(cls=learned.VerbFirst, rich_help_panel=_STORES)(learned.learned)
app.command(rich_help_panel=_STORES)(maintain.maintain)
app.command(rich_help_panel=_STORES)(migrate.migrate)
