"""Which model a name or an object stands for, and which tokenizer that model has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import Runnable

    ModelLike = str | BaseChatModel | Runnable[Any, Any]

__all__ = ["Tokenizer", "bare_name", "model_family", "model_name_of", "tokenizer_of"]


_PROVIDERS: Final = frozenset(
    {
        *("anthropic", "azure", "azure_ai", "azure_openai", "bedrock", "bedrock_converse"),
        *("cohere", "deepseek", "fireworks", "google_anthropic_vertex", "google_genai"),
        *("google_vertexai", "groq", "huggingface", "ibm", "litellm", "mistralai", "nvidia"),
        *("ollama", "openai", "openrouter", "perplexity", "together", "upstage", "vertex_ai"),
        "xai",
    }
)
"""Prefixes that ``init_chat_model("provider:model")`` and gateways put before a colon."""


_REGION_AND_VENDOR: Final = re.compile(
    r"^(?:(?:us|eu|apac|au|jp|ca|global|us-gov)\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|mistral|moonshot|openai|qwen)\."
)
"""Bedrock's ``us.anthropic.claude-...``."""


_VOCABULARY_NAMES: Final = {
    "o200k_base": "o200k_base",
    "o200k_harmony": "o200k_base",
    "cl100k_base": "cl100k_base",
}


_OPENAI_VOCABULARIES: Final = (
    (
        "o200k_base",
        re.compile(
            r"gpt-?(?:4o|4\.1|4\.5|5(?:\.\d+)?|oss)(?![a-z])|chatgpt-4o(?![a-z])|o[134](?![a-z0-9])"
        ),
    ),
    (
        "cl100k_base",
        re.compile(
            r"gpt-?(?:4(?![.\da-z])|3\.5|35)|text-embedding-(?:3|ada-002)|(?:davinci|babbage)-002"
        ),
    ),
)
"""As in ``tiktoken/model.py`` of tiktoken 0.14.0 (read 2026-11-21). ``o200k_harmony`` (gpt-oss)
differs from ``o200k_base`` in special tokens only, which ordinary text never uses."""


_OPENAI_SUFFIXES: Final = re.compile(
    r"(?:[-_.:@](?:\d+k|\d+b|\d\d?|\d{4}|\d{8}|api|audio|chat|codex|deep|diarize|instruct|large|latest"
    r"|live|max|mini|nano|preview|pro|realtime|research|safeguard|search|small|transcribe|tts|turbo"
    r"|vision))*"
)
"""What OpenAI puts behind these names: sizes, uses and dates. With anything else behind it, a name
is somebody's own, and what it is counted with is a guess."""


_LATER_OPENAI: Final = re.compile(
    r"gpt-?\d+(?:\.\d+)?(?![a-z])|chatgpt|o\d(?![a-z0-9])|codex|computer-use"
)


_FAMILIES: Final = (
    ("claude-4.7", re.compile(r"claude-(?:opus-4[-.][7-9]|[a-z]+-(?:[5-9]|\d\d)(?!\d))")),
    ("claude", re.compile(r"claude")),
    ("gemini", re.compile(r"gemini|gemma|learnlm")),
    ("mistral", re.compile(r"mi(?:ni)?stral|magistral|devstral|mixtral|codestral|pixtral")),
    ("llama", re.compile(r"llama")),
    ("qwen", re.compile(r"qwen|qwq")),
    ("deepseek", re.compile(r"deepseek")),
    ("command", re.compile(r"command")),
    ("grok", re.compile(r"grok")),
    ("nova", re.compile(r"nova")),
)
"""Models that share a tokenizer. Anthropic changed Claude's with Opus 4.7."""


_NAME_ATTRIBUTES: Final = (
    "tiktoken_model_name",
    "model_name",
    "model",
    "model_id",
    "azure_deployment",
    "deployment_name",
)


_NESTING: Final = 8
"""How many wrappers around a model are looked through."""


def model_name_of(model: ModelLike) -> str:
    """Return the name that the provider knows *model* by.

    Looks through bindings (``model.bind_tools(...)``), retries, fallbacks and sequences, and takes
    the first of ``tiktoken_model_name``, ``model_name``, ``model``, ``model_id`` and an Azure
    deployment's name; the class name when there is none of them.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> model_name_of(FakeListChatModel(responses=["yes"]).bind(stop=["."]))
        'FakeListChatModel'
    """
    if isinstance(model, str):
        return model
    return _name_within(model, _NESTING) or type(_innermost(model)).__name__


def _name_within(runnable: Any, depth: int) -> str | None:
    bound = (getattr(runnable, "kwargs", None) or {}) if depth else {}
    override = bound.get("model") if isinstance(bound, Mapping) else None
    if isinstance(override, str) and override:
        return override
    for attribute in _NAME_ATTRIBUTES:
        name = getattr(runnable, attribute, None)
        if isinstance(name, str) and name:
            return name
    inner = _inner(runnable) if depth else []
    return next(filter(None, (_name_within(part, depth - 1) for part in inner)), None)


def _inner(runnable: Any) -> list[Any]:
    """Return what a wrapper wraps: a binding's or a retry's model, the steps of a sequence."""
    for attribute in ("bound", "runnable"):
        wrapped = getattr(runnable, attribute, None)
        if wrapped is not None:
            return [wrapped]
    steps = getattr(runnable, "steps", None)
    return list(steps) if isinstance(steps, list) else []


def _innermost(runnable: Any) -> Any:
    for _ in range(_NESTING):
        inner = _inner(runnable)
        if len(inner) != 1:
            break
        runnable = inner[0]
    return runnable


@lru_cache(maxsize=1024)
def bare_name(name: str) -> str:
    """Strip what gateways, clouds and fine-tuning put around a model's name."""
    bare = name.strip().lower().rpartition("/")[2]
    provider, colon, rest = bare.partition(":")
    if colon and provider in _PROVIDERS:
        bare = rest
    if bare.startswith("ft:"):
        bare = bare.split(":")[1]
    return _REGION_AND_VENDOR.sub("", bare)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How a model's text is counted."""

    family: str
    vocabulary: str
    """The vocabulary to count with; for foreign families the nearest one."""
    exact: bool
    download: bool
    """Worth a download: only where the vocabulary is (probably) the model's own."""


@lru_cache(maxsize=1024)
def tokenizer_of(name: str) -> Tokenizer:
    """Return how the text of the model called *name* is counted."""
    bare = bare_name(name)
    if bare in _VOCABULARY_NAMES:
        return Tokenizer("openai", _VOCABULARY_NAMES[bare], exact=True, download=True)
    for vocabulary, pattern in _OPENAI_VOCABULARIES:
        found = pattern.match(bare)
        if found and _OPENAI_SUFFIXES.fullmatch(bare, found.end()):
            return Tokenizer("openai", vocabulary, exact=True, download=True)
    for family, pattern in _FAMILIES:
        if pattern.search(bare):
            return Tokenizer(family, "o200k_base", exact=False, download=False)
    for vocabulary, pattern in _OPENAI_VOCABULARIES:  # a deployment called "prod-gpt-4o-eu"
        if pattern.search(bare):
            return Tokenizer(bare, vocabulary, exact=False, download=True)
    if _LATER_OPENAI.match(bare):
        return Tokenizer(bare, "o200k_base", exact=False, download=True)
    return Tokenizer(bare, "o200k_base", exact=False, download=False)


def model_family(model: ModelLike) -> str:
    """Name the group of models that share a tokenizer, and so a :class:`Calibration`.

    Example:
        >>> model_family("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
        'claude'
        >>> model_family("in-house-7b")
        'in-house-7b'
    """
    return tokenizer_of(model_name_of(model)).family
