"""Long conversations and contents: what of them is sent, and what can be fetched back."""

from __future__ import annotations

from langchain_tokenopt.context.compressor import ContextCompressor
from langchain_tokenopt.context.costs import ContextCosts, PolicyCosts, context_costs
from langchain_tokenopt.context.economics import PriceProfile
from langchain_tokenopt.context.expand import expand_tool
from langchain_tokenopt.context.loader import ProgressiveLoader
from langchain_tokenopt.context.originals import ContextStore
from langchain_tokenopt.context.policy import SlidingWindow
from langchain_tokenopt.context.recorded import ConversationFileError, recorded_conversations
from langchain_tokenopt.context.tier_sending import TierStats
from langchain_tokenopt.context.view import ContextView

__all__ = [
    "ContextCompressor",
    "ContextCosts",
    "ContextStore",
    "ContextView",
    "ConversationFileError",
    "PolicyCosts",
    "PriceProfile",
    "ProgressiveLoader",
    "SlidingWindow",
    "TierStats",
    "context_costs",
    "expand_tool",
    "recorded_conversations",
]
