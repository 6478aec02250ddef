"""Semantic caches for tests: every option by its name, wherever it belongs."""

from __future__ import annotations

from typing import Any

from langchain_tokenopt.cache import CacheSettings, SemanticCache
from tests.support.embedders import WordEmbeddings


def make_cache(path: Any = None, **options: Any) -> SemanticCache:
    """Make a cache that embeds words and audits nothing, unless *options* say otherwise."""
    options = {"embeddings": WordEmbeddings(), "audit_share": 0.0, **options}
    own = {name: options.pop(name) for name in list(options) if name in CacheSettings.model_fields}
    return SemanticCache(path, settings=CacheSettings(**own), **options)
