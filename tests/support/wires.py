"""How four model providers write the same answer on the wire.

A :class:`Turn` is one answer, free of any provider. A :class:`Wire` reads a provider's request and
writes turns the way that provider does, field for field where LangChain's integrations look:

- OpenAI chat completions: https://platform.openai.com/docs/api-reference/chat
- OpenAI responses: https://platform.openai.com/docs/api-reference/responses
- Anthropic messages: https://docs.anthropic.com/en/api/messages
- Gemini generateContent: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_tokenopt.core.usage import Usage

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that the model asks for."""

    name: str
    args: Mapping[str, Any]
    id: str = "call_0"
    cut: str | None = None
    """The arguments as far as a cap let them come; only OpenAI's format can be cut."""

    @property
    def json(self) -> str:
        """The arguments as text."""
        return json.dumps(dict(self.args)) if self.cut is None else self.cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer of a model, ready to be written in any provider's form."""

    id: str
    model: str | None
    """``None``: the answer does not say which model gave it."""
    choices: Sequence[Sequence[str]]
    """For each generation its words, spaces included."""
    tool_calls: Sequence[ToolCall]
    billed: Usage
    """What the answer costs, whether or not the provider says so."""
    reports: bool
    """Whether the provider says so."""
    finish: Finish
    cumulative: bool
    """OpenAI: usage on every chunk, whatever was asked for."""
    service_tier: str | None

    @property
    def texts(self) -> list[str]:
        """Each generation as one text."""
        return ["".join(words) for words in self.choices]

    @property
    def usage(self) -> Usage | None:
        """What the provider reports."""
        return self.billed if self.reports else None

    def billed_after(self, words: int) -> Usage:
        """Return what a stream costs that ends after so many words of the first generation."""
        output = self.billed.output_tokens * words // max(len(self.choices[0]), 1)
        reasoning = min(self.billed.reasoning_tokens, output)
        return replace(self.billed, output_tokens=output, reasoning_tokens=reasoning)

    def usage_after(self, words: int) -> Usage | None:
        """Return what the provider reports so far, as those do that count cumulatively."""
        return self.billed_after(words) if self.reports else None


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; ``words`` says how many words of the answer it carries."""

    data: Any
    words: int = 0
    name: str | None = None

    def encode(self) -> bytes:
        """Return the bytes of the event."""
        text = self.data if isinstance(self.data, str) else json.dumps(self.data)
        head = f"event: {self.name}\n" if self.name else ""
        return f"{head}data: {text}\n\n".encode()


class Wire:
    """One provider's protocol."""

    def model(self, body: Mapping[str, Any], path: str) -> str:
        """Return the model that is asked for."""
        return str(body.get("model") or "")

    def streams(self, body: Mapping[str, Any], path: str) -> bool:
        """Tell whether the answer is to be streamed."""
        return bool(body.get("stream"))

    def max_tokens(self, body: Mapping[str, Any]) -> int | None:
        """Return the limit on the length of the answer."""
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        """Return every text that the provider reads and bills, one per message."""
        return [_plain(m.get("content")) for m in body["messages"]]

    def generations(self, body: Mapping[str, Any]) -> int:
        """Return how many answers are asked for."""
        return 1

    def forced_tool(self, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
        """Return name and schema of the tool that must be called."""
        return None

    def schema(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the schema that the text of the answer must follow."""
        return None

    def whole(self, turn: Turn) -> dict[str, Any]:
        """Write the answer in one piece."""
        raise NotImplementedError

    def events(self, turn: Turn, body: Mapping[str, Any]) -> Iterator[Event]:
        """Write the answer as a stream."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> dict[str, Any]:
        """Write an error."""
        return {"error": {"message": message, "type": _ERROR[status], "param": None, "code": None}}


_ERROR = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}


class ChatCompletions(Wire):
    """OpenAI's chat completions, as every compatible server speaks it."""

    def generations(self, body: Mapping[str, Any]) -> int:
        return body.get("n") or 1

    def forced_tool(self, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
        choice = body.get("tool_choice")
        tools = [tool["function"] for tool in body.get("tools") or ()]
        name = choice["function"]["name"] if isinstance(choice, dict) else None
        return _forced(tools, name, "parameters", wanted=choice not in (None, "auto", "none"))

    def schema(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        asked = body.get("response_format") or {}
        if asked.get("type") == "json_object":
            return {"type": "object"}
        found: Mapping[str, Any] | None = (asked.get("json_schema") or {}).get("schema")
        return found

    def whole(self, turn: Turn) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "refusal": None}
        if turn.tool_calls:
            message["tool_calls"] = [self._tool_call(i, c) for i, c in enumerate(turn.tool_calls)]
        return self._envelope(turn, "chat.completion") | {
            "choices": [
                {
                    "index": i,
                    "message": message | {"content": text or None},
                    "finish_reason": turn.finish,
                    "logprobs": None,
                }
                for i, text in enumerate(turn.texts)
            ],
            "usage": self.usage(turn.usage),
        }

    def events(self, turn: Turn, body: Mapping[str, Any]) -> Iterator[Event]:
        head = self._envelope(turn, "chat.completion.chunk")
        options = body.get("stream_options") or {}
        each = turn.cumulative or options.get("continuous_usage_stats", False)

        def chunk(index: int, delta: Mapping[str, Any], usage: Usage | None = None) -> Event:
            choice = {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}
            counted = {"usage": self.usage(usage)} if each else {}
            return Event(head | {"choices": [choice]} | counted, words=int("content" in delta))

        for index, words in enumerate(turn.choices):
            for n, word in enumerate(words, start=1):
                yield chunk(index, {"role": "assistant", "content": word}, turn.usage_after(n))
        for i, call in enumerate(turn.tool_calls):
            begun = self._tool_call(i, replace(call, args={}), arguments="")
            yield chunk(0, {"role": "assistant", "tool_calls": [begun]})
            for piece in re.findall(r".{1,8}", call.json):
                yield chunk(0, {"tool_calls": [{"index": i, "function": {"arguments": piece}}]})
        for index in range(len(turn.choices)):
            last = {"index": index, "delta": {}, "finish_reason": turn.finish, "logprobs": None}
            yield Event(head | {"choices": [last]})
        if turn.usage and (each or options.get("include_usage")):
            yield Event(head | {"choices": [], "usage": self.usage(turn.usage)})
        yield Event("[DONE]")

    @staticmethod
    def usage(usage: Usage | None) -> dict[str, Any] | None:
        if usage is None:
            return None
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {
                "cached_tokens": usage.cache_read_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
                "audio_tokens": usage.input_audio_tokens,
                "image_tokens": 0,
                "text_tokens": usage.input_tokens - usage.input_audio_tokens,
            },
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning_tokens,
                "audio_tokens": usage.output_audio_tokens,
                "text_tokens": usage.output_tokens - usage.output_audio_tokens,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    @staticmethod
    def _envelope(turn: Turn, kind: str) -> dict[str, Any]:
        head: dict[str, Any] = {"id": f"chatcmpl-{turn.id}", "object": kind, "created": 1}
        head["system_fingerprint"] = None
        if turn.model is not None:
            head["model"] = turn.model
        if turn.service_tier is not None:
            head["service_tier"] = turn.service_tier
        return head

    @staticmethod
    def _tool_call(index: int, call: ToolCall, arguments: str | None = None) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.json if arguments is None else arguments}
        return {"index": index, "id": call.id, "type": "function", "function": function}


class Responses(Wire):
    """OpenAI's responses."""

    def max_tokens(self, body: Mapping[str, Any]) -> int | None:
        return body.get("max_output_tokens")

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        asked = body["input"]
        items = [{"content": asked}] if isinstance(asked, str) else asked
        return [_plain(i.get("content") or i.get("output") or i.get("arguments")) for i in items]

    def schema(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = ((body.get("text") or {}).get("format") or {}).get(
            "schema"
        )
        return found

    def whole(self, turn: Turn) -> dict[str, Any]:
        return self._response(turn, self._output(turn), turn.usage)

    def events(self, turn: Turn, body: Mapping[str, Any]) -> Iterator[Event]:
        numbered = iter(range(10**6))

        def event(kind: str, words: int = 0, **fields: Any) -> Event:
            data = {"type": kind, "sequence_number": next(numbered)} | fields
            return Event(data, words=words, name=kind)

        yield event("response.created", response=self._response(turn, [], None))
        for index, item in enumerate(self._output(turn)):
            at = {"output_index": index, "item_id": item["id"]}
            opened = item | ({"content": []} if item["type"] == "message" else {"arguments": ""})
            yield event("response.output_item.added", output_index=index, item=opened)
            if item["type"] == "message":
                empty = {"type": "output_text", "text": "", "annotations": []}
                yield event("response.content_part.added", content_index=0, part=empty, **at)
                for word in turn.choices[0]:
                    yield event("response.output_text.delta", 1, content_index=0, delta=word, **at)
                text = turn.texts[0]
                yield event("response.output_text.done", content_index=0, text=text, **at)
            else:
                arguments = item["arguments"]
                yield event("response.function_call_arguments.delta", delta=arguments, **at)
                yield event("response.function_call_arguments.done", arguments=arguments, **at)
            yield event("response.output_item.done", output_index=index, item=item)
        done = "response.incomplete" if turn.finish == "length" else "response.completed"
        yield event(done, response=self.whole(turn))

    @staticmethod
    def _output(turn: Turn) -> list[dict[str, Any]]:
        text = {"type": "output_text", "text": turn.texts[0], "annotations": []}
        message = {"type": "message", "id": f"msg_{turn.id}", "role": "assistant"}
        spoken = [message | {"status": "completed", "content": [text]}] if turn.texts[0] else []
        return spoken + [
            {
                "type": "function_call",
                "id": f"fc_{turn.id}_{i}",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.json,
                "status": "completed",
            }
            for i, call in enumerate(turn.tool_calls)
        ]

    @staticmethod
    def _response(turn: Turn, output: list[Any], usage: Usage | None) -> dict[str, Any]:
        cut = turn.finish == "length"
        response: dict[str, Any] = {
            "id": f"resp_{turn.id}",
            "object": "response",
            "created_at": 1,
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "model": turn.model or "",
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "metadata": {},
        }
        if usage is not None:
            response["usage"] = {
                "input_tokens": usage.input_tokens,
                "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
                "total_tokens": usage.total_tokens,
            }
        return response


class AnthropicMessages(Wire):
    """Anthropic's messages. On this wire ``input_tokens`` does not contain cached tokens."""

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        system = [_plain(body["system"])] if body.get("system") else []
        return system + super().texts(body)

    def forced_tool(self, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
        choice = body.get("tool_choice") or {}
        wanted = choice.get("type") in ("any", "tool")
        return _forced(body.get("tools") or (), choice.get("name"), "input_schema", wanted=wanted)

    def whole(self, turn: Turn) -> dict[str, Any]:
        text = [{"type": "text", "text": turn.texts[0]}] if turn.texts[0] else []
        content = text + [_tool_use(call, call.args) for call in turn.tool_calls]
        return self._message(turn, content, turn.usage) | {"stop_reason": self._stop(turn)}

    def events(self, turn: Turn, body: Mapping[str, Any]) -> Iterator[Event]:
        def event(kind: str, words: int = 0, **fields: Any) -> Event:
            return Event({"type": kind} | fields, words=words, name=kind)

        first = replace(turn.usage, output_tokens=1) if turn.usage else None
        yield event("message_start", message=self._message(turn, [], first))
        index = 0
        if turn.choices[0]:
            yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            for word in turn.choices[0]:
                delta = {"type": "text_delta", "text": word}
                yield event("content_block_delta", 1, index=0, delta=delta)
            yield event("content_block_stop", index=0)
            index = 1
        for i, call in enumerate(turn.tool_calls, start=index):
            yield event("content_block_start", index=i, content_block=_tool_use(call, {}))
            delta = {"type": "input_json_delta", "partial_json": call.json}
            yield event("content_block_delta", index=i, delta=delta)
            yield event("content_block_stop", index=i)
        usage = self.usage(turn.usage)
        usage.pop("cache_creation", None)  # the API splits cache writes in message_start only
        ended = {"stop_reason": self._stop(turn), "stop_sequence": None}
        yield event("message_delta", delta=ended, usage=usage)
        yield event("message_stop")

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": _ERROR[status], "message": message}}

    def _message(self, turn: Turn, content: list[Any], usage: Usage | None) -> dict[str, Any]:
        return {
            "id": f"msg_{turn.id}",
            "type": "message",
            "role": "assistant",
            "model": turn.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.usage(usage),
        }

    @staticmethod
    def usage(usage: Usage | None) -> dict[str, Any]:
        if usage is None:
            return {"input_tokens": 0, "output_tokens": 0}
        cached = usage.cache_read_tokens + usage.cache_write_tokens
        return {
            "input_tokens": usage.input_tokens - cached,
            "output_tokens": usage.output_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
                "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
            },
        }

    @staticmethod
    def _stop(turn: Turn) -> str:
        return {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[turn.finish]


class Gemini(Wire):
    """Google's generateContent: cumulative usage on every chunk, thoughts beside the candidates."""

    def model(self, body: Mapping[str, Any], path: str) -> str:
        return path.rpartition("/")[2].partition(":")[0]

    def streams(self, body: Mapping[str, Any], path: str) -> bool:
        return path.endswith(":streamGenerateContent")

    def max_tokens(self, body: Mapping[str, Any]) -> int | None:
        return (body.get("generationConfig") or {}).get("maxOutputTokens")

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        contents = [body["systemInstruction"]] if body.get("systemInstruction") else []
        return [_plain(content.get("parts")) for content in contents + body["contents"]]

    def schema(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        config = body.get("generationConfig") or {}
        return config.get("responseJsonSchema") or config.get("responseSchema")

    def whole(self, turn: Turn) -> dict[str, Any]:
        return self._response(turn, self._parts(turn), turn.usage, last=True)

    def events(self, turn: Turn, body: Mapping[str, Any]) -> Iterator[Event]:
        for n, word in enumerate(turn.choices[0], start=1):
            yield Event(self._response(turn, [{"text": word}], turn.usage_after(n)), words=1)
        rest = [part for part in self._parts(turn) if "functionCall" in part]
        yield Event(self._response(turn, rest or [{"text": ""}], turn.usage, last=True))

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": {"code": status, "message": message, "status": _ERROR[status].upper()}}

    @staticmethod
    def _parts(turn: Turn) -> list[dict[str, Any]]:
        text = [{"text": turn.texts[0]}] if turn.texts[0] else []
        calls = [{"functionCall": {"name": c.name, "args": dict(c.args)}} for c in turn.tool_calls]
        return text + calls

    @staticmethod
    def _response(
        turn: Turn, parts: list[Any], usage: Usage | None, *, last: bool = False
    ) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
        if last:
            candidate["finishReason"] = "MAX_TOKENS" if turn.finish == "length" else "STOP"
        response: dict[str, Any] = {"candidates": [candidate], "responseId": turn.id}
        if turn.model is not None:
            response["modelVersion"] = turn.model
        if usage is not None:
            response["usageMetadata"] = Gemini.usage(usage)
        return response

    @staticmethod
    def usage(usage: Usage) -> dict[str, Any]:
        return {
            "promptTokenCount": usage.input_tokens,
            "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
            "thoughtsTokenCount": usage.reasoning_tokens,
            "cachedContentTokenCount": usage.cache_read_tokens,
            "totalTokenCount": usage.total_tokens,
        }


def _plain(content: Any) -> str:
    """Return the text in a message's content, whatever its form."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(
        part if isinstance(part, str) else str(part.get("text") or part.get("content") or "")
        for part in content
    )


def _tool_use(call: ToolCall, args: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(args)}


def _forced(
    tools: Sequence[Mapping[str, Any]], name: str | None, schema: str, *, wanted: bool
) -> tuple[str, Mapping[str, Any]] | None:
    """Pick the tool that must be called: the one named, else the first."""
    if not wanted or not tools:
        return None
    tool = next((tool for tool in tools if tool["name"] == name), tools[0])
    return tool["name"], tool[schema]


def example_of(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """Return the smallest value that follows a JSON schema."""
    root = root or schema
    if "$ref" in schema:
        return example_of(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "allOf", "oneOf"):
        if choice in schema:
            return example_of(schema[choice][0], root)
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        return {k: example_of(v, root) for k, v in schema.get("properties", {}).items()}
    return {"string": "word", "integer": 1, "number": 1.5, "boolean": True, "array": []}.get(kind)
