"""The cache itself: a LangChain ``BaseCache`` and a stage of ``optimize``.

One lock guards everything that changes: the file, the index (FAISS crashes when it is searched and
changed at once), the policy, the evidence. Embedding happens outside of it.

``lookup`` and ``update`` are called in the middle of model calls and never raise: what goes wrong
in the embedder, the file or a sink is a miss with one warning.
"""

from __future__ import annotations

import heapq
import os
import random
import sqlite3
import threading
import time
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation
from langchain_core.runnables.config import run_in_executor, var_child_runnable_config

from langchain_tokenopt.cache.answers import (
    AnswerWords,
    differ_in_words,
    pieces_of,
    text_of_answers,
    why_not_stored,
)
from langchain_tokenopt.cache.decision import Decision
from langchain_tokenopt.cache.embedder import EmbeddingFailedError, GuardedEmbedder
from langchain_tokenopt.cache.entries import Entries
from langchain_tokenopt.cache.eviction import Eviction, policy_named
from langchain_tokenopt.cache.features import Neighbour, features_of
from langchain_tokenopt.cache.flights import Claim, Flights
from langchain_tokenopt.cache.guards import (
    DOUBTS,
    GUARDS,
    VETOES,
    doubts_between,
    guard_names,
    is_about_now,
    is_action,
    is_personal,
    profile_of,
    vetoes_between,
)
from langchain_tokenopt.cache.key import (
    Context,
    Labels,
    Question,
    UnkeyableError,
    credentials_of,
    labels_in,
    normalised,
    question_of,
)
from langchain_tokenopt.cache.stats import CacheCheck, CacheStats, Candidate, Explanation, TopEntry
from langchain_tokenopt.cache.store import CacheFileError, CacheStore, pack
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import Saving, UsageSink
from langchain_tokenopt.core.runs import CacheHit
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.embeddings import LocalEmbeddings, embedder_fingerprint
from langchain_tokenopt.request.model_request import Answer, ModelRequest, usage_of
from langchain_tokenopt.stage import Phase, StageCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SemanticCache"]

Result = TypeVar("Result")

MIN_COSINE = 0.5
"""Below this a neighbour is not considered, whatever else speaks for it."""
SAME_ANSWER_COSINE = 0.6
"""Answers of neighbours are compared down to this nearness of their questions."""
ENTRY_ID = "tokenopt_cache_entry"
"""Where a served message says which entry it came from, in ``response_metadata``."""

_ANSWERS_COMPARED = 4
_WORDINGS = 3
"""Neighbours' answers that a new one is compared with: so many, in so many wordings each."""
_DECODED = 2_048
_PENDING = 4_096
_SERVED = 4_096
_ANSWER_VECTORS = 8_192
_HITS_PER_WRITE = 128
_LABELS_PER_WRITE = 32
_SKIPS: dict[str, Callable[[str], bool]] = {
    "personal": is_personal,
    "now": is_about_now,
    "action": is_action,
}
_RESTING_SECONDS = 2.0
_RESTING_FACTOR = 20.0
"""After a failed write none is tried for so long, or so many times what it took: see ``_rest``."""
_LABELS: ContextVar[Labels] = ContextVar("tokenopt_cache_labels", default=())


@dataclass(slots=True)
class _Sight:
    """What a lookup saw before the model was asked; ``update`` learns from it."""

    vector: NDArray[np.float32] | None = None
    neighbours: list[Neighbour] = field(default_factory=list)
    features: NDArray[np.float64] | None = None
    """Set when the nearest stored answer was in question."""
    reason: str = ""
    """Why it was a miss."""


@dataclass(frozen=True, slots=True)
class _Import:
    """One of many answers that are stored at once."""

    question: Question
    packed: bytes
    tokens: int
    said: str
    """The answer but for spelling marks: those that say the same are one answer."""


class SemanticCache(BaseCache):
    """Answer a request from an earlier one that asks the same.

    Two requests can share an answer when everything but the last user turn is equal (model
    settings, tools, response schema, system text, history, user) and the last user turns ask the
    same: to the letter, but for spelling marks, or, by embedding, guards and evidence, in other
    words. Wrong answers per request stay within *max_wrong_per_request*: see ``decision.py`` for
    what exactly is promised.

    Use it as LangChain's cache (``set_llm_cache(cache)``, ``ChatOpenAI(cache=cache)``) or as a
    stage, ``optimize(model, cache)``; as a stage it serves streams too.

    Args:
        path: SQLite file; ``None`` keeps everything in memory.
        embeddings: Turns a question into a vector. Defaults to the local MiniLM model. It is not
            called before the first lookup.
        namespace: Requests of different namespaces never share answers.
        max_wrong_per_request: From 0 to 1.
        min_similarity: A cosine from 0 to 1 that replaces the decision by evidence: whatever is at
            least this near and passes the guards is served.
        context: How much of the conversation before the question must be equal: all of it
            (``exact``), the system text and the last two turns (``last_turns``), or the system
            text alone (``ignore``).
        max_entries: How many answers are kept.
        max_bytes: How many bytes of questions, vectors and answers are kept.
        ttl: Seconds after which an answer is not served any more.
        sliding_ttl: Count *ttl* from the last hit instead of from the day it was stored.
        eviction: Who leaves when the cache is full: see ``eviction.py``.
        same_answer: Says whether two answers (as texts) say the same; replaces the default, which
            compares words, numbers and embeddings.
        cache_tool_calls: Keep answers that call tools, too.
        sinks: Told of each hit as a :class:`Saving`.
        seed: Makes the audits repeatable.
        guards: Names of the guards to apply (``guards.GUARDS``); ``None`` for all.
        skip: Kinds of requests that are never cached: ``personal`` (the asker's own records),
            ``now`` (the present moment), ``action`` (something is to be done).
        require_scope: Serve and store only for requests that say whose they are: inside
            :meth:`scope`, or with ``user_id`` or ``tenant_id`` in their metadata.
        audit_share: Share of hits that are asked anyway, to see whether they were right.
        flight_seconds: How long a request waits for an identical one that is being answered.
        embed_seconds: How long a foreign embedder may take before the request goes on without it.
        clock: Returns the time in seconds since the epoch.

    Raises:
        EmbedderUnavailableError: If no *embeddings* are given and the extra ``local`` is missing.
        CacheFileError: If *path* cannot be used with these settings.
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

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        embeddings: Embeddings | None = None,
        namespace: str = "default",
        max_wrong_per_request: float = 0.01,
        min_similarity: float | None = None,
        context: Context = "exact",
        max_entries: int = 100_000,
        max_bytes: int | None = None,
        ttl: float | None = None,
        sliding_ttl: bool = False,
        eviction: Eviction = "adaptive",
        same_answer: Callable[[str, str], bool] | None = None,
        cache_tool_calls: bool = False,
        sinks: Iterable[UsageSink] = (),
        seed: int | None = None,
        guards: Iterable[str] | None = None,
        skip: Iterable[str] = (),
        require_scope: bool = False,
        audit_share: float = 0.02,
        flight_seconds: float = 20.0,
        embed_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if min_similarity is not None and not 0.0 <= min_similarity <= 1.0:
            raise ValueError(f"min_similarity must be from 0 to 1, got {min_similarity}")
        if context not in ("exact", "last_turns", "ignore"):
            raise ValueError(f"context must be exact, last_turns or ignore; got {context!r}")
        for name, value in (("max_entries", max_entries), ("max_bytes", max_bytes), ("ttl", ttl)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        self.namespace = namespace
        self.min_similarity = min_similarity
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.ttl = ttl
        self.sliding_ttl = sliding_ttl
        self.cache_tool_calls = cache_tool_calls
        self.require_scope = require_scope
        self._context: Context = context
        self._clock = clock
        self._sinks = tuple(sinks)
        self._same_answer = same_answer
        chosen = guard_names(guards, among=GUARDS)
        self._vetoes = tuple(name for name in chosen if name in VETOES)
        self._doubts = tuple(name for name in chosen if name in DOUBTS)
        self._skip = _skips_named(skip)
        self._embedder = GuardedEmbedder(embeddings or LocalEmbeddings(), embed_seconds)
        self._decision = Decision(
            max_wrong_per_request=max_wrong_per_request,
            audit_share=audit_share,
            rng=random.Random(seed),
        )
        self._eviction: Eviction = eviction
        self._flight_seconds = flight_seconds
        self._flights = Flights(flight_seconds)
        self._no_writing_before = 0.0
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._misses: Counter[str] = Counter()
        self._not_stored: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._pending: OrderedDict[bytes, _Sight] = OrderedDict()
        self._served: OrderedDict[int, NDArray[np.float64]] = OrderedDict()
        self._unwritten_hits: Counter[int] = Counter()
        self._unwritten_labels = 0
        self._forget_entries()
        self._store = CacheStore(path, embedder=embedder_fingerprint(self._embedder.embeddings))
        with self._lock:
            try:
                self._load()
            except sqlite3.DatabaseError as error:
                self._store.start_anew(error)
                self._forget_entries()
                self._load()
        _FORKABLE.add(self)

    def _load(self) -> None:
        self._refresh()
        self._decision.restore(self._store.evidence())

    def _after_fork(self) -> None:
        """Start anew in a child process: another thread may have held the lock, for ever now."""
        self._lock = threading.RLock()
        self._flights = Flights(self._flight_seconds)
        if self._store.path is not None:
            self._store.rewind()
            self._forget_entries()

    def _forget_entries(self) -> None:
        self._entries = Entries(policy_named(self._eviction, self.max_entries))
        self._decoded: OrderedDict[int, list[Generation]] = OrderedDict()
        self._answer_vectors: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._answer_words = AnswerWords()

    # --- LangChain's interface

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Return the answers to a request, or ``None``. Never raises."""
        question = self._question(prompt, llm_string, self._labels())
        if question is None:
            return None
        found, _ = self._find(question)
        return self._told(found)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Like :meth:`lookup`; an exact hit needs no thread, and nobody waits in one."""
        question = self._question(prompt, llm_string, self._labels())
        if question is None:
            return None
        found, _ = await self._afind(question)
        return self._told(found)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Store the answers to a request. Never raises."""
        question = self._question(prompt, llm_string, self._labels(), counted=False)
        if question is not None:
            self._update(question, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Like :meth:`update`, in another thread."""
        question = self._question(prompt, llm_string, self._labels(), counted=False)
        if question is not None:
            await run_in_executor(None, self._update, question, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Delete all answers and all evidence; keyword arguments are ignored.

        Raises:
            CacheFileError: If the file is locked, or its disk is full.
        """
        del kwargs
        with self._lock, self._named():
            self._store.clear()
            self._store.changes()
            self._forget_entries()
            self._pending.clear()
            self._served.clear()
            self._unwritten_hits.clear()
            self._unwritten_labels = 0
            self._decision.forget()
        self._flights.end_all()

    # --- the stage

    def open(self, request: ModelRequest) -> StageCall | None:
        """Look a request up: a hit is the whole trip, a miss stores the answer when it comes."""
        question = self._asked(request)
        if question is None:
            return None
        found, claim = self._find(question, waits=not request.observe)
        return self._trip(request, question, found, claim)

    async def aopen(self, request: ModelRequest) -> StageCall | None:
        """Like :meth:`open`, without holding a thread while an equal request is answered."""
        question = self._asked(request)
        if question is None:
            return None
        found, claim = await self._afind(question, waits=not request.observe)
        return self._trip(request, question, found, claim)

    def _asked(self, request: ModelRequest) -> Question | None:
        """Read a request of the seam, where the keys that the model calls with can be seen."""
        prompt, llm_string = request.cache_key()
        llm_string += credentials_of(request.model)
        return self._question(prompt, llm_string, self._labels(request.run.metadata))

    def _trip(
        self,
        request: ModelRequest,
        question: Question,
        found: list[Generation] | None,
        claim: Claim | None,
    ) -> StageCall:
        if not found:
            return _Miss(self, request, question, claim)
        self._told(found, observed=request.observe)
        answer = Answer(
            ChatResult(generations=[_as_chat(generation) for generation in found]),
            storable=False,
            from_cache=True,
        )
        saved = usage_of(answer, request)
        if request.observe:
            before = saved.total_tokens
            request.run.savings.append(
                Saving(stage=self.name, tokens_before=before, tokens_after=0, observed=True)
            )
            return StageCall(request)
        request.run.stages.append(self.name)
        request.run.answered_by, request.run.saved_usage = self.name, saved
        return StageCall(request, answer)

    # --- scopes

    @contextmanager
    def scope(self, user: str | None = None, **labels: str) -> Iterator[None]:
        """Keep what is asked inside apart from what other users or tenants ask.

        Works in threads and tasks that copy the context, as LangChain's do. Scopes nest.

        Example:
            >>> from langchain_core.embeddings import DeterministicFakeEmbedding
            >>> cache = SemanticCache(embeddings=DeterministicFakeEmbedding(size=8))
            >>> with cache.scope(user="ann"):
            ...     cache.update("What do I owe?", "fake", [Generation(text="12")])
            >>> with cache.scope(user="bob"):
            ...     cache.lookup("What do I owe?", "fake")
        """
        named = labels if user is None else {"user": user, **labels}
        own = {name: str(value) for name, value in named.items()}
        token = _LABELS.set(tuple(sorted({**dict(_LABELS.get()), **own}.items())))
        try:
            yield
        finally:
            _LABELS.reset(token)

    def _labels(self, metadata: Any = None) -> Labels:
        if metadata is None:
            config = var_child_runnable_config.get()
            metadata = config.get("metadata") if config else None
        if not metadata:
            return _LABELS.get()
        return tuple(sorted({**dict(labels_in(metadata)), **dict(_LABELS.get())}.items()))

    # --- looking up

    def _question(
        self, prompt: str, llm_string: str, labels: Labels, *, counted: bool = True
    ) -> Question | None:
        """Read a request; ``None``, and counted, when it cannot be told from others."""
        try:
            if self.require_scope and not _says_whose(labels):
                reason = "no scope"
            else:
                return question_of(prompt, llm_string, self.namespace, labels, self._context)
        except UnkeyableError as error:
            reason = "unkeyable"
            self._warn(reason, f"A request is not cached: {error}")
        # Prompts and settings are foreign text, and JSON can be nested deeper than Python allows.
        except Exception as error:  # noqa: BLE001
            reason = "unreadable"
            self._warn(reason, f"A request cannot be read ({type(error).__name__}: {error}).")
        if counted:
            self._count_miss(reason)
        return None

    def _find(
        self, question: Question, *, waits: bool = True
    ) -> tuple[list[Generation] | None, Claim | None]:
        """Return the answers; or a claim to make them, when it is this request's turn."""
        found, claim = self._shielded(self._known, question), None
        if found is None and waits:
            claim = self._flights.begin(question.exact)
            found = self._shielded(self._held, question)
        if found is None:
            found = self._shielded(self._like, question)
        if found is not None and claim is not None:
            self._flights.end(question.exact)
        return found, claim

    async def _afind(
        self, question: Question, *, waits: bool = True
    ) -> tuple[list[Generation] | None, Claim | None]:
        """Like :meth:`_find`; only what embeds needs a thread."""
        found, claim = self._shielded(self._known, question), None
        if found is None and waits:
            claim = await self._flights.abegin(question.exact)
            found = self._shielded(self._held, question)
        if found is None:
            found = await run_in_executor(None, self._shielded, self._like, question)
        if found is not None and claim is not None:
            self._flights.end(question.exact)
        return found, claim

    def _told(
        self, found: list[Generation] | None, *, observed: bool = False
    ) -> list[Generation] | None:
        """Tell the sinks of a hit; one that fails does not cost the hit."""
        for sink in self._sinks if found else ():
            tokens = _tokens_of(found or ())
            try:
                sink.record(
                    Saving(stage=self.name, tokens_before=tokens, tokens_after=0, observed=observed)
                )
            except Exception as error:  # noqa: BLE001  sinks are the caller's code
                self._warn("sink", f"A sink failed: {type(error).__name__}: {error}.")
        return found

    def _known(self, question: Question) -> list[Generation] | None:
        """Return the answers to the same request, to the letter or but for spelling marks."""
        with self._lock:
            self._refresh()
            return self._held(question)

    def _held(self, question: Question) -> list[Generation] | None:
        """Like :meth:`_known`, without a look at what other processes have written."""
        with self._lock:
            for tier, found in (
                ("exact", self._entries.by_exact.get(question.exact)),
                ("normalised", self._entries.by_near.get(question.near)),
            ):
                if found is not None and self._is_alive(found):
                    answers = self._answers(found)
                    if answers is not None:
                        self._counts["requests"] += 1
                        self._decision.count()
                        return self._serve(found, answers, tier)
        return None

    def _like(self, question: Question) -> list[Generation] | None:
        """Return the answers to a request that asks the same in other words."""
        sight = self._look(question)
        with self._lock:
            self._counts["requests"] += 1
            if sight.features is None:
                self._decision.count()
            elif self.min_similarity is not None:
                if sight.neighbours[0].cosine >= self.min_similarity:
                    return self._served_as(sight)
                sight.reason = "below min_similarity"
            else:
                judgement = self._decision.judge(sight.features)
                if judgement.serve:
                    return self._served_as(sight)
                sight.reason = "audit" if judgement.audit else "below threshold"
            self._misses[sight.reason] += 1
            self._pending[question.exact] = sight
            if len(self._pending) > _PENDING:
                self._pending.popitem(last=False)
        return None

    def _served_as(self, sight: _Sight) -> list[Generation] | None:
        entry = sight.neighbours[0].entry
        answers = self._answers(entry) if self._is_alive(entry) else None
        if answers is None:
            return None
        assert sight.features is not None
        self._served[entry] = sight.features
        if len(self._served) > _SERVED:
            self._served.popitem(last=False)
        return self._serve(entry, answers, "semantic")

    def _look(self, question: Question) -> _Sight:
        """Find the neighbours of a question and what speaks for the nearest."""
        if question.text is None:
            return _Sight(reason=question.why_exact)
        for kind, applies in self._skip.items():
            if applies(question.text):
                return _Sight(reason=f"skipped: {kind}")
        if not self._embedder.fits(question.text):
            return _Sight(reason="longer than the embedder reads")
        vector = self._embedder.vector(question.text)
        with self._lock:
            neighbours = self._neighbours(question.scope, vector)
            stored = self._entries[neighbours[0].entry].question if neighbours else None
        sight = _Sight(vector, neighbours)
        if not neighbours or stored is None:
            sight.reason = "no neighbour"
            return sight
        asked, known = profile_of(question.text), profile_of(stored)
        vetoes = vetoes_between(known, asked, self._vetoes)
        if not vetoes and self.min_similarity is not None:
            vetoes = doubts_between(known, asked, self._doubts)
        if vetoes:
            sight.reason = f"veto: {vetoes[0]}"
            return sight
        with self._lock:
            around = self._around(neighbours)
        sight.features = features_of(neighbours, around, asked, known, self._doubts)
        return sight

    def _neighbours(self, scope: bytes, vector: NDArray[np.float32]) -> list[Neighbour]:
        stored = self._entries.dimension
        if stored is not None and len(vector) != stored:
            raise EmbeddingFailedError(
                f"got a vector of {len(vector)} numbers, the stored ones have {stored}"
            )
        least = MIN_COSINE if self.min_similarity is None else self.min_similarity
        return self._entries.near_to(vector, scope, self._clock(), min(MIN_COSINE, least))

    def _around(self, neighbours: Sequence[Neighbour]) -> list[Neighbour]:
        """Return the neighbours of the nearest stored question, where evidence decides."""
        if not neighbours or self.min_similarity is not None:
            return []
        return self._entries.around(neighbours[0].entry)

    def _is_alive(self, entry: int) -> bool:
        return self._entries.is_alive(entry, self._clock())

    def _answers(self, entry: int) -> list[Generation] | None:
        """Return the stored answers; ``None``, and the entry is dropped, if they are gone."""
        answers = self._decoded.get(entry)
        if answers is not None:
            self._decoded.move_to_end(entry)
            return answers
        try:
            answers = self._store.answers(entry)
        except sqlite3.OperationalError:  # locked, perhaps: the entry is not to blame
            raise
        except sqlite3.DatabaseError:
            self._leave_out(entry)
            raise
        if answers is None:
            self._leave_out(entry)
            self._beside(self._store.remove, [entry])
            return None
        self._remember_decoded(entry, answers)
        return answers

    def _remember_decoded(self, entry: int, answers: list[Generation]) -> None:
        self._decoded[entry] = answers
        if len(self._decoded) > _DECODED:
            self._decoded.popitem(last=False)

    def _serve(self, entry: int, answers: list[Generation], tier: str) -> list[Generation]:
        """Count a hit and return fresh copies."""
        known = self._entries[entry]
        known.hits += 1
        self._entries.policy.touch(known.exact)
        self._counts[f"{tier}_hits"] += 1
        self._counts["saved_tokens"] += known.tokens
        self._unwritten_hits[entry] += 1
        if self.ttl is not None and self.sliding_ttl:
            self._extend(entry, self.ttl)
        if self._unwritten_hits.total() >= _HITS_PER_WRITE:
            self._beside(self._write_hits)
        return [_fresh_copy(answer, entry) for answer in answers]

    def _extend(self, entry: int, ttl: float) -> None:
        expires = self._clock() + ttl
        self._entries.prolong(entry, expires)
        self._beside(self._store.extend_expiry, entry, expires)

    # --- storing

    def _update(self, question: Question, answers: Sequence[Generation]) -> None:
        try:
            self._shielded(self._keep, question, list(answers))
        finally:
            self._flights.end(question.exact)

    def _abandon(self, question: Question, claim: Claim | None) -> None:
        """Take note that no answer will come, so that nobody waits for it."""
        self._pending.pop(question.exact, None)
        self._flights.give_up(question.exact, claim)

    def _keep(self, question: Question, answers: list[Generation]) -> None:
        if time.monotonic() < self._no_writing_before:
            self._count_not_stored("file failed")
            return
        packed = self._packed(question, answers)
        if packed is None:
            return
        with self._lock:
            sight = self._pending.pop(question.exact, None)
        try:
            sight = sight or self._look(question)
        except EmbeddingFailedError as error:
            self._warn("embedder", f"The embedder failed: {error}. Answers are kept without it.")
            sight = _Sight()
        agreeing = self._agreeing(sight, answers)
        with self._writing():
            self._answer_words.count(text_of_answers(answers))
            self._learn(sight, agreeing)
            self._unite(agreeing)
            same = agreeing[0] if agreeing else None
            self._insert(question, sight.vector, packed, answers, same)

    def _packed(self, question: Question, answers: Sequence[Generation]) -> bytes | None:
        """Return answers as they are stored; ``None``, and counted, if they are not to be."""
        reason = why_not_stored(answers, tool_calls=self.cache_tool_calls)
        if not reason and question.text is not None:
            reason = next((k for k, applies in self._skip.items() if applies(question.text)), "")
        if not reason:
            try:
                return pack(answers)
            # What providers and callers put into messages is foreign: anything may refuse.
            except Exception as error:  # noqa: BLE001
                reason = "not serialisable"
                self._warn(reason, f"An answer is not cached: {type(error).__name__}: {error}.")
        self._count_not_stored(reason)
        return None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Change file and memory together: if the file refuses, memory follows it."""
        with self._lock:
            began, has_begun = time.monotonic(), False
            try:
                with self._store.transaction():
                    has_begun = True
                    yield
            except BaseException as error:
                if has_begun:
                    self._reload()
                if isinstance(error, sqlite3.Error):
                    self._rest(time.monotonic() - began)
                raise

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what SQLite says into an error that says what to do, where a caller is waiting."""
        try:
            yield
        except sqlite3.Error as error:
            raise CacheFileError(
                f"The cache file {self._store.path} could not be changed: {error}. Nothing was "
                f"changed; try again when it is neither locked nor its disk full."
            ) from error

    def _beside(self, write: Callable[..., None], *args: Any) -> None:
        """Write what an answer does not depend on; a file that fails does not cost a hit."""
        if time.monotonic() < self._no_writing_before:
            return
        began = time.monotonic()
        try:
            write(*args)
        except sqlite3.Error as error:
            self._rest(time.monotonic() - began)
            self._warn("file", f"The cache file failed: {error}. Counts are not written.")

    def _rest(self, took: float) -> None:
        """Do not write for a while.

        Nobody is answered while a write waits for another process, or while memory is made to
        follow a full disk; so that at most a twentieth of the time is spent on it.
        """
        pause = max(_RESTING_SECONDS, _RESTING_FACTOR * took)
        self._no_writing_before = time.monotonic() + pause

    def _agreeing(self, sight: _Sight, answers: list[Generation]) -> list[int]:
        """Return the numbers of the neighbours' answers that say the same, nearest first."""
        compared: Counter[int] = Counter()
        agreeing: list[int] = []
        text = text_of_answers(answers)
        vector: list[NDArray[np.float32]] = []
        for neighbour in sight.neighbours:
            if neighbour.cosine < SAME_ANSWER_COSINE and compared:
                break
            number = self._entries.numbers.of(neighbour.answer)
            if compared[number] == _WORDINGS or number in agreeing:
                continue
            compared[number] += 1
            if len(compared) > _ANSWERS_COMPARED:
                break
            if self._says_the_same(neighbour.entry, text, vector):
                agreeing.append(number)
        return agreeing

    def _unite(self, agreeing: Sequence[int]) -> None:
        """Take answers for one that a new wording has matched; inside a transaction."""
        for other in agreeing[1:]:
            self._entries.numbers.unite(agreeing[0], other)
            self._store.unite_answers(agreeing[0], other)

    def _says_the_same(self, entry: int, text: str, vector: list[NDArray[np.float32]]) -> bool:
        with self._lock:
            stored = self._answers(entry) if entry in self._entries else None
        if stored is None:
            return False
        other = text_of_answers(stored)
        if self._same_answer is not None:
            return bool(self._same_answer(other, text))
        differ = differ_in_words(other, text)
        if differ is not None:
            return not differ
        try:
            if not vector:
                vector.append(self._answer_vector(text))
            known = self._answer_vectors.get(entry)
            if known is None:
                known = self._answer_vectors[entry] = self._answer_vector(other)
                if len(self._answer_vectors) > _ANSWER_VECTORS:
                    self._answer_vectors.popitem(last=False)
        except EmbeddingFailedError:
            return False
        with self._lock:
            return self._answer_words.are_wordings_of_one(other, text, float(known @ vector[0]))

    def _answer_vector(self, text: str) -> NDArray[np.float32]:
        mean = np.mean([self._embedder.vector(piece) for piece in pieces_of(text)], axis=0)
        vector: NDArray[np.float32] = mean / np.linalg.norm(mean)
        return vector

    def _learn(self, sight: _Sight, agreeing: Sequence[int]) -> None:
        """Take in whether the nearest stored answer would have been right."""
        if sight.features is None or not sight.reason or self.min_similarity is not None:
            return
        right = self._entries.numbers.of(sight.neighbours[0].answer) in agreeing
        self._counts["checked"] += 1
        self._counts["checked_wrong"] += not right
        self._decision.learn(sight.features, right, audit=sight.reason == "audit")
        self._unwritten_labels += 1
        if self._unwritten_labels >= _LABELS_PER_WRITE:
            self._write_labels()

    def _insert(
        self,
        question: Question,
        vector: NDArray[np.float32] | None,
        packed: bytes,
        answers: list[Generation],
        same: int | None,
    ) -> None:
        """Write an entry, and let others go for it. Inside a transaction."""
        self._refresh()
        now = self._clock()
        self._drop_expired(now)
        earlier = self._entries.by_exact.get(question.exact)
        if earlier is not None:
            self._drop(earlier)
        row = self._store.add(
            exact=question.exact,
            scope=question.scope,
            question=question.text,
            vector=None if vector is None else vector.astype("<f2").tobytes(),
            answers=packed,
            agrees_with=same,
            tokens=_tokens_of(answers),
            created=now,
            expires=None if self.ttl is None else now + self.ttl,
        )
        self._entries.take_in([row], {question.exact: question.near})
        self._make_room()

    def _make_room(self) -> None:
        while len(self._entries) > self.max_entries or (
            self.max_bytes is not None and self._entries.bytes > self.max_bytes
        ):
            victim = self._entries.victim()
            if victim is None:
                return
            self._counts["evicted"] += 1
            self._drop(victim)

    def _drop_expired(self, now: float) -> None:
        for entry in self._entries.overdue(now):
            if self.sliding_ttl:  # another process may have served it, and so prolonged its life
                expires = self._store.expiry_of(entry.id)
                if expires is not None and expires > now:
                    self._entries.prolong(entry.id, expires)
                    continue
            self._counts["expired"] += 1
            self._drop(entry.id)

    def _drop(self, entry: int) -> None:
        """Delete an entry from the file and from memory."""
        self._store.remove([entry])
        self._leave_out(entry)

    def _leave_out(self, entry: int) -> None:
        self._decoded.pop(entry, None)
        self._answer_vectors.pop(entry, None)
        self._unwritten_hits.pop(entry, None)
        self._entries.leave_out(entry)

    def _refresh(self) -> None:
        """Take in what other processes have written, and at the start everything."""
        changes = self._store.changes()
        if changes is None:
            return
        rows, gone = changes
        self._decoded.clear()
        for entry in gone:
            self._leave_out(entry)
        removed = set(gone)
        self._entries.take_in(
            [row for row in rows if row.id not in self._entries and row.id not in removed]
        )

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
            >>> cache = SemanticCache(embeddings=DeterministicFakeEmbedding(size=8))
            >>> cache.update_many([("Where is my PIN?", "fake", [Generation(text="In Settings.")])])
            1
        """
        labels, stored = self._labels(), 0
        waiting: dict[bytes, _Import] = {}
        numbers: dict[tuple[bytes, str], int] = {}
        for prompt, llm_string, answers in items:
            question = self._question(prompt, llm_string, labels, counted=False)
            if question is None:
                self._count_not_stored("no scope" if self.require_scope else "unkeyable")
                continue
            packed = self._packed(question, answers)
            if packed is None:
                continue
            said = normalised(text_of_answers(answers))
            waiting[question.exact] = _Import(question, packed, _tokens_of(answers), said)
            if len(waiting) == batch:
                stored += self._insert_many(list(waiting.values()), numbers)
                waiting = {}
        return stored + (self._insert_many(list(waiting.values()), numbers) if waiting else 0)

    def _insert_many(
        self, waiting: Sequence[_Import], numbers: dict[tuple[bytes, str], int]
    ) -> int:
        """Write a batch; *numbers* remembers which entry said what first, in which scope."""
        texts = {
            item.question.exact: item.question.text
            for item in waiting
            if item.question.text is not None and self._embedder.fits(item.question.text)
        }
        found = self._embedder.vectors(list(texts.values())) if texts else []
        vectors = dict(zip(texts, found, strict=True))
        with self._named(), self._writing():
            self._refresh()
            now = self._clock()
            for item in waiting:
                earlier = self._entries.by_exact.get(item.question.exact)
                if earlier is not None:
                    self._drop(earlier)
            rows = {}
            for item in waiting:
                question = item.question
                vector = vectors.get(question.exact)
                row = rows[question.exact] = self._store.add(
                    exact=question.exact,
                    scope=question.scope,
                    question=question.text,
                    vector=None if vector is None else vector.astype("<f2").tobytes(),
                    answers=item.packed,
                    agrees_with=numbers.get((question.scope, item.said)),
                    tokens=item.tokens,
                    created=now,
                    expires=None if self.ttl is None else now + self.ttl,
                )
                numbers.setdefault((question.scope, item.said), row.id)
            self._entries.take_in(
                list(rows.values()), {i.question.exact: i.question.near for i in waiting}
            )
            self._make_room()
        return len(rows)

    # --- feedback and reports

    def reject(self, served: AIMessage | int) -> bool:
        """Say that a served answer was wrong: it is deleted, and the evidence takes note.

        Args:
            served: A message that came from this cache, or the number of an entry.

        Returns:
            Whether the entry was still there.

        Raises:
            ValueError: If the message did not come from a cache.
            CacheFileError: If the file is locked, or its disk is full.
        """
        entry = _entry_of(served)
        with self._named(), self._writing():
            self._feedback(entry, right=False)
            known = entry in self._entries
            self._drop(entry)
            self._counts["rejected"] += known
        return known

    def confirm(self, served: AIMessage | int) -> bool:
        """Say that a served answer was right; see :meth:`reject`."""
        entry = _entry_of(served)
        with self._named(), self._writing():
            self._feedback(entry, right=True)
            return entry in self._entries

    def _feedback(self, entry: int, *, right: bool) -> None:
        features = self._served.pop(entry, None)
        if features is not None:
            self._counts["checked"] += 1
            self._counts["checked_wrong"] += not right
            self._decision.learn(features, right)
            self._unwritten_labels += 1
            self._write_labels()

    def explain(self, prompt: str, llm_string: str | None = None) -> Explanation:
        """Say why a request would be answered from the cache, or not. Changes nothing.

        Args:
            prompt: As a cache is given it; or, without *llm_string*, a plain question, which is
                then compared with the questions of all scopes.
            llm_string: The model's settings, as a cache is given them.

        Raises:
            EmbeddingFailedError: If the embedder fails.
        """
        with self._lock:
            self._refresh()
        if llm_string is None:
            question = Question(b"", b"", b"", prompt)
            scopes = self._entries.scopes()
        elif self.require_scope and not _says_whose(self._labels()):
            return Explanation(False, "The request is in no scope, and one is required.")
        else:
            try:
                question = question_of(
                    prompt, llm_string, self.namespace, self._labels(), self._context
                )
            except UnkeyableError as error:
                return Explanation(False, str(error))
            for tier, at in (
                (self._entries.by_exact, question.exact),
                (self._entries.by_near, question.near),
            ):
                if at in tier and self._is_alive(tier[at]):
                    how = "the same request" if tier is self._entries.by_exact else "the same words"
                    return Explanation(True, f"Entry {tier[at]} holds {how}.")
            scopes = {question.scope}
        return self._explain(question, scopes)

    def _explain(self, question: Question, scopes: Iterable[bytes]) -> Explanation:
        if question.text is None:
            return Explanation(False, f"Only an equal request could hit: {question.why_exact}.")
        for kind, applies in self._skip.items():
            if applies(question.text):
                return Explanation(False, f"Requests of the kind {kind!r} are skipped.")
        if not self._embedder.fits(question.text):
            return Explanation(False, "The question is longer than the embedder reads.")
        vector = self._embedder.vector(question.text)
        asked = profile_of(question.text)
        with self._lock:
            found = [self._neighbours(scope, vector) for scope in scopes]
            neighbours = max(found, key=lambda n: n[0].cosine if n else 0.0, default=[])
            around = self._around(neighbours)
            candidates = tuple(
                self._candidate(n.entry, n.cosine, question.text) for n in neighbours[:5]
            )
        if not candidates:
            return Explanation(False, f"No stored question is nearer than cosine {MIN_COSINE}.")
        nearest = candidates[0]
        vetoes = nearest.vetoes
        if self.min_similarity is not None:
            vetoes += nearest.doubts
        if vetoes:
            return Explanation(
                False,
                f"The nearest question differs in: {', '.join(vetoes)}.",
                None,
                None,
                candidates,
            )
        if self.min_similarity is not None:
            hit = nearest.cosine >= self.min_similarity
            why = f"Cosine {nearest.cosine:.3f}, and {self.min_similarity:.3f} is asked for."
            return Explanation(hit, why, None, None, candidates)
        stored = profile_of(nearest.question)
        features = features_of(neighbours, around, asked, stored, self._doubts)
        judged = self._decision.peek(features)
        why = (
            f"The nearest answer is right with probability {judged.probability:.3f}; "
            f"{judged.threshold:.3f} is needed for at most "
            f"{self._decision.max_wrong_per_request:.2%} wrong answers per request."
        )
        return Explanation(judged.serve, why, judged.probability, judged.threshold, candidates)

    def _candidate(self, entry: int, cosine: float, asked: str) -> Candidate:
        question = self._entries[entry].question or ""
        one, other = profile_of(question), profile_of(asked)
        return Candidate(
            entry,
            question,
            cosine,
            tuple(vetoes_between(one, other, self._vetoes)),
            tuple(doubts_between(one, other, self._doubts)),
        )

    def stats(self) -> CacheStats:
        """Return what the cache holds and has done since it was opened."""
        with self._lock:
            self._refresh()
            estimate = self._decision.estimate()
            counts = self._counts
            return CacheStats(
                entries=len(self._entries),
                bytes=self._entries.bytes,
                requests=counts["requests"],
                exact_hits=counts["exact_hits"],
                normalised_hits=counts["normalised_hits"],
                semantic_hits=counts["semantic_hits"],
                saved_tokens=counts["saved_tokens"],
                misses=dict(self._misses.most_common()),
                not_stored=dict(self._not_stored.most_common()),
                checked=counts["checked"],
                checked_wrong=counts["checked_wrong"],
                wrong_per_request=estimate.wrong_per_request,
                wrong_per_request_bound=estimate.bound,
                wrong_per_hit=estimate.wrong_per_hit,
                threshold=estimate.threshold,
                evicted=counts["evicted"],
                expired=counts["expired"],
                rejected=counts["rejected"],
                drifts=self._decision.reopened,
            )

    def top(self, limit: int = 10) -> list[TopEntry]:
        """Return the stored questions that were served most, most served first."""
        with self._lock:
            self._refresh()
            best = heapq.nlargest(limit, self._entries.values(), key=lambda e: (e.hits, -e.id))
            return [
                TopEntry(e.id, e.question or "(exact only)", e.hits, e.hits * e.tokens)
                for e in best
            ]

    def check(self) -> CacheCheck:
        """Read every entry; remove those that cannot be read."""
        with self._named(), self._writing():
            damaged = self._store.damaged()
            for entry in damaged:
                self._drop(entry)
            entries, size = self._store.totals()
            return CacheCheck(entries, size, tuple(damaged), self._store.is_sound())

    def close(self) -> None:
        """Write what is counted and close the file. The cache cannot be used afterwards."""
        with self._lock:
            self._shielded(self._write_hits)
            self._shielded(self._write_labels)
            self._store.close()

    def __enter__(self) -> SemanticCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write_hits(self) -> None:
        if self._unwritten_hits:
            with self._store.transaction():
                self._store.count_hits(self._unwritten_hits.items())
            self._unwritten_hits = Counter()

    def _write_labels(self) -> None:
        fresh, self._unwritten_labels = self._unwritten_labels, 0
        if fresh:
            self._store.keep_evidence(self._decision.export(fresh))

    # --- what goes wrong

    def _shielded(self, work: Callable[..., Result], *args: Any) -> Result | None:
        """Do *work*; whatever goes wrong is a miss with one warning, never a failed call."""
        try:
            return work(*args)
        except EmbeddingFailedError as error:
            self._warn("embedder", f"The embedder failed: {error}. The model is asked instead.")
            reason = "embedder failed"
        except sqlite3.Error as error:
            self._warn("file", f"The cache file failed: {error}. The model is asked instead.")
            reason = "file failed"
        # same_answer, sinks and clocks are the caller's code and may raise anything.
        except Exception as error:  # noqa: BLE001
            self._warn(
                type(error).__name__,
                f"The cache failed: {type(error).__name__}: {error}. The model is asked instead.",
            )
            reason = "failed"
        self._count_miss(reason)
        return None

    def _reload(self) -> None:
        """Read the file again."""
        self._forget_entries()
        try:
            self._store.rewind()
            self._refresh()
        except sqlite3.Error:
            self._forget_entries()

    def _count_miss(self, reason: str) -> None:
        with self._lock:
            self._misses[reason] += 1

    def _count_not_stored(self, reason: str) -> None:
        with self._lock:
            self._not_stored[reason] += 1

    def _warn(self, kind: str, text: str) -> None:
        with self._lock:
            is_first = kind not in self._warned
            self._warned.add(kind)
        if is_first:
            warnings.warn(f"{text} This is not mentioned again.", TokenOptWarning, stacklevel=4)


_FORKABLE: weakref.WeakSet[SemanticCache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_FORKABLE):
        cache._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Miss(StageCall):
    """A request that the model answers; keeps the answer when it comes."""

    def __init__(
        self, cache: SemanticCache, request: ModelRequest, question: Question, claim: Claim | None
    ) -> None:
        super().__init__(request)
        self._cache, self._question, self._claim = cache, question, claim

    def close(self, answer: Answer) -> Answer:
        if answer.storable and answer.complete and not answer.from_cache:
            self._cache._update(self._question, answer.result.generations)
        else:
            self._cache._abandon(self._question, self._claim)
        return answer

    def failed(self, error: BaseException) -> None:
        self._cache._abandon(self._question, self._claim)


def _says_whose(labels: Labels) -> bool:
    """Whether there is a label; an empty user name is none."""
    return any(value for _, value in labels)


def _skips_named(kinds: Iterable[str]) -> dict[str, Callable[[str], bool]]:
    chosen = tuple(kinds)
    unknown = sorted(set(chosen) - set(_SKIPS))
    if unknown:
        raise ValueError(f"unknown kinds of requests to skip: {unknown}; there are {list(_SKIPS)}")
    return {kind: _SKIPS[kind] for kind in chosen}


def _tokens_of(answers: Sequence[Generation]) -> int:
    """Return what the answers once cost, as the provider said; else an estimate by characters."""
    message = getattr(answers[0], "message", None)
    usage = getattr(message, "usage_metadata", None)
    if usage and "input_tokens" in usage:
        return Usage.from_metadata(usage).total_tokens
    return max(1, len(text_of_answers(answers)) // 4)


def _entry_of(served: AIMessage | int) -> int:
    if isinstance(served, int):
        return served
    entry = served.response_metadata.get(ENTRY_ID)
    if not isinstance(entry, int):
        raise ValueError(
            "this message was not served by a SemanticCache; give a message that was, or the "
            "number of an entry (see explain() and top())"
        )
    return entry


def _fresh_copy(answer: Generation, entry: int) -> Generation:
    """Copy a stored answer, marked as a hit and without the id of the message it once was."""
    info = CacheHit(_own(answer.generation_info or {}))
    if not isinstance(answer, ChatGeneration):  # text models: LangChain fires no callbacks on hits
        kept = answer.generation_info and info
        return answer.model_copy(update={"generation_info": kept}, deep=True)
    message = answer.message
    changes = {
        "id": None,
        "response_metadata": {**_own(message.response_metadata), ENTRY_ID: entry},
        "additional_kwargs": _own(message.additional_kwargs),
    }
    if isinstance(message, AIMessage):
        changes["usage_metadata"] = _own(message.usage_metadata)
    simple = isinstance(message.content, str) and not getattr(message, "tool_calls", None)
    copied = message.model_copy(update=changes, deep=not simple)
    return answer.model_copy(update={"message": copied, "generation_info": info})


def _own(value: Any) -> Any:
    """Copy dictionaries and lists, however deep: ``copy.deepcopy`` takes eight times as long."""
    if isinstance(value, dict):
        return {name: _own(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_own(inner) for inner in value]
    return value


def _as_chat(answer: Generation) -> ChatGeneration:
    """Return a served answer as the seam needs it; at no cost, as langchain-core does it."""
    if not isinstance(answer, ChatGeneration):
        message = AIMessage(content=answer.text)
        return ChatGeneration(message=message, generation_info=answer.generation_info)
    usage = getattr(answer.message, "usage_metadata", None)
    if not usage:
        return answer
    free = answer.message.model_copy(update={"usage_metadata": {**usage, "total_cost": 0}})
    return answer.model_copy(update={"message": free})
