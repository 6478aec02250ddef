"""How many tokens messages, tool schemas and images are for a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_tokenopt.core.media import (
    ASSUMED_PIXELS,
    IMAGE_BLOCKS,
    MEDIA_BLOCKS,
    Payload,
    as_text,
    count_image,
    count_media,
    payload_of,
)

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage, MessageLikeRepresentation
    from langchain_core.prompt_values import PromptValue
    from langchain_core.tools import BaseTool

    from langchain_tokenopt.counting.model_names import ModelLike

    MessagesLike = str | PromptValue | Sequence[MessageLikeRepresentation]
    ToolLike = BaseTool | Callable[..., Any] | type | Mapping[str, Any]

from langchain_tokenopt.counting.model_names import bare_name, model_name_of, tokenizer_of
from langchain_tokenopt.counting.tokens import TokenCount, TokenCounter, counter_of_name

__all__ = ["count_messages", "count_tools", "image_tokens"]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Tokens that a provider puts around messages."""

    message: int = 3
    role: int = 1
    name: int = 1
    reply: int = 3
    tool_call: int = 4
    tools: int = 0
    """Before the first tool schema."""


_CHATML: Final = _Frame()


_FRAMES: Final[Mapping[str, _Frame]] = {
    "claude": _Frame(role=0, tools=346),
    "claude-4.7": _Frame(role=0, tools=346),
    "gemini": _Frame(message=0, role=0, name=0, reply=0, tool_call=0),
}


_KNOWN_FRAME: Final = re.compile(r"gpt-?(?:3\.5|35|4)")


def count_messages(
    messages: MessagesLike,
    tools: Iterable[ToolLike] | None = None,
    model: ModelLike = "",
    *,
    counter: TokenCounter | None = None,
) -> TokenCount:
    """Count what a request puts into a model: messages, tool schemas, images, and their frame.

    Args:
        messages: LangChain messages, or what ``model.invoke`` takes in their place: a string, a
            prompt value, ``("user", "...")`` tuples, OpenAI-style dicts.
        tools: Tools as bound to the model: ``BaseTool``, functions, pydantic classes, schemas in
            OpenAI's or Anthropic's form.
        model: Name or object; without it the count is an estimate.
        counter: Counts the texts, in place of the model's own counter.

    Returns:
        ``exact`` is true when the tokenizer and every rule that was used are known for this model:
        text, flat tool schemas and images of known size for gpt-3.5, gpt-4, gpt-4o, gpt-4.1 and
        their kin. Past tool calls, nested schemas, reasoning, audio, files and all other models
        are estimated. A content block that nobody knows is counted as its JSON without the binary
        parts; base64 is never counted as text.

    Source:
        https://github.com/openai/openai-cookbook, How_to_count_tokens_with_tiktoken (2026-11-21):
        3 tokens a message and 1 for the role, 1 more for a name, 3 for the reply, and the
        constants for tool schemas. gpt-4.1 and gpt-4.5 were billed the same frame, o3 one token
        less (https://community.openai.com/t/1262691); 4 tokens around a past tool call follow from
        40 tokens billed for the request in https://community.openai.com/t/538914.
        Claude puts 346 tokens before tools
        (https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview, Claude 4 models);
        Gemini reports bare text (https://ai.google.dev/gemini-api/docs/tokens).

    Example:
        >>> count_messages([("system", "Be brief."), ("user", "Hello!")], model="gpt-4o")
        TokenCount(tokens=16, exact=True)
    """
    count = _RequestCount(model_name_of(model), counter)
    count.tokens += count.frame.reply
    for message in _as_messages(messages):
        count.add_message(message)
    if tools is not None:
        count.add_tools([_schema_of(tool) for tool in tools])
    return TokenCount(count.tokens, count.exact)


def count_tools(tools: Iterable[ToolLike], model: ModelLike = "") -> TokenCount:
    """Count what *tools* add to a request; :func:`count_messages` of both is the sum.

    Example:
        >>> tool = {"type": "function", "function": {"name": "now", "parameters": {}}}
        >>> count_tools([tool], "gpt-4o")
        TokenCount(tokens=21, exact=True)
    """
    count = _RequestCount(model_name_of(model))
    count.add_tools([_schema_of(tool) for tool in tools])
    return TokenCount(count.tokens, count.exact)


def _as_messages(messages: MessagesLike) -> Sequence[BaseMessage]:
    from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages

    if isinstance(messages, str):
        return [HumanMessage(messages)]
    if isinstance(messages, list) and all(isinstance(m, BaseMessage) for m in messages):
        return messages
    return convert_to_messages(messages)


class _RequestCount:
    """Adds up one request."""

    __slots__ = ("_count", "_tokenizer", "bare", "exact", "frame", "tokens")

    def __init__(self, name: str, counter: TokenCounter | None = None) -> None:
        self.bare = bare_name(name)
        self._tokenizer = tokenizer_of(name)
        self.frame = _FRAMES.get(self._tokenizer.family, _CHATML)
        self._count = (counter or counter_of_name(name)).count
        self.tokens = 0
        self.exact = self._tokenizer.exact and _KNOWN_FRAME.match(self.bare) is not None

    def add(self, count: TokenCount) -> None:
        self.tokens += count.tokens
        self.exact = self.exact and count.exact

    def add_text(self, text: str) -> None:
        if text:
            self.add(self._count(text))

    def add_estimate(self, tokens: int) -> None:
        self.add(TokenCount(tokens, exact=False))

    def add_json(self, value: Any) -> None:
        """Count anything as JSON without its binary parts: an estimate."""
        plain = _without_binary(value)
        self.exact = False
        if plain:
            self.add_text(as_text(plain))

    def add_message(self, message: BaseMessage) -> None:
        self.tokens += self.frame.message + self.frame.role
        if message.name:
            self.tokens += self.frame.name
            self.add_text(message.name)
        calls = _calls_of(message)
        if isinstance(message.content, str):
            self.add_text(message.content)
        else:
            for block in message.content:
                if not (calls and isinstance(block, Mapping) and block.get("type") in _CALLS):
                    self.add_block(block)
        for name, arguments in calls:
            self.add_text(name)
            self.add_text(arguments)
            self.add_estimate(self.frame.tool_call)

    def add_block(self, block: Any) -> None:
        if isinstance(block, str):
            self.add_text(block)
            return
        if not isinstance(block, Mapping):
            self.add_json(block)
            return
        kind, text = as_text(block.get("type")), block.get("text")
        if isinstance(text, str) and kind in _TEXTS:
            self.add_text(text)
        elif kind in IMAGE_BLOCKS:
            self.add_image(payload_of(block))
        elif kind in MEDIA_BLOCKS:
            self.add_media(payload_of(block), text)
        elif kind == "tool_result":
            self.exact = False
            inner = block.get("content")
            for part in inner if isinstance(inner, list) else [as_text(inner)]:
                self.add_block(part)
        elif kind in _PARTS_THAT_COUNT:
            self.add_json([block[key] for key in _PARTS_THAT_COUNT[kind] if key in block])
        else:
            self.add_json(block)

    def add_image(self, payload: Payload) -> None:
        size = payload.pixel_size()
        count = image_tokens(*(size or ASSUMED_PIXELS), self.bare, detail=payload.detail)
        self.add(count if size else TokenCount(count.tokens, exact=False))

    def add_media(self, payload: Payload, text: Any) -> None:
        if isinstance(text, str):
            self.add_text(text)
        elif payload.kind == "image":
            self.add_image(payload)
        elif payload.kind == "text" and payload.source is not None:
            self.add_text(payload.plain_text())
        else:
            self.add_estimate(count_media(payload, self._tokenizer.family))

    def add_tools(self, schemas: list[Mapping[str, Any]]) -> None:
        if not schemas:
            return
        if self._tokenizer.family != "openai":
            self.add_estimate(self.frame.tools)
            for schema in schemas:
                self.add_json(
                    {k: schema[k] for k in ("name", "description", "parameters") if k in schema}
                    or schema
                )
            return
        for schema in schemas:
            self.add_function(schema)
        self.tokens += _FUNCTIONS_END

    def add_function(self, schema: Mapping[str, Any]) -> None:
        if "name" not in schema:  # a tool that the provider runs: {"type": "web_search"}
            self.add_json(schema)
            return
        self.tokens += _FUNCTION_START[self._tokenizer.vocabulary]
        self.add_text(f"{schema['name']}:{_description(schema)}")
        parameters = schema.get("parameters")
        if isinstance(parameters, Mapping):
            self.add_properties(parameters, depth=0)

    def add_properties(self, schema: Mapping[str, Any], *, depth: int) -> None:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            return
        self.tokens += _PROPERTIES_START
        for key, value in properties.items():
            self.add_property(str(key), value if isinstance(value, Mapping) else {}, depth=depth)

    def add_property(self, key: str, schema: Mapping[str, Any], *, depth: int) -> None:
        self.tokens += _PROPERTY
        choices = schema.get("enum")
        if isinstance(choices, list):
            self.tokens += _ENUM_START
            for choice in choices:
                self.tokens += _ENUM_ITEM
                self.add_text(as_text(choice))
        kind = schema.get("type")
        self.add_text(f"{key}:{as_text(kind)}:{_description(schema)}")
        nested = [part for k in _NESTED for part in _parts(schema.get(k))]
        if depth or nested or "properties" in schema or not isinstance(kind, str):
            self.exact = False  # the published rule knows flat schemas only
        if depth < _DEEPEST_SCHEMA:
            self.add_properties(schema, depth=depth + 1)
            for part in nested:
                self.add_property("", part, depth=depth + 1)


_TEXTS: Final = frozenset({"", "text", "input_text", "output_text", "text-plain"})


_CALLS: Final = frozenset(
    {"function_call", "input_json_delta", "tool_call", "tool_call_chunk", "tool_use"}
)
"""Repeated in ``AIMessage.tool_calls``, and counted there."""


_PARTS_THAT_COUNT: Final[Mapping[Any, tuple[str, ...]]] = {
    **dict.fromkeys(_CALLS, ("name", "args", "arguments", "input")),
    "reasoning": ("reasoning", "summary"),
    "refusal": ("refusal",),
    "thinking": ("thinking",),
    "redacted_thinking": (),
}
"""Of these blocks, what a model reads; ids, signatures and encrypted reasoning are not text."""


_FUNCTION_START: Final = {"o200k_base": 7, "cl100k_base": 10}


_PROPERTIES_START: Final = 3


_PROPERTY: Final = 3


_ENUM_START: Final = -3


_ENUM_ITEM: Final = 3


_FUNCTIONS_END: Final = 12
"""OpenAI's cookbook (see :func:`count_messages`); gpt-4o and gpt-4 for the two vocabularies."""


_NESTED: Final = ("items", "anyOf", "allOf", "oneOf", "prefixItems", "additionalProperties")


_DEEPEST_SCHEMA: Final = 8


def _parts(value: Any) -> list[Mapping[str, Any]]:
    values = value if isinstance(value, list) else [value]
    return [part for part in values if isinstance(part, Mapping)]


def _description(schema: Mapping[str, Any]) -> str:
    return as_text(schema.get("description")).removesuffix(".")


def _calls_of(message: BaseMessage) -> list[tuple[str, str]]:
    """Return name and arguments of every call that *message* carries."""
    calls = (*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ()))
    if calls:
        return [(as_text(call["name"]), as_text(call["args"])) for call in calls]
    legacy = message.additional_kwargs.get("function_call")
    if isinstance(legacy, Mapping):
        return [(as_text(legacy.get("name")), as_text(legacy.get("arguments")))]
    return []


def _schema_of(tool: ToolLike) -> Mapping[str, Any]:
    """Return a tool's function schema, or a provider's own tool as it is."""
    if isinstance(tool, Mapping):
        function = tool.get("function")
        if isinstance(function, Mapping):
            return function
        if "input_schema" in tool:
            return {**tool, "parameters": tool["input_schema"]}
        if "title" not in tool:  # a provider's own tool, {"google_search": {}}: counted as JSON
            return tool
    from langchain_core.utils.function_calling import convert_to_openai_function

    return convert_to_openai_function(tool)


_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{256,}={0,2}\s*")


_DEEPEST_JSON: Final = 24


def _without_binary(value: Any, depth: int = 0) -> Any:
    """Copy *value* as JSON data without its binary parts, and without what is null.

    Integrations fill in what a provider's own tool leaves out, and do not send it.
    """
    if depth > _DEEPEST_JSON or isinstance(value, bytes | bytearray | memoryview):
        return None
    if isinstance(value, Mapping):
        if "_value_" in value:  # a member of an enumeration, taken apart
            return value["_value_"]
        return {
            str(key): _without_binary(inner, depth + 1)
            for key, inner in value.items()
            if inner is not None
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_binary(inner, depth + 1) for inner in value]
    if isinstance(value, str) and (value.startswith("data:") or _BASE64.fullmatch(value)):
        return None
    return value


def image_tokens(
    width: int, height: int, model: ModelLike, *, detail: str | None = None
) -> TokenCount:
    """Return what an image costs as input.

    Args:
        width: In pixels.
        height: In pixels.
        model: Decides the rule; models that nobody knows are taken for gpt-4o.
        detail: OpenAI's ``"low"``, ``"high"`` or ``"auto"`` (the default); others ignore it.

    Returns:
        ``exact`` is true where the provider publishes the rule and bills by it.

    Source:
        :func:`langchain_tokenopt.core.media.count_image`.

    Example:
        >>> image_tokens(1024, 1024, "gpt-4o")
        TokenCount(tokens=765, exact=True)
    """
    name = model_name_of(model)
    tokens, exact = count_image(width, height, bare_name(name), detail=detail)
    known = tokenizer_of(name).family in ("openai", "claude", "claude-4.7", "gemini")
    return TokenCount(tokens, exact and known)
