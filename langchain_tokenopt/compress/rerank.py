"""Ask an embedding model about the few passages between which words alone do not decide."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokenopt.core.errors import TokenOptWarning

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

__all__ = ["Reranker", "reranker_for"]

SHARE = 0.25
"""Of all characters, the share that may be embedded: the cost of the whole step."""
_DECIDED = 8.0
"""Log odds behind the best passage from which a passage is out of the race anyway."""
_SIMILARITY = 20.0
"""Log odds per unit of cosine; chosen on ``nq20_train`` with all-MiniLM-L6-v2."""


class Reranker:
    """Adds the cosine between query and passage to the scores of the best candidates.

    Args:
        embeddings: Any LangChain embeddings.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        from langchain_tokenopt.embeddings import checked_embeddings

        checked_embeddings(embeddings)
        self.embeddings = embeddings

    @property
    def fingerprint(self) -> str:
        """Name the embeddings."""
        from langchain_tokenopt.embeddings import embedder_fingerprint

        return embedder_fingerprint(self.embeddings)

    def __call__(self, query: str, texts: list[str], scores: list[float]) -> list[float]:
        """Return new scores; the old ones, with a warning, when the embeddings fail."""
        chosen = _candidates(texts, scores)
        if len(chosen) < 2:
            return scores
        try:
            asked = self.embeddings.embed_query(query)
            vectors = self.embeddings.embed_documents([texts[at] for at in chosen])
        except Exception as error:  # noqa: BLE001  foreign model code; words alone rank well too
            warnings.warn(
                f"The reranker failed ({type(error).__name__}: {error}); ranking by words alone.",
                TokenOptWarning,
                stacklevel=2,
            )
            return scores
        cosines = [_cosine(asked, vector) for vector in vectors]
        middle = sum(cosines) / len(cosines)
        made = list(scores)
        for at, cosine in zip(chosen, cosines, strict=True):
            made[at] += _SIMILARITY * (cosine - middle)
        return made


def _candidates(texts: Sequence[str], scores: Sequence[float]) -> list[int]:
    """Return the best passages that fit into the share, best first."""
    room = SHARE * sum(map(len, texts))
    order = sorted(range(len(texts)), key=lambda at: -scores[at])
    chosen: list[int] = []
    for at in order:
        if scores[at] < scores[order[0]] - _DECIDED:
            break
        if len(texts[at]) <= room:
            chosen.append(at)
            room -= len(texts[at])
    return chosen


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    length = math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))
    return sum(a * b for a, b in zip(left, right, strict=True)) / length if length else 0.0


def reranker_for(reranker: Any) -> Reranker | None:
    """Return the reranker that the compressor's option asks for.

    Raises:
        TypeError: If it is neither ``"local"`` nor embeddings.
    """
    if reranker is None:
        return None
    if reranker == "local":
        from langchain_tokenopt.embeddings import LocalEmbeddings

        return Reranker(LocalEmbeddings())
    if not (hasattr(reranker, "embed_query") and hasattr(reranker, "embed_documents")):
        raise TypeError(
            f"reranker must be 'local' or LangChain embeddings; got {type(reranker).__name__}."
        )
    return Reranker(reranker)
