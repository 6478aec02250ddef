"""The semantic cache: a LangChain ``BaseCache`` and a stage of ``optimize``.

``lookup`` and ``update`` are called in the middle of model calls and never raise: what goes wrong
in the embedder or the file is a miss with one warning.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.embeddings import Embeddings
from langchain_core.outputs import Generation
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.cache.administration import Administration
from langchain_tokenopt.cache.answer_writer import AnswerWriter
from langchain_tokenopt.cache.answering import Answering
from langchain_tokenopt.cache.call_settings import form_in
from langchain_tokenopt.cache.embedder import GuardedEmbedder
from langchain_tokenopt.cache.eviction import Eviction
from langchain_tokenopt.cache.eviction_policy import EvictionPolicy
from langchain_tokenopt.cache.failure_shield import Shield
from langchain_tokenopt.cache.fields import Fields
from langchain_tokenopt.cache.key import Question
from langchain_tokenopt.cache.learning import Learning
from langchain_tokenopt.cache.lookup import Lookup
from langchain_tokenopt.cache.node_outputs import NodeOutputs
from langchain_tokenopt.cache.repositories import open_repository
from langchain_tokenopt.cache.request_reader import RequestReader
from langchain_tokenopt.cache.same_answer import SameAnswer
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.cache.single_flight import Claim, SingleFlight
from langchain_tokenopt.cache.staged_answers import StagedMiss, staged_hit
from langchain_tokenopt.cache.totals import Totals
from langchain_tokenopt.core.argument_checks import (
    check_path,
    check_whole,
    is_number,
    shown,
    takes_names,
)
from langchain_tokenopt.embeddings import LocalEmbeddings, checked_embeddings, embedder_fingerprint
from langchain_tokenopt.request.answer_form import TEXT, AnswerForm
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall, TunableSetting

__all__ = ["SemanticCache"]


class SemanticCache(Administration, BaseCache):
    """Answer a request from an earlier one that asks the same.

    Two requests can share an answer when everything but the last user turn is equal (model
    settings, tools, response schema, system text, history, user) and the last user turns ask the
    same: to the letter, in the same words, or, by embedding, guards and evidence, in other words.

    What *max_wrong_per_request* promises: in each field of questions of each owner and system text,
    the estimated share of semantic hits that are wrong, among the requests that were neither equal
    nor the same words, stays within it with 95 % confidence, as ``same_answer`` compares answers.
    It promises nothing of a single answer, nor of traffic that turns into another than that of the
    last few thousand requests before audits have seen it.

    Use it as LangChain's cache (``set_llm_cache(cache)``, ``ChatOpenAI(cache=cache)``) or as a
    stage, ``optimize(model, cache)``; as a stage it serves streams too. Usage tracking records a
    hit as a cached call: give the sinks that are to learn of hits to ``track_usage``.

    Args:
        path: SQLite file, or ``postgresql://user@host/database`` that all workers share;
            ``None`` keeps everything in memory.
        embeddings: Turns a question into a vector. Defaults to the local MiniLM model, which reads
            English. It is not called before the first lookup.
        semantic: Whether questions are compared by meaning. ``False`` needs no embedder: equal
            requests and the same words are served.
        max_wrong_per_request: Wrong answers per request, at most; a fraction from 0 to below 1.
        min_similarity: A cosine from 0 to 1 that replaces the decision by evidence: whatever is at
            least this near and passes the guards is served.
        max_entries: How many answers are kept.
        ttl_seconds: How long an answer is served after it was stored; ``None`` for ever.
        eviction: Which entry leaves when the cache is full: a name or a policy, see
            ``eviction.py``. A policy belongs to one cache.
        require_scope: Serve and store only for requests that say whose they are: inside
            :meth:`scope`, with ``user_id`` or ``tenant_id`` in their metadata, or under the user or
            the organization of a ``token_scope``, ``track_usage`` or ``plan.run``.
        settings: What is rarely changed.

    Raises:
        EmbedderUnavailableError: If no *embeddings* are given and the extra ``local`` is missing;
            not with ``semantic=False``.
        CacheFileError: If the file or the database cannot be used with these settings.
        ValueError: If an argument is out of its range.

    Example:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> from langchain_core.language_models import FakeListChatModel
        >>> cache = SemanticCache(embeddings=DeterministicFakeEmbedding(size=8))
        >>> model = FakeListChatModel(responses=["In Settings.", "?"], cache=cache)
        >>> [model.invoke(q).content for q in ("Where is my PIN?", "where is my  PIN")]
        ['In Settings.', 'In Settings.']
    """

    phase = Phase.CACHE
    blocking = True
    fingerprint = ""
    name = "SemanticCache"
    keeps_users_apart = True

    @takes_names
    def __init__(
        self,
        path: str | Path | None = None,
        *,
        embeddings: Embeddings | None = None,
        semantic: bool = True,
        max_wrong_per_request: float = 0.01,
        min_similarity: float | None = None,
        max_entries: int = 100_000,
        ttl_seconds: float | None = None,
        eviction: Eviction | EvictionPolicy = "adaptive",
        require_scope: bool = False,
        settings: CacheSettings | None = None,
    ) -> None:
        for name, number in (
            ("max_wrong_per_request", max_wrong_per_request),
            ("min_similarity", min_similarity),
            ("ttl_seconds", ttl_seconds),
        ):
            if number is not None and not is_number(number):
                raise ValueError(f"{name} must be a number; got {shown(number)}.")
        if min_similarity is not None and not 0.0 <= min_similarity <= 1.0:
            raise ValueError(f"min_similarity must be from 0 to 1, got {min_similarity}")
        if ttl_seconds is not None and ttl_seconds <= 0:
            raise ValueError(f"ttl_seconds must be above 0, got {ttl_seconds}")
        if path is not None:
            check_path("path", path)
        self.settings = settings = settings or CacheSettings()
        embedder = (checked_embeddings(embeddings) or LocalEmbeddings()) if semantic else None
        self._fields = Fields(
            max_wrong_per_request,
            settings.audit_share,
            random.Random(settings.seed),
            words_limit=0.0 if min_similarity == 1.0 else max_wrong_per_request,
        )
        self._shield = Shield()
        self._reader = RequestReader(settings, self._shield, require_scope=require_scope)
        self._repository = open_repository(
            path,
            embedder=None if embedder is None else embedder_fingerprint(embedder),
            eviction=eviction,
            max_entries=check_whole("max_entries", max_entries),
            max_bytes=settings.max_bytes,
            ttl_seconds=ttl_seconds,
            extend_ttl_on_hit=settings.extend_ttl_on_hit,
            clock=settings.clock,
        )
        self._flights = SingleFlight(settings.wait_seconds, self._repository.turns)
        self._embedder = GuardedEmbedder(
            embedder,
            settings.embedding_seconds,
            None if path is None else self._repository.recognises,
        )
        lookup = Lookup(self._repository, self._embedder, settings, min_similarity, self._fields)
        self._learning = Learning(
            self._repository,
            self._fields,
            SameAnswer(self._embedder, settings.same_answer),
        )
        self._writer = AnswerWriter(
            self._repository,
            lookup,
            self._learning,
            self._embedder,
            settings,
            self._shield.warn,
        )
        self._totals = Totals(
            self._repository, self._fields, self._learning, self._shield, self._writer
        )
        self._answering = Answering(
            self._repository,
            lookup,
            self._fields,
            self._learning,
            self._flights,
            self._shield,
            self._totals,
        )
        self.node_outputs = NodeOutputs(
            self._reader,
            self._answering,
            lambda question, output, ttl: self._update(question, TEXT, [output], ttl),
            self._repository,
            settings.namespace,
        )
        if self._repository.is_shared:
            with self._repository.lock, self._repository.named_errors():
                self._answering.refresh()

    # LangChain's interface

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answers to a request, or ``None``. Never raises."""
        question = self._reader.read(prompt, llm_string)
        return None if question is None else self._answering.find(question)[0]

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Like :meth:`lookup`; the event loop never waits for the file, nor a thread for others."""
        question = self._reader.read(prompt, llm_string)
        return None if question is None else (await self._answering.afind(question))[0]

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Store the answers to a request. Never raises."""
        question = self._reader.read(prompt, llm_string, counted=False)
        if question is not None:
            self._update(question, form_in(llm_string), return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Like :meth:`update`, in another thread."""
        await run_in_executor(None, self.update, prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Delete all answers and all evidence; keyword arguments are ignored.

        Raises:
            CacheFileError: If the file is locked, or its disk is full.
        """
        del kwargs
        with self._repository.lock, self._repository.named_errors():
            self._repository.clear()
            self._embedder.forget()
            self._learning.forget()
            self._fields.forget()
        self._flights.end_all()

    # The stage

    @property
    def tunable(self) -> Mapping[str, TunableSetting]:
        """The similarity that is asked for, where it is; else evidence decides already."""
        similarity = self._answering.lookup.min_similarity
        if similarity is None:
            return {}
        return {"min_similarity": TunableSetting(similarity, least=0.0, most=1.0, whole=False)}

    def with_settings(self, settings: Mapping[str, float]) -> SemanticCache:
        """Return a cache that asks for another similarity, over the same answers."""
        made = copy(self)
        made._answering = self._answering.with_similarity(settings["min_similarity"])
        return made

    def open(self, request: ModelRequest) -> StageCall | None:
        """Look a request up: a hit ends the call, a miss stores the answer when it comes."""
        question = self._reader.read_request(request)
        if question is None:
            return None
        found, claim = self._answering.find(question, waits=not request.observe)
        return self._stage_call(request, question, found, claim)

    async def aopen(self, request: ModelRequest) -> StageCall | None:
        """Like :meth:`open`, without holding a thread while an equal request is answered."""
        question = self._reader.read_request(request)
        if question is None:
            return None
        found, claim = await self._answering.afind(question, waits=not request.observe)
        return self._stage_call(request, question, found, claim)

    def _stage_call(
        self,
        request: ModelRequest,
        question: Question,
        found: list[Generation] | None,
        claim: Claim | None,
    ) -> StageCall:
        if found:
            return staged_hit(self.name, request, found)
        return StagedMiss(
            request,
            partial(self._update, question),
            partial(self._answering.abandon, question, claim),
        )

    # Scopes

    @contextmanager
    def scope(self, user: str | None = None, **labels: str) -> Iterator[None]:
        """Keep what is asked inside apart from what other users or tenants ask this cache.

        A user named here is the one whose ``user_id`` stands in the metadata of a call; the same
        holds for ``organization``. Works in threads and tasks that copy the context, as LangChain's
        do. Scopes nest.

        Example:
            >>> from langchain_core.embeddings import DeterministicFakeEmbedding
            >>> cache = SemanticCache(embeddings=DeterministicFakeEmbedding(size=8))
            >>> with cache.scope(user="ann"):
            ...     cache.update("What do I owe?", "fake", [Generation(text="12")])
            >>> with cache.scope(user="bob"):
            ...     cache.lookup("What do I owe?", "fake")
        """
        named = labels if user is None else {"user": user, **labels}
        with self._reader.scope({name: str(value) for name, value in named.items()}):
            yield

    # Storing

    def _update(
        self,
        question: Question,
        form: AnswerForm,
        answers: Sequence[Generation],
        ttl_seconds: float | None = None,
    ) -> None:
        try:
            self._shield.run(self._writer.keep, question, form, list(answers), ttl_seconds)
        finally:
            self._flights.end(question.exact)

    # The end

    def close(self) -> None:
        """Write what is counted and close the file. The cache cannot be used afterwards."""
        self._flights.end_all()
        with self._repository.lock:
            self._shield.run(self._learning.write)
            self._totals.kept.write()
            self._repository.close()

    def __enter__(self) -> SemanticCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
