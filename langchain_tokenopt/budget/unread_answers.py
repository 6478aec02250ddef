"""Answers that a cap has cut off, and that the model's own class could not read any more."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt.tracking.failed_calls import report_in, text_in

__all__ = ["unread_answer"]


def unread_answer(model: BaseChatModel, error: Exception) -> ChatResult | None:
    """Return the answer that *error* tells of, as *model* would have without parsing it.

    openai's client parses objects itself, and raises where the provider has not written them to
    their end: with the answer (chat completions), or with the text and the response (responses).

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> unread_answer(FakeListChatModel(responses=[]), ValueError("no answer")) is None
        True
    """
    completion, make = (
        getattr(error, "completion", None),
        getattr(model, "_create_chat_result", None),
    )
    if completion is not None and callable(make):
        with suppress(Exception):  # a foreign method, made for whole answers
            made = make(completion)
            return made if isinstance(made, ChatResult) else None
    text, report = text_in(error), report_in(error)
    if not text or report is None:
        return None
    used = report.usage
    usage = UsageMetadata(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        total_tokens=used.total_tokens,
    )
    said = AIMessage(text, usage_metadata=usage, response_metadata=_end_in(error))
    return ChatResult(generations=[ChatGeneration(message=said)])


def _end_in(error: Exception) -> dict[str, Any]:
    """Return what the response that *error* carries says of the answer's end."""
    with suppress(Exception):  # not read, or no JSON
        body = error.response.json()  # type: ignore[attr-defined]
        if isinstance(body, Mapping):
            names = ("status", "incomplete_details")
            return {name: body[name] for name in names if body.get(name) is not None}
    return {}
