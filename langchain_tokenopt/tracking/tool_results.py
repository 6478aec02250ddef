"""What the results of tools weigh in a request: they are paid for again with every later call."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokenopt.core.records import ToolResult
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.pricing.rates import Rates

__all__ = ["ResultTokens", "shares_of", "tokens_of_results"]

ResultTokens = tuple[tuple[str, int], ...]
"""Names of tools, and how many tokens of their results a request holds."""

_REMEMBERED: Final = 4_096


def tokens_of_results(messages: Iterable[BaseMessage], model: str) -> ResultTokens:
    """Count the results of each tool among *messages*; those without a tool's name are left out.

    Example:
        >>> asked = AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "1"}])
        >>> tokens_of_results([asked, ToolMessage("two words", tool_call_id="1")], "gpt-4o")
        (('search', 2),)
    """
    name_of: dict[str | None, str] = {}
    tokens: Counter[str] = Counter()
    for message in messages:
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                name_of[call["id"]] = call["name"]
        elif isinstance(message, ToolMessage):
            name = message.name or name_of.get(message.tool_call_id)
            if name:
                tokens[name] += _known.count(message, model)
    return tuple(tokens.items())


def shares_of(results: ResultTokens, usage: Usage, rates: Rates | None) -> tuple[ToolResult, ...]:
    """Price what was counted at the mean price of the call's input.

    Together they are never more than the input that was billed: ours is a count, that is the bill.
    """
    counted = sum(tokens for _, tokens in results)
    billed = max(usage.input_tokens, 0)
    if not counted or not billed:
        return ()
    scale = min(1.0, billed / counted)
    cost = None if rates is None else rates.input_cost(usage)
    found = []
    for tool, tokens in results:
        tokens = int(tokens * scale)
        found.append(ToolResult(tool, tokens, None if cost is None else cost * tokens // billed))
    return tuple(found)


class _KnownSizes:
    """Sizes of results by the hash of their text: one comes again with every later call."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[tuple[int, int, str], int] = OrderedDict()
        self._lock = Lock()

    def count(self, message: ToolMessage, model: str) -> int:
        content = message.content
        text = content if isinstance(content, str) else repr(content)
        key = hash(text), len(text), model
        size = self._sizes.get(key)
        if size is None:
            bare = ToolMessage("", tool_call_id="")
            whole = ToolMessage(content, tool_call_id="")
            size = count_messages([whole], None, model).tokens
            size -= count_messages([bare], None, model).tokens
            with self._lock:
                self._sizes[key] = size
                if len(self._sizes) > _REMEMBERED:
                    self._sizes.popitem(last=False)
        return size


_known = _KnownSizes()
