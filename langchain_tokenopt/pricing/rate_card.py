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
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.explanation import PriceExplanation, PriceLine, bill_lines
from langchain_tokenopt.pricing.money import exact_usd
from langchain_tokenopt.pricing.overrides import OwnRates, read_overrides
from langchain_tokenopt.pricing.price_list import (
    HourlyRates,
    extras_of,
    list_name,
    listing_of,
    price_snapshot,
    rates_at,
    rates_of,
    spellings_of,
)
from langchain_tokenopt.pricing.providers import (
    GATEWAYS,
    UNPRICED_PROVIDERS,
    vendor_of,
)
from langchain_tokenopt.pricing.rates import Rates

__all__ = ["CallPrice", "RateCard", "default_rate_card"]


_MAX_RESOLVED = 4_096


class CallPrice(NamedTuple):
    """What one call costs."""

    cost_nano_usd: int | None
    """Billionths of a US dollar; ``None`` where no price is known."""
    unpriced: tuple[str, ...] = ()
    """Parts whose rate is not known, which the cost does not contain."""
    rates: Rates | None = None


class _Listing(NamedTuple):
    """Where a price stands, and what it is."""

    rates: Rates | HourlyRates | None
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
        return rates_at(self._listed(model, provider, moment, service_tier, batch).rates, moment)

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
            ((name, found) for name, found in listed if rates_at(found.rates, at) is not None),
            listed[-1] if listed else (None, _Listing(None, "the model has no name")),
        )
        rates, notes = rates_at(listing.rates, at), []
        lines: tuple[PriceLine, ...] = ()
        if record.cached or (record.status != "ok" and not usage.total_tokens):
            cost: int | None = 0
            notes.append(_why_free(record))
        elif rates is None:
            cost = None
            notes.append(f"no price is known: {listing.source}.")
        else:
            cost = rates.cost(usage)
            lines = bill_lines(rates, usage, listing.source, self._tier(name, provider, at, tier))
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
            snapshot = price_snapshot()
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
        spellings = tuple(spellings_of(model.strip().lower()))
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
        listing = listing_of(spellings, vendor)
        if listing is None:
            return _Listing(None, _why_unlisted(model, provider, vendor))
        seller, info = listing
        source = f"{list_name()}, {seller.id} {info.id}"
        return _Listing(rates_of(seller, info, at, tier, batch), source, extras_of(info, at))

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


def _version(own: Mapping[str, OwnRates], snapshot: DataSnapshot | None) -> str:
    """Name the prices of *snapshot* and the user's own."""
    name = list_name()
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
