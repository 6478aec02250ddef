"""What a call costs, on the day it was made, in integer billionths of a US dollar.

Prices come from `genai-prices <https://github.com/pydantic/genai-prices>`_, which keeps old prices,
long-context tiers, off-peak hours, service tiers and batch discounts. Its own ``calc_price`` takes
some hundred times as long as a dictionary look-up, so a :class:`RateCard` asks it once per model
and day and keeps the answer as :class:`Rates`: integers, with which :meth:`Rates.cost` is exact.

A model whose price is not known is *unpriced*: ``None``, never 0 and never the price of another
model. That holds, too, for models that are charged only by what ``Usage`` does not count: hours of
audio, pages, characters. A model that genai-prices lists without any price is free there, and costs
0. Web searches and other extras of a call are not part of its cost here; image tokens are charged
as the other tokens on their side.

Your own prices go into a TOML file, see :class:`RateCard`.
"""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider
from langchain_tokenopt.core.host_releases import check_host
from langchain_tokenopt.pricing.overrides import PRICE_KEYS, OwnRates, read_overrides
from langchain_tokenopt.pricing.providers import GATEWAYS, UNPRICED_PROVIDERS, vendor_of
from langchain_tokenopt.pricing.rates import Rates

__all__ = ["RateCard", "default_rate_card"]


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


_OPEN_WEIGHTS = re.compile(r":latest$|[:-](\d+x)?\d+(\.\d+)?b\b")
"""Names with a size or an Ollama tag: ``deepseek-r1:8b``, ``deepseek-r1-distill-qwen-7b``.

Anybody can serve such a model, often on their own machine behind ``ChatOpenAI(base_url=...)``; the
name alone does not say who sends the bill.
"""


_MAX_RESOLVED = 4_096


_UNKNOWN: Any = object()


@dataclass(frozen=True, slots=True)
class _HourlyRates:
    """Rates of a model that costs less in the provider's quiet hours."""

    starts: tuple[time, ...]
    """Times of day in UTC at which rates may change; the first is midnight."""
    rates: tuple[Rates | None, ...]

    def at(self, moment: datetime) -> Rates | None:
        """Return what holds at *moment*, which is in UTC."""
        return self.rates[bisect_right(self.starts, moment.time()) - 1]


class RateCard:
    """Looks up rates, once per model and day, and remembers them.

    Your own prices win over those of genai-prices, for every date. They replace the whole price of
    a model, so ``input`` and ``output`` must be there; what else is absent is charged like the
    input or output that it is part of.

    .. code-block:: toml

        [models."openai/my-model"]     # "my-model" alone holds for any provider
        input = "0.25"                 # US dollars per million tokens, string or number
        output = "2.00"
        cache_read = "0.025"           # also cache_write, cache_write_1h, reasoning,
                                       # input_audio, output_audio, cache_audio_read
        request = "0.01"               # US dollars per request

        [models."openai/my-model".above.200000]   # from 200,001 input tokens on
        input = "0.50"                 # what is not named stays as it is

        [models."openai/my-model".tier.flex]      # also tier.batch, tier.priority...
        input = "0.125"

    Args:
        overrides: Path of such a file, or its content as nested mappings. By default the file
            that the environment variable ``TOKENOPT_PRICES`` names, if it is set.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as prices; the message says where and why.

    Example:
        >>> card = RateCard({"models": {"my-model": {"input": "0.25", "output": "2.00"}}})
        >>> card.rates("my-model", "openai").usd_per_million()
        {'input': Decimal('0.25'), 'output': Decimal('2')}
        >>> card.rates("a-model-nobody-knows", "openai") is None
        True
    """

    def __init__(self, overrides: str | Path | Mapping[str, Any] | None = None) -> None:
        if overrides is None:
            overrides = os.environ.get("TOKENOPT_PRICES") or None
        self._own: Mapping[str, OwnRates] = {} if overrides is None else read_overrides(overrides)
        self._resolved: dict[tuple[Any, ...], Rates | _HourlyRates | None] = {}
        self._snapshot: DataSnapshot | None = None
        self._version = _version(self._own, None)

    @property
    def version(self) -> str:
        """Which prices these are: the version of genai-prices, and a hash of the overrides."""
        return self._version

    def _follow(self, snapshot: DataSnapshot) -> None:
        """Forget what was resolved from other prices than those of *snapshot*."""
        self._resolved.clear()
        self._snapshot = snapshot
        self._version = _version(self._own, snapshot)

    def rates(
        self,
        model: str | None,
        provider: str | None = None,
        at: datetime | None = None,
        service_tier: str | None = None,
        batch: bool = False,
    ) -> Rates | None:
        """Return what *model* charges, or ``None`` when no price is known.

        Args:
            model: As the provider calls it.
            provider: LangChain's ``ls_provider``. Without one, or with one that nobody knows, the
                model's name decides, if exactly one vendor claims such names.
            at: When the call was made; now by default. Without a time zone it is taken as UTC.
            service_tier: ``"flex"``, ``"priority"``, ``"fast"``, ``"batch"``... as the response
                reports it. A model without a price of its own for that tier has its standard one.
            batch: True for calls of a batch API.

        A provider that genai-prices knows is the only one asked, and where it does not list the
        model there is no price; Azure and Google list the models of the vendors they resell.
        OpenRouter, LiteLLM and OpenAI (whose protocol many speak) lead on to others: to the vendor
        in ``vendor/model``, and with a bare name to the only vendor who claims such names, unless
        the name has a size in it (``-7b``), as open weights have. Fakes, local models,
        subscriptions and hosts whose prices genai-prices lacks are unpriced
        (``UNPRICED_PROVIDERS``).

        Prices that ``genai_prices.UpdatePrices`` fetches are seen on the next UTC day, or at once
        by a new card.
        """
        if at is None:
            at = datetime.now(UTC)
        elif at.tzinfo is not UTC and at.tzinfo is not None:
            at = at.astimezone(UTC)
        key = (model, provider, at.toordinal(), service_tier, batch)
        found = self._resolved.get(key, _UNKNOWN)
        if found is _UNKNOWN:
            snapshot = _snapshot()
            if snapshot is not self._snapshot or len(self._resolved) >= _MAX_RESOLVED:
                self._follow(snapshot)
            found = self._resolved[key] = self._resolve(model, provider, at, service_tier, batch)
        return found.at(at) if type(found) is _HourlyRates else found

    def _resolve(
        self,
        model: str | None,
        provider: str | None,
        at: datetime,
        service_tier: str | None,
        batch: bool,
    ) -> Rates | _HourlyRates | None:
        """Find rates the slow way."""
        if not model:
            return None
        vendor = vendor_of(provider)
        spellings = tuple(_spellings(model.strip().lower()))
        tier = (service_tier or "").lower()
        if tier == "batch":  # as Anthropic reports it
            tier, batch = "", True
        if own := self._overridden(spellings, vendor):
            names = (tier, "batch" if batch else "")
            return next((own[name] for name in names if name and name in own), own[""])
        if vendor in UNPRICED_PROVIDERS or (vendor and "fake" in vendor):
            return None
        found = _listing(spellings, vendor)
        return found and _rates_of(*found, at, _context(tier, batch))

    def _overridden(self, spellings: Iterable[str], vendor: str | None) -> OwnRates | None:
        """Return the user's own prices of a model; those of its provider before those of any."""
        keys = [f"{vendor}/{name}" for name in spellings] + [*spellings]
        return next((self._own[key] for key in keys if key in self._own), None)


def _snapshot() -> DataSnapshot:
    """Return the prices that genai-prices has at the moment."""
    check_host("genai-prices")
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


def _version(own: Mapping[str, OwnRates], snapshot: DataSnapshot | None) -> str:
    """Name the prices of *snapshot* and the user's own."""
    name = f"genai-prices {installed_version('genai-prices')}"
    if snapshot and snapshot.from_auto_update:
        name += f" of {snapshot.timestamp:%Y-%m-%d %H:%M}"
    if own:
        canonical = repr(sorted((key, sorted(tiers.items())) for key, tiers in own.items()))
        name += f" + {hashlib.sha256(canonical.encode()).hexdigest()[:8]}"
    return name


@cache
def default_rate_card() -> RateCard:
    """Return the rate card that everything uses which is not given one of its own."""
    return RateCard()


def _context(tier: str, batch: bool) -> dict[str, str]:
    """Return the conditions by which genai-prices chooses among a model's prices."""
    context = {"processing": "batch"} if batch else {}
    if tier:
        context["service_tier"] = tier
    if tier == "fast":
        context["speed"] = "fast"  # what Anthropic calls it
    return context


def _spellings(name: str) -> Iterator[str]:
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


def _listing(spellings: Iterable[str], vendor: str | None) -> tuple[Provider, ModelInfo] | None:
    """Return where genai-prices lists a model, and what it says."""
    providers = _snapshot().providers
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
        if asked:
            yield asked, name
        if asked and vendor not in GATEWAYS:
            continue
        if vendor is None or vendor in GATEWAYS:
            for separator in "/:":
                prefix, _, rest = name.partition(separator)
                if owner := by_id.get(vendor_of(prefix) or ""):
                    yield owner, rest
        if not _OPEN_WEIGHTS.search(name):
            claims = [p for p in providers if p.model_match and p.model_match.is_match(name)]
            if len(claims) == 1:
                yield claims[0], name


def _rates_of(
    provider: Provider, model: ModelInfo, at: datetime, context: Mapping[str, str]
) -> Rates | _HourlyRates | None:
    """Return the rates of *model* on the day of *at*."""
    if not any(model is own for own in provider.models):
        context = {}  # a tier of the vendor is no tier of the provider who resells its models
    conditions = [*(model.prices if isinstance(model.prices, list) else ())]
    conditions += model.price_variants or ()
    hours = {time()}
    for condition in conditions:
        if (start := getattr(condition.constraint, "start_time", None)) is not None:
            hours |= {_utc(start), _utc(condition.constraint.end_time)}
    if len(hours) == 1:
        return _converted(model.get_prices(at, context))
    starts = tuple(sorted(hours))
    moments = (datetime.combine(at, start, UTC) for start in starts)
    rates = tuple(_converted(model.get_prices(moment, context)) for moment in moments)
    return _HourlyRates(starts, rates)


def _utc(moment: time) -> time:
    """Return a time of day in UTC, which is what it is in without a time zone."""
    if moment.tzinfo is None:
        return moment
    return datetime.combine(datetime(1970, 1, 2), moment).astimezone(UTC).time()


def _converted(price: ModelPrice) -> Rates | None:
    """Return *price* as rates; ``None`` if it charges, but for nothing that ``Usage`` counts."""
    prices = {key: value for key, value in vars(price).items() if value is not None}
    ours = {name: prices[key] for name, key in PRICE_KEYS.items() if key in prices}
    if prices and not ours:
        return None
    starts = {tier.start for value in ours.values() for tier in getattr(value, "tiers", ())}

    def above(start: int) -> dict[str, Any]:
        prices = {name: _price_above(start, value) for name, value in ours.items()}
        if "request" in prices:
            prices["request"] /= 1_000  # genai-prices names the price of a thousand requests
        return prices

    return Rates.from_usd_per_million(
        **above(-1),
        above={start: Rates.from_usd_per_million(**above(start)) for start in starts},
    )


def _price_above(start: int, price: Any) -> Decimal:
    """Return a price for requests of more than *start* input tokens."""
    tiers = [tier.price for tier in getattr(price, "tiers", ()) if tier.start <= start]
    found: Decimal = tiers[-1] if tiers else getattr(price, "base", price)
    return found
