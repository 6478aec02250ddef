"""Finding the stored answer to a request, in three tiers.

*exact*: the same request, to the letter. *same words*: differences in writing that are on a short
allow list (``writing.py``). *semantic*: a question that is near by its embedding, does not differ
in what is never judged by meaning (``differences.py``), passes the guards, and is right with enough
probability. The first tier that has an answer gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from langchain_tokenopt.cache.difference_kinds import difference_kinds
from langchain_tokenopt.cache.differences import difference_in_writing
from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder
from langchain_tokenopt.cache.features import Neighbour, Neighbourhood, features_of
from langchain_tokenopt.cache.fields import Field, Fields
from langchain_tokenopt.cache.guards import (
    doubts_between,
    profile_of,
    vetoes_between,
)
from langchain_tokenopt.cache.key import Question, domain_of, question_in
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.serving_policy import Judgement
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.cache.system_texts import SystemTexts
from langchain_tokenopt.cache.writing import same_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Finding", "Lookup", "Tier", "Way"]

Tier = Literal["exact", "same words", "semantic"]

Way = Literal["judge", "peek", "find"]
"""*judge*: decide, count the request and draw audits. *peek*: say what would be decided, and change
nothing. *find*: look for neighbours alone."""

MIN_COSINE = 0.5
"""Below this a neighbour is not considered, whatever else speaks for it."""
_REWORDED = b"reworded"
"""Ends the name of what is known of other words for the same question in a domain."""


@dataclass(slots=True)
class Finding:
    """What a look at the stored answers has found for one request."""

    tier: Tier | None = None
    """The tier that has an answer; ``None`` when the model is to be asked."""
    entry: int | None = None
    """The entry that is served."""
    scope: bytes = b""
    """Whose entries it is about."""
    reason: str = ""
    """Why it is a miss, in the words of the statistics."""
    vector: NDArray[np.float32] | None = None
    neighbours: Sequence[Neighbour] = ()
    features: NDArray[np.float64] | None = None
    """Set when the nearest stored answer was in question."""
    differences: tuple[str, ...] = ()
    """Guards that forbid the nearest stored answer."""
    kinds: frozenset[str] = frozenset()
    """Of which its differences from the question are."""
    judgement: Judgement | None = None
    domain: bytes = b""
    field: Field | None = None
    """The field of the question, whose evidence decides."""
    words_domain: bytes = b""
    """Where it is known whether such wordings are right; set when one of the same question was
    found, whether it is served or audited."""


class Lookup:
    """Finds the stored answer to a request. What is found is neither counted nor served here.

    Args:
        repository: The stored answers.
        embedder: Embeds questions.
        settings: Which guards apply, and what is skipped.
        min_similarity: A cosine that replaces the judgement of the serving policy.
        fields: What is known of questions by field; their policies decide.
    """

    def __init__(
        self,
        repository: Repository,
        embedder: GuardedEmbedder,
        settings: CacheSettings,
        min_similarity: float | None,
        fields: Fields,
    ) -> None:
        self._fields = fields
        self._repository = repository
        self._embedder = embedder
        self._settings = settings
        self._vetoes, self._doubts = settings.vetoes, settings.doubts
        self.system_texts = SystemTexts()
        self._ask_for(min_similarity)

    def with_similarity(self, min_similarity: float) -> Lookup:
        """Return one that looks at the same answers and asks for another cosine."""
        made = copy(self)
        made._ask_for(min_similarity)
        return made

    def _ask_for(self, min_similarity: float | None) -> None:
        self.min_similarity = min_similarity
        self.least_cosine = min(MIN_COSINE, 1.0 if min_similarity is None else min_similarity)

    @property
    def _compares_meaning(self) -> bool:
        """Say whether questions that differ are compared: embedders give some the cosine 1."""
        return not self._embedder.is_off and self.min_similarity != 1.0

    def equal(self, question: Question) -> Finding | None:
        """Look for an equal request; the lock must be held."""
        return self._found(self._repository.index.equal, question, "exact")

    def same_words(self, question: Question, *, peek: bool = False) -> Finding | None:
        """Look for the same words; the lock must be held.

        Args:
            question: What is asked.
            peek: Leave out what is drawn by chance.
        """
        finding = self._found(self._repository.index.same_question, question, "same words")
        if finding is None or not self._has_same_words(finding, question):
            return None
        return self._judged_by_words(finding, question, question.domain, peek=peek)

    def _has_same_words(self, finding: Finding, question: Question) -> bool:
        assert finding.entry is not None
        stored, asked = self._repository.index[finding.entry].question, question.text
        if stored is None or asked is None:
            return True
        return same_words(stored) == same_words(asked) is not None

    def same_question(self, question: Question, *, peek: bool = False) -> Finding | None:
        """Look for the same question in other words that are harmless (``wording``).

        Args:
            question: What is asked.
            peek: Leave out what is drawn by chance.
        """
        with self._repository.lock:
            find = partial(self._repository.index.same_question, anew=True)
            finding = self._found(find, question, "semantic")
            if finding is None:
                return None
            return self._judged_by_words(finding, question, question.domain + _REWORDED, peek=peek)

    def _judged_by_words(
        self, finding: Finding, question: Question, domain: bytes, *, peek: bool
    ) -> Finding | None:
        finding.domain = question.domain
        words = self._fields.words(domain)
        judgement = words.peek() if peek else words.judge()
        if judgement == "off":
            return None
        if judgement == "audit":
            assert finding.entry is not None
            known = self._repository.index[finding.entry]
            group = self._repository.index.answer_groups.of(known.answer)
            finding.neighbours = [Neighbour(finding.entry, 1.0, group)]
            finding.tier, finding.entry, finding.reason = None, None, "audit"
        finding.words_domain = domain
        return finding

    def _found(
        self, find: Callable[[Question, float], int | None], question: Question, tier: Tier
    ) -> Finding | None:
        entry = find(question, self._repository.now())
        return None if entry is None else Finding(tier, entry, question.scope)

    def alike(
        self, question: Question, way: Way = "judge", scopes: Iterable[bytes] | None = None
    ) -> Finding:
        """Look in the semantic tier.

        Args:
            question: What is asked.
            way: Whether it is decided about the nearest stored answer, see :data:`Way`.
            scopes: Where to look instead of in the question's own scope.

        Raises:
            EmbeddingFailedError: If the embedder fails.
        """
        if question.text is None:
            return Finding(reason=question.why_exact)
        if kind := self._settings.skipped_kind(question.text):
            return Finding(reason=f"skipped: {kind}")
        if not self._compares_meaning:
            return Finding(reason="not compared by meaning")
        if way != "find" and self.min_similarity is None:
            asked = (
                [question_in(scope, question.text) for scope in scopes] if scopes else [question]
            )
            found = (self.same_question(one, peek=way == "peek") for one in asked)
            if reworded := next((one for one in found if one is not None), None):
                return reworded
        if not self._embedder.reads(question.text):
            return Finding(reason="not read by the embedder")
        vector = self._embedder.vector(question.text)
        finding = Finding(scope=question.scope, domain=question.domain, vector=vector)
        with self._repository.lock:
            stored, around = self._find_neighbours(finding, scopes or (question.scope,))
            self._find_field(finding, way)
        if stored is None:
            finding.reason = "no neighbour"
            return finding
        finding.differences = self._differences(stored, question.text)
        if finding.differences:
            finding.reason = f"veto: {finding.differences[0].partition(':')[0]}"
            return finding
        one, other = profile_of(stored), profile_of(question.text)
        finding.kinds = difference_kinds(one, other)
        if self.min_similarity is not None:  # then evidence does not decide
            around = ()
        finding.features = features_of(finding.neighbours, around, other, one, self._doubts)
        if way != "find":
            with self._repository.lock:
                self._decide(finding, way)
        return finding

    def _find_neighbours(
        self, finding: Finding, scopes: Iterable[bytes]
    ) -> tuple[str | None, Sequence[Neighbour]]:
        """Find the neighbours, of the scope that has the nearest.

        Returns:
            The nearest question, and the neighbours of that.
        """
        index, vector = self._repository.index, finding.vector
        assert vector is not None
        if index.dimension is not None and len(vector) != index.dimension:
            raise EmbeddingFailedError(
                f"got a vector of {len(vector)} numbers, the stored ones have {index.dimension}"
            )
        now = self._repository.now()
        found = (index.near_to(vector, scope, now, self.least_cosine) for scope in scopes)
        best = max(
            found, key=lambda n: n.near[0].cosine if n.near else 0.0, default=Neighbourhood()
        )
        finding.neighbours = best.near
        if not best.near:
            return None, ()
        nearest = index[finding.neighbours[0].entry]
        finding.scope, finding.domain = nearest.scope, domain_of(nearest.scope)
        return nearest.question, best.around

    def _find_field(self, finding: Finding, way: Way) -> None:
        """Find the field whose evidence decides; a request that is judged counts there."""
        if self.min_similarity is not None or way == "find":
            return
        assert finding.vector is not None
        if way == "judge":
            finding.field = self._fields.of(finding.domain, finding.vector)
            finding.field.policy.count()
        else:
            near = self._fields.near(finding.domain, finding.vector)
            finding.field = near or self._fields.unknown(finding.domain, finding.vector)

    def _differences(self, stored: str, asked: str) -> tuple[str, ...]:
        """Name the guards that forbid to answer *asked* with the answer to *stored*."""
        if difference := difference_in_writing(stored, asked):
            return (f"writing: {difference}",)
        one, other = profile_of(stored), profile_of(asked)
        forbidding = vetoes_between(one, other, self._vetoes)
        if self.min_similarity is not None:
            forbidding += doubts_between(one, other, self._doubts)
        return tuple(forbidding)

    def _decide(self, finding: Finding, way: Way) -> None:
        assert finding.features is not None
        if self.min_similarity is not None:
            serve = finding.neighbours[0].cosine >= self.min_similarity
            finding.reason = "" if serve else "below min_similarity"
        else:
            serve = self._judge(finding, peek=way == "peek")
        if serve:
            finding.tier, finding.reason = "semantic", ""
            finding.entry = finding.neighbours[0].entry

    def _judge(self, finding: Finding, *, peek: bool) -> bool:
        """Have the field decide: harmless differences are trusted, others need evidence there."""
        assert finding.field is not None
        assert finding.features is not None
        if not finding.kinds:
            harmless = finding.field.harmless
            found = harmless.peek() if peek else harmless.judge()
            finding.reason = "audit"
            return found == "serve"
        policy = finding.field.policy
        judge = policy.peek if peek else policy.judge
        finding.judgement = judge(finding.features, finding.kinds)
        closed = finding.judgement.closed
        finding.reason = f"no evidence: {closed}" if closed else "below threshold"
        if finding.judgement.audit:
            finding.reason = "audit"
        return finding.judgement.serve
