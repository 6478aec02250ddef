"""Streaming responses of a web server: fifty readers at once, and readers that leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from langchain_tokenopt import (
    BudgetPlan,
    TokenOptWarning,
    Usage,
    in_own_context,
    optimize,
    token_scope,
    track_usage,
)
from langchain_tokenopt.core.staged_runs import TRACKER
from langchain_tokenopt.stage import AMBIENT
from tests.support.fakes import FakeAnswer, fake_chat

READERS = 50
WORDS = 12
TEXT = " ".join(f"w{i}" for i in range(WORDS))


class Site:
    """A web application on 127.0.0.1, in a thread of its own, with its errors noted."""

    def __init__(self, body: Callable[[str], Any]) -> None:
        self.errors: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

        async def answer(request: Request) -> StreamingResponse:
            return StreamingResponse(body(request.query_params["user"]), media_type="text/plain")

        async def alive(request: Request) -> PlainTextResponse:
            told = f"{TRACKER.get()} {AMBIENT.get()}"
            return PlainTextResponse(told)

        app = Starlette(routes=[Route("/answer", answer), Route("/alive", alive)])
        config = uvicorn.Config(
            app, log_config=None, lifespan="off", timeout_graceful_shutdown=2, ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._log = logging.Handler(logging.ERROR)
        self._log.emit = lambda record: self.errors.append(record.getMessage())  # type: ignore[method-assign]

    def __enter__(self) -> Site:
        logging.getLogger("uvicorn.error").addHandler(self._log)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.005)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        logging.getLogger("uvicorn.error").removeHandler(self._log)
        self._socket.close()

    async def read(self, *, leave_every: int | None = None) -> list[str | None]:
        """Let fifty readers read at once; ``None`` for those that left."""
        limits = httpx.Limits(max_connections=READERS)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, timeout=30) as client:

            async def one(number: int) -> str | None:
                text = ""
                params = {"user": f"user-{number}"}
                async with client.stream("GET", "/answer", params=params) as response:
                    async for piece in response.aiter_text():
                        text += piece
                        if leave_every and number % leave_every == 0 and len(text.split()) > 3:
                            return None
                return text

            texts = await asyncio.gather(*(one(number) for number in range(READERS)))
            told = (await client.get("/alive")).text
        assert told == "None ()"
        return texts


def settings(kind: str, user: str) -> contextlib.AbstractContextManager[Any]:
    if kind == "scope":
        plan = BudgetPlan(total_tokens=100_000)
        return token_scope(user=user, level="balanced", plan=plan)
    return track_usage(user=user) if kind == "track" else contextlib.nullcontext()


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        ("bare", "sync"),
        ("scope", "sync"),
        ("scope", "sync in own context"),
        ("track", "async"),
        ("scope", "async in own context"),
    ],
)
async def test_fifty_readers_get_their_answers(kind: str, reads: str) -> None:
    """Every reader gets the whole text, those that leave disturb nobody, nothing is left behind."""
    answers = [FakeAnswer(TEXT, Usage(100, WORDS)) for _ in range(2 * READERS)]
    model = optimize(fake_chat("_stream", "_astream", answers=answers, delay_seconds=0.001))
    billed: dict[str, int] = {}

    def body(user: str) -> Iterator[str]:
        with settings(kind, user) as seen:
            for chunk in model.stream("Tell me."):
                yield chunk.text
        billed[user] = _calls_of(seen, user)

    async def abody(user: str) -> AsyncIterator[str]:
        with settings(kind, user) as seen:
            async for chunk in model.astream("Tell me."):
                yield chunk.text
        billed[user] = _calls_of(seen, user)

    make: Callable[[str], Any] = abody if reads.startswith("async") else body
    wrapped = (lambda user: in_own_context(make(user))) if "own" in reads else make
    with warnings.catch_warnings(record=True) as warned, Site(wrapped) as site:
        warnings.simplefilter("always")
        left = await site.read(leave_every=3)
        after = await site.read()
    assert after == [TEXT] * READERS
    assert set(left) == {TEXT, None}
    assert site.errors == []
    assert len(billed) == READERS
    assert kind == "bare" or set(billed.values()) == {1}
    ours = {w.category for w in warned if issubclass(w.category, TokenOptWarning)}
    assert ours == ({TokenOptWarning} if reads == "sync" and kind != "bare" else set())


def _calls_of(seen: Any, user: str) -> int:
    """Return how many calls a tracker or a scope has seen of *user*; of others it sees none."""
    if seen is None:
        return 0
    tracker = getattr(seen, "usage", seen)
    users = {name: totals.calls for name, totals in tracker.by("user").items()}
    assert set(users) == {user}
    return users[user]
