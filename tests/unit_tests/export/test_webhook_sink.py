"""Webhooks over real connections, to receivers that fail, hang, ask for time, or are gone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from langchain_tokenopt import BudgetPlan, WebhookSink, optimize
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.export import webhook_sink
from tests.support.asgi_server import served
from tests.support.ledger_records import record


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(webhook_sink, "FIRST_PAUSE_SECONDS", 0.01)


def event(**changes: Any) -> BudgetEvent:
    fields = {
        "kind": "alert",
        "budget": "desk",
        "agent": "news",
        "spent_tokens": 760,
        "held_tokens": 40,
        "limit_tokens": 1_000,
        "detail": "75% spent or held; passed 50%",
    }
    return BudgetEvent(**(fields | changes))


class Receiver:
    """Takes what is posted, and answers as the script has it; then with 204."""

    def __init__(self, *script: int | Response) -> None:
        self.script = list(script)
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def answer(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        answer = self.script.pop(0) if self.script else 204
        return Response(status_code=answer) if isinstance(answer, int) else answer

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    @contextmanager
    def at(self) -> Iterator[str]:
        app = Starlette(routes=[Route("/hook/{secret}", self.answer, methods=["POST"])])
        with served(app) as address:
            yield f"http://{address}/hook/T0S3CRET?also=1"


def test_an_alert_of_a_run_arrives(model_server):
    """Of a plan, sync and async; the call does not wait for it."""
    receiver = Receiver()
    plan = BudgetPlan(total_tokens=1_000, agents={"default": {}}, name="desk")
    model = optimize(model_server.chat_openai(), plan)
    with receiver.at() as url, WebhookSink(url) as sink:
        with plan.run(user="ann", sinks=[sink]):
            model.invoke("word " * 300)

        async def later() -> None:
            with plan.run(user="bob", sinks=[sink]):
                await model_server.chat_openai().ainvoke("not of the plan")
                await model.ainvoke("word " * 300)

        asyncio.run(later())
        assert sink.flush()
        assert (0, len(receiver.got)) == (sink.failed, sink.delivered)

    assert {("alert", "desk", "ann"), ("alert", "desk", "bob")} == {
        (b["type"], b["budget"], b["user"]) for b in receiver.bodies
    }


def test_only_what_is_wanted_is_sent_and_once():
    """By default alerts alone."""
    receiver = Receiver()
    alert, denied = event(), event(kind="denied")
    with receiver.at() as url:
        with WebhookSink(url) as sink:
            for each in (alert, alert, denied, record()):
                sink.record(each)
        with WebhookSink(url, events=["denied", "usage", "saving"]) as sink:
            for each in (
                alert,
                denied,
                record(),
                Saving(stage="s", tokens_before=9, tokens_after=4),
            ):
                sink.record(each)
    assert ["alert", "denied", "usage", "saving"] == [b["type"] for b in receiver.bodies]


def test_slack_shows_names_as_data():
    """No markup, no mention, no line of its own."""
    receiver = Receiver()
    hostile = "<!channel> @here & <@U1>\n> quoted <http://evil|click>\x1b[31m ann@example.com"
    with receiver.at() as url, WebhookSink(url, format="slack") as sink:
        sink.record(event(agent=hostile, budget="@everyone", user="<!here>"))
    text = receiver.bodies[0]["text"]

    assert not set("<>\n\x1b") & set(text)
    assert "&lt;!channel&gt;" in text
    for mention in ("@here", "@everyone"):
        assert mention not in text
    assert "ann@example.com" in text
    assert "760 of 1,000 tokens spent, 40 held" in text


def test_a_signature_proves_where_it_is_from():
    """By the published scheme, over the very bytes, with a time."""
    receiver = Receiver()
    key = b"\x01" * 24
    secret = "whsec_" + base64.b64encode(key).decode()
    sent = event()
    with receiver.at() as url, WebhookSink(url, secret=secret) as sink:
        sink.record(sent)
    headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()

    assert f"v1,{expected}" == headers["webhook-signature"]
    assert str(sent.id) == headers["webhook-id"]
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


def test_what_fails_for_a_while_is_tried_again():
    """With one id, so that the receiver can tell."""
    receiver = Receiver(500, 503, 429)
    with receiver.at() as url, WebhookSink(url, secret="s") as sink:
        sink.record(event())
        sink.flush()
        assert (1, 0) == (sink.delivered, sink.failed)
    assert [1, 4] == [len({h["webhook-id"] for h, _ in receiver.got}), len(receiver.got)]


def test_a_receiver_that_asks_for_time_gets_it():
    """``Retry-After`` in seconds; other forms are left to the pauses."""
    receiver = Receiver(
        Response(status_code=429, headers={"retry-after": "1"}),
        Response(status_code=503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    )
    began = time.monotonic()
    with receiver.at() as url, WebhookSink(url) as sink:
        sink.record(event())
        sink.flush()
        assert 1 == sink.delivered
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("answer", [400, 401, 404, 410, RedirectResponse("/elsewhere", 307)])
def test_what_will_never_be_taken_is_given_up_at_once(answer):
    """And counted, and said once: without the path, which is a secret."""
    receiver = Receiver(*[answer] * 3)
    with receiver.at() as url, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with WebhookSink(url, secret="s3cret") as sink:
            for _ in range(3):
                sink.record(event())
            sink.flush()
    assert (0, 3, 3) == (sink.delivered, sink.failed, len(receiver.got))
    (warning,) = (w for w in said if w.category is TokenOptWarning)
    assert "127.0.0.1" in str(warning.message)
    for secret in ("T0S3CRET", "s3cret", "also"):
        assert secret not in f"{warning.message}{sink!r}"


def test_warnings_that_are_errors_do_not_end_it():
    """As in the tests of applications."""
    receiver = Receiver(404)
    with receiver.at() as url, WebhookSink(url) as sink:
        sink.record(event())
        sink.record(event())
        sink.flush()
        assert (1, 1) == (sink.delivered, sink.failed)


@contextmanager
def listening(answer: Any) -> Iterator[str]:
    """A server that does as *answer* says with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    answer(connection, over)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
        finally:
            over.set()
            thread.join()


def _hang(connection: socket.socket, over: threading.Event) -> None:
    over.wait(10)


def _drip(connection: socket.socket, over: threading.Event) -> None:
    try:
        connection.sendall(b"HTTP/1.1 ")
        while not over.wait(0.02):
            connection.sendall(b"a")
    except OSError:
        return


def _slam(connection: socket.socket, over: threading.Event) -> None:
    connection.close()


def _mumble(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"SSH-2.0-nothing here is HTTP\r\n")


@pytest.mark.parametrize("answer", [_hang, _drip, _slam, _mumble])
def test_a_receiver_that_misbehaves_costs_a_bounded_time(answer, monkeypatch):
    """Also one that sends a byte now and then for ever."""
    monkeypatch.setattr(webhook_sink, "ATTEMPTS", 2)
    with listening(answer) as url, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sink = WebhookSink(url, timeout_seconds=0.6)
        began = time.monotonic()
        sink.record(event())
        assert time.monotonic() - began < 0.5
        assert sink.flush(5)
        assert (0, 1) == (sink.delivered, sink.failed)


def test_nobody_there_blocks_nothing_and_the_queue_is_bounded(monkeypatch):
    """The oldest are given up; closing does not wait for long pauses."""
    monkeypatch.setattr(webhook_sink, "FIRST_PAUSE_SECONDS", 60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sink = WebhookSink(f"http://127.0.0.1:{port}/x", max_waiting=10)
        for _ in range(1_000):
            sink.record(event())
        assert len(sink._waiting) <= 10
        assert not sink.close(0.1)
        sink._thread and sink._thread.join(5)
        sink.record(event())
    assert (0, 1_001) == (sink.delivered, sink.failed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_delivers_its_own():
    """And not once more what waits in its parent."""
    receiver = Receiver()
    release = threading.Event()

    async def slow(request: Request) -> Response:
        await asyncio.to_thread(release.wait, 5)
        return await receiver.answer(request)

    with served(Starlette(routes=[Route("/", slow, methods=["POST"])])) as address:
        sink = WebhookSink(f"http://{address}/")
        for n in range(3):
            sink.record(event(budget=f"parent {n}"))
        child = os.fork()
        if not child:
            sink.record(event(budget="child"))
            os._exit(0 if sink.close(5) and sink.delivered == 1 else 1)
        release.set()
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert sink.close()
    assert ["child", "parent 0", "parent 1", "parent 2"] == sorted(
        b["budget"] for b in receiver.bodies
    )


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("ftp://x/y", {}, "https://"),
        ("hooks.example", {}, "https://"),
        ("https://", {}, "https://"),
        ("https://ann:pass@hooks.example/", {}, "no user"),
        ("https://hooks.example/ü", {}, "%"),
        ("https://hooks.example/a b", {}, "%"),
        ("https://hooks.example/", {"format": "teams"}, "format"),
        ("https://hooks.example/", {"events": "alert"}, "events are"),
        ("https://hooks.example/", {"events": ["alerts"]}, "events are"),
        ("https://hooks.example/", {"secret": ""}, "secret is empty"),
        ("https://hooks.example/", {"secret": "whsec_%%%"}, "secret is empty"),
        ("https://hooks.example/", {"max_waiting": 0}, "max_waiting"),
        ("https://hooks.example/", {"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_arguments_are_checked(url, options, said):
    """At once, and without showing what is secret."""
    with pytest.raises(ValueError, match=said) as caught:
        WebhookSink(url, **options)
    assert "pass" not in str(caught.value)
