"""Where a content comes from, what it is for and whose: in the forms in which hosts say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.config import ensure_config

from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.core.attribution import Attribution, attribution_here, name_from
from langchain_tokenopt.core.messages import last_user_text, text_of

__all__ = ["config_of", "is_content", "made_by_whom", "question_in", "source_of"]

_QUESTIONS: Final = ("question", "query", "input")
"""Keys under which chains hand on a question."""


def is_content(value: Any) -> bool:
    """Whether it is a text, or documents."""
    if isinstance(value, str):
        return True
    return isinstance(value, list | tuple) and all(isinstance(one, Document) for one in value)


def source_of(source: Any) -> Runnable[Any, Any]:
    """Return a runnable that gives the content for a question.

    Raises:
        TypeError: *source* is none.
    """
    if not isinstance(source, Runnable) and callable(getattr(source, "load", None)):
        loader = source
        source = RunnableLambda(lambda _: loader.load())
    try:
        made: Runnable[Any, Any] = coerce_to_runnable(source)
    except TypeError as error:
        raise TypeError(
            f"source is a text, documents, a document loader, a retriever, a runnable or a "
            f"function of the question; got {shown(source)}."
        ) from error
    return made


def question_in(context: Any) -> str | None:
    """Return what is asked, in any of the forms in which chains hand it on."""
    if isinstance(context, Mapping):
        context = next((context[key] for key in _QUESTIONS if context.get(key)), None)
    if isinstance(context, str):
        return context.strip() or None
    if isinstance(context, BaseMessage):
        return text_of(context).strip() or None
    if isinstance(context, PromptValue):
        return last_user_text(context.to_messages())
    if isinstance(context, Sequence) and context:
        with suppress(NotImplementedError, TypeError, ValueError):  # it is no conversation
            return last_user_text(convert_to_messages(context))
    return None


def made_by_whom(
    config: Mapping[str, Any], user: str | None = None, thread: str | None = None
) -> Attribution:
    """Return for whom a content is, as the tool that fetches more knows it, too."""
    metadata = {**(config.get("configurable") or {}), **(config.get("metadata") or {})}
    made_by = attribution_here(metadata)
    user = made_by.user if user is None else name_from(user)
    thread = made_by.thread_id if thread is None else name_from(thread)
    return replace(made_by, user=user, thread_id=thread)


def config_of(callbacks: Callbacks | None) -> Mapping[str, Any]:
    """Return the config of the run around, with what *callbacks* know of their own."""
    config = ensure_config()
    own = getattr(callbacks, "metadata", None) or {}
    return {**config, "metadata": {**(config.get("metadata") or {}), **own}}
