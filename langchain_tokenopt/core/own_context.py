"""Generators with a context of their own: what is set in them reaches no further than they do.

What a generator sets in a ``with`` block that has a ``yield`` in it is set for whoever reads it as
well, and a web server that reads it step by step in threads gives each step another context. Run
every step in one context, and both are as one would think.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from contextvars import Context, copy_context
from typing import Any, TypeVar, overload

__all__ = ["in_own_context"]

T = TypeVar("T")


@overload
def in_own_context(generator: Iterator[T]) -> Iterator[T]: ...
@overload
def in_own_context(generator: AsyncIterator[T]) -> AsyncIterator[T]: ...
def in_own_context(generator: Iterator[T] | AsyncIterator[T]) -> Iterator[T] | AsyncIterator[T]:
    """Run every step of *generator* in one context: a copy of the one in which this is called.

    For streaming responses: ``track_usage``, ``token_scope`` and ``plan.run`` in the generator then
    hold from where they begin to where they end, whoever reads it, in which thread, and in turns
    with whatever else. Nothing that is set inside reaches the reader.

    Args:
        generator: As a generator function returns it, sync or async; nobody has begun to read it.
            (Such functions are mostly annotated with the iterator that they return.)

    Returns:
        An iterator of the same kind over the same items. Closing it closes *generator*.

    Raises:
        TypeError: If *generator* is not one.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_tokenopt import track_usage
        >>> model = FakeListChatModel(responses=["Four."])
        >>> def answer(question):
        ...     with track_usage(user="ann") as usage:
        ...         for chunk in model.stream(question):
        ...             yield chunk.text
        >>> "".join(in_own_context(answer("What is 2 + 2?")))
        'Four.'
    """
    context = copy_context()
    if isinstance(generator, AsyncGenerator):
        return _async_steps(generator, context)
    if isinstance(generator, Generator):
        return _steps(generator, context)
    raise TypeError(
        f"in_own_context runs a generator, and got a {type(generator).__name__}. Call a generator "
        f"function first: in_own_context(answer(question))."
    )


def _steps(generator: Generator[T, None, Any], context: Context) -> Iterator[T]:
    try:
        while True:
            try:
                item = context.run(next, generator)
            except StopIteration:
                return
            yield item
    finally:
        context.run(generator.close)


async def _async_steps(generator: AsyncGenerator[T, None], context: Context) -> AsyncIterator[T]:
    try:
        while True:
            try:
                item = await _In(context, generator.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        await _In(context, generator.aclose())


class _In:
    """Awaits something in a context, in the task that awaits this."""

    def __init__(self, context: Context, awaitable: Awaitable[Any]) -> None:
        self._context = context
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaitable.__await__()
        do, given = steps.send, None
        while True:
            try:
                waits_for = self._context.run(do, given)
            except StopIteration as done:
                return done.value
            try:
                do, given = steps.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001  it is the awaitable's to answer
                do, given = steps.throw, error
