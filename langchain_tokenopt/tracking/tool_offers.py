"""Which tools a request shows, and which of them its answer calls, where no stage has chosen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any, Final

from langchain_core.outputs import Generation

from langchain_tokenopt.core.records import OfferedTool
from langchain_tokenopt.core.tool_schemas import declared_functions
from langchain_tokenopt.counting.tool_tokens import tokens_of_function

__all__ = ["called_in", "offered_in"]

_REMEMBERED: Final = 64
"""Lists of tools; each of them is sent again with every call of a loop."""


def offered_in(tools: Any) -> tuple[OfferedTool, ...]:
    """Return the functions that a request's tools declare, each with its weight.

    Example:
        >>> offered_in([{"type": "function", "function": {"name": "now", "parameters": {}}}])
        (OfferedTool(tool='now', tokens=17),)
    """
    if not isinstance(tools, Sequence) or not tools:
        return ()
    text = repr(tools)
    offered = _known.get(text)
    if offered is None:
        offered = tuple(
            OfferedTool(function.name, tokens_of_function(function))
            for tool in tools
            for function in declared_functions(tool)
        )
        with _lock:
            _known[text] = offered
            if len(_known) > _REMEMBERED:
                _known.popitem(last=False)
    return offered


_known: OrderedDict[str, tuple[OfferedTool, ...]] = OrderedDict()
_lock = Lock()


def called_in(generations: Iterable[Generation]) -> tuple[str, ...]:
    """Return the names of the tools that an answer calls, once each."""
    calls = (
        call["name"]
        for generation in generations
        for call in getattr(getattr(generation, "message", None), "tool_calls", ())
    )
    return tuple(dict.fromkeys(calls))
