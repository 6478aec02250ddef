"""How long an object of a schema is, and what becomes of one that was cut off."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, ToolCall
from langchain_core.utils.json import parse_partial_json

from langchain_tokenopt.budget.minimal_answer import (
    NESTING,
    UnfillableError,
    asked_form,
    asked_object,
    minimal_value,
    object_message,
    resolved,
)
from langchain_tokenopt.request.form_tools import name_and_schema
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.text.sentences import ENDS, sentences_of

__all__ = ["asked_schema", "calls_at_cap", "completed", "object_size", "schema_name"]

_CHARACTERS_PER_TOKEN: Final = 3
"""Of names and values of enumerations, on the safe side."""
_FRAME: Final = 4
"""Tokens of the quotes, the colon and the comma around a field."""

Schema = Mapping[str, Any]


# --- how long an object is


def object_size(schema: Schema | None) -> tuple[int, int]:
    """Return the tokens of an object apart from its free texts, and how many of these it has.

    Every field counts, optional ones too: models fill them. A list has as many items as it must.

    Example:
        >>> object_size({"type": "object", "properties": {"yes": {"type": "boolean"}, "why": {}}})
        (18, 1)
    """
    return _size(schema or {}, schema or {}, 0)


def asked_schema(request: ModelRequest) -> Schema | None:
    """Return the schema of the object that is asked for; of several, of the longest."""
    form = asked_form(request)
    if form.schema is not None or not form.may_call_tools:
        return form.schema
    schemas = [name_and_schema(tool)[1] for tool in request.facts.tools]
    return max(schemas, key=object_size, default=None)


def _size(schema: Schema, root: Schema, depth: int) -> tuple[int, int]:
    try:
        schema = resolved(schema, root)
    except UnfillableError:
        return _FRAME, 1
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if depth > NESTING // 2:
        return _FRAME, 1
    if choices:
        return max(_size(choice, root, depth + 1) for choice in choices)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values:
        return max(map(_tokens, values)), 0
    properties: Mapping[str, Any] = schema.get("properties") or {}
    if properties:
        frame, texts = _FRAME, 0
        for name, each in properties.items():
            size = _size(each, root, depth + 1)
            frame, texts = frame + _FRAME + _tokens(name) + size[0], texts + size[1]
        return frame, texts
    items = schema.get("items")
    if isinstance(items, Mapping):
        frame, texts = _size(items, root, depth + 1)
        times = max(1, schema.get("minItems", 1))
        return times * (frame + _FRAME), times * texts
    is_short = schema.get("type") in ("integer", "number", "boolean", "null")
    return (_FRAME, 0) if is_short else (0, 1)


def _tokens(value: Any) -> int:
    return math.ceil(len(str(value)) / _CHARACTERS_PER_TOKEN)


def schema_name(schema: Schema | None) -> str:
    """Return a name under which the lengths of a schema's objects are remembered."""
    text = json.dumps(schema, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


# --- an object that was cut off


def calls_at_cap(message: AIMessage) -> tuple[list[ToolCall], ToolCall | InvalidToolCall | None]:
    """Return the calls of an answer that a cap has ended, and apart from them the one that it cut.

    That is the last, unless its arguments are known to have come to their end: pieces of a stream
    are read as far as they came, and half a text would pass for all of it.

    Example:
        >>> whole = {"name": "save", "args": '{"text": "All."}', "id": "1", "index": 0}
        >>> half = {"name": "save", "args": '{"text": "Ha', "id": "2", "index": 1}
        >>> calls, cut = calls_at_cap(AIMessageChunk("", tool_call_chunks=[whole, half]))
        >>> [call["args"] for call in calls], cut["args"]
        ([{'text': 'All.'}], {'text': 'Ha'})
    """
    calls, invalid = list(message.tool_calls), message.invalid_tool_calls
    if invalid:
        return calls, invalid[-1]
    pieces = message.tool_call_chunks if isinstance(message, AIMessageChunk) else ()
    if not calls or (pieces and _is_json(pieces[-1]["args"])):
        return calls, None
    return calls[:-1], calls[-1]


def _is_json(text: str | None) -> bool:
    try:
        json.loads(text or "{}")
    except ValueError:
        return False
    return True


def completed(request: ModelRequest, message: AIMessage, text: str) -> AIMessage | None:
    """Return an answer that was cut off as an object of its schema.

    What the model has written stays, with the objects before it; a text ends at its last whole
    sentence, a number that may lack digits goes. What is missing is the smallest value that the
    schema allows, with *text* in its free texts.

    Returns:
        ``None`` where it cannot be made whole.
    """
    before, cut = calls_at_cap(message)
    if before and cut is None:  # they came to their end, and nothing else is read
        return AIMessage(message.text, tool_calls=before)
    written: Any = message.text if cut is None else cut["args"]
    try:
        schema, tool = asked_object(request, cut and cut["name"])
        value = parse_partial_json(written) if isinstance(written, str) else written
        whole = _Completion(schema, text).of(value, schema, _is_open(written), 0)
        made = object_message(request, whole, tool)
    except (UnfillableError, ValueError):
        return AIMessage(message.text, tool_calls=before) if before else None
    return made.model_copy(update={"tool_calls": [*before, *made.tool_calls]}) if before else made


def _is_open(written: Any) -> bool:
    """Whether the last value may not be whole: a text without its end, a number."""
    if not isinstance(written, str):  # pieces that were read as far as they came
        return True
    return len(_QUOTES.findall(written)) % 2 == 1 or written.rstrip()[-1:] not in set('"}]{[,:')


_QUOTES: Final = re.compile(r'(?<!\\)"')


@dataclass(frozen=True)
class _Completion:
    """Makes a value whole that was read from the beginning of an object."""

    root: Schema
    text: str

    def of(self, value: Any, schema: Schema, is_open: bool, depth: int) -> Any:
        """Return *value* as *schema* has it; *is_open*: its last part was cut."""
        schema = self._chosen(value, resolved(schema, self.root))
        if depth > NESTING:
            raise UnfillableError("the object refers to itself without an end")
        if isinstance(value, dict):
            return self._object(value, schema, is_open, depth)
        if isinstance(value, list):
            items = schema.get("items") or {}
            made = [
                self.of(each, items, is_open and at == len(value) - 1, depth + 1)
                for at, each in enumerate(value)
            ]
            missing = max(0, schema.get("minItems", 0) - len(made))
            return made + [self._least(items, depth) for _ in range(missing)]
        if not is_open or isinstance(value, bool) or value is None:
            return value
        is_text = isinstance(value, str) and not _CONSTRAINTS & schema.keys()
        return _whole_sentences(value) if is_text else self._least(schema, depth)

    def _chosen(self, value: Any, schema: Schema) -> Schema:
        """Return the alternative that *value* seems to be of."""
        choices = schema.get("anyOf") or schema.get("oneOf") or ()
        for choice in (resolved(each, self.root) for each in choices):
            if isinstance(value, dict) and value.keys() <= (choice.get("properties") or {}).keys():
                return choice
            if isinstance(value, str) and choice.get("type") == "string":
                return choice
        return schema

    def _object(self, value: dict[str, Any], schema: Schema, is_open: bool, depth: int) -> Any:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        last = next(reversed(value), None)
        made = {
            name: self.of(each, properties.get(name, {}), is_open and name == last, depth + 1)
            for name, each in value.items()
        }
        for name in schema.get("required", ()):
            if name not in made:
                made[name] = self._least(properties.get(name, {}), depth)
        return made

    def _least(self, schema: Schema, depth: int) -> Any:
        return minimal_value(schema, self.root, self.text, depth + 1)


_CONSTRAINTS: Final = frozenset(
    {"enum", "const", "format", "pattern", "minLength", "anyOf", "oneOf", "allOf"}
)
"""A text under one of these is of no use without its end."""


def _whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; all of it, where there is none."""
    sentences = sentences_of(text)
    if len(sentences) < 2 or text.rstrip().endswith(tuple(ENDS)):
        return text
    return text[: text.rindex(sentences[-1])].rstrip()
