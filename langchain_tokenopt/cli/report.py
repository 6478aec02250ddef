"""Commands that say how a period went, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.period import opened_ledger
from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.spend import (
    by_cost,
    effect_as_json,
    print_effects,
    print_stats,
    rows_as_json,
)
from langchain_tokenopt.cli.tables import (
    print_table,
    print_usage,
    tell,
    totals_as_json,
    write_json,
)
from langchain_tokenopt.core.dimensions import filters_in_words
from langchain_tokenopt.pricing.money import exact_usd, format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.ledger import Ledger
    from langchain_tokenopt.report import Facts, Kpi, Recommendation

__all__ = ["kpi", "report"]


def _facts(asked: Question, ledger: Ledger) -> tuple[Facts, Facts | None]:
    """Return what there is about the period, and about the one before it."""
    from langchain_tokenopt.report import Facts

    since, now = asked.period.since, datetime.now(UTC)
    until = asked.period.until or now
    if since is None:
        span = ledger.span()
        since = span[0] if span else now
    length = until - since
    now_facts = Facts.of(ledger, since, asked.period.until or until, now=now, **asked.filters)
    return now_facts, Facts.of(
        ledger, since - length, since, now=since, beside=False, **asked.filters
    )


@asks(hours=24)
def kpi(
    asked: Question,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the figures in the ledger, under this hour.")
    ] = False,
) -> None:
    """Show sixteen key figures with their targets and the change against the period before.

    Example: tokenopt kpi --since 7d
    """
    from langchain_tokenopt.report import kpis
    from langchain_tokenopt.report.kpis import snapshots_of

    if keep and asked.filters:
        raise CommandError("figures are kept for all calls: --keep goes with no filter.")
    with asked.opened() as opened:
        facts, before = _facts(asked, opened)
        asked.refuse_empty(opened, facts.totals.calls)
    found, earlier = kpis(facts), kpis(before) if before else []
    if keep and facts.since and facts.until:
        with opened_ledger(asked.location, read_only=False) as writable:
            writable.keep_snapshot(snapshots_of(found, facts.until, facts.until - facts.since))
    if asked.as_json:
        write_json(_kpis_as_json(found, earlier))
    else:
        _print_kpis(found, earlier)
        _say_forecast(facts)


def _kpis_as_json(found: Sequence[Kpi], earlier: Sequence[Kpi]) -> list[dict[str, Any]]:
    from langchain_tokenopt.report import state_of

    before = {each.name: each.value for each in earlier}
    return [
        asdict(each) | {"before": before.get(each.name), "state": state_of(each)} for each in found
    ]


def _print_kpis(found: Sequence[Kpi], earlier: Sequence[Kpi]) -> None:
    from langchain_tokenopt.report import state_of
    from langchain_tokenopt.report.values import format_change, format_kpi

    before = {each.name: each for each in earlier}
    print_table(
        ("key figure", "value", "before", "change", "n", "left out", "target"),
        [
            (
                each.title,
                format_kpi(each),
                format_kpi(before[each.name]) if each.name in before else "",
                format_change(each, before.get(each.name)),
                f"{each.n:,}",
                f"{each.n_excluded:,}",
                "" if state_of(each) == "none" else state_of(each),
            )
            for each in found
        ],
        words=("target",),
    )


def _say_forecast(facts: Facts) -> None:
    from langchain_tokenopt.report.values import format_forecast

    if facts.totals.calls and facts.forecast:
        say(format_forecast(facts.forecast))


@asks(hours=24)
def report(
    asked: Question,
    ab: Annotated[
        bool, typer.Option("--ab", help="Compare the halves of a QualityGuard(mode='split').")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write it as a page into this file.", show_default=False),
    ] = None,
) -> None:
    """Show a period on one page: totals, savings, largest consumers, and what to do.

    Example: tokenopt report --since 7d --html report.html
    """
    from langchain_tokenopt.report import recommendations

    if ab:
        from langchain_tokenopt.cli.split import print_halves

        with asked.opened() as opened:
            print_halves(opened.calls(**asked.where), as_json=asked.as_json)
        return
    with asked.opened() as opened:
        facts, before = _facts(asked, opened)
        asked.refuse_empty(opened, facts.totals.calls or facts.effects)
    asked_for = filters_in_words(asked.filters)
    if html is not None:
        from langchain_tokenopt.report.page import page_of

        html.write_text(
            page_of(facts, before, title=f"Calls{asked_for} {asked.period}"), encoding="utf-8"
        )
        say(f"the report is in {html}.")
        if not asked.as_json:
            return
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
                "filters": asked.filters,
                "totals": totals_as_json(facts.totals),
                "savings": [effect_as_json(effect) for effect in facts.effects],
                **{f"{key}s": rows_as_json([key], found) for key, found in ranked.items()},
                "recommendations": [
                    {
                        "figure": line.figure,
                        "advice": line.advice,
                        "command": line.command,
                        "saved_usd": exact_usd(line.saved_nano_usd),
                    }
                    for line in advice
                ],
            }
        )
        return
    tell(f"Calls{asked_for} {period}\n")
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
        _tell_advice(line)
    if not advice:
        typer.echo("None: no figure of this period calls for one.")


def _tell_advice(line: Recommendation) -> None:
    saved = line.saved_nano_usd
    worth = "" if saved is None else f" Expected saving: about {format_usd(saved)}."
    tell(f"- {line.figure} {line.advice}{worth}")
    if line.command:
        typer.echo(f"  $ {line.command}")
