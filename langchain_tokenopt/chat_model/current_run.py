"""Which run a call belongs to.

LangChain does not hand ``_stream`` a run manager, so neither the run's id nor its metadata can be
learned there. A handler attached to the model is told both just before.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    BaseCallbackHandler,
    BaseCallbackManager,
    Callbacks,
)
from langchain_core.messages import BaseMessage
from langchain_core.runnables.config import ensure_config

from langchain_tokenopt.core.runs import StagedRun, publish_run, published_run, withdraw_run
from langchain_tokenopt.core.task_watch import TaskWatch

__all__ = ["current_run", "with_watch", "without_watch"]


class _RunWatch(BaseCallbackHandler):
    """Tells the seam which run it is in, and publishes what the seam does there until its end.

    LangChain does not hand ``stream`` a run manager, so neither the run's id nor its metadata can
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
        _TASKS.begin(run_id)
        _STARTED.set((*_STARTED.get()[-15:], (messages[0][-1:], run)))

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        _TASKS.end(run_id)
        withdraw_run(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        _TASKS.end(run_id)
        withdraw_run(run_id)


_WATCH = _RunWatch()
_TASKS = TaskWatch(lambda run_id, is_cancelled: withdraw_run(run_id))
"""A cancelled call has no other end: its prompt must not be kept."""


_STARTED: ContextVar[tuple[tuple[list[BaseMessage], StagedRun], ...]] = ContextVar(
    "langchain_tokenopt_started", default=()
)
"""Runs that have started in this context and whose model call has not begun, with last messages."""


def with_watch(callbacks: Callbacks) -> Callbacks:
    """Return a model's *callbacks* and the handler that learns of its runs."""
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(_WATCH, inherit=False)
        return manager
    return [*(callbacks or ()), _WATCH]


def without_watch(callbacks: Callbacks) -> Callbacks:
    """Return a model's *callbacks* as they were given."""
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.remove_handler(_WATCH)
        return manager
    return [handler for handler in callbacks or () if handler is not _WATCH] or None


def current_run(messages: list[BaseMessage], run_manager: Any) -> StagedRun:
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
