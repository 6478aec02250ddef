"""What a call costs, on the day it was made, in integer billionths of a US dollar.

Prices come from `genai-prices <https://github.com/pydantic/genai-prices>`_, which keeps old prices,
long-context tiers, off-peak hours, service tiers and batch discounts. Its own ``calc_price`` takes
some hundred times as long as a dictionary look-up, so a :class:`RateCard` asks it once per model
and day and keeps the answer as :class:`Rates`: integers, with which :meth:`Rates.cost` is exact.

A model whose price is not known is *unpriced*: ``None``, never 0 and never the price of another
model. That holds, too, for models that are charged only by what ``Usage`` does not count: hours of
audio, pages, characters. A model whose sound or images have a price that is not known is *unpriced
in part*: the rest is charged, and the part is named. A model that genai-prices lists without any
price is free there, and costs 0. Web searches and other extras of a call are not part of its cost
here; :meth:`RateCard.explain` names those that the model charges for.

Your own prices go into a TOML file, see :class:`RateCard`.
"""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider
from langchain_tokenopt.core.host_releases import check_host
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.explanation import PriceExplanation, PriceLine
from langchain_tokenopt.pricing.money import UNITS_PER_NANO_USD, exact_usd, plain_decimal
from langchain_tokenopt.pricing.overrides import PRICE_KEYS, OwnRates, read_overrides
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

__all__ = ["CallPrice", "RateCard", "default_rate_card", "known_providers"]


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


_MAX_RESOLVED = 4_096


@dataclass(frozen=True, slots=True)
class _HourlyRates:
    """Rates of a model that costs less in the provider's quiet hours."""

    starts: tuple[time, ...]
    """Times of day in UTC at which rates may change; the first is midnight."""
    rates: tuple[Rates | None, ...]

    def at(self, moment: datetime) -> Rates | None:
        """Return what holds at *moment*, which is in UTC."""
        return self.rates[bisect_right(self.starts, moment.time()) - 1]


class CallPrice(NamedTuple):
    """What one call costs."""

    cost_nano_usd: int | None
    """Billionths of a US dollar; ``None`` where no price is known."""
    unpriced: tuple[str, ...] = ()
    """Parts whose rate is not known, which the cost does not contain."""
    rates: Rates | None = None


class _Listing(NamedTuple):
    """Where a price stands, and what it is."""

    rates: Rates | _HourlyRates | None
    source: str
    """Whose price it is; where there is none: why."""
    extras: tuple[str, ...] = ()
    """What the model charges besides tokens and requests."""


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
                                       # input_audio, output_audio, cache_audio_read, input_image,
                                       # output_image, cache_image_read, input_video, output_video
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
        self._resolved: dict[tuple[Any, ...], _Listing] = {}
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
        OpenRouter, LiteLLM and OpenAI (whose protocol many speak) lead on to others: to the host in
        ``host/model``, and to the maker of a model that nobody else has. Open weights
        (``openai/gpt-oss-120b``, ``gemma-3-27b-it``) may run anywhere and are unpriced there, until
        the provider is named; :func:`~langchain_tokenopt.pricing.providers.billing_provider` knows
        it from the address that was called. Fakes, local models, subscriptions and hosts whose
        prices genai-prices lacks are unpriced (``UNPRICED_PROVIDERS``).

        Prices that ``genai_prices.UpdatePrices`` fetches are seen on the next UTC day, or at once
        by a new card.
        """
        moment = _in_utc(at)
        return _at(self._listed(model, provider, moment, service_tier, batch).rates, moment)

    def price(
        self,
        usage: Usage,
        model: str | None,
        provider: str | None = None,
        at: datetime | None = None,
        service_tier: str | None = None,
        *,
        response_model: str | None = None,
        answered: bool = True,
    ) -> CallPrice:
        """Return what a call costs: the one function by which records and budgets are charged.

        Args:
            usage: What it used.
            model: The model that was asked for.
            provider: As for :meth:`rates`.
            at: As for :meth:`rates`.
            service_tier: As for :meth:`rates`.
            response_model: The model that has answered; where its name is not known, *model* is
                charged.
            answered: False for a call that was refused or has failed: without any tokens it is not
                charged for the request either.

        Example:
            >>> card = RateCard({"models": {"m": {"input": 1, "output": 2, "request": "0.005"}}})
            >>> card.price(Usage(100, 50), "m").cost_nano_usd
            5200000
            >>> card.price(Usage(), "m", answered=False).cost_nano_usd
            0
        """
        if not answered and not usage.total_tokens:
            return CallPrice(0)
        rates = None
        for name in _names(response_model, model):
            rates = self.rates(name, provider, at, service_tier)
            if rates is not None:
                return CallPrice(rates.cost(usage), rates.unpriced_in(usage), rates)
        return CallPrice(None)

    def explain(self, record: CallRecord) -> PriceExplanation:
        """Say why a call costs what it costs: each part, its rate, and whose rate it is.

        The lines sum to ``record.cost_nano_usd`` to the nano-dollar, as long as this card has the
        prices that the record was charged by; where it has others, a note says so.

        Example:
            >>> from uuid import uuid4
            >>> call = CallRecord(
            ...     run_id=uuid4(), model="m", provider="openai", usage=Usage(100, 50),
            ...     started_at=datetime(2026, 11, 20, tzinfo=UTC), duration_seconds=1.0,
            ...     cost_nano_usd=200_000,
            ... )
            >>> why = RateCard({"models": {"m": {"input": 1, "output": 2}}}).explain(call)
            >>> [(line.kind, line.tokens, line.cost_nano_usd) for line in why.lines]
            [('input', 100, 100000), ('output', 50, 100000)]
        """
        at, tier = _in_utc(record.started_at), record.service_tier
        usage, provider = record.usage, record.provider
        names = _names(record.response_model, record.model)
        listed = [(name, self._listed(name, provider, at, tier, False)) for name in names]
        name, listing = next(
            ((name, found) for name, found in listed if _at(found.rates, at) is not None),
            listed[-1] if listed else (None, _Listing(None, "the model has no name")),
        )
        rates, notes = _at(listing.rates, at), []
        lines: tuple[PriceLine, ...] = ()
        if record.cached or (record.status != "ok" and not usage.total_tokens):
            cost: int | None = 0
            notes.append(_why_free(record))
        elif rates is None:
            cost = None
            notes.append(f"no price is known: {listing.source}.")
        else:
            cost = rates.cost(usage)
            lines = _lines(rates, usage, listing.source, self._tier(name, provider, at, tier))
        if lines and listing.extras:
            notes.append(f"not counted here: {', '.join(listing.extras)}.")
        if record.rates_version not in (None, self.version):
            notes.append(f"the record was priced by {record.rates_version}.")
        if cost != record.cost_nano_usd:
            charged = exact_usd(record.cost_nano_usd)
            notes.append(
                f"the record says {'unpriced' if charged is None else f'${charged}'}: it was "
                f"charged by other prices, or in several attempts."
            )
        return PriceExplanation(
            model=name,
            provider=provider,
            on=f"{at:%Y-%m-%d}",
            rates_version=self.version,
            lines=lines,
            cost_nano_usd=cost,
            unpriced=rates.unpriced_in(usage) if rates is not None and lines else (),
            notes=tuple(notes),
        )

    def dearest(
        self,
        input_tokens: int,
        output_tokens: int,
        model: str | None,
        provider: str | None = None,
        at: datetime | None = None,
        tiers: Iterable[str | None] = (None,),
        *,
        impossible: Collection[str] = (),
        asked: Collection[str] = (),
    ) -> int | None:
        """Return the most that a request can cost, in nano-USD, in any of *tiers*.

        Args:
            input_tokens: Most that the provider may count.
            output_tokens: Most that it may write.
            model: As for :meth:`rates`.
            provider: As for :meth:`rates`.
            at: As for :meth:`rates`.
            tiers: Service tiers in which it may be answered.
            impossible: Kinds of tokens that it certainly does not have, such as ``"cache_write"``.
            asked: Kinds of tokens that it has, or asks for, such as ``"output_audio"``.

        Returns:
            ``None`` where no price is known, or not that of a part which was asked for.

        Example:
            >>> card = RateCard({"models": {"m": {"input": 1, "output": 2, "cache_write": 3}}})
            >>> card.dearest(100, 50, "m")
            400000
            >>> card.dearest(100, 50, "m", impossible=["cache_write", "cache_write_1h"])
            200000
        """
        costs = []
        for tier in tiers:
            rates = self.rates(model, provider, at, tier)
            if rates is None:
                return None
            cost = rates.most(input_tokens, output_tokens, impossible, asked)
            if cost is None:
                return None
            costs.append(cost)
        return max(costs, default=None)

    def _listed(
        self,
        model: str | None,
        provider: str | None,
        at: datetime,
        service_tier: str | None,
        batch: bool,
    ) -> _Listing:
        """Return where a price stands; searched for once a day."""
        key = (model, provider, at.toordinal(), service_tier, batch)
        found = self._resolved.get(key)
        if found is None:
            snapshot = _snapshot()
            if snapshot is not self._snapshot or len(self._resolved) >= _MAX_RESOLVED:
                self._follow(snapshot)
            found = self._resolved[key] = self._resolve(model, provider, at, service_tier, batch)
        return found

    def _resolve(
        self,
        model: str | None,
        provider: str | None,
        at: datetime,
        service_tier: str | None,
        batch: bool,
    ) -> _Listing:
        """Find rates the slow way."""
        if not model:
            return _Listing(None, "the model has no name")
        vendor = vendor_of(provider)
        spellings = tuple(_spellings(model.strip().lower()))
        tier = (service_tier or "").lower()
        if tier == "batch":  # as Anthropic reports it
            tier, batch = "", True
        if found := self._overridden(spellings, vendor):
            own_name, own = found
            names = (tier, "batch" if batch else "")
            rates = next((own[name] for name in names if name and name in own), own[""])
            return _Listing(rates, f"your own price of {own_name!r}")
        if vendor in UNPRICED_PROVIDERS or (vendor and "fake" in vendor):
            return _Listing(None, f"{provider!r} has no public price list")
        listing = _listing(spellings, vendor)
        if listing is None:
            return _Listing(None, _why_unlisted(model, provider, vendor))
        seller, info = listing
        source = f"{_list_name()}, {seller.id} {info.id}"
        return _Listing(
            _rates_of(seller, info, at, _context(tier, batch)), source, _extras(info, at)
        )

    def _overridden(
        self, spellings: Iterable[str], vendor: str | None
    ) -> tuple[str, OwnRates] | None:
        """Return the user's own prices of a model; those of its provider before those of any."""
        keys = [f"{vendor}/{name}" for name in spellings] + [*spellings]
        return next(((key, self._own[key]) for key in keys if key in self._own), None)

    def _tier(self, model: str | None, provider: str | None, at: datetime, tier: str | None) -> str:
        """Name the tier whose prices hold: that of the call, if the model has prices for it."""
        if not tier or self.rates(model, provider, at) == self.rates(model, provider, at, tier):
            return "standard" if not tier else f"standard ({tier} has no price of its own)"
        return tier


def _names(response_model: str | None, model: str | None) -> tuple[str, ...]:
    """Return the names by which a call is priced, the most certain first."""
    return tuple(dict.fromkeys(name for name in (response_model, model) if name))


def _in_utc(at: datetime | None) -> datetime:
    if at is None:
        return datetime.now(UTC)
    return at if at.tzinfo is UTC or at.tzinfo is None else at.astimezone(UTC)


def _at(rates: Rates | _HourlyRates | None, moment: datetime) -> Rates | None:
    return rates.at(moment) if isinstance(rates, _HourlyRates) else rates


# Explanations


def _why_free(record: CallRecord) -> str:
    if record.cached:
        return (
            f"a cache has answered; it would have cost ${exact_usd(record.saved_nano_usd) or '?'}."
        )
    ended = "was refused" if record.status == "refused" else record.status
    return f"nothing was billed: it {ended} before anything was used."


def _why_unlisted(model: str, provider: str | None, vendor: str | None) -> str:
    if vendor is None or vendor in GATEWAYS:
        return (
            f"{model!r} is not a model that only its maker has, so that anybody may send the bill; "
            f"name the provider"
        )
    return f"{provider} does not list {model!r} in genai-prices"


def _lines(rates: Rates, usage: Usage, source: str, tier: str) -> tuple[PriceLine, ...]:
    """Return the lines of a bill, in whole nano-dollars that sum to its rounded sum."""
    charged, parts = rates.at(usage.input_tokens), [*rates.lines(usage)]
    units = [tokens * (rate or 0) for _, tokens, rate in parts]
    nanos = [unit // UNITS_PER_NANO_USD for unit in units]
    missing = rates.cost(usage) - sum(nanos)
    most_cut = sorted(range(len(units)), key=lambda place: -(units[place] % UNITS_PER_NANO_USD))
    for place in most_cut[:missing]:
        nanos[place] += 1
    start = next((start for start, above in rates.above if above is charged), None)
    long = "" if start is None else f", above {start:,} input tokens"
    return tuple(
        PriceLine(
            kind=kind.replace("_", " "),
            tokens=tokens,
            usd_per_million=None if rate is None else plain_decimal(rate),
            cost_nano_usd=nano,
            source=source,
            tier=tier,
            rule=_rule(charged, kind) + long,
        )
        for (kind, tokens, rate), nano in zip(parts, nanos, strict=True)
    )


def _rule(rates: Rates, kind: str) -> str:
    """Say in words where a rate comes from."""
    if kind == "request":
        return "for each request"
    if kind in rates.unpriced:
        return "charged apart, at a rate that is not known"
    if getattr(rates, kind) is not None:
        return "its own rate"
    return "no rate of its own: as the whole that it is part of"


# Looking up


def _snapshot() -> DataSnapshot:
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
    listed = (provider.id for provider in _snapshot().providers)
    return frozenset((*listed, *PROVIDERS, *UNPRICED_PROVIDERS, *GATEWAYS))


@cache
def _list_name() -> str:
    """Return which list of prices is installed: asking for a version reads its whole metadata."""
    return f"genai-prices {installed_version('genai-prices')}"


def _version(own: Mapping[str, OwnRates], snapshot: DataSnapshot | None) -> str:
    """Name the prices of *snapshot* and the user's own."""
    name = _list_name()
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
        return _converted(model.get_prices(at, context), provider.id, model.id)
    starts = tuple(sorted(hours))
    moments = (datetime.combine(at, start, UTC) for start in starts)
    rates = tuple(
        _converted(model.get_prices(moment, context), provider.id, model.id) for moment in moments
    )
    return _HourlyRates(starts, rates)


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


def _extras(model: ModelInfo, at: datetime) -> tuple[str, ...]:
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
