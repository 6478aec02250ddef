"""What a set of tools means: one vector for each tool, and one for each thing that it offers."""

from __future__ import annotations

import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder, TimeLimit
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.embeddings import LocalEmbeddings, embedder_fingerprint, foreign_scripts
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.tools.tool_reading import ToolCard

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MEANING_FEATURES", "ToolEmbedder", "ToolVectors"]

MEANING_FEATURES: Final = ("tool", "offer")
"""Cosine of the request to name and description, moved towards earlier uses; and to what is nearest
of the things that the description lists."""

_MOST_OFFERS: Final = 7
"""Sentences and parts of lists that are read of a description."""
_OFFERS_IN_ALL: Final = 4_000
"""Of a set; larger sets are compared by whole descriptions, or the first request would wait."""
_KEPT: Final = 20_000
"""Vectors that are kept, in case a tool appears in another set."""
_LONGEST: Final = 1_500
"""Characters of a description that are embedded: more than a small model's window."""
_SECONDS: Final = 5.0
"""That a request waits for a foreign embedder."""
_SECONDS_EACH: Final = 10.0
"""That one call of it may take where nobody waits any longer."""
_ITEMS: Final = re.compile(r"[,;:–—()/&]|\band\b|\bor\b")


class ToolEmbedder:
    """Embeds requests and tools, or says that it cannot.

    Args:
        embeddings: What embeds; it may be slow, fail, or return nonsense.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self.fingerprint = embedder_fingerprint(embeddings)
        self._embedder = GuardedEmbedder(embeddings, _SECONDS_EACH)
        self._is_local = isinstance(embeddings, LocalEmbeddings)
        self._limit = TimeLimit(_SECONDS)
        self._has_warned = False
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def vectors(
        self, query: str, parts: Sequence[str], cards: Sequence[ToolCard], known: ToolVectors | None
    ) -> tuple[NDArray[np.float32], ToolVectors] | None:
        """Return the vectors of a request and its parts, and of a set of tools.

        A foreign embedder has a few seconds for all of it. What it has not done by then it does
        behind the request's back; until it has, there are none.

        Args:
            query: What is asked.
            parts: The parts of it.
            cards: The tools.
            known: Their vectors, where there are some already.

        Returns:
            ``None`` where they cannot be had, which is said once, and for a script that the
            embedder does not read.
        """

        def work() -> tuple[NDArray[np.float32], ToolVectors] | None:
            if foreign_scripts(query) and not self._embedder.reads(query[:300]):
                return None
            request = np.stack(self._embedder.vectors([query, *parts], is_bulk=False))
            tools = known or self._tools(cards)
            asked, offered = request.shape[1], tools.whole.shape[1]
            if asked != offered:
                raise EmbeddingFailedError(
                    f"it gave {asked} numbers for a request and {offered} for a tool"
                )
            return request, tools

        try:
            return work() if self._is_local else self._limit.run(work)
        except Exception as error:  # noqa: BLE001  the embedder is foreign code
            self._warn(error)
            return None

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            kind = "" if isinstance(error, EmbeddingFailedError) else f"{type(error).__name__}: "
            warnings.warn(
                f"The embedder of a ToolSelector failed ({kind}{error}); words alone decide until "
                f"it works. This is not mentioned again.",
                TokenOptWarning,
                stacklevel=2,
            )

    def _tools(self, cards: Sequence[ToolCard]) -> ToolVectors:
        texts = [_text_of(card) for card in cards]
        offers = [_offers_of(card) for card in cards]
        if sum(map(len, offers)) > _OFFERS_IN_ALL:
            offers = [[] for _ in cards]
        whole = self._vectors(texts)
        parts = self._vectors([offer for listed in offers for offer in listed])
        owners = np.repeat(np.arange(len(cards)), [len(listed) for listed in offers])
        return ToolVectors(whole, parts, owners)

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._lock:
            known = {text: self._kept[text] for text in texts if text in self._kept}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        known |= dict(zip(missing, self._embedder.vectors(missing), strict=True))
        with self._lock:
            self._kept.update(known)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return np.stack([known[text] for text in texts]) if texts else np.zeros((0, 0), np.float32)


class ToolVectors:
    """The vectors of a set of tools.

    Args:
        whole: One unit vector for each tool.
        offers: One for each thing that a tool offers.
        owners: Which tool offers it; in order.
    """

    def __init__(
        self, whole: NDArray[np.float32], offers: NDArray[np.float32], owners: NDArray[np.intp]
    ) -> None:
        self.whole = whole
        self._offers = offers
        self._owners = owners
        self._starts = (
            np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]]) if len(owners) else owners
        )

    def features(
        self, request: NDArray[np.float32], moved: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        """Return one row of :data:`MEANING_FEATURES` for each tool.

        Args:
            request: The vectors of a request and its parts; the nearest counts.
            moved: Vectors of the tools after earlier uses, where there were any.
        """
        tool = self.whole @ request.T
        offer = tool.copy()
        if len(self._owners):
            best = np.maximum.reduceat(self._offers @ request.T, self._starts, axis=0)
            owners = self._owners[self._starts]
            offer[owners] = np.maximum(offer[owners], best)
        if moved is not None:
            tool = moved @ request.T
            offer = np.maximum(offer, tool)  # what a tool was used for is what it offers
        return np.stack((tool.max(axis=1), offer.max(axis=1)), axis=1).astype(np.float64)


def _text_of(card: ToolCard) -> str:
    name = " ".join((*([card.group.replace("_", " ")] if card.group else []), *card.words))
    return f"{name}: {card.description}"[:_LONGEST] if card.description else name or card.name


def _offers_of(card: ToolCard) -> list[str]:
    """Return the sentences and the parts of lists of a description that has several."""
    found: list[str] = []
    for sentence in sentences_of(card.description[:_LONGEST]):
        items = [item.strip() for item in _ITEMS.split(sentence) if len(item.strip()) > 2]
        found += [sentence, *(items if len(items) > 1 else [])]
    return found[:_MOST_OFFERS] if len(found) > 1 else []
