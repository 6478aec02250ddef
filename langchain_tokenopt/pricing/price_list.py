"""What genai-prices says of a model on a day, as :class:`Rates`.

It keeps old prices, long-context tiers, off-peak hours, service tiers and batch discounts. Which
provider is asked, and under which of a model's spellings, is decided here as well.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider
from langchain_tokenopt.core.host_releases import check_host
from langchain_tokenopt.pricing.overrides import PRICE_KEYS
from langchain_tokenopt.pricing.providers import (
    GATEWAYS,
    HOSTS,
    PROVIDERS,
    UNPRICED_PROVIDERS,
    charges_as_the_rest,
    is_sold_by_its_maker_alone,
    vendor_of,
)
from langchain_tokenopt.pricing.rates import Rates

__all__ = [
    "HourlyRates",
    "extras_of",
    "known_providers",
    "list_name",
    "listing_of",
    "price_snapshot",
    "rates_at",
    "rates_of",
    "spellings_of",
]

_ROUTING_SUFFIXES = (":exacto", ":floor", ":nitro", ":online")
"""OpenRouter's suffixes that choose among hosts of a model and do not name another model.

They are charged at the listed price of the model, as calls without them are, although OpenRouter's
hosts may differ in price.

Source: https://openrouter.ai/docs/guides/routing/model-variants
"""


_WRAPPED = re.compile(
    r"(?:(?:publishers|projects)/.*)?models/(.+)"
    r"|arn:aws[\w-]*:bedrock:.*(?:foundation-model|inference-profile)/(.+)"
)
"""Names with the path of their provider around them: Google's resources and Bedrock's ARNs."""


@dataclass(frozen=True, slots=True)
class HourlyRates:
    """Rates of a model that costs less in the provider's quiet hours."""

    starts: tuple[time, ...]
    """Times of day in UTC at which rates may change; the first is midnight."""
    rates: tuple[Rates | None, ...]

    def at(self, moment: datetime) -> Rates | None:
        """Return what holds at *moment*, which is in UTC."""
        return self.rates[bisect_right(self.starts, moment.time()) - 1]


def rates_at(rates: Rates | HourlyRates | None, moment: datetime) -> Rates | None:
    """Return what holds at *moment*, which is in UTC."""
    return rates.at(moment) if isinstance(rates, HourlyRates) else rates


def price_snapshot() -> DataSnapshot:
    """Return the prices that genai-prices has at the moment."""
    check_host("genai-prices")
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


def known_providers() -> frozenset[str]:
    """Return the names by which providers can be asked for: of genai-prices, and LangChain's.

    Example:
        >>> {"openai", "google_genai", "ollama"} <= known_providers()
        True
    """
    listed = (provider.id for provider in price_snapshot().providers)
    return frozenset((*listed, *PROVIDERS, *UNPRICED_PROVIDERS, *GATEWAYS))


@cache
def list_name() -> str:
    """Return which list of prices is installed: asking for a version reads its whole metadata."""
    return f"genai-prices {installed_version('genai-prices')}"


def _context(tier: str, batch: bool) -> dict[str, str]:
    """Return the conditions by which genai-prices chooses among a model's prices."""
    context = {"processing": "batch"} if batch else {}
    if tier:
        context["service_tier"] = tier
    if tier == "fast":
        context["speed"] = "fast"  # what Anthropic calls it
    return context


def spellings_of(name: str) -> Iterator[str]:
    """Yield *name* and what is left of it without the wrappings that providers put around names.

    ``models/gemini-2.5-pro``, ``publishers/google/models/...``, Bedrock's ARNs, OpenRouter's
    routing suffixes.
    """
    yield name
    if found := _WRAPPED.match(name):
        yield found[1] or found[2]
    for suffix in _ROUTING_SUFFIXES:
        if name.endswith(suffix):
            yield name.removesuffix(suffix)


def listing_of(spellings: Iterable[str], vendor: str | None) -> tuple[Provider, ModelInfo] | None:
    """Return where genai-prices lists a model, and what it says."""
    providers = price_snapshot().providers
    for provider, name in _places(spellings, vendor, providers):
        if model := provider.find_model(name, all_providers=providers):
            return provider, model
    return None


def _places(
    spellings: Iterable[str], vendor: str | None, providers: Sequence[Provider]
) -> Iterator[tuple[Provider, str]]:
    """Yield under which providers and names a model may be listed, the most certain first."""
    by_id = {provider.id: provider for provider in providers}
    asked = by_id.get(vendor or "")
    for name in spellings:
        if asked and (vendor != "openai" or is_sold_by_its_maker_alone("openai", name)):
            yield asked, name
        if asked and vendor not in GATEWAYS:
            continue
        for separator in "/:":
            prefix, _, rest = name.partition(separator)
            owner = vendor_of(prefix) or ""
            if owner in by_id and (owner in HOSTS or is_sold_by_its_maker_alone(owner, rest)):
                yield by_id[owner], rest
        claims = [p for p in providers if p.model_match and p.model_match.is_match(name)]
        if len(claims) == 1 and is_sold_by_its_maker_alone(claims[0].id, name):
            yield claims[0], name


def rates_of(
    provider: Provider, model: ModelInfo, at: datetime, tier: str, batch: bool
) -> Rates | HourlyRates | None:
    """Return the rates of *model* on the day of *at*, in a service tier or of a batch API."""
    context = _context(tier, batch)
    if not any(model is own for own in provider.models):
        context = {}  # a tier of the vendor is no tier of the provider who resells its models
    conditions = [*(model.prices if isinstance(model.prices, list) else ())]
    conditions += model.price_variants or ()
    hours = {time()}
    for condition in conditions:
        if (start := getattr(condition.constraint, "start_time", None)) is not None:
            hours |= {_utc(start), _utc(condition.constraint.end_time)}
    if len(hours) == 1:
        return _converted(model.get_prices(at, context), provider.id, model.id)
    starts = tuple(sorted(hours))
    moments = (datetime.combine(at, start, UTC) for start in starts)
    rates = tuple(
        _converted(model.get_prices(moment, context), provider.id, model.id) for moment in moments
    )
    return HourlyRates(starts, rates)


def _utc(moment: time) -> time:
    """Return a time of day in UTC, which is what it is in without a time zone."""
    if moment.tzinfo is None:
        return moment
    return datetime.combine(datetime(1970, 1, 2), moment).astimezone(UTC).time()


_EXTRAS: Final = {
    "web_searches_kcount": "web searches",
    "storage_searches_kcount": "file searches",
    "output_citation_mtok": "citations",
}
"""What models charge for besides what ``Usage`` counts, by genai-prices' names."""


def extras_of(model: ModelInfo, at: datetime) -> tuple[str, ...]:
    """Return what a model charges besides tokens and requests, in words."""
    prices = vars(model.get_prices(at))
    return tuple(name for key, name in _EXTRAS.items() if prices.get(key) is not None)


def _converted(price: ModelPrice, seller: str, model: str) -> Rates | None:
    """Return *price* as rates; ``None`` if it charges, but for nothing that ``Usage`` counts."""
    prices = {key: value for key, value in vars(price).items() if value is not None}
    ours = {name: prices[key] for name, key in PRICE_KEYS.items() if key in prices}
    if prices and not ours:
        return None
    starts = {tier.start for value in ours.values() for tier in getattr(value, "tiers", ())}
    unpriced = _unpriced(ours, seller, model) if ours else ()

    def above(start: int) -> dict[str, Any]:
        prices = {name: _price_above(start, value) for name, value in ours.items()}
        if "request" in prices:
            prices["request"] /= 1_000  # genai-prices names the price of a thousand requests
        return prices

    return Rates.from_usd_per_million(
        **above(-1),
        unpriced=unpriced,
        above={
            start: Rates.from_usd_per_million(**above(start), unpriced=unpriced) for start in starts
        },
    )


def _unpriced(listed: Collection[str], seller: str, model: str) -> tuple[str, ...]:
    """Return the media that a seller charges apart, at rates that are not listed."""
    media = ("input_audio", "output_audio", "output_image", "output_video")
    missing = [
        kind
        for kind in media
        if kind not in listed and not charges_as_the_rest(seller, model, kind)
    ]
    if "input_audio" in missing and "cache_audio_read" not in listed:
        missing.append("cache_audio_read")
    return tuple(missing)


def _price_above(start: int, price: Any) -> Decimal:
    """Return a price for requests of more than *start* input tokens."""
    tiers = [tier.price for tier in getattr(price, "tiers", ()) if tier.start <= start]
    found: Decimal = tiers[-1] if tiers else getattr(price, "base", price)
    return found
