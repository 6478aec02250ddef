"""What comes out of requests teaches the serving policy which stored answers are right.

After a miss with a near neighbour the model's answer says whether the stored one would have been
right; after a hit the caller can say it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

from langchain_core.outputs import Generation

from langchain_tokenopt.cache.fields import Fields
from langchain_tokenopt.cache.lookup import Finding
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.same_answer import SameAnswer, text_of_answers
from langchain_tokenopt.storage import forks

__all__ = ["Learning"]

SAME_ANSWER_COSINE = 0.6
"""Answers of neighbours are compared down to this nearness of their questions."""
_ANSWERS_COMPARED = 4
_WORDINGS = 3
"""Neighbours' answers that a new one is compared with: so many, in so many wordings each."""
_PENDING = 4_096
_REQUESTS_PER_WRITE = 64
"""Requests after which other processes hear of them, where no label comes first."""
_SERVED = 4_096


class Learning:
    """Remembers what lookups found, and learns from the answers that follow.

    Args:
        repository: The stored answers.
        fields: What learns.
        same_answer: Compares answers.
    """

    def __init__(
        self,
        repository: Repository,
        fields: Fields,
        same_answer: SameAnswer,
    ) -> None:
        self.checked = self.checked_wrong = 0
        self._repository = repository
        self._fields = fields
        self._same_answer = same_answer
        self._pending: OrderedDict[bytes, Finding] = OrderedDict()
        self._served: OrderedDict[int, Finding] = OrderedDict()
        self._unwritten: list[list[Any]] = []
        forks.register(self)

    def remember_miss(self, exact: bytes, finding: Finding) -> None:
        """Keep what was found for a request that the model is asked now."""
        self._pending[exact] = finding
        if len(self._pending) > _PENDING:
            self._pending.popitem(last=False)

    def remember_hit(self, finding: Finding) -> None:
        """Keep what spoke for an answer that is served now."""
        assert finding.entry is not None
        if finding.tier != "exact":
            self._served[finding.entry] = finding
            if len(self._served) > _SERVED:
                self._served.popitem(last=False)

    def recall_miss(self, exact: bytes) -> Finding | None:
        """Return, and forget, what was found for a request."""
        return self._pending.pop(exact, None)

    def agreeing_groups(self, finding: Finding, answers: Sequence[Generation]) -> list[int]:
        """Return the groups of neighbours' answers that say the same, nearest first."""
        compared: Counter[int] = Counter()
        agreeing: list[int] = []
        text = text_of_answers(answers)
        with self._repository.lock:
            self._repository.read_ahead([one.entry for one in finding.neighbours], finding.scope)
        for neighbour in finding.neighbours:
            if neighbour.cosine < SAME_ANSWER_COSINE and compared:
                break
            with self._repository.lock:
                group = self._repository.index.answer_groups.of(neighbour.answer)
            if compared[group] == _WORDINGS or group in agreeing:
                continue
            compared[group] += 1
            if len(compared) > _ANSWERS_COMPARED:
                break
            with self._repository.lock:
                stored = self._repository.answers(neighbour.entry, finding.scope)
            if stored is not None and self._same_answer.says(text_of_answers(stored), text):
                agreeing.append(group)
        return agreeing

    def learn(
        self, finding: Finding, agreeing: Sequence[int], answers: Sequence[Generation]
    ) -> None:
        """Take in whether the nearest stored answer would have been right; with the lock held."""
        self._same_answer.count(text_of_answers(answers))
        for other in agreeing[1:]:
            self._repository.unite(agreeing[0], other)
        if not finding.reason or not finding.neighbours:
            return
        group = self._repository.index.answer_groups.of(finding.neighbours[0].answer)
        self._take_label(finding, group in agreeing)
        if len(self._unwritten) >= self._repository.labels_per_write:
            self.write()

    def take_feedback(self, entry: int, *, right: bool) -> None:
        """Take in what the caller says of a served answer; with the lock held."""
        finding = self._served.pop(entry, None)
        if finding is not None:
            self._take_label(finding, right)
            self.write()

    def _take_label(self, finding: Finding, right: bool) -> None:
        field = finding.field
        if finding.words_domain:
            self._fields.words(finding.words_domain).learn(right=right)
            self._unwritten.append(["words", finding.words_domain.hex(), right])
        elif field is not None and not finding.kinds and finding.features is not None:
            field.harmless.learn(right=right)
            self._unwritten += field.rows()
            self._unwritten.append(["harmless", field.name, right])
        elif field is not None and finding.features is not None:
            is_audit = finding.reason == "audit"
            field.policy.learn(finding.features, right, finding.kinds, audit=is_audit)
            self._unwritten += field.rows()
            features = [round(float(value), 4) for value in finding.features]
            kinds = sorted(finding.kinds)
            self._unwritten.append(["label", field.name, features, right, is_audit, kinds])
        else:
            return
        self.checked += 1
        self.checked_wrong += not right

    def tell_sometimes(self) -> None:
        """Tell other processes what was asked, where that is due; with the lock held."""
        if self._repository.is_shared and self._fields.untold >= _REQUESTS_PER_WRITE:
            self._repository.try_quietly(self.write)

    def write(self) -> None:
        """Write what the file, and with it other processes, has not been told yet."""
        if not self._repository.is_shared:
            self._unwritten.clear()
            return
        places, asked = self._fields.traffic()
        labels, self._unwritten = [*self._unwritten, *places], []
        if labels or asked:
            try:
                self._repository.keep_evidence(labels, asked)
            except BaseException:
                self._unwritten = labels[-_PENDING:]
                raise

    # Forks

    @property
    def lock(self) -> Any:
        """Return the lock that is held while it changes. It is another one after a fork."""
        return self._repository.lock

    def before_fork(self) -> None:
        """There is nothing to let go of."""

    def after_fork_in_child(self) -> None:
        """Leave to the parent what it has learned and counted and has not written yet."""
        self._unwritten.clear()
        self._fields.leave_traffic()
        self._repository.leave_hits()

    def forget(self) -> None:
        """Forget everything that has not been learned yet."""
        self._pending.clear()
        self._served.clear()
        self._unwritten.clear()
