"""What a cache reports about itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CacheCheck", "CacheStats", "Candidate", "Explanation", "FieldStats", "TopEntry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldStats:
    """What is known about answering one field of questions from the cache."""

    name: str
    requests: int
    """That got as far as the semantic tier, in all processes, as far as these have told."""
    checked: int
    """Labels: requests of which both the stored and the true answer are known."""
    checked_wrong: int
    """Those of them whose stored answer would have been wrong."""
    wrong_per_request: float
    """Estimated wrong answers per request at the present threshold."""
    wrong_per_request_bound: float
    """The same with its upper confidence bound."""
    wrong_per_hit: float
    """Estimated wrong answers per semantic hit."""
    threshold: float
    """Probability of being right from which a stored answer is served; above 1: none is."""
    drifts: int
    """How often earlier evidence was given up because the traffic had changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a cache holds, and what it has done since it was opened (or, if asked for, ever)."""

    entries: int
    bytes: int
    """Of questions, vectors and answers."""
    requests: int
    exact_hits: int
    same_words_hits: int
    """Hits by the same words in another writing."""
    semantic_hits: int
    saved_tokens: int
    """What the answers of all hits once cost, input and output."""
    misses: dict[str, int]
    """How many for which reason; a guard counts under its name: ``veto: numbers``. ``system text
    differs``: the same was asked before under another system text, in which a clock, a date or an
    id may stand."""
    not_stored: dict[str, int]
    """Answers that were not kept, by reason."""
    checked: int
    """Requests of which both the stored and the true answer are known."""
    checked_wrong: int
    """Those of them whose stored answer would have been wrong."""
    fields: tuple[FieldStats, ...]
    """What is known of each field of questions, most asked first."""
    evicted: int
    expired: int
    rejected: int

    @property
    def hits(self) -> int:
        """Requests answered from the cache."""
        return self.exact_hits + self.same_words_hits + self.semantic_hits

    @property
    def hit_ratio(self) -> float | None:
        """Hits per request; ``None`` without requests."""
        return self.hits / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question near the one that is explained."""

    entry: int
    question: str
    cosine: float
    vetoes: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a request would be answered from the cache, or not."""

    hit: bool
    why: str
    """One sentence."""
    probability: float | None = None
    """That the nearest stored answer is right; ``None`` when that was not in question."""
    threshold: float | None = None
    """Probability from which it would be served."""
    candidates: tuple[Candidate, ...] = ()
    """Stored questions, nearest first."""


@dataclass(frozen=True, slots=True)
class TopEntry:
    """A stored question that is asked often."""

    entry: int
    question: str
    hits: int
    saved_tokens: int
    """What its hits did not cost."""


@dataclass(frozen=True, slots=True)
class CacheCheck:
    """What a check of the file has found."""

    entries: int
    bytes: int
    damaged: tuple[int, ...]
    """Entries that could not be read; they were removed."""
    is_sound: bool
    """Whether SQLite finds the file itself in order."""
