"""Metrics as Prometheus reads them: exact, bounded, and with names as data."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.output_parsers import StrOutputParser
from starlette.applications import Starlette
from starlette.routing import Mount

from langchain_tokenopt import PrometheusSink, track_usage
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, Saving, ToolChoice, UsageTotals
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.export.labels import OTHER
from tests.support.asgi_server import served
from tests.support.ledger_records import record

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families


def made(**options: Any) -> tuple[CollectorRegistry, PrometheusSink]:
    registry = CollectorRegistry()
    return registry, PrometheusSink(registry, **options)


def scraped(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, as Prometheus's own parser reads them."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def read(registry: CollectorRegistry) -> dict[str, list[tuple[dict[str, str], float]]]:
    return scraped(generate_latest(registry).decode())


def total(found: dict[str, list[tuple[dict[str, str], float]]], name: str, **labels: str) -> float:
    samples = found.get(f"tokenopt_{name}", [])
    return sum(v for own, v in samples if labels.items() <= own.items())


def test_a_chain_in_threads_and_loops_is_counted_to_the_token(model_server):
    """Scraped over HTTP from the mounted application."""
    _, sink = made(labels=("agent", "model", "user"))
    chain = model_server.chat_openai() | StrOutputParser()
    with track_usage([sink]) as usage:
        chain.batch(["a"] * 8, {"metadata": {"user_id": "ann", "tokenopt_agent": "news"}})

        async def later() -> None:
            config = {"metadata": {"user_id": "bob"}}
            await asyncio.gather(*(chain.ainvoke("b", config) for _ in range(4)))

        asyncio.run(later())
    with served(Starlette(routes=[Mount("/metrics", sink.app)])) as address:
        found = scraped(httpx.get(f"http://{address}/metrics/").text)
    totals = usage.totals()

    assert 12 == total(found, "calls_total", status="ok", model="gpt-4.1-mini")
    assert 8 == total(found, "calls_total", agent="news", user="ann")
    assert totals.input_tokens == total(found, "tokens_total", type="input")
    assert totals.output_tokens == total(found, "tokens_total", type="output")
    assert totals.cost_nano_usd / 1e9 == pytest.approx(total(found, "cost_usd_total"))
    assert 12 == total(found, "call_seconds_count")


_prices = st.one_of(st.none(), st.integers(0, 10**12))
_tokens = st.integers(0, 10**6)
_any_call = {
    "run_id": st.uuids(),
    "cost_nano_usd": _prices,
    "attribution": st.builds(Attribution, agent=st.sampled_from(["a", "b", ""])),
    "usage": st.builds(Usage, input_tokens=_tokens, output_tokens=_tokens),
}
_calls = st.one_of(
    st.builds(record, status=st.sampled_from(["ok", "failed", "abandoned"]), **_any_call),
    st.builds(record, cached=st.just(True), saved_nano_usd=_prices, **_any_call),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(_calls, max_size=20, unique_by=lambda call: call.run_id))
def test_metrics_are_the_totals(calls):
    """Of any calls, told twice each, the sums are those of ``UsageTotals``."""
    registry, sink = made()
    for call in calls * 2:
        sink.record(call)
    found, totals = read(registry), UsageTotals.of(calls)

    assert totals.calls == total(found, "calls_total")
    assert totals.cached_calls == total(found, "calls_total", status="cached")
    assert totals.total_tokens == total(found, "tokens_total")
    assert totals.unpriced_calls == total(found, "unpriced_calls_total")
    assert totals.cost_nano_usd / 1e9 == pytest.approx(total(found, "cost_usd_total"))
    assert totals.saved_nano_usd / 1e9 == pytest.approx(total(found, "saved_usd_total"))


def test_savings_are_net_of_what_stages_lost():
    """Two counters that only grow; what a stage only watched is in neither."""
    registry, sink = made()
    for before, after, spent, observed in ((9, 4, 0, False), (9, 9, 3, False), (9, 1, 0, True)):
        sink.record(
            Saving(
                stage="Limit",
                tokens_before=before,
                tokens_after=after,
                spent_tokens=spent,
                observed=observed,
            )
        )
    found = read(registry)
    assert 5 == total(found, "saved_tokens_total", stage="Limit")
    assert 3 == total(found, "savings_lost_tokens_total", stage="Limit")


def test_budgets_and_what_they_did():
    """The share is that of the last event; a limit of nothing is used up."""
    registry, sink = made()
    for kind, spent, limit in (("alert", 500, 1_000), ("denied", 900, 1_000), ("denied", 0, 0)):
        sink.record(
            BudgetEvent(
                kind=kind,
                budget="desk" if limit else "none",
                agent="a",
                spent_tokens=spent,
                held_tokens=50 if limit else 0,
                limit_tokens=limit,
            )
        )
    sink.record(ToolChoice(offered=(), left_out=0, tokens_before=0, tokens_after=0))
    found = read(registry)
    assert 1 == total(found, "budget_events_total", budget="desk", kind="denied")
    assert [0.95, 1] == [total(found, "budget_used_ratio", budget=b) for b in ("desk", "none")]


@pytest.mark.parametrize(
    "name",
    ['a"} 1\ntokenopt_forged 1', "\\", "\x00\x1b[31m", "\u2028", "a" * 10_000, "\ud800", "é‮", "{}"],
)
def test_hostile_names_are_data(name):
    """Prometheus reads one sample, and no line of it is another metric."""
    registry, sink = made(labels=("agent", "model", "tool"))
    sink.record(record(attribution=Attribution(name, tool=name), model=name))
    sink.record(BudgetEvent(kind="denied", budget=name, agent=name, spent_tokens=0, held_tokens=0,
                            limit_tokens=1))  # fmt: skip
    sink.record(Saving(stage=name, tokens_before=2, tokens_after=1))
    found = read(registry)

    assert 1 == total(found, "calls_total")
    assert "tokenopt_forged" not in found
    (labels, _), *others = found["tokenopt_calls_total"]
    assert not others
    assert len(labels["agent"]) <= 200


def test_series_are_bounded_whatever_agents_are_called():
    """And nothing is lost from the sums."""
    registry, sink = made(max_series=10)
    for n in range(100):
        call = record(attribution=Attribution(f"spam-{n}"))
        sink.record(call)
        sink.record(Saving(stage=f"s{n}", tokens_before=2, tokens_after=1))
    found = read(registry)

    assert 11 == len(found["tokenopt_calls_total"])
    assert (100, 90) == (total(found, "calls_total"), total(found, "calls_total", agent=OTHER))
    assert 100 == total(found, "saved_tokens_total")


def test_many_threads_count_exactly():
    """4 threads, 250 calls each, of which every one is told by two."""
    registry, sink = made()
    calls = [record() for _ in range(500)]
    threads = [
        threading.Thread(target=lambda: [sink.record(call) for call in calls]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 500 == total(read(registry), "calls_total")


def test_processes_are_added_up(tmp_path):
    """Where ``PROMETHEUS_MULTIPROC_DIR`` names a folder."""
    work = (
        "from langchain_tokenopt import PrometheusSink;"
        "from prometheus_client import CollectorRegistry;"
        "from tests.support.ledger_records import record;"
        "sink = PrometheusSink(CollectorRegistry()); sink.record(record());"
        "from starlette.testclient import TestClient;"
        "print(TestClient(sink.app).get('/').text)"
    )
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    for _ in range(2):
        text = subprocess.run(
            [sys.executable, "-c", work],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    assert 2 == total(scraped(text), "calls_total")


@pytest.mark.parametrize("labels", [("colour",), "agent", ("agent", 7)])
def test_labels_are_dimensions(labels):
    """Said at once, with the list."""
    with pytest.raises(ValueError, match="labels are some of agent"):
        made(labels=labels)


def test_without_the_client_it_says_what_to_install(monkeypatch):
    """With the name of the extra."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError, match=r"langchain-tokenopt\[prometheus\]"):
        PrometheusSink()
