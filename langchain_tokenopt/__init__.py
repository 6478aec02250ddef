"""See, cut, cap and prove the token spend of LangChain chains and LangGraph graphs.

Public names are loaded when they are first used: importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_tokenopt.agents import (
        ContextMiddleware,
        ModelRoutingMiddleware,
        PromptCompressionMiddleware,
        SemanticCacheMiddleware,
        StageMiddleware,
        TokenBudgetMiddleware,
        ToolSelectionMiddleware,
        WordLimitMiddleware,
    )
    from langchain_tokenopt.budget import (
        AgentBudget,
        AllocationStrategy,
        Auto,
        BudgetAlert,
        BudgetLimit,
        BudgetPlan,
        BudgetRun,
        BudgetRunReport,
        BudgetStoreError,
        ForecastNeed,
        NoBudgetRunError,
        Performance,
        TokenBudget,
    )
    from langchain_tokenopt.cache import (
        CacheFileError,
        CacheSettings,
        CacheStats,
        EvictionPolicy,
        Explanation,
        SemanticCache,
    )
    from langchain_tokenopt.chat_model.optimize import optimize
    from langchain_tokenopt.chat_model.presets import stages_of
    from langchain_tokenopt.compress import (
        CompressionResult,
        DocumentCompressor,
        Handover,
        PromptCompressor,
        PromptSections,
        optimize_text,
    )
    from langchain_tokenopt.compress.message_templates import MessageTemplates
    from langchain_tokenopt.context import (
        ContextCompressor,
        ContextStore,
        ContextView,
        ConversationFileError,
        PriceProfile,
        ProgressiveLoader,
        SlidingWindow,
        TierStats,
        expand_tool,
    )
    from langchain_tokenopt.core.attribution import Attribution
    from langchain_tokenopt.core.errors import (
        BudgetExceededError,
        BudgetInfeasibleError,
        HostVersionError,
        PlaceError,
        StopStream,
        TokenOptError,
        TokenOptWarning,
        UnknownTimeZoneError,
    )
    from langchain_tokenopt.core.own_context import in_own_context
    from langchain_tokenopt.core.records import (
        BudgetEvent,
        CallRecord,
        Saving,
        ToolChoice,
        TuningStep,
        UsageSink,
        UsageTotals,
    )
    from langchain_tokenopt.core.usage import Usage
    from langchain_tokenopt.counting.request_tokens import count_messages
    from langchain_tokenopt.counting.tokens import TokenCount, TokenCounter, counter_for
    from langchain_tokenopt.data_requests import (
        DataCollected,
        DataConflict,
        DataNeed,
        DataQuestion,
        DataRequester,
        DataStage,
    )
    from langchain_tokenopt.embeddings import EmbedderUnavailableError, LocalEmbeddings
    from langchain_tokenopt.evaluate import (
        AnswerStoreError,
        Case,
        CaseFileError,
        Comparison,
        GuardFileError,
        Judge,
        QualityGuard,
        UnpricedModelError,
        acompare,
        compare,
    )
    from langchain_tokenopt.export.event_stream import EventStream
    from langchain_tokenopt.export.opentelemetry_sink import OpenTelemetrySink
    from langchain_tokenopt.export.prometheus_sink import PrometheusSink
    from langchain_tokenopt.export.viewers import Viewer
    from langchain_tokenopt.export.webhook_sink import WebhookSink
    from langchain_tokenopt.forecast import (
        Estimate,
        Forecast,
        RunForecast,
        SpendForecast,
        UsageForecaster,
        forecast_run,
        forecast_spend,
    )
    from langchain_tokenopt.graph import (
        BudgetAllocationNode,
        BudgetState,
        budget_graph,
        budgeted,
        node_cache,
        templated,
    )
    from langchain_tokenopt.learn.auto_tune import AutoTune
    from langchain_tokenopt.learn.prefetch.prefetcher import Prefetcher, PrefetchStats
    from langchain_tokenopt.ledger import Ledger, LedgerError
    from langchain_tokenopt.limits import WordLimit, WordLimitExceededError
    from langchain_tokenopt.pricing.money import format_usd
    from langchain_tokenopt.pricing.rate_card import RateCard
    from langchain_tokenopt.pricing.rates import Rates
    from langchain_tokenopt.request.model_request import Answer, ModelRequest
    from langchain_tokenopt.routing import Complexity, ModelRouter, Route
    from langchain_tokenopt.scope import stage_all, token_scope
    from langchain_tokenopt.stage import (
        Again,
        Phase,
        Stage,
        StageCall,
        StageGroup,
        TunableSetting,
        TunableStage,
    )
    from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore
    from langchain_tokenopt.tools.budgeted_tool import BudgetedTool
    from langchain_tokenopt.tools.scoped_tools import scoped_tools
    from langchain_tokenopt.tools.selector import ToolSelector
    from langchain_tokenopt.tools.token_scope import TokenScope
    from langchain_tokenopt.tools.tool_limits import ToolLimitExceededError, ToolLimits
    from langchain_tokenopt.tools.tool_set import ToolSet
    from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler, track_usage
    from langchain_tokenopt.whole import optimize_agent

_MODULE_OF = {
    "WordLimitMiddleware": "agents",
    "ToolSelectionMiddleware": "agents",
    "TokenBudgetMiddleware": "agents",
    "StageMiddleware": "agents",
    "SemanticCacheMiddleware": "agents",
    "PromptCompressionMiddleware": "agents",
    "ContextMiddleware": "agents",
    "ModelRoutingMiddleware": "agents",
    "Again": "stage",
    "AgentBudget": "budget",
    "AllocationStrategy": "budget",
    "Answer": "request.model_request",
    "AnswerStoreError": "evaluate",
    "Attribution": "core.attribution",
    "Auto": "budget",
    "AutoTune": "learn.auto_tune",
    "BudgetAlert": "budget",
    "BudgetAllocationNode": "graph",
    "BudgetEvent": "core.records",
    "BudgetExceededError": "core.errors",
    "BudgetInfeasibleError": "core.errors",
    "BudgetLimit": "budget",
    "BudgetPlan": "budget",
    "BudgetRun": "budget",
    "BudgetRunReport": "budget",
    "BudgetState": "graph",
    "BudgetStoreError": "budget",
    "BudgetedTool": "tools.budgeted_tool",
    "CacheFileError": "cache",
    "CacheSettings": "cache",
    "CacheStats": "cache",
    "CallRecord": "core.records",
    "Case": "evaluate",
    "CaseFileError": "evaluate",
    "Comparison": "evaluate",
    "Complexity": "routing",
    "CompressionResult": "compress",
    "ContextCompressor": "context",
    "ContextStore": "context",
    "ContextView": "context",
    "ConversationFileError": "context",
    "DataCollected": "data_requests",
    "DataConflict": "data_requests",
    "DataNeed": "data_requests",
    "DataQuestion": "data_requests",
    "DataRequester": "data_requests",
    "DataStage": "data_requests",
    "DocumentCompressor": "compress",
    "EmbedderUnavailableError": "embeddings",
    "Estimate": "forecast",
    "EventStream": "export.event_stream",
    "EvictionPolicy": "cache",
    "Explanation": "cache",
    "Forecast": "forecast",
    "ForecastNeed": "budget",
    "GuardFileError": "evaluate",
    "Handover": "compress",
    "HostVersionError": "core.errors",
    "PlaceError": "core.errors",
    "Judge": "evaluate",
    "LearnedKey": "storage.learned_store",
    "LearnedStore": "storage.learned_store",
    "Ledger": "ledger",
    "LedgerError": "ledger",
    "LocalEmbeddings": "embeddings",
    "MessageTemplates": "compress.message_templates",
    "ModelRequest": "request.model_request",
    "ModelRouter": "routing",
    "NoBudgetRunError": "budget",
    "OpenTelemetrySink": "export.opentelemetry_sink",
    "Performance": "budget",
    "Phase": "stage",
    "PrefetchStats": "learn.prefetch.prefetcher",
    "Prefetcher": "learn.prefetch.prefetcher",
    "PriceProfile": "context",
    "ProgressiveLoader": "context",
    "PrometheusSink": "export.prometheus_sink",
    "PromptCompressor": "compress",
    "PromptSections": "compress",
    "QualityGuard": "evaluate",
    "RateCard": "pricing.rate_card",
    "Rates": "pricing.rates",
    "Route": "routing",
    "RunForecast": "forecast",
    "Saving": "core.records",
    "SemanticCache": "cache",
    "SlidingWindow": "context",
    "SpendForecast": "forecast",
    "Stage": "stage",
    "StageCall": "stage",
    "StageGroup": "stage",
    "StopStream": "core.errors",
    "TierStats": "context",
    "TokenBudget": "budget",
    "TokenCount": "counting.tokens",
    "TokenCounter": "counting.tokens",
    "TokenOptError": "core.errors",
    "TokenOptWarning": "core.errors",
    "TokenScope": "tools.token_scope",
    "TokenUsageCallbackHandler": "tracking.callbacks",
    "ToolChoice": "core.records",
    "ToolLimitExceededError": "tools.tool_limits",
    "ToolLimits": "tools.tool_limits",
    "ToolSelector": "tools.selector",
    "ToolSet": "tools.tool_set",
    "TunableSetting": "stage",
    "TunableStage": "stage",
    "TuningStep": "core.records",
    "UnknownTimeZoneError": "core.errors",
    "UnpricedModelError": "evaluate",
    "Usage": "core.usage",
    "UsageForecaster": "forecast",
    "UsageSink": "core.records",
    "UsageTotals": "core.records",
    "Viewer": "export.viewers",
    "WebhookSink": "export.webhook_sink",
    "WordLimit": "limits",
    "WordLimitExceededError": "limits",
    "acompare": "evaluate",
    "budget_graph": "graph",
    "budgeted": "graph",
    "compare": "evaluate",
    "count_messages": "counting.request_tokens",
    "counter_for": "counting.tokens",
    "expand_tool": "context",
    "forecast_run": "forecast",
    "forecast_spend": "forecast",
    "format_usd": "pricing.money",
    "in_own_context": "core.own_context",
    "node_cache": "graph",
    "optimize": "chat_model",
    "optimize_agent": "whole",
    "optimize_text": "compress",
    "scoped_tools": "tools.scoped_tools",
    "stage_all": "scope",
    "stages_of": "chat_model",
    "templated": "graph",
    "token_scope": "scope",
    "track_usage": "tracking.callbacks",
}

__all__ = [
    "Again",
    "AgentBudget",
    "AllocationStrategy",
    "Answer",
    "AnswerStoreError",
    "Attribution",
    "Auto",
    "AutoTune",
    "BudgetAlert",
    "BudgetAllocationNode",
    "BudgetEvent",
    "BudgetExceededError",
    "BudgetInfeasibleError",
    "BudgetLimit",
    "BudgetPlan",
    "BudgetRun",
    "BudgetRunReport",
    "BudgetState",
    "BudgetStoreError",
    "BudgetedTool",
    "CacheFileError",
    "CacheSettings",
    "CacheStats",
    "CallRecord",
    "Case",
    "CaseFileError",
    "Comparison",
    "Complexity",
    "CompressionResult",
    "ContextCompressor",
    "ContextMiddleware",
    "ContextStore",
    "ContextView",
    "ConversationFileError",
    "DataCollected",
    "DataConflict",
    "DataNeed",
    "DataQuestion",
    "DataRequester",
    "DataStage",
    "DocumentCompressor",
    "EmbedderUnavailableError",
    "Estimate",
    "EventStream",
    "EvictionPolicy",
    "Explanation",
    "Forecast",
    "ForecastNeed",
    "GuardFileError",
    "Handover",
    "HostVersionError",
    "Judge",
    "LearnedKey",
    "LearnedStore",
    "Ledger",
    "LedgerError",
    "LocalEmbeddings",
    "MessageTemplates",
    "ModelRequest",
    "ModelRouter",
    "ModelRoutingMiddleware",
    "NoBudgetRunError",
    "OpenTelemetrySink",
    "Performance",
    "Phase",
    "PlaceError",
    "PrefetchStats",
    "Prefetcher",
    "PriceProfile",
    "ProgressiveLoader",
    "PrometheusSink",
    "PromptCompressionMiddleware",
    "PromptCompressor",
    "PromptSections",
    "QualityGuard",
    "RateCard",
    "Rates",
    "Route",
    "RunForecast",
    "Saving",
    "SemanticCache",
    "SemanticCacheMiddleware",
    "SlidingWindow",
    "SpendForecast",
    "Stage",
    "StageCall",
    "StageGroup",
    "StageMiddleware",
    "StopStream",
    "TierStats",
    "TokenBudget",
    "TokenBudgetMiddleware",
    "TokenCount",
    "TokenCounter",
    "TokenOptError",
    "TokenOptWarning",
    "TokenScope",
    "TokenUsageCallbackHandler",
    "ToolChoice",
    "ToolLimitExceededError",
    "ToolLimits",
    "ToolSelectionMiddleware",
    "ToolSelector",
    "ToolSet",
    "TunableSetting",
    "TunableStage",
    "TuningStep",
    "UnknownTimeZoneError",
    "UnpricedModelError",
    "Usage",
    "UsageForecaster",
    "UsageSink",
    "UsageTotals",
    "Viewer",
    "WebhookSink",
    "WordLimit",
    "WordLimitExceededError",
    "WordLimitMiddleware",
    "acompare",
    "budget_graph",
    "budgeted",
    "compare",
    "count_messages",
    "counter_for",
    "expand_tool",
    "forecast_run",
    "forecast_spend",
    "format_usd",
    "in_own_context",
    "node_cache",
    "optimize",
    "optimize_agent",
    "optimize_text",
    "scoped_tools",
    "stage_all",
    "stages_of",
    "templated",
    "token_scope",
    "track_usage",
]


if not TYPE_CHECKING:  # which would take any name for known
    if find_spec("langchain") is None:  # of which these are subclasses
        __all__ = [name for name in __all__ if _MODULE_OF[name] != "agents"]

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
