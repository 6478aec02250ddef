"""What the dashboard does with ledgers, files, addresses and names that it would rather not see."""

from __future__ import annotations

import csv
import io
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import parse_qsl, quote

import pytest
from langchain_core.outputs import Generation
from starlette.testclient import TestClient

from langchain_tokenopt.cache.file_stats import stats_in
from langchain_tokenopt.dashboard import make_app
from langchain_tokenopt.dashboard.asked import RANGES, Asked
from langchain_tokenopt.dashboard.parts import PARTS, TABLES
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.ledger.schema import SCHEMA_VERSION
from tests.support.caches import make_cache
from tests.support.dashboard_files import (
    HOSTILE,
    budget_store,
    cache_file,
    comparison_file,
    guard_file,
    hostile_ledger,
)
from tests.support.ledger_records import record
from tests.support.postgres_server import FAST, PostgresServer


def viewer(ledger, **options) -> TestClient:
    return TestClient(make_app(str(ledger), **options), base_url="http://127.0.0.1:8787")


def whole_page(client, query="range=7d") -> str:
    return "".join(client.get(f"/part/{name}?{query}").text for name in PARTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    hostile_ledger(folder / "hostile.db")
    budget_store(folder / "budgets.db")
    cache_file(folder / "cache.db")
    guard_file(folder / "guard.db")
    comparison_file(folder / "verdict.json")
    return folder


@pytest.fixture
def beside(files):
    named = {name: str(files / f"{name}.db") for name in ("budgets", "cache", "guard")}
    return {**named, "comparisons": [str(files / "verdict.json")]}


@pytest.fixture
def client(files, beside) -> TestClient:
    return viewer(files / "hostile.db", **beside)


# Names


def test_no_name_is_markup(client):
    """In every part, every dimension of the chart, and on the page of every run."""
    pages = [whole_page(client)]
    pages += [client.get(f"/part/cost?range=7d&by={name}").text for name in ("model", "tag")]
    pages += [client.get(f"/run/{quote(name, safe='')}").text for name in HOSTILE]
    pages += [client.get("/", params={"agent": name, "user": name}).text for name in HOSTILE]
    for page in pages:
        assert not _Elements(page).wrong


class _Elements(HTMLParser):
    """Notes elements and attributes that no template has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.wrong: list[tuple[str, object]] = []
        self.feed(page)
        self.wrong += [("character", each) for each in "\x1b\u202e" if each in page]

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            leads = (value or "").startswith(("/", "#", "data:")) or name != "href"
            if name.startswith("on") or name == "style" or not leads:
                self.wrong.append((tag, name))
        if tag in ("img", "iframe", "object", "base", "style", "include"):
            self.wrong.append((tag, attrs))
        if tag == "script" and not dict(attrs).get("src", "").startswith("/static/"):
            self.wrong.append((tag, attrs))


@pytest.mark.parametrize("name", [name for name in HOSTILE if "%zz" not in name])
def test_every_run_has_a_page_and_a_file(client, name):
    """Whatever it is called (the client of these tests cannot ask for a percent sign)."""
    address = f"/run/{quote(name, safe='')}"
    assert 200 == client.get(address).status_code
    rows = list(csv.reader(io.StringIO(client.get(f"{address}.csv").text, newline="")))
    assert 2 == len(rows)


@pytest.mark.parametrize("name", TABLES)
def test_no_file_runs_in_a_spreadsheet(client, name):
    """Titles of columns are names, too."""
    answer = client.get(f"/csv/{name}.csv?range=7d")
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))

    assert answer.headers["content-type"].startswith("text/csv")
    assert 1 == len({len(row) for row in rows})
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "@", "\t", "\r", "+1+1"))
        assert "\x1b" not in cell


# Addresses


@pytest.mark.parametrize(
    "query",
    [
        "since=0001-01-01T00:00",
        "until=9999-12-31T23:59",
        "since=9999-12-31T23:59",
        "since=2026-01-02&until=2026-01-01",
        "agent=%ED%A0%80",
        "agent=%00",
        "range=&since=&until=&by=&agent=&seen=",
        "token=x",
        "&&",
    ],
)
def test_an_address_at_the_edge_of_sense_is_answered(client, query):
    """Times before all calls and after them, names that nobody has, empty parameters."""
    for path in ("/", "/data", *(f"/part/{name}" for name in PARTS), "/csv/cost.csv"):
        assert 200 == client.get(f"{path}?{query}").status_code


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("range=__proto__", "'__proto__'"),
        ("range=-7d", "range='-7d' is none of 1h, 24h"),
        ("range=7d&range=8d", "'8d'"),
        ("since=yesterday&until=tomorrow", "since='yesterday' is no time"),
        ("since=2026-13-45", "2026-13-45"),
        ("until=999999-01-01", "999999-01-01"),
        ("by=constructor", "none of agent"),
        ("usr=ada", "no parameter 'usr'; there are range"),
        ("user=ada&%3Cscript%3E=1", "no parameter '<script>'"),
        ("==", "no parameter ''"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_in_words(client, query, said):
    """Other figures than those that were meant would look like the answer."""
    paths = ("/", "/data", *(f"/part/{name}" for name in PARTS), "/csv/cost.csv", "/calls.csv")
    for path in paths:
        answer = client.get(f"{path}?{query}")
        assert (400, True) == (answer.status_code, said in answer.text)
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("seen", ["-1", "99999999999999999999", "one"])
def test_a_page_says_which_call_it_has_seen(client, seen):
    """In a number."""
    assert 400 == client.get(f"/part/overview?seen={seen}").status_code


@pytest.mark.parametrize("path", ["/part/nothing", "/csv/nothing.csv", "/run/nothing", "/nothing"])
def test_what_is_not_there_is_404(client, path):
    """With the same policy as everything else."""
    answer = client.get(path)
    assert 404 == answer.status_code
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_an_address_says_what_was_asked():
    """Reading what was written gives the same."""
    for name in RANGES:
        asked = Asked.of({"range": name, "agent": HOSTILE[14]})
        assert asked == Asked.of(dict(parse_qsl(asked.query)))
    now = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
    first = now - timedelta(days=400)
    for name, length in RANGES.items():
        begin, end = Asked.of({"range": name}).period(first, now)
        assert end == now
        assert begin <= (first if length is None else now - length)
    assert Asked.of({"since": "2026-11-25"}).period(first, now) == (now, now)


# Ledgers


def test_a_ledger_of_another_version_says_what_to_do(tmp_path):
    """A newer one, and an older one."""
    for version, advice in ((SCHEMA_VERSION + 1, "Upgrade it"), (1, "Open it once for writing")):
        path = tmp_path / f"{version}.db"
        Ledger(path).close()
        with sqlite3.connect(path) as database:
            database.execute("DELETE FROM ledger_schema")
            database.execute("INSERT INTO ledger_schema VALUES (?, 0, '')", [version])
        database.close()
        assert advice in whole_page(viewer(path))


def test_a_ledger_that_goes_comes_back(tmp_path):
    """Removed, replaced by another one, replaced by junk."""
    path = tmp_path / "l.db"
    client = viewer(path)
    for calls in (1, 2):
        with Ledger(path) as ledger:
            for _ in range(calls):
                ledger.record(record(started_at=datetime.now(UTC)))
        assert calls == client.get("/data").json()["calls"]
        path.unlink()
        assert "no ledger at" in client.get("/data").json()["problem"]
    path.write_text("junk\n" * 500)
    assert "not a ledger" in client.get("/data").json()["problem"]


def test_a_ledger_is_read_while_it_is_written(tmp_path):
    """A transaction that is under way holds nobody up, and is not seen."""
    path = tmp_path / "l.db"
    with Ledger(path) as ledger:
        ledger.record(record(started_at=datetime.now(UTC)))
    writing = sqlite3.connect(path, isolation_level=None)
    writing.execute("BEGIN IMMEDIATE")
    writing.execute("DELETE FROM calls")
    assert 1 == viewer(path).get("/data").json()["calls"]
    writing.execute("ROLLBACK")
    writing.close()


def test_a_server_that_is_gone_is_told_without_its_password():
    """And while it is there, it is read like a file."""
    with PostgresServer(FAST) as server:
        url = server.new_database()
        with Ledger(url) as ledger:
            ledger.record(record(started_at=datetime.now(UTC)))
        client = viewer(url)
        assert 1 == client.get("/data").json()["calls"]
        assert "$0.0045" in whole_page(client)
    said = whole_page(client, "range=30d")
    assert "cannot be reached" in said
    hidden = viewer("postgresql://ann:s3cret@127.0.0.1:1/db")
    pages = (hidden.get("/").text, whole_page(hidden), hidden.get("/data").text)
    assert not [page for page in pages if "s3cret" in page]


# What is beside


@pytest.mark.parametrize("content", [None, b"", b"junk" * 999, b"{}", b'{"judges": 3}', b"\xff"])
def test_files_beside_that_cannot_be_read_are_told_in_their_place(files, tmp_path, content):
    """Everything else is shown; nothing is made or changed."""
    path = tmp_path / "beside"
    if content is not None:
        path.write_bytes(content)
    named = dict.fromkeys(("budgets", "cache", "guard"), str(path))
    page = whole_page(viewer(files / "hostile.db", **named, comparisons=[str(path)]))

    assert 4 <= page.count(str(path))
    assert "Top spenders" in page
    assert content == (path.read_bytes() if path.exists() else None)
    assert {path, tmp_path} >= {*tmp_path.iterdir(), tmp_path}


def test_what_is_beside_is_shown(beside, tmp_path):
    """Budgets of a store with their alerts, audits of a cache, verdicts of a guard and of A/B."""
    with Ledger(tmp_path / "l.db") as ledger:
        ledger.record(record(started_at=datetime.now(UTC)))
    page = whole_page(viewer(tmp_path / "l.db", **beside))
    for said in (
        "21,000 of 40,000 tokens",
        "98.8%",
        "28 by the same request",
        "worse: level 2",
        "not worse so far",
        "-0.4 pt",
        "41.0%",
    ):
        assert said in page


def test_a_cache_file_says_what_the_cache_says(tmp_path):
    """Counts, audits and the bound, without opening it as a cache."""
    answer = [Generation(text="In Settings.")]
    with make_cache(tmp_path / "c.db", max_wrong_per_request=0.0) as cache:
        cache.update("How can I change my card PIN?", "llm", answer)
        for question, said in (("modify my card PIN", answer), ("change my card PIN abroad", [])):
            cache.lookup(f"How can I {question}?", "llm")
            cache.update(f"How can I {question}?", "llm", said or [Generation(text="At an ATM.")])
        cache.lookup("How can I change my card PIN?", "llm")
    with make_cache(tmp_path / "c.db", max_wrong_per_request=0.0) as cache:
        known = cache.stats(lifetime=True)
    before = (tmp_path / "c.db").read_bytes()
    found = stats_in(tmp_path / "c.db", max_wrong_per_request=0.0)

    assert (2, 1) == (found.checked, found.checked_wrong)
    assert replace(known, fields=()) == replace(found, fields=())
    assert [f.wrong_per_request_bound for f in known.fields] == [
        f.wrong_per_request_bound for f in found.fields
    ]
    assert before == (tmp_path / "c.db").read_bytes()
