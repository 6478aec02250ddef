"""The command ``tokenopt``: one module per family of commands, registered here.

Starting it must be quick: what is heavy is imported inside the commands.
"""

from __future__ import annotations

from langchain_tokenopt.cli import (
    budget,
    cache,
    compare,
    dashboard,
    demo,
    doctor,
    export,
    guard,
    limits,
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

for command in (
    demo.demo,
    spend.stats,
    spend.top,
    spend.daily,
    spend.weekly,
    spend.monthly,
    runs.runs,
    runs.run,
    runs.live,
    report.report,
    report.kpi,
    dashboard.dashboard,
    spend.effectiveness,
    tools.tools,
    compare.compare,
    validate.validate,
    guard.guard,
    limits.limits,
    prices.prices,
    export.export,
    doctor.doctor,
    migrate.migrate,
    text.compress,
    text.count,
):
    app.command()(command)
app.command(cls=suggest.OrSuggest)(budget.budget)
app.add_typer(cache.app, name="cache")
