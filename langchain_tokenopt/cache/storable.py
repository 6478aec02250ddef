"""Whether an answer may be kept at all."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.request.finish_reasons import is_whole

__all__ = ["why_not_stored"]


def why_not_stored(answers: Sequence[Generation], *, tool_calls: bool) -> str:
    """Return why answers must not be kept, or '' when they may.

    Args:
        answers: What the model has returned.
        tool_calls: Whether answers that call tools may be kept.

    Example:
        >>> why_not_stored([Generation(text="Yes.")], tool_calls=False)
        ''
        >>> cut = Generation(text="Once", generation_info={"finish_reason": "length"})
        >>> why_not_stored([cut], tool_calls=False)
        'not whole'
    """
    for answer in answers:
        message = getattr(answer, "message", None)
        if isinstance(message, AIMessage):
            if message.invalid_tool_calls or (message.tool_calls and not tool_calls):
                return "tool_calls"
            if isinstance(message.content, list) and any(map(_is_refusal, message.content)):
                return "not whole"
            is_empty = not message.content and not message.tool_calls
        else:
            is_empty = not answer.text
        if not is_whole([answer]):
            return "not whole"
        if is_empty:
            return "empty"
    return "" if answers else "empty"


def _is_refusal(block: object) -> bool:
    """Say whether a block of content is OpenAI's word that there is no answer."""
    if not isinstance(block, dict):
        return False
    value = block.get("value")
    return "refusal" in block or (isinstance(value, dict) and "refusal" in value)
