"""An answer in the model's place: the smallest that the caller can read.

Where the caller parses the answer, it is the smallest object that the JSON schema allows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage

from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["least_object_tokens", "minimal_answer"]

_FIELD_TOKENS: Final = 40
"""Room for one field of structured output: its name, its quotes, a short value."""
_NESTING: Final = 16
"""How deep objects within objects are followed; a schema may refer to itself without an end."""


class _UnfillableError(Exception):
    """No value can be made up for a schema."""


def minimal_answer(request: ModelRequest, text: str) -> AIMessage:
    """Return a message of the right type for *request* that says *text*.

    Where a schema was asked for, it holds the smallest object that the schema allows, with *text*
    in its free texts; where no such object can be made up, the text alone. It calls no tool unless
    one was forced.
    """
    form = request.facts.answer_form
    if not form.is_structured or (form.must_call_tool and form.tool is None):
        return AIMessage(text)
    try:
        values = _minimal(form.schema or {"type": "object"}, form.schema or {}, text, 0)
        parsed = values if form.type is None else form.type.model_validate(values)
    except (_UnfillableError, ValueError):  # pydantic's ValidationError is a ValueError
        return AIMessage(text)
    if form.tool is not None:
        call = {"name": form.tool, "args": values, "id": f"call_{request.run.run_id.hex[:12]}"}
        return AIMessage("", tool_calls=[{"type": "tool_call", **call}])
    # langchain-openai reads the object from there, and not from the text.
    return AIMessage(json.dumps(values), additional_kwargs={"parsed": parsed})


def least_object_tokens(schema: Mapping[str, Any] | None) -> int:
    """Return the output below which an object of *schema* would be cut off and be of no use.

    Example:
        >>> least_object_tokens({"type": "object", "properties": {"a": {}, "b": {}}})
        80
    """
    return _FIELD_TOKENS * _fields(schema or {}, schema or {}, 0)


def _fields(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> int:
    """Count the fields that an object must have, nested ones included."""
    try:
        schema = _resolved(schema, root)
    except _UnfillableError:
        return 1
    if depth > _NESTING // 2:
        return 1
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = schema.get("required", properties)
    inner = sum(
        _fields(properties[name], root, depth + 1) for name in required if name in properties
    )
    items = schema.get("items")
    if isinstance(items, Mapping):
        inner += max(1, schema.get("minItems", 1)) * _fields(items, root, depth + 1)
    return max(1, inner)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references within *root*."""
    for _ in range(8):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        found: Any = root
        for part in reference.lstrip("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise _UnfillableError(reference)
        schema = found
    return schema


# The smallest value

_NEUTRAL: Final = ("unknown", "none", "n/a", "undecided", "neutral", "hold", "other")
"""Values of an enumeration that decide least, in order of preference."""
_BY_FORMAT: Final = {
    "date-time": "1970-01-01T00:00:00Z",
    "date": "1970-01-01",
    "time": "00:00:00Z",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "email": "nobody@example.com",
    "uri": "https://example.com",
}


def _minimal(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> Any:
    """Return the smallest value that *schema* allows."""
    if depth > _NESTING:
        raise _UnfillableError("the schema refers to itself without an end")
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return _least_deciding(schema["enum"])
    if "default" in schema:
        return schema["default"]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _first_fillable(choices, root, text, depth)
    if schema.get("allOf"):
        merged = {
            key: value for part in schema["allOf"] for key, value in _resolved(part, root).items()
        }
        return _minimal(merged, root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = "null" if "null" in kind else kind[0]
    if kind == "object":
        properties = schema.get("properties") or {}
        return {
            name: _minimal(properties.get(name, {}), root, text, depth + 1)
            for name in schema.get("required", ())
        }
    if kind == "array":
        items = schema.get("items") or {}
        return [_minimal(items, root, text, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return _least_number(schema, whole=kind == "integer")
    return {"boolean": False, "null": None}[kind] if kind != "string" else _text(schema, text)


def _least_deciding(values: Sequence[Any]) -> Any:
    by_word = {str(value).lower(): value for value in values}
    return next((by_word[word] for word in _NEUTRAL if word in by_word), values[0])


def _first_fillable(
    choices: Sequence[Mapping[str, Any]], root: Mapping[str, Any], text: str, depth: int
) -> Any:
    if any(choice.get("type") == "null" for choice in choices):
        return None
    for choice in choices:
        try:
            return _minimal(choice, root, text, depth + 1)
        except _UnfillableError:
            continue
    raise _UnfillableError("anyOf")


def _least_number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("exclusiveMinimum") is not None:
        low = schema["exclusiveMinimum"] + (1 if whole else 1e-6)
    value = max(0, low) if low is not None else 0
    if high is not None:
        value = min(value, high)
    step = schema.get("multipleOf")
    if step:
        value = math.ceil(value / step) * step
    if (high is not None and value > high) or (low is not None and value < low):
        raise _UnfillableError("number")
    return math.ceil(value) if whole else value


def _text(schema: Mapping[str, Any], text: str) -> str:
    if "pattern" in schema:
        raise _UnfillableError("pattern")
    form = schema.get("format")
    if form is not None:
        if form not in _BY_FORMAT:
            raise _UnfillableError(form)
        return _BY_FORMAT[form]
    made = text[: schema.get("maxLength", len(text))]
    return made.ljust(schema.get("minLength", 0), ".")
