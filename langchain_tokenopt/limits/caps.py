"""What a request says about the length and the form of its answer, in each provider's own words.

Verified on the wire against a loopback server with langchain-openai 1.7, langchain-anthropic 1.x
and langchain-google-genai 4.x (``tests/integration_tests/test_limits_host.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["is_structured", "may_call_tools", "thinking_room", "with_cap"]

_CAP_NAMES: Final = (
    "max_tokens",  # LangChain's standard name; ChatOpenAI sends it as max_completion_tokens
    "max_completion_tokens",
    "max_output_tokens",  # Gemini, and OpenAI's Responses API
)


def with_cap(request: ModelRequest, tokens: int) -> tuple[Mapping[str, Any], int | None]:
    """Return the call's keyword arguments with a cap of *tokens*, and the cap that now holds.

    A cap that the caller has set is only ever lowered. None is set where nobody knows its name or
    where thinking of unknown length counts as output, since it would use the cap up. The second
    value is ``None`` when the cap is not ours.
    """
    room = thinking_room(request.model, request.kwargs)
    name = _cap_name(request.model, request.kwargs)
    if room is None or name is None:
        return request.kwargs, None
    present = [request.kwargs[key] for key in _CAP_NAMES if request.kwargs.get(key) is not None]
    if not present and (own := getattr(request.model, name, None)) is not None:
        present = [own]
    if any(limit <= tokens + room for limit in present):
        return request.kwargs, None
    others = {key: value for key, value in request.kwargs.items() if key not in _CAP_NAMES}
    return {**others, name: tokens + room}, tokens + room


def _cap_name(model: BaseChatModel, kwargs: Mapping[str, Any]) -> str | None:
    """Return the name that this model's class takes a cap by."""
    for name in _CAP_NAMES:
        if kwargs.get(name) is not None:
            return name
    return next((name for name in _CAP_NAMES if name in type(model).model_fields), None)


# --- thinking ------------------------------------------------------------------------------------

_THINKS_UNASKED = re.compile(
    r"(?:^|[/.:])(?:o[1345](?![a-z0-9])|gpt-5(?!\.[1-9]|-chat)|gemini-[3-9]|grok-4|magistral"
    r"|deepseek-r|deepseek-reasoner|qwq)"
)
"""Models that think before they answer unless told otherwise, as of 2026-11. GPT-5.1 and later do
so on request only."""

_GEMINI_THINKS: Final = re.compile(r"gemini-2\.5-(?!flash-lite)")
_GEMINI_MOST_THINKING_TOKENS: Final = 32_768
"""Largest thinking budget of Gemini 2.5 Pro; Flash stops at 24,576
(ai.google.dev/gemini-api/docs/thinking)."""

_NO_THINKING: Final = ("none", "disabled", "off")
_FIELDS: Final = ("reasoning_effort", "reasoning", "thinking", "thinking_level", "thinking_config")


def thinking_room(model: BaseChatModel, kwargs: Mapping[str, Any]) -> int | None:
    """Return how many tokens of thinking a cap must leave room for; ``None`` when unknown."""
    name = model_name_of(model).lower()
    budget = kwargs.get("thinking_budget", getattr(model, "thinking_budget", None))
    if isinstance(budget, int):
        return budget if budget >= 0 else _GEMINI_MOST_THINKING_TOKENS
    for field in _FIELDS:
        asked = kwargs.get(field, getattr(model, field, None))
        if asked is not None:
            return _asked_thinking(asked)
    if _GEMINI_THINKS.search(name):
        return _GEMINI_MOST_THINKING_TOKENS
    return None if _THINKS_UNASKED.search(name) else 0


def _asked_thinking(asked: Any) -> int | None:
    """Read a thinking setting: "none", Anthropic's budget, or something that has no number."""
    if isinstance(asked, Mapping):
        budget = asked.get("budget_tokens", asked.get("thinking_budget"))
        if isinstance(budget, int) and budget >= 0:
            return budget
        asked = asked.get("type", asked.get("effort"))
    return 0 if asked in _NO_THINKING or asked is False else None


# --- form ----------------------------------------------------------------------------------------

_SCHEMA_NAMES: Final = (
    "response_format",
    "ls_structured_output_format",
    "response_schema",
    "response_json_schema",
    "guided_json",
    "format",  # Ollama
)
_FREE: Final = (None, "", "auto", "none", "text")


def is_structured(request: ModelRequest) -> bool:
    """Whether the answer is read by a program: a schema, JSON, or a tool that must be called."""
    asked = {**_settings_of(request.model), **request.kwargs}
    forms = [asked.get(name) for name in _SCHEMA_NAMES]
    nested = (asked.get(name) for name in ("output_config", "text"))
    forms += [outer.get("format") for outer in nested if isinstance(outer, Mapping)]
    mime = asked.get("response_mime_type")
    return (
        any(_type_of(form) not in _FREE for form in forms)
        or mime not in (None, "text/plain")
        or _type_of(asked.get("tool_choice")) not in _FREE
        or _type_of(asked.get("function_call")) not in _FREE
    )


def may_call_tools(request: ModelRequest) -> bool:
    """Whether a tool call may follow the text, which must then not be cut off."""
    tools = request.tools or request.kwargs.get("functions")
    return bool(tools) and _type_of(request.kwargs.get("tool_choice")) != "none"


def _settings_of(model: BaseChatModel) -> dict[str, Any]:
    """Return what the model itself says about the form of its answers."""
    names = (*_SCHEMA_NAMES, "response_mime_type")
    own = {name: getattr(model, name, None) for name in names if name in type(model).model_fields}
    return {**own, **(getattr(model, "model_kwargs", None) or {})}


def _type_of(setting: Any) -> Any:
    return setting.get("type", setting) if isinstance(setting, Mapping) else setting
