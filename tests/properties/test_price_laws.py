"""Laws of prices: what holds for every rate card and every usage."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import ROUND_HALF_UP, Decimal

import genai_prices
import pytest
from genai_prices.types import ModelPrice, Tier, TieredPrices
from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.money import format_usd, usd
from langchain_tokenopt.pricing.rates import Rates

pytestmark = pytest.mark.exhaustive

dollars = st.decimals(0, 200, places=6)
counts = st.integers(0, 3_000_000)


@st.composite
def prices(draw: st.DrawFn, *, audio: bool = True) -> dict[str, Decimal]:
    """Dollars per million, as a vendor publishes them; parts may cost more than the whole."""
    names = ["input", "output"]
    optional = ["cache_read", "cache_write", "cache_write_1h", "reasoning"]
    names += draw(st.lists(st.sampled_from(optional), unique=True))
    if audio and draw(st.booleans()):
        names += ["input_audio", "output_audio"]
    if "input_audio" in names and "cache_read" in names:
        names += ["cache_audio_read"]  # genai-prices accepts no card without it
    if "cache_write" not in names or "input_audio" in names:
        names = [name for name in names if not name.startswith("cache_write")]
    if "output_audio" in names and "reasoning" in names:
        names.remove("reasoning")
    return {name: draw(dollars) for name in names}


@st.composite
def usages(draw: st.DrawFn, *, audio: bool = True) -> Usage:
    """Usages that can be true: no part exceeds its whole."""
    total, written = draw(counts), draw(counts)
    read = draw(st.integers(0, total))
    write = draw(st.integers(0, total - read))
    spoken = draw(st.integers(0, total - write)) if audio else 0
    said = draw(st.integers(0, written)) if audio else 0
    return Usage(
        input_tokens=total,
        output_tokens=written,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=draw(st.integers(0, write)),
        reasoning_tokens=draw(st.integers(0, written - said)),
        input_audio_tokens=spoken,
        output_audio_tokens=said,
    )


anything = st.builds(Usage, *[st.integers(-(10**15), 10**15)] * len(fields(Usage)))

KEYS = {"reasoning": "output_reasoning"}


def in_their_terms(usage: Usage) -> genai_prices.Usage:
    """The same usage for genai-prices, with as little cached audio as the numbers allow."""
    overlap = usage.cache_read_tokens + usage.cache_write_tokens + usage.input_audio_tokens
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        cache_audio_read_tokens=max(0, overlap - usage.input_tokens),
    )


@given(prices(), usages(), st.integers(0, 2_000_000))
def test_cost_is_the_decimal_cost_rounded_once(
    standard: dict[str, Decimal], usage: Usage, start: int
) -> None:
    """For any card with a long-context tier, the cost is that of genai-prices in Decimal."""
    long = {name: price * 2 for name, price in standard.items()}
    rates = Rates.from_usd_per_million(
        **standard, above={start: Rates.from_usd_per_million(**long)}
    )
    theirs = ModelPrice(
        **{
            f"{KEYS.get(name, name)}_mtok": TieredPrices(base=price, tiers=[Tier(start, 2 * price)])
            for name, price in standard.items()
        }
    )

    exact = theirs.calc_price(in_their_terms(usage))["total_price"] * 10**9

    assert int(exact.quantize(Decimal(1), ROUND_HALF_UP)) == rates.cost(usage)


@given(prices(audio=False), usages(audio=False), usages(audio=False))
def test_cost_is_additive(standard: dict[str, Decimal], one: Usage, other: Usage) -> None:
    """Two calls together cost what they cost apart, but for the rounding of each."""
    rates = Rates.from_usd_per_million(**standard)

    assert abs(rates.cost(one + other) - rates.cost(one) - rates.cost(other)) <= 1


@given(prices(), usages(), counts)
def test_more_output_never_costs_less(
    standard: dict[str, Decimal], usage: Usage, more: int
) -> None:
    """Output has no price below 0."""
    rates = Rates.from_usd_per_million(**standard)

    assert rates.cost(usage) <= rates.cost(replace(usage, output_tokens=usage.output_tokens + more))


@given(prices(), usages(), counts)
def test_more_input_never_costs_less(standard: dict[str, Decimal], usage: Usage, more: int) -> None:
    """Input has no price below 0, as long as the cache does not make audio dearer."""
    assume(standard.get("cache_audio_read", 0) <= standard.get("input_audio", 0))
    rates = Rates.from_usd_per_million(**standard)

    assert rates.cost(usage) <= rates.cost(replace(usage, input_tokens=usage.input_tokens + more))


@given(prices(audio=False), usages(audio=False))
def test_a_cheaper_cache_never_costs_more(standard: dict[str, Decimal], usage: Usage) -> None:
    """Where cached input is cheaper, reading it from the cache is never dearer than sending it."""
    assume(standard.get("cache_read", 0) <= standard["input"])
    rates = Rates.from_usd_per_million(**standard)

    assert rates.cost(usage) <= rates.cost(replace(usage, cache_read_tokens=0))


@given(prices(), anything)
def test_no_usage_is_too_absurd(standard: dict[str, Decimal], usage: Usage) -> None:
    """Whatever a provider reports, negative or huge, the cost is an integer and never an error."""
    rates = Rates.from_usd_per_million(
        **standard, above={200_000: Rates.from_usd_per_million(**standard)}
    )

    assert type(rates.cost(usage)) is int


@given(prices())
def test_rates_survive_their_dollars(standard: dict[str, Decimal]) -> None:
    """Rates written as dollars and read back are the same rates."""
    rates = Rates.from_usd_per_million(**standard)

    assert rates == Rates.from_usd_per_million(**rates.usd_per_million())
    assert standard == rates.usd_per_million()


@given(st.integers(-(10**20), 10**20))
def test_amounts_are_readable_and_right(nano: int) -> None:
    """What people read is right to three significant digits or to the cent."""
    written = Decimal(format_usd(nano).replace("$", "").replace(",", ""))
    tolerance = Decimal("0.005") if abs(nano) >= 10**9 else abs(usd(nano)) / 200

    assert abs(written - usd(nano)) <= tolerance
