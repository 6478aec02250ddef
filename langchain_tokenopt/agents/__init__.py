"""The same stages as middleware of LangChain's ``create_agent``."""

from __future__ import annotations

try:
    import langchain.agents.middleware  # noqa: F401
except ImportError as error:
    raise ImportError(
        "middleware of create_agent needs the Python package langchain. "
        "Run: pip install 'langchain-tokenopt[agents]'"
    ) from error

from langchain_tokenopt.agents.budget_middleware import RunOptions, TokenBudgetMiddleware
from langchain_tokenopt.agents.single_stages import (
    ContextMiddleware,
    ModelRoutingMiddleware,
    PromptCompressionMiddleware,
    SemanticCacheMiddleware,
    ToolSelectionMiddleware,
    WordLimitMiddleware,
)
from langchain_tokenopt.agents.stage_middleware import StageMiddleware

__all__ = [
    "ContextMiddleware",
    "ModelRoutingMiddleware",
    "PromptCompressionMiddleware",
    "RunOptions",
    "SemanticCacheMiddleware",
    "StageMiddleware",
    "TokenBudgetMiddleware",
    "ToolSelectionMiddleware",
    "WordLimitMiddleware",
]
