"""Caps on the length of an answer, by every integration's own name, wherever it takes them.

A cap is only sent by a name that the model's class declares, or that the caller has used: another
one could be refused, or be ignored. A model that takes none of these is *uncapped*, and budgets
hold what its answers usually need.

Read in the sources of langchain-openai 1.7, -anthropic 1.7, -google-genai 4.4, -aws 1.9, -deepseek
1.1, -groq 1.1, -mistralai 1.1, -ollama 1.1, -openrouter 0.2, -perplexity 1.4 and -xai 1.3
(2026-11-29), and verified on the wire (``tests/integration_tests/test_caps_on_the_wire.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from langchain_tokenopt.request.settings import Settings

__all__ = ["CAP_NAMES", "cap_name", "capped", "caps_in", "lowest_cap", "takes_cap_by_call"]

_BY_CALL: Final = (
    "max_tokens",  # LangChain's standard name; ChatOpenAI sends it as max_completion_tokens
    "max_completion_tokens",
    "max_output_tokens",  # Gemini, and OpenAI's Responses API
)
"""Names that integrations take with the call. Those below stand in the model only: Ollama's client
refuses an argument ``num_predict``."""

CAP_NAMES: Final = (
    *_BY_CALL,
    "num_predict",  # Ollama
    "max_new_tokens",  # Hugging Face, watsonx
    "n_predict",  # GPT4All
    "max_gen_len",  # Llama on Bedrock
    "max_tokens_to_generate",  # SambaNova
    "max_tokens_to_sample",  # Anthropic's completions
)

_SPELLINGS: Final = frozenset(
    {*CAP_NAMES, "maxTokens", "maxOutputTokens", "maxTokenCount", "max_token_count"}
)
"""The names as they stand inside of settings that go out as they are."""

_NESTED: Final = (
    "options",  # Ollama: it replaces all settings of the model
    "inferenceConfig",  # Bedrock's Converse: the same
    "generation_config",  # Gemini
    "extra_body",
    "model_kwargs",
)
"""Settings that hold settings."""


def lowest_cap(settings: Settings) -> int | None:
    """Return the lowest cap that the call has set, else the lowest that the model has.

    Ollama's negative values mean that there is no cap.
    """
    given = list(caps_in(settings.kwargs))
    if not given:
        inside = ((name, settings.of_model(name)) for name in (*CAP_NAMES, *_NESTED))
        given = list(caps_in(dict(inside)))
    return min((cap for cap in given if cap > 0), default=None)


def caps_in(settings: Mapping[str, Any]) -> Iterator[int]:
    """Yield the caps in *settings*, and in the settings within; also those that mean none.

    Example:
        >>> list(caps_in({"max_tokens": 9, "options": {"num_predict": 7}, "temperature": 0}))
        [9, 7]
    """
    for name in (*CAP_NAMES, "maxTokens"):
        cap = settings.get(name)
        if isinstance(cap, int) and cap:
            yield cap
    for name in _NESTED:
        inner = settings.get(name)
        if isinstance(inner, Mapping):
            yield from (
                cap
                for key, cap in inner.items()
                if key in _SPELLINGS and isinstance(cap, int) and cap
            )


def cap_name(settings: Settings) -> str | None:
    """Return the name by which this model takes a cap; ``None``: by none that is known."""
    for name in CAP_NAMES:
        if settings.kwargs.get(name) is not None:
            return name
    return next(filter(settings.is_declared, CAP_NAMES), None)


def takes_cap_by_call(kwargs: Mapping[str, Any], name: str) -> bool:
    """Whether a cap under *name* is sent with the call, and not set in the model."""
    return name in _BY_CALL or kwargs.get(name) is not None or any(map(kwargs.get, _NESTED))


def capped(kwargs: Mapping[str, Any], name: str, tokens: int) -> dict[str, Any]:
    """Return *kwargs* with one cap, under *name*, in the place of all others.

    Settings within settings, which hide those beside them, are capped where they stand.

    Example:
        >>> capped({"max_new_tokens": 90, "stop": ["."]}, "max_tokens", 60)
        {'stop': ['.'], 'max_tokens': 60}
        >>> capped({"options": {"num_predict": 90, "seed": 1}}, "num_predict", 60)
        {'options': {'num_predict': 60, 'seed': 1}}
    """
    left = {key: value for key, value in kwargs.items() if key not in (*CAP_NAMES, "maxTokens")}
    nested = {key: left[key] for key in _NESTED if isinstance(left.get(key), Mapping)}
    if not nested:
        return {**left, name: tokens}
    hides_others = False
    for place, settings in nested.items():
        own = {key: tokens for key in settings if key in _SPELLINGS}
        if not own and place in _REPLACING:
            own = {_REPLACING[place]: tokens}
        left[place] = {**settings, **own}
        hides_others = hides_others or place in _REPLACING
    return left if hides_others else {**left, name: tokens}


_REPLACING: Final[Mapping[str, str]] = {"options": "num_predict", "inferenceConfig": "maxTokens"}
"""Nested settings that replace all others, and what a cap is called there."""
