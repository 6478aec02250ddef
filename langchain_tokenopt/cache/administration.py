"""What is said to a cache and asked of it beside requests.

Answers that are put in or taken out by hand, whether those it served were right, what it holds and
why it would serve one. Unlike in the middle of a model call, whoever asks here is told what fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from langchain_core.messages import AIMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache.answer_writer import AnswerWriter
from langchain_tokenopt.cache.answering import Answering
from langchain_tokenopt.cache.call_settings import UnkeyableError, form_in
from langchain_tokenopt.cache.embedder import GuardedEmbedder
from langchain_tokenopt.cache.explaining import Explainer
from langchain_tokenopt.cache.fields import Fields
from langchain_tokenopt.cache.key import Question, is_owned
from langchain_tokenopt.cache.learning import Learning
from langchain_tokenopt.cache.owner_labels import name_an_owner
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.request_reader import RequestReader
from langchain_tokenopt.cache.served_answers import entry_of
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.cache.single_flight import SingleFlight
from langchain_tokenopt.cache.stats import CacheCheck, CacheStats, Explanation, TopEntry
from langchain_tokenopt.cache.totals import Totals
from langchain_tokenopt.core.argument_checks import names_what
from langchain_tokenopt.core.attribution import owner_label
from langchain_tokenopt.request.answer_form import AnswerForm

__all__ = ["Administration"]


class Administration:
    """The part of a :class:`SemanticCache` that is used beside requests."""

    settings: CacheSettings
    _answering: Answering
    _embedder: GuardedEmbedder
    _fields: Fields
    _flights: SingleFlight
    _learning: Learning
    _reader: RequestReader
    _repository: Repository
    _totals: Totals
    _writer: AnswerWriter

    # Storing and deleting

    def update_many(
        self, items: Iterable[tuple[str, str, Sequence[Generation]]], *, batch: int = 512
    ) -> int:
        """Store many answers at once, for instance from a list of frequent questions.

        Args:
            items: Prompt, ``llm_string`` and answers, as :meth:`update` takes them.
            batch: How many are embedded and written together.

        Returns:
            How many were stored; the others are counted in :meth:`stats` by reason.

        Raises:
            EmbeddingFailedError: If the embedder fails.
            CacheFileError: If the file is locked, or its disk is full; earlier batches are kept.

        Example:
            >>> from langchain_core.embeddings import DeterministicFakeEmbedding
            >>> from langchain_tokenopt import SemanticCache
            >>> cache = SemanticCache(embeddings=DeterministicFakeEmbedding(size=8))
            >>> cache.update_many([("Where is my PIN?", "fake", [Generation(text="In Settings.")])])
            1
        """
        awaited: list[bytes] = []
        try:
            return self._writer.keep_many(self._keyed(items, awaited), batch)
        finally:
            for exact in awaited:
                self._flights.end(exact)

    def _keyed(
        self, items: Iterable[tuple[str, str, Sequence[Generation]]], awaited: list[bytes]
    ) -> Iterator[tuple[Question, AnswerForm, Sequence[Generation]]]:
        """Read requests; take note of those that somebody waits for."""
        for prompt, llm_string, answers in items:
            question = self._reader.read(prompt, llm_string, counted=False)
            if question is None:
                self._writer.not_stored[self._reader.why_not_read] += 1
            else:
                if question.exact in self._flights:
                    awaited.append(question.exact)
                yield question, form_in(llm_string), answers

    @names_what("clear()")
    def forget(self, user: str | None = None, **labels: str) -> int:
        """Delete what was stored for an owner alone, and what was learned from it.

        Args:
            user: As in :meth:`scope`.
            **labels: All others that :meth:`scope` or the metadata of the calls gave: what was
                asked with further ones has another owner.

        Returns:
            How many answers were deleted.

        Raises:
            CacheFileError: If the file is locked, or its disk is full.
            ValueError: If there is no name, or an empty one.
            TypeError: If one is ``None``, as where nobody is signed in.

        Example:
            >>> from langchain_tokenopt import SemanticCache
            >>> cache = SemanticCache(semantic=False)
            >>> with cache.scope(user="ann"):
            ...     cache.update("What do I owe?", "fake", [Generation(text="12")])
            >>> cache.forget("bob"), cache.forget("ann")
            (0, 1)
        """
        named = labels if user is None else {"user": user, **labels}
        owner = tuple(sorted((owner_label(name), value) for name, value in named.items()))
        if not name_an_owner(owner):
            raise ValueError("an empty name belongs to nobody; forget(user='ann').")
        namespace = self.settings.namespace
        return self._forget(lambda scope: is_owned(scope, namespace, owner), with_answers=True)

    def clear_learned(self) -> None:
        """Delete what was learned from all answers, which stay; :meth:`clear` deletes those, too.

        Raises:
            CacheFileError: If the file is locked, or its disk is full.
        """
        self._forget(lambda _: True, with_answers=False)

    def _forget(self, is_theirs: Callable[[bytes], bool], *, with_answers: bool) -> int:
        with self._repository.lock, self._repository.named_errors():
            self._learning.write()
            found = self._repository.forget(is_theirs, with_answers=with_answers)
            self._fields.forget_domains(is_theirs)
        return found

    # Feedback and reports

    def reject(self, served: AIMessage | int) -> bool:
        """Say that a served answer was wrong: it is deleted, and the evidence takes note.

        Inside of a :meth:`scope` only what was stored in it can be judged.

        Args:
            served: A message that came from this cache, or the number of an entry.

        Returns:
            Whether the entry was still there.

        Raises:
            ValueError: If the message did not come from a cache.
            CacheFileError: If the file is locked, or its disk is full.
        """
        with self._judging(served) as entry:
            if entry is None:
                return False
            self._learning.take_feedback(entry, right=False)
            known = entry in self._repository.index
            self._repository.drop(entry)
            self._totals.counts["rejected"] += known
        return known

    def confirm(self, served: AIMessage | int) -> bool:
        """Say that a served answer was right; see :meth:`reject`."""
        with self._judging(served) as entry:
            if entry is None:
                return False
            self._learning.take_feedback(entry, right=True)
            return entry in self._repository.index

    @contextmanager
    def _judging(self, served: AIMessage | int) -> Iterator[int | None]:
        """Change what belongs to an entry; ``None`` for one of somebody else's."""
        entry = entry_of(served)
        with self._repository.named_errors(), self._repository.changing():
            known = self._repository.index.get(entry)
            yield None if known and not self._reader.may_judge(known.scope) else entry

    def explain(self, prompt: str, llm_string: str | None = None) -> Explanation:
        """Say why a request would be answered from the cache, or not. Changes nothing.

        Args:
            prompt: As a cache is given it; or, without *llm_string*, a plain question, which is
                then compared with the questions of all scopes.
            llm_string: The model's settings, as a cache is given them.

        Raises:
            EmbeddingFailedError: If the embedder fails.
            CacheFileError: If the file or the server cannot be read now.
        """
        if llm_string is None:
            question = Question(b"", b"", prompt)
        else:
            try:
                question = self._reader.question(prompt, llm_string)
            except UnkeyableError as error:
                return Explanation(False, str(error))
        with self._repository.named_errors():
            with self._repository.lock:
                self._answering.refresh()
                scopes = self._repository.index.scopes() if llm_string is None else None
            explainer = Explainer(
                self._answering.lookup, self._repository, self._embedder, self.settings
            )
            return explainer.explain(question, scopes)

    def stats(self, *, lifetime: bool = False) -> CacheStats:
        """Return what the cache holds and has done since it was opened.

        Args:
            lifetime: What all processes have done with the file, closed or not, instead; those that
                are running are up to two seconds ahead of it.

        Raises:
            CacheFileError: If the file or the server cannot be read now: what many processes hold
                is not known here.
        """
        with self._repository.named_errors(), self._repository.lock:
            self._answering.refresh()
            return self._totals.stats(lifetime=lifetime)

    def top(self, limit: int = 10) -> list[TopEntry]:
        """Return the stored questions that were served most, most served first.

        Raises:
            CacheFileError: If the file or the server cannot be read now.
        """
        with self._repository.named_errors(), self._repository.lock:
            self._answering.refresh()
            return [
                TopEntry(e.id, e.question or "(exact only)", e.hits, e.hits * e.tokens)
                for e in self._repository.top(limit)
            ]

    def check(self) -> CacheCheck:
        """Read every entry; remove those that cannot be read."""
        with self._repository.named_errors():
            (entries, size), damaged, is_sound = self._repository.check()
        return CacheCheck(entries, size, tuple(damaged), is_sound)
