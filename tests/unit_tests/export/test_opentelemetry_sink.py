"""Spans and metrics by OpenTelemetry's conventions, through real hosts and its own SDK."""

from __future__ import annotations

import asyncio
import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_tokenopt import OpenTelemetrySink, TokenUsageCallbackHandler, track_usage
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.export.labels import OTHER
from langchain_tokenopt.export.opentelemetry_names import (
    ATTRIBUTES,
    DURATION,
    PROVIDERS,
    TOKEN_COUNTERS,
    TOKEN_HISTOGRAM,
    TOKEN_TYPE,
)
from tests.support.ledger_records import record

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
    InMemorySpanExporter,
)
from opentelemetry.trace import SpanKind, StatusCode


class Telemetry:
    """A sink, and what it has sent."""

    def __init__(self, **options: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.sink = OpenTelemetrySink(meters, self.tracers, **options)

    @property
    def spans(self) -> list[Any]:
        """Those of calls; the application's own have another kind."""
        return [s for s in self.exporter.get_finished_spans() if s.kind is SpanKind.CLIENT]

    def points(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """Values by metric; of a histogram the sum."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: [
                (dict(p.attributes), p.sum if hasattr(p, "sum") else p.value)
                for p in metric.data.data_points
            ]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def total(self, name: str, **attributes: Any) -> float:
        wanted = attributes.items()
        return sum(v for own, v in self.points().get(name, []) if wanted <= own.items())


def test_spans_of_graphs_in_threads_and_chains_in_loops_are_children_of_their_callers(
    model_server,
):
    """One handler for all: each span stands in the trace of the user who made the call."""
    telemetry = Telemetry()
    model = model_server.chat_openai()
    graph = StateGraph(MessagesState)
    graph.add_node("writer", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "writer")
    graph.add_edge("writer", END)
    compiled, chain = graph.compile(), model | StrOutputParser()
    usage = TokenUsageCallbackHandler([telemetry.sink])
    tracer = telemetry.tracers.get_tracer("application")

    def config(n: int) -> dict[str, Any]:
        return {"callbacks": [usage], "metadata": {"thread_id": f"t{n}"}}

    def in_thread(n: int) -> None:
        with tracer.start_as_current_span(f"t{n}"):
            compiled.invoke({"messages": [("user", "secret")]}, config(n))

    async def in_loop(n: int) -> None:
        with tracer.start_as_current_span(f"t{n}"):
            [_ async for _ in chain.astream("secret", config(n))]

    async def all_in_loop() -> None:
        await asyncio.gather(*(in_loop(n) for n in range(8, 16)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: copy_context().run(in_thread, n), range(8)))
    asyncio.run(all_in_loop())
    callers = {
        span.context.span_id: span.name
        for span in telemetry.exporter.get_finished_spans()
        if span.kind is SpanKind.INTERNAL
    }

    assert 16 == len(telemetry.spans)
    for span in telemetry.spans:
        assert callers[span.parent.span_id] == span.attributes["gen_ai.conversation.id"]
        assert "chat gpt-4.1-mini" == span.name
        assert span.end_time > span.start_time
        assert "secret" not in span.to_json()
    totals = usage.totals()
    assert totals.input_tokens == telemetry.total(TOKEN_HISTOGRAM.old, **{TOKEN_TYPE: "input"})
    assert totals.output_tokens == telemetry.total(TOKEN_HISTOGRAM.old, **{TOKEN_TYPE: "output"})
    assert totals.input_tokens == telemetry.total("gen_ai.client.inference.usage.input_tokens")
    assert totals.cost_nano_usd / 1e9 == pytest.approx(telemetry.total("tokenopt.cost"))


def test_an_abandoned_stream_stands_in_the_trace_of_its_caller(model_server):
    """Though it may be the garbage collector, in anybody's context, that ends it."""
    telemetry = Telemetry()
    tracer = telemetry.tracers.get_tracer("application")
    with track_usage([telemetry.sink]):
        with tracer.start_as_current_span("hers"):
            stream = model_server.chat_openai(stream_usage=True).stream("count")
            next(stream)
        with tracer.start_as_current_span("another"):
            del stream
    (span,) = telemetry.spans
    hers = next(s for s in telemetry.exporter.get_finished_spans() if s.name == "hers")

    assert hers.context.span_id == span.parent.span_id
    assert "abandoned" == span.attributes["error.type"]


def test_old_and_new_names_say_the_same():
    """The table is followed, each name once."""
    made = record(
        provider="aws",
        usage=Usage(100, 20, cache_read_tokens=50, cache_write_tokens=10, reasoning_tokens=5),
        first_chunk_seconds=0.25,
        attribution=Attribution("news", user="ann", thread_id="t-1", tool="search"),
    )
    sent = {}
    for names in ("both", "old", "new"):
        telemetry = Telemetry(names=names)
        telemetry.sink.record(made)
        (span,) = telemetry.spans
        sent[names] = dict(span.attributes), set(telemetry.points())
    old, new = sent["old"][0], sent["new"][0]

    assert "aws.bedrock" == old["gen_ai.system"] == new["gen_ai.provider.name"]
    assert (100, 20) == (old["gen_ai.usage.prompt_tokens"], old["gen_ai.usage.completion_tokens"])
    assert (100, 20) == (new["gen_ai.usage.input_tokens"], new["gen_ai.usage.output_tokens"])
    assert 10 == old["gen_ai.usage.cache_creation.input_tokens"]
    assert 10 == new["gen_ai.usage.cache_write.input_tokens"]
    assert 0.0045 == new["tokenopt.cost_usd"]
    assert "gen_ai.system" not in new
    assert "gen_ai.provider.name" not in old
    assert {**old, **new} == sent["both"][0]
    assert sent["old"][1] | sent["new"][1] == sent["both"][1]
    assert {TOKEN_HISTOGRAM.old, DURATION.old} == sent["old"][1] - sent["new"][1]
    assert {DURATION.new, *(each.new for each in TOKEN_COUNTERS.values())} == (
        sent["new"][1] - sent["old"][1]
    )
    assert "ann" not in str(sent)


def test_the_table_holds_names_that_the_conventions_know():
    """Those of the package, as far as it has them; what is newer is listed here."""
    module = "opentelemetry.semconv._incubating"
    attributes = vars(importlib.import_module(f"{module}.attributes.gen_ai_attributes"))
    metrics = vars(importlib.import_module(f"{module}.metrics.gen_ai_metrics"))
    known = {v for v in (*attributes.values(), *metrics.values()) if isinstance(v, str)}
    known |= {"error.type"}
    newer = {
        "gen_ai.usage.cache_write.input_tokens",
        *(f"gen_ai.usage.{m}.{s}_tokens" for m in ("audio", "image") for s in ("input", "output")),
        "gen_ai.client.inference.duration",
        *(each.new for each in TOKEN_COUNTERS.values()),
    }
    if "gen_ai.usage.reasoning.output_tokens" not in known:
        pytest.skip("This release is older than the names that count as old.")
    tables = (*ATTRIBUTES.values(), *TOKEN_COUNTERS.values(), TOKEN_HISTOGRAM, DURATION)
    ours = {name for each in tables for name in each if name and not name.startswith("tokenopt.")}

    assert ours - newer <= known
    assert not newer & known
    assert {*PROVIDERS.values()} - {"moonshot_ai"} <= {
        each.value for each in attributes["GenAiProviderNameValues"]
    }


def test_what_a_cache_answered_is_no_spend():
    """Back ends add up what stands on spans: there is nothing there."""
    telemetry = Telemetry()
    telemetry.sink.record(record(cached=True, cost_nano_usd=0, saved_nano_usd=4_500_000))
    (span,) = telemetry.spans

    assert 0 == span.attributes["gen_ai.usage.input_tokens"]
    assert (True, 1_200) == (
        span.attributes["tokenopt.cached"],
        span.attributes["tokenopt.saved_tokens"],
    )
    assert 0 == telemetry.total(TOKEN_HISTOGRAM.old)
    assert 1_200 == telemetry.total("tokenopt.saved_tokens", **{"tokenopt.stage": "cache"})
    assert 0.0045 == telemetry.total("tokenopt.saved_cost")


@pytest.mark.parametrize("status", ["failed", "refused", "abandoned", "ok"])
def test_how_a_call_ended_is_told(status):
    """An abandoned call is the caller's wish, and no error of the span."""
    telemetry = Telemetry()
    telemetry.sink.record(record(status=status))
    (span,) = telemetry.spans

    is_error = span.status.status_code is StatusCode.ERROR
    assert (status in ("failed", "refused")) == is_error
    assert (None if status == "ok" else status) == span.attributes.get("error.type")
    durations = telemetry.points().get(DURATION.new, [])
    assert [] == durations if status == "refused" else 1.5 == durations[0][1]


def test_unknown_prices_are_counted_and_cost_nothing():
    """Unknown is not zero: it has a count of its own."""
    telemetry = Telemetry()
    telemetry.sink.record(record(cost_nano_usd=None))
    assert 1 == telemetry.total("tokenopt.unpriced_calls")
    assert "tokenopt.cost_usd" not in telemetry.spans[0].attributes
    assert "tokenopt.cost" not in telemetry.points()


def test_savings_are_net_and_budgets_are_shares():
    """What a stage has only watched counts for nothing; told twice counts once."""
    telemetry = Telemetry()
    for before, after, observed in ((9, 4, False), (4, 6, False), (9, 0, True)):
        telemetry.sink.record(
            Saving(stage="Limit", tokens_before=before, tokens_after=after, observed=observed)
        )
    spent = {"agent": "a", "held_tokens": 50, "limit_tokens": 1_000}
    denied = BudgetEvent(kind="denied", budget="desk", spent_tokens=900, **spent)
    for each in (
        BudgetEvent(kind="alert", budget="desk", spent_tokens=500, **spent),
        denied,
        denied,
    ):
        telemetry.sink.record(each)

    # First: old releases tell of a gauge only after it was set.
    assert 0.95 == telemetry.total("tokenopt.budget.used_ratio", **{"tokenopt.budget": "desk"})
    assert 3 == telemetry.total("tokenopt.saved_tokens", **{"tokenopt.stage": "Limit"})
    assert 1 == telemetry.total("tokenopt.budget.events", **{"tokenopt.kind": "denied"})


def test_series_are_bounded_and_people_are_no_labels():
    """Whatever agents are called; sums stay whole."""
    telemetry = Telemetry(max_series=10)
    for n in range(50):
        made_by = Attribution(f"spam-{n}", user=f"user-{n}", thread_id=f"t-{n}")
        telemetry.sink.record(record(attribution=made_by, run=f"run-{n}"))
    points = telemetry.points()["gen_ai.client.inference.usage.input_tokens"]

    assert 11 == len(points)
    assert 50_000 == sum(value for _, value in points)
    assert 40_000 == sum(v for own, v in points if own["gen_ai.agent.name"] == OTHER)
    assert not any("user" in str(own) or "run-" in str(own) for own, _ in points)


def test_labels_can_be_asked_for():
    """By the conventions' names where they have one."""
    telemetry = Telemetry(labels=("tag", "response_model"), names="new")
    telemetry.sink.record(
        record(attribution=Attribution("a", tag="checkout"), response_model="gpt-4o-2024-08-06")
    )
    ((own, _),) = telemetry.points()["tokenopt.cost"]
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "tokenopt.tag": "checkout",
    } == own


@pytest.mark.parametrize("name", ["\ud800", "\x00\x1b[31m", "a" * 10_000, ""])
def test_hostile_names_can_be_sent(name):
    """Text that no exporter could encode is made one that it can."""
    telemetry = Telemetry()
    telemetry.sink.record(record(model=name, provider=name, started_at=datetime(2026, 11, 30)))
    telemetry.sink.record(Saving(stage=name, tokens_before=2, tokens_after=1))
    (span,) = telemetry.spans
    for text in (span.name, *map(str, span.attributes.values()), str(telemetry.points())):
        text.encode()


def test_without_a_provider_nothing_is_sent_and_nothing_fails():
    """OpenTelemetry's own default, when an application has set up none."""
    OpenTelemetrySink().record(record())


def test_arguments_are_checked(monkeypatch):
    """And what is missing is named, with the extra."""
    with pytest.raises(ValueError, match="names must be"):
        OpenTelemetrySink(names="newest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels are some of agent"):
        OpenTelemetrySink(labels=("colour",))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImportError, match=r"langchain-tokenopt\[otel\]"):
        OpenTelemetrySink()
