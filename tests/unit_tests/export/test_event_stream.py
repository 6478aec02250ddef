"""Live events over real connections: to each user his own, and told of what was lost."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, MessagesState, StateGraph
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from langchain_tokenopt import (
    BudgetPlan,
    EventStream,
    Ledger,
    Viewer,
    optimize,
    track_usage,
)
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.core.usage import Usage
from tests.support.asgi_server import served
from tests.support.ledger_records import record

HOSTILE = "<img src=x>\r\ndata: forged\n\n\u2028\x1b[31m\ud800"


def by_header(request: Any) -> object:
    """As tests say in a header whose events they want."""
    said = request.headers.get("x-user")
    if said == "operator":
        return Viewer(sees_all=True)
    return Viewer(organization=said[1:]) if said and said[0] == "@" else said


def call(user: str | None = None, organization: str | None = None, **changes: Any) -> Any:
    made_by = Attribution("news", user=user, organization=organization)
    return record(attribution=made_by, **changes)


@contextmanager
def mounted(stream: EventStream) -> Iterator[str]:
    with served(Starlette(routes=[Mount("/events", stream.app)])) as address:
        try:
            yield address
        finally:
            stream.close()


@contextmanager
def watching(address: str, user: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Events of a connection, once it is known to be there; each with its ``id`` in front."""
    with (
        httpx.Client(timeout=5, headers={"x-user": user, **headers}) as client,
        client.stream("GET", f"http://{address}/events/") as response,
    ):
        assert response.status_code == 200
        events = sse(response.iter_lines())
        assert "ready" == next(events)["type"]
        yield events


def sse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read server-sent events, as the standard has it."""
    kind = seen = None
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            seen = value
        elif name == "event":
            kind = value
        elif name == "data":
            shown = json.loads(value)
            assert shown["type"] == kind
            assert shown.get("id") == seen
            yield shown
        else:
            assert name in ("", "retry"), line
            kind = seen = None


def take(events: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(events) for _ in range(count)]


# Through real hosts


def graph_over(model: Any) -> Any:
    graph = StateGraph(MessagesState)
    for name in ("writer", "critic"):
        graph.add_node(name, lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "writer")
    graph.add_edge("writer", "critic")
    graph.add_edge("critic", END)
    return graph.compile()


def test_each_user_sees_his_own_calls_of_graphs_in_threads_and_chains_in_loops(model_server):
    """Four users at once, through one handler; nobody sees a call of another."""
    model = model_server.chat_openai()
    graph = graph_over(model)
    chain = ChatPromptTemplate.from_messages([("human", "{text}")]) | model | StrOutputParser()
    stream = EventStream(by_header)
    users = [f"user-{n}" for n in range(4)]

    def in_thread(user: str) -> None:
        with track_usage([stream], user):
            graph.invoke({"messages": [("user", f"secret of {user}")]})

    async def in_loop() -> None:
        config = [{"metadata": {"user_id": user}} for user in users]
        with track_usage([stream]):
            await asyncio.gather(*(chain.ainvoke({"text": "x"}, each) for each in config))

    with (
        mounted(stream) as address,
        ThreadPoolExecutor(4) as pool,
        watching(address, "user-0") as first,
        watching(address, "user-1") as second,
        watching(address, "operator") as all_of_them,
    ):
        list(pool.map(in_thread, users))
        asyncio.run(in_loop())
        seen = {"user-0": take(first, 3), "user-1": take(second, 3)}
        everything = take(all_of_them, 12)

    for user, events in seen.items():
        assert {user} == {each["user"] for each in events}
        assert ["writer", "critic"] == [each["agent"] for each in events[:2]]
    assert dict.fromkeys(users, 3) == {
        user: sum(each["user"] == user for each in everything) for user in users
    }
    assert "secret" not in json.dumps(everything)
    assert all(float(each["cost_usd"]) > 0 for each in everything)


def test_alerts_of_a_run_go_to_its_user(model_server):
    """Thresholds are crossed in ann's run: bob hears nothing of it."""
    stream = EventStream(by_header)
    plan = BudgetPlan(total_tokens=1_000, agents={"default": {}}, name="desk")
    model = optimize(model_server.chat_openai(), plan)
    with (
        mounted(stream) as address,
        watching(address, "ann") as hers,
        watching(address, "bob") as his,
    ):
        with plan.run(user="ann", sinks=[stream]):
            model.invoke("word " * 300)
        stream.record(call("bob"))
        alert = next(hers)
        assert "usage" == next(his)["type"]

    assert ("alert", "desk", "ann") == (alert["type"], alert["budget"], alert["user"])
    assert 1_000 == alert["limit_tokens"]


# What is sent


def test_a_saving_goes_with_its_call():
    """And stands alone where nobody knows whose it is: then only operators see it."""
    stream = EventStream(by_header)
    made = call("ann")
    with (
        mounted(stream) as address,
        watching(address, "ann") as hers,
        watching(address, "operator") as theirs,
    ):
        stream.record(made)
        for run_id in (made.run_id, None):
            stream.record(Saving(stage="Limit", tokens_before=9, tokens_after=4, run_id=run_id))
        stream.record(call("ann"))
        assert ["usage", "saving", "usage"] == [e["type"] for e in take(hers, 3)]
        assert ["usage", "saving", "saving", "usage"] == [e["type"] for e in take(theirs, 4)]


def test_hostile_names_are_data_on_one_line():
    """A line break in a name ends no event, and half a character breaks nothing."""
    stream = EventStream(by_header)
    with mounted(stream) as address, watching(address, "operator") as events:
        stream.record(call(HOSTILE, model=HOSTILE, duration_seconds=float("nan")))
        stream.record(call("ann"))
        first, second = take(events, 2)

    assert HOSTILE == first["model"]
    assert first["duration_seconds"] is None
    assert "ann" == second["user"]


def test_a_call_that_is_told_twice_is_sent_once():
    """As nested trackers with one sink do."""
    stream = EventStream(by_header)
    twice, after = call("ann"), call("ann")
    with mounted(stream) as address, watching(address, "ann") as events:
        for each in (twice, twice, after):
            stream.record(each)
        assert [str(twice.run_id), str(after.run_id)] == [e["run_id"] for e in take(events, 2)]


def test_over_a_websocket_it_is_the_same(model_server):
    """The same texts, with heartbeats, and what was missed for who comes back."""
    stream = EventStream(by_header, heartbeat_seconds=0.05)
    with mounted(stream) as address:
        url, who = f"ws://{address}/events/", {"x-user": "ann"}
        with connect(url, additional_headers=who) as socket:
            assert ["ready", "heartbeat"] == [json.loads(socket.recv(5))["type"] for _ in "12"]
            socket.send("whatever")
            stream.record(call("bob"))
            stream.record(call("ann"))
            first = next(e for e in map(json.loads, socket) if e["type"] != "heartbeat")
        missed = call("ann")
        stream.record(missed)
        stream.record(call("bob"))
        with connect(f"{url}?last_event_id={first['id']}", additional_headers=who) as socket:
            assert {"type": "ready"} == json.loads(socket.recv(5))
            second = json.loads(socket.recv(5))

    assert ("ann", str(missed.run_id)) == (first["user"], second["run_id"])


def test_it_can_be_routes():
    """Both kinds at one path, without a mount."""
    stream = EventStream(by_header)
    stream.record(call("ann"))
    app = Starlette(routes=[Route("/e", stream.app), WebSocketRoute("/e", stream.app)])
    with served(app) as address:
        headers = {"x-user": "ann"}
        with connect(f"ws://{address}/e?last_event_id=x", additional_headers=headers) as socket:
            told = [json.loads(socket.recv(5))["type"] for _ in range(3)]
            assert ["ready", "lost", "usage"] == told
        with httpx.stream("GET", f"http://{address}/e", headers=headers) as response:
            assert "text/event-stream; charset=utf-8" == response.headers["content-type"]
        stream.close()


# Who may see what


@pytest.mark.parametrize(
    ("said", "status"), [(None, 403), ("", 500), (True, 500), (7, 500), (b"ann", 500)]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_who_is_not_named_sees_nothing(said, status, is_async):
    """Neither nobody nor a value that was not meant."""

    async def later(request: Any) -> object:
        return said

    stream = EventStream(later if is_async else lambda request: said)
    stream.record(call("ann"))
    with served(Starlette(routes=[Mount("/events", stream.app)])) as address:
        assert status == httpx.get(f"http://{address}/events/?last_event_id=1").status_code
        with pytest.raises(InvalidStatus), connect(f"ws://{address}/events/"):
            pass


def test_an_error_of_authorize_is_the_applications():
    """``HTTPException`` is answered as anywhere else."""

    def authorize(request: Any) -> object:
        raise HTTPException(401, "Who are you?")

    app = Starlette(routes=[Mount("/events", EventStream(authorize).app)])
    with served(app) as address:
        answer = httpx.get(f"http://{address}/events/")
    assert (401, "Who are you?") == (answer.status_code, answer.text)


@pytest.mark.parametrize(
    ("viewer", "sees"),
    [
        (Viewer(user="ann"), {"ann@acme", "ann@"}),
        (Viewer(user="ann", organization="acme"), {"ann@acme"}),
        (Viewer(organization="acme"), {"ann@acme", "bob@acme", "@acme"}),
        (Viewer(sees_all=True), {"ann@acme", "bob@acme", "ann@", "@acme", "@"}),
    ],
)
def test_viewers_see_users_and_organizations(viewer, sees):
    """An event of nobody known is for those alone who see everything."""
    stream = EventStream(lambda request: viewer)
    for user, organization in (
        ("ann", "acme"),
        ("bob", "acme"),
        ("ann", None),
        (None, "acme"),
        (None, None),
    ):
        stream.record(call(user, organization))
    with mounted(stream) as address, watching(address, "x", **{"last-event-id": "0"}) as events:
        assert {"type": "lost", "count": None} == next(events)
        found = take(events, len(sees))
    assert sees == {f"{e['user'] or ''}@{e['organization'] or ''}" for e in found}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"user": ""},
        {"organization": ""},
        {"user": 7},
        {"user": None},
        {"user": "ann", "sees_all": True},
        {"sees_all": "yes"},
    ],
)
def test_a_viewer_is_somebody(said):
    """A session without a user must not become one who sees all."""
    with pytest.raises(ValueError, match="sees_all=True"):
        Viewer(**said)


def test_a_page_elsewhere_opens_no_socket():
    """Browsers send cookies along for any page; the origin says which it is."""
    stream = EventStream(lambda request: "ann", origins=["https://app.example"])
    with mounted(stream) as address:
        for origin in (f"http://{address}", "https://app.example"):
            with connect(f"ws://{address}/events/", origin=origin):
                pass
        for origin in ("https://evil.example", "null", f"http://{address}.evil.example"):
            url = f"ws://{address}/events/"
            with pytest.raises(InvalidStatus, match="403"), connect(url, origin=origin):
                pass


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_it_only_reads(method):
    """Nothing can be sent to it."""
    with mounted(EventStream(by_header)) as address:
        assert 405 == httpx.request(method, f"http://{address}/events/").status_code


def test_there_is_a_bound_of_viewers_and_they_leave():
    """The next one waits; who has gone makes room, without an event coming."""
    stream = EventStream(by_header, max_viewers=2)
    with mounted(stream) as address:
        url = f"http://{address}/events/"
        with (
            watching(address, "ann"),
            connect(url.replace("http", "ws"), additional_headers={"x-user": "bob"}),
        ):
            assert 503 == httpx.get(url, headers={"x-user": "ann"}).status_code
        deadline = time.monotonic() + 5
        while stream._fan_out._subscriptions and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not stream._fan_out._subscriptions
        with watching(address, "ann"):
            pass


def test_a_connection_ends_in_time():
    """So that who has logged out is asked again."""
    stream = EventStream(by_header, lifetime_seconds=0.1)
    with mounted(stream) as address:
        headers = {"x-user": "ann"}
        assert "retry: 1000" in httpx.get(f"http://{address}/events/", headers=headers).text
        connected = connect(f"ws://{address}/events/", additional_headers=headers)
        with connected as socket, pytest.raises(ConnectionClosed, match="1012"):
            list(socket)


# Who is slow, and who comes back


def test_a_slow_viewer_is_told_how_many_it_lost_and_holds_nobody_up():
    """20,000 events to somebody who does not read: bounded, and the sum is right."""
    stream = EventStream(by_header, max_waiting=100)
    events = [call("ann", model="m" * 500) for _ in range(20_000)]
    with (
        mounted(stream) as address,
        watching(address, "ann") as slow,
        watching(address, "bob") as b,
    ):
        for each in events:
            stream.record(each)
        (subscription,) = (s for s in stream._fan_out._subscriptions if s.viewer.user == "ann")
        assert len(subscription._waiting) <= 100
        stream.record(call("bob"))
        assert "bob" == next(b)["user"]
        last = str(events[-1].run_id)
        got: list[str] = []
        lost = 0
        for shown in slow:
            lost += shown["count"] if shown["type"] == "lost" else 0
            got += [shown["run_id"]] if shown["type"] == "usage" else []
            if got and got[-1] == last:
                break

    assert len(events) == len(got) + lost
    assert lost
    order = {str(each.run_id): n for n, each in enumerate(events)}
    assert sorted(got, key=order.__getitem__) == got


def test_who_comes_back_gets_what_was_missed_and_nothing_twice():
    """In order, from the history, and of nobody else."""
    stream = EventStream(by_header, history=50)
    with mounted(stream) as address:
        with watching(address, "ann") as events:
            stream.record(call("ann"))
            last = next(events)["id"]
        missed = [call("ann" if n % 3 else "bob") for n in range(40)]
        for each in missed:
            stream.record(each)
        with watching(address, "ann", **{"last-event-id": last}) as events:
            expected = [str(c.run_id) for c in missed if c.attribution.user == "ann"]
            assert expected == [e["run_id"] for e in take(events, len(expected))]
            stream.record(call("ann", model="after"))
            assert "after" == next(events)["model"]


def test_who_was_told_nothing_comes_back_all_the_same():
    """An idle connection that breaks loses nothing: it knows where it stood."""
    stream = EventStream(by_header)
    stream.record(call("ann", model="before"))
    with mounted(stream) as address:
        headers = {"x-user": "ann"}
        with connect(f"ws://{address}/events/", additional_headers=headers) as socket:
            stood = json.loads(socket.recv(5))["id"]
        stream.record(call("ann", model="missed"))
        with watching(address, "ann", **{"last-event-id": stood}) as events:
            assert "missed" == next(events)["model"]


def test_beyond_the_history_one_is_told_that_nobody_knows():
    """Then comes what is remembered."""
    stream = EventStream(by_header, history=5)
    with mounted(stream) as address:
        with watching(address, "ann") as events:
            stream.record(call("ann"))
            last = next(events)["id"]
        for n in range(20):
            stream.record(call("ann", model=f"m{n}"))
        with watching(address, "ann", **{"last-event-id": last}) as events:
            assert {"type": "lost", "count": None} == next(events)
            assert [f"m{n}" for n in range(15, 20)] == [e["model"] for e in take(events, 5)]


def test_another_process_goes_on_from_the_ledger(tmp_path):
    """Calls of the viewer since the last event, and then live ones, none of them twice."""
    now = datetime.now(UTC)

    def made(user: str, seconds_ago: float, model: str) -> Any:
        return call(
            user, model=model, started_at=now - timedelta(seconds=seconds_ago), duration_seconds=1
        )

    with Ledger(tmp_path / "calls.db") as ledger:
        for each in (
            made("ann", 900, "long ago"),
            made("ann", 60, "first"),
            made("bob", 50, "of bob"),
            made(None, 45, "of nobody"),  # type: ignore[arg-type]
            made("ann", 40, "second"),
        ):
            ledger.record(each)
        stream = EventStream(by_header, ledger=ledger)
        remembered = made("ann", 10, "third")
        ledger.record(remembered)
        stream.record(remembered)
        seen = f"{int((now.timestamp() - 120) * 1e6)}-another-"
        with mounted(stream) as address:
            with watching(address, "ann", **{"last-event-id": seen}) as events:
                assert {"type": "lost", "count": None} == next(events)
                assert ["first", "second", "third"] == [e["model"] for e in take(events, 3)]
                stream.record(call("ann", model="live"))
                assert "live" == next(events)["model"]
            with watching(address, "(none)", **{"last-event-id": seen}) as events:
                next(events)
                stream.record(call("(none)", model="own"))
                assert "own" == next(events)["model"]


def test_who_was_told_nothing_by_another_process_gets_what_came_since(tmp_path):
    """And not the whole day: the place to begin with has a time."""
    headers = {"x-user": "ann"}
    with Ledger(tmp_path / "calls.db") as ledger:
        for model, seconds_ago in (("long ago", 600), ("since", 0)):
            began = datetime.now(UTC) - timedelta(seconds=seconds_ago)
            ledger.record(call("ann", model=model, started_at=began, duration_seconds=1))
        with (
            mounted(EventStream(by_header)) as address,
            connect(f"ws://{address}/events/", additional_headers=headers) as socket,
        ):
            stood = json.loads(socket.recv(5))["id"]
        stream = EventStream(by_header, ledger=ledger)
        back = {"last-event-id": stood}
        with mounted(stream) as address, watching(address, "ann", **back) as events:
            assert ["lost", "since"] == [e.get("model", e["type"]) for e in take(events, 2)]


@pytest.mark.parametrize("seen", ["", "-", "x-y", "9" * 40, "-1-", "99999999999999999-", "١٢"])
def test_ids_that_were_never_given_are_no_trouble(seen, tmp_path):
    """Nor is a ledger that is not there any more."""
    with Ledger(tmp_path / "calls.db") as ledger:
        stream = EventStream(by_header, ledger=ledger)
        with mounted(stream) as address:
            url = f"http://{address}/events/"
            with httpx.stream(
                "GET", url, params={"last_event_id": seen}, headers={"x-user": "ann"}, timeout=5
            ) as response:
                events = sse(response.iter_lines())
                assert "ready" == next(events)["type"]
                if seen:
                    assert "lost" == next(events)["type"]
                stream.record(call("ann", model="after"))
                assert "after" == next(events)["model"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_has_its_own_viewers():
    """It writes to no connection of its parent, and goes on by itself."""
    stream = EventStream(by_header)
    with mounted(stream) as address, watching(address, "ann") as events:
        child = os.fork()
        if not child:
            stream.record(call("ann", model="of the child"))
            os._exit(0 if not stream._fan_out._subscriptions else 1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        stream.record(call("ann", model="of the parent"))
        assert "of the parent" == next(events)["model"]


def test_a_closed_loop_is_nobodys_trouble():
    """Its viewers are gone without having said so."""
    stream = EventStream(by_header)
    asyncio.run(_subscribed(stream))
    stream.record(call("ann"))


async def _subscribed(stream: EventStream) -> None:
    stream._fan_out.subscribe(Viewer(sees_all=True))


def test_arguments_are_checked():
    """Before anybody connects."""
    with pytest.raises(TypeError, match="authorize is a function"):
        EventStream("ann")  # type: ignore[arg-type]
    for name in ("history", "max_waiting", "max_viewers"):
        with pytest.raises(ValueError, match=name):
            EventStream(by_header, **{name: 0})
    for name in ("heartbeat_seconds", "lifetime_seconds"):
        with pytest.raises(ValueError, match=name):
            EventStream(by_header, **{name: 0})


def test_events_come_from_many_threads_at_once():
    """None is lost, and each viewer has them all."""
    stream = EventStream(by_header, max_waiting=10_000)
    events = [[call("ann") for _ in range(250)] for _ in range(4)]
    with (
        mounted(stream) as address,
        watching(address, "ann") as one,
        watching(address, "ann") as two,
    ):
        threads = [
            threading.Thread(target=lambda part=part: [stream.record(e) for e in part])
            for part in events
        ]
        for thread in threads:
            thread.start()
        expected = {str(e.run_id) for part in events for e in part}
        for viewer in (one, two):
            assert expected == {e["run_id"] for e in take(viewer, 1_000)}
        for thread in threads:
            thread.join()


def test_alerts_without_an_owner_are_for_operators():
    """A budget of all is nobody's own."""
    stream = EventStream(by_header)
    spent = {"agent": "ann", "spent_tokens": 9, "held_tokens": 0, "limit_tokens": 10}
    with (
        mounted(stream) as address,
        watching(address, "ann") as hers,
        watching(address, "operator") as theirs,
    ):
        stream.record(BudgetEvent(kind="alert", budget="all", **spent))
        stream.record(call("ann", usage=Usage(1, 1)))
        assert ["alert", "usage"] == [e["type"] for e in take(theirs, 2)]
        assert "usage" == next(hers)["type"]
