"""A node of a graph whose messages stand packed in the state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.types import Command

from langchain_tokenopt.compress.message_templates import MessageTemplates
from langchain_tokenopt.graph.node import is_a, like

__all__ = ["templated"]

Node = TypeVar("Node")


def templated(node: Node, templates: MessageTemplates, *, expand: bool = True) -> Node:
    """Return *node*, which is given messages as objects and whose messages are written packed.

    What stands under the keys of the state is expanded before the node reads it, and what it
    returns is packed, lists item by item, in an update and in the update of a ``Command``. So the
    state, its checkpoints and the prompts made of it hold the short form. All else, LangChain's
    messages among it, stays as it is; so do signature, injected parameters and errors.

    Args:
        node: A function, a coroutine function, a callable object or a runnable.
        templates: Which messages are packed.
        expand: Whether the node reads objects; ``False`` for one that puts the packed text into a
            prompt.

    Raises:
        TypeError: *node* is none of those, or a generator.

    Example:
        >>> from langchain_tokenopt.compress.message_forms import Question
        >>> def ask(state: dict) -> dict:
        ...     return {"open": Question(text="Which limit holds?")}
        >>> print(templated(ask, MessageTemplates())({})["open"])
        question seal=697686
        text: Which limit holds?
    """
    before: Callable[[Any], Any] = (lambda state: _each(state, templates.expand)) if expand else _as
    after: Callable[[Any], Any] = lambda returned: _packed(returned, templates)  # noqa: E731
    if isinstance(node, Runnable):
        chain = RunnableLambda(before) | node | RunnableLambda(after)
        return cast("Node", chain.with_config(run_name=node.get_name()))
    kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if not callable(node) or any(is_a(kind, node) for kind in kinds):
        raise TypeError(
            f"a node with templates is a function or a runnable, no generator; got {node!r}."
        )
    function: Callable[..., Any] = node

    def calling(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _with_state(args, kwargs, before)
        return after(function(*args, **kwargs))

    async def awaiting(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _with_state(args, kwargs, before)
        return after(await function(*args, **kwargs))

    is_coroutine = is_a(inspect.iscoroutinefunction, function)
    return cast("Node", like(function, awaiting if is_coroutine else calling))


def _as(state: Any) -> Any:
    return state


def _with_state(
    args: tuple[Any, ...], kwargs: dict[str, Any], before: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args:
        return (before(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "state": before(kwargs["state"])} if "state" in kwargs else kwargs


def _each(state: Any, change: Callable[[Any], Any]) -> Any:
    """Change the values of a mapping, lists item by item; nothing else is touched."""
    if not isinstance(state, Mapping):
        return state
    return {
        key: [change(item) for item in value] if type(value) is list else change(value)
        for key, value in state.items()
    }


def _packed(returned: Any, templates: MessageTemplates) -> Any:
    if isinstance(returned, Command):
        return replace(returned, update=_each(returned.update, templates.pack))
    if isinstance(returned, list):
        return [_packed(one, templates) for one in returned]
    return _each(returned, templates.pack)
