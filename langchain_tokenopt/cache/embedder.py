"""The embedder as foreign code: it may be slow, fail, or return nonsense."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.embeddings import Embeddings

from langchain_tokenopt.cache.vector_index import unit_vector
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.embeddings import LocalEmbeddings, foreign_scripts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EmbeddingFailedError", "GuardedEmbedder", "TimeLimit"]

Value = TypeVar("Value")


class EmbeddingFailedError(TokenOptError):
    """The embedder raised, took too long, or returned what is no vector."""


class GuardedEmbedder:
    """Turns texts into unit vectors, or raises :class:`EmbeddingFailedError`.

    Foreign embedders run in a thread of their own, which is left alone once it hangs; until it
    comes back, requests go on without it. The local one does not wait for anything and runs where
    it is called.

    Args:
        embeddings: What embeds; ``None`` for a cache that does not compare by meaning.
        timeout: Seconds that a foreign embedder may take.
        is_known: Called with the vector of one and the same text before the first vector is used:
            whether it is the one with which earlier vectors were made. ``None`` where none are.
    """

    def __init__(
        self,
        embeddings: Embeddings | None,
        timeout: float,
        is_known: Callable[[NDArray[np.float32]], bool] | None = None,
    ) -> None:
        self.embeddings = embeddings
        self._limit = TimeLimit(timeout)
        self._is_local = isinstance(embeddings, LocalEmbeddings)
        self._is_known = is_known
        self._is_met = is_known is None
        self._has_changed = False
        self._sight = _Sight(self.vector)
        self._is_symmetric: bool | None = True if self._is_local else None

    @property
    def is_off(self) -> bool:
        """Whether nothing is compared by meaning."""
        return self.embeddings is None

    def reads(self, text: str) -> bool:
        """Say whether the embedder reads the whole text, as far as it says so or can be tried."""
        reads: Callable[[str], bool] | None = getattr(self.embeddings, "reads", None)
        if reads is None:
            return self._sight.reads(text)
        try:
            return bool(reads(text))
        except Exception as error:
            raise EmbeddingFailedError(f"{type(error).__name__}: {error}") from error

    def vector(self, text: str) -> NDArray[np.float32]:
        """Return the unit vector of *text*."""
        if self.embeddings is None:
            raise EmbeddingFailedError("there is none (semantic=False)")
        self._meet()
        return self._embed(text)

    def vectors(self, texts: list[str], *, is_bulk: bool = True) -> list[NDArray[np.float32]]:
        """Return the unit vectors of *texts*; without a time limit where they may be a bulk.

        They are compared with vectors of questions: an embedder that treats documents in another
        way embeds them one by one, as questions.
        """
        if self.embeddings is None or not texts:
            return []
        if self._is_symmetric is not True:
            first = self.vector(texts[0])
            found = self._documents([texts[0]])[0]
            self._is_symmetric = len(found) == len(first) and float(found @ first) > _SAME
        self._meet()
        if not self._is_symmetric:
            return [self._embed(text) for text in texts]
        return self._documents(texts, is_bulk=is_bulk)

    def forget(self) -> None:
        """Forget what is known of stored vectors: they are gone."""
        self._is_met, self._has_changed = self._is_known is None, False

    def _documents(self, texts: list[str], *, is_bulk: bool = True) -> list[NDArray[np.float32]]:
        assert self.embeddings is not None
        embed = self.embeddings.embed_documents
        try:
            found = embed(texts) if is_bulk else self._run(lambda: embed(texts))
        except EmbeddingFailedError:
            raise
        except Exception as error:
            raise EmbeddingFailedError(f"{type(error).__name__}: {error}") from error
        if len(found) != len(texts):
            raise EmbeddingFailedError(f"got {len(found)} vectors for {len(texts)} texts")
        return [self._checked(vector) for vector in found]

    def _embed(self, text: str) -> NDArray[np.float32]:
        assert self.embeddings is not None
        embed = self.embeddings.embed_query
        return self._checked(self._run(lambda: embed(text)))

    def _meet(self) -> None:
        """See once whether this is the embedder that has made the stored vectors."""
        if not self._is_met and self._is_known is not None:
            self._has_changed = not self._is_known(self._embed(_PROBE))
            self._is_met = True
        if self._has_changed:
            raise EmbeddingFailedError(
                "its vectors are no longer those that are stored, though its name and settings are "
                "the same. Choose another path for the cache, or clear() it"
            )

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
        return self._limit.run(embed)


class TimeLimit:
    """Runs what may hang in a thread of its own, which is left alone once it does.

    Until it comes back, nothing else is tried.

    Args:
        seconds: How long it may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._hanging: threading.Event | None = None

    def run(self, work: Callable[[], Value]) -> Value:
        """Return what *work* does.

        Raises:
            EmbeddingFailedError: It failed, took too long, or an earlier one still does.
        """
        if self._hanging is not None and not self._hanging.is_set():
            raise EmbeddingFailedError("still busy with a call that took too long")
        result: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        finished = threading.Event()

        def call() -> None:
            try:
                result.put((True, work()))
            except BaseException as error:  # noqa: BLE001  foreign code may want to leave, too
                result.put((False, error))
            finally:
                finished.set()

        threading.Thread(target=call, name="tokenopt-embed", daemon=True).start()
        try:
            succeeded, value = result.get(timeout=self._seconds)
        except queue.Empty:
            self._hanging = finished
            raise EmbeddingFailedError(f"no vector after {self._seconds:g} s") from None
        if succeeded:
            return value  # type: ignore[no-any-return]
        if isinstance(value, EmbeddingFailedError):
            raise value
        raise EmbeddingFailedError(f"{type(value).__name__}: {value}") from value


class _Sight:
    """Tries what an embedder that does not say it can read.

    A text whose end changes nothing is cut off before it. Whoever reads a script knows its words:
    written backwards they are no words. To a model that only spells them, or takes all letters for
    the same unknown one, the text remains nearer to itself than halfway from an unrelated one. Han
    characters are words by themselves, so they are exchanged for others.

    Args:
        vector: Returns the unit vector of a text.
    """

    def __init__(self, vector: Callable[[str], NDArray[np.float32]]) -> None:
        self._vector = vector
        self._sure_length = _SURE_LENGTH
        self._scripts: dict[str, bool] = {}

    def reads(self, text: str) -> bool:
        if len(text) > _LONGEST:
            return False
        if not all(self._reads_script(script, text) for script in foreign_scripts(text)):
            return False
        if len(text) > self._sure_length:
            if float(self._vector(text) @ self._vector(text[: -len(text) // 8])) > _SAME:
                return False
            self._sure_length = len(text)
        return True

    def _reads_script(self, script: str, text: str) -> bool:
        known = self._scripts.get(script)
        if known is None:
            if sum(script in foreign_scripts(c) for c in text) < _FEW_LETTERS:
                return False  # and the next text may say more
            other = "".join(map(_another_character, text)) if script == "CJK" else text[::-1]
            unrelated = float(self._vector(_PROBE) @ self._vector(_UNRELATED))
            likeness = float(self._vector(text) @ self._vector(other))
            known = self._scripts[script] = likeness < (1.0 + unrelated) / 2
        return known


def _another_character(character: str) -> str:
    """Return another Han character for one; others stay."""
    return chr(ord(character) + 5) if foreign_scripts(character) == {"CJK"} else character


_PROBE = "How do I reset my password?"
_UNRELATED = "The ferry to the island leaves at noon."
_SAME = 0.9999
"""Cosine of two vectors of one text; hosted models differ by less from call to call."""
_SURE_LENGTH = 350
"""Characters that the smallest windows in use hold, 128 word pieces."""
_LONGEST = 2_000
_FEW_LETTERS = 6
