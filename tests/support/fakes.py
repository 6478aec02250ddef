"""Chat models without a network, of every build that LangChain knows.

LangChain behaves differently for models that define only ``_generate`` and for those that also
define ``_agenerate``, ``_stream`` or ``_astream``. :func:`fake_chat` makes any of them::

    model = fake_chat("_stream", "_astream", answers=[FakeAnswer("Hello.", usage=Usage(9, 2))])
    model.calls[-1].messages                                  # what it was asked
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, BaseLLM, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    LLMResult,
)
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from langchain_tokenopt.core.usage import Usage

__all__ = ["FakeAnswer", "FakeCall", "FakeTextModel", "fake_chat", "usage_metadata"]

Method = Literal["_agenerate", "_stream", "_astream"]


@dataclass(frozen=True, slots=True)
class FakeAnswer:
    """One answer of a fake model."""

    text: str = "w0 w1 w2 w3"
    usage: Usage | None = None
    """``None``: the provider is silent."""
    reported: Literal["at_end", "at_start", "so_far"] = "at_end"
    """Streams: usage on the last chunk, on the first, or the running total on each."""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    names_model: bool = True
    """False: nothing in the answer says which model gave it."""
    error: Exception | None = None
    """Raised instead of the answer; in a stream after ``words_before_error``."""
    words_before_error: int = 0
    generations: int = 1
    """How many times the answer is given, each with the usage of the whole call."""


@dataclass(frozen=True, slots=True)
class FakeCall:
    """What a fake model was called with."""

    method: str
    messages: list[BaseMessage]
    stop: list[str] | None
    kwargs: Mapping[str, Any]


class FakeChat(BaseChatModel):
    """Base of the models that :func:`fake_chat` makes; by itself it has only ``_generate``."""

    model: str = "fake-1"
    answers: list[FakeAnswer] = Field(default_factory=list, exclude=True)
    """Given in order; after the last one ``FakeAnswer()``."""
    calls: list[FakeCall] = Field(default_factory=list, exclude=True)
    delay_seconds: float = Field(default=0.0, exclude=True)
    """Time that an answer takes; in streams the time before each word."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model": self.model}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, Any]:
        """Accept tools in any form and pass them on as OpenAI's integrations do."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._next("_generate", messages, stop, kwargs)
        time.sleep(self.delay_seconds)
        return self._result(answer)

    def _next(
        self, method: str, messages: list[BaseMessage], stop: list[str] | None, kwargs: Any
    ) -> FakeAnswer:
        """Take note of a call and take the next answer; both are atomic in CPython."""
        self.calls.append(FakeCall(method, list(messages), stop, kwargs))
        try:
            return self.answers.pop(0)
        except IndexError:
            return FakeAnswer()

    def _result(self, answer: FakeAnswer) -> ChatResult:
        if answer.error is not None:
            raise answer.error
        message = AIMessage(
            answer.text,
            usage_metadata=usage_metadata(answer.usage),
            response_metadata={"model_name": self.model} if answer.names_model else {},
            tool_calls=[{"id": f"call_{i}", **call} for i, call in enumerate(answer.tool_calls)],
        )
        return ChatResult(
            generations=[
                ChatGeneration(message=message.model_copy()) for _ in range(answer.generations)
            ]
        )

    def _chunks(self, answer: FakeAnswer) -> Iterator[ChatGenerationChunk]:
        """Write an answer word by word; raise where it says so."""
        words = re.findall(r"\s*\S+\s*$|\s*\S+", answer.text)
        if answer.error is not None:
            for word in words[: answer.words_before_error]:
                yield ChatGenerationChunk(message=AIMessageChunk(content=word))
            raise answer.error
        names = {"model_name": self.model} if answer.names_model else {}
        for n, word in enumerate(words, start=1):
            chunk = AIMessageChunk(content=word, usage_metadata=_told(answer, n, len(words)))
            if n == 1:
                chunk.response_metadata = names
            yield ChatGenerationChunk(message=chunk)
        calls = [
            tool_call_chunk(name=c["name"], args=json.dumps(c["args"]), id=f"call_{i}", index=i)
            for i, c in enumerate(answer.tool_calls)
        ]
        last = AIMessageChunk(content="", tool_call_chunks=calls, chunk_position="last")
        if answer.reported == "at_end" or not words:
            last.usage_metadata = usage_metadata(answer.usage)
        yield ChatGenerationChunk(message=last)


class _WithAgenerate:
    async def _agenerate(
        self: Any,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._next("_agenerate", messages, stop, kwargs)
        await asyncio.sleep(self.delay_seconds)
        result: ChatResult = self._result(answer)
        return result


class _WithStream:
    def _stream(
        self: Any,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks(self._next("_stream", messages, stop, kwargs)):
            time.sleep(self.delay_seconds)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class _WithAstream:
    async def _astream(
        self: Any,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(self._next("_astream", messages, stop, kwargs)):
            await asyncio.sleep(self.delay_seconds)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


_PARTS: Mapping[Method, type] = {
    "_agenerate": _WithAgenerate,
    "_stream": _WithStream,
    "_astream": _WithAstream,
}


def fake_chat(
    *methods: Method, answers: Sequence[FakeAnswer | str] = (), **fields: Any
) -> FakeChat:
    """Make a chat model that defines ``_generate`` and the given *methods*.

    Args:
        methods: Which of ``_agenerate``, ``_stream`` and ``_astream`` it has as well.
        answers: Given in order; after the last one ``FakeAnswer()``.
        fields: Of :class:`FakeChat`: ``model``, ``delay_seconds``, ``callbacks``, ``cache``...
    """
    script = [FakeAnswer(answer) if isinstance(answer, str) else answer for answer in answers]
    return _build(frozenset(methods))(answers=script, **fields)


@cache
def _build(methods: frozenset[Method]) -> type[FakeChat]:
    # Streams first: whoever overrides an answer in one piece only is not streamed.
    parts = tuple(_PARTS[method] for method in reversed(_PARTS) if method in methods)
    return type("FakeChat", (*parts, FakeChat), {"__module__": __name__})


class FakeTextModel(BaseLLM):
    """A completion model that reports its usage in ``llm_output``, as OpenAI's does."""

    usage: Usage | None = Field(default=None, exclude=True)
    """Of one prompt; ``None``: the provider is silent."""
    text: str = "w0 w1 w2 w3"

    @property
    def _llm_type(self) -> str:
        return "fake-text"

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        output: dict[str, Any] = {"model_name": "fake-text-1"}
        if self.usage is not None:
            output["token_usage"] = {
                "prompt_tokens": self.usage.input_tokens * len(prompts),
                "completion_tokens": self.usage.output_tokens * len(prompts),
                "total_tokens": self.usage.total_tokens * len(prompts),
            }
        answers = [[Generation(text=self.text)] for _ in prompts]
        return LLMResult(generations=answers, llm_output=output)


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """Return *usage* in LangChain's form."""
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_token_details={
            "cache_read": usage.cache_read_tokens,
            "cache_creation": usage.cache_write_tokens,
            "audio": usage.input_audio_tokens,
        },
        output_token_details={
            "reasoning": usage.reasoning_tokens,
            "audio": usage.output_audio_tokens,
        },
    )


def _told(answer: FakeAnswer, n: int, words: int) -> UsageMetadata | None:
    """Return what chunk *n* of *words* reports."""
    if answer.usage is None or answer.reported == "at_end":
        return None
    if answer.reported == "at_start":
        return usage_metadata(answer.usage) if n == 1 else None
    output = answer.usage.output_tokens * n // words
    return UsageMetadata(
        input_tokens=answer.usage.input_tokens,
        output_tokens=output,
        total_tokens=answer.usage.input_tokens + output,
    )
