"""Any LangChain response cache as a stage: it then serves streams too."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from langchain_core.caches import BaseCache
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Phase, StageCall
from langchain_tokenopt.tracking.provider_usage import as_kept, avoided_by

__all__ = ["HostCache"]

Result = TypeVar("Result")


class HostCache:
    """Lets a LangChain ``BaseCache`` answer, streams included."""

    phase = Phase.CACHE
    blocking = True
    fingerprint = ""

    def __init__(self, cache_: BaseCache) -> None:
        self.cache = cache_
        self.name = type(cache_).__name__
        self._has_warned = False

    def open(self, request: ModelRequest) -> StageCall:
        """Look the request up; a hit is the whole trip."""
        prompt, llm_string = request.cache_key()
        result = self._shielded("lookup", self._found, prompt, llm_string)
        if result is None:
            return _Store(self, request, prompt, llm_string)
        saved = avoided_by(Answer(result), request)
        if request.observe:
            saving = Saving(
                stage=self.name, tokens_before=saved.total_tokens, tokens_after=0, observed=True
            )
            request.run.savings.append(saving)
            return StageCall(request)
        request.run.stages.append(self.name)
        request.run.answered_by, request.run.saved_usage = self.name, saved
        return StageCall(request, Answer(result, storable=False, from_cache=True))

    def _found(self, prompt: str, llm_string: str) -> ChatResult | None:
        """Return copies of what the cache has; what is no list of answers is a miss."""
        found = self.cache.lookup(prompt, llm_string)
        if not isinstance(found, Sequence) or not found:
            return None
        return ChatResult(generations=[_fresh_copy(generation) for generation in found])

    def store(self, prompt: str, llm_string: str, result: ChatResult) -> None:
        """Keep a copy: the caller is about to get the original and may change it."""
        self._shielded("update", self._keep, prompt, llm_string, result)

    def _keep(self, prompt: str, llm_string: str, result: ChatResult) -> None:
        kept = [generation.model_copy(deep=True) for generation in result.generations]
        self.cache.update(prompt, llm_string, kept)

    def _shielded(self, name: str, method: Callable[..., Result], *args: Any) -> Result | None:
        try:
            return method(*args)
        except Exception as error:  # noqa: BLE001  a cache is foreign code; the call must go on
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"{self.name}.{name} raised {type(error).__name__}: {error}. "
                    f"The model is asked instead; this is not mentioned again.",
                    TokenOptWarning,
                    stacklevel=2,
                )
            return None


class _Store(StageCall):
    """A cache miss: keeps the answer when it comes."""

    def __init__(
        self, stage: HostCache, request: ModelRequest, prompt: str, llm_string: str
    ) -> None:
        super().__init__(request)
        self._stage, self._key = stage, (prompt, llm_string)

    def close(self, answer: Answer) -> Answer:
        if answer.storable and answer.complete:
            kept = as_kept(answer.result.generations, self.request.run)
            self._stage.store(*self._key, answer.result.model_copy(update={"generations": kept}))
        return answer


def _fresh_copy(generation: Generation) -> ChatGeneration:
    """Make a cached answer safe to hand out.

    Without its old id, which LangGraph would take for an update of the earlier message; and, as
    langchain-core does it, at no cost.
    """
    message = getattr(generation, "message", None)
    if not isinstance(message, AIMessage):
        return ChatGeneration(
            message=AIMessage(content=generation.text), generation_info=generation.generation_info
        )
    usage = message.usage_metadata and {**message.usage_metadata, "total_cost": 0}
    fresh = message.model_copy(update={"id": None, "usage_metadata": usage}, deep=True)
    return ChatGeneration(message=fresh, generation_info=generation.generation_info)
