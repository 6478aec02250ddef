"""What a staged model carries, and how a call of it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_tokenopt.chat_model.current_run import current_run, is_asked_for_whole
from langchain_tokenopt.chat_model.stage_chain import StageChain
from langchain_tokenopt.chat_model.stages import as_stage, with_ambient_stages
from langchain_tokenopt.core.host_compat import PYDANTIC_STATE
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
    origin: Any = None
    """Who has put the stages together, if that can explain them."""

    def __deepcopy__(self, memo: object) -> Seam:
        """Stages are shared by all copies of a model: they hold locks, indexes, accounts."""
        return self


VIEW_SEAM: Final = "_tokenopt_view_seam"
"""Slot in which a view of a model has its seam: all its state is the model's own."""

_NO_STAGES = Seam((), OwnSettings(cache=False, rate_limiter=None), observe=False)
"""Of a model that somebody made anew of a staged class: LangChain does for it what it would."""


def seam_of(model: BaseChatModel) -> Seam:
    """Return what a staged *model* carries."""
    return given_seam(model) or _NO_STAGES


def given_seam(model: BaseChatModel) -> Seam | None:
    """Return what ``optimize`` gave to *model*, if it did; a bare model only shares its state."""
    if not is_staged_class(type(model)):
        return None
    if VIEW_SEAM in type(model).__dict__:
        return cast("Seam", getattr(model, VIEW_SEAM))
    private: dict[str, Any] = model.__pydantic_private__ or {}
    seam: Seam | None = private.get("_tokenopt_seam")
    return seam


def is_staged_class(cls: type[BaseChatModel]) -> bool:
    """Whether *cls* was made by ``optimize``."""
    return "_tokenopt_seam" in cls.__private_attributes__


def bare_model(staged: BaseChatModel) -> BaseChatModel:
    """Return the model without stages; it shares the state of *staged*, changes included."""
    base = type(staged).__bases__[0]
    bare: BaseChatModel = object.__new__(base)
    for slot in PYDANTIC_STATE:
        object.__setattr__(bare, slot, getattr(staged, slot))
    return bare


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
    seam, disabled = seam_of(model), is_disabled()
    run = current_run(messages, run_manager)
    stages = () if disabled else with_ambient_stages(seam.stages)
    replaced, host_cache = False, None
    if not seam.observe:
        replaced = any(stage.phase == Phase.CACHE for stage in stages)
    changes_nothing = seam.observe or disabled
    if not replaced and not (changes_nothing and streaming and not is_asked_for_whole(run)):
        host_cache = seam.own.host_cache()  # LangChain itself gives streams no cache
    is_keyed = (replaced or host_cache is not None) and not seam.observe
    fingerprint = _fingerprint(stages) if is_keyed else ""
    request = ModelRequest(
        model=bare_model(model),
        messages=messages,
        stop=stop,
        kwargs=kwargs,
        run=run,
        streaming=streaming,
        observe=seam.observe,
        fingerprint=fingerprint,
    )
    limiter = seam.own.rate_limiter
    if host_cache is None:
        return StageChain(stages, request, rate_limiter=limiter)
    cache_stage = as_stage(host_cache)
    return StageChain((cache_stage, *stages), request, cache_stage, limiter)


def _fingerprint(stages: tuple[Stage, ...]) -> str:
    """Name the stages that change what a cache further out would keep; only caches ask."""
    named = (stage.fingerprint for stage in stages if stage.phase != Phase.CACHE)
    return "|".join(name for name in named if name)
