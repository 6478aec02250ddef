"""Parts of other packages that the package relies upon and that they do not publish.

Each stands here in one function, with the reason; ``tests/unit_tests/core/test_host_compat.py``
says in words which of them a release has changed. Those of LangGraph stand in
``graph/host_compat.py``; ``core/host_releases.py`` compares the installed releases with the range
that is known to work.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from types import FrameType
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.tools import base as core_tools

__all__ = [
    "DIRECTLY_INJECTED",
    "NATIVE_EVENT_STREAMS",
    "PYDANTIC_STATE",
    "InlineHandler",
    "core_marks_cache_hits",
    "end_unheard_starts",
    "expect_errors_of",
    "is_configurable_model",
    "llm_string_of",
    "ls_model_name_of",
    "provider_of",
    "would_stream",
]


# --- langchain-core

PYDANTIC_STATE: Final = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)
"""All that a pydantic model holds: an object of another class that shares it is the same model."""

NATIVE_EVENT_STREAMS: Final = ("_stream_chat_model_events", "_astream_chat_model_events")
"""Methods by which a model makes LangChain's event protocol itself, beside ``_stream``."""


DIRECTLY_INJECTED: Final[type] = getattr(core_tools, "_DirectlyInjectedToolArg", object)
"""Arguments of tools whose type derives from it are hidden from the model, as ``ToolRuntime`` is;
without it they need ``Annotated[..., InjectedToolArg]``."""


def would_stream(model: BaseChatModel, kwargs: Mapping[str, Any], *, async_api: bool) -> bool:
    """Whether LangChain itself would stream this call, had the caller used ``stream``.

    It alone knows ``disable_streaming``, and which models fall back to ``invoke``.
    """
    return model._should_stream(async_api=async_api, **{**kwargs, "stream": True})


def llm_string_of(model: BaseChatModel, stop: list[str] | None, kwargs: Mapping[str, Any]) -> str:
    """Return the string under which LangChain's caches tell models and settings apart.

    Answers that a cache has kept without us, and keeps after us, stand under it.
    """
    return model._get_llm_string(stop=stop, **kwargs)


def provider_of(model: BaseChatModel) -> str | None:
    """Return the provider, under the name that LangChain's tracing gives it."""
    return model._get_ls_params().get("ls_provider")


def ls_model_name_of(model: BaseChatModel, kwargs: Mapping[str, Any]) -> str | None:
    """Return the model's name as LangChain's tracing gives it: handlers know calls by it."""
    named = {"model": kwargs["model"]} if kwargs.get("model") else {}
    return model._get_ls_params(**named).get("ls_model_name")


class InlineHandler(BaseCallbackHandler):
    """A handler that asynchronous calls wait for, in the task that makes them.

    When an asynchronous text model begins, langchain-core notifies the inline handlers alone, as
    soon as there is one (``AsyncCallbackManager.on_llm_start``); other handlers then hear of the
    end of a run that never began. So these handlers are not inline when they are asked there, and
    are notified with the others; ``ahandle_event``, which does it, runs them inline all the same.
    Where somebody else's handler is inline, they stand with it, to be notified at all.
    """

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Whether langchain-core is to run the handler in the task that makes the call."""
        asking = sys._getframe(1)
        if asking.f_code.co_name == "<listcomp>" and asking.f_back is not None:  # Python 3.11
            asking = asking.f_back
        if asking.f_code is not _TEXT_START:
            return True
        handlers: Sequence[BaseCallbackHandler] = asking.f_locals["self"].handlers
        return any(h.run_inline for h in handlers if not isinstance(h, InlineHandler))


def expect_errors_of(kind: type[BaseCallbackHandler]) -> None:
    """Keep langchain-core from logging what handlers of *kind* raise: they refuse calls."""
    _expected.add(kind.__name__)


_expected: set[str] = set()


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Whether to log: langchain-core warns of every error of a handler, also of one it raises."""
    return not (
        isinstance(record.args, tuple)
        and record.args[:1]
        and record.args[0] in _expected
        and record.msg.startswith("Error in %s.%s callback")
    )


logging.getLogger(AsyncCallbackManager.__module__).addFilter(_is_unexpected)


_TEXT_START: Final = inspect.unwrap(AsyncCallbackManager.on_llm_start).__code__
_CHAT_START: Final = inspect.unwrap(AsyncCallbackManager.on_chat_model_start).__code__


def end_unheard_starts() -> None:
    """Close what langchain-core has prepared to tell other handlers of a call that is refused here.

    For an asynchronous call it makes a coroutine per handler before it awaits the first of them.
    When one raises, Python would complain of the others that they were never awaited.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in (_TEXT_START, _CHAT_START):
        frame = frame.f_back
    if frame is not None:
        for task in (*frame.f_locals["inline_tasks"], *frame.f_locals["non_inline_tasks"]):
            if inspect.getcoroutinestate(task) == inspect.CORO_CREATED:
                task.close()


@cache
def core_marks_cache_hits() -> bool:
    """Whether the installed langchain-core sets ``total_cost`` on answers of a cache; ask it once.

    Nothing else in an answer says where it came from.
    """
    convert = getattr(BaseChatModel, "_convert_cached_generations", None)
    if convert is None:
        return False
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    (hit,) = convert(None, [ChatGeneration(message=AIMessage("", usage_metadata=usage))])
    return "total_cost" in (hit.message.usage_metadata or {})


def is_configurable_model(model: object) -> bool:
    """Whether *model* is one of ``init_chat_model(..., configurable_fields=...)``.

    Its class is private. It makes the real model for each call, in ``_model``, and then repeats
    what it was asked for, ``_queued_declarative_operations``.
    """
    return hasattr(model, "_queued_declarative_operations") and hasattr(model, "_model")
