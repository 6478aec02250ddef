"""Answering requests from what is stored, and agreeing on who asks the model where nothing is.

What goes wrong in the embedder, the file or the caller's own code is a miss with one warning.
"""

from __future__ import annotations

from copy import copy
from typing import Final

from langchain_core.outputs import Generation
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.cache.failure_shield import Shield
from langchain_tokenopt.cache.fields import Fields
from langchain_tokenopt.cache.key import Question
from langchain_tokenopt.cache.learning import Learning
from langchain_tokenopt.cache.lookup import Finding, Lookup
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.served_answers import fresh_copy
from langchain_tokenopt.cache.single_flight import Claim, SingleFlight
from langchain_tokenopt.cache.totals import Totals

__all__ = ["Answering"]

_NOTHING_NEAR: Final = ("no neighbour", "not compared by meaning", "not read by the embedder")


class Answering:
    """Answers the requests of one cache, and counts them.

    Args:
        repository: The stored answers.
        lookup: Finds them.
        fields: What other processes have learned goes there.
        learning: Is told what was found.
        flights: Lets one of several equal requests ask the model.
        shield: Counts misses.
        totals: Counts requests and hits.
    """

    def __init__(
        self,
        repository: Repository,
        lookup: Lookup,
        fields: Fields,
        learning: Learning,
        flights: SingleFlight,
        shield: Shield,
        totals: Totals,
    ) -> None:
        self._repository = repository
        self.lookup = lookup
        self._fields = fields
        self._learning = learning
        self._flights = flights
        self._shield = shield
        self._counts = totals.counts
        self._kept_counts = totals.kept

    def with_similarity(self, min_similarity: float) -> Answering:
        """Return one that asks for another cosine, over the same answers."""
        made = copy(self)
        made.lookup = self.lookup.with_similarity(min_similarity)
        return made

    def refresh(self) -> None:
        """Take in what other processes have stored and learned; with the lock held."""
        self._repository.refresh()
        self._fields.restore(self._repository.labels())

    def find(
        self, question: Question, *, waits: bool = True
    ) -> tuple[list[Generation] | None, Claim | None]:
        """Return the answers; or a claim to make them, when it is this request's turn."""
        found, claim = self._shield.run(self._equal, question), None
        if found is None and waits:
            claim = self._flights.begin(question.exact)
        if found is None:
            found = self._equal_or_alike(question)
        if found is not None and claim is not None:
            self._flights.end(question.exact)
        return found, claim

    async def afind(
        self, question: Question, *, waits: bool = True
    ) -> tuple[list[Generation] | None, Claim | None]:
        """Like :meth:`find`; on the loop only what is in memory is looked at."""
        found, claim = self._shield.run(self._equal_at_once, question), None
        if found is None and self._repository.is_shared:
            found = await run_in_executor(None, self._shield.run, self._equal, question)
        if found is None and waits:
            claim = await self._flights.abegin(question.exact)
        if found is None:
            found = await run_in_executor(None, self._equal_or_alike, question)
        if found is not None and claim is not None:
            await run_in_executor(None, self._flights.end, question.exact)
        return found, claim

    def _equal_at_once(self, question: Question) -> list[Generation] | None:
        """Return the answers to an equal request, where nothing needs to be waited for."""
        lock = self._repository.lock
        if self._repository.is_shared or not lock.acquire(blocking=False):
            return None
        try:
            finding = self.lookup.equal(question)
            is_in_memory = finding is not None and self._repository.is_unpacked(finding.entry)
            return self._serve(finding) if finding is not None and is_in_memory else None
        finally:
            lock.release()

    def _equal_or_alike(self, question: Question) -> list[Generation] | None:
        found = self._shield.run(self._equal, question)
        return found or self._shield.run(self._alike, question)

    def _equal(self, question: Question) -> list[Generation] | None:
        """Return the answers to an equal request."""
        with self._repository.lock:
            self.refresh()
            finding = self.lookup.equal(question)
            return None if finding is None else self._serve(finding)

    def _alike(self, question: Question) -> list[Generation] | None:
        """Return the answers to a request that asks the same in another way."""
        with self._repository.lock:
            finding = self.lookup.same_words(question)
        if finding is None:
            finding = self.lookup.alike(question)
        with self._repository.lock:
            found = None if finding.entry is None else self._serve(finding)
            has_new_system = self.lookup.system_texts.take(question)
            if found is None:
                lacks_neighbour = finding.reason in _NOTHING_NEAR
                self._counts["requests"] += 1
                reason = "system text differs" if lacks_neighbour and has_new_system else ""
                self._shield.misses[reason or finding.reason or "gone"] += 1
                self._kept_counts.write_sometimes()
                self._learning.remember_miss(question.exact, finding)
            self._learning.tell_sometimes()
        return found

    def _serve(self, finding: Finding) -> list[Generation] | None:
        """Count a hit and return fresh copies; ``None`` when the answers are gone."""
        entry, tier = finding.entry, finding.tier
        assert entry is not None
        assert tier is not None
        is_alive = self._repository.is_alive(entry, finding.scope)
        answers = self._repository.answers(entry, finding.scope) if is_alive else None
        if answers is None:
            return None
        self._counts["requests"] += 1
        self._counts[tier] += 1
        self._counts["saved_tokens"] += self._repository.index[entry].tokens
        self._learning.remember_hit(finding)
        self._repository.count_hit(entry)
        self._kept_counts.write_sometimes()
        return [fresh_copy(answer, entry) for answer in answers]

    def abandon(self, question: Question, claim: Claim | None) -> None:
        """Take note that no answer will come, so that nobody waits for it."""
        self._learning.recall_miss(question.exact)
        self._flights.give_up(question.exact, claim)
