"""What of a conversation is sent, what became of each message, and what that saves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.messages import BaseMessage

from langchain_tokenopt.context.conversation import Conversation
from langchain_tokenopt.context.decisions import State
from langchain_tokenopt.context.expand import NAME
from langchain_tokenopt.context.importance import Importance, importance_of
from langchain_tokenopt.context.levels import Level, handles_in
from langchain_tokenopt.context.protection import superseded, task_of
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.pricing.money import UNITS_PER_NANO_USD

__all__ = ["STAGE", "ContextView", "MessageView"]

STAGE: Final = "ContextCompressor"


@dataclass(frozen=True, slots=True)
class MessageView:
    """What became of one message, and why."""

    index: int
    level: Level
    importance: Importance
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True)
class ContextView:
    """What of a conversation is sent."""

    messages: list[BaseMessage]
    """The very list that was given where nothing was decided; messages that stay are the same."""
    tokens_before: int
    tokens_after: int
    """Of the whole request: tools and the frame count."""
    steps: int
    """How many steps the conversation has had so far."""
    overrun: int
    """Tokens by which it is longer than ``max_tokens`` all the same: what must be kept is."""
    saved: float
    """What all steps have saved so far, in tokens at the plain input price; less than 0: lost."""
    conversation: Conversation = field(repr=False)
    state: State = field(repr=False)

    @property
    def is_feasible(self) -> bool:
        """Whether the view is as short as was asked for."""
        return not self.overrun

    def explain(self) -> tuple[MessageView, ...]:
        """Say of each message what it is, and how much of it is shown."""
        messages, decisions = self.conversation.messages, self.state.decisions
        query = self.conversation.query(len(messages))
        task, old = task_of(messages), superseded(messages)
        found = []
        for at, message in enumerate(messages):
            matters = importance_of(message, query, is_task=at == task, is_superseded=at in old)
            tokens = self.conversation.tokens[at]
            level, after = Level.WHOLE, tokens
            if at in decisions:
                text = decisions[at]
                level, after = _level(text), 0
                if text is not None:
                    after = self.conversation.sizes.in_place(message, text)
            found.append(MessageView(at, level, matters, tokens, after))
        return tuple(found)

    def original(self, handle: str, *, tool: str = NAME) -> str | None:
        """Return the text that a handle of this view stands for.

        Of many messages it is a list, in which the long ones have handles of their own.
        """
        indexes = self.state.handles.get(handle)
        return None if indexes is None else self.conversation.original(indexes, tool)

    @property
    def has_handles(self) -> bool:
        """Whether anything that is shown can be fetched back."""
        if self.state.handles:
            return True
        return any(handles_in(text_of(m)) for m in self.messages)

    def saving(self, *, rate: int | None = None, **fields: Any) -> Saving:
        """Return what this view saves.

        Args:
            rate: What a million tokens of the input cost, in nano-USD; ``None``: nobody says.
            fields: What else is known.
        """
        saved = None if rate is None else round(self.state.gain * rate / UNITS_PER_NANO_USD)
        return Saving(
            stage=STAGE,
            tokens_before=self.tokens_before,
            tokens_after=self.tokens_after,
            exact=False,
            saved_nano_usd=saved,
            **fields,
        )


def _level(text: str | None) -> Level:
    if text is None:
        return Level.ASIDE
    return Level.LINE if text.startswith("[") and " set aside" in text else Level.SHORTENED
