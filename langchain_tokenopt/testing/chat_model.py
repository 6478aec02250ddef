"""The stand-in itself: LangChain's chat-model interface, and how an answer is put together."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, PositiveFloat, PositiveInt

from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.testing.arguments import arguments_for, chosen_tool
from langchain_tokenopt.testing.reading import Prompt, count_words, first_words

__all__ = ["NOTE", "ExtractiveChatModel"]

NOTE = "extractive stand-in, not a language model"
"""What every answer says about its author, in ``response_metadata["note"]``."""

CLOSING_WORDS = 40
"""Longest line with a decision and its reason."""

DEFAULT_WORDS = 120
"""Length of an answer whose prompt names no limit, at ``verbosity=1``."""


class ExtractiveChatModel(BaseChatModel):
    r"""Answer with the sentences of the prompt that fit the request best.

    An extractive stand-in, not a language model: it ranks the sentences of its prompt by BM25
    against the request and repeats the best ones in their original order. The same prompt always
    gets the same answer. Material is what stands in tags (``<document>...</document>``), in code
    fences, in long paragraphs and in earlier messages; the rest of the last human message and of
    the system message is the request.

    - Word limits in the request ("at most 150 words", "höchstens 100 Wörter") are obeyed.
    - Where the request names alternatives in capitals ("BUY, HOLD or SELL"), the answer closes with
      the one that the material names most often.
    - A bound tool is called when the request names it or shares several words with it, each tool
      at most once in a conversation; then the answer is taken from what the tool returned.
    - With ``tool_choice`` (and so with ``with_structured_output``) the arguments are filled from
      the prompt by the type of each field, so that the schema validates.

    Example:
        >>> model = ExtractiveChatModel()
        >>> notes = "Orders rose by 12 % in May. The canteen was painted. Margins fell."
        >>> question = "How did orders do? Max 7 words."
        >>> answer = model.invoke(f"{question}\n<notes>\n{notes}\n</notes>")
        >>> answer.text
        'Orders rose by 12 % in May.'
        >>> answer.response_metadata["note"]
        'extractive stand-in, not a language model'
    """

    model_config = ConfigDict(extra="forbid")

    model_name: str = "extractive-1"
    """Reported as the model that answered. No rate card has a price for the default."""
    max_tokens: PositiveInt | None = None
    """Longest answer in tokens, unless the call says otherwise."""
    stop: list[str] | None = None
    """The answer ends before the first of these, unless the call says otherwise."""
    verbosity: PositiveFloat = 1.0
    """Scales the length of answers; a word limit in the prompt is kept at any verbosity."""
    tokens_per_second: PositiveFloat | None = None
    """Speed to imitate; ``None`` answers at once."""
    tokenizer: str = "gpt-4o"
    """The model whose tokens are reported, as there is none of its own."""

    @property
    def _llm_type(self) -> str:
        return "tokenopt-extractive"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("model_name", "max_tokens", "stop", "verbosity", "tokenizer")
        return {name: getattr(self, name) for name in names}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "tokenopt-offline"
        params["ls_model_name"] = self.model_name
        return params

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Show *tools* to the stand-in, in OpenAI's format.

        Args:
            tools: Anything that ``convert_to_openai_tool`` takes.
            tool_choice: ``"any"``, ``"required"``, ``True`` or a tool's name force a call;
                ``"none"`` and ``False`` forbid it; ``"auto"`` and ``None`` leave it open.
            **kwargs: Bound as they are.
        """
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._reply(messages, stop, kwargs)
        time.sleep(self._seconds(reply))
        return ChatResult(generations=[ChatGeneration(message=reply)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._reply(messages, stop, kwargs)
        await asyncio.sleep(self._seconds(reply))
        return ChatResult(generations=[ChatGeneration(message=reply)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        reply = self._reply(messages, stop, kwargs)
        chunks = _chunks(reply)
        pause = self._seconds(reply) / len(chunks)
        for chunk in chunks:
            time.sleep(pause)
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        reply = self._reply(messages, stop, kwargs)
        chunks = _chunks(reply)
        pause = self._seconds(reply) / len(chunks)
        for chunk in chunks:
            await asyncio.sleep(pause)
            yield ChatGenerationChunk(message=chunk)

    def _seconds(self, reply: AIMessage) -> float:
        """Return how long a model of that speed would write."""
        if self.tokens_per_second is None or reply.usage_metadata is None:
            return 0.0
        return reply.usage_metadata["output_tokens"] / self.tokens_per_second

    def _reply(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> AIMessage:
        """Write the whole answer: the one place where sync, async and streams meet."""
        tools = [tool for tool in kwargs.get("tools") or () if "function" in tool]
        max_tokens = kwargs.get("max_tokens") or kwargs.get("max_completion_tokens")
        max_tokens = max_tokens or self.max_tokens
        prompt = Prompt.of(messages)
        tool = chosen_tool(tools, kwargs.get("tool_choice"), prompt)
        if tool is None:
            text = _cut_at_stop(_answer(prompt, self.verbosity), stop or self.stop)
            message, tokens = self._text_message(text, max_tokens)
        else:
            message, tokens = self._tool_message(tool, prompt, max_tokens)
        read = count_messages(messages, kwargs.get("tools") or None, model=self.tokenizer).tokens
        message.usage_metadata = UsageMetadata(
            input_tokens=read, output_tokens=tokens, total_tokens=read + tokens
        )
        message.response_metadata |= {
            "model_name": self.model_name,
            "model_provider": "tokenopt-offline",
            "note": NOTE,
        }
        return message

    def _text_message(self, text: str, max_tokens: int | None) -> tuple[AIMessage, int]:
        """Return *text*, cut to *max_tokens*, and how many tokens it has."""
        kept = text if max_tokens is None else self._first_tokens(text, max_tokens)
        reason = "stop" if kept == text else "length"
        message = AIMessage(kept, response_metadata={"finish_reason": reason})
        return message, self._count(kept)

    def _tool_message(
        self, tool: Mapping[str, Any], prompt: Prompt, max_tokens: int | None
    ) -> tuple[AIMessage, int]:
        """Return a call of *tool*; an invalid one, as from any model, if it had to be cut."""
        name, arguments = tool["name"], arguments_for(tool, prompt)
        written = json.dumps(arguments, ensure_ascii=False)
        seed = f"{len(prompt.called)} {name} {written}"
        call_id = (
            f"call_{hashlib.blake2b(seed.encode(errors='replace'), digest_size=9).hexdigest()}"
        )
        tokens = self._count(name + written)
        if max_tokens is None or tokens <= max_tokens:
            call = tool_call(name=name, args=arguments, id=call_id)
            reason = {"finish_reason": "tool_calls"}
            return AIMessage("", tool_calls=[call], response_metadata=reason), tokens
        written = self._first_tokens(name + written, max_tokens)[len(name) :]
        cut = invalid_tool_call(
            name=name, args=written, id=call_id, error=f"cut at max_tokens={max_tokens:,}"
        )
        reason = {"finish_reason": "length"}
        message = AIMessage("", invalid_tool_calls=[cut], response_metadata=reason)
        return message, self._count(name + written)

    def _count(self, text: str) -> int:
        return counter_for(self.tokenizer).count(text).tokens

    def _first_tokens(self, text: str, max_tokens: int) -> str:
        """Return the longest beginning of *text*, by bisection, that has at most *max_tokens*."""
        fits, too_long = 0, len(text) + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self._count(text[:middle]) <= max_tokens:
                fits = middle
            else:
                too_long = middle
        return text[:fits]


def _chunks(reply: AIMessage) -> list[AIMessageChunk]:
    """Cut an answer into what a stream shows: word by word, usage and reason at the end."""
    chunks = [AIMessageChunk(content=piece) for piece in re.findall(r"\S+\s*|\s+", reply.text)]
    calls: list[tuple[str | None, str | None, str | None]] = [
        (call["name"], json.dumps(call["args"]), call["id"]) for call in reply.tool_calls
    ]
    calls += [(call["name"], call["args"], call["id"]) for call in reply.invalid_tool_calls]
    for index, (name, written, call_id) in enumerate(calls):
        piece = tool_call_chunk(name=name, args=written, id=call_id, index=index)
        chunks.append(AIMessageChunk(content="", tool_call_chunks=[piece]))
    last = AIMessageChunk(
        content="",
        usage_metadata=reply.usage_metadata,
        response_metadata=reply.response_metadata,
        chunk_position="last",
    )
    return [*chunks, last]


def _cut_at_stop(text: str, stop: Sequence[str] | None) -> str:
    """Return *text* up to the first of the *stop* sequences."""
    ends = [text.find(sequence) for sequence in stop or () if sequence]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


# Writing


def _answer(prompt: Prompt, verbosity: float) -> str:
    """Return the best sentences in their order, within the word limit."""
    limit = prompt.max_words
    wanted = max(1, round((DEFAULT_WORDS if limit is None else limit) * verbosity))
    room = wanted if limit is None else min(wanted, limit)
    closing = _closing(prompt, room)
    body = prompt.sentences.extract(prompt.request, room - count_words(closing))
    return "\n".join(filter(None, (body, closing)))


_ALTERNATIVES = re.compile(
    r"(?P<label>\b[^\W\d_]+: )?"
    r"(?P<names>\b[A-Z]{2,}(?:(?:, ?[A-Z]{2,})*,? (?:or|oder|ou|o) [A-Z]{2,}|(?:/[A-Z]{2,}){2,})\b)"
)


def _closing(prompt: Prompt, max_words: int) -> str:
    """Return the line that decides between alternatives such as "BUY, HOLD or SELL", if asked."""
    match = _ALTERNATIVES.search(prompt.instructions)
    if match is None:
        return ""
    names = re.findall(r"[A-Z]{2,}", match["names"])
    decision = max(names, key=prompt.sentences.mentions)
    reason = prompt.sentences.best(f"{decision} {prompt.request}")
    line = f"{match['label'] or ''}{decision}. {reason}".strip()
    return first_words(line, min(max_words, CLOSING_WORDS))
