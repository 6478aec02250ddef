"""Shorter schemas of the same tools: first sentences, no examples, no titles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_tokenopt.text.sentences import sentences_of

__all__ = ["slim"]

_LEFT_OUT: Final = ("examples", "example", "title", "$comment", "externalDocs")


def slim(tool: Any) -> tuple[Any, list[str]]:
    """Return *tool* with a shorter schema, and what was left out of it.

    Types, names, enums and what is required stay; *tool* itself is not changed. What is no
    schema, or is strict, is returned as it is.

    Example:
        >>> tool = {"name": "now", "description": "Tell the time. In UTC.", "input_schema": {}}
        >>> slim(tool)
        ({'name': 'now', 'description': 'Tell the time.', 'input_schema': {}}, ['description'])
    """
    if not isinstance(tool, Mapping):
        return tool, []
    lost: list[str] = []
    slimmed = _slimmed(tool, "", lost)
    return (slimmed, lost) if lost else (tool, [])


def _slimmed(schema: Any, path: str, lost: list[str]) -> Any:
    if isinstance(schema, list):
        return [_slimmed(part, path, lost) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {}
    for key, value in schema.items():
        where = f"{path}.{key}".removeprefix(".")
        if key == "description" and isinstance(value, str):
            first = next(iter(sentences_of(value)), "")
            if first != value.strip():
                lost.append(where)
                value = first
        made[key] = value if isinstance(value, str) else _slimmed(value, where, lost)
    return made
