"""Which tools a request needs: words, meaning and earlier uses, fused by fitted weights."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, SupportsIndex, overload

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_tokenopt.tools.duplicates import duplicates_of
from langchain_tokenopt.tools.fusion import USED, Fusion, fusion_for, step_towards
from langchain_tokenopt.tools.learned_tools import LearnedTools, Observation, Uses
from langchain_tokenopt.tools.lexical import LexicalIndex
from langchain_tokenopt.tools.ranking_vectors import ToolEmbedder, ToolVectors
from langchain_tokenopt.tools.tool_groups import groups_of
from langchain_tokenopt.tools.tool_reading import ToolCard
from langchain_tokenopt.tools.tool_text import parts_of, roots_of, shortened, words_by_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Ranked", "Ranking", "ToolRanking"]

_SETS: Final = 32
"""Sets of tools whose words and vectors are kept."""
_DESCRIPTION_USES: Final = 1.0
"""How many uses the description counts for, when both say what a tool is for. Between 0.5 and 2 it
made no difference on the half of MetaTool that weights are fitted on."""
_PART: Final = 0.9
"""What a part of a request counts for, beside the whole: it lacks what the other parts say."""
_TOLD_WORDS: Final = 4
_CLEAR: Final = 0.35
"""Cosine from which a reason says that the meaning is alike."""


class Ranked(NamedTuple):
    """A tool with its chance."""

    card: ToolCard
    score: float
    """The probability, 0 to 1, that the request needs the tool."""
    position: int
    """Where it stood among the tools that were given."""
    group: int
    """Tools of equal number say nearly the same of themselves."""
    evidence: _Evidence

    @property
    def reason(self) -> str:
        """Say which words, meaning or uses speak for it."""
        return self.evidence.reason(self.position)


class Ranking(Sequence[Ranked]):
    """All tools of a set, best first; each is put together when it is looked at.

    Args:
        cards: The tools, in the order in which they were given.
        evidence: What speaks for them.
    """

    def __init__(self, cards: Sequence[ToolCard], evidence: _Evidence) -> None:
        self._cards = cards
        self._evidence = evidence
        self._chances = evidence.fusion.probabilities(evidence.scores)
        self._order = np.argsort(-evidence.scores, kind="stable")

    @property
    def tokens(self) -> int:
        """What all schemas take."""
        return self._evidence.tools.tokens

    @property
    def expected(self) -> float:
        """How many tools the request needs, as far as can be expected."""
        return float(self._chances.sum())

    def named(self, names: Collection[str]) -> list[Ranked]:
        """Return the tools that declare one of *names*, best first."""
        places = self._evidence.tools.places
        found = {at for name in names for at in places.get(name, ())}
        return [*map(self._at, self._sorted(found))]

    def alike(self, one: Ranked, shown: Collection[int]) -> list[str]:
        """Return the names of the tools of the same group that are not *shown*, best first."""
        members = self._evidence.tools.members[one.group]
        return [
            self._cards[at].name for at in self._sorted(at for at in members if at not in shown)
        ]

    def __len__(self) -> int:
        return len(self._cards)

    def __iter__(self) -> Iterator[Ranked]:
        return map(self._at, self._order)

    @overload
    def __getitem__(self, index: int) -> Ranked: ...
    @overload
    def __getitem__(self, index: slice) -> list[Ranked]: ...
    def __getitem__(self, index: int | slice) -> Ranked | list[Ranked]:
        if isinstance(index, slice):
            return [*map(self._at, self._order[index])]
        return self._at(self._order[index])

    def _at(self, place: SupportsIndex) -> Ranked:
        at = place.__index__()
        group = self._evidence.tools.duplicates[at]
        return Ranked(self._cards[at], float(self._chances[at]), at, group, self._evidence)

    def _sorted(self, places: Iterable[int]) -> list[int]:
        scores = self._evidence.scores
        return sorted(places, key=lambda at: (-scores[at], at))


class ToolRanking:
    """Orders tools by the probability that a request needs them.

    Args:
        embeddings: Compares by meaning; without, words alone decide. So they do for requests in a
            script that it does not read, and while it fails.
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
        self._embedder = None if embeddings is None else ToolEmbedder(embeddings)
        self._learned = learned
        self._sets: OrderedDict[tuple[str, ...], _ToolSet] = OrderedDict()
        self._lock = threading.Lock()

    def rank(self, query: str, cards: Sequence[ToolCard], namespace: str = "") -> Ranking:
        """Return all *cards*, those that are needed most probably first; ties keep their order.

        Args:
            query: What is asked; of a very long one its beginning and end are read.
            cards: The tools.
            namespace: Whose uses count.
        """
        return Ranking(cards, self._evidence(query, self._set_of(cards), namespace))

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
        places = {name: at for at, card in enumerate(cards) for name in card.names}
        found = sorted({places[name] for name in called if name in places})
        if self._learned is None or not found:
            return
        evidence = self._evidence(query, self._set_of(cards), namespace)
        request = evidence.request
        self._learned.record(
            Observation(
                namespace,
                [cards[at] for at in found],
                [*dict.fromkeys(roots_of(shortened(query)))],
                self._embedder.fingerprint if self._embedder and request is not None else "",
                np.zeros(0, np.float32) if request is None else request[0],
                evidence.fusion.name,
                step_towards(evidence.features, evidence.scores, found),
            )
        )

    def classify(
        self, query: str, cards: Sequence[ToolCard], namespace: str = ""
    ) -> list[tuple[str, float]]:
        """Return the kinds of request by probability, named by the tools' own groups.

        Groups are what names or modules say; where they say nothing, tools that begin or end with
        the same word, and a tool that shares none is a group of its own. A probability says that at
        least one tool of the group is needed.

        Example:
            >>> from langchain_tokenopt.tools.tool_reading import read_tool
            >>> names = ("mail__send", "mail__search", "weather__now", "weather__forecast")
            >>> cards = [read_tool({"name": name}) for name in names]
            >>> [group for group, _ in ToolRanking().classify("Forecast for Oslo", cards)]
            ['weather', 'mail']
        """
        groups = groups_of(cards)
        missing: dict[str, float] = {}
        for ranked in self.rank(query, cards, namespace):
            group = groups[ranked.position]
            missing[group] = missing.get(group, 1.0) * (1.0 - ranked.score)
        found = [(group, 1.0 - chance) for group, chance in missing.items()]
        return sorted(found, key=lambda item: -item[1])

    def _set_of(self, cards: Sequence[ToolCard]) -> _ToolSet:
        key = tuple(card.key for card in cards)
        with self._lock:
            found = self._sets.get(key)
            if found is not None:
                self._sets.move_to_end(key)
                return found
        made = _ToolSet(list(cards))
        with self._lock:
            self._sets[key] = made
            while len(self._sets) > _SETS:
                self._sets.popitem(last=False)
        return made

    def _evidence(self, query: str, tools: _ToolSet, namespace: str) -> _Evidence:
        query = shortened(query)
        parts = parts_of(query)
        request, vectors = self._vectors(query, parts, tools)
        uses = tools.uses_in(namespace, self._learned, vectors, self._embedder)
        columns = [tools.lexical.features(query)]
        columns += [_PART * tools.lexical.features(part) for part in parts]
        features = [np.max(columns, axis=0), self._used(query, tools, uses)[:, None]]
        if vectors is not None and request is not None:
            weighed = request * np.array([1.0, *[_PART] * (len(request) - 1)], np.float32)[:, None]
            features.append(vectors.features(weighed, uses.moved))
        fusion = fusion_for(meaning=vectors is not None)
        found = np.hstack(features)
        weights, moved = fusion.weights, None
        if self._learned is not None:
            moved = self._learned.moved(namespace, fusion.name, len(weights))
        scores = found @ (weights if moved is None else np.maximum(0.0, weights + moved))
        return _Evidence(query, tools, fusion, found, scores, request, uses)

    def _vectors(
        self, query: str, parts: Sequence[str], tools: _ToolSet
    ) -> tuple[NDArray[np.float32] | None, ToolVectors | None]:
        """Return the vectors of request and tools, or of neither."""
        if self._embedder is None:
            return None, None
        found = self._embedder.vectors(query, parts, tools.cards, tools.vectors)
        if found is None:
            return None, None
        request, tools.vectors = found
        return request, tools.vectors

    def _used(self, query: str, tools: _ToolSet, uses: _SetUses) -> NDArray[np.float64]:
        """Return which share of the worth of a request's words earlier requests had, by tool."""
        size = len(tools.cards)
        if self._learned is None or not len(uses.owners):
            return np.zeros(size)
        asked = np.unique(self._learned.buckets(dict.fromkeys(roots_of(query)))).astype(np.intp)
        places = np.flatnonzero(np.isin(uses.buckets, asked))
        known = np.bincount(uses.buckets[places], minlength=int(asked.max(initial=0)) + 1)
        rarity = np.log1p((size - known + 0.5) / (known + 0.5)) / np.log1p(size)
        times = uses.times[places]
        worth = rarity[uses.buckets[places]] * times / (times + 1.0)
        sums = np.bincount(uses.owners[places], weights=worth, minlength=size)
        found: NDArray[np.float64] = sums / max(1.0, float(rarity[asked].sum()))
        return found


@dataclass
class _SetUses:
    """The uses of a set's tools in one namespace, laid out to be multiplied."""

    source: Mapping[str, Uses]
    counts: dict[int, float]
    moved: NDArray[np.float32] | None
    """The tools' vectors, moved towards the requests that led to them."""
    owners: NDArray[np.intp]
    buckets: NDArray[np.intp]
    times: NDArray[np.float64]


_NO_USES: Final = _SetUses({}, {}, None, np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0))


@dataclass
class _ToolSet:
    """What is kept of a set of tools."""

    cards: list[ToolCard]
    lexical: LexicalIndex = field(init=False)
    duplicates: list[int] = field(init=False)
    members: dict[int, list[int]] = field(init=False)
    """Places of the tools of each number in *duplicates*."""
    places: dict[str, list[int]] = field(init=False)
    """Those of each name."""
    tokens: int = field(init=False)
    vectors: ToolVectors | None = None
    _uses: OrderedDict[Any, _SetUses] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.lexical = LexicalIndex(self.cards)
        self.duplicates = duplicates_of(self.cards)
        self.tokens = sum(card.tokens for card in self.cards)
        self.members, self.places = {}, {}
        for at, card in enumerate(self.cards):
            self.members.setdefault(self.duplicates[at], []).append(at)
            for name in card.names:
                self.places.setdefault(name, []).append(at)

    def uses_in(
        self,
        namespace: str,
        learned: LearnedTools | None,
        vectors: ToolVectors | None,
        embedder: ToolEmbedder | None,
    ) -> _SetUses:
        """Return the uses of these tools in a namespace, laid out anew when they have changed."""
        source = {} if learned is None else learned.uses(namespace)
        if not source:
            return _NO_USES
        key = namespace, vectors is not None
        found = self._uses.get(key)
        if found is None or found.source is not source:
            fingerprint = embedder.fingerprint if embedder is not None else ""
            found = self._laid_out(source, vectors, fingerprint)
            self._uses[key] = found
            while len(self._uses) > _SETS:
                self._uses.popitem(last=False)
        return found

    def _laid_out(
        self, source: Mapping[str, Uses], vectors: ToolVectors | None, fingerprint: str
    ) -> _SetUses:
        moved = None if vectors is None else vectors.whole * np.float32(_DESCRIPTION_USES)
        counts: dict[int, float] = {}
        owners, words, shares = [], [], []
        for at, card in enumerate(self.cards):
            uses = source.get(card.name)
            if uses is None:
                continue
            share = uses.weight_for(card)
            counts[at] = share * uses.count
            owners.append(np.full(len(uses.words), at))
            words.append(uses.words)
            shares.append(np.full(len(uses.words), share))
            fits = moved is not None and len(uses.vector) == moved.shape[1]
            if moved is not None and fits and uses.embedder == fingerprint:
                moved[at] += np.float32(share) * uses.vector
        if not counts:
            return _SetUses(source, {}, None, _NO_USES.owners, _NO_USES.buckets, _NO_USES.times)
        if moved is not None:
            moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
        pairs = np.concatenate(words)
        return _SetUses(
            source,
            counts,
            moved,
            np.concatenate(owners).astype(np.intp),
            pairs["bucket"].astype(np.intp),
            pairs["times"].astype(np.float64) * np.concatenate(shares),
        )


@dataclass
class _Evidence:
    """What speaks for the tools of a set in one request."""

    query: str
    tools: _ToolSet
    fusion: Fusion
    features: NDArray[np.float64]
    scores: NDArray[np.float64]
    request: NDArray[np.float32] | None
    uses: _SetUses

    def reason(self, at: int) -> str:
        """Say in words what speaks for a tool."""
        value = dict(zip(self.fusion.features, self.features[at].tolist(), strict=True))
        told = []
        if value["exact_name"]:
            told.append("named in the request")
        words, holders = self._words
        shared = np.flatnonzero(holders[:, at])[:_TOLD_WORDS].tolist()
        if shared:
            told.append(f"words: {', '.join(words[row] for row in shared)}")
        elif value["meaning"] > 0:
            told.append("synonyms")
        nearest = max(value.get("tool", 0.0), value.get("offer", 0.0))
        if nearest >= _CLEAR:
            told.append(f"meaning {nearest:.2f}")
        count = self.uses.counts.get(at, 0.0)
        if count and (value[USED] > 0 or nearest >= _CLEAR):
            told.append(f"used {count:.0f} times" if count > 1.5 else "used before")
        return "; ".join(told) or "nothing speaks for it"

    @cached_property
    def _words(self) -> tuple[list[str], NDArray[np.bool_]]:
        """The words of the request, those that tell most first, and which tools have each."""
        written = words_by_root(self.query)
        terms, holders = self.tools.lexical.holders(written)
        return [written[term] for term in terms], holders
