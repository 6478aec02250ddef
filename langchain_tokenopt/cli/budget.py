"""The command that shows the budgets in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokenopt.cli.app import CommandError, named_file, say
from langchain_tokenopt.cli.tables import JsonOption, print_table, tell, write_json
from langchain_tokenopt.pricing.money import format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.budget import AgentReport, BudgetReport

__all__ = ["budget"]


def budget(
    store: Annotated[str | None, typer.Argument(help="As --budgets.", hidden=True)] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budgets",
            envvar="TOKENOPT_BUDGETS",
            help="The file, or URL of the database, of plan.run(path=...).",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only the budgets of this name.")] = None,
    run: Annotated[
        str | None, typer.Option(help="Only this run (its thread); also shows its agents.")
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(help="Only those of this user, organization or thread; also their agents."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what every budget in a store has spent and holds, and one run agent by agent.

    Budgets of users, organizations, threads and windows of time stand beside those of runs, with
    the time at which there is a new total. To have a plan proposed for a graph, see
    "tokenopt budget suggest -h".

    Example: tokenopt budget --budgets budgets.db --run thread-17
    """
    wanted = {"name": name, "run": run, "owner": owner}
    reports = _reports(named_file("budgets", budgets, store), wanted)
    if as_json:
        write_json(
            [
                asdict(report)
                | _times(report)
                | {"left_tokens": report.left_tokens, "used_ratio": round(report.used_ratio, 4)}
                for report in reports
            ]
        )
        return
    _print_budgets(reports)
    for report in reports if run is not None or owner is not None else ():
        typer.echo()
        _print_agents(list(report.agents.values()))


def _reports(store: str, asked_for: Mapping[str, str | None]) -> list[BudgetReport]:
    """Read the accounts that were asked for."""
    from langchain_tokenopt.budget import reports_in
    from langchain_tokenopt.storage.places import label_of

    found = reports_in(store)
    wanted = [
        report
        for report in found
        if asked_for["name"] in (None, report.budget)
        and asked_for["run"] in (None, report.run)
        and (asked_for["owner"] is None or (report.owner, report.run) == (asked_for["owner"], ""))
    ]
    if not wanted:
        asked = " and ".join(f"{what} {value!r}" for what, value in asked_for.items() if value)
        raise CommandError(
            f"{label_of(store)} has {len(found):,} budgets"
            + (f", none with {asked}." if asked else ". Make one with plan.run(path=...).")
        )
    return wanted


def _print_budgets(reports: Sequence[BudgetReport]) -> None:
    figures = ("total", "spent", "held", "left", "used", "surplus", "cost")
    rows = (
        (
            report.budget,
            report.per,
            report.owner,
            _total(report),
            f"{report.spent_tokens:,}",
            f"{report.held_tokens:,}",
            f"{report.left_tokens:,}" if report.limits_tokens else "",
            f"{report.used_ratio:.1%}",
            f"{report.surplus_tokens:,}",
            format_usd(report.spent_nano_usd if report.total_nano_usd is not None else None),
            report.resets,
            _state(report),
        )
        for report in reports
    )
    words = ("per", "whose", "resets", "state")
    print_table(("budget", "per", "whose", *figures, *words[2:]), rows, words=words)
    for report in reports:
        if report.possible_surplus_tokens:
            tell(
                f"{report.budget} {report.run}: up to {report.possible_surplus_tokens:,} tokens "
                f"more, if providers wrote on when answers had been cut off."
            )


def _times(report: BudgetReport) -> dict[str, str | None]:
    moments = {"starts_at": report.starts_at, "resets_at": report.resets_at}
    return {name: None if at is None else at.isoformat() for name, at in moments.items()}


def _total(report: BudgetReport) -> str:
    limits = [f"{report.total_tokens:,}"] if report.limits_tokens else []
    if report.total_nano_usd is not None:
        limits.append(format_usd(report.total_nano_usd))
    return ", ".join(limits)


def _state(report: BudgetReport) -> str:
    if report.stopped:
        return "stopped"
    return f"passed {max(report.alerts):.0%}" if report.alerts else ""


def _print_agents(agents: Sequence[AgentReport]) -> None:
    figures = ("allocated", "spent", "held", "available", "returned", "calls", "denied")
    rows = (
        (
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
        for line in sorted(agents, key=lambda line: (-line.spent_tokens, line.agent))
    )
    print_table(("agent", *figures, "state"), rows, words=("state",))
    if any(line.spent_tokens > line.allocated_tokens > 0 for line in agents):
        say(
            "who has spent more than was allocated has taken what others left, or what nobody has "
            "claimed."
        )
