"""Stored answers as they are handed out: copies, marked as hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokenopt.cache.same_answer import text_of_answers
from langchain_tokenopt.core.staged_runs import CacheHit
from langchain_tokenopt.core.usage import Usage

__all__ = ["ENTRY_ID", "as_chat", "entry_of", "fresh_copy", "tokens_of"]

ENTRY_ID: Final = "tokenopt_cache_entry"
"""Where a served message says which entry it came from, in ``response_metadata``."""


def fresh_copy(answer: Generation, entry: int) -> Generation:
    """Copy a stored answer, marked as a hit and without the id of the message it once was."""
    info = CacheHit(_copied(answer.generation_info or {}))
    if not isinstance(answer, ChatGeneration):  # text models: LangChain fires no callbacks on hits
        kept = answer.generation_info and info
        return answer.model_copy(update={"generation_info": kept}, deep=True)
    message = answer.message
    changes = {
        "id": None,
        "response_metadata": {**_copied(message.response_metadata), ENTRY_ID: entry},
        "additional_kwargs": _copied(message.additional_kwargs),
    }
    if isinstance(message, AIMessage):
        changes["usage_metadata"] = _copied(message.usage_metadata)
    simple = isinstance(message.content, str) and not getattr(message, "tool_calls", None)
    copied = message.model_copy(update=changes, deep=not simple)
    return answer.model_copy(update={"message": copied, "generation_info": info})


def _copied(value: Any) -> Any:
    """Copy dictionaries and lists, however deep: ``copy.deepcopy`` takes eight times as long."""
    if isinstance(value, dict):
        return {name: _copied(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    return value


def as_chat(answer: Generation) -> ChatGeneration:
    """Return a served answer as the seam needs it; at no cost, as langchain-core does it."""
    if not isinstance(answer, ChatGeneration):
        message = AIMessage(content=answer.text)
        return ChatGeneration(message=message, generation_info=answer.generation_info)
    usage = getattr(answer.message, "usage_metadata", None)
    if not usage:
        return answer
    free = answer.message.model_copy(update={"usage_metadata": {**usage, "total_cost": 0}})
    return answer.model_copy(update={"message": free})


def entry_of(served: AIMessage | int) -> int:
    """Return the number of the entry that a message came from.

    Raises:
        ValueError: If the message did not come from a cache.
    """
    if isinstance(served, int):
        return served
    entry = served.response_metadata.get(ENTRY_ID)
    if not isinstance(entry, int):
        raise ValueError(
            "this message was not served by a SemanticCache; give a message that was, or the "
            "number of an entry (see explain() and top())"
        )
    return entry


def tokens_of(answers: Sequence[Generation]) -> int:
    """Return what the answers once cost, as the provider said; else an estimate by characters."""
    message = getattr(answers[0], "message", None)
    usage = getattr(message, "usage_metadata", None)
    if usage and "input_tokens" in usage:
        return Usage.from_metadata(usage).total_tokens
    return max(1, len(text_of_answers(answers)) // 4)
