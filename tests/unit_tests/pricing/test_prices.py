"""Prices: the same as genai-prices computes, and unpriced where nothing is known."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing import providers, rate_card
from langchain_tokenopt.pricing.money import format_usd, usd
from langchain_tokenopt.pricing.rate_card import RateCard, default_rate_card
from langchain_tokenopt.pricing.rates import Rates

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

LISTED = [(provider, model) for provider in get_snapshot().providers for model in provider.models]
OPEN_WEIGHTS = {("openai", f"gpt-oss-{name}") for name in ("120b", "20b", "safeguard-20b")}
"""Listed under their maker, who does not serve them: through OpenAI's protocol anybody may."""
USAGES = [
    Usage(),
    Usage(1, 1),
    Usage(1_234, 567),
    Usage(10_007, 311, cache_read_tokens=9_001),
    Usage(10_007, 311, cache_read_tokens=4_003, cache_write_tokens=3_001),
    Usage(10_007, 311, cache_write_tokens=5_003, cache_write_1h_tokens=2_001),
    Usage(9_973, 4_001, reasoning_tokens=3_203),
    Usage(9_973, 4_001, cache_read_tokens=1_009, input_audio_tokens=2_003),
    Usage(9_973, 4_001, cache_read_tokens=8_009, input_audio_tokens=9_001),
    Usage(9_973, 4_001, output_audio_tokens=3_001),
    Usage(9_973, 4_001, 1_009, input_image_tokens=2_003, output_image_tokens=3_001),
    Usage(9_973, 4_001, 8_009, input_image_tokens=9_001, reasoning_tokens=100),
    Usage(9_973, 4_001, input_video_tokens=2_003, output_video_tokens=3_001),
]


@pytest.fixture(scope="module")
def card() -> RateCard:
    return RateCard({})


# --- genai-prices as the oracle ---------------------------------------------------------------


def oracle(
    provider: Provider,
    model: ModelInfo,
    usage: Usage,
    at: datetime = NOON,
    context: dict[str, str] | None = None,
) -> int:
    """What genai-prices says, in nano-USD."""
    both = usage.cache_read_tokens + usage.input_audio_tokens + usage.cache_write_tokens
    seen = usage.cache_read_tokens + usage.input_image_tokens
    theirs = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        cache_audio_read_tokens=max(0, both - usage.input_tokens),
        input_image_tokens=usage.input_image_tokens,
        cache_image_read_tokens=max(0, seen - usage.input_tokens),
        output_image_tokens=usage.output_image_tokens,
        input_video_tokens=usage.input_video_tokens,
        output_video_tokens=usage.output_video_tokens,
    )
    price = model.calc_price(
        theirs, provider, genai_request_timestamp=at, price_context=context
    ).total_price
    return int((price * 10**9).quantize(Decimal(1), ROUND_HALF_UP))


def names_of(model: ModelInfo) -> Iterator[str]:
    """Names by which *model* might be asked for: its id, and what its matching rules quote."""
    yield model.id
    yield model.id.replace("regional.", "us.")
    quoted = re.findall(r"(?:starts_with|ends_with|contains|equals)='([^']+)'", repr(model.match))
    yield from quoted
    yield from (f"{head}{rest}" for head in quoted for rest in quoted)
    yield from (f"us.{rest}" for rest in quoted)


def name_of(provider: Provider, model: ModelInfo) -> str | None:
    """A name that leads to *model* and to no other one of the same provider."""
    return next((name for name in names_of(model) if provider.find_model(name) is model), None)


def charges_tokens(model: ModelInfo) -> bool:
    """Whether today's price of *model* charges tokens or requests, or nothing at all."""
    keys = {key for key, value in vars(model.get_prices(NOON)).items() if value is not None}
    return not keys or any(key.endswith("_mtok") or key == "requests_kcount" for key in keys)


def thresholds(price: ModelPrice) -> set[int]:
    """Where the long-context tiers of *price* begin."""
    tiered = [value for value in vars(price).values() if isinstance(value, TieredPrices)]
    return {tier.start for value in tiered for tier in value.tiers}


def without(usage: Usage, unpriced: Iterable[str]) -> Usage:
    """The usage without those parts, such as ``"output image"``."""
    for part in unpriced:
        if part == "cache audio read":
            continue  # of the sound that is left out below
        side, medium = part.split()
        tokens = getattr(usage, f"{side}_{medium}_tokens")
        whole = getattr(usage, f"{side}_tokens") - tokens
        left: dict[str, int] = {f"{side}_tokens": whole, f"{side}_{medium}_tokens": 0}
        if side == "input":
            left["cache_read_tokens"] = min(usage.cache_read_tokens, whole)
        usage = replace(usage, **left)
    return usage


def test_every_listed_model_is_found_by_a_name(card: RateCard) -> None:
    """All models that genai-prices lists can be priced through the card: none is out of reach."""
    unreachable = [
        (provider.id, model.id) for provider, model in LISTED if name_of(provider, model) is None
    ]

    assert unreachable == []
    assert len(LISTED) > 2_000


@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_every_listed_model_costs_what_genai_prices_computes(card: RateCard, usage: Usage) -> None:
    """For each model and usage the cost is the Decimal one, to the nano-dollar.

    Where a price is missing in part, that part is named and the rest is charged.
    """
    wrong = []
    for provider, model in LISTED:
        rates = card.rates(name_of(provider, model), provider.id, NOON)
        expected = oracle(provider, model, usage) if charges_tokens(model) else None
        if (provider.id, model.id) in OPEN_WEIGHTS:
            expected = None
        elif rates is not None:
            expected = oracle(provider, model, without(usage, rates.unpriced_in(usage)))
        actual = rates and rates.cost(usage)
        if expected != actual:
            wrong.append((provider.id, model.id, expected, actual))

    assert wrong == []


def test_long_contexts_cost_what_genai_prices_computes(card: RateCard) -> None:
    """At and just above each tier's start, every tiered model costs the Decimal amount."""
    checked = 0
    for provider, model in LISTED:
        rates = card.rates(name_of(provider, model), provider.id, NOON)
        for start in thresholds(model.get_prices(NOON)):
            for tokens in (start - 1, start, start + 1):
                usage = Usage(tokens, 777, cache_read_tokens=5_001, cache_write_tokens=20_001)
                checked += 1

                assert rates is not None
                assert oracle(provider, model, usage) == rates.cost(usage), (provider.id, model.id)
    assert checked > 300


def test_every_dated_price_is_kept(card: RateCard) -> None:
    """On the day before and on the day of each change, history costs what it cost."""
    usage = Usage(1_000, 500, cache_read_tokens=300)
    checked = 0
    for provider, model in LISTED:
        changes = model.prices if isinstance(model.prices, list) else []
        dates = {day for c in changes if (day := getattr(c.constraint, "start_date", None))}
        for day in dates:
            for hour in (-1, 0, 3, 12, 20):
                at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)
                rates = card.rates(name_of(provider, model), provider.id, at)
                checked += 1

                if rates is not None:
                    assert oracle(provider, model, usage, at) == rates.cost(usage), model.id
                else:
                    assert oracle(provider, model, usage, at) == 0, model.id
    assert checked > 500


@pytest.mark.parametrize(
    ("asked", "context"),
    [
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"service_tier": "priority"}, {"service_tier": "priority"}),
        ({"service_tier": "default"}, {"service_tier": "default"}),
        ({"service_tier": "fast"}, {"service_tier": "fast", "speed": "fast"}),
        ({"service_tier": "batch"}, {"processing": "batch"}),
        ({"batch": True}, {"processing": "batch"}),
        (
            {"service_tier": "Flex", "batch": True},
            {"service_tier": "flex", "processing": "batch"},
        ),
    ],
    ids=str,
)
def test_every_service_tier_costs_what_genai_prices_computes(
    card: RateCard, asked: dict[str, Any], context: dict[str, str]
) -> None:
    """Flex, priority, fast and batch calls cost the tier's price, and the standard without one."""
    usage = Usage(300_000, 500, cache_read_tokens=300)
    checked = 0
    for provider, model in LISTED:
        if not (model.price_variants and charges_tokens(model)):
            continue
        rates = card.rates(name_of(provider, model), provider.id, NOON, **asked)
        checked += 1

        assert rates is not None
        assert oracle(provider, model, usage, NOON, context) == rates.cost(usage), model.id
    assert checked > 100


def test_no_listed_price_is_rounded(card: RateCard) -> None:
    """The unit of the rates is fine enough for every price, to its last decimal."""
    for provider, model in LISTED:
        rates = card.rates(name_of(provider, model), provider.id, NOON)
        theirs = model.get_prices(NOON).input_mtok
        if rates is None or not isinstance(theirs, Decimal):
            continue

        assert theirs == rates.usd_per_million()["input"]


# --- known answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "provider", "usage", "expected"),
    [
        ("gpt-4o", "openai", Usage(1_000, 100), "$0.00350"),
        ("gpt-4o", "openai", Usage(1_000, 100, cache_read_tokens=800), "$0.00250"),
        ("gpt-3.5-turbo", "openai", Usage(1_000_000, 1_000_000), "$2.00"),
        ("gemini-2.5-pro", "google_genai", Usage(199_999), "$0.2500"),
        ("gemini-2.5-pro", "google_genai", Usage(200_001), "$0.5000"),
        (
            "claude-sonnet-4-6",
            "anthropic",
            Usage(100_000, 0, cache_write_tokens=100_000, cache_write_1h_tokens=40_000),
            "$0.4650",
        ),
        ("sonar-pro", "perplexity", Usage(1_000, 1_000), "$0.0320"),
    ],
)
def test_known_answers(
    card: RateCard, model: str, provider: str, usage: Usage, expected: str
) -> None:
    """Prices as published cost what one computes by hand."""
    rates = card.rates(model, provider, NOON)

    assert rates is not None
    assert expected == format_usd(rates.cost(usage))


def test_history_is_charged_at_the_prices_of_its_day(card: RateCard) -> None:
    """O3 cost 10 dollars a million tokens in May 2025, and 2 dollars today."""
    then = card.rates("o3", "openai", datetime(2025, 5, 1, tzinfo=UTC))
    now = card.rates("o3", "openai", NOON)

    assert then is not None
    assert now is not None
    assert [Decimal(10), Decimal(2)] == [r.usd_per_million()["input"] for r in (then, now)]


def test_quiet_hours_are_charged_at_their_price(card: RateCard) -> None:
    """DeepSeek's price follows the clock within one day, in whichever zone the caller writes it."""

    def dollars(at: datetime) -> Decimal:
        rates = card.rates("deepseek-chat", "deepseek", at)
        assert rates is not None
        return rates.usd_per_million()["input"]

    shanghai = timezone(timedelta(hours=8))

    assert Decimal("0.27") == dollars(datetime(2025, 7, 1, 16, 29, 59, tzinfo=UTC))
    assert Decimal("0.135") == dollars(datetime(2025, 7, 1, 16, 30, tzinfo=UTC))
    assert Decimal("0.135") == dollars(datetime(2025, 7, 2, 0, 29, tzinfo=UTC))
    assert Decimal("0.27") == dollars(datetime(2025, 7, 2, 0, 30, tzinfo=UTC))
    assert Decimal("0.135") == dollars(datetime(2025, 7, 2, 8, 0, tzinfo=shanghai))
    assert Decimal("0.27") == dollars(datetime(2025, 7, 2, 9, 0, tzinfo=shanghai))
    assert Decimal("0.27") == dollars(datetime(2025, 7, 2, 9, 0))  # without a zone: UTC


def test_a_call_belongs_to_its_day_in_utc(card: RateCard) -> None:
    """Where it is already the 10th of June, UTC may still have the price of the 9th."""
    tokyo = timezone(timedelta(hours=9))
    changed = next(
        c.constraint.start_date
        for provider, model in LISTED
        if (provider.id, model.id) == ("openai", "o3")
        for c in model.prices
        if c.constraint is not None
    )
    local_midnight = datetime(changed.year, changed.month, changed.day, tzinfo=tokyo)

    before = card.rates("o3", "openai", local_midnight)
    after = card.rates("o3", "openai", local_midnight + timedelta(hours=9))

    assert before is not None
    assert after is not None
    assert before.input > after.input


def test_without_a_time_it_is_now(card: RateCard) -> None:
    """The price of today is the default."""
    assert card.rates("gpt-4o", "openai", datetime.now(UTC)) == card.rates("gpt-4o", "openai")


# --- finding the model ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("amazon_bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (
            "bedrock_converse",
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
        ),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("azure", "gpt-4o"),
        ("azure_ai", "grok-4"),
        ("cerebras", "gpt-oss-120b"),
        ("cohere", "command-r-plus"),
        ("deepseek", "deepseek-chat"),
        ("fireworks", "accounts/fireworks/models/glm-5p2"),
        ("google_anthropic_vertex", "claude-opus-4-5@20251101"),
        ("google_genai", "models/gemini-2.5-pro"),
        ("google_vertexai", "publishers/google/models/gemini-2.5-flash"),
        ("google_vertexai", "projects/p/locations/eu/publishers/google/models/gemini-2.5-flash"),
        ("groq", "llama-3.3-70b-versatile"),
        ("litellm", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("litellm", "gpt-4o"),
        ("litellm", "groq/llama-3.1-8b-instant"),
        ("mistral", "mistral-small-latest"),
        ("mistralai", "codestral-latest"),
        ("OpenAI", "GPT-4o"),
        ("openai", "gpt-5.2-20251211"),
        ("openai", "ft:gpt-4o-2024-08-06:org::x"),
        ("openai", "openai/gpt-4o"),
        ("openai", "deepseek-chat"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("openrouter", "openai/gpt-4o:online"),
        ("perplexity", "sonar"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("xai", "grok-4"),
        (None, "gpt-4o"),
        (None, "openai:gpt-4o"),
        (None, "models/gemini-2.5-pro"),
        ("a-gateway-of-our-own", "claude-sonnet-4-5"),
    ],
)
def test_names_that_langchain_uses_are_priced(
    card: RateCard, provider: str | None, model: str
) -> None:
    """Whatever wrapping a provider's package puts around a model's name, it finds its price."""
    assert card.rates(model, provider, NOON) is not None


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-99-imaginary"),
        ("openai", "gpt-4o-my-deployment"),
        ("anthropic", "gpt-4o"),
        ("groq", "claude-sonnet-4-5"),
        ("openrouter", "nobody/nothing"),
        ("ollama", "llama3.2"),
        ("ollama", "gpt-oss:20b"),
        ("openai", "deepseek-r1:8b"),
        ("openai", "deepseek-r1:latest"),
        ("openai", "deepseek-r1-distill-qwen-7b"),
        ("litellm", "nobody/claude-sonnet-4-5"),
        ("huggingface", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("llamacpp", "gpt-4o"),
        ("openai-codex", "gpt-5"),
        ("nvidia", "deepseek-chat"),
        ("genericfakechatmodel", "gpt-4o"),
        ("bedrock", "arn:aws:bedrock:eu-west-1:1234:application-inference-profile/abcd1234"),
        (None, "accounts/fireworks/models/kimi-k99"),
        (None, "llama-3.3-70b"),
        ("openai", "whisper-1"),
        ("openai", ""),
        ("openai", None),
        (None, None),
    ],
)
def test_what_is_not_known_is_unpriced(
    card: RateCard, provider: str | None, model: str | None
) -> None:
    """No price is ever borrowed from another model, and a local model is not free but unpriced."""
    assert card.rates(model, provider, NOON) is None


def test_a_free_model_costs_nothing(card: RateCard) -> None:
    """A model that genai-prices lists without a price is priced at 0, unlike an unknown one."""
    rates = card.rates("google/gemma-3-27b-it:free", "openrouter", NOON)

    assert rates is not None
    assert rates.cost(Usage(1_000, 1_000)) == 0


def test_a_name_that_two_vendors_claim_is_unpriced() -> None:
    """Without a provider, a model's name must point to one vendor only."""
    vendors = [p for p in get_snapshot().providers if p.id in ("openai", "mistral")]
    twin = Provider(
        id="twin", name="Twin", api_pattern="twin", model_match=vendors[1].model_match, models=[]
    )
    try:
        set_custom_snapshot(DataSnapshot(providers=[*vendors, twin], from_auto_update=False))
        card = RateCard({})

        assert card.rates("gpt-4o", at=NOON) is None
        assert card.rates("gpt-4o", "openai", NOON) is not None
    finally:
        set_custom_snapshot(None)


def test_all_provider_names_lead_to_providers_with_prices() -> None:
    """The table of names has no dead entry, and hides no provider of genai-prices."""
    known = {provider.id for provider in get_snapshot().providers}

    assert set() == set(providers.PROVIDERS.values()) - known
    assert set() == known & (providers.PROVIDERS.keys() | providers.UNPRICED_PROVIDERS)


def test_resold_models_have_no_tiers_of_their_vendor(card: RateCard) -> None:
    """OpenAI's flex discount is not one of Azure's for a model that only OpenAI lists."""
    resold = next(
        model.id
        for provider, model in LISTED
        if provider.id == "openai"
        and any(v.when == {"service_tier": "flex"} for v in model.price_variants or ())
        and not any(m.is_match(model.id) for p, m in LISTED if p.id == "azure")
    )

    standard = card.rates(resold, "azure", NOON)

    assert standard is not None
    assert standard == card.rates(resold, "azure", NOON, service_tier="flex")
    assert standard != card.rates(resold, "openai", NOON, service_tier="flex")


# --- the card ---------------------------------------------------------------------------------


def test_a_price_is_looked_up_once_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hot path does not search: the same question on the same day is a dictionary look-up."""
    card = RateCard({})
    first = card.rates("gpt-4o", "openai", NOON)
    monkeypatch.setattr(card, "_resolve", None)

    assert first is card.rates("gpt-4o", "openai", NOON + timedelta(hours=11))


def test_what_is_remembered_is_bounded() -> None:
    """Names made up by callers cannot fill the memory."""
    card = RateCard({})
    for number in range(2 * rate_card._MAX_RESOLVED):
        card.rates(f"m{number}", "ollama", NOON)

    assert len(card._resolved) <= rate_card._MAX_RESOLVED


def test_fetched_prices_replace_old_ones() -> None:
    """After genai-prices has fetched prices, the next search uses them and the version says so."""
    card = RateCard({})
    bundled = card.version
    assert card.rates("gpt-4o", "openai", NOON) is not None
    fetched = DataSnapshot(
        providers=[
            Provider(
                id="openai",
                name="OpenAI",
                api_pattern="openai",
                models=[
                    ModelInfo(
                        id="gpt-4o",
                        match=get_snapshot()
                        .find_provider_model("gpt-4o", None, "openai", None)[1]
                        .match,
                        prices=ModelPrice(input_mtok=Decimal(7), output_mtok=Decimal(8)),
                    )
                ],
            )
        ],
        from_auto_update=True,
        timestamp=datetime(2026, 11, 20, 6, 5),
    )
    try:
        set_custom_snapshot(fetched)
        rates = card.rates("gpt-4o", "openai", NOON + timedelta(days=1))

        assert rates is not None
        assert rates.usd_per_million() == {"input": 7, "output": 8}
        assert f"{bundled} of 2026-11-20 06:05" == card.version
    finally:
        set_custom_snapshot(None)


def test_importing_prices_does_not_import_genai_prices() -> None:
    """The price list costs a sixth of a second to import and is only loaded when asked."""
    code = (
        "import sys, langchain_tokenopt.pricing.rate_card as p; p.RateCard({}).version;"
        "sys.exit('genai_prices' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- arithmetic -------------------------------------------------------------------------------


def test_half_a_nano_dollar_is_rounded_up_once() -> None:
    """Parts are summed exactly; only the sum is rounded."""
    rates = Rates.from_usd_per_million(input="0.0005", output="0.0005")

    assert rates.cost(Usage(1, 0)) == 1
    assert rates.cost(Usage(1, 1)) == 1
    assert Rates.from_usd_per_million(input="0.000499").cost(Usage(1, 0)) == 0


def test_impossible_usage_is_charged_on_the_safe_side() -> None:
    """Parts are charged as they are and the rest as nothing: a cost is never negative."""
    rates = Rates.from_usd_per_million(input=10, output=20, cache_read=1)

    assert rates.cost(Usage(100, 0, cache_read_tokens=200)) == 200 * 1_000
    assert rates.cost(Usage(0, -5)) == 0
    assert rates.cost(Usage(3, 12, cache_read_tokens=13_216)) > 0


def test_parts_without_a_price_cost_what_the_whole_costs() -> None:
    """A provider that does not price cached, audio or reasoning tokens charges them as others."""
    rates = Rates.from_usd_per_million(input=1, output=2)
    parts = Usage(100, 50, 30, 20, 10, reasoning_tokens=9, input_audio_tokens=8)

    assert rates.cost(Usage(100, 50)) == rates.cost(parts)


def test_an_hour_in_the_cache_costs_as_five_minutes_where_only_these_are_priced() -> None:
    """Without a price for an hour, all cache writes have the same one."""
    rates = Rates.from_usd_per_million(input=1, output=2, cache_write="1.25")

    assert rates.cost(Usage(100, 0, cache_write_tokens=100, cache_write_1h_tokens=60)) == 125_000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 100 * 4),
        ({"cache_read": 1}, 60 * 1 + 40 * 4),
        ({"cache_read": 1, "cache_audio_read": 2}, 60 * 2 + 40 * 4),
    ],
    ids=str,
)
def test_cached_audio_has_its_own_price(given: dict[str, int], expected: int) -> None:
    """Where all input was audio, what was cached of it was audio too."""
    rates = Rates.from_usd_per_million(input=3, output=0, input_audio=4, **given)
    usage = Usage(100, 0, cache_read_tokens=60, input_audio_tokens=100)

    assert expected * 1_000 == rates.cost(usage)


@pytest.mark.parametrize(
    ("nano", "expected"),
    [
        (None, "-"),
        (0, "$0.00"),
        (1, "$0.000000001"),
        (456, "$0.000000456"),
        (12_300_000, "$0.0123"),
        (1_234_567, "$0.00123"),
        (500_000_000, "$0.5000"),
        (999_999_999, "$1.0000"),
        (1_000_000_000, "$1.00"),
        (1_005_000_001, "$1.01"),
        (1_234_567_891_234_567, "$1,234,567.89"),
        (-12_300_000, "-$0.0123"),
    ],
)
def test_amounts_are_written_for_people(nano: int | None, expected: str) -> None:
    """Cents above a dollar, three significant digits below, a dash for what is not known."""
    assert expected == format_usd(nano)


def test_dollars_are_exact() -> None:
    """However large the amount, its dollars have all nine decimals."""
    assert Decimal("123456789012345678901234567890.000000001") == usd(
        123456789012345678901234567890_000000001
    )


# --- overrides --------------------------------------------------------------------------------


def test_own_prices_win(tmp_path: Path) -> None:
    """A price file replaces what genai-prices says, exactly as written."""
    file = tmp_path / "prices.toml"
    file.write_text(
        '[models."openai/gpt-4o"]\n'
        "input = 0.1\n"
        'output = "0.30"\n'
        "cache_read = 1.123456789012345678\n"
        "request = 0.01\n"
    )
    rates = RateCard(file).rates("gpt-4o", "openai", NOON)

    assert rates is not None
    assert {
        "input": Decimal("0.1"),
        "output": Decimal("0.3"),
        "cache_read": Decimal("1.123456789012345678"),
    } == rates.usd_per_million()
    assert rates.cost(Usage()) == 10_000_000


def test_own_prices_for_one_provider_win_over_those_for_any() -> None:
    """A key with a provider is the more certain one, whichever of its names is used."""
    card = RateCard(
        {
            "models": {
                "My-Model": {"input": 1, "output": 1},
                "azure_openai/my-model": {"input": 2, "output": 2},
                "ollama/llama3": {"input": "0.01", "output": 0},
                "gemini-x": {"input": 3, "output": 3},
            }
        }
    )

    def dollars(model: str, provider: str | None) -> Decimal | None:
        rates = card.rates(model, provider, NOON)
        return rates and rates.usd_per_million()["input"]

    assert Decimal(2) == dollars("my-model", "azure")
    assert Decimal(1) == dollars("MY-MODEL", "openai")
    assert Decimal(1) == dollars("my-model", None)
    assert Decimal("0.01") == dollars("llama3", "ollama")
    assert Decimal(3) == dollars("models/gemini-x", "google_genai")
    assert dollars("llama3", "openai") is None


def test_own_prices_may_have_tiers() -> None:
    """Long contexts and service tiers change what they name, and leave the rest."""
    card = RateCard(
        {
            "models": {
                "m": {
                    "input": "1",
                    "output": "2",
                    "above": {"200_000": {"input": "3"}, "400000": {"input": "4"}},
                    "tier": {
                        "flex": {"input": "0.5", "above": {"200000": {"input": "1.5"}}},
                        "batch": {"output": "1"},
                    },
                }
            }
        }
    )

    def micro_dollars(usage: Usage, **asked: Any) -> int:
        rates = card.rates("m", "openai", NOON, **asked)
        assert rates is not None
        return rates.cost(usage) // 1_000

    assert micro_dollars(Usage(200_000)) == 200_000
    assert micro_dollars(Usage(200_001, 1)) == 3 * 200_001 + 2
    assert micro_dollars(Usage(400_001, 1)) == 4 * 400_001 + 2
    assert micro_dollars(Usage(100, 1), service_tier="flex") == 50 + 2
    assert micro_dollars(Usage(300_000), service_tier="flex") == 450_000
    assert micro_dollars(Usage(100, 1), batch=True) == 100 + 1
    assert micro_dollars(Usage(100, 1), service_tier="priority") == 100 + 2


def test_the_environment_names_the_price_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an argument, TOKENOPT_PRICES says where the user's own prices are, also in ~."""
    file = tmp_path / "prices.toml"
    file.write_text("[models.my-model]\ninput = 1\noutput = 2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOKENOPT_PRICES", "~/prices.toml")
    default_rate_card.cache_clear()
    try:
        assert default_rate_card().rates("my-model") is not None
        assert default_rate_card() is default_rate_card()
        assert RateCard({}).rates("my-model") is None
    finally:
        default_rate_card.cache_clear()


def test_the_version_names_the_prices() -> None:
    """Equal prices have equal versions, whatever their order and spelling; others do not."""
    one = RateCard({"models": {"a": {"input": 1, "output": 2}, "b": {"input": 1, "output": 2}}})
    same = RateCard(
        {"models": {"B": {"output": 2, "input": "1.0"}, "a": {"input": 1, "output": 2}}}
    )
    other = RateCard({"models": {"a": {"input": 1, "output": 3}, "b": {"input": 1, "output": 2}}})

    assert f"genai-prices {genai_prices.__version__}" == RateCard({}).version
    assert one.version == same.version
    assert len({RateCard({}).version, one.version, other.version}) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"models": {"m": {"input": 1, "output": 1, "zeta": 1, "cached": 2}}},
            'overrides: models."m" has unknown keys: cached, zeta. Known are: above, cache_audio_',
        ),
        ({"model": {}}, "overrides has unknown keys: model. Known are: models."),
        (
            {"models": {"m": {"input": 1}}},
            'overrides: models."m" names no price for output.',
        ),
        (
            {"models": {"m": {"input": "-0.5", "output": 1}}},
            'overrides: models."m".input is -0.5, but a price cannot be negative.',
        ),
        (
            {"models": {"m": {"input": "cheap", "output": 1}}},
            "overrides: models.\"m\".input is 'cheap', which is not a number. Write US dollars",
        ),
        ({"models": {"m": {"input": "nan", "output": 1}}}, "is 'nan', which is not a number."),
        ({"models": {"m": {"input": True, "output": 1}}}, "is True, which is not a number."),
        ({"models": {"m": {"input": None, "output": 1}}}, "is None, which is not a number."),
        ({"models": {"m": 3}}, 'overrides: models."m" is 3, but should be a table of prices.'),
        ({"models": 3}, "overrides: models is 3, but should be a table of prices."),
        (
            {"models": {"m": {"input": 1, "output": 1, "above": {"many": {"input": 2}}}}},
            "models.\"m\".above.many: 'many' is not a number of input tokens.",
        ),
        (
            {"models": {"m": {"input": 1, "output": 1, "above": {"9": {"above": {}}}}}},
            'models."m".above.9 has unknown keys: above.',
        ),
        (
            {"models": {"m": {"input": 1, "output": 1, "tier": {"flex": {"tier": {}}}}}},
            'models."m".tier.flex has unknown keys: tier.',
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_wrong_prices_are_refused_in_words(given: dict[str, Any], message: str) -> None:
    """An error in own prices says where it is, what it is, and what would be right."""
    with pytest.raises(ValueError, match=re.escape(message)):
        RateCard(given)


def test_a_missing_price_file_is_refused(tmp_path: Path) -> None:
    """A path that leads nowhere is an error and not an empty price list."""
    with pytest.raises(FileNotFoundError, match=r"no price file '.*nope\.toml'\. Create it, or"):
        RateCard(tmp_path / "nope.toml")


def test_a_price_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    """The message names the file and the parser's reason."""
    file = tmp_path / "prices.toml"
    file.write_text("input = = 3")

    with pytest.raises(ValueError, match=r"prices\.toml' is not valid TOML: Invalid value"):
        RateCard(file)
