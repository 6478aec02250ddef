"""Calls in threads that were started inside of a run, and are not part of it.

Python starts them without the context that carries the run. Models under the plan refuse there;
those that nobody staged would be neither charged nor noticed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.staged_runs import GUARD
from langchain_tokenopt.tracking.call_starts import CallStart, ModelStartHandler

__all__ = ["left_outside", "why_outside"]

_LEFT: ContextVar[str | None] = ContextVar("langchain_tokenopt_left_outside", default=None)
"""The plan in whose run this thread was started, or was given its work."""

_MEND = "start it with contextvars.copy_context().run(...), or inside of stage_all()"


def left_outside(plan: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes of a thread's work work that says, once, that it is outside of a run."""
    warning = _Uncharged(plan)

    def carry(work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def working(*args: Any, **kwargs: Any) -> Any:
            tokens = _LEFT.set(plan), GUARD.set(warning)
            try:
                return work(*args, **kwargs)
            finally:
                _LEFT.reset(tokens[0])
                GUARD.reset(tokens[1])

        return working

    return carry


def why_outside() -> str:
    """Say why there is no run here, where that is known: a sentence after a blank, or nothing."""
    plan = _LEFT.get()
    if plan is None:
        return ""
    return f" This thread was started inside of a run of {plan!r}, without its context: {_MEND}."


class _Uncharged(ModelStartHandler):
    """Warns of calls that no run pays for."""

    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = ignore_retry = True

    def __init__(self, plan: str) -> None:
        self._plan: str | None = plan

    def on_start(self, start: CallStart) -> None:
        plan, self._plan = self._plan, None
        if plan is not None:
            agent = attribution_of(start.metadata).agent
            warnings.warn(
                f"{start.model or 'a model'} was called by {agent!r} in a thread that was started "
                f"inside of a run of the plan {plan!r}, without its context, and is not charged to "
                f"it: {_MEND}.",
                TokenOptWarning,
                stacklevel=2,
            )
