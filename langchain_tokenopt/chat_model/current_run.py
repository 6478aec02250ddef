"""Which run a call belongs to, and which runs are those of staged models.

LangChain makes a run, notifies handlers of its start, and then calls ``_generate`` with the run's
manager. So a staged model says by context, before the handlers are notified, that the runs that
start now are its own; the runs are published when ``_generate`` begins, and withdrawn when the
call returns. A handler of its own, which LangChain would have to notify, takes twice as long as
all the rest of the seam.

``_stream`` is called without the run's manager. There a handler cannot be avoided: it is added to
the callbacks of a call of ``stream``, ``astream`` and ``stream_events``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, Callbacks
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from langchain_tokenopt.core.staged_runs import (
    STAGED_CALL_STARTS,
    StagedRun,
    publish_run,
    published_run,
    withdraw_run,
)

__all__ = ["current_run", "entry_points"]

_PUBLISHED: ContextVar[list[UUID] | None] = ContextVar("langchain_tokenopt_published", default=None)
"""Runs that the call of a staged model under way here has published."""


def current_run(messages: list[BaseMessage], run_manager: Any) -> StagedRun:
    """Find the run that a call of ``_generate`` or ``_stream`` belongs to, and publish it."""
    if STAGED_CALL_STARTS.get():
        STAGED_CALL_STARTS.set(False)  # models that the model or a stage calls are not staged
    if run_manager is None:
        return _taken_from_watch(messages) or StagedRun(
            run_id=uuid4(), metadata=ensure_config().get("metadata") or {}
        )
    run = published_run(run_manager.run_id)
    if run is not None:
        return run
    run = StagedRun(run_id=run_manager.run_id, metadata=run_manager.metadata, tags=run_manager.tags)
    published = _PUBLISHED.get()
    if published is not None:  # else somebody calls the protected method by hand
        publish_run(run)
        published.append(run.run_id)
    return run


def entry_points(base: type[BaseChatModel]) -> dict[str, Callable[..., Any]]:
    """Return the methods of *base* with which calls begin, saying whose runs start there."""

    @wraps(base.generate)
    def generate(self: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        published: list[UUID] = []
        starts, runs = STAGED_CALL_STARTS.set(True), _PUBLISHED.set(published)
        try:
            return base.generate(self, *args, **kwargs)
        finally:
            _PUBLISHED.reset(runs)
            STAGED_CALL_STARTS.reset(starts)
            _withdraw(published)

    @wraps(base.agenerate)
    async def agenerate(self: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        published: list[UUID] = []
        starts, runs = STAGED_CALL_STARTS.set(True), _PUBLISHED.set(published)
        try:
            result = await base.agenerate(self, *args, **kwargs)
        except asyncio.CancelledError:
            # Handlers learn of it only when the task has ended; until then they may ask.
            task = asyncio.current_task()
            if task is not None:
                task.add_done_callback(lambda _: _withdraw(published))
            raise
        except BaseException:
            _withdraw(published)
            raise
        finally:
            _PUBLISHED.reset(runs)
            STAGED_CALL_STARTS.reset(starts)
        _withdraw(published)
        return result

    @wraps(base.stream)
    def stream(
        self: BaseChatModel, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        return base.stream(self, input, _watched(config), **kwargs)

    @wraps(base.astream)
    def astream(
        self: BaseChatModel, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        return base.astream(self, input, _watched(config), **kwargs)

    @wraps(base.stream_events)
    def stream_events(
        self: BaseChatModel,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        version: Any = "v2",
        **kwargs: Any,
    ) -> Any:
        config = _watched(config) if version == "v3" else config
        return base.stream_events(self, input, config, version=version, **kwargs)

    @wraps(base.astream_events)
    def astream_events(
        self: BaseChatModel,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        version: Any = "v2",
        **kwargs: Any,
    ) -> Any:
        config = _watched(config) if version == "v3" else config
        return base.astream_events(self, input, config, version=version, **kwargs)

    @wraps(base._should_stream)
    def _should_stream(self: BaseChatModel, *, run_manager: Any = None, **kwargs: Any) -> bool:
        """LangChain asks this before it calls ``_stream`` for a call that asked for no stream."""
        should = base._should_stream(self, run_manager=run_manager, **kwargs)
        if should and run_manager is not None:
            _remember([], current_run([], run_manager))
        return should

    methods = (generate, agenerate, stream, astream, stream_events, astream_events, _should_stream)
    return {method.__name__: method for method in methods}


def _withdraw(published: list[UUID]) -> None:
    for run_id in published:
        withdraw_run(run_id)


# --- streams


class _RunWatch(BaseCallbackHandler):
    """Publishes the run of a stream at its start, and withdraws it at its end."""

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
        _remember(messages[0][-1:], run)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        withdraw_run(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        withdraw_run(run_id)


_WATCH = _RunWatch()


def _watched(config: RunnableConfig | None) -> RunnableConfig:
    """Return *config*, with what holds here, and the handler that learns of the run."""
    config = ensure_config(config)
    callbacks: Callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
        callbacks.add_handler(_WATCH, inherit=False)
    else:
        callbacks = [*(callbacks or ()), _WATCH]
    return {**config, "callbacks": callbacks}


_STARTED: ContextVar[tuple[tuple[list[BaseMessage], StagedRun], ...]] = ContextVar(
    "langchain_tokenopt_started", default=()
)
"""Runs that have started in this context and whose model call has not begun, with last messages."""


def _remember(last: list[BaseMessage], run: StagedRun) -> None:
    _STARTED.set((*_STARTED.get()[-15:], (last, run)))


def _taken_from_watch(messages: list[BaseMessage]) -> StagedRun | None:
    """Take the run of these messages from those that have started here, or else the latest."""
    started = _STARTED.get()
    if not started:
        return None
    last = messages[-1:]
    same = [run for ends, run in started if ends and last and ends[0] is last[0]]
    run = same[0] if same else started[-1][1]
    _STARTED.set(tuple(entry for entry in started if entry[1] is not run))
    return run
