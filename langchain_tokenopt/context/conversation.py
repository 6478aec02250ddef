"""A conversation as it came: its messages, their sizes, and which of them belong together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokenopt.context.fetching import listed
from langchain_tokenopt.context.importance import Query
from langchain_tokenopt.context.levels import LEAST_TOKENS, Mark, in_place, is_made, one_line
from langchain_tokenopt.core.messages import (
    atomic_groups,
    is_answered,
    text_of,
)
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import TokenCounter

__all__ = ["Conversation", "Sizes", "ToolGroup", "chain_of", "key_of"]


class Sizes:
    """Counts messages and texts, each once."""

    def __init__(self, model: str, counter: TokenCounter) -> None:
        self._model, self._counter = model, counter
        self._known: OrderedDict[Any, int] = OrderedDict()
        self._lines: OrderedDict[str, int] = OrderedDict()
        self.frame = count_messages([], model=model, counter=counter).tokens
        """Tokens around all messages together."""
        self._around = self._count(HumanMessage(""))

    def of(self, message: BaseMessage, key: Any = None) -> int:
        """Return the tokens of a message with its frame; *key* is its key, where it is known."""
        key = key or key_of(message)
        known = self._known.get(key)
        if known is None:
            kind, text, name, rest = key
            is_plain = isinstance(message.content, str) and not name
            if is_plain and (rest is None or kind == "tool"):
                known = self._around + self.of_text(text)
            else:
                known = self._count(message)
            self._known[key] = known
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _count(self, message: BaseMessage) -> int:
        found = count_messages([message], model=self._model, counter=self._counter)
        return found.tokens - self.frame

    def in_place(self, message: BaseMessage, text: str) -> int:
        """Return the tokens of what is shown in the place of a message."""
        if message.name or not (
            isinstance(message, ToolMessage) and isinstance(message.content, str)
        ):
            return self.of(in_place(message, text))
        known = self._lines.get(text)  # a text and its frame: that is all it has
        if known is None:
            known = self._lines[text] = self._around + self.of_text(text)
            while len(self._lines) > _REMEMBERED:
                self._lines.popitem(last=False)
        return known

    def of_text(self, text: str) -> int:
        """Return the tokens of a text."""
        return self._counter.count(text).tokens


_REMEMBERED: Final = 20_000


def key_of(message: BaseMessage) -> Any:
    """Return what tells messages apart: what their model reads."""
    content = message.content if isinstance(message.content, str) else repr(message.content)
    rest: Any = None
    if isinstance(message, AIMessage):
        legacy = message.additional_kwargs.get("function_call")
        if message.tool_calls or message.invalid_tool_calls or legacy:
            rest = repr((message.tool_calls, message.invalid_tool_calls, legacy))
    elif isinstance(message, ToolMessage):
        rest = message.tool_call_id
    return message.type, content, message.name, rest


@dataclass(frozen=True, slots=True)
class ToolGroup:
    """A message with tool calls, and their results."""

    members: tuple[int, ...]
    results: tuple[int, ...]
    ready: int
    """How many messages there are when it is whole."""


class Conversation:
    """A conversation as it came, read once.

    Args:
        messages: All of them.
        sizes: Counts them.
        mark: How losses are marked.
    """

    def __init__(
        self, messages: Sequence[BaseMessage], sizes: Sizes, mark: Mark | None = None
    ) -> None:
        self.messages = messages
        self.sizes = sizes
        self._mark = mark or Mark(None)
        self._gains: dict[int, int] = {}
        self._lines: dict[int, str] = {}
        self.keys = [key_of(message) for message in messages]
        self.tokens = [sizes.of(m, key) for m, key in zip(messages, self.keys, strict=True)]
        self.before = [0, *accumulate(self.tokens)]
        """Tokens in front of each message."""

    @cached_property
    def doubt(self) -> list[int]:
        """By number of messages, what a provider may count of them more than we do."""
        return [0, *accumulate(map(_doubt, self.messages))]

    @cached_property
    def groups(self) -> list[list[int]]:
        """What is shown or set aside together."""
        return atomic_groups(self.messages)

    @cached_property
    def tool_groups(self) -> list[ToolGroup]:
        """Tool calls that have all their results, in the order in which they were whole."""
        found = (self._tool_group(group) for group in self.groups if len(group) > 1)
        return sorted((g for g in found if g is not None), key=lambda group: group.ready)

    def _tool_group(self, group: list[int]) -> ToolGroup | None:
        members = [self.messages[at] for at in group]
        if not is_answered(members):
            return None
        count = len(group)
        while count > 2 and is_answered(members[: count - 1]):
            count -= 1
        whole = group[:count]  # a result that comes once more, later, was not known then
        results = (at for at in whole[1:] if isinstance(self.messages[at], ToolMessage))
        return ToolGroup(tuple(whole), tuple(results), whole[-1] + 1)

    @cached_property
    def settled(self) -> int:
        """Where that ends which was shortened before it came: behind its last mark, and its group.

        It holds for all calls: the step that made a mark has seen what stands before it.
        """
        marked = (at for at in range(len(self.messages) - 1, -1, -1) if is_made(self.messages[at]))
        last = next(marked, None)
        if last is None:
            return 0
        return next(group[-1] for group in self.groups if last in group) + 1

    def gain(self, at: int) -> int:
        """Return what a message would have less as a line; pictures and the like stay."""
        gain = self._gains.get(at)
        if gain is None:
            message, tokens = self.messages[at], self.tokens[at]
            gain = 0
            if tokens >= LEAST_TOKENS:
                gain = max(0, tokens - self.sizes.in_place(message, self.line(at)))
            self._gains[at] = gain
        return gain

    def line(self, at: int) -> str:
        """Return the line that stands for a message."""
        line = self._lines.get(at)
        if line is None:
            line = one_line(self.messages[at], self.tokens[at], self._mark)
            self._lines[at] = line
        return line

    def original(self, indexes: Sequence[int], tool: str) -> str:
        """Return what stands behind a handle of these messages; *tool* fetches what it lists."""
        return listed(
            [self.messages[at] for at in indexes], [self.tokens[at] for at in indexes], tool
        )

    def query(self, boundary: int) -> Query:
        """Return what is asked where there are so many messages."""
        return _query_of(self._asked[boundary])

    @cached_property
    def _asked(self) -> list[str | None]:
        asked: list[str | None] = [None]
        for message in self.messages:
            is_users = isinstance(message, HumanMessage)
            asked.append((text_of(message) or None) if is_users else asked[-1])
        return asked

    def calls(self) -> list[int]:
        """Return how many messages each call of the model had, the one that is made now last."""
        made = [n for n, m in enumerate(self.messages) if n and isinstance(m, AIMessage)]
        return [*made, len(self.messages)]


def chain_of(keys: Sequence[Any]) -> list[int]:
    """Return a key of each beginning of a conversation, by the keys of its messages."""
    return list(accumulate(keys, lambda before, key: hash((before, key)), initial=0))[1:]


@lru_cache(maxsize=256)
def _query_of(text: str | None) -> Query:
    return Query(text)


def _doubt(message: BaseMessage) -> int:
    """Return the tokens of frames and ids of which nobody says whether a provider counts them."""
    if isinstance(message, ToolMessage):
        return _FRAME + len(message.tool_call_id) // _IN_TOKEN
    calls = message.tool_calls if isinstance(message, AIMessage) else ()
    return _FRAME + sum(2 * _FRAME + len(call["id"] or "") // _IN_TOKEN for call in calls)


_FRAME: Final = 4
_IN_TOKEN: Final = 2
"""Characters of an id that make a token."""
