"""Long conversations at a price: what of them is sent, and what can be fetched back."""

from __future__ import annotations

from langchain_tokenopt.context.compressor import ContextCompressor, ContextView
from langchain_tokenopt.context.economics import PriceProfile
from langchain_tokenopt.context.expand import expand_tool
from langchain_tokenopt.context.originals import ContextStore
from langchain_tokenopt.context.policy import SlidingWindow

__all__ = [
    "ContextCompressor",
    "ContextStore",
    "ContextView",
    "PriceProfile",
    "SlidingWindow",
    "expand_tool",
]
