"""Names of providers, as LangChain and as genai-prices give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = ["GATEWAYS", "vendor_of"]


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
