"""The seam: stages around any chat model, which keeps its own class and all its methods.

``optimize`` makes a copy of the model whose class is a subclass of the model's own, made at run
time. It overrides only those of ``_generate``, ``_agenerate``, ``_stream`` and ``_astream`` that
the class defines, so whatever LangChain decides by looking at them stays as it was. Inside, the
model without stages (the *bare* model, which shares all state) is asked.

LangChain consults response caches outside of ``_generate``. Left on, that would keep answers that
stages have cut and serve them to the model without stages. So the copy has ``cache=False`` and the
seam asks the cache itself, outermost, which gives streams a cache too.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from inspect import signature
from itertools import pairwise
from typing import Any, Literal, TypeVar, cast
from uuid import UUID, uuid4

from langchain_core.caches import BaseCache
from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    BaseCallbackManager,
    CallbackManagerForLLMRun,
    Callbacks,
)
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import ensure_config, run_in_executor
from pydantic import PrivateAttr

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.chat_model.budget_tools import budget_stage, with_tools
from langchain_tokenopt.chat_model.host_cache import HostCache
from langchain_tokenopt.chat_model.stage_chain import StageChain, Step
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.messages import as_chunk
from langchain_tokenopt.core.runs import StagedRun, publish_run, published_run, withdraw_run
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import AMBIENT, Phase, Stage, is_disabled

__all__ = ["Level", "optimize", "stages_of"]

Model = TypeVar("Model", bound=Runnable[Any, Any])
Level = Literal["none", "balanced", "aggressive", "maximum"]

_ALONE = (Phase.CACHE, Phase.ROUTE, Phase.BUDGET)
"""Phases in which there is room for one stage."""


def optimize(
    model: Model,
    *stages: Stage | BudgetPlan | BaseCache,
    level: Level | None = None,
    observe: bool = False,
) -> Model:
    """Return a copy of *model* whose calls go through *stages*.

    The copy is an instance of the model's own class: ``bind_tools``, ``with_structured_output``,
    ``with_retry``, streaming and tracing work as before, in any chain or graph. The original is
    untouched. Stages run in the order of their phases, whatever order they are given in.

    Args:
        model: A chat model, a binding of one (``model.bind(...)``, ``with_config``, ``with_retry``)
            or an ``init_chat_model`` model with configurable fields.
        stages: Stages, a ``BudgetPlan``, or any LangChain ``BaseCache``, which then also serves
            streams. Without a cache here, the model's own or the global one is used as LangChain
            would.
        level: A preset instead of, or besides, stages of your own: see :func:`stages_of`.
        observe: Change nothing; record what each stage would have saved.

    Raises:
        TypeError: If *model* is none of those, or a stage is no stage.
        ValueError: If stages contradict each other: two caches, the same kind twice.

    Example:
        >>> from langchain_core.caches import InMemoryCache
        >>> from langchain_core.language_models import FakeListChatModel
        >>> model = optimize(FakeListChatModel(responses=["one", "two"]), InMemoryCache())
        >>> [model.invoke("How many?").content for _ in range(2)]
        ['one', 'one']
    """
    added = tuple(_as_stage(stage) for stage in (*stages, *stages_of(level or "none")))
    staged: Model = _staged(model, added, observe)
    return staged


def stages_of(level: Level) -> list[Stage]:
    """Return the stages of a preset, to print, change and pass to :func:`optimize`.

    ``none`` keeps everything; ``balanced``, ``aggressive`` and ``maximum`` keep 0.7, 0.5 and 0.3 of
    the tokens that can be compressed.

    Raises:
        ValueError: If there is no such level.

    Example:
        >>> stages_of("none")
        []
    """
    levels = ("none", "balanced", "aggressive", "maximum")
    if level not in levels:
        raise ValueError(f"level must be one of {', '.join(levels)}; got {level!r}.")
    if level == "none":
        return []
    from langchain_tokenopt.compress import PromptCompressor

    return [PromptCompressor(level=level)]


def _as_stage(stage: object) -> Stage:
    if isinstance(stage, BudgetPlan):
        return budget_stage(stage)
    if isinstance(stage, BudgetStage):
        return with_tools(stage)
    if isinstance(stage, Stage):
        return stage
    if isinstance(stage, BaseCache):
        return HostCache(stage)
    raise TypeError(
        f"{stage!r} is no stage: it needs phase, blocking, fingerprint and open(request), "
        f"or it must be a LangChain BaseCache."
    )


def _staged(model: Any, stages: tuple[Stage, ...], observe: bool) -> Any:
    """Put *stages* around the chat model inside *model*."""
    if isinstance(model, BaseChatModel):
        return _staged_model(model, stages, observe)
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": _staged(model.bound, stages, observe)})
    if _is_configurable_model(model):
        return _staged_configurable(model, stages, observe)
    raise TypeError(
        f"optimize() needs a chat model, a binding of one, or an init_chat_model(...) model; got "
        f"{type(model).__name__}. In a chain, put it around the model itself: "
        f"prompt | optimize(model, ...) | parser."
    )


# ------------------------------------------------------------------ the model's class, subclassed


@dataclass(frozen=True, slots=True)
class _Seam:
    """What a staged model carries: its stages and the cache setting it had."""

    stages: tuple[Stage, ...]
    cache: BaseCache | bool | None
    observe: bool

    def __deepcopy__(self, memo: object) -> _Seam:
        """Stages are shared by all copies of a model: they hold locks, indexes, accounts."""
        return self

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


def _staged_model(model: BaseChatModel, stages: tuple[Stage, ...], observe: bool) -> BaseChatModel:
    base, setting, callbacks = type(model), model.cache, model.callbacks
    earlier = getattr(model, "_tokenopt_seam", None)
    if isinstance(earlier, _Seam):  # already staged: one seam with all the stages
        base, setting = base.__bases__[0], earlier.cache
        stages, observe = (*earlier.stages, *stages), observe or earlier.observe
    else:
        callbacks = _with_watch(callbacks)
    stages = tuple(sorted(stages, key=lambda stage: stage.phase))
    _refuse_contradictions(stages)
    staged = model.model_copy(update={"cache": False, "callbacks": callbacks})
    seam = _Seam(stages, setting, observe)
    private = {**(staged.__pydantic_private__ or {}), "_tokenopt_seam": seam}
    object.__setattr__(staged, "__class__", _staged_class(base))
    object.__setattr__(staged, "__pydantic_private__", private)
    return staged


def _refuse_contradictions(stages: Sequence[Stage]) -> None:
    for first, second in pairwise(stages):
        if first is second or (type(first) is type(second) and first.phase == second.phase):
            raise ValueError(
                f"optimize() got two stages of the kind {_name(first)}; give one, or combine them."
            )
        if first.phase == second.phase and first.phase in _ALONE:
            raise ValueError(
                f"{_name(first)} and {_name(second)} are both {first.phase.name} stages and would "
                f"contradict each other; give one of them."
            )


def _with_ambient(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Add the stages of the context in which the call is made; the model's own come first."""
    ambient = AMBIENT.get()
    if not ambient:
        return stages
    added = [
        stage
        for stage in map(_as_stage, ambient)
        if not any(
            type(own) is type(stage) or (own.phase == stage.phase and stage.phase in _ALONE)
            for own in stages
        )
    ]
    return tuple(sorted((*stages, *added), key=lambda stage: stage.phase))


def _name(stage: object) -> str:
    return stage.name if isinstance(stage, HostCache) else type(stage).__name__


@cache
def _staged_class(base: type[BaseChatModel]) -> type[BaseChatModel]:
    """Return the subclass of *base* whose calls go through the stages, one per class."""
    body: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__annotations__": {"_tokenopt_seam": Any},
        "_tokenopt_seam": PrivateAttr(default=None),
        "__reduce__": _reduce,
        "_generate": _generate,
    }
    optional = {"_agenerate": _agenerate, "_stream": _stream, "_astream": _astream}
    body |= {
        name: method
        for name, method in optional.items()
        if getattr(base, name) is not getattr(BaseChatModel, name)
    }
    for name in ("_stream_chat_model_events", "_astream_chat_model_events"):
        if getattr(base, name, None) is not None:
            body[name] = None  # LangChain then builds its events from _stream, through the stages
    metaclass: Any = type(base)
    return cast("type[BaseChatModel]", metaclass(base.__name__, (base,), body))


def _reduce(self: BaseChatModel) -> tuple[Any, ...]:
    """Copying protocols cannot look up a class made at run time; make it again instead."""
    seam: _Seam = self._tokenopt_seam  # type: ignore[attr-defined]
    own = self.model_copy(update={"callbacks": _without_watch(self.callbacks), "cache": seam.cache})
    return _staged_model, (_bare(own), seam.stages, seam.observe)


def _bare(staged: BaseChatModel) -> BaseChatModel:
    """Return the model without stages; it shares the state of *staged*, changes included."""
    base = type(staged).__bases__[0]
    bare: BaseChatModel = object.__new__(base)
    for slot in _PYDANTIC_STATE:
        object.__setattr__(bare, slot, getattr(staged, slot))
    return bare


_PYDANTIC_STATE = (
    "__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"
)  # fmt: skip


def _is_configurable_model(model: object) -> bool:
    return hasattr(model, "_queued_declarative_operations") and hasattr(model, "_model")


def _staged_configurable(model: Any, stages: tuple[Stage, ...], observe: bool) -> Any:
    """Stage a model of ``init_chat_model(..., configurable_fields=...)`` each time it is made.

    Such a model builds the real one per call and then repeats the ``bind_tools`` and the like that
    it was asked for, so the stages must go in between.
    """
    base = type(model)

    class Staged(base):  # type: ignore[misc, valid-type]
        def _model(self, config: Any = None) -> Any:
            plain = _copy_as(base, self)
            plain._queued_declarative_operations = []
            built = _staged(base._model(plain, config), stages, observe)
            for name, args, kwargs in self._queued_declarative_operations:
                built = getattr(built, name)(*args, **kwargs)
            return built

        def _again(self, made: Any) -> Any:
            return _staged_configurable(made, stages, observe) if type(made) is base else made

        def __getattr__(self, name: str) -> Any:
            found = base.__getattr__(self, name)
            if not callable(found):
                return found
            return lambda *args, **kwargs: self._again(found(*args, **kwargs))

        def with_config(self, config: Any = None, **kwargs: Any) -> Any:
            return self._again(base.with_config(self, config, **kwargs))

    Staged.__name__, Staged.__qualname__ = base.__name__, base.__qualname__
    Staged.__module__ = base.__module__
    return _copy_as(Staged, model)


def _copy_as(cls: type, source: Any) -> Any:
    """Copy an object whose ``__getattr__`` answers to everything, which the copy module cannot."""
    made: Any = object.__new__(cls)
    made.__dict__.update(source.__dict__)
    return made


# ------------------------------------------------------------------ who is calling


class _RunWatch(BaseCallbackHandler):
    """Tells the seam which run it is in, and publishes what the seam does there until its end.

    LangChain does not hand ``_stream`` a run manager, so neither the run's id nor its metadata can
    be learned there. A handler attached to the model is told both just before.
    """

    run_inline = True
    ignore_llm = False
    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = ignore_retry = True

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        run = StagedRun(run_id=run_id, metadata=metadata or {}, tags=tags or ())
        publish_run(run)
        _STARTED.set((*_STARTED.get()[-15:], (messages[0][-1:], run)))

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        withdraw_run(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        withdraw_run(run_id)


_WATCH = _RunWatch()
_STARTED: ContextVar[tuple[tuple[list[BaseMessage], StagedRun], ...]] = ContextVar(
    "langchain_tokenopt_started", default=()
)
"""Runs that have started in this context and whose model call has not begun, with last messages."""


def _with_watch(callbacks: Callbacks) -> Callbacks:
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(_WATCH, inherit=False)
        return manager
    return [*(callbacks or ()), _WATCH]


def _without_watch(callbacks: Callbacks) -> Callbacks:
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.remove_handler(_WATCH)
        return manager
    return [handler for handler in callbacks or () if handler is not _WATCH] or None


def _current_run(messages: list[BaseMessage], run_manager: Any) -> StagedRun:
    """Find the run that this call belongs to."""
    started = _STARTED.get()
    run = published_run(run_manager.run_id) if run_manager is not None else None
    if run is None and run_manager is None and started:
        last = messages[-1:]
        same = [r for ends, r in started if ends and last and ends[0] is last[0]]
        run = same[0] if same else started[-1][1]
    if run is not None:
        alone = len(started) == 1 and started[0][1] is run
        _STARTED.set(() if alone else tuple(entry for entry in started if entry[1] is not run))
        return run
    # Somebody calls the protected method by hand, or has replaced the model's callbacks.
    if run_manager is not None:
        return StagedRun(
            run_id=run_manager.run_id, metadata=run_manager.metadata, tags=run_manager.tags
        )
    return StagedRun(run_id=uuid4(), metadata=ensure_config().get("metadata") or {})


def _begin(
    model: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None,
    kwargs: dict[str, Any],
    run_manager: Any,
    *,
    streaming: bool,
) -> StageChain:
    """Collect what holds for a call made now: stages, cache, who calls."""
    seam: _Seam = model._tokenopt_seam  # type: ignore[attr-defined]
    stages = () if is_disabled() else _with_ambient(seam.stages)
    request = ModelRequest(
        model=_bare(model),
        messages=messages,
        stop=stop,
        kwargs=kwargs,
        run=_current_run(messages, run_manager),
        streaming=streaming,
        observe=seam.observe,
        fingerprint=""
        if seam.observe
        else "|".join(stage.fingerprint for stage in stages if stage.phase != Phase.CACHE),
    )
    if any(stage.phase == Phase.CACHE for stage in stages):
        return StageChain(stages, request)
    host_cache = seam.host_cache()
    if host_cache is None:
        return StageChain(stages, request)
    cache_stage = _as_stage(host_cache)
    return StageChain((cache_stage, *stages), request, cache_stage)


# ------------------------------------------------------------------ the sync shell


def _generate(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: CallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> ChatResult:
    with _begin(self, messages, stop, kwargs, run_manager, streaming=False) as passage:
        while True:
            _perform(passage.opening())
            answer = _ask(passage, run_manager)
            done = _perform(passage.closing(answer, repeatable=True))
            if done is not None:
                return cast("ChatResult", done.result)


def _stream(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: CallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> Iterator[ChatGenerationChunk]:
    with _begin(self, messages, stop, kwargs, run_manager, streaming=True) as passage:
        shown = False
        while True:
            _perform(passage.opening())
            source = _pieces(passage)
            try:
                for chunk in source:
                    for piece in passage.feed(chunk):
                        _announce(piece, run_manager)
                        yield piece
                        shown = True
                    if passage.stopped:
                        break
            finally:
                source.close()
            rest = passage.rest()
            if passage.wants_answer:
                closing = passage.closing(passage.shown_answer(), repeatable=not shown)
                if _perform(closing) is None:
                    continue
            for piece in rest:
                _announce(piece, run_manager)
                yield piece
            return


def _ask(passage: StageChain, run_manager: CallbackManagerForLLMRun | None) -> Answer:
    """Ask the model, in a stream where a stage may want to stop it."""
    request = passage.request
    if passage.answer is not None:
        return passage.whole(passage.answer.result)
    if passage.wants_stream and _can_stream(request, async_api=False):
        source = _pieces(passage)
        try:
            for chunk in source:
                passage.feed(chunk)
                if passage.stopped:
                    break
        except Exception as error:
            if not _refuses_streams(error, passage):
                raise
        else:
            passage.rest()
            return passage.shown_answer()
        finally:
            source.close()
    passage.run.closed = False
    manager = {"run_manager": run_manager} if _takes(request.model._generate, "run_manager") else {}
    return passage.whole(
        request.model._generate(request.messages, request.stop, **manager, **request.kwargs)
    )


def _pieces(passage: StageChain) -> Generator[ChatGenerationChunk, None, None]:
    """The answer as chunks: a stage's in one, the model's as they come."""
    if passage.answer is not None:
        yield _as_one_chunk(passage.answer)
        return
    request = passage.request
    source = request.model._stream(request.messages, request.stop, **_stream_kwargs(request))
    try:
        yield from source
    finally:
        if hasattr(source, "close"):
            source.close()  # cancels the HTTP request now, not when the garbage is collected
            request.run.closed = True


def _perform(steps: Generator[Step, Any, Any]) -> Any:
    """Do the stages' work, one step after the other."""
    done: Any = None
    while True:
        try:
            _, work, _ = steps.send(done)
        except StopIteration as finished:
            return finished.value
        done = work()


def _announce(chunk: ChatGenerationChunk, run_manager: CallbackManagerForLLMRun | None) -> None:
    """Tell handlers of a piece as it is shown, where LangChain leaves that to the model."""
    if run_manager is not None:
        run_manager.on_llm_new_token(cast("str", chunk.message.content), chunk=chunk)


# ------------------------------------------------------------------ the async shell


async def _agenerate(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: AsyncCallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> ChatResult:
    with _begin(self, messages, stop, kwargs, run_manager, streaming=False) as passage:
        while True:
            await _aperform(passage.opening())
            answer = await _aask(passage, run_manager)
            done = await _aperform(passage.closing(answer, repeatable=True))
            if done is not None:
                return cast("ChatResult", done.result)


async def _astream(
    self: BaseChatModel,
    messages: list[BaseMessage],
    stop: list[str] | None = None,
    run_manager: AsyncCallbackManagerForLLMRun | None = None,
    **kwargs: Any,
) -> AsyncIterator[ChatGenerationChunk]:
    with _begin(self, messages, stop, kwargs, run_manager, streaming=True) as passage:
        shown = False
        while True:
            await _aperform(passage.opening())
            source = _apieces(passage)
            try:
                async for chunk in source:
                    for piece in passage.feed(chunk):
                        await _aannounce(piece, run_manager)
                        yield piece
                        shown = True
                    if passage.stopped:
                        break
            finally:
                await source.aclose()
            rest = passage.rest()
            if passage.wants_answer:
                closing = passage.closing(passage.shown_answer(), repeatable=not shown)
                if await _aperform(closing) is None:
                    continue
            for piece in rest:
                await _aannounce(piece, run_manager)
                yield piece
            return


async def _aask(passage: StageChain, run_manager: AsyncCallbackManagerForLLMRun | None) -> Answer:
    """Ask the model, in a stream where a stage may want to stop it."""
    request = passage.request
    if passage.answer is not None:
        return passage.whole(passage.answer.result)
    if passage.wants_stream and _can_stream(request, async_api=True):
        source = _apieces(passage)
        try:
            async for chunk in source:
                passage.feed(chunk)
                if passage.stopped:
                    break
        except Exception as error:
            if not _refuses_streams(error, passage):
                raise
        else:
            passage.rest()
            return passage.shown_answer()
        finally:
            await source.aclose()
    passage.run.closed = False
    manager = (
        {"run_manager": run_manager} if _takes(request.model._agenerate, "run_manager") else {}
    )
    return passage.whole(
        await request.model._agenerate(request.messages, request.stop, **manager, **request.kwargs)
    )


async def _apieces(passage: StageChain) -> AsyncGenerator[ChatGenerationChunk, None]:
    """The answer as chunks: a stage's in one, the model's as they come."""
    if passage.answer is not None:
        yield _as_one_chunk(passage.answer)
        return
    request = passage.request
    source = request.model._astream(request.messages, request.stop, **_stream_kwargs(request))
    try:
        async for chunk in source:
            yield chunk
    finally:
        if hasattr(source, "aclose"):
            await source.aclose()
            request.run.closed = True


async def _aperform(steps: Generator[Step, Any, Any]) -> Any:
    """Do the stages' work; what blocks goes to a thread."""
    done: Any = None
    while True:
        try:
            blocking, work, coroutine = steps.send(done)
        except StopIteration as finished:
            return finished.value
        if coroutine is not None:
            done = await coroutine()
        else:
            done = await run_in_executor(None, work) if blocking else work()


async def _aannounce(
    chunk: ChatGenerationChunk, run_manager: AsyncCallbackManagerForLLMRun | None
) -> None:
    """Tell handlers of a piece as it is shown, where LangChain leaves that to the model."""
    if run_manager is not None:
        await run_manager.on_llm_new_token(cast("str", chunk.message.content), chunk=chunk)


# ------------------------------------------------------------------ what both shells ask


def _can_stream(request: ModelRequest, *, async_api: bool) -> bool:
    """Whether LangChain itself would stream this call, had the caller used ``stream``."""
    kwargs = {**request.kwargs, "stream": True}
    return request.model._should_stream(async_api=async_api, **kwargs)


def _refuses_streams(error: Exception, passage: StageChain) -> bool:
    """Whether to ask again without streaming, which the caller did not request anyway."""
    refused = getattr(error, "status_code", None) == 400 and not passage.run.received
    if refused:
        warnings.warn(
            f"The model refused to stream ({error}); it was asked again without, so a stage could "
            f"not stop it early.",
            TokenOptWarning,
            stacklevel=2,
        )
    return refused


def _stream_kwargs(request: ModelRequest) -> dict[str, Any]:
    """Ask for the usage of a stream that the caller did not request: a plain call reports it."""
    kwargs, model = dict(request.kwargs), request.model
    has_option = "stream_usage" in type(model).model_fields
    if has_option and not request.streaming and "stream_usage" not in model.model_fields_set:
        kwargs.setdefault("stream_usage", True)
    return kwargs


def _takes(method: Callable[..., Any], parameter: str) -> bool:
    return parameter in _parameters(getattr(method, "__func__", method))


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)


def _as_one_chunk(answer: Answer) -> ChatGenerationChunk:
    info = answer.result.generations[0].generation_info
    return ChatGenerationChunk(message=as_chunk(answer.message), generation_info=info)
