"""Twelve providers, each through its own LangChain package, with usage written word for word.

:mod:`tests.support.wires` writes bills that are in order. Here the bill is what the script says:
numbers that are missing, zero, text, doubled or at odds with each other. A provider writes an
:class:`Answer` as it goes over its wire, and its ``usage`` is passed on untouched::

    groq = PROVIDERS["groq"]
    server.script(groq.whole(Answer(usage={"prompt_tokens": 0, "total_tokens": 0})))
    groq.chat(server).invoke("Hi")

The forms are those of the providers' documents, read on 2026-11-29:

- OpenAI and all that are compatible: https://platform.openai.com/docs/api-reference/chat
- Groq's ``x_groq``: https://console.groq.com/docs/api-reference
- DeepSeek's cache: https://api-docs.deepseek.com/api/create-chat-completion
- OpenRouter's cost: https://openrouter.ai/docs/use-cases/usage-accounting
- Perplexity: https://docs.perplexity.ai/api-reference/chat-completions-post
- Anthropic: https://docs.anthropic.com/en/api/messages-streaming
- Gemini: https://ai.google.dev/api/generate-content
- Bedrock: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
- Ollama: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_tokenopt.core.usage import Usage
from tests.support.model_server import ModelServer, Raw, Request, count_tokens
from tests.support.wires import AnthropicMessages, ChatCompletions, Gemini, ToolCall

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["LEFT_OUT", "PROVIDERS", "Answer", "Provider"]

LEFT_OUT: Any = object()
"""For a usage that the answer does not have at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, and how it reports its own price."""

    text: str = "The river rises, and the rain does not stop."
    reasoning: str = ""
    """Written before the text, in the provider's own place for it."""
    usage: Any = LEFT_OUT
    """As it stands on the wire."""
    on_chunks: Mapping[int, Any] = field(default_factory=dict)
    """Streams: further usage, by the number of the chunk."""
    tool_calls: Sequence[ToolCall] = ()
    finish: str | None = None
    """The provider's own word for why it ended, where it is not the usual one."""
    model: str | None = None
    """The name to answer under."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the whole answer, and of the last chunk of a stream."""
    finishes: int = 1
    """Streams: how many chunks say that the answer ends."""

    @property
    def words(self) -> list[str]:
        """The text, word by word, spaces included."""
        return re.findall(r"\s*\S+\s*$|\s*\S+", self.text)

    @property
    def thoughts(self) -> list[str]:
        """The reasoning, word by word."""
        return re.findall(r"\s*\S+\s*$|\s*\S+", self.reasoning)


class Provider:
    """One provider behind its LangChain package."""

    name: str
    model: str
    open_vocabulary = False
    """Whether the tokens of its models can be counted exactly."""
    timeout: Mapping[str, Any] = {"timeout": 0.2}
    """The settings of a client that waits for 0.2 s."""
    details: Sequence[str] = ()
    """Fields of :class:`Usage` beyond input and output that the bill has."""
    density = 1.0
    """Tokens of its own vocabulary for each of o200k_base, in English."""

    def tokens(self, text: str) -> int:
        """Count *text* as the provider does, as far as that is known."""
        return round(count_tokens(text) * self.density)

    def known(self, usage: Usage) -> Usage:
        """Return as much of *usage* as the bill says."""
        names = ("input_tokens", "output_tokens", *self.details)
        return Usage(**{name: getattr(usage, name) for name in names})

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        """Return the real chat model, talking to *server*."""
        raise NotImplementedError

    def usage(self, usage: Usage) -> dict[str, Any]:
        """Write *usage* as this provider does when all is well."""
        raise NotImplementedError

    def whole(self, answer: Answer) -> Raw:
        """Write an answer in one piece."""
        raise NotImplementedError

    def stream(self, answer: Answer) -> Raw:
        """Write an answer piece by piece."""
        raise NotImplementedError


class OpenAI(Provider):
    """OpenAI's chat completions; the others that speak it say where they differ."""

    name = "openai"
    model = "gpt-4.1-mini"
    open_vocabulary = True
    details: Sequence[str] = ("cache_read_tokens", "reasoning_tokens")
    reasoning_key = "reasoning_content"

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        return server.chat_openai(**({"stream_usage": True} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return dict(ChatCompletions.usage(usage) or {})

    def whole(self, answer: Answer) -> Raw:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
        if answer.reasoning:
            message[self.reasoning_key] = answer.reasoning
        if answer.tool_calls:
            message["tool_calls"] = [_openai_call(i, c) for i, c in enumerate(answer.tool_calls)]
        choice = {"index": 0, "message": message, "finish_reason": _finish(answer)}
        body = self._head(answer, "chat.completion") | {"choices": [choice]} | answer.more
        return Raw(body=body | _told("usage", answer.usage))

    def stream(self, answer: Answer) -> Raw:
        head = self._head(answer, "chat.completion.chunk")
        pieces = [{self.reasoning_key: word} for word in answer.thoughts]
        pieces += [{"content": word} for word in answer.words]
        for i, call in enumerate(answer.tool_calls):
            pieces.append({"tool_calls": [_openai_call(i, call)]})
        chunks = [
            self._chunk(head, {"role": "assistant"} | piece, answer.on_chunks.get(n, LEFT_OUT))
            for n, piece in enumerate(pieces)
        ]
        for n in range(answer.finishes):
            last = self._chunk(head, {}, answer.on_chunks.get(-1 - n, LEFT_OUT)) | answer.more
            last["choices"][0]["finish_reason"] = _finish(answer)
            chunks.append(last)
        return Raw(events=[*self._with_bill(chunks, head, answer.usage), "[DONE]"])

    def _with_bill(self, chunks: list[Any], head: Mapping[str, Any], usage: Any) -> list[Any]:
        """Add the usage of the whole stream: here a chunk of its own, without choices."""
        return chunks if usage is LEFT_OUT else [*chunks, {**head, "choices": [], "usage": usage}]

    def _chunk(self, head: Mapping[str, Any], delta: Any, usage: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        return {**head, "choices": [choice]} | _told("usage", usage)

    def _head(self, answer: Answer, kind: str) -> dict[str, Any]:
        return {
            "id": "a-1",
            "object": kind,
            "created": 1,
            "model": answer.model or self.model,
            "system_fingerprint": None,
        }


class Azure(OpenAI):
    """OpenAI's models on Azure, behind a deployment's name."""

    name = "azure"
    open_vocabulary = False  # a deployment's name says nothing about the model

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_openai import AzureChatOpenAI

        defaults: dict[str, Any] = {
            "azure_endpoint": server.url,
            "azure_deployment": "our-chat",
            "api_version": "2024-10-21",
            "api_key": "test",
            "max_retries": 0,
            "stream_usage": True,
        }
        return AzureChatOpenAI(**(defaults | settings))


class DeepSeek(OpenAI):
    """DeepSeek: cached tokens are top-level fields."""

    name = "deepseek"
    model = "deepseek-reasoner"
    open_vocabulary = False

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_deepseek import ChatDeepSeek

        defaults: dict[str, Any] = {"model": self.model, "api_key": "test", "max_retries": 0}
        return ChatDeepSeek(**(defaults | {"base_url": f"{server.url}/v1"} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_cache_hit_tokens": usage.cache_read_tokens,
            "prompt_cache_miss_tokens": usage.input_tokens - usage.cache_read_tokens,
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }


class XAI(OpenAI):
    """xAI: the completion does not contain the reasoning, the total does."""

    name = "xai"
    model = "grok-4"
    open_vocabulary = False

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_xai import ChatXAI

        defaults: dict[str, Any] = {"model": self.model, "api_key": "test", "max_retries": 0}
        return ChatXAI(**(defaults | {"base_url": f"{server.url}/v1"} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        told = super().usage(usage)
        return told | {"completion_tokens": usage.output_tokens - usage.reasoning_tokens}


class Groq(OpenAI):
    """Groq: a stream's usage stands in ``x_groq`` of its last chunk."""

    name = "groq"
    model = "openai/gpt-oss-20b"
    open_vocabulary = True
    reasoning_key = "reasoning"

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_groq import ChatGroq

        defaults: dict[str, Any] = {"model": self.model, "api_key": "test", "max_retries": 0}
        return ChatGroq(**(defaults | {"base_url": server.url} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {
            "queue_time": 0.01,
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }

    def _with_bill(self, chunks: list[Any], head: Mapping[str, Any], usage: Any) -> list[Any]:
        told = {"id": "req_1"} | _told("usage", usage)
        return [*chunks[:-1], {**chunks[-1], "x_groq": told}]


class Mistral(OpenAI):
    """Mistral: a stream's usage stands on its last chunk."""

    name = "mistral"
    model = "mistral-small-latest"
    open_vocabulary = False
    timeout: Mapping[str, Any] = {}  # whole seconds only
    details: Sequence[str] = ()

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_mistralai import ChatMistralAI

        defaults: dict[str, Any] = {"model": self.model, "api_key": "test", "max_retries": 1}
        return ChatMistralAI(**(defaults | {"base_url": f"{server.url}/v1"} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        }

    def _with_bill(self, chunks: list[Any], head: Mapping[str, Any], usage: Any) -> list[Any]:
        return [*chunks[:-1], {**chunks[-1]} | _told("usage", usage)]


class OpenRouter(OpenAI):
    """OpenRouter: it says what a call cost, in dollars."""

    name = "openrouter"
    model = "anthropic/claude-haiku-4.5"
    density = 1.2
    open_vocabulary = False
    reasoning_key = "reasoning"
    timeout: Mapping[str, Any] = {"timeout": 200}

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_openrouter import ChatOpenRouter

        defaults: dict[str, Any] = {"model": self.model, "api_key": "test", "max_retries": 0}
        return ChatOpenRouter(**(defaults | {"base_url": f"{server.url}/v1"} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {
                "cached_tokens": usage.cache_read_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
            },
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }


class Perplexity(OpenAI):
    """Perplexity: running totals on every chunk, a price per request."""

    name = "perplexity"
    model = "sonar"
    open_vocabulary = False
    details: Sequence[str] = ("reasoning_tokens",)

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_perplexity import ChatPerplexity
        from perplexity import AsyncPerplexity
        from perplexity import Perplexity as Client

        to: dict[str, Any] = {"api_key": "test", "base_url": server.url, "max_retries": 0}
        to |= {"timeout": settings.pop("timeout")} if "timeout" in settings else {}
        clients = {"client": Client(**to), "async_client": AsyncPerplexity(**to)}
        return ChatPerplexity(**({"model": self.model, "api_key": "test"} | clients | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "search_context_size": "low",
        }

    def _with_bill(self, chunks: list[Any], head: Mapping[str, Any], usage: Any) -> list[Any]:
        return [*chunks[:-1], {**chunks[-1]} | _told("usage", usage)]


class OpenAIResponses(Provider):
    """OpenAI's responses."""

    name = "responses"
    model = "gpt-4.1-mini"
    open_vocabulary = True
    details: Sequence[str] = ("cache_read_tokens", "reasoning_tokens")

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        return server.chat_openai(**({"use_responses_api": True} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.total_tokens,
        }

    def whole(self, answer: Answer) -> Raw:
        return Raw(body=self._response(answer, self._output(answer)) | _told("usage", answer.usage))

    def stream(self, answer: Answer) -> Raw:
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": self._response(answer, [])}
        ]
        for index, item in enumerate(self._output(answer)):
            at = {"output_index": index, "item_id": item["id"]}
            opened = item | ({"content": []} if item["type"] == "message" else {"arguments": ""})
            events.append(
                {"type": "response.output_item.added", "output_index": index, "item": opened}
            )
            if item["type"] == "message":
                empty = {"type": "output_text", "text": "", "annotations": []}
                begun = {"type": "response.content_part.added", "content_index": 0, "part": empty}
                events.append(begun | at)
                events += [
                    {"type": "response.output_text.delta", "content_index": 0, "delta": word} | at
                    for word in answer.words
                ]
            else:
                delta = item["arguments"]
                begun = {"type": "response.function_call_arguments.delta", "delta": delta}
                events.append(begun | at)
            events.append(
                {"type": "response.output_item.done", "output_index": index, "item": item}
            )
        kind = "incomplete" if answer.finish else "completed"
        events.append({"type": f"response.{kind}", "response": self.whole(answer).body})
        numbered = [event | {"sequence_number": n} for n, event in enumerate(events)]
        return Raw(events=numbered, named=True)

    def _output(self, answer: Answer) -> list[dict[str, Any]]:
        text = {"type": "output_text", "text": answer.text, "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        spoken = [message | {"content": [text]}] if answer.text else []
        return spoken + [
            {
                "type": "function_call",
                "id": f"fc_{i}",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.json,
                "status": "completed",
            }
            for i, call in enumerate(answer.tool_calls)
        ]

    def _response(self, answer: Answer, output: list[Any]) -> dict[str, Any]:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "incomplete" if answer.finish else "completed",
            "incomplete_details": {"reason": answer.finish} if answer.finish else None,
            "model": answer.model or self.model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "metadata": {},
            **answer.more,
        }


class Anthropic(Provider):
    """Anthropic's messages. ``usage`` of a stream stands in its last event.

    ``on_chunks[0]`` is the usage in ``message_start``, other numbers those of further
    ``message_delta`` events before the last one.
    """

    name = "anthropic"
    model = "claude-haiku-4-5"
    density = 1.2
    details: Sequence[str] = ("cache_read_tokens", "cache_write_tokens")

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        return server.chat_anthropic(**settings)

    def usage(self, usage: Usage) -> dict[str, Any]:
        return AnthropicMessages.usage(usage)

    def whole(self, answer: Answer) -> Raw:
        content = [{"type": "text", "text": answer.text}] if answer.text else []
        content += [
            {"type": "tool_use", "id": c.id, "name": c.name, "input": dict(c.args)}
            for c in answer.tool_calls
        ]
        stop = {"stop_reason": answer.finish or ("tool_use" if answer.tool_calls else "end_turn")}
        message = self._message(answer, content) | stop | answer.more
        return Raw(body=message | _told("usage", answer.usage))

    def stream(self, answer: Answer) -> Raw:
        first = answer.on_chunks.get(0, {"input_tokens": 0, "output_tokens": 0})
        begun = self._message(answer, []) | _told("usage", first)
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if answer.reasoning:
            deltas = [{"type": "thinking_delta", "thinking": word} for word in answer.thoughts]
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
        if answer.text:
            deltas = [{"type": "text_delta", "text": word} for word in answer.words]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for call in answer.tool_calls:
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            blocks.append((block, [{"type": "input_json_delta", "partial_json": call.json}]))
        for index, (block, deltas) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events += [
                {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
            ]
            events.append({"type": "content_block_stop", "index": index})
        stop = answer.finish or ("tool_use" if answer.tool_calls else "end_turn")
        for n in sorted(n for n in answer.on_chunks if n > 0):
            delta = {"stop_reason": None, "stop_sequence": None}
            more = {"type": "message_delta", "delta": delta, "usage": answer.on_chunks[n]}
            events.append(more)
        delta = {"stop_reason": stop, "stop_sequence": None}
        usage = {"output_tokens": 0} if answer.usage is LEFT_OUT else answer.usage
        events.append({"type": "message_delta", "delta": delta, "usage": usage} | answer.more)
        events.append({"type": "message_stop"})
        return Raw(events=events, named=True)

    def _message(self, answer: Answer, content: list[Any]) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": answer.model or self.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
        }


class GoogleGenAI(Provider):
    """Gemini. ``on_chunks`` are the running totals, ``usage`` that of the last chunk."""

    name = "gemini"
    model = "gemini-2.5-flash"
    details: Sequence[str] = ("cache_read_tokens", "reasoning_tokens")

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        return server.chat_gemini(**settings)

    def usage(self, usage: Usage) -> dict[str, Any]:
        return Gemini.usage(usage)

    def whole(self, answer: Answer) -> Raw:
        parts: list[dict[str, Any]] = []
        if answer.reasoning:
            parts.append({"text": answer.reasoning, "thought": True})
        if answer.text:
            parts.append({"text": answer.text})
        parts += [
            {"functionCall": {"name": c.name, "args": dict(c.args)}} for c in answer.tool_calls
        ]
        return Raw(body=self._response(answer, parts, answer.usage, last=True))

    def stream(self, answer: Answer) -> Raw:
        pieces: list[dict[str, Any]] = [{"text": w, "thought": True} for w in answer.thoughts]
        pieces += [{"text": word} for word in answer.words]
        pieces += [
            {"functionCall": {"name": c.name, "args": dict(c.args)}} for c in answer.tool_calls
        ]
        chunks = [
            self._response(answer, [piece], answer.on_chunks.get(n, LEFT_OUT), last=False)
            for n, piece in enumerate(pieces)
        ]
        chunks.append(self._response(answer, [{"text": ""}], answer.usage, last=True))
        return Raw(events=chunks)

    @staticmethod
    def _calls(answer: Answer) -> list[dict[str, Any]]:
        return [{"functionCall": {"name": c.name, "args": dict(c.args)}} for c in answer.tool_calls]

    def _response(self, answer: Answer, parts: list[Any], usage: Any, *, last: bool) -> Any:
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
        if last:
            candidate["finishReason"] = answer.finish or "STOP"
        response = {"candidates": [candidate], "responseId": "r1"}
        response["modelVersion"] = answer.model or self.model
        return response | _told("usageMetadata", usage) | (answer.more if last else {})


class Ollama(Provider):
    """Ollama: counts beside the answer, lines instead of events."""

    name = "ollama"
    model = "qwen3:8b"
    timeout: Mapping[str, Any] = {"client_kwargs": {"timeout": 0.2}}

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_ollama import ChatOllama

        defaults = {"model": self.model, "base_url": server.url, "validate_model_on_init": False}
        return ChatOllama(**(defaults | {"reasoning": True} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens}

    def whole(self, answer: Answer) -> Raw:
        return self.stream(answer)  # its client always streams

    def stream(self, answer: Answer) -> Raw:
        def line(message: dict[str, Any], **more: Any) -> dict[str, Any]:
            head = {"model": answer.model or self.model, "created_at": "2026-11-29T10:00:00Z"}
            spoken = {"role": "assistant", "content": ""} | message
            return head | {"message": spoken, "done": False} | more

        lines = [line({"thinking": word}) for word in answer.thoughts]
        lines += [line({"content": word}) for word in answer.words]
        if answer.tool_calls:
            calls = [
                {"function": {"name": c.name, "arguments": dict(c.args)}} for c in answer.tool_calls
            ]
            lines.append(line({"tool_calls": calls}))
        counts = {} if answer.usage is LEFT_OUT else answer.usage
        ended = {"done": True, "done_reason": answer.finish or "stop"}
        lines.append(line({}, **ended, **counts, **answer.more))
        return Raw(events=lines, lines=True)


class Bedrock(Provider):
    """Bedrock's Converse, with a client that takes its answers from the server's script."""

    name = "bedrock"
    model = "anthropic.claude-haiku-4-5-20251001-v1:0"
    density = 1.2
    details: Sequence[str] = ("cache_read_tokens", "cache_write_tokens")

    def chat(self, server: ModelServer, **settings: Any) -> BaseChatModel:
        from langchain_aws import ChatBedrockConverse

        client = _BedrockClient(server, settings.pop("timeout", None))
        defaults: dict[str, Any] = {"model": self.model, "region_name": "us-east-1"}
        clients = {"client": client, "bedrock_client": client}
        return ChatBedrockConverse(**(defaults | clients | {"provider": "anthropic"} | settings))

    def usage(self, usage: Usage) -> dict[str, Any]:
        cached = usage.cache_read_tokens + usage.cache_write_tokens
        return {
            "inputTokens": usage.input_tokens - cached,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            "cacheReadInputTokens": usage.cache_read_tokens,
            "cacheWriteInputTokens": usage.cache_write_tokens,
        }

    def whole(self, answer: Answer) -> Raw:
        content: list[dict[str, Any]] = [{"text": answer.text}] if answer.text else []
        content += [
            {"toolUse": {"toolUseId": c.id, "name": c.name, "input": dict(c.args)}}
            for c in answer.tool_calls
        ]
        return Raw(
            body={
                "ResponseMetadata": {"RequestId": "r1", "HTTPStatusCode": 200, "HTTPHeaders": {}},
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": self._stop(answer),
                "metrics": {"latencyMs": 9},
                **_told("usage", answer.usage),
                **answer.more,
            }
        )

    def stream(self, answer: Answer) -> Raw:
        events: list[dict[str, Any]] = [{"messageStart": {"role": "assistant"}}]
        index = 0
        deltas: list[dict[str, Any]] = [
            {"reasoningContent": {"text": word}} for word in answer.thoughts
        ]
        for pieces in (deltas, [{"text": word} for word in answer.words]):
            events += [
                {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}}
                for delta in pieces
            ]
            if pieces:
                events.append({"contentBlockStop": {"contentBlockIndex": index}})
                index += 1
        for call in answer.tool_calls:
            begun = {"toolUse": {"toolUseId": call.id, "name": call.name}}
            delta = {"toolUse": {"input": call.json}}
            events += [
                {"contentBlockStart": {"start": begun, "contentBlockIndex": index}},
                {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}},
                {"contentBlockStop": {"contentBlockIndex": index}},
            ]
            index += 1
        events.append({"messageStop": {"stopReason": self._stop(answer)}})
        if answer.usage is not LEFT_OUT:
            metrics = {"latencyMs": 9}
            told = {"usage": answer.usage, "metrics": metrics, **answer.more}
            events.append({"metadata": told})
        return Raw(events=events)

    @staticmethod
    def _stop(answer: Answer) -> str:
        return answer.finish or ("tool_use" if answer.tool_calls else "end_turn")


class _BedrockClient:
    """As much of boto3's client as LangChain uses."""

    def __init__(self, server: ModelServer, timeout: float | None) -> None:
        self.server = server
        self.timeout = timeout
        self.meta = _Meta()

    def converse(self, **body: Any) -> dict[str, Any]:
        """Answer in one piece."""
        return json.loads(json.dumps(self._next(body, streamed=False).body))

    def converse_stream(self, **body: Any) -> dict[str, Any]:
        """Answer as a stream."""
        return {"stream": self._events(self._next(body, streamed=True))}

    def _next(self, body: Mapping[str, Any], *, streamed: bool) -> Raw:
        request = Request("converse", body, {}, str(body["modelId"]), [], streamed)
        reply = self.server.next_reply(request)
        if not isinstance(reply, Raw):
            raise TypeError(f"Bedrock's answers are scripted by Bedrock.whole or .stream: {reply}")
        if self.timeout is not None and reply.delay_seconds > self.timeout:
            from botocore.exceptions import ReadTimeoutError

            raise ReadTimeoutError(endpoint_url="https://bedrock-runtime.us-east-1.amazonaws.com")
        if reply.status != 200:
            from botocore.exceptions import ClientError

            code = "ThrottlingException" if reply.status == 429 else "ValidationException"
            failed = {
                "Error": {"Code": code, "Message": "Scripted."},
                "ResponseMetadata": {"HTTPStatusCode": reply.status},
            }
            raise ClientError(failed, "Converse")
        return reply

    @staticmethod
    def _events(reply: Raw) -> Iterator[dict[str, Any]]:
        for n, event in enumerate(reply.events or ()):
            if n == reply.breaks_after:
                from botocore.exceptions import ResponseStreamingError

                raise ResponseStreamingError(error=f"Scripted to break after {n} events.")
            time.sleep(reply.pace_seconds)
            yield json.loads(json.dumps(event))


class _Meta:
    region_name = "us-east-1"

    class events:
        """boto3's registry of hooks, which do nothing here."""

        @staticmethod
        def register(*args: Any, **kwargs: Any) -> None:
            """Take a hook."""


def _told(key: str, usage: Any) -> dict[str, Any]:
    return {} if usage is LEFT_OUT else {key: usage}


def _finish(answer: Answer) -> str:
    return answer.finish or ("tool_calls" if answer.tool_calls else "stop")


def _openai_call(index: int, call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.json}
    return {"index": index, "id": call.id, "type": "function", "function": function}


PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        OpenAI(),
        OpenAIResponses(),
        Azure(),
        Anthropic(),
        GoogleGenAI(),
        Bedrock(),
        Mistral(),
        Groq(),
        DeepSeek(),
        XAI(),
        Ollama(),
        OpenRouter(),
        Perplexity(),
    )
}
