"""Embedders without weights, for tests of the cache."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from langchain_core.embeddings import Embeddings

__all__ = ["BrokenEmbeddings", "WordEmbeddings"]

_SYNONYMS = {"modify": "change", "code": "pin", "reach": "contact", "phone": "call", "lost": "gone"}


class WordEmbeddings(Embeddings):
    """Texts with the same words are near, whatever their order; a few synonyms are one word."""

    def __init__(self, size: int = 64) -> None:
        self.size = size
        self.calls: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        self.calls.append(text)
        vector = [1e-3] * self.size
        for word in re.findall(r"\w+", text.lower()):
            digest = hashlib.sha256(_SYNONYMS.get(word, word).encode()).digest()
            for at in range(4):
                vector[digest[at] % self.size] += 1.0 if digest[at + 8] & 1 else -1.0
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


class BrokenEmbeddings(WordEmbeddings):
    """Does whatever it is told instead of embedding."""

    def __init__(self, instead: Callable[[], list[float]]) -> None:
        super().__init__()
        self.instead = instead

    def embed_query(self, text: str) -> list[float]:
        return self.instead()
