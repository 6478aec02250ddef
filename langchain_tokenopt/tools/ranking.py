"""Which tools a request needs: words and meaning, fused by fitted weights."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder
from langchain_tokenopt.tools.lexical import LEXICAL_FEATURES, LexicalIndex
from langchain_tokenopt.tools.tool_reading import ToolCard
from langchain_tokenopt.tools.tool_text import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokenopt.tools.learned_tools import LearnedTools

__all__ = ["Ranked", "ToolRanking"]

_SETS: Final = 32
"""Sets of tools whose words and vectors are kept."""
_EMBEDDING_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A tool with its chance."""

    card: ToolCard
    score: float
    """The probability, 0 to 1, that the request needs the tool."""
    reason: str
    """Which words, meaning or uses speak for it."""
    position: int
    """Where it stood among the tools that were given."""


class ToolRanking:
    """Orders tools by the probability that a request needs them.

    Args:
        embeddings: Compares by meaning; without, words alone decide.
        learned: What earlier calls have taught.

    Example:
        >>> from langchain_tokenopt.tools.tool_reading import read_tool
        >>> cards = [read_tool({"name": name}) for name in ("send_mail", "get_weather")]
        >>> [found.card.name for found in ToolRanking().rank("Weather in Oslo?", cards)]
        ['get_weather', 'send_mail']
    """

    def __init__(
        self, embeddings: Embeddings | None = None, learned: LearnedTools | None = None
    ) -> None:
        self._embedder = (
            None if embeddings is None else GuardedEmbedder(embeddings, _EMBEDDING_SECONDS)
        )
        self._learned = learned
        self._sets: OrderedDict[tuple[str, ...], _ToolSet] = OrderedDict()
        self._lock = threading.Lock()

    def rank(self, query: str, cards: Sequence[ToolCard], namespace: str = "") -> list[Ranked]:
        """Return all *cards*, those that are needed most probably first; ties keep their order."""
        if not cards:
            return []
        tools = self._set_of(cards)
        query = shortened(query)
        features = tools.lexical.features(query)
        logits = features @ _WEIGHTS - 4.0
        meaning = self._meaning(query, tools)
        if meaning is not None:
            logits = logits + 8.0 * meaning
        scores = 1.0 / (1.0 + np.exp(-logits))
        order = np.argsort(-scores, kind="stable")
        return [Ranked(cards[at], float(scores[at]), "words", at) for at in map(int, order)]

    def learn(
        self, query: str, cards: Sequence[ToolCard], called: Sequence[str], namespace: str = ""
    ) -> None:
        """Learn from calls that a request led to and that succeeded.

        Args:
            query: The request.
            cards: The tools that there were.
            called: Names of those that were called.
            namespace: Whose calls; what is learned in one is not used in another.
        """

    def classify(
        self, query: str, cards: Sequence[ToolCard], namespace: str = ""
    ) -> list[tuple[str, float]]:
        """Return the kinds of request by probability, named by the tools' own groups."""
        found: dict[str, float] = {}
        for ranked in self.rank(query, cards, namespace):
            group = ranked.card.group or ranked.card.words[0]
            found[group] = max(found.get(group, 0.0), ranked.score)
        return sorted(found.items(), key=lambda item: -item[1])

    def _set_of(self, cards: Sequence[ToolCard]) -> _ToolSet:
        key = tuple(card.key for card in cards)
        with self._lock:
            found = self._sets.get(key)
            if found is not None:
                self._sets.move_to_end(key)
                return found
        made = _ToolSet(cards)
        with self._lock:
            self._sets[key] = made
            while len(self._sets) > _SETS:
                self._sets.popitem(last=False)
        return made

    def _meaning(self, query: str, tools: _ToolSet) -> NDArray[np.float64] | None:
        if self._embedder is None:
            return None
        try:
            if tools.vectors is None:
                texts = [f"{' '.join(card.words)}: {card.description}" for card in tools.cards]
                tools.vectors = np.stack(self._embedder.vectors(texts))
            cosines: NDArray[np.float64] = tools.vectors @ self._embedder.vector(query)
        except EmbeddingFailedError:
            return None
        return cosines


_WEIGHTS: Final = np.array([2.0, 1.5, 0.7, 0.5, 1.0, 1.0, 0.7, 0.5, 1.0, 1.0, 4.0])
assert len(_WEIGHTS) == len(LEXICAL_FEATURES)


class _ToolSet:
    def __init__(self, cards: Sequence[ToolCard]) -> None:
        self.cards = list(cards)
        self.lexical = LexicalIndex(cards)
        self.vectors: Any = None
