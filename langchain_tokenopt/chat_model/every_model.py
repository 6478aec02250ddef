"""Chat models that nobody staged, staged for one call: where a context says that all of them are.

Applications make their models where nobody can reach them: in nodes, in tools, in other packages.
What every call has in common is LangChain's own base class. Its methods with which calls begin are
replaced, once in a process, by ones that look whether the context asks for stages; if it does, the
same method is called on a view of the model that goes through them. Everywhere else, and for models
that are staged already, they do what they did.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.chat_model.current_run import entry_points
from langchain_tokenopt.chat_model.staged_call import given_seam
from langchain_tokenopt.chat_model.staged_model import staged_view
from langchain_tokenopt.core.model_runs import is_made_by_a_stage

__all__ = ["EVERY_MODEL", "watch_every_model"]

EVERY_MODEL: ContextVar[bool] = ContextVar("langchain_tokenopt_every_model", default=False)
"""Whether chat models that nobody staged go through the stages of their context."""

_ENTRIES: Final = ("generate", "agenerate", "stream", "astream", "stream_events", "astream_events")


@cache
def watch_every_model() -> None:
    """Have :data:`EVERY_MODEL` looked at when a call of a chat model begins; once in a process."""
    base: Any = BaseChatModel
    staged = entry_points(base)
    for name in _ENTRIES:
        setattr(base, name, _looking(getattr(base, name), staged[name]))


def _looking(plain: Callable[..., Any], staged: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that calls *plain*, or *staged* on a view where the context says so."""

    @wraps(plain)
    def begin(self: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        if not EVERY_MODEL.get() or given_seam(self) is not None or is_made_by_a_stage():
            return plain(self, *args, **kwargs)
        return staged(staged_view(self), *args, **kwargs)

    return begin
