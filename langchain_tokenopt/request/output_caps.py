"""Caps on the length of an answer, by every integration's own name.

Verified on the wire against a loopback server with langchain-openai 1.7, langchain-anthropic 1.x
and langchain-google-genai 4.x (``tests/integration_tests/test_limits_host.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_tokenopt.request.settings import Settings

__all__ = ["CAP_NAMES", "cap_name", "capped", "lowest_cap"]

CAP_NAMES: Final = (
    "max_tokens",  # LangChain's standard name; ChatOpenAI sends it as max_completion_tokens
    "max_completion_tokens",
    "max_output_tokens",  # Gemini, and OpenAI's Responses API
    "num_predict",  # Ollama
    "max_new_tokens",  # Hugging Face
)


def lowest_cap(settings: Settings) -> int | None:
    """Return the lowest cap that the call has set, else the lowest that the model has.

    Ollama's negative values mean that there is no cap.
    """
    given = [settings.kwargs.get(name) for name in CAP_NAMES]
    if not any(given):
        given = [settings.of_model(name) for name in CAP_NAMES]
    return min((cap for cap in given if isinstance(cap, int) and cap > 0), default=None)


def cap_name(settings: Settings) -> str | None:
    """Return the name by which this model takes a cap; ``None``: by none that is known."""
    for name in CAP_NAMES:
        if settings.kwargs.get(name) is not None:
            return name
    return next(filter(settings.is_declared, CAP_NAMES), None)


def capped(kwargs: Mapping[str, Any], name: str, tokens: int) -> dict[str, Any]:
    """Return *kwargs* with one cap, under *name*, in the place of all others."""
    others = {key: value for key, value in kwargs.items() if key not in CAP_NAMES}
    return {**others, name: tokens}
