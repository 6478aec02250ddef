"""Whether an answer may be kept at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, ToolCall
from langchain_core.outputs import Generation
from langchain_core.utils.json import parse_json_markdown
from pydantic import ValidationError

from langchain_tokenopt.request.answer_form import TEXT, AnswerForm
from langchain_tokenopt.request.finish_reasons import is_whole

__all__ = ["why_not_stored"]


def why_not_stored(
    answers: Sequence[Generation], form: AnswerForm = TEXT, *, tool_calls: bool = False
) -> str:
    """Return why answers must not be kept, or '' when they may.

    A structure, be it text or the call of the one tool that stands for it, is kept when it fits its
    schema: whoever could not read it asks again, and must not be given it again. Calls of other
    tools are not kept: they ask the program to do something.

    Args:
        answers: What the model has returned.
        form: The form that was asked for.
        tool_calls: Whether calls of any tool may be kept.

    Example:
        >>> why_not_stored([Generation(text="Yes.")])
        ''
        >>> cut = Generation(text="Once", generation_info={"finish_reason": "length"})
        >>> why_not_stored([cut])
        'not whole'
        >>> why_not_stored([Generation(text="Yes.")], AnswerForm("structured"))
        'not of the schema'
    """
    if not answers:
        return "empty"
    return next(filter(None, (_why_not(answer, form, tool_calls) for answer in answers)), "")


def _why_not(answer: Generation, form: AnswerForm, tool_calls: bool) -> str:
    message = getattr(answer, "message", None)
    calls: Sequence[ToolCall] = ()
    if isinstance(message, AIMessage):
        calls = message.tool_calls
        are_answer = form.tool_is_answer and all(call["name"] == form.tool for call in calls)
        if message.invalid_tool_calls or (calls and not tool_calls and not are_answer):
            return "tool_calls"
        if isinstance(message.content, list) and any(map(_is_refusal, message.content)):
            return "not whole"
    if not is_whole([answer]):
        return "not whole"
    if not calls and _says_nothing(answer):
        return "empty"
    if not form.is_structured or (calls and not form.tool_is_answer):
        return ""
    text = message.text if isinstance(message, AIMessage) else answer.text
    values = [call["args"] for call in calls] or [_parsed(text)]
    return "" if all(_is_of(form, value) for value in values) else "not of the schema"


def _says_nothing(answer: Generation) -> bool:
    """Say whether there is nothing but blanks and thoughts."""
    message = getattr(answer, "message", None)
    if not isinstance(message, AIMessage):
        return not answer.text.strip()
    if message.text.strip():
        return False
    return all(block["type"] in ("text", "reasoning") for block in message.content_blocks)


_NOT_JSON: Final = object()


def _parsed(text: str) -> Any:
    """Return what LangChain's parsers read in a text, without their mending of what was cut."""
    try:
        return parse_json_markdown(text, parser=json.loads)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _is_of(form: AnswerForm, value: Any) -> bool:
    """Say whether a parsed answer is what the program will accept, as far as it can be seen."""
    if value is _NOT_JSON:
        return False
    try:
        if form.type is not None:
            form.type.model_validate(value)
        return form.schema is None or _fits(value, form.schema, form.schema)
    except (ValidationError, RecursionError):
        return False


_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "null": type(None),
    "number": (int, float, str),  # parsers read numbers and truth values from text, too
    "integer": (int, float, str),
    "boolean": (bool, str, int),
}


def _fits(value: Any, schema: Any, root: Mapping[str, Any]) -> bool:
    """Say whether *value* has the shape of a JSON schema; keywords that only narrow do not count.

    The keywords are those of https://json-schema.org/draft/2020-12 (checked 2026-11-29).
    """
    if not isinstance(schema, Mapping):
        return schema is not False
    if isinstance(ref := schema.get("$ref"), str):
        return _fits(value, _referred(ref, root), root)
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, _TYPES.get(kind, object)) for kind in kinds):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    either = schema.get("anyOf") or schema.get("oneOf") or [True]
    if not any(_fits(value, one, root) for one in either):
        return False
    if not all(_fits(value, one, root) for one in schema.get("allOf", ())):
        return False
    if isinstance(value, dict):
        parts = schema.get("properties", {})
        return all(name in value for name in schema.get("required", ())) and all(
            _fits(inner, parts[name], root) for name, inner in value.items() if name in parts
        )
    if isinstance(value, list):
        return all(_fits(item, schema.get("items", True), root) for item in value)
    return True


def _referred(ref: str, root: Mapping[str, Any]) -> Any:
    """Return the part of a schema that ``#/...`` names; where there is none, anything fits."""
    found: Any = root
    for name in ref.removeprefix("#").strip("/").split("/"):
        found = found.get(name, True) if isinstance(found, Mapping) and name else found
    return found


def _is_refusal(block: object) -> bool:
    """Say whether a block of content is OpenAI's word that there is no answer."""
    if not isinstance(block, dict):
        return False
    value = block.get("value")
    return "refusal" in block or (isinstance(value, dict) and "refusal" in value)
