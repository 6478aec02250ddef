"""Names of providers, as LangChain and as genai-prices give them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

__all__ = [
    "GATEWAYS",
    "HOSTS",
    "base_url_in",
    "billing_provider",
    "charges_as_the_rest",
    "is_sold_by_its_maker_alone",
    "vendor_of",
]


PROVIDERS: Mapping[str, str] = {
    "amazon": "aws",
    "amazon_bedrock": "aws",
    "anthropic-mantle": "aws",
    "anthropic_bedrock": "aws",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "azureaichatcompletions": "azure",
    "azureml": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "gemini": "google",
    "google_anthropic_vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "grok": "x-ai",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "openai-mantle": "aws",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertexai": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
    "z-ai": "zai",
    "zhipu": "zhipuai",
}
"""LangChain's ``ls_provider`` and ``init_chat_model`` names, where genai-prices has another id."""


UNPRICED_PROVIDERS = frozenset(
    {
        # own hardware
        "gpt4all",
        "huggingface",
        "huggingface_pipeline",
        "llama-cpp",
        "llama_cpp",
        "llamacpp",
        "lmstudio",
        "mlx",
        "ollama",
        "openvino",
        "vllm",
        # a subscription
        "openai-codex",
        # models of others at prices of their own, which genai-prices does not list
        "ibm",
        "nvidia",
        "sambanova",
    }
)
"""Providers whose bill is not known, whatever the model; only an override prices them."""


GATEWAYS = frozenset({"litellm", "openai", "openrouter"})
"""They lead to models of other vendors: OpenAI because many speak its protocol."""


def vendor_of(provider: str | None) -> str | None:
    """Return genai-prices' id of a LangChain provider; the name itself where there is none."""
    if provider is None:
        return None
    name = provider.strip().lower()
    return PROVIDERS.get(name, name)


# Who sends the bill


HOSTS: Final = frozenset(
    {
        *("avian", "aws", "azure", "baseten", "cerebras", "cloudflare", "databricks"),
        *("doubleword", "fireworks", "groq", "modal", "novita", "openrouter", "ovhcloud"),
        "together",
    }
)
"""Providers that run models of others and make none that others would run: in front of a model's
name they say who sends the bill, as in LiteLLM's ``groq/llama-3.1-8b-instant``. Others, such as
``google/gemma-3-27b-it``, may only have made it."""


_OWN_MODELS: Final[Mapping[str, re.Pattern[str]]] = {
    "anthropic": re.compile(r"(?:[\w-]+\.)*claude"),
    "aws": re.compile(r"(?:amazon\.)?(?:nova|titan)-"),
    "deepseek": re.compile(r"deepseek-(?:chat|reasoner)$"),
    "google": re.compile(r"(?:gemini|imagen|veo|learnlm|text-embedding)-"),
    "mistral": re.compile(r"[a-z]+(?:-[a-z]+)*-latest$|mistral-embed$"),
    "openai": re.compile(
        r"(?:ft:)?(?:chatgpt|codex|computer-use|dall-e|davinci|babbage|ada|curie|o\d|omni|sora"
        r"|moderation|text-|tts|gpt-(?:\d|audio|chat|image|live|realtime|rosalind|transcribe))"
        r"|whisper-1$"
    ),
    "perplexity": re.compile(r"sonar"),
    "voyageai": re.compile(r"voyage-"),
    "x-ai": re.compile(r"grok-(?!\d|\w+-\d)|grok-(?:[3-9]|\d\d)"),
}
"""Names of models whose weights nobody else has, by maker, as of 2026-11. With any other name
anybody may send the bill, or nobody: open weights run on one's own machine."""


def is_sold_by_its_maker_alone(maker: str, name: str) -> bool:
    """Whether a model can only be had from its maker, or from a gateway to it.

    Example:
        >>> [is_sold_by_its_maker_alone("openai", name) for name in ("gpt-5", "gpt-oss-120b")]
        [True, False]
    """
    pattern = _OWN_MODELS.get(maker)
    return pattern is not None and pattern.match(name) is not None


_MORE_URLS: Final[Mapping[str, str]] = {
    "aws": r"https?://bedrock(?:-mantle|-runtime)?[\w-]*\.[a-z0-9-]+\.(?:amazonaws\.com|api\.aws)",
    "cerebras": r"https?://api\.cerebras\.ai",
    "deepseek": r"https?://api\.deepseek\.com",
    "together": r"https?://api\.together\.(?:xyz|ai)",
}
"""Addresses of providers that genai-prices (0.2.3) does not have, or knows by an older name."""


@lru_cache(maxsize=1_024)
def provider_of_url(url: str) -> str | None:
    """Return genai-prices' id of the provider whose API stands at *url*; ``None``: not known.

    Example:
        >>> provider_of_url("https://api.groq.com/openai/v1")
        'groq'
        >>> provider_of_url("http://127.0.0.1:8000/v1") is None
        True
    """
    from genai_prices.data_snapshot import get_snapshot

    known = [(provider.id, provider.api_pattern) for provider in get_snapshot().providers]
    for provider, pattern in (*known, *_MORE_URLS.items()):
        if re.match(pattern, url.strip().lower()):
            return provider
    return None


_URL_SETTING: Final = re.compile(r"(?:^|_)(?:api_base|(?:base|api|server|endpoint)_url|endpoint)$")
"""Names of the setting that says where an integration's API stands."""


def base_url_in(settings: Mapping[str, Any], provider: str | None) -> str | None:
    """Return the address that a model calls, as far as its settings name one.

    Args:
        settings: The model's fields, or the ``kwargs`` of its serialized form.
        provider: LangChain's ``ls_provider``. OpenAI's client also reads an environment variable.

    Example:
        >>> base_url_in({"openai_api_base": "https://api.groq.com/openai/v1"}, "openai")
        'https://api.groq.com/openai/v1'
    """
    for name, value in settings.items():
        if isinstance(value, str) and value.startswith("http") and _URL_SETTING.search(name):
            return value
    return os.environ.get("OPENAI_BASE_URL") if provider == "openai" else None


def billing_provider(provider: str | None, base_url: str | None) -> str | None:
    """Return who sends the bill: whose address was called, else whose package has called.

    Args:
        provider: LangChain's ``ls_provider``, which names the package.
        base_url: The address that the client was given; ``None``: its own default.

    Example:
        >>> billing_provider("openai", "https://api.groq.com/openai/v1")
        'groq'
        >>> billing_provider("openai", None)
        'openai'
    """
    at_url = provider_of_url(base_url) if base_url else None
    return provider if at_url is None or at_url == vendor_of(provider) else at_url


# Media without a price of their own


def charges_as_the_rest(vendor: str, model: str, kind: str) -> bool:
    """Whether tokens of a medium without a price of its own cost what the others on its side cost.

    Images and video are read at the price of text wherever no other is listed. For sound, and for
    media that a model makes, that holds only where the price list says so: Google lists sound apart
    where it differs, and models that make nothing but sound or images have that price as the one
    of their output. Elsewhere the price list is incomplete, and text is far cheaper.

    Sources: https://ai.google.dev/gemini-api/docs/pricing and
    https://developers.openai.com/api/docs/pricing (2026-11-20), by the comments of genai-prices.

    Args:
        vendor: genai-prices' id.
        model: genai-prices' id.
        kind: One of the rates, such as ``"output_audio"``.
    """
    if kind in ("input_image", "input_video"):
        return True
    if kind == "input_audio":
        return vendor == "google"
    if kind == "output_audio":
        return vendor in ("google", "openai") and "tts" in model
    return kind == "output_image" and vendor == "openai" and model.startswith("gpt-image")
