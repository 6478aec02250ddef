"""The command that shows what a model charges, and why a call costs what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.period import (
    DEFAULT_LEDGER,
    LedgerOption,
    opened_ledger,
    parse_moment,
)
from langchain_tokenopt.cli.tables import JsonOption, print_table, tell, write_json
from langchain_tokenopt.core.argument_checks import did_you_mean
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import TOKEN_COUNTS, Usage
from langchain_tokenopt.pricing.money import exact_usd

if TYPE_CHECKING:
    from langchain_tokenopt.pricing.explanation import PriceExplanation

__all__ = ["prices"]


def prices(
    model: Annotated[
        str | None, typer.Argument(help="The model, as its provider calls it.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Such as openai or anthropic; guessed by default.")
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", help="The day, as --since. Now by default.")
    ] = None,
    tier: Annotated[str | None, typer.Option(help="Service tier, such as flex.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Prices of the batch API.")] = False,
    explain: Annotated[
        str | None,
        typer.Option(help="A run, or a call, of the ledger: why it costs what it costs."),
    ] = None,
    usage: Annotated[
        str | None,
        typer.Option(help="Tokens to price by hand: input=9000,output=200,cache_read=8000."),
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show what a model charges, in US dollars per million tokens, or why a call costs what it did.

    Example: tokenopt prices claude-sonnet-4-5 --on 2026-01-01
    """
    from langchain_tokenopt.pricing.price_list import known_providers
    from langchain_tokenopt.pricing.rate_card import RateCard

    now = datetime.now(UTC)
    at = now if on is None else parse_moment(on, now=now)
    try:
        card = RateCard()
    except (ValueError, OSError) as error:
        raise CommandError(f"the price file of TOKENOPT_PRICES cannot be used: {error}") from error
    if explain is not None:
        _show([card.explain(call) for call in _calls_of(explain, ledger)], as_json=as_json)
        return
    if model is None:
        raise CommandError("name a model, or a run of the ledger with --explain.")
    if provider is not None and provider.strip().lower() not in known_providers():
        near = did_you_mean(provider.lower(), sorted(known_providers()))
        raise CommandError(f"no provider is called {provider!r}.{near}")
    if usage is not None:
        call = _by_hand(model, provider, at, "batch" if batch else tier, usage)
        price = card.price(call.usage, model, provider, at, call.service_tier)
        _show([card.explain(replace(call, cost_nano_usd=price.cost_nano_usd))], as_json=as_json)
        return
    rates = card.rates(model, provider, at=at, service_tier=tier, batch=batch)
    if rates is None:
        raise CommandError(
            f"no price is known for {model!r} in {card.version}. Check the spelling, name its "
            f'--provider, or give it one under [models."{model}"] in the file that TOKENOPT_PRICES '
            f"names."
        )
    listed = rates.usd_per_million()
    above = [(start, higher.usd_per_million()) for start, higher in rates.above]
    day = f"{at.astimezone():%Y-%m-%d}"
    if as_json:
        write_json(
            {
                "model": model,
                "provider": provider,
                "on": day,
                "rates_version": card.version,
                "usd_per_million_tokens": _as_text(listed),
                "unpriced": list(rates.unpriced),
                "above": [
                    {"more_than_input_tokens": start, "usd_per_million_tokens": _as_text(higher)}
                    for start, higher in above
                ],
            }
        )
        return
    print_table(
        ("tokens", "USD per million", *(f"above {start:,} input" for start, _ in above)),
        (
            (
                name.replace("_", " "),
                f"{price:f}",
                *(f"{higher[name]:f}" if name in higher else "-" for _, higher in above),
            )
            for name, price in listed.items()
        ),
    )
    say(f"{model} by {card.version}, on {day}.")
    if rates.unpriced:
        say(f"not known: {', '.join(name.replace('_', ' ') for name in rates.unpriced)}.")


def _as_text(rates: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: f"{price:f}" for name, price in rates.items()}


def _calls_of(wanted: str, ledger: str) -> list[CallRecord]:
    """Return the calls of a run, or the one call that has this id."""
    with opened_ledger(ledger) as opened:
        calls = list(opened.calls(run=wanted))
        if not calls:
            calls = [
                call
                for call in opened.calls(newest_first=True)
                if str(call.run_id).startswith(wanted)
            ]
        if not calls:
            raise CommandError(
                f"the ledger has no run and no call {wanted!r}. See: tokenopt runs, or tokenopt "
                f"export."
            )
        return calls


def _by_hand(
    model: str, provider: str | None, at: datetime, tier: str | None, usage: str
) -> CallRecord:
    """Return a call as it might have been."""
    counts = {name.removesuffix("_tokens"): name for name in TOKEN_COUNTS}
    given: dict[str, int] = {}
    for part in usage.split(","):
        name, _, number = part.strip().partition("=")
        if name not in counts or not number.replace("_", "").isdecimal():
            raise CommandError(
                f"{part.strip()!r} is no number of tokens: write for instance input=9000, with any "
                f"of {', '.join(counts)}."
            )
        given[counts[name]] = int(number)
    return CallRecord(
        run_id=UUID(int=0),
        model=model,
        provider=provider,
        usage=Usage(**given),
        started_at=at,
        duration_seconds=0.0,
        cost_nano_usd=None,
        service_tier=tier,
    )


def _show(explanations: Sequence[PriceExplanation], *, as_json: bool) -> None:
    if as_json:
        write_json([_as_json(each) for each in explanations])
        return
    for place, why in enumerate(explanations):
        tell(("\n" if place else "") + why.head)
        if why.lines:
            columns, *rows = why.table
            print_table(columns, rows, words=("tier", "why"))
        tell("\n".join(why.foot))


def _as_json(why: PriceExplanation) -> dict[str, Any]:
    """Return an explanation as a document: amounts as text, all digits."""
    return {
        **{name: getattr(why, name) for name in ("model", "provider", "on", "rates_version")},
        "cost_usd": exact_usd(why.cost_nano_usd),
        "unpriced": list(why.unpriced),
        "notes": list(why.notes),
        "lines": [
            {
                "kind": line.kind,
                "tokens": line.tokens,
                "usd_per_million": None
                if line.usd_per_million is None
                else f"{line.usd_per_million:f}",
                "cost_usd": exact_usd(line.cost_nano_usd) if line.is_priced else None,
                "source": line.source,
                "tier": line.tier,
                "rule": line.rule,
            }
            for line in why.lines
        ],
    }
