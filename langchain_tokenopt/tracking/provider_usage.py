"""What a provider reported about a call, in the shapes that LangChain passes it on.

Pure functions on messages and results. Where several shapes are possible the docstring says which
integration produces which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_tokenopt.core.host_compat import core_marks_cache_hits
from langchain_tokenopt.core.staged_runs import ESTIMATED_USAGE, CacheHit
from langchain_tokenopt.core.usage import Usage

__all__ = [
    "asked_model",
    "is_estimated",
    "is_marked_hit",
    "reported_usage",
    "response_metadata_of",
    "without_repetition",
    "written",
]


def asked_model(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    """Return the name of the model that a run asks, as LangChain tells handlers of it.

    Args:
        metadata: Of the run; chat models name themselves there.
        params: The run's invocation parameters, where all others do.
    """
    return metadata.get("ls_model_name") or params.get("model") or params.get("model_name")


def response_metadata_of(
    response: LLMResult | None, generations: Sequence[Generation]
) -> Mapping[str, Any]:
    """Return what the provider says of its answer: model name, service tier, finish reason."""
    said: Mapping[str, Any] = (response and response.llm_output) or {}
    for generation in generations:
        if isinstance(generation, ChatGeneration) and generation.message.response_metadata:
            own = generation.message.response_metadata
            said = {**said, **own} if said else own
    return said


def reported_usage(response: LLMResult, generations: Sequence[Generation]) -> Usage | None:
    """Return the usage of the whole call, or ``None`` where the provider was silent.

    What the seam has counted itself, for an answer that a stage has cut, is no report.

    With several generations, providers put the usage of the whole call on each message, or on the
    first alone; where messages carry different numbers each has its own output.
    """
    if len(generations) == 1:
        message = getattr(generations[0], "message", None)
        if is_estimated(message):
            return None
        usage = getattr(message, "usage_metadata", None)
        if usage and "input_tokens" in usage:
            return Usage.from_metadata(usage)
        return _usage_of_llm_output(response)
    told = [
        Usage.from_metadata(usage)
        for generation in generations
        if (usage := getattr(getattr(generation, "message", None), "usage_metadata", None))
        and "input_tokens" in usage
    ]
    if told:
        largest = max(told, key=lambda usage: usage.total_tokens)
        if all(usage == largest or usage.total_tokens == 0 for usage in told):
            return largest
        return _usage_of_llm_output(response) or replace(
            largest, output_tokens=sum(usage.output_tokens for usage in told)
        )
    return _usage_of_llm_output(response)


def is_estimated(message: BaseMessage | None) -> bool:
    """Whether the usage on *message* was counted by the seam."""
    return message is not None and ESTIMATED_USAGE in message.response_metadata


def _usage_of_llm_output(response: LLMResult) -> Usage | None:
    """Read ``llm_output["token_usage"]``, where completion models put their usage.

    For a batch of prompts LangChain leaves the numbers with the first and empties the others.
    """
    output = response.llm_output or {}
    usage = output.get("token_usage")
    if usage is None:
        usage = output.get("usage")
    if not isinstance(usage, Mapping):
        return None
    return Usage(
        usage.get("prompt_tokens") or usage.get("input_tokens") or 0,
        usage.get("completion_tokens") or usage.get("output_tokens") or 0,
    )


def without_repetition(
    reported: Usage, pieces: Sequence[AIMessage], count: Callable[[str], int]
) -> Usage:
    """Undo the sum that LangChain makes of usage repeated in every chunk.

    Some providers send the running total with each chunk (vLLM's continuous usage, older Gemini),
    and merging chunks adds them up. Input tokens are never handed out piecemeal, so more than one
    chunk that carries them means running totals.

    Args:
        reported: The usage of the merged message.
        pieces: The chunks as they came.
        count: Counts the tokens of a text; asked only where the numbers leave two readings.

    Example:
        >>> total = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
        >>> chunks = [AIMessage("a", usage_metadata=total), AIMessage("b", usage_metadata=total)]
        >>> without_repetition(Usage(18, 4), chunks, count=len)
        Usage(input_tokens=9, output_tokens=2)
    """
    told = [Usage.from_metadata(p.usage_metadata) for p in pieces if p.usage_metadata]
    if sum(usage.input_tokens > 0 for usage in told) < 2:
        return reported
    last = told[-1] if told[-1].input_tokens else max(told, key=lambda usage: usage.input_tokens)
    outputs = [usage.output_tokens for usage in told]
    total = sum(outputs)
    if outputs != sorted(outputs):
        return replace(last, output_tokens=total)
    if len(set(outputs)) == 1:  # either a repeated total or the size of each piece
        written_tokens = count("".join(map(written, pieces)))
        if abs(total - written_tokens) < abs(outputs[-1] - written_tokens):
            return replace(last, output_tokens=total)
    return replace(last, output_tokens=outputs[-1])


def written(piece: Any) -> str:
    """Everything that a message, chunk, content list or string made the model write."""
    if isinstance(piece, str):
        return piece
    content = piece.content if isinstance(piece, BaseMessage) else piece
    blocks = [content] if isinstance(content, str | dict) else content or ()
    text = "".join(
        block
        if isinstance(block, str)
        else str(block.get("text") or block.get("reasoning") or block.get("thinking") or "")
        for block in blocks
    )
    calls = getattr(piece, "tool_call_chunks", None) or getattr(piece, "tool_calls", None) or ()
    return text + "".join(f"{call.get('name') or ''}{call.get('args') or ''}" for call in calls)


def is_marked_hit(generation: Generation, run_id: UUID) -> bool:
    """Recognise an answer that LangChain took from a response cache.

    Our own cache marks its ``generation_info``. For others: langchain-core sets ``total_cost`` to 0
    in the usage of a hit (it plans to stop that), and the message keeps the id of the run that once
    produced it.
    """
    if isinstance(generation.generation_info, CacheHit):
        return True
    message = getattr(generation, "message", None)
    if message is None:
        return False
    if core_marks_cache_hits():
        usage = getattr(message, "usage_metadata", None) or {}
        return usage.get("total_cost") == 0
    prefix, _, rest = (message.id or "").partition("lc_run--")
    return bool(prefix == "" and rest and not rest.startswith(str(run_id)))
