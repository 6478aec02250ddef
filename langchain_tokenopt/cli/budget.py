"""The command that shows the budgets in a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, format_cost, print_table

if TYPE_CHECKING:
    from langchain_tokenopt.budget import AgentReport, BudgetReport

__all__ = ["budget"]


def budget(
    store: Annotated[str, typer.Argument(help="The file that plan.run(store=...) writes.")],
    name: Annotated[str | None, typer.Option(help="Only the budgets of this name.")] = None,
    run: Annotated[
        str | None, typer.Option(help="Only this run (its thread); also shows its agents.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show what every budget in a store has spent and holds, and one run agent by agent.

    Example: tokenopt budget budgets.db --run thread-17
    """
    reports = _reports(store, name, run)
    if as_json:
        typer.echo(json.dumps([_as_json(report) for report in reports], ensure_ascii=False))
        return
    _print_budgets(reports)
    for report in reports if run is not None else ():
        typer.echo()
        _print_agents(list(report.agents.values()))


def _reports(store: str, name: str | None, run: str | None) -> list[BudgetReport]:
    """Read the accounts that were asked for."""
    from langchain_tokenopt.budget import TokenBudget
    from langchain_tokenopt.budget.store import accounts_in

    accounts = accounts_in(store)
    wanted = [
        (own_name, own_run, totals)
        for own_name, own_run, totals in accounts
        if name in (None, own_name) and run in (None, own_run)
    ]
    if not wanted:
        asked = " and ".join(
            f"{what} {value!r}" for what, value in (("name", name), ("run", run)) if value
        )
        raise CommandError(
            f"{store} has {len(accounts):,} budgets"
            + (f", none with {asked}." if asked else ". Make one with plan.run(store=...).")
        )
    reports = []
    for own_name, own_run, totals in wanted:
        nano = totals.total_nano_usd
        usd = None if nano is None else Decimal(nano) / 1_000_000_000
        account = TokenBudget(totals.total_tokens, usd, store, own_name, run=own_run)
        reports.append(account.report())
        account.close()
    return reports


def _as_json(report: BudgetReport) -> dict[str, Any]:
    return asdict(report) | {
        "left_tokens": report.left_tokens,
        "used_ratio": round(report.used_ratio, 4),
    }


def _print_budgets(reports: Sequence[BudgetReport]) -> None:
    from rich.table import Column, Table

    figures = ("total", "spent", "held", "left", "used", "surplus", "cost")
    table = Table(
        "budget", "run", *(Column(name, justify="right") for name in figures), "state", box=None
    )
    for report in reports:
        table.add_row(
            report.budget,
            report.run,
            f"{report.total_tokens:,}",
            f"{report.spent_tokens:,}",
            f"{report.held_tokens:,}",
            f"{report.left_tokens:,}",
            f"{report.used_ratio:.1%}",
            f"{report.surplus_tokens:,}",
            format_cost(report.spent_nano_usd if report.total_nano_usd is not None else None),
            _state(report),
        )
    print_table(table)


def _state(report: BudgetReport) -> str:
    if report.stopped:
        return "stopped"
    return f"passed {max(report.alerts)} %" if report.alerts else ""


def _print_agents(agents: Sequence[AgentReport]) -> None:
    from rich.table import Column, Table

    figures = ("allocated", "spent", "held", "available", "returned", "calls", "denied")
    table = Table("agent", *(Column(name, justify="right") for name in figures), "", box=None)
    for line in sorted(agents, key=lambda line: (-line.spent_tokens, line.agent)):
        table.add_row(
            line.agent,
            f"{line.allocated_tokens:,}",
            f"{line.spent_tokens:,}",
            f"{line.held_tokens:,}",
            f"{line.available_tokens:,}",
            f"{line.returned_tokens:,}",
            f"{line.calls:,}",
            f"{line.denied_calls:,}",
            "finished" if line.finished else "",
        )
    print_table(table)
