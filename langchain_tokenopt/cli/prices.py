"""The command that shows what a model charges."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.period import parse_moment
from langchain_tokenopt.cli.tables import JsonOption, print_table, write_json

__all__ = ["prices"]


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
    except (ValueError, OSError) as error:
        raise CommandError(f"the price file of TOKENOPT_PRICES cannot be used: {error}") from error
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


def _as_text(rates: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: f"{price:f}" for name, price in rates.items()}
