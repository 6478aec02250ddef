"""Commands that read a ledger: what was spent, by whom, what was saved, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, printable
from langchain_tokenopt.cli.period import (
    DEFAULT_LEDGER,
    HoursOption,
    LedgerOption,
    Period,
    SinceOption,
    UntilOption,
    local,
    opened_ledger,
    refuse_empty,
)
from langchain_tokenopt.cli.tables import (
    JsonOption,
    LimitOption,
    count,
    format_seconds,
    known_cost,
    print_table,
    print_usage,
    totals_as_json,
    write_json,
)
from langchain_tokenopt.core.dimensions import PERIODS, Grouping
from langchain_tokenopt.pricing.money import exact_usd, format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.core.records import UsageTotals
    from langchain_tokenopt.ledger import Effect

__all__ = ["effectiveness", "report", "runs", "stats", "top"]


_STATS = {
    "calls": "calls",
    "cached_calls": "  answered by a cache",
    "failed_calls": "  failed",
    "estimated_calls": "  tokens estimated",
    "unpriced_calls": "  without a known price",
    "input_tokens": "input tokens",
    "cache_read_tokens": "  read from the provider's cache",
    "cache_write_tokens": "  written to it",
    "output_tokens": "output tokens",
    "reasoning_tokens": "  reasoning",
    "cost_nano_usd": "cost",
    "saved_nano_usd": "saved",
    "saved_tokens": "saved tokens",
}
_DURATIONS = {
    "duration_p50_seconds": "duration, median",
    "duration_p95_seconds": "duration, 95 of 100 within",
    "first_chunk_p50_seconds": "first chunk, median",
    "first_chunk_p95_seconds": "first chunk, 95 of 100 within",
}


def stats(
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the totals of a period: calls, tokens, cost, savings, how long calls took.

    Example: tokenopt stats --since 7d
    """
    period = Period.of(since, until)
    with opened_ledger(ledger) as opened:
        totals = opened.totals(since=period.since, until=period.until, percentiles=True)
        refuse_empty(opened, period, totals.calls or totals.saved_tokens)
    if as_json:
        write_json(totals_as_json(totals) | {name: getattr(totals, name) for name in _DURATIONS})
    else:
        _print_stats(totals, _STATS | _DURATIONS)


def _print_stats(totals: UsageTotals, labels: Mapping[str, str]) -> None:
    rows = []
    for name, label in labels.items():
        value = known_cost(totals) if name == "cost_nano_usd" else getattr(totals, name)
        if name.endswith("_nano_usd"):
            cell = format_usd(value)
        else:
            cell = format_seconds(value) if name.endswith("_seconds") else f"{value:,}"
        rows.append((label, cell))
    print_table(("", "total"), rows)


def top(
    limit: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--limit",
            min=1,
            help="Rows to show: by default 10, but every hour, day or month.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[Grouping, typer.Option("--by", help="What a row stands for.")] = "agent",
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what agents, tools, models, users or days cost: the largest first, days in their order.

    Example: tokenopt top -n 5 --by tool --since 24h
    """
    period = Period.of(since, until)
    with opened_ledger(ledger) as opened:
        groups = opened.by(by, since=period.since, until=period.until, tz=None)
        refuse_empty(opened, period, groups)
    if by in PERIODS:
        limit = limit or len(groups)
        earlier, latest = list(groups.items())[:-limit], list(groups.items())[-limit:]
        groups = dict(latest + earlier)
    else:
        limit = limit or 10
        groups = _by_cost(groups)
    if as_json:
        write_json(_rows(by, groups)[:limit])
    else:
        print_usage(by, groups, limit=limit)


def _by_cost(groups: Mapping[str, UsageTotals]) -> dict[str, UsageTotals]:
    """Put what cost most first; what has no price, by its tokens."""
    return dict(
        sorted(
            groups.items(),
            key=lambda item: (-item[1].cost_nano_usd, -item[1].total_tokens, item[0]),
        )
    )


def _rows(key: str, groups: Mapping[str, UsageTotals]) -> list[dict[str, Any]]:
    return [{key: name} | totals_as_json(totals) for name, totals in groups.items()]


def runs(
    limit: LimitOption = 20,
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the latest runs, newest first, each with what it cost.

    Example: tokenopt runs -n 5
    """
    period = Period.of(since, until)
    with opened_ledger(ledger) as opened:
        found = opened.runs(since=period.since, until=period.until, limit=limit)
        refuse_empty(opened, period, found)
    if as_json:
        write_json(
            [
                {
                    "run": run.run,
                    "started_at": run.started_at.isoformat(),
                    "seconds": (run.ended_at - run.started_at).total_seconds(),
                }
                | totals_as_json(run.totals)
                for run in found
            ]
        )
        return
    rows = (
        (
            run.run,
            local(run.started_at)[5:],
            format_seconds((run.ended_at - run.started_at).total_seconds()),
            f"{run.totals.calls:,}",
            count(run.totals.total_tokens),
            format_usd(known_cost(run.totals)),
        )
        for run in found
    )
    print_table(("run", "started", "took", "calls", "tokens", "cost"), rows)


def effectiveness(
    hours: HoursOption = 24,
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show for each optimizer what it saved, what it spent itself, and what remains.

    Example: tokenopt effectiveness --hours 168
    """
    period = Period.of(since, until, hours)
    with opened_ledger(ledger) as opened:
        effects = opened.effects(since=period.since, until=period.until)
        if not effects:
            totals = opened.totals(since=period.since, until=period.until)
            refuse_empty(opened, period, totals.calls)
            raise CommandError(
                f"no optimizer acted {period}. Put one around your model: "
                f"optimize(model, PromptCompressor(...))."
            )
    if as_json:
        write_json([_effect_as_json(effect) for effect in effects])
    else:
        _print_effects(effects)


def _saved_money(effect: Effect) -> int | None:
    """Return the money saved; ``None`` where no use had a price."""
    return None if effect.uses == effect.unpriced_uses else effect.saved_nano_usd


def _effect_as_json(effect: Effect) -> dict[str, Any]:
    return {
        "optimizer": effect.stage,
        "uses": effect.uses,
        "tokens_before": effect.tokens_before,
        "tokens_after": effect.tokens_after,
        "saved_tokens": effect.gross_saved_tokens,
        "spent_tokens": effect.spent_tokens,
        "net_saved_tokens": effect.net_saved_tokens,
        "saved_usd": exact_usd(_saved_money(effect)),
        "unpriced_uses": effect.unpriced_uses,
        "estimated_uses": effect.inexact_uses,
        "observed": effect.observed,
    }


def _print_effects(effects: Sequence[Effect]) -> None:
    rows = (
        (
            effect.stage + (" (only watched)" if effect.observed else ""),
            count(effect.uses),
            count(effect.tokens_before),
            count(effect.tokens_after),
            count(effect.gross_saved_tokens),
            count(effect.spent_tokens),
            count(effect.net_saved_tokens),
            format_usd(_saved_money(effect)),
        )
        for effect in effects
    )
    figures = ("uses", "tokens before", "after", "saved", "spent itself", "net saved", "money")
    print_table(("optimizer", *figures), rows)


def report(
    hours: HoursOption = 24,
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    ab: Annotated[
        bool, typer.Option("--ab", help="Compare the halves of a QualityGuard(mode='split').")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a period on one page: totals, savings, largest consumers, and what to do.

    Example: tokenopt report --hours 24
    """
    from langchain_tokenopt.cli.advice import Facts, recommendations

    period = Period.of(since, until, hours)
    if ab:
        from langchain_tokenopt.cli.split import print_halves

        with opened_ledger(ledger) as opened:
            calls = opened.calls(since=period.since, until=period.until)
            print_halves(calls, as_json=as_json)
        return
    with opened_ledger(ledger) as opened:
        facts = Facts.of(opened, period.since, period.until)
        refuse_empty(opened, period, facts.totals.calls or facts.effects)
    advice = recommendations(facts)
    groups = {"agent": facts.by_agent, "model": facts.by_model, "tool": facts.by_tool}
    groups = {key: _by_cost(totals) for key, totals in groups.items()}
    if as_json:
        write_json(
            {
                "since": period.since and period.since.isoformat(),
                "until": period.until and period.until.isoformat(),
                "totals": totals_as_json(facts.totals),
                "savings": [_effect_as_json(effect) for effect in facts.effects],
                **{f"{key}s": _rows(key, totals) for key, totals in groups.items()},
                "recommendations": [
                    {"figure": line.figure, "advice": line.advice} for line in advice
                ],
            }
        )
        return
    typer.echo(f"Calls {period}\n")
    _print_stats(facts.totals, _STATS)
    if facts.effects:
        typer.echo("\nSavings by stage\n")
        _print_effects(facts.effects)
    for key, totals in groups.items():
        if totals.keys() - {"(none)"}:
            typer.echo(f"\n{key.title()}s\n")
            print_usage(key, totals, limit=5)
    typer.echo("\nRecommendations\n")
    for line in advice:
        typer.echo(printable(f"- {line.figure} {line.advice}"))
    if not advice:
        typer.echo("None: no figure of this period calls for one.")
