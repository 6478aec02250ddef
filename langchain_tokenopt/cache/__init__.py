"""A response cache that does not answer the wrong question."""

from __future__ import annotations

from langchain_tokenopt.cache.cache_schema import CacheFileError
from langchain_tokenopt.cache.embedder import EmbeddingFailedError
from langchain_tokenopt.cache.eviction_policy import EvictionPolicy
from langchain_tokenopt.cache.semantic import SemanticCache
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.cache.stats import CacheCheck, CacheStats, Candidate, Explanation, TopEntry

__all__ = [
    "CacheCheck",
    "CacheFileError",
    "CacheSettings",
    "CacheStats",
    "Candidate",
    "EmbeddingFailedError",
    "EvictionPolicy",
    "Explanation",
    "SemanticCache",
    "TopEntry",
]
