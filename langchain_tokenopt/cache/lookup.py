"""Finding the stored answer to a request, in three tiers.

*exact*: the same request, to the letter. *same words*: differences in writing that are on a short
allow list (``writing.py``). *semantic*: a question that is near by its embedding, does not differ
in what is never judged by meaning (``differences.py``), passes the guards, and is right with enough
probability. The first tier that has an answer gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from langchain_tokenopt.cache.differences import difference_in_writing
from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder
from langchain_tokenopt.cache.features import Neighbour, features_of
from langchain_tokenopt.cache.guards import doubts_between, profile_of, vetoes_between
from langchain_tokenopt.cache.key import Question
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.same_words_policy import SameWordsPolicy, WordsJudgement
from langchain_tokenopt.cache.serving_policy import Judgement, ServingPolicy
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.cache.stats import Candidate, Explanation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Finding", "Lookup", "Tier"]

Tier = Literal["exact", "same words", "semantic"]

MIN_COSINE = 0.5
"""Below this a neighbour is not considered, whatever else speaks for it."""
_SHOWN_CANDIDATES = 5
_SAME: dict[Tier | None, str] = {"exact": "the same request", "same words": "the same words"}


@dataclass(slots=True)
class Finding:
    """What a look at the stored answers has found for one request."""

    tier: Tier | None = None
    """The tier that has an answer; ``None`` when the model is to be asked."""
    entry: int | None = None
    """The entry that is served."""
    reason: str = ""
    """Why it is a miss, in the words of the statistics."""
    vector: NDArray[np.float32] | None = None
    neighbours: list[Neighbour] = field(default_factory=list)
    features: NDArray[np.float64] | None = None
    """Set when the nearest stored answer was in question."""
    differences: tuple[str, ...] = ()
    """Guards that forbid the nearest stored answer."""
    judgement: Judgement | None = None
    is_same_words: bool = False
    """The same words in another writing were found, whether they are served or audited."""


class Lookup:
    """Finds the stored answer to a request. What is found is neither counted nor served here.

    Args:
        repository: The stored answers.
        embedder: Embeds questions.
        settings: Which guards apply, and what is skipped.
        min_similarity: A cosine that replaces the judgement of the serving policy.
    """

    def __init__(
        self,
        repository: Repository,
        embedder: GuardedEmbedder,
        settings: CacheSettings,
        min_similarity: float | None,
    ) -> None:
        self._repository = repository
        self._embedder = embedder
        self._settings = settings
        self._vetoes, self._doubts = settings.vetoes, settings.doubts
        self._min_similarity = min_similarity
        self._least_cosine = min(MIN_COSINE, 1.0 if min_similarity is None else min_similarity)

    def equal(self, question: Question) -> Finding | None:
        """Look for an equal request; needs memory only, and the lock held."""
        return self._alive(self._repository.index.by_exact.get(question.exact), "exact")

    def same_words(self, question: Question, judge: Callable[[], WordsJudgement]) -> Finding | None:
        """Look for the same words; needs memory only, and the lock held.

        Args:
            question: What is asked.
            judge: Says whether such an answer is served; called only where there is one.
        """
        finding = self._alive(self._repository.index.by_near.get(question.near), "same words")
        if finding is None:
            return None
        judgement = judge()
        if judgement == "off":
            return None
        if judgement == "audit":
            assert finding.entry is not None
            known = self._repository.index[finding.entry]
            group = self._repository.index.answer_groups.of(known.answer)
            finding.neighbours = [Neighbour(finding.entry, 1.0, group)]
            finding.tier, finding.entry, finding.reason = None, None, "audit"
        finding.is_same_words = True
        return finding

    def _alive(self, entry: int | None, tier: Tier) -> Finding | None:
        if entry is None or not self._repository.is_alive(entry):
            return None
        return Finding(tier, entry)

    def alike(
        self,
        question: Question,
        judge: Callable[[NDArray[np.float64]], Judgement] | None,
        scopes: Iterable[bytes] | None = None,
    ) -> Finding:
        """Look in the semantic tier.

        Args:
            question: What is asked.
            judge: Says whether the nearest stored answer is right; called with the lock held.
                Without it nothing is decided.
            scopes: Where to look instead of in the question's own scope.

        Raises:
            EmbeddingFailedError: If the embedder fails.
        """
        if question.text is None:
            return Finding(reason=question.why_exact)
        if kind := self._settings.skipped_kind(question.text):
            return Finding(reason=f"skipped: {kind}")
        if self._embedder.is_off:
            return Finding(reason="not compared by meaning")
        if not self._embedder.reads(question.text):
            return Finding(reason="not read by the embedder")
        finding = Finding(vector=self._embedder.vector(question.text))
        with self._repository.lock:
            self._find_neighbours(finding, (question.scope,) if scopes is None else scopes)
            nearest = finding.neighbours[0].entry if finding.neighbours else None
            stored = None if nearest is None else self._repository.index[nearest].question
        if stored is None:
            finding.reason = "no neighbour"
            return finding
        finding.differences = self._differences(stored, question.text)
        if finding.differences:
            finding.reason = f"veto: {finding.differences[0].partition(':')[0]}"
            return finding
        self._compute_features(finding, stored, question.text)
        if judge is not None:
            with self._repository.lock:
                self._decide(finding, judge)
        return finding

    def _find_neighbours(self, finding: Finding, scopes: Iterable[bytes]) -> None:
        """Find the nearest stored questions of the scope that has the very nearest one."""
        index, vector = self._repository.index, finding.vector
        assert vector is not None
        if index.dimension is not None and len(vector) != index.dimension:
            raise EmbeddingFailedError(
                f"got a vector of {len(vector)} numbers, the stored ones have {index.dimension}"
            )
        now = self._repository.now()
        found = (index.near_to(vector, scope, now, self._least_cosine) for scope in scopes)
        finding.neighbours = max(found, key=lambda n: n[0].cosine if n else 0.0, default=[])

    def _differences(self, stored: str, asked: str) -> tuple[str, ...]:
        """Name the guards that forbid to answer *asked* with the answer to *stored*."""
        if difference := difference_in_writing(stored, asked):
            return (f"writing: {difference}",)
        one, other = profile_of(stored), profile_of(asked)
        forbidding = vetoes_between(one, other, self._vetoes)
        if self._min_similarity is not None:
            forbidding += doubts_between(one, other, self._doubts)
        return tuple(forbidding)

    def _compute_features(self, finding: Finding, stored: str, asked: str) -> None:
        around: list[Neighbour] = []
        if self._min_similarity is None:  # else evidence does not decide
            with self._repository.lock:
                around = self._repository.index.around(finding.neighbours[0].entry)
        finding.features = features_of(
            finding.neighbours, around, profile_of(asked), profile_of(stored), self._doubts
        )

    def _decide(self, finding: Finding, judge: Callable[[NDArray[np.float64]], Judgement]) -> None:
        assert finding.features is not None
        if self._min_similarity is not None:
            serve = finding.neighbours[0].cosine >= self._min_similarity
            finding.reason = "" if serve else "below min_similarity"
        else:
            finding.judgement = judge(finding.features)
            serve = finding.judgement.serve
            finding.reason = "audit" if finding.judgement.audit else "below threshold"
        if serve:
            finding.tier, finding.reason = "semantic", ""
            finding.entry = finding.neighbours[0].entry

    # Explaining

    def explain(
        self,
        question: Question,
        policy: ServingPolicy,
        words: SameWordsPolicy,
        scopes: Iterable[bytes] | None = None,
    ) -> Explanation:
        """Say what the three tiers find, and why.

        Args:
            question: What would be asked.
            policy: What would decide about a near question.
            words: What would decide about the same words.
            scopes: Where to look instead of in the question's own scope.

        Raises:
            EmbeddingFailedError: If the embedder fails.
        """
        with self._repository.lock:
            finding = self.equal(question) or self.same_words(question, words.peek)
        if finding is not None and finding.entry is not None:
            return Explanation(True, f"Entry {finding.entry} holds {_SAME[finding.tier]}.")
        if finding is not None:
            return Explanation(
                False,
                f"Entry {finding.neighbours[0].entry} holds the same words, but too many of such "
                f"answers have been wrong: the model is asked until enough are right again.",
            )
        finding = self.alike(question, policy.peek, scopes)
        candidates = self._candidates(finding.neighbours[:_SHOWN_CANDIDATES], question.text or "")
        judgement = finding.judgement
        return Explanation(
            finding.tier is not None,
            self._sentence(finding, question, policy.max_wrong_per_request),
            None if judgement is None else judgement.probability,
            None if judgement is None else judgement.threshold,
            candidates,
        )

    def _sentence(self, finding: Finding, question: Question, limit: float) -> str:
        judgement = finding.judgement
        if judgement is not None:
            return (
                f"The nearest answer is right with probability {judgement.probability:.3f}; "
                f"{judgement.threshold:.3f} is needed for at most {limit:.2%} wrong answers per "
                f"request."
            )
        if finding.differences:
            return f"The nearest question differs in: {', '.join(finding.differences)}."
        if finding.features is not None:
            cosine = finding.neighbours[0].cosine
            return f"Cosine {cosine:.3f}, and {self._min_similarity:.3f} is asked for."
        if question.text is None:
            return f"Only an equal request could hit: {question.why_exact}."
        if finding.vector is not None:
            return f"No stored question is nearer than cosine {self._least_cosine:g}."
        if finding.reason.startswith("skipped"):
            kind = self._settings.skipped_kind(question.text)
            return f"Requests of the kind {kind!r} are skipped."
        if self._embedder.is_off:
            return "Only an equal request or the same words could hit: semantic=False."
        return (
            "The embedder does not read all of the question: it is too long for it, or in signs or "
            "a script that it does not know. Only an equal request could hit."
        )

    def _candidates(self, neighbours: Sequence[Neighbour], asked: str) -> tuple[Candidate, ...]:
        other = profile_of(asked)
        found = []
        for neighbour in neighbours:
            with self._repository.lock:
                known = self._repository.index.get(neighbour.entry)
            question = (known.question if known else None) or ""
            one = profile_of(question)
            found.append(
                Candidate(
                    neighbour.entry,
                    question,
                    neighbour.cosine,
                    tuple(vetoes_between(one, other, self._vetoes)),
                    tuple(doubts_between(one, other, self._doubts)),
                )
            )
        return tuple(found)
