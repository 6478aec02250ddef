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
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

    from langchain_tokenopt.usage import Usage

__all__ = ["RateCard", "Rates", "default_rate_card", "format_usd", "usd"]

UNITS_PER_USD = 10**24
"""Rates count in this fraction of a dollar per token, that is 10**-18 dollars per million tokens.

Chosen so that no price of genai-prices 0.2.3 is rounded: its finest have 18 decimals per million
tokens (OpenRouter's cache writes, such as 0.041666666666666664).
"""

_UNITS_PER_NANO_USD = UNITS_PER_USD // 10**9
_HALF_NANO_USD = _UNITS_PER_NANO_USD // 2
_PER_MILLION = UNITS_PER_USD // 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one model charges, at one time, in one service tier.

    Every rate is an integer in 10**-24 US dollars per token (dollars per million times 10**18).
    ``None`` means that the provider does not charge these tokens apart: they cost what the total
    costs that they are part of.

    Example:
        >>> from langchain_tokenopt.usage import Usage
        >>> gpt_4o = Rates.from_usd_per_million(input="2.50", output="10", cache_read="1.25")
        >>> gpt_4o.cost(Usage(input_tokens=1_000, output_tokens=100, cache_read_tokens=800))
        2500000
        >>> format_usd(2_500_000)
        '$0.00250'
    """

    input: int = 0
    output: int = 0
    cache_read: int | None = None
    cache_write: int | None = None
    """Written to the prompt cache, for five minutes where the provider offers a choice."""
    cache_write_1h: int | None = None
    """Written to the prompt cache for an hour."""
    input_audio: int | None = None
    output_audio: int | None = None
    cache_audio_read: int | None = None
    """Audio read from the prompt cache."""
    reasoning: int | None = None
    request: int = 0
    """For each request, whatever its length; in 10**-24 US dollars."""
    above: tuple[tuple[int, Rates], ...] = ()
    """Long-context rates ``(start, rates)``, ascending: a request with more than *start* input
    tokens is charged at *rates* as a whole, not only for what exceeds *start*."""

    @classmethod
    def from_usd_per_million(
        cls,
        *,
        above: Mapping[int, Rates] | None = None,
        request: Decimal | str | int = 0,
        **prices: Decimal | str | int | None,
    ) -> Rates:
        """Make rates from US dollars per million tokens; *request* is dollars per request.

        A price with more than 18 decimals is rounded to 18, half to even.
        """
        rates: dict[str, Any] = {
            name: None if price is None else round(Fraction(price) * _PER_MILLION)
            for name, price in prices.items()
        }
        rates["request"] = round(Fraction(request) * UNITS_PER_USD)
        rates["above"] = tuple(sorted((above or {}).items(), key=lambda tier: tier[0]))
        return cls(**rates)

    def usd_per_million(self) -> dict[str, Decimal]:
        """Return the prices in US dollars per million tokens, without those that do not exist.

        Example:
            >>> Rates.from_usd_per_million(input="0.25", output=2).usd_per_million()
            {'input': Decimal('0.25'), 'output': Decimal('2')}
        """
        return {
            name: _plain(rate) for name in TOKEN_RATES if (rate := getattr(self, name)) is not None
        }

    def cost(self, usage: Usage) -> int:
        """Return what *usage* costs in nano-USD (billionths of a dollar), rounded half up once.

        Parts are charged at their own rate and the rest of their total at the total's: cached and
        audio tokens are part of the input, reasoning and audio of the output. ``Usage`` does not
        say how much of the cached input was audio; it is taken to be as little as the numbers
        allow.

        Nothing is clamped: where the numbers cannot be true (more cached tokens than input,
        negative counts), the rest is negative and so may be the cost. ``Usage.flaws`` tells.
        """
        tokens_in = usage.input_tokens
        rates = self._at(tokens_in) if self.above else self
        units = tokens_in * rates.input + usage.output_tokens * rates.output + rates.request
        if (
            usage.cache_read_tokens
            or usage.cache_write_tokens
            or usage.cache_write_1h_tokens
            or usage.input_audio_tokens
        ):
            units += rates._input_surcharge(usage)
        if usage.reasoning_tokens or usage.output_audio_tokens:
            units += rates._output_surcharge(usage)
        return (units + _HALF_NANO_USD) // _UNITS_PER_NANO_USD

    def _at(self, input_tokens: int) -> Rates:
        """Return the rates of the highest long-context tier that *input_tokens* reaches."""
        for start, rates in reversed(self.above):
            if input_tokens > start:
                return rates
        return self

    def _input_surcharge(self, usage: Usage) -> int:
        """Return what the parts of the input cost more (or less) than plain input."""
        base = self.input
        read, write = usage.cache_read_tokens, usage.cache_write_tokens
        hour, audio = usage.cache_write_1h_tokens, usage.input_audio_tokens
        read_rate = _or(self.cache_read, base)
        write_rate = _or(self.cache_write, base)
        hour_rate = _or(self.cache_write_1h, write_rate)
        units = read * (read_rate - base)
        units += (write - hour) * (write_rate - base) + hour * (hour_rate - base)
        if self.input_audio is None:
            return units
        units += audio * (self.input_audio - base)
        cached_audio = min(audio, read, audio + read + write - usage.input_tokens)
        if cached_audio > 0:  # counted as both: take one of them back
            own_rate = _or(self.cache_audio_read, _or(self.cache_read, self.input_audio))
            units += cached_audio * (own_rate - self.input_audio - read_rate + base)
        return units

    def _output_surcharge(self, usage: Usage) -> int:
        """Return what the parts of the output cost more (or less) than plain output."""
        units = 0
        if self.reasoning is not None:
            units += usage.reasoning_tokens * (self.reasoning - self.output)
        if self.output_audio is not None:
            units += usage.output_audio_tokens * (self.output_audio - self.output)
        return units


def _or(rate: int | None, whole: int) -> int:
    """Return *rate*, or that of the whole where there is none."""
    return whole if rate is None else rate


TOKEN_RATES = tuple(f.name for f in fields(Rates) if f.name not in ("request", "above"))
"""Names of the rates that are charged per token."""

_PRICE_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "cache_audio_read": "cache_audio_read_mtok",
    "reasoning": "output_reasoning_mtok",
    "request": "requests_kcount",
}
"""Our rates and the names of their prices in genai-prices."""

PROVIDERS: Mapping[str, str] = {
    "amazon": "aws",
    "amazon_bedrock": "aws",
    "anthropic-mantle": "aws",
    "anthropic_bedrock": "aws",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "azureaichatcompletions": "azure",
    "azureml": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "gemini": "google",
    "google_anthropic_vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "grok": "x-ai",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "openai-mantle": "aws",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertexai": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
    "z-ai": "zai",
    "zhipu": "zhipuai",
}
"""LangChain's ``ls_provider`` and ``init_chat_model`` names, where genai-prices has another id."""

UNPRICED_PROVIDERS = frozenset(
    {
        # own hardware
        "gpt4all",
        "huggingface",
        "huggingface_pipeline",
        "llama-cpp",
        "llama_cpp",
        "llamacpp",
        "lmstudio",
        "mlx",
        "ollama",
        "openvino",
        "vllm",
        # a subscription
        "openai-codex",
        # models of others at prices of their own, which genai-prices does not list
        "ibm",
        "nvidia",
        "sambanova",
    }
)
"""Providers whose bill is not known, whatever the model; only an override prices them."""

_GATEWAYS = frozenset({"litellm", "openai", "openrouter"})
"""They lead to models of other vendors: OpenAI because many speak its protocol."""
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

_Own = Mapping[str, "Rates"]
"""A user's prices of one model: by service tier, ``""`` for the standard one."""


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
        self._own: Mapping[str, _Own] = {} if overrides is None else _read_overrides(overrides)
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
        vendor = _vendor(provider)
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

    def _overridden(self, spellings: Iterable[str], vendor: str | None) -> _Own | None:
        """Return the user's own prices of a model; those of its provider before those of any."""
        keys = [f"{vendor}/{name}" for name in spellings] + [*spellings]
        return next((self._own[key] for key in keys if key in self._own), None)


def _snapshot() -> DataSnapshot:
    """Return the prices that genai-prices has at the moment."""
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


def _version(own: Mapping[str, _Own], snapshot: DataSnapshot | None) -> str:
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


def usd(nano_usd: int) -> Decimal:
    """Return *nano_usd* billionths of a dollar as dollars, exactly.

    Example:
        >>> usd(12_300_000)
        Decimal('0.012300000')
    """
    return Decimal(f"{nano_usd}e-9")


def format_usd(nano_usd: int | None) -> str:
    """Write an amount for people: cents above a dollar, three significant digits below.

    An unpriced amount is ``-``: it is not known, and not 0.

    Example:
        >>> [format_usd(nano) for nano in (1_234_560_000_000, 12_300_000, 456, 0, None)]
        ['$1,234.56', '$0.0123', '$0.000000456', '$0.00', '-']
    """
    if nano_usd is None:
        return "-"
    amount = usd(abs(nano_usd))
    decimals = 2 if not amount or amount >= 1 else min(9, max(4, 2 - amount.adjusted()))
    return f"{'-' if nano_usd < 0 else ''}${amount:,.{decimals}f}"


def _plain(rate: int) -> Decimal:
    """Return a rate in dollars per million tokens, without needless zeros."""
    whole, rest = divmod(rate, _PER_MILLION)
    return Decimal(f"{whole}.{rest:018d}".rstrip("0").rstrip("."))


def _vendor(provider: str | None) -> str | None:
    """Return genai-prices' id of a LangChain provider; the name itself where there is none."""
    if provider is None:
        return None
    name = provider.strip().lower()
    return PROVIDERS.get(name, name)


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
        if asked and vendor not in _GATEWAYS:
            continue
        if vendor is None or vendor in _GATEWAYS:
            for separator in "/:":
                prefix, _, rest = name.partition(separator)
                if owner := by_id.get(_vendor(prefix) or ""):
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
    ours = {name: prices[key] for name, key in _PRICE_KEYS.items() if key in prices}
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


def _read_overrides(source: str | Path | Mapping[str, Any]) -> dict[str, _Own]:
    """Read prices of the user's own, by model."""
    if isinstance(source, Mapping):
        where, content = "overrides", source
    else:
        where, content = str(source), _read_toml(Path(source).expanduser())
    _refuse_unknown(content, {"models"}, where)
    read = {}
    for name, table in _table(content.get("models", {}), f"{where}: models").items():
        prefix, slash, rest = str(name).strip().lower().partition("/")
        key = f"{_vendor(prefix)}/{rest}" if slash else prefix
        read[key] = _read_model(table, f'{where}: models."{name}"')
    return read


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file without turning its numbers into binary fractions."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no price file {str(path)!r}. Create it, or correct the path given to "
            f"RateCard or in the environment variable TOKENOPT_PRICES."
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The price file {str(path)!r} is not valid TOML: {error}.") from error


def _read_model(table: Any, where: str) -> _Own:
    """Read one model's prices, in all its service tiers."""
    table = _table(table, where)
    _refuse_unknown(table, {*TOKEN_RATES, "request", "above", "tier"}, where)
    missing = [name for name in ("input", "output") if name not in table]
    if missing:
        raise ValueError(
            f"{where} names no price for {' and '.join(missing)}. "
            f"An override replaces the whole price: name both, 0 for what is free."
        )
    standard = _read_rates(table, where)
    tiers = _table(table.get("tier", {}), f"{where}.tier")
    own = {"": standard}
    for name, changes in tiers.items():
        inside = f"{where}.tier.{name}"
        _refuse_unknown(_table(changes, inside), {*TOKEN_RATES, "request", "above"}, inside)
        own[str(name).lower()] = _read_rates({**table, **changes}, inside)
    return own


def _read_rates(table: Mapping[str, Any], where: str) -> Rates:
    """Read prices, and those for long contexts, which change only what they name."""
    prices = _read_prices(table, where)
    above = {}
    for start, changes in _table(table.get("above", {}), f"{where}.above").items():
        inside = f"{where}.above.{start}"
        if not str(start).replace("_", "").isdecimal():
            raise ValueError(f"{inside}: {start!r} is not a number of input tokens.")
        _refuse_unknown(_table(changes, inside), {*TOKEN_RATES, "request"}, inside)
        changed = {**prices, **_read_prices(changes, inside)}
        above[int(start)] = Rates.from_usd_per_million(**changed)
    return Rates.from_usd_per_million(**prices, above=above)


def _read_prices(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read the prices in *table*, leaving out its sub-tables."""
    names = (*TOKEN_RATES, "request")
    return {name: _price(table[name], f"{where}.{name}") for name in names if name in table}


def _price(value: Any, where: str) -> Decimal:
    """Read one price.

    Raises:
        ValueError: If it is not a number, or below 0.
    """
    try:
        price = Decimal(str(value).strip())
        if not price.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError(
            f"{where} is {value!r}, which is not a number. "
            f'Write US dollars per million tokens, for instance "0.25".'
        ) from None
    if price < 0:
        raise ValueError(f"{where} is {value}, but a price cannot be negative.")
    return price


def _table(value: Any, where: str) -> Mapping[str, Any]:
    """Return *value* if it is a table."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, but should be a table of prices.")
    return value


def _refuse_unknown(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise if *table* has keys that mean nothing; all of them are named."""
    if unknown := sorted(str(key) for key in table.keys() - set(known)):
        raise ValueError(
            f"{where} has unknown keys: {', '.join(unknown)}. "
            f"Known are: {', '.join(sorted(known))}."
        )
