"""LangChain's own contract for caches, sync and async."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from langchain_tokenopt.cache import SemanticCache


class HashEmbeddings(Embeddings):
    """Unlike texts get unlike vectors."""

    def embed_query(self, text: str) -> list[float]:
        digest = hashlib.sha256(text.encode()).digest()
        return [byte - 127.5 for byte in digest]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, tmp_path) -> Iterator[SemanticCache]:
        with SemanticCache(tmp_path / "answers.db", embeddings=HashEmbeddings()) as cache:
            yield cache


class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, tmp_path):
        with SemanticCache(tmp_path / "answers.db", embeddings=HashEmbeddings()) as cache:
            yield cache
