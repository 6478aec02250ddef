"""Tools for one user and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langchain_core.tools import BaseTool, tool

from langchain_tokenopt.tools.budgeted_tool import BudgetedTool
from langchain_tokenopt.tools.result_limit import ResultLoader
from langchain_tokenopt.tools.token_scope import TokenScope
from langchain_tokenopt.tools.tool_limits import ToolLimits, ToolReport, checked_limits

__all__ = ["ScopedTools", "scoped_tools"]


class ScopedTools(list[Any]):
    """Tools of one user: a list, to be given to an agent or a ``ToolNode``."""

    def report(self) -> dict[str, ToolReport]:
        """Return what each has used so far, by name."""
        return {each.name: each.report() for each in self if isinstance(each, BudgetedTool)}  # type: ignore[attr-defined]


def scoped_tools(
    tools: Iterable[BaseTool | Callable[..., Any] | Mapping[str, Any]],
    scope: TokenScope | None = None,
    *,
    limits: ToolLimits | Mapping[str, ToolLimits] | None = None,
    loader: ResultLoader | None = None,
) -> ScopedTools:
    """Return *tools* for one user and run; the originals are untouched.

    Each is an instance of its own class still, and to models, graphs and handlers what it was: see
    ``BudgetedTool.wrap``. What a tool keeps in itself, its copy shares with the original; for tools
    that keep something, see ``ToolSet``.

    Args:
        tools: Tools, or functions. Tools that a provider has (dicts) are returned as they are.
        scope: For whom they are, from ``token_scope``; ``None``: for whoever calls them.
        limits: Of each tool, or by the names of tools.
        loader: Shortens results that are too long; by default ``PromptCompressor``.

    Raises:
        TypeError: One is no tool, or asks for what a scope has, and there is none.
            *limits* are none.
        ValueError: *limits* has a name that no tool has.

    Example:
        >>> from langchain_tokenopt import token_scope
        >>> def look_up(word: str, scope: TokenScope) -> str:
        ...     "Look a word up."
        ...     return f"{word}, for {scope.user}"
        >>> with token_scope(user="ann") as scope:
        ...     tools = scoped_tools([look_up], scope, limits=ToolLimits(max_calls=3))
        >>> list(tools[0].args), tools[0].invoke({"word": "tea"}), tools.report()["look_up"].calls
        (['word'], 'tea, for ann', 1)
    """
    made = ScopedTools()
    for each in tools:
        if isinstance(each, Mapping):
            made.append(each)
            continue
        made.append(each if isinstance(each, BaseTool) else tool(each))
    names = [each.name for each in made if isinstance(each, BaseTool)]
    of_each = _limits_of_each(limits, names)
    for index, each in enumerate(made):
        if isinstance(each, BaseTool):
            made[index] = BudgetedTool.wrap(each, of_each[each.name], scope=scope, loader=loader)
    return made


def _limits_of_each(limits: Any, names: list[str]) -> dict[str, ToolLimits | None]:
    """Return the limits of every tool by its name."""
    if not isinstance(limits, Mapping):
        return dict.fromkeys(names, checked_limits(limits))
    unknown = sorted(str(name) for name in limits if name not in names)
    if unknown:
        raise ValueError(
            f"limits are for {', '.join(unknown)}, and the tools are {', '.join(names)}: give "
            f"limits by the names of tools, or one ToolLimits(...) for all."
        )
    return {name: checked_limits(limits.get(name), f"limits of {name}") for name in names}
