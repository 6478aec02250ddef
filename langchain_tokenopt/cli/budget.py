"""The command that shows the budgets in a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
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
    from langchain_tokenopt.budget import reports_in

    found = reports_in(store)
    wanted = [
        report for report in found if name in (None, report.budget) and run in (None, report.run)
    ]
    if not wanted:
        asked = " and ".join(
            f"{what} {value!r}" for what, value in (("name", name), ("run", run)) if value
        )
        raise CommandError(
            f"{store} has {len(found):,} budgets"
            + (f", none with {asked}." if asked else ". Make one with plan.run(store=...).")
        )
    return wanted


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
    for report in reports:
        if report.possible_surplus_tokens:
            typer.echo(
                f"{report.budget} {report.run}: up to {report.possible_surplus_tokens:,} tokens "
                f"more, if providers wrote on when answers had been cut off."
            )


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
