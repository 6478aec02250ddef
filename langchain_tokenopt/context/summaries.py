"""What a summarizer writes in the place of messages, each text once, and what that cost.

A summarizer is foreign code. Where it raises, takes too long, or writes no text, there is no
summary, which is said once: the note that needs none stands in its place.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.base import coerce_to_runnable

from langchain_tokenopt.context.conversation import chain_of, key_of
from langchain_tokenopt.core.argument_checks import refuse_class, shown
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.core.time_limit import TimeIsOverError, within

__all__ = ["Summaries", "summarized_by"]

_ASK: Final = (
    "Summarize the conversation above for the assistant that continues it: what the user wants, "
    "what was decided, found out and corrected, with all names, numbers and identifiers. At most "
    "150 words, no introduction."
)
_SECONDS: Final = 30.0
"""How long a summarizer may take: the call waits for it."""


class Summaries:
    """What a summarizer wrote, each once, and what that cost.

    Args:
        summarizer: A runnable or a function of messages; a chat model is asked in words.
        seconds: How long it may take. While one takes longer, it is not asked again.
    """

    def __init__(self, summarizer: Any, seconds: float = _SECONDS) -> None:
        self._model = summarizer if isinstance(summarizer, BaseChatModel) else None
        self._runnable = None if self._model is not None else coerce_to_runnable(summarizer)
        self._is_async = isinstance(self._runnable, RunnableLambda) and not hasattr(
            self._runnable, "func"
        )
        self._seconds = seconds
        self._hanging: threading.Event | None = None
        self._has_warned = False
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
        if self._hanging is not None and not self._hanging.is_set():
            return ""
        finished = threading.Event()

        def work() -> Any:
            try:
                return self._asked(messages)
            finally:
                finished.set()

        try:
            made = within(self._seconds, work)
        except TimeIsOverError:
            self._hanging = finished
            return self._none(f"has taken longer than {self._seconds:g} seconds")
        except Exception as error:  # noqa: BLE001  foreign code: no call may break for it
            return self._none(f"failed: {shown(error)}")
        text = text_of(made) if isinstance(made, BaseMessage) else made
        if not isinstance(text, str) or not text.strip():
            return self._none(f"returned no text, but {shown(made)}")
        self._has_warned = False
        return text.strip()

    def _none(self, why: str) -> str:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"The summarizer of ContextCompressor {why}. What the messages say themselves "
                f"stands in the place of its summary; until it works again this is not repeated.",
                TokenOptWarning,
                stacklevel=3,
            )
        return ""

    def _asked(self, messages: list[BaseMessage]) -> Any:
        if self._runnable is not None and self._is_async:
            return asyncio.run(self._runnable.ainvoke(messages))  # in a thread of its own
        if self._runnable is not None:
            return self._runnable.invoke(messages)
        assert self._model is not None
        lines = "\n".join(f"{message.type}: {text_of(message)}" for message in messages)
        answer = self._model.invoke(f"{lines}\n\n{_ASK}")
        usage = getattr(answer, "usage_metadata", None) or {}
        with self._lock:
            self.spent_tokens += usage.get("total_tokens", 0)
        return answer


_MOST: Final = 1_024


def summarized_by(summarizer: Any) -> Summaries:
    """Return what asks a summarizer.

    Raises:
        TypeError: It is no chat model, no runnable and no function.

    Example:
        >>> summarized_by("gpt-4o")
        Traceback (most recent call last):
        ...
        TypeError: summarizer is a chat model, a runnable or a function of messages; got 'gpt-4o'.
    """
    refuse_class("a summarizer", summarizer)
    try:
        if isinstance(summarizer, str | Mapping):
            raise TypeError
        return Summaries(summarizer)
    except TypeError as error:
        raise TypeError(
            f"summarizer is a chat model, a runnable or a function of messages; got "
            f"{shown(summarizer)}."
        ) from error
