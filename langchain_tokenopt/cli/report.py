"""Commands that say how a period went, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_tokenopt.cli.app import printable
from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.spend import (
    by_cost,
    effect_as_json,
    print_effects,
    print_stats,
    rows_as_json,
)
from langchain_tokenopt.cli.tables import print_usage, totals_as_json, write_json

__all__ = ["report"]


@asks(hours=24)
def report(
    asked: Question,
    ab: Annotated[
        bool, typer.Option("--ab", help="Compare the halves of a QualityGuard(mode='split').")
    ] = False,
) -> None:
    """Show a period on one page: totals, savings, largest consumers, and what to do.

    Example: tokenopt report --hours 24
    """
    from langchain_tokenopt.cli.advice import Facts, recommendations

    if ab:
        from langchain_tokenopt.cli.split import print_halves

        with asked.opened() as opened:
            print_halves(opened.calls(**asked.where), as_json=asked.as_json)
        return
    with asked.opened() as opened:
        facts = Facts.of(opened, **asked.where)
        asked.refuse_empty(opened, facts.totals.calls or facts.effects)
    advice = recommendations(facts)
    groups = (("agent", facts.by_agent), ("model", facts.by_model), ("tool", facts.by_tool))
    ranked = {
        key: by_cost({(name,): totals for name, totals in found.items()}) for key, found in groups
    }
    period = asked.period
    if asked.as_json:
        write_json(
            {
                "since": period.since and period.since.isoformat(),
                "until": period.until and period.until.isoformat(),
                "totals": totals_as_json(facts.totals),
                "savings": [effect_as_json(effect) for effect in facts.effects],
                **{f"{key}s": rows_as_json([key], found) for key, found in ranked.items()},
                "recommendations": [
                    {"figure": line.figure, "advice": line.advice} for line in advice
                ],
            }
        )
        return
    typer.echo(f"Calls {period}\n")
    print_stats(facts.totals)
    if facts.effects:
        typer.echo("\nSavings by stage\n")
        print_effects(facts.effects)
    for key, found in ranked.items():
        if found.keys() - {("(none)",)}:
            typer.echo(f"\n{key.title()}s\n")
            print_usage([key], found, limit=5)
    typer.echo("\nRecommendations\n")
    for line in advice:
        typer.echo(printable(f"- {line.figure} {line.advice}"))
    if not advice:
        typer.echo("None: no figure of this period calls for one.")
