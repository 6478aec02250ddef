"""Shorten prompts to an exact number of tokens, and say what was lost."""

from __future__ import annotations

from langchain_tokenopt.compress.content_types import join_documents
from langchain_tokenopt.compress.documents import DocumentCompressor
from langchain_tokenopt.compress.handover import Handover
from langchain_tokenopt.compress.loss import LossReport
from langchain_tokenopt.compress.prompt_compressor import PromptCompressor, optimize_text
from langchain_tokenopt.compress.result import CompressionResult
from langchain_tokenopt.compress.sections import PromptSections, Section

__all__ = [
    "CompressionResult",
    "DocumentCompressor",
    "Handover",
    "LossReport",
    "PromptCompressor",
    "PromptSections",
    "Section",
    "join_documents",
    "optimize_text",
]
