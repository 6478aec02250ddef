"""What a tool's schema says, in whichever provider's format it is written.

Whoever needs a tool's name, description or parameters asks here. Formats (all read 2026-11-29):

=================  =============================================================================
OpenAI chat        ``{"type": "function", "function": {"name", "description", "parameters"}}``
OpenAI responses   ``{"type": "function", "name", "description", "parameters"}``
OpenAI functions   ``{"name", "description", "parameters"}``
OpenAI custom      ``{"type": "custom", "name", "description", "format"}``
Anthropic          ``{"name", "description", "input_schema"}``
MCP                ``{"name", "description", "inputSchema"}``
Bedrock Converse   ``{"toolSpec": {"name", "description", "inputSchema": {"json"}}}``
Gemini             ``{"function_declarations": [{"name", "description", "parameters"}]}``
JSON schema        ``{"title", "description", "properties"}``
=================  =============================================================================

What else there is runs at the provider (``{"type": "web_search"}``, ``{"google_search": {}}``,
``{"cachePoint": {}}``): it declares no function.

https://platform.openai.com/docs/api-reference/chat/create
https://docs.anthropic.com/en/api/messages
https://modelcontextprotocol.io/specification/2025-06-18/server/tools
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolSpecification.html
https://ai.google.dev/api/caching#FunctionDeclaration
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["DECLARATIONS", "PARAMETERS", "FunctionSchema", "declared_functions", "function_name"]

DECLARATIONS: Final = ("function_declarations", "functionDeclarations")
"""Keys under which Gemini has a list of functions; only there one tool holds several."""
PARAMETERS: Final = (
    "parameters", "input_schema", "inputSchema", "parameters_json_schema", "parametersJsonSchema",
)  # fmt: skip
"""Keys under which a tool has the schema of its arguments."""
_OWN_TYPES: Final = (None, "function", "custom")
"""What ``type`` says of a tool that the application runs; others run at the provider."""


@dataclass(frozen=True, slots=True)
class FunctionSchema:
    """One function that a model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """A JSON schema of the arguments; empty where there are none."""


def declared_functions(tool: Any) -> list[FunctionSchema]:
    """Return the functions that a tool's schema declares; none for a provider's own tool.

    Example:
        >>> declared_functions({"name": "now", "input_schema": {"type": "object"}})
        [FunctionSchema(name='now', description='', parameters={'type': 'object'})]
        >>> declared_functions({"type": "web_search_20250305", "name": "web_search"})
        []
    """
    if not isinstance(tool, Mapping):
        return []
    for key in DECLARATIONS:
        if isinstance(tool.get(key), list | tuple):
            return [found for part in tool[key] for found in _one(_plain(part))]
    return _one(tool)


def function_name(tool: Any) -> str | None:
    """Return the name of a tool in the commonest form, a dict that declares one function.

    Example:
        >>> function_name({"type": "function", "function": {"name": "add"}})
        'add'
        >>> function_name({"name": "add"})
    """
    inner = tool.get("function") if type(tool) is dict else None
    name = inner.get("name") if type(inner) is dict else None
    return name if isinstance(name, str) else None


def _one(tool: Mapping[str, Any]) -> list[FunctionSchema]:
    inner = next((tool[k] for k in ("function", "toolSpec", "custom") if _is_map(tool, k)), tool)
    parameters = next((inner[key] for key in PARAMETERS if _is_map(inner, key)), None)
    name = inner.get("name")
    if name is None and isinstance(inner.get("title"), str):
        name = inner["title"]
        parameters = inner if _is_map(inner, "properties") else None
    elif parameters is None and inner is tool and inner.get("type") not in _OWN_TYPES:
        return []
    if not isinstance(name, str) or not name:
        return []
    if (
        parameters is not None and [*parameters] == ["json"] and _is_map(parameters, "json")
    ):  # Bedrock
        parameters = parameters["json"]
    description = inner.get("description")
    return [
        FunctionSchema(name, description if isinstance(description, str) else "", parameters or {})
    ]


def _is_map(tool: Mapping[str, Any], key: str) -> bool:
    return isinstance(tool.get(key), Mapping)


def _plain(part: Any) -> Mapping[str, Any]:
    """Return a declaration as a mapping: Google's client has classes of its own for them."""
    if isinstance(part, Mapping):
        return part
    dump = getattr(part, "model_dump", None)
    found = dump(exclude_none=True) if callable(dump) else None
    return found if isinstance(found, Mapping) else {}
