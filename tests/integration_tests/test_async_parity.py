"""Sync and async do the same: the same on the wire, the same answer, the same bill."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.caches import InMemoryCache

from langchain_tokenopt import TokenUsageCallbackHandler, optimize, track_usage
from langchain_tokenopt.core.usage import Usage
from tests.support.model_server import ModelServer, Reply
from tests.support.stages import HoldBack, Rewrite, Say, StopAfter, Upper

STAGES: dict[str, tuple[Any, ...]] = {
    "none": (),
    "request": (Rewrite("short"),),
    "pieces": (Upper(), HoldBack()),
    "stop": (StopAfter(3),),
    "answer": (Say("no"),),
}


def _reset(server: ModelServer) -> None:
    server.reset()
    reply = Reply(text="one two three four", usage=Usage(100, 4))
    server.script(reply, reply, reply)


def _bill(usage: TokenUsageCallbackHandler) -> list[Any]:
    return [(r.usage, r.source, r.status, r.cached, r.cost_nano_usd) for r in usage.records]


def _asked(server: ModelServer) -> list[Any]:
    return [request.body for request in server.requests]


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES.keys())
@pytest.mark.parametrize("with_cache", [False, True], ids=["no cache", "cache"])
async def test_calls(model_server, stages, with_cache):
    """Calls made with invoke and ainvoke, twice each."""
    answers, asked, bills = [], [], []
    for is_async in (False, True):
        _reset(model_server)
        cache = (InMemoryCache(),) if with_cache else ()
        model = optimize(model_server.chat_openai(), *stages, *cache)
        with track_usage() as usage:
            for _ in range(2):
                answer = await model.ainvoke("q") if is_async else model.invoke("q")
                answers.append(answer.content)
        asked.append(_asked(model_server))
        bills.append(_bill(usage))

    assert answers[:2] == answers[2:]
    assert asked[0] == asked[1]
    assert bills[0] == bills[1]


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES.keys())
async def test_streams(model_server, stages):
    """The same pieces in the same order."""
    pieces, asked, bills = [], [], []
    for is_async in (False, True):
        _reset(model_server)
        model = optimize(model_server.chat_openai(stream_usage=True), *stages)
        with track_usage() as usage:
            if is_async:
                pieces.append([chunk.content async for chunk in model.astream("q")])
            else:
                pieces.append([chunk.content for chunk in model.stream("q")])
        asked.append(_asked(model_server))
        bills.append(_bill(usage))

    assert pieces[0] == pieces[1]
    assert asked[0] == asked[1]
    assert bills[0] == bills[1]
