"""Shorten prompts to an exact number of tokens, and say what was lost."""

from __future__ import annotations

from langchain_tokenopt.compress.prompt import PromptCompressor, optimize_text
from langchain_tokenopt.compress.report import CompressionResult

__all__ = ["CompressionResult", "PromptCompressor", "optimize_text"]
