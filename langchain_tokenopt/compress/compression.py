"""One compression: type in, type out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue

from langchain_tokenopt.compress.content_types import DocumentsContent, Reader, TextContent
from langchain_tokenopt.compress.conversation import MessagesContent
from langchain_tokenopt.compress.fitting import Target, fitted, shortened, unchanged
from langchain_tokenopt.compress.message_texts import as_messages, as_written, with_texts_replaced
from langchain_tokenopt.compress.plan_cache import PlanCache
from langchain_tokenopt.compress.result import (
    FITS,
    NOTHING_TO_DROP,
    UNKNOWN_TYPE,
    CompressionResult,
)
from langchain_tokenopt.counting.tokens import TokenCount

__all__ = ["Job", "characters_of", "missing_key"]


@dataclass(frozen=True, slots=True)
class Job:
    """What one call of a compressor has to do.

    Args:
        target: What is asked for.
        reader: How contents are read and counted.
        plans: What the compressor remembers.
        key: The state key to shorten when the content is a dict.
        known: The tokens of the messages, where they have been counted.
    """

    target: Target
    reader: Reader
    plans: PlanCache
    key: str
    known: TokenCount | None = None

    def run(self, content: Any) -> CompressionResult[Any]:
        """Dispatch on the type of *content*; what comes back is of the same type.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit and the target says so.
        """
        if isinstance(content, str):
            return fitted(TextContent(content, self.reader), self.target, self.plans)
        if isinstance(content, StringPromptValue):
            return self._inside(content, content.text, lambda text: StringPromptValue(text=text))
        if isinstance(content, PromptValue):
            messages = content.to_messages()
            return self._inside(content, messages, lambda made: ChatPromptValue(messages=made))
        if isinstance(content, BaseMessage):
            return self._inside(content, [content], lambda made: made[0] if made else content)
        if isinstance(content, dict):
            return self._state(content)
        if isinstance(content, tuple) and content:
            return self._inside(content, list(content), tuple)
        if isinstance(content, list) and content:
            if all(isinstance(item, BaseMessage) for item in content):
                return self._messages(MessagesContent(content, self.reader, self.known))
            if all(isinstance(item, Document) for item in content):
                return fitted(DocumentsContent(content, self.reader), self.target, self.plans)
            if (written := as_messages(content)) is not None:
                return self._inside(content, written, lambda made: as_written(made, content))
        return CompressionResult(content, 0, 0, reason=UNKNOWN_TYPE if content else FITS)

    def _inside(self, outer: Any, inner: Any, wrap: Callable[[Any], Any]) -> CompressionResult[Any]:
        result = self.run(inner)
        made = outer if result.content is inner else wrap(result.content)
        return replace(result, content=made)

    def _state(self, state: dict[Any, Any]) -> CompressionResult[Any]:
        if self.key not in state:
            return CompressionResult(state, 0, 0, reason=missing_key(self.key, state))
        inner = state[self.key]
        return self._inside(state, inner, lambda made: {**state, self.key: made})

    def _messages(self, content: MessagesContent) -> CompressionResult[Any]:
        """With a share, each user message is shortened by its own content alone.

        So it never changes again, however long the conversation becomes.
        """
        if self.target.keeps_all:
            return unchanged(content, FITS)
        if self.target.keep is None:
            return fitted(content, self.target, self.plans)
        made = [self._alone(message) for message in content.content]
        if all(new is old for new, old in zip(made, content.content, strict=True)):
            return unchanged(content, NOTHING_TO_DROP)
        return shortened(content, made, content.measure(made), "each message")

    def _alone(self, message: BaseMessage) -> BaseMessage:
        if isinstance(message, HumanMessage):
            return with_texts_replaced(message, lambda text: str(self.run(text).content))
        if isinstance(message, ToolMessage) and self.reader.tool_results != "keep":
            return with_texts_replaced(
                message, lambda text: self.reader.shorter(text, tables=True) or text
            )
        return message


def missing_key(key: str, state: dict[Any, Any]) -> str:
    """Say which key a state lacks, and which option names another.

    Example:
        >>> missing_key("messages", {"question": "Is it hot?", "n": 1})
        "the state has no key 'messages'; pass key='question' to shorten that, or another key"
    """
    longest = max(state, key=lambda name: characters_of(state[name]), default=None)
    if longest is None:
        return f"the state has no key {key!r}, nor any other"
    return f"the state has no key {key!r}; pass key={longest!r} to shorten that, or another key"


def characters_of(content: Any) -> int:
    """Return roughly how many characters there are to work on."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, PromptValue):
        return characters_of(content.to_messages())
    if isinstance(content, Document):
        return len(content.page_content)
    if isinstance(content, BaseMessage):
        text = content.content
        return len(text) if isinstance(text, str) else len(str(text))
    if isinstance(content, dict):
        return sum(map(characters_of, content.values()))
    return sum(map(characters_of, content)) if isinstance(content, list | tuple) else 0
