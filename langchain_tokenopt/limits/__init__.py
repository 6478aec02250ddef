"""Limit the length of answers so that the model really stops."""

from __future__ import annotations

from langchain_tokenopt.limits.compliance import Compliance
from langchain_tokenopt.limits.on_exceed import WordLimitExceededError
from langchain_tokenopt.limits.word_limit import WordLimit

__all__ = ["Compliance", "WordLimit", "WordLimitExceededError"]
