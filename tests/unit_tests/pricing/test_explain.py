"""Why a call costs what it costs: lines that sum to the record, to the nano-dollar."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt import track_usage
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.rate_card import RateCard
from tests.support.model_server import ModelServer, Reply

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CARD = RateCard(
    {
        "models": {
            "own": {
                "input": "1.23456789",
                "output": "7.000000001",
                "cache_read": "0.1",
                "request": "0.005",
                "tier": {"flex": {"input": "0.5"}},
                "above": {"1000": {"input": "3.3333"}},
            }
        }
    }
)
MODELS = [
    ("own", "openai", "flex"),
    ("own", "ollama", None),
    ("gpt-5.4", "openai", "priority"),
    ("gpt-4o-audio-preview", "openai", None),
    ("gpt-realtime", "openai", None),
    ("claude-opus-4-6", "anthropic", "batch"),
    ("claude-fable-5-2", "google", "fast"),
    ("gemini-2.5-flash-image", "google_genai", None),
    ("gemini-2.5-pro", "google_genai", "batch"),
    ("sonar-deep-research", "perplexity", None),
    ("llama-3.3-70b-versatile", "groq", None),
    ("no-such-model", "openai", None),
]
counts = st.integers(0, 400_000)


def call(tokens: Usage, model: str, provider: str, tier: str | None, **changes: Any) -> CallRecord:
    """A record as the tracker would make it."""
    usage = changes.pop("usage", tokens)
    price = CARD.price(usage, model, provider, NOON, tier)
    fields: dict[str, Any] = {
        "run_id": uuid4(),
        "model": model,
        "provider": provider,
        "usage": usage,
        "started_at": NOON,
        "duration_seconds": 1.0,
        "cost_nano_usd": price.cost_nano_usd,
        "service_tier": tier,
        "unpriced": price.unpriced,
        "rates_version": CARD.version,
    }
    return CallRecord(**(fields | changes))


@settings(max_examples=300)
@given(
    st.sampled_from(MODELS),
    st.builds(Usage, *[counts] * 12) | st.builds(Usage, counts, counts),
)
def test_lines_sum_to_the_record(what: tuple[str, str, str | None], usage: Usage) -> None:
    """Whatever the model, the tier and the usage, true or not; no token is in two lines of it."""
    record = call(usage, *what)
    why = CARD.explain(record)

    assert why.cost_nano_usd == record.cost_nano_usd
    assert why.unpriced == record.unpriced
    assert sum(line.cost_nano_usd for line in why.lines) == (record.cost_nano_usd or 0)
    assert all(line.cost_nano_usd == 0 for line in why.lines if not line.is_priced)
    tokens = sum(line.tokens for line in why.lines if line.kind != "request")
    if why.lines and not usage.flaws():
        assert tokens >= usage.total_tokens
    assert record.cost_nano_usd is not None or "no price is known" in str(why)


def test_each_line_says_rate_source_tier_and_rule() -> None:
    """A long request in a cheaper tier, read in part from the cache."""
    record = call(Usage(2_000, 10, cache_read_tokens=500), "own", "openai", "flex")
    lines = {line.kind: line for line in CARD.explain(record).lines}

    assert ["input", "cache read", "output", "request"] == list(lines)
    assert {"flex"} == {line.tier for line in lines.values()}
    assert {"your own price of 'own'"} == {line.source for line in lines.values()}
    assert Decimal("3.3333") == lines["input"].usd_per_million
    assert "its own rate, above 1,000 input tokens" == lines["input"].rule
    assert 5_000_000 == lines["request"].cost_nano_usd


def test_a_tier_without_a_price_is_said_to_cost_the_standard_one() -> None:
    """What the response says and what is charged are both there."""
    record = call(Usage(10, 10), "llama-3.3-70b-versatile", "groq", "performance")

    assert "standard (performance has no price of its own)" in str(CARD.explain(record))


def test_what_is_not_counted_is_named() -> None:
    """A model that charges for searches says that they are not in the sum."""
    why = CARD.explain(call(Usage(10, 10), "gemini-2.5-pro", "google_genai", None))

    assert ("not counted here: web searches.",) == why.notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"cached": True, "cost_nano_usd": 0, "saved_nano_usd": 1_500},
            "a cache has answered; it would have cost $0.0000015.",
        ),
        (
            {"usage": Usage(), "status": "failed", "cost_nano_usd": 0},
            "nothing was billed: it failed before anything was used.",
        ),
        ({"cost_nano_usd": 7}, "the record says $0.000000007: it was charged by other prices"),
        ({"rates_version": "another"}, "the record was priced by another."),
    ],
    ids=["cached", "failed", "other cost", "other card"],
)
def test_what_else_decides_is_said(changes: dict[str, Any], said: str) -> None:
    """A free call says why; a record of another card is not passed off as this one's."""
    why = CARD.explain(call(Usage(100, 10), "own", "openai", None, **changes))

    assert said in "\n".join(why.notes)
    assert said in str(why)


def test_media_without_a_price_are_no_silent_zero() -> None:
    """Sound of a model whose price list has only text: the rest is charged, the part is named."""
    usage = Usage(1_000, 200, input_audio_tokens=400, output_audio_tokens=150)
    record = call(usage, "gpt-4o-audio-preview", "openai", None)

    assert ("input audio", "output audio") == record.unpriced
    assert CARD.price(Usage(600, 50), "gpt-4o-audio-preview", "openai").cost_nano_usd == (
        record.cost_nano_usd
    )
    assert "unpriced in part: input audio, output audio" in str(CARD.explain(record))


def test_drawn_tokens_cost_what_drawings_cost() -> None:
    """An image of 1,290 tokens at 30 dollars a million: $0.0387, as the provider's page says."""
    usage = Usage(0, 1_290, output_image_tokens=1_290)

    assert 38_700_000 == CARD.price(usage, "gemini-2.5-flash-image", "google").cost_nano_usd


@pytest.mark.parametrize("kind", ["refused", "failed"])
def test_a_call_that_brought_nothing_costs_no_request(kind: str) -> None:
    """A price per request is for requests that were answered."""
    price = CARD.price(Usage(), "own", answered=False)

    assert 0 == price.cost_nano_usd
    assert CARD.price(Usage(), "own").cost_nano_usd == 5_000_000
    assert CARD.price(Usage(3, 0), "own", answered=False).cost_nano_usd != 0
    record = call(Usage(), "own", "openai", None, status=kind, cost_nano_usd=0)
    assert 0 == CARD.explain(record).cost_nano_usd


def test_refused_calls_are_free_and_the_answer_is_not(model_server: ModelServer) -> None:
    """Three refusals of a provider, then an answer: one request is on the bill."""
    model = model_server.chat_openai(model="own", max_retries=0).with_retry(
        stop_after_attempt=4, wait_exponential_jitter=False
    )
    model_server.script(*[Reply(status=429, text="slow down")] * 3, Reply(usage=Usage(800, 2)))
    with track_usage(rate_card=CARD) as usage:
        model.invoke("Hi")
    records = usage.records

    assert [0, 0, 0] == [record.cost_nano_usd for record in records[:3]]
    assert usage.totals().cost_nano_usd == CARD.price(Usage(800, 2), "own").cost_nano_usd
    for record in records:
        assert CARD.explain(record).cost_nano_usd == record.cost_nano_usd


def test_an_explanation_of_what_was_tracked_is_that_of_the_record(
    model_server: ModelServer,
) -> None:
    """Through the real host: the tier of the answer, and what was read from the cache."""
    model_server.script(
        Reply(usage=Usage(3_000, 100, cache_read_tokens=2_000), service_tier="priority")
    )
    with track_usage(rate_card=CARD) as usage:
        model_server.chat_openai(model="gpt-5.4").invoke("Hi")
    (record,) = usage.records
    why = CARD.explain(record)

    assert {"priority"} == {line.tier for line in why.lines}
    assert record.cost_nano_usd == sum(line.cost_nano_usd for line in why.lines)
    assert record.cost_nano_usd == 1_000 * 5_000 + 2_000 * 500 + 100 * 30_000
    assert CARD.explain(replace(record, service_tier=None)).cost_nano_usd != record.cost_nano_usd
