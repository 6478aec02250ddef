"""``tokenopt context``: what a recorded conversation would cost, with each way to shorten it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError, say
from langchain_tokenopt.cli.tables import (
    JsonOption,
    count,
    print_table,
    share,
    tell,
    write_json,
)
from langchain_tokenopt.cli.text import read_text
from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.pricing.money import exact_usd, format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.context.costs import ContextCosts, PolicyCosts, StepCosts

__all__ = ["context"]

_WIDEST = 72
"""Characters of a plot in a pipe."""


def context(
    file: Annotated[
        str,
        typer.Argument(
            help="Lines of JSON: a message a line, or a conversation a line; - is standard input."
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", help="Whose tokens are counted, and whose prices hold.")
    ] = "gpt-4o",
    price_profile: Annotated[
        str,
        typer.Option(
            "--price-profile",
            help="What a prompt's known beginning costs: auto (by the price list), anthropic, "
            "openai, gemini, or none (nothing is kept, as with Claude without cache_control).",
        ),
    ] = "auto",
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            min=1,
            help="What a request may have. By default half of the longest one for the sliding "
            "window, and no limit for the compressor.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        int | None,
        typer.Option(
            "--explain",
            min=1,
            metavar="NUMBER",
            help="Also show what the cheapest way did with each message of this conversation, and "
            "why; 1 is the first.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write it as a page into this file.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what recorded conversations would cost: sent whole, in a window, and compressed.

    They are played again, call by call, and no model is asked. The beginning that a prompt shares
    with the one before costs what the provider charges for what it knows.

    Example: tokenopt context chat.jsonl --model claude-sonnet-4-5 --explain 1
    """
    from langchain_tokenopt.context.costs import context_costs
    from langchain_tokenopt.context.recorded import recorded_conversations

    name = "standard input" if file == "-" else file
    talks = recorded_conversations(read_text(file).split("\n"), name)
    if explain is not None and explain > len(talks):
        raise CommandError(
            f"{name} has {counted(len(talks), 'conversation')}; --explain is {explain:,}."
        )
    try:
        costs = context_costs(
            talks, model=model, max_tokens=max_tokens, price_profile=price_profile
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not costs.calls:
        raise CommandError(
            f"{name} has no call of a model: no message of an assistant has one before it."
        )
    if html is not None:
        from langchain_tokenopt.report.context_page import page_of

        html.write_text(page_of(costs, title=f"Context of {name}"), encoding="utf-8")
        say(f"the page is in {html}.")
    if as_json:
        write_json(_as_json(costs, explain))
        return
    if html is None:
        _print(costs)
    if explain is not None:
        _explain(costs, explain - 1)
    for note in _notes(costs):
        say(note)


def _as_json(costs: ContextCosts, explain: int | None) -> dict[str, Any]:
    return {
        "model": costs.model,
        "price_profile": {"write": costs.price.write, "read": costs.price.read},
        "conversations": len(next(iter(costs.policies.values())).bills),
        "calls": costs.calls,
        "policies": [
            {
                "policy": name,
                "sent_tokens": round(found.sent),
                "known_tokens": round(found.known),
                "billed_tokens": round(found.units),
                "cost_usd": exact_usd(found.cost_nano_usd),
                "dearer_conversations": costs.dearer(name),
                "bills": [
                    {
                        "steps": [_step(step) for step in costs.steps(name, number)],
                        "sent_tokens": [round(call.sent) for call in bill.calls],
                        "billed_tokens": [round(call.units) for call in bill.calls],
                    }
                    for number, bill in enumerate(found.bills)
                ],
                **({} if explain is None else {"messages": _messages(found, explain - 1)}),
            }
            for name, found in costs.policies.items()
        ],
    }


def _messages(found: PolicyCosts, number: int) -> list[dict[str, Any]]:
    view = found.views[number]
    return [
        {
            "message": row.index + 1,
            "kind": row.importance.kind,
            "shown": _LEVELS[row.level],
            "tokens_before": row.tokens_before,
            "tokens_after": row.tokens_after,
            "reason": row.importance.reason,
        }
        for row in (() if view is None else view.explain())
    ]


_LEVELS = ("whole", "shortened", "a line", "set aside")


def _print(costs: ContextCosts) -> None:
    raw = next(iter(costs.policies.values()))
    price = costs.price
    tell(
        f"{counted(len(raw.bills), 'conversation')}, {counted(costs.calls, 'call')} of "
        f"{costs.model}; what is known costs {price.read:g} of the input price, what is not "
        f"{price.write:g}.\n"
    )
    print_table(
        ("policy", "sent", "known", "billed as", "cost", "of everything", "dearer in"),
        [
            (
                name,
                count(round(found.sent)),
                share(round(found.known), round(found.sent)),
                count(round(found.units)),
                format_usd(found.cost_nano_usd),
                share(round(found.units), round(raw.units)),
                f"{costs.dearer(name):,}",
            )
            for name, found in costs.policies.items()
        ],
    )
    _plot({name: found.mean_units() for name, found in costs.policies.items()})


def _notes(costs: ContextCosts) -> Iterator[str]:
    yield (
        "prompts only, without the schemas of your own tools; billed in tokens at the plain input "
        "price. What a model would fetch back of what was set aside is not in it."
    )
    if "claude" in costs.model and costs.price.read < 1:
        yield (
            "Claude knows the beginning of a prompt only with cache_control marks; without them: "
            "--price-profile none."
        )


def _plot(series: dict[str, list[float]]) -> None:
    """Draw the cost of each call, one row for each policy, on one scale."""
    from rich.console import Console

    console = Console()
    top = max(max(values) for values in series.values())
    calls = max(map(len, series.values()))
    names = max(map(len, series))
    room = max(8, (console.width if console.is_terminal else names + 1 + _WIDEST) - names - 1)
    is_narrow = console.is_terminal and console.width < names + 1 + 8
    tell(f"\nWhat each call costs, from 1 to {calls:,}; the dearest {count(round(top))} tokens\n")
    for name, values in series.items():
        bars = _bars(values, top, min(room, _WIDEST))
        typer.echo(bars[: console.width] if is_narrow else f"{name:{names}} {bars}")


def _bars(values: Sequence[float], top: float, room: int) -> str:
    """Return a bar for each value; where there are too many, for the mean of neighbours.

    Example:
        >>> _bars([0, 1, 2, 4, 8], 8, 80), _bars([2, 2, 8, 8], 8, 2)
        ('▁▂▃▅█', '▃█')
    """
    width = min(len(values), room)
    ends = [len(values) * at // width for at in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(ends)]
    return "".join(_BARS[min(7, int(mean / top * 7 + 0.5))] if top else "▁" for mean in means)


_BARS = "▁▂▃▄▅▆▇█"


def _step(step: StepCosts) -> dict[str, Any]:
    return {
        "call": step.call,
        "removed_tokens": round(step.removed),
        "rewritten_tokens": round(step.rewritten),
        "paid_for_after_calls": round(step.break_even, 1) if isfinite(step.break_even) else None,
        "calls_to_come": step.followed_by,
    }


def _explain(costs: ContextCosts, number: int) -> None:
    ways = {name: found for name, found in costs.policies.items() if found.views[number]}
    if not ways:
        tell(f"\nConversation {number + 1:,} has no call of a model.")
        return
    name = min(ways, key=lambda name: ways[name].bills[number].units)
    tell(f"\n{name}, conversation {number + 1:,}: steps, and what they had to bring\n")
    steps = [_step(step) for step in costs.steps(name, number)]
    if steps:
        print_table(
            ("before call", "tokens less", "written anew", "paid after", "calls to come"),
            [["never" if cell is None else f"{cell:,}" for cell in s.values()] for s in steps],
        )
    else:
        tell("None: each prompt begins with the whole one before it.")
    tell("\nWhat the last call was sent of each message\n")
    print_table(
        ("message", "kind", "shown", "tokens", "sent", "why"),
        [
            [f"{cell:,}" if isinstance(cell, int) else cell for cell in row.values()]
            for row in _messages(ways[name], number)
        ],
        words=("kind", "shown", "why"),
    )
