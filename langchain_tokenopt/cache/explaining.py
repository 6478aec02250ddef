"""Saying why a request would be answered from the cache, or not.

What would be found is found by the functions that look requests up (``lookup.py``), which then
neither count nor draw anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from langchain_tokenopt.cache.embedder import GuardedEmbedder
from langchain_tokenopt.cache.features import Neighbour
from langchain_tokenopt.cache.guards import doubts_between, profile_of, vetoes_between
from langchain_tokenopt.cache.key import Question, question_in
from langchain_tokenopt.cache.lookup import Finding, Lookup, Tier
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.cache.stats import Candidate, Explanation
from langchain_tokenopt.cache.system_texts import changed_words
from langchain_tokenopt.cache.wording import only_difference

__all__ = ["Explainer"]

_SHOWN_CANDIDATES: Final = 5
_MANY_SCOPES: Final = 3
_SAME: Final[dict[Tier | None, str]] = {
    "exact": "the same request",
    "same words": "the same words",
}


class Explainer:
    """Says what a lookup finds, and why.

    Args:
        lookup: Finds the stored answers.
        repository: The stored answers.
        embedder: Embeds questions.
        settings: Which guards apply, and what is skipped.
    """

    def __init__(
        self,
        lookup: Lookup,
        repository: Repository,
        embedder: GuardedEmbedder,
        settings: CacheSettings,
    ) -> None:
        self._lookup = lookup
        self._repository = repository
        self._embedder = embedder
        self._settings = settings

    def explain(self, question: Question, scopes: Iterable[bytes] | None = None) -> Explanation:
        """Say what the three tiers find, and why.

        Args:
            question: What would be asked.
            scopes: Where to look instead of in the question's own scope.

        Raises:
            EmbeddingFailedError: If the embedder fails.
        """
        scopes = None if scopes is None else list(scopes)
        text = question.text or ""
        asked = [question] if scopes is None else [question_in(scope, text) for scope in scopes]
        with self._repository.lock:
            found = [
                self._lookup.equal(one) or self._lookup.same_words(one, peek=True) for one in asked
            ]
        holding = sum(one is not None and one.tier == "exact" for one in found)
        if holding >= _MANY_SCOPES:
            return Explanation(
                True,
                f"{holding} scopes hold the same question: something else has differed each time "
                f"(the user, the history, settings, or a clock or an id in the system text). In "
                f"a scope of its own it is not answered.",
            )
        finding = next((one for one in found if one is not None), None)
        if finding is not None and finding.entry is not None:
            return Explanation(True, f"Entry {finding.entry} holds {_SAME[finding.tier]}.")
        if finding is not None:
            return Explanation(
                False,
                f"Entry {finding.neighbours[0].entry} holds the same words, but too many of such "
                f"answers have been wrong: the model is asked until enough are right again.",
            )
        finding = self._lookup.alike(question, "peek", scopes)
        candidates = self._candidates(finding.neighbours[:_SHOWN_CANDIDATES], question.text or "")
        judgement = finding.judgement
        return Explanation(
            finding.tier is not None,
            self._sentence(finding, question),
            None if judgement is None else judgement.probability,
            None if judgement is None else judgement.threshold,
            candidates,
        )

    def _sentence(self, finding: Finding, question: Question) -> str:
        judgement = finding.judgement
        if finding.words_domain:
            entry = finding.neighbours[0].entry if finding.entry is None else finding.entry
            with self._repository.lock:
                stored = self._repository.index[entry].question or ""
            said = f"Entry {entry} {only_difference(stored, question.text or '')}"
            if finding.entry is None:
                said += ", but too many of such answers have been wrong"
            return f"{said}."
        if finding.field is not None and finding.features is not None and not finding.kinds:
            return (
                "The nearest question differs in nothing that matters."
                if finding.tier
                else "The nearest question differs in nothing that matters, but too many of such "
                "answers have been wrong in its field."
            )
        if judgement is not None and judgement.closed:
            return (
                f"The nearest question differs in a kind ({judgement.closed}) that has not been "
                f"seen to be harmless in its field."
            )
        if judgement is not None and finding.field is not None:
            policy = finding.field.policy
            return (
                f"The nearest answer is right with probability {judgement.probability:.3f}; "
                f"{judgement.threshold:.3f} is needed for at most "
                f"{policy.max_wrong_per_request:.2%} wrong answers per request of its field "
                f"({finding.field.name}: {policy.labels:,} checked, {policy.wrong_labels:,} of "
                f"them wrong)."
            )
        if finding.differences:
            return f"The nearest question differs in: {', '.join(finding.differences)}."
        if finding.features is not None:
            cosine = finding.neighbours[0].cosine
            return f"Cosine {cosine:.3f}, and {self._lookup.min_similarity:.3f} is asked for."
        if question.text is None:
            return f"Only an equal request could hit: {question.why_exact}."
        if before := self._lookup.system_texts.before(question):
            return (
                f"The same was asked under another system text: "
                f"{changed_words(before, question.system)}. Put what changes each time (a clock, "
                f"a date, an id) into the user's turn, or leave it out."
            )
        if finding.vector is not None:
            return f"No stored question is nearer than cosine {self._lookup.least_cosine:g}."
        if finding.reason.startswith("skipped"):
            kind = self._settings.skipped_kind(question.text)
            return f"Requests of the kind {kind!r} are skipped."
        if self._lookup.min_similarity == 1.0:
            return "Only an equal request could hit: min_similarity=1."
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
                    tuple(vetoes_between(one, other, self._settings.vetoes)),
                    tuple(doubts_between(one, other, self._settings.doubts)),
                )
            )
        return tuple(found)
