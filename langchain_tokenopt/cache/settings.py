"""What is rarely changed about a cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from langchain_tokenopt.cache.conversation import Context
from langchain_tokenopt.cache.guards import DOUBTS, REQUEST_KINDS, VETOES, check_guard_names

__all__ = ["CacheSettings"]

_ALL_GUARDS: Final = (*VETOES, *DOUBTS)


def _check_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(kinds) - set(REQUEST_KINDS))
    if unknown:
        raise ValueError(
            f"unknown kinds of requests to skip: {unknown}; there are {list(REQUEST_KINDS)}"
        )
    return kinds


class CacheSettings(BaseModel):
    """What is rarely changed about a :class:`~langchain_tokenopt.SemanticCache`.

    Example:
        >>> CacheSettings(skip=["weather"])
        Traceback (most recent call last):
        ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheSettings
        skip
          Value error, unknown kinds of requests to skip: ['weather']; there are ...
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str = "default"
    """Requests of different namespaces never share answers."""
    context: Context = "exact"
    """How much of the conversation before the question must be equal: all of it (``exact``), the
    system text and the last two turns (``last_turns``), or the system text alone (``ignore``)."""
    max_bytes: Annotated[int, Field(gt=0)] | None = None
    """How many bytes of questions, vectors and answers are kept."""
    extend_ttl_on_hit: bool = False
    """Count ``ttl_seconds`` from the last hit instead of from when the answer was stored."""
    cache_tool_calls: bool = False
    """Keep answers that call tools, too. Structures are always kept, also where the model gives
    them as calls of the one tool that it must call."""
    same_answer: Callable[[str, str], bool] | None = None
    """Says whether two answers (as texts) say the same; replaces the default, which compares words,
    numbers and embeddings."""
    guards: Annotated[tuple[str, ...], AfterValidator(check_guard_names)] = _ALL_GUARDS
    """Names of the guards to apply: see ``guards/``."""
    skip: Annotated[tuple[str, ...], AfterValidator(_check_kinds)] = ()
    """Kinds of requests that are never cached: ``personal`` (the asker's own records), ``now`` (the
    present moment), ``action`` (something is to be done)."""
    audit_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of hits that are asked anyway, to see whether they were right."""
    seed: int | None = None
    """Makes the audits repeatable."""
    wait_seconds: Annotated[float, Field(ge=0)] = 20.0
    """How long a request waits for an identical one that is being answered."""
    embedding_seconds: Annotated[float, Field(gt=0)] = 10.0
    """How long a foreign embedder may take before the request goes on without it."""
    clock: Callable[[], float] = time.time
    """Returns the time in seconds since the epoch."""

    @property
    def vetoes(self) -> tuple[str, ...]:
        """Those of :attr:`guards` that forbid a hit."""
        return tuple(name for name in self.guards if name in VETOES)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Those of :attr:`guards` that make a hit less probable."""
        return tuple(name for name in self.guards if name in DOUBTS)

    def skipped_kind(self, text: str) -> str | None:
        """Return the first kind of :attr:`skip` that a question is of."""
        return next((kind for kind in self.skip if REQUEST_KINDS[kind](text)), None)
