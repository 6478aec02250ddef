"""How the model is asked and its pieces are handed on, sync and async alike."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from functools import cache
from inspect import isroutine, signature
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_tokenopt.chat_model.stage_chain import StageChain
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.host_compat import would_stream
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["may_stream", "refuses_streams", "streaming_model", "takes_parameter"]


_REFUSALS: Final = frozenset({400, 404, 405, 406, 415, 422, 501})
"""Statuses that say that a request cannot be served in this form. Not those that say that it may
not be served, or not now: asking again at once would make that worse."""


def may_stream(request: ModelRequest, *, async_api: bool) -> bool:
    """Whether a call that nobody streams may be: the answer must be what it would have been."""
    is_same = _streams_what_it_says(type(request.model))
    return is_same and would_stream(request.model, request.kwargs, async_api=async_api)


@cache
def _streams_what_it_says(model: type[BaseChatModel]) -> bool:
    """Whether a class does with a stream what it does with a whole answer.

    Whoever wrote its stream knows. What a class below adds may be for whole answers alone, such as
    a ``_create_chat_result`` that keeps the reasoning: only what is surely not is let pass.
    """
    for cls in model.__mro__:
        own = vars(cls)
        if "_stream" in own or "_astream" in own:
            return True
        methods = {name for name, member in own.items() if isroutine(member)}
        if any(not _DUNDER.fullmatch(name) for name in methods - _NOT_OF_ANSWERS):
            return False
    return True


_NOT_OF_ANSWERS: Final = frozenset(
    {
        *(
            "model_post_init",
            "invoke",
            "ainvoke",
            "batch",
            "abatch",
            "bind_tools",
            "with_structured_output",
        ),
        *("get_lc_namespace", "is_lc_serializable", "get_num_tokens", "get_token_ids"),
        *("get_num_tokens_from_messages", "_get_ls_params", "_get_request_payload"),
    }
)
"""Methods of a class that have no part in what becomes of an answer."""
_DUNDER: Final = re.compile(r"__\w+__")


def refuses_streams(error: Exception, chain: StageChain) -> bool:
    """Whether to ask again without streaming, which the caller did not request anyway.

    So it is when nothing has come yet, and the error says that the request was not accepted in this
    form: by the provider, or by the model's own class, which then has not sent anything.
    """
    by_class = isinstance(error, NotImplementedError | TypeError)
    refused = by_class or getattr(error, "status_code", None) in _REFUSALS
    if not refused or chain.run.received or chain.has_arrived:
        return False
    warnings.warn(
        f"The model refused to stream ({error}); it was asked again without, so a stage could "
        f"not stop it early.",
        TokenOptWarning,
        stacklevel=2,
    )
    return True


def streaming_model(request: ModelRequest) -> BaseChatModel:
    """Return the model to stream from.

    A stream that the caller did not request shall report its usage, as a plain call does. That is
    set on the model, not given as an argument: not all of a model's protocols take that.
    """
    model = request.model
    has_option = "stream_usage" in type(model).model_fields
    is_set = "stream_usage" in model.model_fields_set or "stream_usage" in request.kwargs
    if not has_option or request.streaming or is_set:
        return model
    reporting = copy.copy(model)
    reporting.__dict__["stream_usage"] = True
    return reporting


def takes_parameter(method: Callable[..., Any], parameter: str) -> bool:
    """Whether *method* can be given *parameter*; not all models take a run manager."""
    return parameter in _parameters(getattr(method, "__func__", method))


@cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)


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
