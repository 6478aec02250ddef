"""What a ledger is asked about tools: what they cost, and whether anybody needs them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from langchain_tokenopt.ledger import rows
from langchain_tokenopt.ledger.measures import RESULTS
from langchain_tokenopt.ledger.schema import tool_choices
from langchain_tokenopt.ledger.selection import PAGED, Selection
from langchain_tokenopt.ledger.sums import Sums

__all__ = ["ToolFigures", "tool_figures"]


@dataclass(slots=True)
class ToolFigures:
    """One tool in a period. Tokens, unless the name says otherwise."""

    tool: str
    offered: int = 0
    """Requests that showed it to the model."""
    schema_tokens: int = 0
    """What its schema weighed in them, together."""
    called: int = 0
    """Answers that called it."""
    missed: int = 0
    """Answers that called it although their request did not show it."""
    searched: int = 0
    """Requests to which it was added because the model searched for it."""
    result_tokens: int = 0
    """What its results weighed in the prompts of later calls."""
    result_cost_nano_usd: int = 0
    """What these cost."""
    unpriced_results: int = 0
    """Prompts with results of it whose price is not known: the cost does not contain them."""

    @property
    def called_ratio(self) -> float | None:
        """Answers that called it, of the requests that showed it; ``None``: none did."""
        return self.called / self.offered if self.offered else None

    @property
    def is_unused(self) -> bool:
        """Whether it was shown, and nobody wanted it."""
        return bool(self.offered) and not (self.called or self.missed or self.searched)


def tool_figures(selection: Selection) -> list[ToolFigures]:
    """Add up every tool of a period, the costliest first.

    Choices that a stage has only watched count as if it had acted.
    """
    found: dict[str, ToolFigures] = {}

    def of(name: str) -> ToolFigures:
        return found.setdefault(name, ToolFigures(name))

    selection.lacks_rows(selection.window.start)
    column = tool_choices.c.tools
    query = select(column, func.count()).where(*selection.of(tool_choices)).group_by(column)
    for text, times in selection.connection.execute(query, execution_options=PAGED):
        chosen = rows.tools_in(text)
        for tool in chosen["offered"]:
            of(tool.tool).offered += times
            of(tool.tool).schema_tokens += times * tool.tokens
        for name in chosen["called"]:
            of(name).called += times
        for name in chosen["missed"]:
            of(name).missed += times
        for name in chosen["found"]:
            of(name).searched += times
    of_results = Sums(selection).of(RESULTS, ("result_tool",))
    for (name,), (_, tokens, cost, unpriced) in of_results.items():
        figures = of(name)
        figures.result_tokens += tokens
        figures.result_cost_nano_usd += cost
        figures.unpriced_results += unpriced
    return sorted(found.values(), key=lambda t: (-t.schema_tokens - t.result_tokens, t.tool))
