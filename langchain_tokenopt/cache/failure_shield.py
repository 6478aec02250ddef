"""What goes wrong in a cache is a miss with one warning, never a failed call."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from langchain_tokenopt.cache.embedder import EmbeddingFailedError
from langchain_tokenopt.cache.repository import FILE_ERRORS
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage.errors import PostgresError

__all__ = ["Shield"]

Result = TypeVar("Result")


class Shield:
    """Runs the work of a cache inside of model calls."""

    def __init__(self) -> None:
        self.misses: Counter[str] = Counter()
        """Requests that the model had to answer, by reason."""
        self._warned: set[str] = set()

    def run(self, work: Callable[..., Result], *args: Any) -> Result | None:
        """Do *work*; return ``None``, and count a miss, whatever goes wrong."""
        try:
            return work(*args)
        except EmbeddingFailedError as error:
            self.warn("embedder", f"The embedder failed: {error}. The model is asked instead.")
            reason = "embedder failed"
        except FILE_ERRORS as error:
            where = "server" if isinstance(error, PostgresError) else "file"
            self.warn("file", f"The cache {where} failed: {error}. The model is asked instead.")
            reason = f"{where} failed"
        # same_answer, eviction policies and clocks are the caller's code and may raise anything.
        except Exception as error:  # noqa: BLE001
            self.warn(
                type(error).__name__,
                f"The cache failed: {type(error).__name__}: {error}. The model is asked instead.",
            )
            reason = "failed"
        self.misses[reason] += 1
        return None

    def warn(self, kind: str, text: str) -> None:
        """Warn, once for each kind of what goes wrong."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{text} This is not mentioned again.", TokenOptWarning, stacklevel=4)
