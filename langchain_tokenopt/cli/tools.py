"""``tokenopt tools``: what each tool costs, whether anybody needs it, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.cli.export import write_csv
from langchain_tokenopt.cli.question import Question, asks
from langchain_tokenopt.cli.tables import LimitOption, count, print_table, tell, write_json
from langchain_tokenopt.pricing.money import exact_usd, format_usd

if TYPE_CHECKING:
    from langchain_tokenopt.ledger import ToolFigures
    from langchain_tokenopt.report import Recommendation

__all__ = ["tools"]

ENOUGH_REQUESTS = 20
"""Below this many requests, that a tool was not used is chance."""
HEAVY_RESULTS = 0.5
"""From this share of all tokens of results on, one tool is worth a limit."""


@asks()
def tools(
    asked: Question,
    limit: LimitOption = 20,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="All tools, as comma-separated values.")
    ] = False,
) -> None:
    """Show what each tool's schema and results cost, and how often it was called or missed.

    Example: tokenopt tools --since 7d
    """
    with asked.opened() as opened:
        figures = opened.tools(**asked.where)
        if not figures and not asked.as_json:
            asked.refuse_empty(opened, opened.totals(**asked.where).calls)
            whose = "".join(f" of the {name} {value!r}" for name, value in asked.filters.items())
            raise CommandError(
                f"no call{whose} {asked.period} was shown a tool, or had results of one."
            )
    advice = list(_advice(figures))
    if as_csv:
        first, *others = map(_row, figures)
        write_csv(first, others)
    elif asked.as_json:
        lines = [{"figure": line.figure, "advice": line.advice} for line in advice]
        write_json({"tools": list(map(_row, figures)), "recommendations": lines})
    else:
        _print(figures[:limit], others=len(figures) - limit)
        for line in advice:
            tell(f"- {line.figure} {line.advice}")


def _row(tool: ToolFigures) -> dict[str, Any]:
    return {
        "tool": tool.tool,
        "offered": tool.offered,
        "schema_tokens": tool.schema_tokens,
        "called": tool.called,
        "called_ratio": tool.called_ratio,
        "missed": tool.missed,
        "searched": tool.searched,
        "never_used": tool.is_unused,
        "result_tokens": tool.result_tokens,
        "result_cost_usd": exact_usd(_cost(tool)),
    }


def _cost(tool: ToolFigures) -> int | None:
    """Return what its results cost; ``None`` where none has a price."""
    none_priced = tool.unpriced_results and not tool.result_cost_nano_usd
    return None if none_priced else tool.result_cost_nano_usd


def _print(figures: Sequence[ToolFigures], others: int) -> None:
    headings = ("offered", "schema tokens", "called", "of offered", "missed", "searched for")
    print_table(
        ("tool", *headings, "result tokens", "cost"),
        (
            (
                tool.tool,
                count(tool.offered),
                count(tool.schema_tokens),
                count(tool.called),
                _ratio(tool),
                count(tool.missed),
                count(tool.searched),
                count(tool.result_tokens),
                format_usd(_cost(tool)) if tool.result_tokens else "-",
            )
            for tool in figures
        ),
    )
    if others > 0:
        typer.echo(f"{others:,} more; see them with -n {len(figures) + others}.", err=True)


def _ratio(tool: ToolFigures) -> str:
    if tool.is_unused:
        return "never"
    return "-" if tool.called_ratio is None else f"{tool.called_ratio:.1%}"


# What the figures call for


def _advice(figures: Sequence[ToolFigures]) -> Iterator[Recommendation]:
    from langchain_tokenopt.report import Recommendation

    unused = [tool for tool in figures if tool.is_unused and tool.offered >= ENOUGH_REQUESTS]
    if unused:
        tokens = sum(tool.schema_tokens for tool in unused)
        whole = max(1, sum(tool.schema_tokens for tool in figures))
        yield Recommendation(
            f"{_tools(len(unused))} never used and cost {tokens:,} tokens of schemas "
            f"({tokens / whole:.0%} of all): {_listed(unused)}.",
            "Leave them out, or show the model only what a request needs: "
            "optimize(model, ToolSelector()).",
        )
    missed = sorted((t for t in figures if t.missed), key=lambda t: (-t.missed, t.tool))
    if missed:
        times = sum(tool.missed for tool in missed)
        names = ", ".join(repr(tool.tool) for tool in missed[:_NAMED])
        yield Recommendation(
            f"Tools that were left out were called {times:,} times: {_listed(missed)}.",
            f"Always show them: ToolSelector(always_include=[{names}]).",
        )
    whole = sum(tool.result_tokens for tool in figures)
    for tool in figures:
        if tool.result_tokens > HEAVY_RESULTS * whole and tool.called >= ENOUGH_REQUESTS:
            yield Recommendation(
                f"Results of {tool.tool} are {tool.result_tokens / whole:.0%} of all that results "
                f"weigh in later prompts ({tool.result_tokens:,} tokens).",
                "Limit them: scoped_tools(tools, limits=ToolLimits(max_result_tokens_per_call=...))"
                ".",
            )


_NAMED = 20


def _tools(number: int) -> str:
    return "1 tool was" if number == 1 else f"{number:,} tools were"


def _listed(found: Sequence[ToolFigures]) -> str:
    names = ", ".join(tool.tool for tool in found[:_NAMED])
    return names + (f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else "")
