"""How the model is asked and its pieces are handed on, sync and async alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_tokenopt.chat_model.stage_chain import StageChain
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.messages import as_chunk
from langchain_tokenopt.request.model_request import Answer, ModelRequest

__all__ = ["as_one_chunk", "refuses_streams", "stream_kwargs", "takes_parameter"]


def refuses_streams(error: Exception, chain: StageChain) -> bool:
    """Whether to ask again without streaming, which the caller did not request anyway."""
    refused = getattr(error, "status_code", None) == 400 and not chain.run.received
    if refused:
        warnings.warn(
            f"The model refused to stream ({error}); it was asked again without, so a stage could "
            f"not stop it early.",
            TokenOptWarning,
            stacklevel=2,
        )
    return refused


def stream_kwargs(request: ModelRequest) -> dict[str, Any]:
    """Ask for the usage of a stream that the caller did not request: a plain call reports it."""
    kwargs, model = dict(request.kwargs), request.model
    has_option = "stream_usage" in type(model).model_fields
    if has_option and not request.streaming and "stream_usage" not in model.model_fields_set:
        kwargs.setdefault("stream_usage", True)
    return kwargs


def takes_parameter(method: Callable[..., Any], parameter: str) -> bool:
    """Whether *method* can be given *parameter*; not all models take a run manager."""
    return parameter in _parameters(getattr(method, "__func__", method))


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)


def as_one_chunk(answer: Answer) -> ChatGenerationChunk:
    """Return a whole answer as the only piece of a stream."""
    info = answer.result.generations[0].generation_info
    return ChatGenerationChunk(message=as_chunk(answer.message), generation_info=info)


def as_chunks(mark: AIMessageChunk | None) -> tuple[ChatGenerationChunk, ...]:
    """Return *mark* as the last piece of a stream, if there is one."""
    return () if mark is None else (ChatGenerationChunk(message=mark),)


def with_mark(result: ChatResult, mark: AIMessageChunk | None) -> ChatResult:
    """Return *result* with *mark* on its message, if there is one."""
    if mark is None:
        return result
    (generation,) = result.generations
    message = generation.message
    changes: dict[str, Any] = {
        "response_metadata": {**message.response_metadata, **mark.response_metadata}
    }
    if mark.usage_metadata is not None:
        changes["usage_metadata"] = mark.usage_metadata
    marked = ChatGeneration(
        message=message.model_copy(update=changes), generation_info=generation.generation_info
    )
    return ChatResult(generations=[marked], llm_output=result.llm_output)


def announced_with(chunk: ChatGenerationChunk) -> dict[str, Any]:
    """Return what handlers are told of a piece besides its text, as langchain-openai does."""
    logprobs = (chunk.generation_info or {}).get("logprobs")
    return {} if logprobs is None else {"logprobs": logprobs}
