"""The command that says what the day, the month and the next run will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from langchain_tokenopt.cli.app import say
from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.tables import LimitOption, count, print_table, write_json
from langchain_tokenopt.core.dimensions import DIMENSIONS
from langchain_tokenopt.pricing.money import exact_usd, format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.forecast import Estimate, RunForecast, SpendForecast
    from langchain_tokenopt.ledger import Ledger

    _Forecast = SpendForecast | RunForecast

__all__ = ["forecast"]

_PERIODS: Mapping[str, Literal["day", "month"]] = {"today": "day", "this month": "month"}
_LOOKED_BACK = "28d"


@asks(period=False)
def forecast(
    asked: Question,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[LEDGER]", help="Instead of --ledger.", show_default=False),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="NAME",
            autocompletion=lambda: list(DIMENSIONS),
            help="A row per agent, model, user...: those that cost most in 28 days.",
            show_default=False,
        ),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Also show which methods were tried, and their errors.")
    ] = False,
    limit: LimitOption = 10,
) -> None:
    """Show what the day, the month and the next run will have cost, and how sure that is.

    Example: tokenopt forecast --by agent --why
    """
    asked = asked if file is None else replace(asked, location=file)
    if by is not None and by not in DIMENSIONS:
        raise typer.BadParameter(f"{by!r} is none of {', '.join(DIMENSIONS)}.", param_hint="--by")
    with asked.opened() as ledger:
        asked.refuse_empty(ledger, ledger.span())
        if by is None:
            found = {"all": _of(ledger, asked.filters)}
        else:
            spenders = ledger.by(by, since=_LOOKED_BACK, **asked.filters)
            asked.refuse_empty(ledger, spenders)
            names = sorted(spenders, key=lambda name: (-spenders[name].cost_nano_usd, name))
            found = {name: _of(ledger, {**asked.filters, by: name}) for name in names[:limit]}
    if asked.as_json:
        rows = [
            {by or "of": name, "what": what} | _as_json(each, what)
            for name, group in found.items()
            for what, each in group.items()
        ]
        write_json(rows)
        return
    _print(found, by)
    if why:
        _print_methods(found)
    for note in dict.fromkeys(_notes(found)):
        say(note)


def _of(ledger: Ledger, filters: Mapping[str, Any]) -> dict[str, _Forecast]:
    from langchain_tokenopt.forecast import forecast_run, forecast_spend

    found: dict[str, _Forecast] = {
        what: forecast_spend(ledger, period, tz=None, **filters)
        for what, period in _PERIODS.items()
    }
    found["next run"] = forecast_run(ledger, measure="cost", **filters)
    found["its tokens"] = forecast_run(ledger, **filters)
    return found


def _print(found: Mapping[str, Mapping[str, _Forecast]], by: str | None) -> None:
    rows = []
    for name, group in found.items():
        for what, each in group.items():
            write = count if what == "its tokens" else format_usd
            seen = each.at_end
            limits = (seen.expected, seen.low, seen.high, seen.p95) if seen else ()
            cells = [write(round(value)) for value in limits] or ["-"] * 4
            spent = write(each.spent) if what in _PERIODS else ""
            rows.append((*((name,) if by else ()), what, spent, *cells, *_tried(seen)))
    figures = ("spent", "expected", "1 in 10 below", "1 in 10 above", "1 in 20 above")
    columns = (*((by,) if by else ()), "what", *figures, "missed by", "4 of 5 held")
    print_table(columns, rows, words=("what",))


def _tried(seen: Estimate | None) -> tuple[str, str]:
    """Write the error of earlier estimates, and how often their intervals held."""
    shares = (None, None) if seen is None else (seen.error, seen.coverage)
    missed, held = ("-" if share is None else f"{share:.0%}" for share in shares)
    return missed, held


def _print_methods(found: Mapping[str, Mapping[str, _Forecast]]) -> None:
    rows = [
        (
            f"{name}, {what}" if len(found) > 1 else what,
            method.name,
            "-" if method.error is None else f"{method.error:.1%}",
            f"{method.weight:.0%}",
        )
        for name, group in found.items()
        for what, each in group.items()
        if each.at_end is not None
        for method in each.at_end.methods
    ]
    if rows:
        typer.echo()
        print_table(("what", "method", "missed by", "believed"), rows, words=("method",))


def _notes(found: Mapping[str, Mapping[str, _Forecast]]) -> Sequence[str]:
    return [
        f"{f'{name}, ' if len(found) > 1 else ''}{what}: {note}"
        for name, group in found.items()
        for what, each in group.items()
        for note in each.notes
    ]


def _as_json(each: _Forecast, what: str) -> dict[str, Any]:
    seen = each.at_end
    unit = "tokens" if what == "its tokens" else "usd"

    def written(value: float | None) -> object:
        if value is None or unit == "tokens":
            return None if value is None else round(value)
        return exact_usd(round(value))

    limits = {
        f"{name}_{unit}": written(None if seen is None else getattr(seen, name))
        for name in ("expected", "low", "high", "p95")
    }
    return {
        f"spent_{unit}": written(each.spent),
        **limits,
        "error": seen and seen.error,
        "coverage": seen and seen.coverage,
        "tests": seen.tests if seen else 0,
        "methods": [method._asdict() for method in seen.methods] if seen else [],
        "notes": list(each.notes),
    }
