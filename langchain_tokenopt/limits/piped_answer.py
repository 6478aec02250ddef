"""One answer under a limit, read behind a model or a parser in a pipe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_tokenopt.core.errors import StopStream
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.core.sinks import notify, with_ambient
from langchain_tokenopt.core.staged_runs import STOPPED_BY, TRIMMED_BY
from langchain_tokenopt.counting.tokens import counter_of_name
from langchain_tokenopt.forecast import CUT_FACTOR
from langchain_tokenopt.limits.compliance import STAGE, Compliance, ComplianceLog
from langchain_tokenopt.limits.message_excerpt import MessageExcerpt, TextExcerpt
from langchain_tokenopt.limits.on_exceed import LimitRule, marked

__all__ = ["PipedAnswer", "astop", "stop"]


class PipedAnswer:
    """One stream or value behind a model: texts, messages, or anything else, which passes.

    Args:
        rule: What is allowed, and what happens beyond it.
        compliance: Where to count the answer.
        agent: Whose answer it is.
    """

    def __init__(self, rule: LimitRule, compliance: ComplianceLog, agent: str) -> None:
        self._rule = rule
        self._compliance = compliance
        self._agent = agent
        # Behind a model nobody knows which one it is.
        self._counter = counter_of_name("gpt-4o")
        self._excerpt = rule.excerpt(self._counter)
        self._reader: MessageExcerpt | TextExcerpt | None = None
        self._is_done = False
        self.stopped = False
        self._shown: list[Any] = []

    @property
    def shown(self) -> Any:
        """Everything shown so far, for tracing: put together once, when it is asked for."""
        if all(isinstance(piece, str) for piece in self._shown):
            return "".join(self._shown) if self._shown else None
        if all(isinstance(piece, AIMessageChunk) for piece in self._shown):
            first, *others = self._shown
            return first + others if others else first
        return self._shown[-1]  # what passes need not be addable

    @property
    def is_over(self) -> bool:
        """Whether the rest of the stream is of no use."""
        if self._rule.shows_all or self._reader is None:
            return False
        if isinstance(self._reader, MessageExcerpt):
            return self._reader.text.is_full and not self._reader.calls_tools
        return self._reader.is_full

    def take(self, value: Any, *, last: bool = False) -> Any:
        """Return what may be shown of *value*; ``None`` when that is nothing."""
        shown = self._fitting(value, last)
        self._is_done = self._is_done or last
        return self._checked(value if self._rule.shows_all else shown)

    def _fitting(self, value: Any, last: bool) -> Any:
        if isinstance(value, str):
            texts = self._reader
            if not isinstance(texts, TextExcerpt):
                texts = self._reader = TextExcerpt(self._excerpt)
            shown = texts.feed(value) + (texts.finish() if last else "")
            return shown if shown or not value or last else None
        if isinstance(value, AIMessage):
            messages = self._reader
            if not isinstance(messages, MessageExcerpt):
                messages = self._reader = MessageExcerpt(self._excerpt)
            is_whole = not isinstance(value, AIMessageChunk) or value.chunk_position == "last"
            last = last or is_whole
            self._is_done = self._is_done or last
            part = messages.show(value, last=last)
            return part if part is None or not self._excerpt.is_cut else marked(part)
        return value

    def rest(self) -> Any:
        """Return what was held back, at the end of a stream."""
        if self._is_done or self._reader is None:
            return None
        self._is_done = True
        rest: Any = None
        if isinstance(self._reader, TextExcerpt):
            rest = self._reader.finish() or None
        else:
            rest = self._reader.rest()
            if self._excerpt.is_cut:
                mark = STOPPED_BY if self.stopped else TRIMMED_BY
                rest = marked(rest or AIMessageChunk(content=""), mark)
                if self.stopped:  # the provider's own reason never came
                    rest.response_metadata["finish_reason"] = "length"
        return self._checked(None if self._rule.shows_all else rest)

    def _checked(self, shown: Any) -> Any:
        self._rule.check(self._excerpt, self._agent)
        if shown is not None:
            self._shown.append(shown)
        return shown

    def close(self) -> None:
        """Count the answer."""
        if self._reader is None:
            return
        is_cut = self._excerpt.is_cut
        if is_cut and self._rule.shows_all:
            self._rule.warn(self._agent)
        saving = self._saving(stopped=is_cut and self.stopped)
        self._compliance.add(
            self._agent,
            Compliance.of_answer(
                trimmed=is_cut and not self.stopped,
                stopped=is_cut and self.stopped,
                saved_tokens=saving.saved_tokens,
                estimated=saving.saved_tokens > 0,
            ),
        )
        notify(with_ambient(()), saving)

    def _saving(self, *, stopped: bool) -> Saving:
        """Return what the limit has saved: nothing, unless it stopped the model."""
        written = self._counter.count(self._excerpt.text).tokens
        return Saving(
            stage=STAGE,
            side="output",
            tokens_before=round(written * CUT_FACTOR) if stopped else written,
            tokens_after=written,
            exact=False,
            agent=self._agent,
            at=datetime.now(UTC),
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
