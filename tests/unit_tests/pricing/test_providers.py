"""Who sends the bill: the package, the address, or nobody that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot

from langchain_tokenopt import BudgetPlan, optimize, track_usage
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing import providers
from langchain_tokenopt.pricing.providers import (
    HOSTS,
    base_url_in,
    billing_provider,
    is_sold_by_its_maker_alone,
    provider_of_url,
)
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall
from tests.support.model_server import ModelServer, Reply

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CARD = RateCard({})
WEIGHTS = [
    "openai/gpt-oss-120b",
    "gpt-oss-20b",
    "google/gemma-3-27b-it",
    "gemma3:27b",
    "meta-llama/Llama-3.3-70B-Instruct",
    "llama-3.3-70b",
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
    "mistral-small-3.2",
    "deepseek-ai/DeepSeek-V3.2",
    "deepseek/deepseek-r1",
    "deepseek-v3",
    "Qwen/Qwen3-235B-A22B",
    "moonshotai/kimi-k2",
    "zai-org/GLM-5",
    "x-ai/grok-2",
    "MiniMaxAI/MiniMax-M2",
    "perplexity/r1-1776",
    "CohereLabs/command-a-03-2025",
    "nvidia/nemotron-3-nano-omni-30b-a3b-reasoning",
]


@pytest.mark.parametrize("provider", ["openai", "litellm", None, "a-gateway-of-our-own"])
@pytest.mark.parametrize("model", WEIGHTS)
def test_open_weights_are_unpriced_behind_anybodys_address(
    model: str, provider: str | None
) -> None:
    """The name says who made the model, and not who sends the bill."""
    assert CARD.rates(model, provider, NOON) is None


@pytest.mark.parametrize(
    ("url", "provider", "model"),
    [
        ("https://api.groq.com/openai/v1", "groq", "openai/gpt-oss-120b"),
        ("https://openrouter.ai/api/v1", "openrouter", "openai/gpt-oss-120b"),
        ("https://api.together.xyz/v1", "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("https://api.together.ai/v1", "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("https://api.deepseek.com/v1", "deepseek", "deepseek-chat"),
        ("https://api.fireworks.ai/inference/v1", "fireworks", "accounts/fireworks/models/glm-5p2"),
        ("https://api.cerebras.ai/v1", "cerebras", "gpt-oss-120b"),
    ],
)
def test_the_address_says_who_sends_the_bill(url: str, provider: str, model: str) -> None:
    """ChatOpenAI speaks to many; a provider that is known by its address has its own prices."""
    billed_by = billing_provider("openai", url)

    assert provider == billed_by
    assert CARD.rates(model, billed_by, NOON) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://localhost:11434/v1",
        "https://llm.example.com/v1",
        "https://evil.example/?u=https://api.groq.com",
        "",
        "https://",
    ],
)
def test_an_address_that_nobody_knows_changes_nothing(url: str) -> None:
    """A proxy of one's own: models that only their maker has are priced as theirs."""
    assert provider_of_url(url) is None
    assert billing_provider("openai", url) == "openai"
    assert CARD.rates("gpt-5", billing_provider("openai", url), NOON) is not None


def test_a_package_keeps_its_name_at_its_own_address() -> None:
    """Records go on under the names that LangChain gives."""
    assert "azure" == billing_provider("azure", "https://x.openai.azure.com/")
    assert "xai" == billing_provider("xai", "https://api.x.ai/v1/")
    assert "mistral" == billing_provider("mistral", "https://api.mistral.ai/v1")
    assert "anthropic" == billing_provider("anthropic", "https://api.anthropic.com")


@pytest.mark.parametrize(
    "name",
    [
        *("openai_api_base", "base_url", "anthropic_api_url", "groq_api_base", "endpoint"),
        *("azure_endpoint", "endpoint_url", "api_base", "xai_api_base", "server_url"),
    ],
)
def test_every_integrations_setting_is_read(name: str) -> None:
    """A proxy for the connection is none of them."""
    url = "https://api.groq.com/openai/v1"

    assert url == base_url_in({"model": "m", "openai_proxy": "http://proxy:1", name: url}, "x")
    assert base_url_in({"openai_proxy": url, "temperature": 0}, "x") is None


def test_the_environment_moves_openais_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the address itself, where LangChain does not see it."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.groq.com/openai/v1")

    assert "groq" == billing_provider("openai", base_url_in({}, "openai"))
    assert "anthropic" == billing_provider("anthropic", base_url_in({}, "anthropic"))


def test_hosts_are_providers_that_have_prices() -> None:
    """No name in the list is a dead one."""
    assert HOSTS <= {provider.id for provider in get_snapshot().providers}


def test_models_of_their_maker_alone_are_most_of_what_it_lists() -> None:
    """The lists of names keep up with the price list: what they miss is open weights."""
    by_id = {provider.id: provider for provider in get_snapshot().providers}
    missed = {
        maker: [m.id for m in by_id[maker].models if not is_sold_by_its_maker_alone(maker, m.id)]
        for maker in ("anthropic", "google", "openai", "x-ai")
    }

    assert [] == missed["anthropic"]
    assert all("oss" in name for name in missed["openai"])
    assert all("gemma" in name or "claude" in name for name in missed["google"]), missed["google"]


@pytest.mark.parametrize("staged", [False, True], ids=["plain", "staged"])
def test_a_local_server_of_open_weights_is_unpriced(
    model_server: ModelServer, *, staged: bool
) -> None:
    """Through the real host; with a known provider's prices for the same name, it is not."""
    model_server.script(Reply(), Reply())
    model = model_server.chat_openai(model="openai/gpt-oss-120b")
    with track_usage() as usage:
        (optimize(model) if staged else model).invoke("Hi")
    (record,) = usage.records

    assert record.cost_nano_usd is None
    assert usage.totals().unpriced_calls == 1
    assert "anybody may send the bill" in str(RateCard().explain(record))


@pytest.fixture
def groq(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """The loopback server, at what is taken for Groq's address."""
    monkeypatch.setitem(providers._MORE_URLS, "groq", re.escape(model_server.url))
    provider_of_url.cache_clear()
    yield model_server
    monkeypatch.undo()
    provider_of_url.cache_clear()


@pytest.mark.parametrize("staged", [False, True], ids=["plain", "staged"])
def test_a_known_address_prices_the_call_and_stands_in_the_record(
    groq: ModelServer, *, staged: bool
) -> None:
    """Through the real host."""
    groq.script(Reply(), Reply())
    model = groq.chat_openai(model="openai/gpt-oss-120b")
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    with track_usage() as usage, plan.run() as run:
        (optimize(model, plan) if staged else model).invoke("Hi")
    (record,) = usage.records

    assert "groq" == record.provider
    assert record.cost_nano_usd == run.report().account.spent_nano_usd
    assert record.cost_nano_usd
    assert RateCard().explain(record).cost_nano_usd == record.cost_nano_usd


class Routed:
    """A stage that asks another provider's model."""

    phase = Phase.ROUTE
    blocking = False
    fingerprint = "routed"

    def __init__(self, model: Any) -> None:
        self.model = model

    def open(self, request: ModelRequest) -> StageCall:
        return StageCall(request.override(model=self.model))


def test_a_model_that_a_stage_has_chosen_is_billed_by_its_own_provider(
    model_server: ModelServer,
) -> None:
    """The record says whose model was asked, and is priced so."""
    model_server.script(Reply(usage=Usage(1_000, 100)))
    other = model_server.chat_anthropic(model="claude-sonnet-4-6")
    with track_usage() as usage:
        optimize(model_server.chat_openai(model="gpt-4o"), Routed(other)).invoke("Hi")
    (record,) = usage.records

    assert ("anthropic", "claude-sonnet-4-6") == (record.provider, record.model)
    assert record.cost_nano_usd == 1_000 * 3_000 + 100 * 15_000
