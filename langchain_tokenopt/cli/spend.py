"""Commands that read a ledger: what was spent, by whom, what was saved, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.tables import (
    count,
    known_cost,
    print_table,
    print_usage,
    totals_as_json,
    write_json,
)
from langchain_tokenopt.core.dimensions import GROUPINGS, PERIODS, Grouping, check_groupings
from langchain_tokenopt.core.durations import format_seconds
from langchain_tokenopt.pricing.money import exact_usd, format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.core.records import UsageTotals
    from langchain_tokenopt.ledger import Effect

__all__ = [
    "by_cost",
    "daily",
    "effect_as_json",
    "effectiveness",
    "monthly",
    "print_effects",
    "print_stats",
    "rows_as_json",
    "stats",
    "top",
    "weekly",
]

_Groups = Mapping[tuple[str, ...], "UsageTotals"]


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


@asks()
def stats(asked: Question) -> None:
    """Show the totals of a period: calls, tokens, cost, savings, how long calls took.

    Example: tokenopt stats --since 7d --user ada
    """
    with asked.opened() as opened:
        totals = opened.totals(**asked.where, percentiles=True)
        asked.refuse_empty(opened, totals.calls or totals.saved_tokens)
    if asked.as_json:
        write_json(totals_as_json(totals) | {name: getattr(totals, name) for name in _DURATIONS})
    else:
        print_stats(totals, _STATS | _DURATIONS)


def print_stats(totals: UsageTotals, labels: Mapping[str, str] = _STATS) -> None:
    """Print totals, one figure a line."""
    rows = []
    for name, label in labels.items():
        value = known_cost(totals) if name == "cost_nano_usd" else getattr(totals, name)
        if name.endswith("_nano_usd"):
            cell = format_usd(value)
        else:
            cell = format_seconds(value) if name.endswith("_seconds") else f"{value:,}"
        rows.append((label, cell))
    print_table(("", "total"), rows)


_LimitOption = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--limit",
        min=1,
        help="Rows to show: by default 10, but every hour, day, week or month.",
        show_default=False,
    ),
]


@asks()
def top(
    asked: Question,
    limit: _LimitOption = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            autocompletion=lambda: list(GROUPINGS),
            metavar="NAME",
            help=f"What a row stands for: {', '.join(GROUPINGS)}. Agent, if not given; several: "
            "--by user,agent.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what agents, tools, models, users or weeks cost: the largest first, weeks in order.

    Example: tokenopt top -n 5 --by user,agent --since 24h
    """
    chosen = dict.fromkeys(word.strip() for each in by or ["agent"] for word in each.split(","))
    try:
        check_groupings(chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--by") from error
    _show_groups(asked, [name for each in chosen for name in GROUPINGS if name == each], limit)


@asks()
def daily(asked: Question, limit: _LimitOption = None) -> None:
    """Show what every day cost.

    Example: tokenopt daily --since 7d --agent news
    """
    _show_groups(asked, ["day"], limit)


@asks()
def weekly(asked: Question, limit: _LimitOption = None) -> None:
    """Show what every week cost, from Monday to Sunday.

    Example: tokenopt weekly --user ada
    """
    _show_groups(asked, ["week"], limit)


@asks()
def monthly(asked: Question, limit: _LimitOption = None) -> None:
    """Show what every month cost.

    Example: tokenopt monthly --model gpt-4o
    """
    _show_groups(asked, ["month"], limit)


def _show_groups(asked: Question, dimensions: Sequence[Grouping], limit: int | None) -> None:
    with asked.opened() as opened:
        found = opened.by(*dimensions, **asked.where, tz=None)
        asked.refuse_empty(opened, found)
    groups: _Groups = {(name,) if isinstance(name, str) else name: t for name, t in found.items()}
    if not set(dimensions).isdisjoint(PERIODS):
        limit = limit or len(groups)
        earlier, latest = list(groups.items())[:-limit], list(groups.items())[-limit:]
        groups = dict(latest + earlier)
    else:
        limit = limit or 10
        groups = by_cost(groups)
    if asked.as_json:
        write_json(rows_as_json(dimensions, groups)[:limit])
    else:
        print_usage(dimensions, groups, limit=limit)


def by_cost(groups: _Groups) -> dict[tuple[str, ...], UsageTotals]:
    """Put what cost most first; what has no price, by its tokens."""
    return dict(
        sorted(
            groups.items(),
            key=lambda item: (-item[1].cost_nano_usd, -item[1].total_tokens, item[0]),
        )
    )


def rows_as_json(keys: Sequence[str], groups: _Groups) -> list[dict[str, Any]]:
    """Return a row per group: its name, its totals, its shares of all tokens and of all costs."""
    tokens = sum(totals.total_tokens for totals in groups.values())
    cost = sum(totals.cost_nano_usd for totals in groups.values())
    return [
        dict(zip(keys, name, strict=True))
        | totals_as_json(totals)
        | {
            "tokens_share": round(totals.total_tokens / tokens, 6) if tokens else None,
            "cost_share": round(totals.cost_nano_usd / cost, 6) if cost else None,
        }
        for name, totals in groups.items()
    ]


@asks(hours=24)
def effectiveness(asked: Question) -> None:
    """Show for each optimizer what it saved, what it spent itself, and what remains.

    Example: tokenopt effectiveness --hours 168
    """
    with asked.opened() as opened:
        effects = opened.effects(**asked.where)
        if not effects and not asked.as_json:
            asked.refuse_empty(opened, opened.totals(**asked.where).calls)
            raise CommandError(
                f"no optimizer acted {asked.period}. Put one around your model: "
                f"optimize(model, PromptCompressor(...))."
            )
    if asked.as_json:
        write_json([effect_as_json(effect) for effect in effects])
    else:
        print_effects(effects)


def _saved_money(effect: Effect) -> int | None:
    """Return the money saved; ``None`` where no use had a price."""
    return None if effect.uses == effect.unpriced_uses else effect.saved_nano_usd


def effect_as_json(effect: Effect) -> dict[str, Any]:
    """Return what an optimizer brought, for machines."""
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


def print_effects(effects: Sequence[Effect]) -> None:
    """Print a row per optimizer."""
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
