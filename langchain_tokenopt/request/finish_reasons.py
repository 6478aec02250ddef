"""Whether an answer is whole, by what its provider says of its end.

It is an allow list: providers invent reasons to stop early, and an answer that ended for a reason
that nobody knows must not be kept as if it were whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from langchain_core.outputs import Generation

__all__ = [
    "AT_CAP",
    "REASON_KEYS",
    "WHOLE",
    "is_refused_by_provider",
    "is_whole",
    "says_cap_reached",
]

WHOLE: Final = frozenset(
    {
        *("stop", "tool_calls", "function_call"),  # OpenAI, and who speaks its protocol; Gemini
        "completed",  # OpenAI's Responses API
        *("end_turn", "stop_sequence", "tool_use"),  # Anthropic, Bedrock
        *("complete", "tool_call"),  # Cohere
        *("eos", "eos_token", "endoftext"),  # Together, Hugging Face, watsonx, AI21
        *("ok", "success", "succeeded"),  # a "status" that says nothing of the end
    }
)
"""Reasons, in lower case, with which a model has said all that it wanted to say."""

AT_CAP: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
"""Reasons, in lower case, with which a cap on output tokens has ended an answer."""

REASON_KEYS: Final = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")
"""Where providers say it: OpenAI, Anthropic, Bedrock, Ollama, OpenAI's Responses API."""
_REFUSED: Final = ("incomplete_details", "block_reason", "refusal")
"""Keys that stand only in answers that were blocked, refused or broken off."""


def is_whole(generations: Iterable[Generation]) -> bool:
    """Whether no provider says that one of these answers is cut, refused or unfinished.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> from langchain_core.outputs import ChatGeneration
        >>> def said(**metadata):
        ...     return [ChatGeneration(message=AIMessage("Yes.", response_metadata=metadata))]
        >>> is_whole(said(finish_reason="stop")), is_whole(said(finish_reason="length"))
        (True, False)
        >>> is_whole(said())
        True
    """
    return all(map(_is_whole, generations))


def _is_whole(generation: Generation) -> bool:
    message = getattr(generation, "message", None)
    for said in (
        generation.generation_info,
        getattr(message, "response_metadata", None),
        getattr(message, "additional_kwargs", None),
    ):
        if said and not _says_whole(said):
            return False
    return True


def _says_whole(said: Mapping[str, Any]) -> bool:
    if any(said.get(key) for key in _REFUSED):
        return False
    feedback = said.get("prompt_feedback")  # Gemini
    if isinstance(feedback, Mapping) and feedback.get("block_reason"):
        return False
    return all(_is_whole_reason(said[key]) for key in REASON_KEYS if said.get(key) is not None)


def _is_whole_reason(reason: Any) -> bool:
    word = _word(reason)
    return not word or word in WHOLE or _is_repeated(word)


def _is_repeated(word: str) -> bool:
    """Whether merged chunks, each with the reason, have written it in a row."""
    return any(
        word == reason * (len(word) // len(reason)) for reason in WHOLE if word.startswith(reason)
    )


_DECLINED: Final = frozenset(
    {"content_filter", "refusal", "safety", "prohibited_content", "blocked"}
)
"""Reasons, in lower case, with which an answer was refused."""


def is_refused_by_provider(said: Mapping[str, Any]) -> bool:
    """Whether a provider says that the answer was refused or filtered.

    Args:
        said: The answer's ``response_metadata``, ``additional_kwargs``, or both.

    Example:
        >>> is_refused_by_provider({"finish_reason": "content_filter"}), is_refused_by_provider({})
        (True, False)
    """
    if any(said.get(key) for key in ("refusal", "block_reason")):
        return True
    return any(_word(said[key]) in _DECLINED for key in REASON_KEYS if said.get(key) is not None)


def says_cap_reached(said: Mapping[str, Any]) -> bool:
    """Whether a provider says that a cap on output tokens has ended the answer.

    Args:
        said: The answer's ``response_metadata`` or ``generation_info``.

    Example:
        >>> says_cap_reached({"stop_reason": "max_tokens"}), says_cap_reached({})
        (True, False)
    """
    details = said.get("incomplete_details")  # OpenAI's Responses API; its status is no reason
    reasons = [said[key] for key in REASON_KEYS if said.get(key) is not None]
    reasons += [details.get("reason")] if isinstance(details, Mapping) else []
    return any(_word(reason) in AT_CAP for reason in reasons)


def _word(reason: Any) -> str:
    return str(getattr(reason, "name", reason)).lower()
