"""A model provider on the loopback interface, so that tests run real chat models over real HTTP.

It speaks four protocols (see :mod:`tests.support.wires`), answers what it is told to, and remembers
what it was asked and how much of each stream was really written::

    with ModelServer() as server:
        server.script("Hello there.", Reply(words=200, usage=Usage(1_000, 200)))
        server.chat_openai().invoke("Hi").content            # "Hello there."
        server.requests[-1].body["messages"]                 # what was sent
        for chunk in server.chat_openai().stream("Hi"):
            break
        server.streams[-1].cancelled, server.streams[-1].sent

As a fixture: ``def test_x(model_server: ModelServer)``; one server a session, reset for each test.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from langchain_tokenopt.core.usage import Usage
from tests.support.wires import (
    AnthropicMessages,
    ChatCompletions,
    Event,
    Gemini,
    Responses,
    ToolCall,
    Turn,
    Wire,
    example_of,
)

if TYPE_CHECKING:
    from langchain_anthropic import ChatAnthropic
    from langchain_google_genai import ChatGoogleGenerativeAI
    from langchain_openai import ChatOpenAI

__all__ = ["ModelServer", "Raw", "Reply", "Request", "StreamLog", "ToolCall", "count_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer to one request. Without anything: as many ``words`` "w0 w1 w2 ..."."""

    text: str | None = None
    words: int = 8
    """Length of the answer where no text is given."""
    tool_calls: Sequence[ToolCall] = ()
    usage: Usage | Literal["counted"] | None = "counted"
    """What to report: these numbers, those counted (see ``count_tokens``), or nothing."""
    names_model: bool = True
    """False: the answer does not say which model gave it."""
    model: str | None = None
    """The name to answer under, where it is not the one that was asked for."""
    cumulative_usage: bool = False
    """OpenAI streams: usage so far on every chunk, asked for or not."""
    service_tier: str | None = None
    status: int = 200
    """Anything else is an error with ``text`` as its message."""
    writes_on: bool = False
    """A stream is billed to its end, also when the client has gone away."""
    breaks_after: int | None = None
    """Drop the connection after so many words of a stream."""
    pace_seconds: float | None = None
    """Time before each word of a stream; by default the server's."""
    delay_seconds: float = 0.0
    """Time before anything is answered."""
    ready: Callable[[], bool] = lambda: True
    """Nothing is answered before this is true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """An answer word for word, whatever was asked (see :mod:`tests.support.providers`)."""

    body: Any = None
    """The whole answer."""
    events: Sequence[Any] | None = None
    """Or the events of a stream."""
    named: bool = False
    """Whether events bear the name that is their ``type``."""
    lines: bool = False
    """One JSON a line instead of server-sent events."""
    status: int = 200
    delay_seconds: float = 0.0
    """Time before anything is answered; infinite: until the client has gone."""
    pace_seconds: float = 0.0
    breaks_after: int | None = None
    """Drop the connection after so many events."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the server was asked."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    model: str
    texts: Sequence[str]
    """The text of every message, the system's first."""
    streamed: bool

    @property
    def last_text(self) -> str:
        """The text of the last message."""
        return self.texts[-1] if self.texts else ""


@dataclass(slots=True)
class StreamLog:
    """How far one stream got. ``sent`` and ``cancelled`` wait (up to 5 s) for its end."""

    turn: Turn
    billed: list[Usage]
    """Where the bill goes."""
    writes_on: bool = False
    """Whether its end is billed even if nobody reads it."""
    written: int = 0
    """Words written so far."""
    completed: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def sent(self) -> int:
        """Words that were written in all."""
        self.over.wait(5)
        return self.written

    @property
    def cancelled(self) -> bool:
        """Whether the client went away before the end."""
        return self.over.wait(5) and not self.completed

    def end(self) -> None:
        """Charge for what was written."""
        turn = self.turn
        is_whole = self.completed or self.writes_on
        self.billed.append(turn.billed if is_whole else turn.billed_after(self.written))
        self.over.set()

    async def ended(self) -> Self:
        """Wait for the end without stopping the event loop."""
        await asyncio.to_thread(self.over.wait, 5)
        return self


Answering = Callable[[Request], Reply | str]


class ModelServer:
    """OpenAI, Anthropic and Gemini on 127.0.0.1, in a thread of its own.

    Args:
        answer: Asked for a reply whenever nothing is scripted.
        pace_seconds: Time before each word of a stream.
    """

    def __init__(self, answer: Answering | None = None, *, pace_seconds: float = 0.0) -> None:
        self._defaults = answer or _words, pace_seconds
        # Only a socket that names its protocol gets TCP_NODELAY from asyncio: 2 ms a call, not 44.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        # A kept connection would belong to the event loop of the test that opened it.
        config = uvicorn.Config(
            _app(self),
            log_level="critical",
            lifespan="off",
            headers=[("connection", "close")],
            timeout_graceful_shutdown=1,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self.reset()

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The model server's thread ended before it could answer.")
            self._thread.join(0.005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        self._socket.close()

    def reset(self) -> None:
        """Forget scripts, requests and streams."""
        self.answer, self.pace_seconds = self._defaults
        """What answers when the script is used up. Assign a function to decide per request."""
        self.requests: list[Request] = []
        """Everything that was asked, refused requests included."""
        self.streams: list[StreamLog] = []
        self._billed: list[Usage] = []
        self._script: deque[Reply | Raw] = deque()

    @property
    def billed(self) -> list[Usage]:
        """What a provider would charge, per answer, reported or not; a cut stream up to the cut.

        Waits (up to 5 s) for the end of open streams.
        """
        for stream in self.streams:
            stream.over.wait(5)
        return self._billed

    def script(self, *replies: Reply | Raw | str) -> None:
        """Give the next answers, in order; a text stands for ``Reply(text=...)``."""
        self._script.extend(_reply(reply) for reply in replies)

    def next_reply(self, request: Request) -> Reply | Raw:
        """Take note of *request* and say how to answer it."""
        self.requests.append(request)
        if self._script:
            return self._script.popleft()
        return _reply(self.answer(request))

    def chat_openai(self, **settings: Any) -> ChatOpenAI:
        """Return a real ``ChatOpenAI`` that talks to this server."""
        from langchain_openai import ChatOpenAI

        defaults: dict[str, Any] = {"model": "gpt-4.1-mini", "api_key": "test", "max_retries": 0}
        return ChatOpenAI(**(defaults | {"base_url": f"{self.url}/v1"} | settings))

    def chat_anthropic(self, **settings: Any) -> ChatAnthropic:
        """Return a real ``ChatAnthropic`` that talks to this server."""
        from langchain_anthropic import ChatAnthropic

        defaults: dict[str, Any] = {
            "model": "claude-haiku-4-5",
            "api_key": "test",
            "max_retries": 0,
        }
        return ChatAnthropic(**(defaults | {"base_url": self.url} | settings))

    def chat_gemini(self, **settings: Any) -> ChatGoogleGenerativeAI:
        """Return a real ``ChatGoogleGenerativeAI`` that talks to this server."""
        from langchain_google_genai import ChatGoogleGenerativeAI

        defaults: dict[str, Any] = {
            "model": "gemini-2.5-flash",
            "api_key": "test",
            "max_retries": 0,
        }
        return ChatGoogleGenerativeAI(**(defaults | {"base_url": self.url} | settings))


def _app(server: ModelServer) -> Starlette:
    wires = {
        "/v1/chat/completions": ChatCompletions(),
        "/v1/responses": Responses(),
        "/v1/messages": AnthropicMessages(),
        "/v1beta/models/{call:path}": Gemini(),  # google-genai up to 3.5
        "/v1/models/{call:path}": Gemini(),  # from 3.6 on
        "/{other:path}": ChatCompletions(),
    }
    return Starlette(
        routes=[
            Route(path, _endpoint(server, wire), methods=["POST"]) for path, wire in wires.items()
        ]
    )


def _endpoint(server: ModelServer, wire: Wire) -> Callable[[HttpRequest], Any]:
    async def answer(http: HttpRequest) -> Response:
        body, path = await http.json(), http.url.path
        request = Request(
            path=path,
            body=body,
            headers=dict(http.headers),
            model=wire.model(body, path),
            texts=wire.texts(body),
            streamed=wire.streams(body, path),
        )
        reply = server.next_reply(request)
        streams, billed = server.streams, server._billed  # a reset gives later tests other lists
        await _delay(http, reply.delay_seconds)
        if isinstance(reply, Raw):
            return _raw(reply)
        while not reply.ready():
            await asyncio.sleep(0.01)
        if reply.status != 200:
            content = wire.error(reply.status, reply.text or f"Scripted error {reply.status}.")
            return JSONResponse(content, reply.status, headers={"retry-after": "0"})
        turn = _turn(f"{len(server.requests):06d}", wire, request, reply)
        if not request.streamed:
            billed.append(turn.billed)
            return JSONResponse(wire.whole(turn))
        log = StreamLog(turn, billed, reply.writes_on)
        streams.append(log)
        pace = server.pace_seconds if reply.pace_seconds is None else reply.pace_seconds
        events = _written(wire.events(turn, body), log, pace, reply.breaks_after)
        return StreamingResponse(events, media_type="text/event-stream")

    return answer


async def _delay(http: HttpRequest, seconds: float) -> None:
    if math.isfinite(seconds):
        await asyncio.sleep(seconds)
    else:
        while (await http.receive())["type"] != "http.disconnect":
            pass


def _raw(reply: Raw) -> Response:
    if reply.status != 200:
        error = {"message": f"Scripted error {reply.status}.", "type": "scripted"}
        body = {"type": "error", "error": error} if reply.body is None else reply.body
        return JSONResponse(body, reply.status, headers={"retry-after": "0"})
    if reply.events is None:
        return JSONResponse(reply.body)
    kind = "application/x-ndjson" if reply.lines else "text/event-stream"
    return StreamingResponse(_raw_events(reply), media_type=kind)


async def _raw_events(reply: Raw) -> AsyncIterator[bytes]:
    for n, event in enumerate(reply.events or ()):
        if n == reply.breaks_after:
            raise ConnectionResetError(f"Scripted to break after {n} events.")
        await asyncio.sleep(reply.pace_seconds)
        if reply.lines:
            yield f"{json.dumps(event)}\n".encode()
        else:
            yield Event(event, name=event["type"] if reply.named else None).encode()


async def _written(
    events: Iterator[Event], log: StreamLog, pace_seconds: float, breaks_after: int | None
) -> AsyncIterator[bytes]:
    """Write a stream word by word, and note how far it gets."""
    try:
        for event in events:
            if event.words:
                if log.written == breaks_after:
                    raise ConnectionResetError(f"Scripted to break after {breaks_after} words.")
                await asyncio.sleep(pace_seconds)
            yield event.encode()
            log.written += event.words
        log.completed = True
    finally:
        log.end()


def _reply(reply: Reply | Raw | str) -> Reply | Raw:
    return Reply(text=reply) if isinstance(reply, str) else reply


def _words(request: Request) -> Reply:
    return Reply()


def _turn(id: str, wire: Wire, request: Request, reply: Reply) -> Turn:
    """Turn a scripted reply into the answer to this very request."""
    reply = _obedient(wire, request, reply)
    text = reply.text
    if text is None:
        text = "" if reply.tool_calls else " ".join(f"w{i}" for i in range(reply.words))
    limit = wire.max_tokens(request.body)
    kept = text if limit is None else _first_tokens(text, limit)
    words = re.findall(r"\s*\S+\s*$|\s*\S+", kept)
    generations = wire.generations(request.body)
    calls, is_cut = _as_far_as(reply.tool_calls, limit)
    counted = Usage(
        input_tokens=_input_tokens(request),
        output_tokens=count_tokens(kept) * generations
        + sum(count_tokens(call.name + call.json) for call in calls),
    )
    finish: Literal["stop", "length", "tool_calls"] = "tool_calls" if reply.tool_calls else "stop"
    return Turn(
        id=id,
        model=(reply.model or request.model) if reply.names_model else None,
        choices=[words] * generations,
        tool_calls=calls,
        billed=reply.usage if isinstance(reply.usage, Usage) else counted,
        reports=reply.usage is not None,
        finish="length" if kept != text or is_cut else finish,
        cumulative=reply.cumulative_usage,
        service_tier=reply.service_tier,
    )


def _as_far_as(calls: Sequence[ToolCall], limit: int | None) -> tuple[Sequence[ToolCall], bool]:
    """Cut the last of the calls that fit into *limit* tokens."""
    made: list[ToolCall] = []
    for call in calls:
        needed = count_tokens(call.name + call.json)
        if limit is not None and needed > limit:
            room = max(0, limit - count_tokens(call.name))
            return [*made, replace(call, cut=_first_tokens(call.json, room))], True
        made.append(call)
        limit = None if limit is None else limit - needed
    return made, False


def _obedient(wire: Wire, request: Request, reply: Reply) -> Reply:
    """Follow a forced tool or a schema where the script says nothing else."""
    if reply.text is not None or reply.tool_calls:
        return reply
    if forced := wire.forced_tool(request.body):
        name, schema = forced
        return replace(reply, tool_calls=[ToolCall(name, example_of(schema))])
    if wanted := wire.schema(request.body):
        return replace(reply, text=json.dumps(example_of(wanted)))
    return reply


def _input_tokens(request: Request) -> int:
    """Count a request as OpenAI's cookbook does: 4 tokens a message, 3 for the answer's start."""
    tools = request.body.get("tools")
    return (
        3
        + sum(4 + count_tokens(text) for text in request.texts)
        + (count_tokens(json.dumps(tools)) if tools else 0)
    )


def count_tokens(text: str) -> int:
    """Count *text* in o200k_base, or in words and punctuation where that vocabulary is missing."""
    encoding = _encoding()
    if encoding is None:
        return len(_PIECES.findall(text))
    return len(encoding.encode_ordinary(text))


def _first_tokens(text: str, limit: int) -> str:
    """Cut *text* after *limit* tokens."""
    encoding = _encoding()
    if encoding is None:
        return "".join(_PIECES.findall(text)[:limit])
    tokens = encoding.encode_ordinary(text)
    return text if len(tokens) <= limit else str(encoding.decode(tokens[:limit]))


_PIECES = re.compile(r"\s*(?:\w+|[^\w\s])")


@cache
def _encoding() -> Any | None:
    """Build o200k_base from the vocabulary in bpe-openai's wheel, beside tiktoken's own registry.

    The registry is left alone, so that tests of the package still see an encoding being loaded.
    """
    spec = find_spec("bpe_openai")
    if spec is None or spec.origin is None:
        return None
    import base64
    import gzip

    import tiktoken
    from tiktoken_ext import openai_public

    packed = Path(spec.origin).parent / "data" / "o200k_base.tiktoken.gz"
    lines = gzip.decompress(packed.read_bytes()).splitlines()
    ranks = {
        base64.b64decode(token): int(rank) for token, _, rank in (x.partition(b" ") for x in lines)
    }
    make = openai_public.o200k_base
    private = type(make)(
        make.__code__, {**make.__globals__, "load_tiktoken_bpe": lambda *_, **__: ranks}
    )
    return tiktoken.Encoding(**private())
