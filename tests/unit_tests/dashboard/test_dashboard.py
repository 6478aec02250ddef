"""The dashboard: what it answers, to whom, and that names stay text."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from langchain_tokenopt.cli import app as command_line
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.dashboard import live, make_app, view
from langchain_tokenopt.dashboard.sources import Sources
from langchain_tokenopt.dashboard.view import Views
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.report.figures import cost_over_time
from tests.support.ledger_records import record

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def ledger(tmp_path) -> Path:
    now = datetime.now(UTC)
    with Ledger(tmp_path / "seen.db") as opened:
        for hours, agent, cost in (
            (1, "news", 5_000_000),
            (2, HOSTILE, 7_000_000),
            (300, "old", 1),
        ):
            opened.record(
                record(
                    started_at=now - timedelta(hours=hours),
                    attribution=Attribution(agent, user="=1+1", tag="checkout"),
                    cost_nano_usd=cost,
                )
            )
    return tmp_path / "seen.db"


def viewer(ledger, **options) -> TestClient:
    return TestClient(make_app(str(ledger), **options), base_url="http://127.0.0.1:8787")


def test_the_page_loads_nothing_from_elsewhere(ledger):
    """Every source is its own, scripts in line are forbidden, and it is all there."""
    client = viewer(ledger)
    page = client.get("/")
    policy = page.headers["content-security-policy"]

    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "://" not in page.text
    assert " style=" not in page.text
    assert not [part for part in page.text.split("<script")[1:] if 'src="/static/' not in part]
    for address in re.findall(r'"(/static/[^"]+)"', page.text):
        found = client.get(address)
        assert (200, True) == (found.status_code, "immutable" in found.headers["cache-control"])
        assert "innerHTML" not in found.text
    for name in ("app.py", "..%2Fapp.py", "../app.py", "%2Fetc%2Fpasswd"):
        assert 404 == client.get(f"/static/{name}").status_code


def test_figures_are_those_of_the_ledger(ledger):
    """For a range, and for filters in the address."""
    client = viewer(ledger)
    day = client.get("/data?range=24h").json()
    tiles = {tile["name"]: tile["value"] for tile in day["tiles"]}

    assert (2, 16) == (day["calls"], len(day["tiles"]))
    assert "$0.0120" == tiles["total_spend"]
    assert 3 == client.get("/data?range=all").json()["calls"]
    assert 1 == client.get("/data", params={"agent": HOSTILE}).json()["calls"]
    assert 0 == client.get("/data?user=nobody").json()["calls"]
    assert [HOSTILE, "news"] == [row["name"] for row in day["spenders"]["agent"]]


def test_names_are_no_markup_where_plotly_reads_some(ledger):
    """Its labels know a few elements: names arrive escaped."""
    with Ledger(ledger, read_only=True) as opened:
        figure = cost_over_time(opened, since=datetime.now(UTC) - timedelta(days=1))

    assert "&lt;img src=x onerror=alert(1)&gt;" in {bar["name"] for bar in figure["data"]}
    assert 0.012 == pytest.approx(sum(sum(bar["y"]) for bar in figure["data"]))


def test_calls_are_a_file_that_runs_in_no_spreadsheet(ledger):
    """Those of the range and the filters."""
    answer = viewer(ledger).get("/calls.csv?range=24h&agent=news")
    (row,) = csv.DictReader(io.StringIO(answer.text))

    assert ("news", "'=1+1") == (row["agent"], row["user"])
    assert "attachment" in answer.headers["content-disposition"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/data", "/events", "/calls.csv"])
def test_it_only_reads(ledger, method, path):
    """Nothing can be sent to it."""
    assert 405 == viewer(ledger).request(method, path).status_code


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", ""]
)
def test_it_answers_to_its_own_names_only(ledger, host):
    """A page elsewhere that points its name here reads nothing."""
    client = viewer(ledger)
    assert 403 == client.get("/data", headers={"host": host}).status_code
    for own in ("127.0.0.1", "localhost:8787", "[::1]:8787"):
        assert 200 == client.get("/", headers={"host": own}).status_code


def test_a_token_is_asked_for(ledger):
    """Brought once in the address, kept in a cookie that no script reads."""
    client = viewer(ledger, token="s3cret", hosts=())
    for path in ("/", "/data", "/events", "/calls.csv", "/static/dashboard.js", "/?token=wrong"):
        assert 401 == client.get(path).status_code
    entry = client.get("/?token=s3cret", follow_redirects=False)

    assert (303, "/") == (entry.status_code, entry.headers["location"])
    assert "httponly" in entry.headers["set-cookie"].lower()
    assert "samesite=strict" in entry.headers["set-cookie"].lower()
    assert 200 == client.get("/data").status_code


def _missing(folder: Path) -> Path:
    return folder / "none.db"


def _empty(folder: Path) -> Path:
    Ledger(folder / "empty.db").close()
    return folder / "empty.db"


def _foreign(folder: Path) -> Path:
    (folder / "notes.txt").write_text("notes\n" * 500)
    return folder / "notes.txt"


@pytest.mark.parametrize("make", [_missing, _empty, _foreign])
def test_a_ledger_that_says_nothing_is_told(make, tmp_path):
    """The page says what is wrong and what to do; nothing is made."""
    where = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    client = viewer(where)

    assert client.get("/data").json()["problem"]
    assert 200 == client.get("/").status_code
    assert client.get("/calls.csv").status_code in (200, 404)
    assert before == sorted(p for p in tmp_path.iterdir() if p.name != "plotly" or p in before)


def test_a_ledger_may_come_to_be_later(tmp_path):
    """The dashboard need not be started again."""
    client = viewer(tmp_path / "later.db")
    assert "no ledger at" in client.get("/data").json()["problem"]
    with Ledger(tmp_path / "later.db") as opened:
        opened.record(record(started_at=datetime.now(UTC)))

    assert 1 == client.get("/data").json()["calls"]


def _calls_in(event: str) -> list[dict[str, str]]:
    return json.loads(event.partition("data: ")[2])


def feed_of(ledger) -> live.Feed:
    return live.Feed(Views(str(ledger), Sources()))


async def test_new_calls_come_to_all_viewers(ledger):
    """Each once, in order, with names as they are."""
    feed = feed_of(ledger)
    viewers = [feed.events(None) for _ in range(50)]
    waiting = await _waiting(feed, viewers)
    with Ledger(ledger) as opened:
        opened.record(record(attribution=Attribution(HOSTILE)))
    told = await asyncio.wait_for(asyncio.gather(*waiting), timeout=60)

    assert {HOSTILE} == {call["agent"] for event in told for call in _calls_in(event)}
    assert {1} == {len(_calls_in(event)) for event in told}
    for each in viewers:
        await each.aclose()


async def _waiting(feed, viewers):
    """Let viewers begin, and wait until the feed knows what was there before."""
    looked = threading.Event()
    last = feed._last

    def noted():
        found = last()
        looked.set()
        return found

    feed._last = noted
    for each in viewers:
        assert (await anext(each)).startswith("retry")
    assert await asyncio.to_thread(looked.wait, 60)
    return [asyncio.ensure_future(anext(each)) for each in viewers]


async def test_a_call_that_can_be_read_only_after_its_file_was_written_is_told(ledger, monkeypatch):
    """SQLite writes its log first: who looks in between has seen the last change, and no call."""
    monkeypatch.setattr(view, "stamp_of", lambda *_: (1,))
    feed = feed_of(ledger)
    viewers = [feed.events(None)]
    waiting = await _waiting(feed, viewers)
    before = feed._views.of({})
    with Ledger(ledger) as opened:
        opened.record(record(attribution=Attribution("late")))
    (told,) = await asyncio.wait_for(asyncio.gather(*waiting), timeout=60)

    assert ["late"] == [call["agent"] for call in _calls_in(told)]
    assert before.last_call + 1 == feed._views.of({}).last_call
    await viewers[0].aclose()


@pytest.mark.parametrize(("after", "latest"), [(1, 0), (None, 2)])
async def test_whoever_comes_back_gets_what_was_missed(ledger, after, latest):
    """From the last id on; whoever begins gets the latest."""
    viewer = feed_of(ledger).events(after, latest)
    assert (await anext(viewer)).startswith("retry")
    event = await anext(viewer)

    assert event.startswith("id: 3\nevent: calls\n")
    assert [HOSTILE, "old"] == [call["agent"] for call in _calls_in(event)]
    await viewer.aclose()


def test_slow_viewers_lose_the_oldest_and_hold_up_nobody():
    """A queue is bounded."""
    feed = feed_of("none.db")
    queue: asyncio.Queue[str] = asyncio.Queue(2)
    feed._viewers.add(queue)
    for number in range(5):
        feed._tell(str(number))

    assert ["3", "4"] == [queue.get_nowait(), queue.get_nowait()]


def test_the_same_question_is_worked_out_once(ledger, monkeypatch):
    """Until there is a new call; whoever has seen an older one takes what is there."""
    asked = []
    real = view.Facts.of
    monkeypatch.setattr(
        view.Facts, "of", lambda *given, **more: asked.append(1) or real(*given, **more)
    )
    client = viewer(ledger)
    for part in ("overview", "advice", "overview"):
        client.get(f"/part/{part}?range=7d")
    assert 1 == len(asked)
    with Ledger(ledger) as opened:
        opened.record(replace(record(), started_at=datetime.now(UTC)))
    client.get("/part/overview?range=7d&seen=3")
    assert 1 == len(asked)
    assert "3 calls" in client.get("/part/overview?range=7d&seen=4").text
    client.get("/part/overview?range=7d")
    assert 2 == len(asked)


def test_a_port_in_use_is_one_line(ledger):
    """With the next one to try."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(
            command_line, ["dashboard", "--ledger", str(ledger), "--port", str(port)]
        )

    assert 1 == result.exit_code
    assert f"port {port} of 127.0.0.1 cannot be used" in result.stderr


@pytest.mark.parametrize("before", [(), ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")])
def test_the_command_ends_in_peace_while_somebody_watches(ledger, before):
    """Ctrl-C lets viewers go and says nothing of them; in the background of a shell, too."""
    command = [sys.executable, "-m", "langchain_tokenopt", "dashboard", "--port", "0"]
    command = [*before, *command, "--ledger", str(ledger)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        try:
            address = re.search(r"http://\S+", run.stderr.readline()).group()
            with httpx.stream("GET", f"{address}events", timeout=60) as answer:
                lines = answer.iter_lines()  # which closes what it reads when nobody holds it
                assert next(lines).startswith("retry")
                run.send_signal(signal.SIGINT)
                _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert said == ""
    assert run.returncode in (0, 130)  # 0: a shell keeps it in the background
