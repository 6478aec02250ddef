"""The command ``tokenopt``: one module per family of commands, registered here.

Starting it must be quick: what is heavy is imported inside the commands.
"""

from __future__ import annotations

from langchain_tokenopt.cli import budget, cache, demo, limits, spend, text
from langchain_tokenopt.cli.app import app, main

__all__ = ["app", "main"]

app.command()(demo.demo)
app.command()(limits.limits)
app.command()(budget.budget)
for command in (*spend.COMMANDS, *text.COMMANDS):
    app.command()(command)
app.add_typer(cache.app, name="cache")
