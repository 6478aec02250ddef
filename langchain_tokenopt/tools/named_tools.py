"""Tools that have an account of their own by their name, wherever they were made.

Graphs hand their tools to nobody, as they do with models. LangChain runs every tool by one of two
methods of its base class: these are replaced, once in a process, by ones that look whether the
context names the tool; if it does, the tool is run as a budgeted one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

from langchain_core.tools import BaseTool

from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.tools.budgeted_tool import BudgetedTool

__all__ = ["accounts_of_tools"]

_NAMED: ContextVar[frozenset[str]] = ContextVar(
    "langchain_tokenopt_named_tools", default=frozenset()
)


def accounts_of_tools(names: frozenset[str]) -> ContextBlock:
    """Return a block in which tools of these names are paid by accounts of their own.

    Example:
        >>> from langchain_core.tools import tool
        >>> @tool
        ... def look_up(word: str) -> str:
        ...     "Look a word up."
        ...     return f"{word}: a noun."
        >>> with accounts_of_tools(frozenset({"look_up"})):
        ...     look_up.invoke({"word": "tea"})
        'tea: a noun.'
    """
    _watch_every_tool()
    return ContextBlock({_NAMED: names})


@cache
def _watch_every_tool() -> None:
    base: Any = BaseTool
    for name in ("run", "arun"):
        setattr(base, name, _looking(getattr(base, name), name))


def _looking(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a method that runs a tool as it is, or a budgeted copy where the context says so."""

    @wraps(plain)
    def begin(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        if self.name in _NAMED.get() and not isinstance(self, BudgetedTool):
            return getattr(BudgetedTool.wrap(self), name)(*args, **kwargs)
        return plain(self, *args, **kwargs)

    return begin
