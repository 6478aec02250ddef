"""Whatever interrupts the handler, no call is lost and nothing hangs."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from langchain_tokenopt import BudgetPlan, TokenUsageCallbackHandler, optimize, track_usage
from langchain_tokenopt.core.staged_runs import _published
from langchain_tokenopt.tracking import call_tracker
from tests.support.stages import Recording
from tests.support.waiting import limit_once, until


class _Ignoring:
    def record(self, event: Any) -> None:
        pass


@pytest.mark.parametrize("staged", [False, True], ids=["plain", "staged"])
def test_a_left_stream_that_is_collected_within_the_handler_hangs_nothing(staged, monkeypatch):
    """Its call is settled by the same thread, within the lock, and counted."""
    attribute = call_tracker.attribution_of

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        gc.collect()
        return attribute(*args, **kwargs)

    monkeypatch.setattr(call_tracker, "attribution_of", interrupted)
    handler = TokenUsageCallbackHandler([_Ignoring()])
    model = FakeListChatModel(responses=["one two three"])
    model = optimize(model, Recording()) if staged else model
    _begun.clear()
    totals: list[int] = []

    def work() -> None:
        stream = model.stream("hi", config={"callbacks": [handler]})
        next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del stream, cycle
        model.invoke("hi", config={"callbacks": [handler]})
        totals.append(handler.totals().calls)

    gc.disable()
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(20)
    finally:
        gc.enable()
    assert totals == [2], "the handler hangs" if thread.is_alive() else ""


def test_nested_trackers_that_are_read_at_once_lose_no_call(monkeypatch):
    """Both make a record of the same call, each in its own thread."""
    read = call_tracker.read_answer

    def slowly(*args: Any) -> Any:
        time.sleep(0.05)
        return read(*args)

    monkeypatch.setattr(call_tracker, "read_answer", slowly)
    with track_usage() as outer, track_usage() as inner:
        from langchain_core.messages import AIMessage

        class Reporting(FakeListChatModel):
            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                result = super()._generate(*args, **kwargs)
                usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
                result.generations[0].message = AIMessage("four", usage_metadata=usage)
                return result

        Reporting(responses=["four"]).invoke("2 + 2?")
        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(lambda tracker: tracker.totals().input_tokens, (outer, inner)))

    assert told == [9, 9]


async def test_a_task_that_makes_many_calls_does_not_grow():
    """Each call takes its watch off the task again."""
    task = asyncio.current_task()
    before = repr(task)
    with track_usage() as usage:
        model = optimize(FakeListChatModel(responses=["four"]), Recording())
        for _ in range(50):
            await model.ainvoke("2 + 2?")
    assert usage.totals().calls == 50
    assert repr(task).count("cb=") == before.count("cb=")


async def test_a_cancelled_call_leaves_no_prompt_behind():
    """LangChain does not tell of its end; it ends with its task."""
    model = optimize(FakeListChatModel(responses=["four"], sleep=60), Recording())
    with track_usage() as usage:
        task = asyncio.create_task(model.ainvoke("a long secret"))
        await until(lambda: _published)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
    assert not _published
    assert usage.totals().calls == 1


@pytest.mark.parametrize("staged", [False, True], ids=["plain", "staged"])
async def test_a_call_that_timed_out_is_counted_at_once(staged):
    """The task goes on: its end would come too late, and its calls would pile up."""
    model: Any = _Waiting(responses=["four"])
    model = optimize(model, Recording()) if staged else model
    _begun.clear()
    with track_usage() as usage:
        for count in range(1, 4):
            with suppress(TimeoutError):
                async with limit_once(lambda count=count: len(_begun) == count):
                    await model.ainvoke("a long question, which was sent")
            await asyncio.sleep(0)  # until then the event loop holds the frames of the call
            assert usage.totals().calls == count
    assert not _published
    assert not usage._watch._watched
    assert {(r.status, r.source) for r in usage.records} == {("abandoned", "estimated")}
    assert all(r.usage.input_tokens > 5 and not r.usage.output_tokens for r in usage.records)


_begun: list[int] = []


class _Waiting(FakeListChatModel):
    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        _begun.append(1)
        await asyncio.sleep(60)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        _begun.append(1)
        await asyncio.sleep(60)
        yield


async def test_a_task_that_never_ends_keeps_nothing_of_its_jobs():
    """A worker opens a tracker and a plan per job, for weeks; jobs fail and time out as well."""
    plan, waiting = BudgetPlan(total_tokens=100_000), _Waiting(responses=["four"])
    model = FakeListChatModel(responses=["four"])

    async def job() -> None:
        with plan.run(), track_usage():
            await model.ainvoke("2 + 2?")
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await waiting.ainvoke("2 + 2?")

    for _ in range(20):
        await job()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(60):
        await job()
    gc.collect()
    assert len(gc.get_objects()) - before < 60
