"""What a staged model carries, and how a call of it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_tokenopt.chat_model.current_run import current_run
from langchain_tokenopt.chat_model.stage_chain import StageChain
from langchain_tokenopt.chat_model.stages import as_stage, with_ambient_stages
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, Stage, is_disabled

__all__ = ["Seam", "bare_model", "begin"]


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What a staged model hides from LangChain, which would act on it outside of the stages."""

    cache: BaseCache | bool | None
    rate_limiter: BaseRateLimiter | None
    """Waited for only when the model is really asked, not for answers from a cache."""

    def host_cache(self) -> BaseCache | None:
        """The cache that LangChain would consult, by the rules of ``BaseLanguageModel.cache``."""
        if isinstance(self.cache, BaseCache):
            return self.cache
        if self.cache is False:
            return None
        cache_ = get_llm_cache()
        if self.cache and cache_ is None:
            raise ValueError("The model has cache=True but there is none: call set_llm_cache(...).")
        return cache_


@dataclass(frozen=True, slots=True)
class Seam:
    """What a staged model carries."""

    stages: tuple[Stage, ...]
    own: OwnSettings
    observe: bool

    def __deepcopy__(self, memo: object) -> Seam:
        """Stages are shared by all copies of a model: they hold locks, indexes, accounts."""
        return self


def bare_model(staged: BaseChatModel) -> BaseChatModel:
    """Return the model without stages; it shares the state of *staged*, changes included."""
    base = type(staged).__bases__[0]
    bare: BaseChatModel = object.__new__(base)
    for slot in _PYDANTIC_STATE:
        object.__setattr__(bare, slot, getattr(staged, slot))
    return bare


_PYDANTIC_STATE = (
    "__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"
)  # fmt: skip


def begin(
    model: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None,
    kwargs: dict[str, Any],
    run_manager: Any,
    *,
    streaming: bool,
) -> StageChain:
    """Collect what holds for a call made now: stages, cache, who calls."""
    seam: Seam = model._tokenopt_seam  # type: ignore[attr-defined]
    stages = () if is_disabled() else with_ambient_stages(seam.stages)
    request = ModelRequest(
        model=bare_model(model),
        messages=messages,
        stop=stop,
        kwargs=kwargs,
        run=current_run(messages, run_manager),
        streaming=streaming,
        observe=seam.observe,
        fingerprint=""
        if seam.observe
        else "|".join(stage.fingerprint for stage in stages if stage.phase != Phase.CACHE),
    )
    limiter = seam.own.rate_limiter
    replaced = not seam.observe and any(stage.phase == Phase.CACHE for stage in stages)
    host_cache = None if replaced else seam.own.host_cache()
    if host_cache is None:
        return StageChain(stages, request, rate_limiter=limiter)
    cache_stage = as_stage(host_cache)
    return StageChain((cache_stage, *stages), request, cache_stage, limiter)
