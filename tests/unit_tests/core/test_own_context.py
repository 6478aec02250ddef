"""Blocks in generators: right in a context of their own, a warning elsewhere, never a leak."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt import (
    BudgetPlan,
    SemanticCache,
    TokenOptWarning,
    Usage,
    in_own_context,
    token_scope,
    track_usage,
)
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.staged_runs import TRACKER
from langchain_tokenopt.stage import AMBIENT
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.waiting import until

BILL = Usage(100, 10)


def asks(times: int, user: str, seen: list[Any]) -> Iterator[int]:
    """Ask a model again and again inside a block of one's own."""
    model = fake_chat(answers=[FakeAnswer(usage=BILL)] * times)
    with track_usage(user=user) as usage:
        seen.append(usage)
        for n in range(times):
            model.invoke("Hi")
            yield n


async def asks_async(times: int, user: str, seen: list[Any]) -> AsyncIterator[int]:
    model = fake_chat("_agenerate", answers=[FakeAnswer(usage=BILL)] * times)
    with track_usage(user=user) as usage:
        seen.append(usage)
        for n in range(times):
            await model.ainvoke("Hi")
            yield n


def calls_by_user(seen: list[Any]) -> list[dict[str, int]]:
    return [{user: t.calls for user, t in usage.by("user").items()} for usage in seen]


def test_generators_that_are_read_in_turns_count_their_own() -> None:
    seen: list[Any] = []
    readers = [in_own_context(asks(3, user, seen)) for user in ("ann", "ben")]
    for _ in range(3):
        for reader in readers:
            next(reader)
        assert TRACKER.get() is None
    assert [next(reader, None) for reader in readers] == [None, None]
    assert calls_by_user(seen) == [{"ann": 3}, {"ben": 3}]


async def test_async_generators_that_are_read_in_turns_count_their_own() -> None:
    seen: list[Any] = []
    readers = [in_own_context(asks_async(3, user, seen)) for user in ("ann", "ben")]
    for _ in range(3):
        for reader in readers:
            await anext(reader)
        assert TRACKER.get() is None
    assert [await anext(reader, None) for reader in readers] == [None, None]
    assert calls_by_user(seen) == [{"ann": 3}, {"ben": 3}]


def test_a_generator_may_be_read_in_many_threads() -> None:
    seen: list[Any] = []
    reader = in_own_context(asks(4, "ann", seen))
    for _ in range(5):
        thread = threading.Thread(target=copy_context().run, args=(next, reader, None))
        thread.start()
        thread.join()
    assert calls_by_user(seen) == [{"ann": 4}]


def test_without_it_readers_in_turns_are_warned_and_nothing_stays() -> None:
    seen: list[Any] = []
    readers = [asks(3, user, seen) for user in ("ann", "ben")]
    for _ in range(3):
        for reader in readers:
            next(reader)
    with pytest.warns(TokenOptWarning, match="left before a block that began inside of it"):
        assert next(readers[0], None) is None
    assert next(readers[1], None) is None
    assert TRACKER.get() is None


@pytest.mark.parametrize(
    "block",
    [
        track_usage,
        lambda: token_scope(user="ann", level="aggressive"),
        lambda: token_scope(user="ann", cache=SemanticCache()),
        lambda: BudgetPlan(total_tokens=1_000).run(),
        lambda: SemanticCache().scope(user="ann"),
    ],
    ids=["track_usage", "token_scope", "token_scope with a cache", "plan.run", "cache.scope"],
)
def test_every_block_warns_where_it_is_left_in_another_context(
    block: Callable[[], AbstractContextManager[Any]],
) -> None:
    def body() -> Iterator[int]:
        with block():
            yield 1

    reader = body()
    assert copy_context().run(next, reader) == 1
    with pytest.warns(TokenOptWarning, match="left in another context"):
        assert copy_context().run(next, reader, None) is None
    assert (TRACKER.get(), AMBIENT.get()) == (None, ())


def test_a_generator_that_the_garbage_collector_closes_takes_nothing_from_others() -> None:
    reader = asks(3, "ann", [])
    copy_context().run(next, reader)
    with track_usage(user="carl") as usage, warnings.catch_warnings():
        warnings.simplefilter("error")
        del reader
        gc.collect()
        fake_chat(answers=[FakeAnswer(usage=BILL)]).invoke("Hi")
    assert calls_by_user([usage]) == [{"carl": 1}]


def test_closing_the_reader_closes_the_generator_in_its_context() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")
    ends: list[str] = []

    def body() -> Iterator[int]:
        name.set("ann")
        try:
            yield 1
        finally:
            ends.append(name.get())

    reader = in_own_context(body())
    next(reader)
    reader.close()  # type: ignore[attr-defined]  # it is a generator
    assert (ends, name.get()) == (["ann"], "nobody")


async def test_cancellation_reaches_the_generator() -> None:
    ends: list[str] = []

    async def body() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    begun: list[int] = []

    async def read() -> None:
        async for number in in_own_context(body()):
            begun.append(number)  # noqa: PERF401  seen while it grows

    reading = asyncio.create_task(read())
    await until(lambda: begun)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ends == ["cancelled"]


async def test_errors_and_time_limits_pass_through() -> None:
    async def body() -> AsyncIterator[int]:
        async with asyncio.timeout(0.01):
            yield 1
            await asyncio.sleep(60)

    reader = in_own_context(body())
    assert await anext(reader) == 1
    with pytest.raises(TimeoutError):
        await anext(reader)

    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_own_context(broken()))


def test_it_takes_generators_only() -> None:
    with pytest.raises(TypeError, match="got a list"):
        in_own_context([1, 2])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="got a function"):
        in_own_context(asks)  # type: ignore[call-overload]


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.randoms())
def test_whatever_the_order_nothing_is_left_in_the_end(enters: list[bool], random: Any) -> None:
    """Blocks that are entered and left in any order: the last one takes everything back."""
    value: ContextVar[int] = ContextVar("value", default=0)
    open_blocks: list[ContextBlock] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, enter in enumerate(enters, start=1):
            if enter:
                open_blocks.append(ContextBlock({value: number}))
                open_blocks[-1].__enter__()
                assert value.get() == number
            elif open_blocks:
                block = open_blocks.pop(random.randrange(len(open_blocks)))
                block.__exit__(None, None, None)
        while open_blocks:
            open_blocks.pop(random.randrange(len(open_blocks))).__exit__(None, None, None)
    assert value.get() == 0
