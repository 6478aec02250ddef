"""Storing answers: whether they may be kept, what they teach, and the entries they become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_core.outputs import Generation

from langchain_tokenopt.cache.answer_json import pack
from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder
from langchain_tokenopt.cache.key import Question
from langchain_tokenopt.cache.learning import Learning
from langchain_tokenopt.cache.lookup import Finding, Lookup
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.same_answer import spoken_form, text_of_answers
from langchain_tokenopt.cache.served_answers import tokens_of
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.cache.storable import why_not_stored
from langchain_tokenopt.cache.stored_row import Row
from langchain_tokenopt.request.answer_form import AnswerForm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AnswerWriter"]


@dataclass(frozen=True, slots=True)
class _Answered:
    """A request, and the answer that is to be stored."""

    question: Question
    packed: bytes
    tokens: int
    said: str = ""
    """The answer but for spelling marks: those that say the same are one answer."""


class AnswerWriter:
    """Stores answers in a repository.

    Args:
        repository: Where they are stored.
        lookup: Finds what was stored near them.
        learning: Learns from them.
        embedder: Embeds the questions of many at once.
        settings: What is kept.
        warn: Called with the kind and the text of a warning.
    """

    def __init__(
        self,
        repository: Repository,
        lookup: Lookup,
        learning: Learning,
        embedder: GuardedEmbedder,
        settings: CacheSettings,
        warn: Callable[[str, str], None],
    ) -> None:
        self.not_stored: Counter[str] = Counter()
        """Answers that were not kept, by reason."""
        self._repository = repository
        self._lookup = lookup
        self._learning = learning
        self._embedder = embedder
        self._settings = settings
        self._warn = warn

    def keep(
        self,
        question: Question,
        form: AnswerForm,
        answers: Sequence[Generation],
        ttl_seconds: float | None = None,
    ) -> None:
        """Store the answers to one request, and learn from them.

        Args:
            question: What was asked.
            form: The form in which the answer was asked for.
            answers: What the model has returned.
            ttl_seconds: How long they are served at most, where that is less than for all.

        Raises:
            sqlite3.Error: If the file cannot be written; nothing is changed then.
        """
        if not self._repository.may_write:
            self.not_stored["file failed"] += 1
            return
        packed = self._packed(question, form, answers)
        if packed is None:
            return
        finding = self._learning.recall_miss(question.exact) or self._neighbourhood(question)
        agreeing = self._learning.agreeing_groups(finding, answers)
        answered = _Answered(question, packed, tokens_of(answers))
        with self._repository.changing():
            if question.text is not None:
                self._learning.learn(finding, agreeing, answers)
            group = agreeing[0] if agreeing else None
            new = self._row(answered, finding.vector, group, ttl_seconds)
            row = self._repository.write(new, packed)
            self._repository.take_in([row])

    def _neighbourhood(self, question: Question) -> Finding:
        """Return what is stored near a request that nobody has looked up."""
        try:
            return self._lookup.alike(question, "find")
        except EmbeddingFailedError as error:
            self._warn("embedder", f"The embedder failed: {error}. Answers are kept without it.")
            return Finding()

    def keep_many(
        self, items: Iterable[tuple[Question, AnswerForm, Sequence[Generation]]], batch: int
    ) -> int:
        """Store the answers to many requests; return how many were stored.

        Raises:
            EmbeddingFailedError: If the embedder fails.
            CacheFileError: If the file cannot be written; earlier batches are kept.
        """
        stored = 0
        waiting: dict[bytes, _Answered] = {}
        groups: dict[tuple[bytes, str], int] = {}
        for question, form, answers in items:
            packed = self._packed(question, form, answers)
            if packed is None:
                continue
            said = spoken_form(text_of_answers(answers))
            waiting[question.exact] = _Answered(question, packed, tokens_of(answers), said)
            if len(waiting) == batch:
                stored += self._write(list(waiting.values()), groups)
                waiting = {}
        return stored + (self._write(list(waiting.values()), groups) if waiting else 0)

    def _write(self, waiting: Sequence[_Answered], groups: dict[tuple[bytes, str], int]) -> int:
        """Write a batch; *groups* remembers which entry said what first, in which scope."""
        texts = {
            item.question.exact: item.question.text
            for item in waiting
            if item.question.text is not None
            and not self._embedder.is_off
            and self._embedder.reads(item.question.text)
        }
        found = self._embedder.vectors(list(texts.values())) if texts else []
        vectors = dict(zip(texts, found, strict=True))
        with self._repository.named_errors(), self._repository.changing():
            rows = []
            for item in waiting:
                said = item.question.scope, item.said
                new = self._row(item, vectors.get(item.question.exact), groups.get(said))
                rows.append(self._repository.write(new, item.packed))
                groups.setdefault(said, rows[-1].id)
            self._repository.take_in(rows)
        return len(waiting)

    def _row(
        self,
        answered: _Answered,
        vector: NDArray[np.float32] | None,
        group: int | None,
        ttl_seconds: float | None = None,
    ) -> Row:
        created, expires = self._repository.lifetime(ttl_seconds)
        question = answered.question
        return Row(
            id=0,
            exact=question.exact,
            scope=question.scope,
            question=question.text,
            vector=None if vector is None else vector.astype("<f2").tobytes(),
            agrees_with=group,
            tokens=answered.tokens,
            created=created,
            expires=expires,
            near=None if question.text is None else question.near,
        )

    def _packed(
        self, question: Question, form: AnswerForm, answers: Sequence[Generation]
    ) -> bytes | None:
        """Return answers as they are stored; ``None``, and counted, if they are not to be."""
        reason = why_not_stored(answers, form, tool_calls=self._settings.cache_tool_calls)
        if not reason and question.text is not None:
            reason = self._settings.skipped_kind(question.text) or ""
        if not reason:
            try:
                return pack(answers)
            # What providers and callers put into messages is foreign: anything may refuse.
            except Exception as error:  # noqa: BLE001
                reason = "not serialisable"
                self._warn(reason, f"An answer is not cached: {type(error).__name__}: {error}.")
        self.not_stored[reason] += 1
        return None
