"""One answer under a limit, read behind a model or a parser in a pipe."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import StopStream, TokenOptWarning
from langchain_tokenopt.limits.outcome import Compliance, WordLimitExceededError, described
from langchain_tokenopt.limits.pieces import MessagePieces, TextPieces

if TYPE_CHECKING:
    from langchain_tokenopt.limits.stage import WordLimit

__all__ = ["Reading", "astop", "stop"]


class Reading:
    """One stream or value behind a model: texts, messages, or anything else, which passes."""

    def __init__(self, limit: WordLimit, config: RunnableConfig) -> None:
        self._limit = limit
        self._agent = attribution_of(config.get("metadata") or {}).agent
        self._excerpt = limit.excerpt()
        self._pieces: MessagePieces | TextPieces | None = None
        self._is_done = False
        self.stopped = False
        self.shown: Any = None
        """Everything shown so far, for tracing."""

    @property
    def is_over(self) -> bool:
        """Whether the rest of the stream is of no use."""
        if self._limit.on_exceed == "warn" or self._pieces is None:
            return False
        if isinstance(self._pieces, MessagePieces):
            return self._pieces.text.is_full and not self._pieces.calls_tools
        return self._pieces.is_full

    def take(self, value: Any, *, last: bool = False) -> Any:
        """Return what may be shown of *value*; ``None`` when that is nothing."""
        shown = self._fitting(value, last)
        self._is_done = self._is_done or last
        return self._checked(value if self._limit.on_exceed == "warn" else shown)

    def _fitting(self, value: Any, last: bool) -> Any:
        if isinstance(value, str):
            texts = self._pieces
            if not isinstance(texts, TextPieces):
                texts = self._pieces = TextPieces(self._excerpt)
            shown = texts.feed(value) + (texts.finish() if last else "")
            return shown if shown or not value or last else None
        if isinstance(value, AIMessage):
            messages = self._pieces
            if not isinstance(messages, MessagePieces):
                messages = self._pieces = MessagePieces(self._excerpt)
            last = last or getattr(value, "chunk_position", None) == "last"
            self._is_done = self._is_done or last
            return messages.show(value, last=last)
        return value

    def rest(self) -> Any:
        """Return what was held back, at the end of a stream."""
        if self._is_done or self._pieces is None:
            return None
        self._is_done = True
        if isinstance(self._pieces, TextPieces):
            rest: Any = self._pieces.finish() or None
        else:
            rest = self._pieces.rest()
        return self._checked(None if self._limit.on_exceed == "warn" else rest)

    def _checked(self, shown: Any) -> Any:
        exceeded = self._excerpt.has_exceeded or self._excerpt.is_cut
        if exceeded and self._limit.on_exceed == "raise":
            raise WordLimitExceededError(self._limit.limit, self._agent)
        if shown is not None:
            try:
                self.shown = shown if self.shown is None else self.shown + shown
            except TypeError:  # what passes need not be addable
                self.shown = shown
        return shown

    def close(self) -> None:
        """Count the answer."""
        if self._pieces is None:
            return
        is_cut = self._excerpt.is_cut
        if is_cut and self._limit.on_exceed == "warn":
            warnings.warn(
                f"The answer of {self._agent!r} is longer than the "
                f"{described(self._limit.limit)} allowed.",
                TokenOptWarning,
                stacklevel=2,
            )
        self._limit.count(
            self._agent,
            Compliance(
                answers=1,
                obeyed_unasked=int(not is_cut),
                trimmed=int(is_cut and not self.stopped),
                stopped=int(is_cut and self.stopped),
            ),
        )


def stop(stream: Iterator[Any]) -> None:
    """Stop whatever writes *stream*, through every step between.

    LangChain's own steps answer ``close()`` by reading on to the end; an exception thrown into
    them makes them let go.
    """
    throw = getattr(stream, "throw", None)
    if throw is not None:
        with suppress(StopStream, StopIteration):
            throw(StopStream())
    close = getattr(stream, "close", None)
    if close is not None:
        close()


async def astop(stream: AsyncIterator[Any]) -> None:
    """Stop whatever writes *stream*. LangChain's asynchronous steps let go when they are closed."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
