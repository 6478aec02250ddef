"""What a request says about its price, and what a plan in dollars makes of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from langchain_tokenopt import BudgetPlan, WordLimit, optimize, track_usage
from langchain_tokenopt.budget.money import price_terms, terms_of, with_standard_tier
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.request.model_request import ModelRequest
from tests.support.model_server import ModelServer, Reply
from tests.support.providers import PROVIDERS, Answer

WRITES = {"cache_write", "cache_write_1h"}
MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def block(mark: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": "Hi", **({"cache_control": mark} if mark else {}), **more}


# What cannot be written to a prompt cache


@pytest.mark.parametrize(
    ("provider", "settings", "messages", "tools", "impossible"),
    [
        ("anthropic", {}, [HumanMessage("Hi")], [], WRITES),
        ("anthropic", {}, [HumanMessage([block()])], [], WRITES),
        ("anthropic", {}, [HumanMessage([block(MARK)])], [], {"cache_write_1h"}),
        ("anthropic", {}, [HumanMessage([block(MARK), block(HOUR)])], [], set()),
        ("anthropic", {"cache_control": MARK}, [HumanMessage("Hi")], [], {"cache_write_1h"}),
        ("anthropic", {"cache_control": HOUR}, [HumanMessage("Hi")], [], set()),
        ("anthropic", {"model_kwargs": {"cache_control": HOUR}}, [], [], set()),
        ("anthropic", {}, [], [{"name": "look", "cache_control": HOUR}], set()),
        (
            "anthropic",
            {},
            [ToolMessage([{"type": "tool_result", "content": [block(HOUR)]}], tool_call_id="1")],
            [],
            set(),
        ),
        ("amazon_bedrock", {}, [HumanMessage([{"text": "Hi"}])], [], WRITES),
        (
            "amazon_bedrock",
            {},
            [HumanMessage([{"text": "Hi"}, {"cachePoint": {"type": "default"}}])],
            [],
            {"cache_write_1h"},
        ),
        ("openai", {}, [HumanMessage("Hi")], [], set()),
        ("a-gateway-of-our-own", {}, [HumanMessage("Hi")], [], set()),
        (None, {}, [HumanMessage("Hi")], [], set()),
    ],
)
def test_only_what_is_certain_rules_out_cache_writes(
    provider: Any, settings: Any, messages: Any, tools: Any, impossible: set[str]
) -> None:
    """Marks are found wherever they stand; a provider that decides itself may always write."""
    terms = price_terms("m", provider, settings, messages, tools)

    assert terms.impossible & WRITES == impossible


def test_data_without_an_end_counts_as_marked() -> None:
    """A structure that is nested too deep to look through rules nothing out."""
    deep: Any = "end"
    for _ in range(50):
        deep = {"more": deep}
    terms = price_terms("m", "anthropic", {"model_kwargs": deep}, [])

    assert not terms.impossible & WRITES


# In which tiers it may be answered


@pytest.mark.parametrize(
    ("provider", "settings", "tiers"),
    [
        ("openai", {}, ("priority", None)),
        ("openai", {"service_tier": "auto"}, ("priority", None)),
        ("openai", {"service_tier": "default"}, (None,)),
        ("openai", {"service_tier": "flex"}, ("flex", None)),
        ("openai", {"extra_body": {"service_tier": "priority"}}, ("priority", None)),
        ("azure", {}, ("priority", None)),
        ("anthropic", {}, (None,)),
        ("anthropic", {"service_tier": "standard_only"}, (None,)),
        ("anthropic", {"model_kwargs": {"speed": "fast"}}, ("fast", None)),
        ("amazon_bedrock", {"service_tier": {"type": "priority"}}, ("priority", None)),
        ("amazon_bedrock", {"serviceTier": "flex"}, ("flex", None)),
        ("google_genai", {}, (None,)),
        ("google_genai", {"service_tier": "flex"}, ("flex", None)),
    ],
)
def test_tiers_that_a_request_can_be_answered_in(
    provider: str, settings: Any, tiers: tuple[str | None, ...]
) -> None:
    """The one that was asked for, the standard one, and what a project's settings may choose."""
    assert tiers == price_terms("m", provider, settings, []).tiers


# Media


@pytest.mark.parametrize(
    ("content", "possible", "asked"),
    [
        ("Hi", set(), set()),
        ([{"type": "text", "text": "Hi"}, {"type": "thinking", "thinking": "?"}], set(), set()),
        ([{"type": "image_url", "image_url": {"url": "x"}}], {"input_image"}, set()),
        (
            [{"type": "input_audio", "input_audio": {"data": ""}}],
            {"input_image", "input_audio"},
            {"input_audio"},
        ),
        ([{"type": "file", "file": {}}], {"input_image", "input_audio"}, set()),
        ([{"type": "something new"}], {"input_image", "input_audio"}, set()),
        (
            [{"type": "tool_result", "content": [{"type": "image", "source": {}}]}],
            {"input_image"},
            set(),
        ),
    ],
)
def test_media_that_a_request_may_have(content: Any, possible: set[str], asked: set[str]) -> None:
    """What is not known to be words may be anything."""
    terms = price_terms("m", "openai", {}, [HumanMessage(content)])

    assert possible == {"input_image", "input_audio"} - terms.impossible
    assert asked == terms.asked


def test_answers_of_other_kinds_are_possible_unless_it_says_what_it_wants() -> None:
    """``modalities`` of OpenAI, ``response_modalities`` of Google, as names or enumerations."""
    assert "output_audio" not in price_terms("m", "openai", {}, []).impossible
    told = price_terms("m", "google_genai", {"response_modalities": ["TEXT", "IMAGE"]}, [])
    assert {"output_audio", "output_video"} <= told.impossible
    assert {"output_image"} == told.asked


# A cheaper certainty


def request_of(model: Any, **kwargs: Any) -> ModelRequest:
    return ModelRequest(model, [HumanMessage("Hi")], None, kwargs, StagedRun(run_id=uuid4()))


def test_the_standard_tier_is_asked_for_at_openai_only() -> None:
    """Elsewhere the setting may not be known, and the caller's own choice stays."""
    own = ChatOpenAI(model="gpt-5.4", api_key="x")
    for model, kwargs, expected in (
        (own, {}, "default"),
        (own, {"service_tier": "flex"}, "flex"),
        (ChatOpenAI(model="gpt-5.4", api_key="x", service_tier="auto"), {}, None),
        (ChatOpenAI(model="gpt-5.4", api_key="x", base_url="http://127.0.0.1:1/v1"), {}, None),
        (ChatAnthropic(model="claude-opus-4-6", api_key="x"), {}, None),
    ):
        asked = with_standard_tier(request_of(model, **kwargs))
        assert expected == asked.kwargs.get("service_tier")
    assert (None,) == terms_of(with_standard_tier(request_of(own))).tiers


@pytest.mark.parametrize("on_exceed", ["degrade", "raise"])
def test_a_tier_that_the_money_does_not_reach_for_is_ruled_out(on_exceed: Any) -> None:
    """Over the wire of OpenAI's own API: the request asks for the standard tier, and is sent."""
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        usage = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
        message = {"role": "assistant", "content": "Rain."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {
            "id": "1", "object": "chat.completion", "created": 1, "model": "gpt-5.4",
            "choices": [choice], "usage": usage, "service_tier": "default",
        }  # fmt: skip
        return httpx.Response(200, json=body)

    client = httpx.Client(transport=httpx.MockTransport(answer))
    model = ChatOpenAI(model="gpt-5.4", api_key="x", max_tokens=100, http_client=client)
    standard = RateCard().dearest(1_030, 100, "gpt-5.4", "openai", tiers=[None])
    assert standard is not None
    plan = BudgetPlan(total_tokens=100_000, total_usd=1.2 * standard / 1e9, on_exceed=on_exceed)
    with plan.run() as run, track_usage() as usage:
        optimize(model, plan).invoke("word " * 990)

    assert ["default"] == [body.get("service_tier") for body in bodies]
    assert [100] == [body["max_completion_tokens"] for body in bodies]
    assert run.report().account.spent_nano_usd == usage.totals().cost_nano_usd > 0


def test_a_shorter_answer_is_asked_for_before_a_refusal(model_server: ModelServer) -> None:
    """As many tokens as the money reaches for; and a refusal where not even the least fits."""
    card = RateCard({"models": {"m": {"input": 1, "output": 100}}})
    model_server.script(*[Reply(usage=Usage(20, 64))] * 6)
    plan = BudgetPlan(total_tokens=100_000, total_usd=0.03)
    model = optimize(model_server.chat_openai(model="m"), plan)
    with plan.run(rate_card=card) as run:
        caps = []
        for _ in range(6):
            before = len(model_server.requests)
            model.invoke("Hi")
            if len(model_server.requests) > before:
                caps.append(model_server.requests[-1].body["max_completion_tokens"])
        report = run.report().account

    assert 290 < caps[0] < 320
    assert sorted(caps, reverse=True) == caps
    assert len(caps) == 4
    assert min(caps) >= 64
    assert report.spent_nano_usd == 4 * (20 * 1_000 + 64 * 100_000)


# The same as the record, whoever answers


BILL = Usage(900, 120, 300, 0, reasoning_tokens=0)


@pytest.mark.parametrize("mode", ["invoke", "stream", "ainvoke"])
@pytest.mark.parametrize("staged", [True, False], ids=["staged", "unstaged"])
@pytest.mark.parametrize("name", list(PROVIDERS))
def test_a_plan_charges_what_the_record_says(
    model_server: ModelServer, name: str, staged: bool, mode: str
) -> None:
    """Over every provider's package: to the nano-dollar, read from the cache and all."""
    provider = PROVIDERS[name]
    answer = Answer(usage=provider.usage(provider.known(BILL)))
    model_server.script(provider.stream(answer) if mode == "stream" else provider.whole(answer))
    chat = provider.chat(model_server)
    own = {"input": 3, "output": 15, "cache_read": "0.3", "cache_write": "3.75", "request": "0.001"}
    fields = ("model_name", "model", "model_id", "deployment_name")
    names = [name for field in fields if (name := getattr(chat, field, None))]
    card = RateCard({"models": dict.fromkeys(names, own)})
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    model: Any = optimize(chat, plan) if staged else chat
    with track_usage(rate_card=card) as usage, plan.run(rate_card=card) as run:
        if mode == "stream":
            list(model.stream("word " * 800))
        elif mode == "invoke":
            model.invoke("word " * 800)
        else:
            asyncio.run(model.ainvoke("word " * 800))

    (record,) = usage.records
    account = run.report().account
    assert record.cost_nano_usd
    assert (record.cost_nano_usd, 0) == (account.spent_nano_usd, account.held_nano_usd)


@pytest.mark.parametrize("staged", [True, False], ids=["staged", "unstaged"])
def test_a_deployment_is_reserved_at_the_price_of_the_model_behind_it(
    model_server: ModelServer, *, staged: bool
) -> None:
    """Azure's own names have no price; where the caller names the model, that one has."""
    azure = PROVIDERS["azure"]
    model_server.script(azure.whole(Answer(usage=azure.usage(azure.known(BILL)))))
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    model = azure.chat(model_server, model_name="gpt-4o")
    with track_usage() as usage, plan.run() as run:
        (optimize(model, plan) if staged else model).invoke("word " * 800)

    assert usage.totals().cost_nano_usd == run.report().account.spent_nano_usd > 0


# What is not known


def test_a_call_without_a_price_is_refused(model_server: ModelServer) -> None:
    """Open weights at an address that nobody knows: no price, so no call."""
    plan = BudgetPlan(total_tokens=100_000, total_usd=1, on_exceed="raise")
    model = optimize(model_server.chat_openai(model="openai/gpt-oss-120b"), plan)
    with plan.run(), pytest.raises(BudgetExceededError, match="no known price"):
        model.invoke("Hi")

    assert [] == model_server.requests


def test_a_part_without_a_price_is_charged_as_what_was_held() -> None:
    """The rest has a price; what the part costs is not known, and is not taken for nothing."""
    card = RateCard({})
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    with plan.run(rate_card=card) as run:
        assert run.prices is not None
        priced = run.prices.of(price_terms("gpt-4o-audio-preview", "openai", {}, []))
        said = Usage(100, 50, output_audio_tokens=40)
        known = card.price(said, "gpt-4o-audio-preview", "openai").cost_nano_usd
        names = type("Names", (), {"model": None, "service_tier": None})()

        assert known == 100 * 2_500 + 10 * 10_000
        assert 9_000_000 == priced.billed(said, names, 9_000_000)
        assert known == priced.billed(said, names, 7)
        assert priced.most(100, 50) is not None
        asked = replace(priced.terms, asked=frozenset({"output_audio"}))
        assert run.prices.of(asked).most(100, 50) is None


def test_a_stream_that_a_word_limit_cuts_is_not_charged_the_whole_reservation(
    model_server: ModelServer,
) -> None:
    """What arrived and a margin, at the dearest price: as with tokens."""
    card = RateCard({"models": {"m": {"input": 1, "output": 10}}})
    model_server.script(Reply(words=3_000, usage=None))
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    with plan.run(rate_card=card) as run:
        optimize(model_server.chat_openai(model="m"), WordLimit(20), plan).invoke("Hi")
        account = run.report().account

    assert 0 < account.spent_nano_usd <= 1_000 * 20 + 10_000 * account.spent_tokens
    assert account.spent_tokens < 400
