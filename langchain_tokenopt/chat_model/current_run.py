"""Which run a call belongs to, and which runs are those of staged models.

LangChain makes a run, notifies handlers of its start, and then calls ``_generate`` with the run's
manager. The parameters that it tells handlers of say that the run is a staged model's; the run is
published when ``_generate`` begins, and withdrawn when the call returns. A handler of its own,
which LangChain would have to notify, takes twice as long as all the rest of the seam.

``_stream`` is called without the run's manager. There a handler cannot be avoided: it is added to
the callbacks of a call of ``stream``, ``astream`` and ``stream_events``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    BaseCallbackManager,
    CallbackManager,
    Callbacks,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from langchain_tokenopt.core.host_compat import InlineHandler
from langchain_tokenopt.core.model_runs import calling_reserved_run
from langchain_tokenopt.core.staged_runs import (
    StagedParams,
    StagedRun,
    notify_cancelled,
    publish_run,
    published_run,
    withdraw_run,
)

__all__ = ["current_run", "entry_points", "is_asked_for_whole"]

_PUBLISHED: ContextVar[list[UUID] | None] = ContextVar("langchain_tokenopt_published", default=None)
"""Runs that the call of a staged model under way here has published."""


_CALLER: ContextVar[int | None] = ContextVar("langchain_tokenopt_caller", default=None)
"""The run of the model that has made the call under way here: LangChain gathers asynchronous calls,
in tasks on whose stacks it does not stand."""


_READ_INTO: ContextVar[Any] = ContextVar("langchain_tokenopt_read_into", default=None)
"""What the caller of the call under way here reads the answer into."""


def _read_into(kwargs: Mapping[str, Any]) -> Any:
    """Return what ``with_structured_output`` reads an answer into, whatever the method.

    LangChain tells its tracers of it, and not the model: in JSON mode a prompt describes it.
    """
    asked = kwargs.get("ls_structured_output_format")
    return asked.get("schema") if isinstance(asked, Mapping) else None


def current_run(messages: list[BaseMessage], run_manager: Any) -> StagedRun:
    """Find the run that a call of ``_generate`` or ``_stream`` belongs to, and publish it."""
    run = _run_of(messages, run_manager)
    run.caller = calling_reserved_run() or _CALLER.get()
    return run


def _run_of(messages: list[BaseMessage], run_manager: Any) -> StagedRun:
    if run_manager is None:
        return _taken_from_watch(messages) or StagedRun(
            run_id=uuid4(), metadata=ensure_config().get("metadata") or {}
        )
    run = published_run(run_manager.run_id)
    if run is not None:
        return run
    run = StagedRun(
        run_id=run_manager.run_id,
        metadata=run_manager.metadata,
        tags=run_manager.tags,
        read_into=_READ_INTO.get(),
    )
    published = _PUBLISHED.get()
    if published is not None:  # else somebody calls the protected method by hand
        publish_run(run)
        published.append(run.run_id)
    return run


def is_asked_for_whole(run: StagedRun) -> bool:
    """Whether *run* is one of ``generate``, which LangChain may stream for a handler's sake."""
    return run.run_id in (_PUBLISHED.get() or ())


def entry_points(base: type[BaseChatModel]) -> dict[str, Callable[..., Any]]:
    """Return the methods of *base* with which calls begin, saying whose runs start there."""

    @wraps(base._get_invocation_params)
    def _get_invocation_params(self: BaseChatModel, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return StagedParams(base._get_invocation_params(self, *args, **kwargs))

    @wraps(base.generate)
    def generate(self: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        published: list[UUID] = []
        outer = _PUBLISHED.set(published)
        read_into = _READ_INTO.set(_read_into(kwargs))
        try:
            return base.generate(self, *args, **kwargs)
        finally:
            _PUBLISHED.reset(outer)
            _READ_INTO.reset(read_into)
            _withdraw(published)

    @wraps(base.agenerate)
    async def agenerate(self: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        published: list[UUID] = []
        outer = _PUBLISHED.set(published)
        made_by = _CALLER.set(calling_reserved_run())
        read_into = _READ_INTO.set(_read_into(kwargs))
        try:
            result = await base.agenerate(self, *args, **kwargs)
        except BaseException as error:
            _withdraw_after(error, published)
            raise
        finally:
            with suppress(ValueError):  # the garbage collector closes it, in another context
                _PUBLISHED.reset(outer)
                _CALLER.reset(made_by)
                _READ_INTO.reset(read_into)
        _withdraw(published)
        return result

    @wraps(base.stream)
    def stream(
        self: BaseChatModel, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        watch = _RunWatch(_read_into(kwargs))
        try:
            yield from base.stream(self, input, _watched(config, watch), **kwargs)
        finally:
            _withdraw(watch.published)

    @wraps(base.astream)
    async def astream(
        self: BaseChatModel, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        watch = _RunWatch(_read_into(kwargs))
        source: Any = base.astream(self, input, _watched(config, watch), **kwargs)
        try:
            async for piece in source:
                try:
                    yield piece
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  the caller's, for LangChain to report
                    await source.athrow(error)
        except BaseException as error:
            _withdraw_after(error, watch.published)
            raise
        finally:
            if hasattr(source, "aclose"):
                await source.aclose()
        _withdraw(watch.published)

    @wraps(base._should_stream)
    def _should_stream(self: BaseChatModel, *, run_manager: Any = None, **kwargs: Any) -> bool:
        """LangChain asks this before it calls ``_stream`` for a call that asked for no stream."""
        should = base._should_stream(self, run_manager=run_manager, **kwargs)
        if should and run_manager is not None:
            _remember([], current_run([], run_manager))
        return should

    methods = (
        _get_invocation_params,
        generate,
        agenerate,
        stream,
        astream,
        _watching(base.stream_events),
        _watching(base.astream_events),
        _should_stream,
    )
    return {method.__name__: method for method in methods}


def _withdraw(published: list[UUID]) -> None:
    for run_id in published:
        withdraw_run(run_id)


def _withdraw_after(error: BaseException, published: list[UUID]) -> None:
    """Withdraw runs that *error* has ended; of a cancellation nobody else notifies handlers."""
    if isinstance(error, asyncio.CancelledError):
        for run_id in published:
            notify_cancelled(run_id)
    _withdraw(published)


# --- streams


class _RunWatch(InlineHandler):
    """Publishes the run of one stream at its start, and withdraws it at its end."""

    ignore_llm = False
    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = ignore_retry = True

    def __init__(self, read_into: Any) -> None:
        self.published: list[UUID] = []
        self._read_into = read_into

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
        if self.published:  # handed on to a model that this one calls
            return
        run = StagedRun(
            run_id=run_id, metadata=metadata or {}, tags=tags or (), read_into=self._read_into
        )
        self.published.append(run_id)
        publish_run(run)
        _remember(messages[0][-1:], run)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def _end(self, run_id: UUID) -> None:
        if run_id in self.published:
            withdraw_run(run_id)
            if _STARTED.get():
                _STARTED.set(_waiting())


def _watching(stream_events: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``stream_events`` or its async twin with a watch on each call of version 3.

    Earlier versions call ``stream`` and ``astream``.
    """

    @wraps(stream_events)
    def watching(
        self: BaseChatModel,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        version: Any = "v2",
        **kwargs: Any,
    ) -> Any:
        config = _watched(config, _RunWatch(_read_into(kwargs))) if version == "v3" else config
        return stream_events(self, input, config, version=version, **kwargs)

    return watching


def _watched(config: RunnableConfig | None, watch: _RunWatch) -> RunnableConfig:
    """Return *config*, with what holds here, and the handler that learns of the run."""
    config = ensure_config(config)
    callbacks: Callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
    else:
        handlers = callbacks or []
        callbacks = CallbackManager(list(handlers), inheritable_handlers=list(handlers))
    callbacks.add_handler(watch, inherit=False)
    return {**config, "callbacks": callbacks}


_Started = tuple[list[BaseMessage], StagedRun]

_STARTED: ContextVar[tuple[_Started, ...]] = ContextVar("langchain_tokenopt_started", default=())
"""Runs that have started in this context and whose model call has not begun, with last messages."""


def _waiting() -> tuple[_Started, ...]:
    """Return those of the started runs that still last.

    Where a thread performs the stream, what it takes is not seen to be gone here.
    """
    return tuple(entry for entry in _STARTED.get() if published_run(entry[1].run_id) is not None)


def _remember(last: list[BaseMessage], run: StagedRun) -> None:
    _STARTED.set((*_waiting()[-15:], (last, run)))


def _taken_from_watch(messages: list[BaseMessage]) -> StagedRun | None:
    """Take the latest run of these messages from those that have started here, or the latest."""
    started = _waiting()
    if not started:
        return None
    last = messages[-1:]
    same = [run for ends, run in started if ends and last and ends[0] is last[0]]
    run = same[-1] if same else started[-1][1]
    _STARTED.set(tuple(entry for entry in started if entry[1] is not run))
    return run
