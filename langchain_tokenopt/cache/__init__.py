"""A response cache that does not answer the wrong question."""

from __future__ import annotations

from langchain_tokenopt.cache.decision import Decision
from langchain_tokenopt.cache.eviction import EvictionPolicy
from langchain_tokenopt.cache.semantic import SemanticCache
from langchain_tokenopt.cache.stats import CacheCheck, CacheStats, Candidate, Explanation, TopEntry
from langchain_tokenopt.cache.store import CacheFileError

__all__ = [
    "CacheCheck",
    "CacheFileError",
    "CacheStats",
    "Candidate",
    "Decision",
    "EvictionPolicy",
    "Explanation",
    "SemanticCache",
    "TopEntry",
]
