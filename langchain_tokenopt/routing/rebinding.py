"""A request as another model's class would have made it.

What is bound to a model is written in its provider's format. A model of another class gets it in
its own, made by its own ``bind_tools``; what is not known to mean the same there is not translated,
and the request then stays with models of its class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokenopt.core.tool_schemas import declared_functions
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.request.output_caps import CAP_NAMES

__all__ = ["is_same_class", "rebound"]

_TRANSLATED: Final = frozenset({"tools", "tool_choice", "ls_structured_output_format", *CAP_NAMES})
_ONE_CALL: Final = "parallel_tool_calls"
_WITHOUT_EFFECT: Final[Mapping[str, tuple[Any, ...]]] = {
    _ONE_CALL: (None, True, False),
    "strict": (None, False),
    "stream": (None, False, True),
}
"""Settings that say what holds without them."""
_ANY: Final = ("any", "required", True)
_AUTO: Final = (None, "auto", False)
_PLAIN_BLOCKS: Final = frozenset({"text", "image_url", "tool_use"})
"""Content blocks that every integration reads, or leaves out beside the message's tool calls."""


def is_same_class(one: BaseChatModel, other: BaseChatModel) -> bool:
    """Whether two models take the same settings: one of them has its methods from the other."""
    first, second = type(one), type(other)
    return first._generate is second._generate and first.bind_tools is second.bind_tools


def rebound(request: ModelRequest, model: BaseChatModel) -> ModelRequest | None:
    """Return *request* for *model*; ``None`` where not all of it can be said to it."""
    if is_same_class(request.model, model):
        return request.override(model=model)
    if not all(map(_is_plain, request.messages)):
        return None
    rest = {name: v for name, v in request.kwargs.items() if name not in _TRANSLATED}
    if any(
        name not in _WITHOUT_EFFECT or v not in _WITHOUT_EFFECT[name] for name, v in rest.items()
    ):
        return None
    kwargs: Mapping[str, Any] | None = {}
    if request.tools:
        kwargs = _bound(model, request.tools, request.kwargs)
    elif request.kwargs.get("ls_structured_output_format") is not None:
        return None
    if kwargs is None:
        return None
    made = request.override(model=model, kwargs=kwargs)
    cap = request.facts.output_cap if any(map(request.kwargs.get, CAP_NAMES)) else None
    return made if cap is None else made.with_output_cap(cap)


def _is_plain(message: BaseMessage) -> bool:
    if isinstance(message.content, str):
        return True
    return all(
        isinstance(block, str)
        or block.get("type") in _PLAIN_BLOCKS
        or (block.get("type") == "image" and ("base64" in block or "url" in block))
        for block in message.content
    ) and not (isinstance(message, AIMessage) and message.additional_kwargs.get("reasoning"))


def _bound(
    model: BaseChatModel, tools: Sequence[Any], given: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return what the model's class makes of tools in another's format."""
    choice = given.get("tool_choice")
    declared = [declared_functions(tool) for tool in tools]
    if not all(declared):  # one runs at its provider
        return None
    options: dict[str, Any] = {}
    if isinstance(choice, Mapping) and [*choice] == ["type"]:  # Anthropic's
        choice = choice["type"]
    name = choice if isinstance(choice, str) else _name_in(choice)
    functions = [function for found in declared for function in found]
    if choice in _ANY:
        options["tool_choice"] = "any"
    elif name in {function.name for function in functions}:
        options["tool_choice"] = name
    elif choice not in _AUTO:
        return None
    if given.get(_ONE_CALL) is False:
        if _ONE_CALL in signature(model.bind_tools).parameters:
            options[_ONE_CALL] = False
        elif options.get("tool_choice") in (None, "any"):
            return None
    schemas = [
        {
            "type": "function",
            "function": {
                "name": function.name,
                "description": function.description,
                "parameters": json.loads(json.dumps(function.parameters))
                or {"type": "object", "properties": {}},
            },
        }
        for function in functions
    ]
    try:
        bound = model.bind_tools(schemas, **options)
    except Exception:  # noqa: BLE001  an integration that does not take them so: it is not asked
        return None
    kwargs = getattr(bound, "kwargs", None)
    return kwargs if isinstance(kwargs, Mapping) else None


def _name_in(choice: Any) -> str | None:
    """Return the tool that must be called, in OpenAI's or Anthropic's format."""
    if not isinstance(choice, Mapping):
        return None
    inner = choice.get("function")
    found = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
    return found if isinstance(found, str) else None
