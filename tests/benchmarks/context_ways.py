"""Ways to keep a long conversation short, and what providers would charge for each.

A way is made anew for each conversation, sees it as it is before each call of the model, and
returns what is sent. The prefix that a prompt shares with the one before is charged as read, all
else as written; what a way asks a model for is charged as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from langchain.agents.middleware import SummarizationMiddleware
from langchain.agents.middleware.context_editing import ClearToolUsesEdit
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    BaseMessage,
    RemoveMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.messages.utils import count_tokens_approximately

from langchain_tokenopt import ContextCompressor, PriceProfile, count_messages
from langchain_tokenopt.context import bill
from langchain_tokenopt.context.bill import Bill
from langchain_tokenopt.context.economics import Horizon

__all__ = ["OURS", "PRICES", "WAYS", "billed", "characters", "tokens"]

PRICES = {
    "Anthropic-like": PriceProfile(write=1.25, read=0.1),
    "OpenAI-like": PriceProfile(read=0.5),
    "OpenAI-like, read at a tenth": PriceProfile(read=0.1),
    "no cache": PriceProfile(),
}
OUTPUT = 5.0
"""What a token of an answer costs, in tokens of input."""
View = Callable[[list[BaseMessage]], list[BaseMessage]]
Size = Callable[[BaseMessage], float]


def characters(message: BaseMessage) -> float:
    """A quarter of the characters: the measure of the simulation that others published."""
    calls = getattr(message, "tool_calls", None)
    return (len(message.text) + (len(str(calls[0]["args"])) + 30 if calls else 0)) / 4


@cache
def _tokens(kind: type[BaseMessage], text: str, calls: str) -> int:
    return (
        count_messages([kind(content=text + calls, **_ID.get(kind, {}))], model="gpt-4o").tokens - 3
    )


_ID: dict[Any, dict[str, str]] = {ToolMessage: {"tool_call_id": ""}}


def tokens(message: BaseMessage) -> float:
    """The tokens of a message, as gpt-4o counts them."""
    return _tokens(type(message), message.text, str(getattr(message, "tool_calls", None) or ""))


def billed(way: Way, price: PriceProfile, asked: Iterable[list[BaseMessage]], size: Size) -> Bill:
    """Return what the calls of a conversation cost in one way; the shortest prompt is kept, too."""
    return bill.billed(asked, way(price), replace(price, min_tokens=0), size)


Way = Callable[[PriceProfile], View]


def _raw(price: PriceProfile) -> View:
    return list


def _trim(price: PriceProfile) -> View:
    return lambda messages: trim_messages(
        messages, max_tokens=8_000, token_counter=count_tokens_approximately, include_system=True
    )


def _window(price: PriceProfile) -> View:
    def view(messages: list[BaseMessage]) -> list[BaseMessage]:
        left, kept = 8_000.0, []
        for message in reversed(messages[2:]):
            left -= characters(message)
            if left < 0:
                break
            kept.append(message)
        return [*messages[:2], *reversed(kept)]

    return view


def _clear(trigger: int, at_least: int) -> Way:
    """LangChain's ContextEditingMiddleware edits the request in this way."""

    def way(price: PriceProfile) -> View:
        edit = ClearToolUsesEdit(trigger=trigger, clear_at_least=at_least, keep=3)

        def view(messages: list[BaseMessage]) -> list[BaseMessage]:
            made = [m.model_copy(deep=True) for m in messages]
            edit.apply(made, count_tokens=count_tokens_approximately)
            return made

        return view

    return way


def _masked(step: int) -> Way:
    """Results before the last three become a placeholder, so many at a time."""

    def way(price: PriceProfile) -> View:
        masked = 0

        def view(messages: list[BaseMessage]) -> list[BaseMessage]:
            nonlocal masked
            results = [n for n, m in enumerate(messages) if isinstance(m, ToolMessage)]
            if len(results) - 3 - masked >= step:
                masked = len(results) - 3
            gone = {*results[:masked]}
            return [
                m.model_copy(update={"content": "[result left out]"}) if n in gone else m
                for n, m in enumerate(messages)
            ]

        return view

    return way


class _Summaries:
    """LangChain's SummarizationMiddleware, with a summary of 150 words that is paid for."""

    def __init__(self, price: PriceProfile) -> None:
        self.spent = 0.0
        self._price = price
        self._middleware = SummarizationMiddleware(
            FakeListChatModel(responses=["-"]),
            trigger=("tokens", 4_000),
            keep=("messages", 8),
            summarizer=self._summary,
        )
        self._state: list[BaseMessage] = []
        self._seen = 0

    def _summary(self, messages: Sequence[BaseMessage]) -> str:
        self.spent += sum(map(characters, messages)) + 200 * OUTPUT
        return f"Summary {len(messages)}. " + "what was found out so far " * 30

    def __call__(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        new = [m.model_copy(update={"id": f"m{n}"}) for n, m in enumerate(messages)][self._seen :]
        self._seen = len(messages)
        self._state += new
        system = [m for m in self._state if m.type == "system"]
        update = self._middleware.before_model(
            {"messages": [m for m in self._state if m.type != "system"]}, None
        )
        if update is not None:
            self._state = [
                *system,
                *(m for m in update["messages"] if not isinstance(m, RemoveMessage)),
            ]
        return list(self._state)


def _ours(keep_last: int, horizon: Horizon | None = None, **settings: Any) -> Way:
    def way(price: PriceProfile) -> View:
        compressor = ContextCompressor(
            keep_last=keep_last, price_profile=price, model="gpt-4o", **settings
        )
        compressor._viewer.horizon = horizon or compressor._viewer.horizon
        return compressor.invoke

    return way


WAYS: dict[str, Way] = {
    "everything": _raw,
    "sliding window, 8,000 tokens": _window,
    "trim_messages, 8,000 tokens": _trim,
    "SummarizationMiddleware, from 4,000 tokens": _Summaries,
    "ContextEditingMiddleware, from 4,000 tokens": _clear(4_000, 0),
    "ContextEditingMiddleware, at least 4,000 tokens": _clear(4_000, 4_000),
    "masking with every call": _masked(1),
    "masking in steps of ten": _masked(10),
    "ContextCompressor(keep_last=3)": _ours(3),
    "ContextCompressor(keep_last=2)": _ours(2),
    "ContextCompressor(keep_last=2, max_extra_cost=0.05)": _ours(2, max_extra_cost=0.05),
    "ContextCompressor()": _ours(1),
}
OURS = _ours
