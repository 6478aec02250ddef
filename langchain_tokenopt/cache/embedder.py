"""The embedder as foreign code: it may be slow, fail, or return nonsense."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

from langchain_tokenopt.cache.vector_index import unit_vector
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.embeddings import LocalEmbeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EmbeddingFailedError", "GuardedEmbedder"]


class EmbeddingFailedError(TokenOptError):
    """The embedder raised, took too long, or returned what is no vector."""


class GuardedEmbedder:
    """Turns texts into unit vectors, or raises :class:`EmbeddingFailedError`.

    Foreign embedders run in a thread of their own, which is left alone once it hangs; until it
    comes back, requests go on without it. The local one does not wait for anything and runs where
    it is called.

    Args:
        embeddings: What embeds.
        timeout: Seconds that a foreign embedder may take.
    """

    def __init__(self, embeddings: Embeddings, timeout: float) -> None:
        self.embeddings = embeddings
        self._timeout = timeout
        self._is_local = isinstance(embeddings, LocalEmbeddings)
        self._hanging: threading.Event | None = None

    def reads(self, text: str) -> bool:
        """Say whether the embedder reads the whole text; unknown windows are taken as 2,000 signs.

        256 word pieces, the window of most small models, hold at least that much English text.
        """
        reads: Callable[[str], bool] | None = getattr(self.embeddings, "reads", None)
        if reads is None:
            return len(text) <= _UNKNOWN_WINDOW
        try:
            return bool(reads(text))
        except Exception as error:
            raise EmbeddingFailedError(f"{type(error).__name__}: {error}") from error

    def vector(self, text: str) -> NDArray[np.float32]:
        """Return the unit vector of *text*."""
        return self._checked(self._run(lambda: self.embeddings.embed_query(text)))

    def vectors(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """Return the unit vectors of *texts*; without a time limit, since it may be a bulk."""
        try:
            found = self.embeddings.embed_documents(texts)
        except Exception as error:
            raise EmbeddingFailedError(f"{type(error).__name__}: {error}") from error
        if len(found) != len(texts):
            raise EmbeddingFailedError(f"got {len(found)} vectors for {len(texts)} texts")
        return [self._checked(vector) for vector in found]

    def _checked(self, vector: Any) -> NDArray[np.float32]:
        try:
            return unit_vector(vector)
        except (TypeError, ValueError) as error:
            raise EmbeddingFailedError(str(error)) from error

    def _run(self, embed: Callable[[], Any]) -> Any:
        if self._is_local:
            try:
                return embed()
            except Exception as error:
                raise EmbeddingFailedError(f"{type(error).__name__}: {error}") from error
        if self._hanging is not None and not self._hanging.is_set():
            raise EmbeddingFailedError("still busy with a call that took too long")
        result: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        finished = threading.Event()

        def call() -> None:
            try:
                result.put((True, embed()))
            except Exception as error:  # noqa: BLE001  the embedder is foreign code
                result.put((False, error))
            finally:
                finished.set()

        threading.Thread(target=call, name="tokenopt-embed", daemon=True).start()
        try:
            succeeded, value = result.get(timeout=self._timeout)
        except queue.Empty:
            self._hanging = finished
            raise EmbeddingFailedError(f"no vector after {self._timeout:g} s") from None
        if not succeeded:
            raise EmbeddingFailedError(f"{type(value).__name__}: {value}") from value
        return value


_UNKNOWN_WINDOW = 2_000
