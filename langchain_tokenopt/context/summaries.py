"""What a summarizer writes in the place of messages, each text once, and what that cost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables.base import coerce_to_runnable

from langchain_tokenopt.context.epochs import chain_of, key_of
from langchain_tokenopt.core.messages import text_of

__all__ = ["Summaries", "summarized_by"]

_ASK: Final = (
    "Summarize the conversation above for the assistant that continues it: what the user wants, "
    "what was decided, found out and corrected, with all names, numbers and identifiers. At most "
    "150 words, no introduction."
)


class Summaries:
    """What a summarizer wrote, each once, and what that cost.

    Args:
        summarizer: A runnable or a function of messages; a chat model is asked in words.
    """

    def __init__(self, summarizer: Any) -> None:
        self._model = summarizer if isinstance(summarizer, BaseChatModel) else None
        self._runnable = None if self._model is not None else coerce_to_runnable(summarizer)
        self._known: OrderedDict[int, str] = OrderedDict()
        self._lock = threading.Lock()
        self.spent_tokens = 0
        """By all of its calls so far."""

    def __call__(self, messages: Sequence[BaseMessage]) -> str:
        """Return a text that stands for *messages*; empty where there is none."""
        key = chain_of([key_of(message) for message in messages])[-1]
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        text = self._made(list(messages))
        with self._lock:
            text = self._known.setdefault(key, text)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return text

    def _made(self, messages: list[BaseMessage]) -> str:
        if self._runnable is not None:
            made: Any = self._runnable.invoke(messages)
            return made if isinstance(made, str) else text_of(made)
        assert self._model is not None
        lines = "\n".join(f"{message.type}: {text_of(message)}" for message in messages)
        answer = self._model.invoke(f"{lines}\n\n{_ASK}")
        usage = getattr(answer, "usage_metadata", None) or {}
        with self._lock:
            self.spent_tokens += usage.get("total_tokens", 0)
        return text_of(answer)


_MOST: Final = 1_024


def summarized_by(summarizer: Any) -> Summaries:
    """Return what asks a summarizer.

    Raises:
        TypeError: It is no chat model, no runnable and no function.
    """
    return Summaries(summarizer)
