"""How much a model may think before it answers, by every integration's own setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from langchain_tokenopt.request.settings import Settings

__all__ = ["asked_thinking_tokens", "thinking_room"]

_THINKS_UNASKED: Final = re.compile(
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


def thinking_room(settings: Settings, model_name: str) -> int | None:
    """Return how many tokens of thinking a cap must leave room for; ``None`` when unknown.

    Thinking counts as output with every provider, so a cap that leaves no room for it cuts the
    answer off before it begins.
    """
    budget = settings.get("thinking_budget")
    if isinstance(budget, int):
        return budget if budget >= 0 else _GEMINI_MOST_THINKING_TOKENS
    asked = settings.first(_FIELDS)
    if asked is not None:
        return _asked_room(asked)
    name = model_name.lower()
    if _GEMINI_THINKS.search(name):
        return _GEMINI_MOST_THINKING_TOKENS
    return None if _THINKS_UNASKED.search(name) else 0


def _asked_room(asked: Any) -> int | None:
    """Read a thinking setting: "none", Anthropic's budget, or something that has no number."""
    if isinstance(asked, Mapping):
        budget = asked.get("budget_tokens", asked.get("thinking_budget"))
        if isinstance(budget, int) and budget >= 0:
            return budget
        asked = asked.get("type", asked.get("effort"))
    return 0 if asked in _NO_THINKING or asked is False else None


def asked_thinking_tokens(settings: Settings) -> int:
    """Return the thinking that was asked for by number: providers refuse a cap below it."""
    asked = settings.get("thinking")
    budget = asked.get("budget_tokens") if isinstance(asked, Mapping) else None
    if budget is None:
        budget = settings.get("thinking_budget")
    return budget if isinstance(budget, int) and budget > 0 else 0
