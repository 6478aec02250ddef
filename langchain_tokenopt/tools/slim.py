"""Shorter schemas of the same tools: first sentences, no examples, no titles.

What is left out is text that explains; what a call must look like stays: types, names, enums,
required, defaults, formats, patterns and bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_tokenopt.core.tool_schemas import DECLARATIONS, PARAMETERS, declared_functions
from langchain_tokenopt.text.sentences import sentences_of

__all__ = ["slim"]

_LEFT_OUT: Final = ("examples", "example", "title", "$comment")
"""Keys of a JSON schema that explain."""
_NAMED: Final = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
"""Keys whose values are schemas by name: a name there is no keyword."""
_SCHEMAS: Final = (
    "items", "anyOf", "oneOf", "allOf", "prefixItems", "additionalProperties", "not", "contains",
)  # fmt: skip
_AROUND: Final = ("function", "toolSpec", "custom", *DECLARATIONS)
"""Keys of a tool under which its name and schema lie."""


def slim(tool: Any) -> tuple[Any, list[str]]:
    """Return *tool* with a shorter schema, and where something was left out of it.

    *tool* itself is not changed. It is returned as it is where there is nothing to leave out, where
    it is no schema or a provider's own tool, and where it is strict: providers compile strict
    schemas, and keep them by their bytes.

    Example:
        >>> tool = {"name": "now", "description": "Tell the time. In UTC.", "input_schema": {}}
        >>> slim(tool)
        ({'name': 'now', 'description': 'Tell the time.', 'input_schema': {}}, ['description'])
    """
    if not isinstance(tool, Mapping) or not declared_functions(tool) or _is_strict(tool):
        return tool, []
    lost: list[str] = []
    is_schema = "name" not in tool and "properties" in tool
    slimmed = _schema(tool, "", lost, keep=("title",)) if is_schema else _tool(tool, "", lost)
    return (slimmed, lost) if lost else (tool, [])


def _is_strict(tool: Mapping[str, Any]) -> bool:
    inner = tool.get("function")
    return bool(tool.get("strict") or (isinstance(inner, Mapping) and inner.get("strict")))


def _tool(tool: Any, path: str, lost: list[str]) -> Any:
    """Shorten what is around a schema, and the schema in it."""
    if isinstance(tool, list | tuple):
        return [_tool(part, f"{path}.{at}", lost) for at, part in enumerate(tool)]
    if not isinstance(tool, Mapping):
        return tool
    made = {}
    for key, value in tool.items():
        where = f"{path}.{key}".removeprefix(".")
        if key == "description":
            value = _first_sentence(value, where, lost)
        elif key in _AROUND:
            value = _tool(value, where, lost)
        elif key in PARAMETERS and isinstance(value, Mapping) and [*value] == ["json"]:
            value = {"json": _schema(value["json"], f"{where}.json", lost)}  # Bedrock
        elif key in PARAMETERS:
            value = _schema(value, where, lost)
        made[key] = value
    return made


def _schema(schema: Any, path: str, lost: list[str], *, keep: tuple[str, ...] = ()) -> Any:
    if isinstance(schema, list | tuple):
        return [_schema(part, path, lost) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {}
    for key, value in schema.items():
        where = f"{path}.{key}".removeprefix(".")
        if key in _LEFT_OUT and key not in keep:
            lost.append(where)
            continue
        if key == "description":
            value = _first_sentence(value, where, lost)
        elif key in _NAMED and isinstance(value, Mapping):
            value = {name: _schema(each, f"{where}.{name}", lost) for name, each in value.items()}
        elif key in _SCHEMAS:
            value = _schema(value, where, lost)
        made[key] = value
    return made


def _first_sentence(text: Any, where: str, lost: list[str]) -> Any:
    if not isinstance(text, str):
        return text
    first = next(iter(sentences_of(text)), text)
    if first == text.strip():
        return text
    lost.append(where)
    return first
