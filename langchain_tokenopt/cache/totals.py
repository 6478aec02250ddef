"""What one cache has counted, from wherever it is counted: one name for each number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from langchain_tokenopt.cache.answer_writer import AnswerWriter
from langchain_tokenopt.cache.counting import KeptCounts
from langchain_tokenopt.cache.failure_shield import Shield
from langchain_tokenopt.cache.fields import Fields
from langchain_tokenopt.cache.learning import Learning
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.stats import CacheStats

__all__ = ["Totals"]


class Totals:
    """Everything that was counted since a cache was opened.

    Args:
        repository: Counts what leaves, and keeps the counts of all processes.
        fields: What is known of each field of questions.
        learning: Counts what was checked.
        shield: Counts misses.
        writer: Counts answers that were not kept.
    """

    def __init__(
        self,
        repository: Repository,
        fields: Fields,
        learning: Learning,
        shield: Shield,
        writer: AnswerWriter,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Requests, hits by tier, tokens saved, answers rejected."""
        self._repository = repository
        self._fields = fields
        self._learning = learning
        self._shield = shield
        self._writer = writer
        self.kept = KeptCounts(self._all, self._keep)

    def stats(self, *, lifetime: bool) -> CacheStats:
        """Return them, or what all processes have counted; with the lock held."""
        counts = self._all()
        if lifetime and self._repository.is_shared:
            self.kept.write()
            counts = self._repository.counts()
        entries, size = self._repository.index.totals()
        return CacheStats(
            entries=entries,
            bytes=size,
            requests=counts["requests"],
            exact_hits=counts["exact"],
            same_words_hits=counts["same words"],
            semantic_hits=counts["semantic"],
            saved_tokens=counts["saved_tokens"],
            misses=_named(counts, "miss: "),
            not_stored=_named(counts, "not stored: "),
            checked=counts["checked"],
            checked_wrong=counts["checked_wrong"],
            fields=self._fields.stats(),
            evicted=counts["evicted"],
            expired=counts["expired"],
            rejected=counts["rejected"],
        )

    def _all(self) -> Counter[str]:
        found = Counter(self.counts)
        found["checked"] = self._learning.checked
        found["checked_wrong"] = self._learning.checked_wrong
        found["evicted"], found["expired"] = self._repository.evicted, self._repository.expired
        found.update({f"miss: {name}": n for name, n in self._shield.misses.items()})
        found.update({f"not stored: {name}": n for name, n in self._writer.not_stored.items()})
        return found

    def _keep(self, added: Mapping[str, int]) -> bool:
        return not self._repository.is_shared or self._repository.add_counts(added)


def _named(counts: Counter[str], kind: str) -> dict[str, int]:
    """Return the counts of one kind by their own names, highest first."""
    return {name.removeprefix(kind): n for name, n in counts.most_common() if name.startswith(kind)}
