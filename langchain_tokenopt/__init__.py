"""See, cut, cap and prove the token spend of LangChain chains and LangGraph graphs.

Public names are loaded when they are first used: importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_tokenopt.budget import (
        AgentBudget,
        AllocationStrategy,
        BudgetAlert,
        BudgetPlan,
        NoBudgetRunError,
        TokenBudget,
    )
    from langchain_tokenopt.cache import EvictionPolicy, SemanticCache
    from langchain_tokenopt.callbacks import TokenUsageCallbackHandler, track_usage
    from langchain_tokenopt.compress import (
        CompressionResult,
        DocumentCompressor,
        Handover,
        LossReport,
        PromptCompressor,
        PromptSections,
        Section,
        join_documents,
        optimize_text,
    )
    from langchain_tokenopt.embeddings import LocalEmbeddings
    from langchain_tokenopt.errors import (
        BudgetExceededError,
        BudgetInfeasibleError,
        TokenOptError,
        TokenOptWarning,
    )
    from langchain_tokenopt.forecast import Forecast, UsageForecaster
    from langchain_tokenopt.graph import BudgetAllocationNode, BudgetState, budget_graph, budgeted
    from langchain_tokenopt.ledger import Ledger, LedgerError
    from langchain_tokenopt.limits import Compliance, WordLimit, WordLimitExceededError
    from langchain_tokenopt.model import optimize
    from langchain_tokenopt.offline import ExtractiveChatModel
    from langchain_tokenopt.prices import RateCard, Rates
    from langchain_tokenopt.scope import token_scope
    from langchain_tokenopt.stage import Answer, ModelRequest, Phase, Stage, Trip
    from langchain_tokenopt.tokens import TokenCount, TokenCounter, count_messages, counter_for
    from langchain_tokenopt.usage import (
        BudgetEvent,
        CallRecord,
        Saving,
        Usage,
        UsageSink,
        UsageTotals,
    )

_MODULE_OF = {
    "AgentBudget": "budget",
    "AllocationStrategy": "budget",
    "Answer": "stage",
    "BudgetAlert": "budget",
    "BudgetAllocationNode": "graph",
    "BudgetEvent": "usage",
    "BudgetExceededError": "errors",
    "BudgetInfeasibleError": "errors",
    "BudgetPlan": "budget",
    "BudgetState": "graph",
    "CallRecord": "usage",
    "Compliance": "limits",
    "CompressionResult": "compress",
    "DocumentCompressor": "compress",
    "EvictionPolicy": "cache",
    "ExtractiveChatModel": "offline",
    "Forecast": "forecast",
    "Handover": "compress",
    "Ledger": "ledger",
    "LedgerError": "ledger",
    "LocalEmbeddings": "embeddings",
    "LossReport": "compress",
    "ModelRequest": "stage",
    "NoBudgetRunError": "budget",
    "Phase": "stage",
    "PromptCompressor": "compress",
    "PromptSections": "compress",
    "RateCard": "prices",
    "Rates": "prices",
    "Saving": "usage",
    "Section": "compress",
    "SemanticCache": "cache",
    "Stage": "stage",
    "TokenBudget": "budget",
    "TokenCount": "tokens",
    "TokenCounter": "tokens",
    "TokenOptError": "errors",
    "TokenOptWarning": "errors",
    "TokenUsageCallbackHandler": "callbacks",
    "Trip": "stage",
    "Usage": "usage",
    "UsageForecaster": "forecast",
    "UsageSink": "usage",
    "UsageTotals": "usage",
    "WordLimit": "limits",
    "WordLimitExceededError": "limits",
    "budget_graph": "graph",
    "budgeted": "graph",
    "count_messages": "tokens",
    "counter_for": "tokens",
    "join_documents": "compress",
    "optimize": "model",
    "optimize_text": "compress",
    "token_scope": "scope",
    "track_usage": "callbacks",
}

__all__ = [
    "AgentBudget",
    "AllocationStrategy",
    "Answer",
    "BudgetAlert",
    "BudgetAllocationNode",
    "BudgetEvent",
    "BudgetExceededError",
    "BudgetInfeasibleError",
    "BudgetPlan",
    "BudgetState",
    "CallRecord",
    "Compliance",
    "CompressionResult",
    "DocumentCompressor",
    "EvictionPolicy",
    "ExtractiveChatModel",
    "Forecast",
    "Handover",
    "Ledger",
    "LedgerError",
    "LocalEmbeddings",
    "LossReport",
    "ModelRequest",
    "NoBudgetRunError",
    "Phase",
    "PromptCompressor",
    "PromptSections",
    "RateCard",
    "Rates",
    "Saving",
    "Section",
    "SemanticCache",
    "Stage",
    "TokenBudget",
    "TokenCount",
    "TokenCounter",
    "TokenOptError",
    "TokenOptWarning",
    "TokenUsageCallbackHandler",
    "Trip",
    "Usage",
    "UsageForecaster",
    "UsageSink",
    "UsageTotals",
    "WordLimit",
    "WordLimitExceededError",
    "budget_graph",
    "budgeted",
    "count_messages",
    "counter_for",
    "join_documents",
    "optimize",
    "optimize_text",
    "token_scope",
    "track_usage",
]


def __getattr__(name: str) -> Any:
    """Load the module behind a public name (PEP 562)."""
    if name == "__version__":
        return version("langchain-tokenopt")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, "__version__"])
