"""What one tool's schema weighs in a request."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from langchain_tokenopt.core.tool_schemas import FunctionSchema
from langchain_tokenopt.counting.request_tokens import count_tools

__all__ = ["tokens_of_function"]


def tokens_of_function(function: FunctionSchema) -> int:
    """Return what one more such tool adds to a request that has some.

    Example:
        >>> tokens_of_function(FunctionSchema("now", "What time it is.", {}))
        22
    """
    return max(1, count_tools([_as_openai(function)]).tokens - _frame_tokens())


def _as_openai(function: FunctionSchema) -> dict[str, Any]:
    inner = {
        "name": function.name,
        "description": function.description,
        "parameters": function.parameters,
    }
    return {"type": "function", "function": inner}


@lru_cache(maxsize=1)
def _frame_tokens() -> int:
    """Return what a list of tools takes, however many there are."""
    tool = _as_openai(FunctionSchema("a", "", {}))
    one, two = count_tools([tool]).tokens, count_tools([tool, tool]).tokens
    return 2 * one - two
