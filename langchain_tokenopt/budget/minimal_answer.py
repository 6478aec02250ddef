"""An answer in the model's place: the smallest that the caller can read.

Where the caller parses the answer, it is the smallest object that the JSON schema allows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from langchain_core.messages import AIMessage
from pydantic import BaseModel

from langchain_tokenopt.request.answer_form import AnswerForm
from langchain_tokenopt.request.form_tools import form_among, name_and_schema
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = [
    "NESTING",
    "UnfillableError",
    "asked_form",
    "asked_object",
    "minimal_answer",
    "minimal_value",
    "object_message",
    "resolved",
]

NESTING: Final = 16
"""How deep objects within objects are followed; a schema may refer to itself without an end."""


class UnfillableError(Exception):
    """No value can be made up for a schema."""


def minimal_answer(request: ModelRequest, text: str) -> AIMessage:
    """Return a message of the right type for *request* that says *text*.

    Where a schema was asked for, it holds the smallest object that the schema allows, with *text*
    in its free texts. It calls no tool unless one was forced.

    Raises:
        UnfillableError: The caller would read an object that cannot be made up, or a call of one of
            several tools: to call one that nobody has chosen could do anything.
    """
    form = asked_form(request)
    if not form.is_structured:
        return AIMessage(text)
    schema, tool = asked_object(request)
    return object_message(request, minimal_value(schema, schema, text, 0), tool)


def asked_form(request: ModelRequest) -> AnswerForm:
    """Return the form of the answer, with what its caller reads an object into where that was said.

    A provider may be told less: nothing in JSON mode, or a schema without the bounds of its lists.
    """
    form, into = request.facts.answer_form, request.run.read_into
    if form.must_call_tool or not form.is_structured:
        return form
    if isinstance(into, type) and issubclass(into, BaseModel):
        return replace(form, schema=into.model_json_schema(), type=into)
    schema = name_and_schema(into)[1] if isinstance(into, Mapping) else None
    return replace(form, schema=schema) if schema else form


def asked_object(
    request: ModelRequest, name: str | None = None
) -> tuple[Mapping[str, Any], str | None]:
    """Return the schema of the object that the caller will read, and the tool that brings it.

    Args:
        request: What was asked.
        name: The tool that the model has chosen.

    Raises:
        UnfillableError: It comes in a call of a tool, and none of them is known to be a form.
    """
    form = asked_form(request)
    is_free_call = form.kind == "tools" and name is not None
    if form.tool is not None or not (form.must_call_tool or is_free_call):
        return form.schema or {"type": "object"}, form.tool
    found = form_among(request.facts.tools, name)
    if found is None:
        raise UnfillableError("one of several tools must be called, and each may do anything")
    return found[1], found[0]


def object_message(request: ModelRequest, values: Any, tool: str | None) -> AIMessage:
    """Return the message in which the caller of *request* finds *values*.

    Raises:
        UnfillableError: They are none of the caller's class.
    """
    form = asked_form(request)
    try:
        parsed = values if form.type is None else form.type.model_validate(values)
    except ValueError as error:  # pydantic's ValidationError is one
        raise UnfillableError(str(error)) from error
    if tool is not None:
        call = {"name": tool, "args": values, "id": f"call_{request.run.run_id.hex[:12]}"}
        return AIMessage("", tool_calls=[{"type": "tool_call", **call}])
    # langchain-openai reads the object from there, and not from the text.
    return AIMessage(json.dumps(values), additional_kwargs={"parsed": parsed})


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references within *root*."""
    for _ in range(8):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        found: Any = root
        for part in reference.lstrip("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise UnfillableError(reference)
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


def minimal_value(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> Any:
    """Return the smallest value that *schema* allows."""
    if depth > NESTING:
        raise UnfillableError("the schema refers to itself without an end")
    schema = resolved(schema, root)
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
            key: value for part in schema["allOf"] for key, value in resolved(part, root).items()
        }
        return minimal_value(merged, root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = "null" if "null" in kind else kind[0]
    if kind == "object":
        properties = schema.get("properties") or {}
        return {
            name: minimal_value(properties.get(name, {}), root, text, depth + 1)
            for name in schema.get("required", ())
        }
    if kind == "array":
        items = schema.get("items") or {}
        return [
            minimal_value(items, root, text, depth + 1) for _ in range(schema.get("minItems", 0))
        ]
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
            return minimal_value(choice, root, text, depth + 1)
        except UnfillableError:
            continue
    raise UnfillableError("anyOf")


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
        raise UnfillableError("number")
    return math.ceil(value) if whole else value


def _text(schema: Mapping[str, Any], text: str) -> str:
    if "pattern" in schema:
        raise UnfillableError("pattern")
    form = schema.get("format")
    if form is not None:
        if form not in _BY_FORMAT:
            raise UnfillableError(form)
        return _BY_FORMAT[form]
    made = text[: schema.get("maxLength", len(text))]
    return made.ljust(schema.get("minLength", 0), ".")
