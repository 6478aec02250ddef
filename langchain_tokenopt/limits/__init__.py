"""Limit the length of answers so that the model really stops."""

from __future__ import annotations

from langchain_tokenopt.limits.outcome import Compliance, WordLimitExceededError
from langchain_tokenopt.limits.stage import WordLimit

__all__ = ["Compliance", "WordLimit", "WordLimitExceededError"]
