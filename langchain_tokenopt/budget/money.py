"""What a call can cost, and what it has cost: where prices and requests meet.

Before a call, the dearest price that can apply to this request: prompt caches that it may write,
service tiers in which it may be answered, long contexts that its input may reach. After it, what
was billed, by the function that also prices records, so that a plan and a ledger agree to the
nano-dollar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from langchain_core.messages import BaseMessage

from langchain_tokenopt.core.media import IMAGE_BLOCKS
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.providers import base_url_in, vendor_of
from langchain_tokenopt.pricing.rate_card import RateCard, default_rate_card
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.tracking.provider_usage import AnswerNames

__all__ = [
    "PriceTerms",
    "PricedCall",
    "Prices",
    "price_terms",
    "terms_of",
    "with_standard_tier",
]

_SOUND: Final = frozenset({"input_audio", "cache_audio_read"})
_PICTURES: Final = frozenset({"input_image", "cache_image_read", "input_video"})
_WRITES: Final = frozenset({"cache_write", "cache_write_1h"})
_MADE: Final[Mapping[str, str]] = {
    "audio": "output_audio",
    "image": "output_image",
    "video": "output_video",
}


class _Settings(Protocol):
    def get(self, name: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """What a request says about its price."""

    model: str | None
    """As its record will say."""
    provider: str | None
    """Who sends the bill."""
    alias: str | None = None
    """What else it is called, should *model* have no price: Azure's deployments have names of their
    own."""
    tiers: tuple[str | None, ...] = (None,)
    """Service tiers in which it may be answered; ``None``: the standard one."""
    impossible: frozenset[str] = frozenset()
    """Kinds of tokens that it certainly does not have."""
    asked: frozenset[str] = frozenset()
    """Kinds of tokens that it has, or asks for."""


def price_terms(
    model: str | None,
    provider: str | None,
    settings: _Settings,
    messages: Iterable[BaseMessage],
    tools: Sequence[Any] = (),
) -> PriceTerms:
    """Read what a request says about its price.

    Only what is certain makes it cheaper: anything that could be charged is taken to be.

    Args:
        model: The model that is asked.
        provider: Who sends the bill.
        settings: What the call and its model say.
        messages: What is sent.
        tools: What is sent with it.

    Example:
        >>> price_terms("gpt-5", "openai", {"service_tier": "flex"}, []).tiers
        ('flex', None)
    """
    messages = list(messages)
    blocks = {kind for message in messages for kind in _block_types(message.content)}
    pictures = bool(blocks & IMAGE_BLOCKS)
    anything = not blocks <= (_WORDS | IMAGE_BLOCKS)
    sound = bool(blocks & {"audio", "input_audio"})
    impossible: set[str] = set()
    if not anything:
        impossible |= _SOUND
    if not anything and not pictures:
        impossible |= _PICTURES
    vendor = vendor_of(provider)
    if vendor in _WRITE_ON_REQUEST:
        marks = _cache_marks(messages, settings, tools)
        if not marks:
            impossible |= _WRITES
        elif not any(map(_lasts_an_hour, marks)):
            impossible.add("cache_write_1h")
    asked = {"input_audio"} if sound else set()
    made = settings.get("modalities") or settings.get("response_modalities")
    if made is not None:
        names = {str(getattr(each, "name", each)).lower() for each in made}
        impossible |= {kind for medium, kind in _MADE.items() if medium not in names}
        asked |= {kind for medium, kind in _MADE.items() if medium in names}
    return PriceTerms(
        model,
        provider,
        tiers=_tiers(vendor, settings),
        impossible=frozenset(impossible),
        asked=frozenset(asked),
    )


def terms_of(request: ModelRequest) -> PriceTerms:
    """Return what a staged request says about its price."""
    facts = request.facts
    terms = price_terms(
        facts.billed_name, facts.billed_by, facts.settings, request.messages, facts.tools
    )
    return replace(terms, alias=facts.model_name)


def with_standard_tier(request: ModelRequest) -> ModelRequest:
    """Ask for the standard service tier, where otherwise a dearer one could come unasked.

    That is so with OpenAI, where the project's settings decide. Only its own API is asked: others
    that speak its protocol may not know the setting. Any other request is returned as it is.
    """
    facts = request.facts
    if (
        facts.billed_by != "openai"
        or "service_tier" not in type(request.model).model_fields
        or _setting(facts.settings, (*_TIER_SETTINGS, "speed")) is not None
        or base_url_in(vars(request.model), facts.provider) not in (None, _OPENAI)
    ):
        return request
    return request.override(kwargs={**request.kwargs, "service_tier": "default"})


class Prices:
    """Prices of a run's calls.

    Args:
        rate_card: By default that of the installed genai-prices.
    """

    def __init__(self, rate_card: RateCard | None = None) -> None:
        self._given = rate_card

    def of(self, terms: PriceTerms) -> PricedCall:
        """Return what a call that begins now costs."""
        return PricedCall(self._given or default_rate_card(), terms, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class PricedCall:
    """What one call can cost, and what it has cost."""

    card: RateCard
    terms: PriceTerms
    at: datetime
    """When it began."""

    def most(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return the most that it can cost in nano-USD; ``None``: no price is known."""
        terms = self.terms
        for name in dict.fromkeys((terms.model, terms.alias)):
            cost = self.card.dearest(
                input_tokens,
                output_tokens,
                name,
                terms.provider,
                self.at,
                terms.tiers,
                impossible=terms.impossible,
                asked=terms.asked,
            )
            if cost is not None:
                return cost
        return None

    def billed(self, usage: Usage, names: AnswerNames, held_nano_usd: int | None) -> int | None:
        """Return what it has cost in nano-USD, as its record says; ``None``: no price is known.

        Where a part of it has no known price, it is what was held for the call, or what the rest
        has cost where that is more: a budget in money never takes what it does not know for free.
        """
        price = self.card.price(
            usage,
            self.terms.model,
            self.terms.provider,
            self.at,
            names.service_tier,
            response_model=names.model,
        )
        if price.unpriced and price.cost_nano_usd is not None:
            return max(price.cost_nano_usd, held_nano_usd or 0)
        return price.cost_nano_usd


# Service tiers

_TIER_SETTINGS: Final = ("service_tier", "serviceTier")
_HOLDERS: Final = (
    "model_kwargs",
    "extra_body",
    "additional_model_request_fields",
    "additionalModelRequestFields",
)
"""Settings that are sent on as they are."""
_ORDINARY: Final = frozenset({"default", "standard", "standard_only", "on_demand"})
_ONLY_ON_REQUEST: Final = frozenset({"anthropic", "aws", "deepseek", "google", "mistral"})
"""Providers with whom a request that asks for no tier is answered in the standard one. With OpenAI
the settings of the project decide (https://platform.openai.com/docs/guides/priority-processing),
and of others it is not known."""


def _tiers(vendor: str | None, settings: _Settings) -> tuple[str | None, ...]:
    """Return the service tiers in which a request may be answered."""
    if _setting(settings, ("speed",)) == "fast":
        return "fast", None
    tier = _setting(settings, _TIER_SETTINGS)
    if isinstance(tier, Mapping):  # Bedrock
        tier = tier.get("type")
    if tier is None or tier == "auto":
        return (None,) if vendor in _ONLY_ON_REQUEST else ("priority", None)
    return (None,) if tier in _ORDINARY else (str(tier), None)


def _setting(settings: _Settings, names: Iterable[str]) -> Any:
    for name in names:
        if (found := settings.get(name)) is not None:
            return found
        for holder in _HOLDERS:
            inner = settings.get(holder)
            if isinstance(inner, Mapping) and inner.get(name) is not None:
                return inner[name]
    return None


_OPENAI: Final = "https://api.openai.com/v1"


# Prompt caches

_WRITE_ON_REQUEST: Final = frozenset({"anthropic", "aws"})
"""Providers that write to the prompt cache only what the request marks. Others decide themselves.
Sources: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching and
https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html (2026-11-29)."""
_MARKS: Final = frozenset({"cache_control", "cachePoint", "cache_point"})
_DEEPEST: Final = 8


def _cache_marks(
    messages: Sequence[BaseMessage], settings: _Settings, tools: Sequence[Any]
) -> list[Any]:
    """Return every mark by which something is to be cached."""
    named = [settings.get(name) for name in (*_MARKS, *_HOLDERS, "tools", "system")]
    found = [mark for mark in named[: len(_MARKS)] if mark]
    for message in messages:
        if not isinstance(message.content, str):
            found += _marks_in(message.content, 0)
        if message.additional_kwargs:
            found += _marks_in(message.additional_kwargs, 0)
    for value in (*named[len(_MARKS) :], *tools):
        found += _marks_in(getattr(value, "extras", value), 0)
    return found


def _marks_in(value: Any, depth: int) -> list[Any]:
    """Return the marks inside of plain data; data that is nested too deep counts as one."""
    if isinstance(value, str | bytes | int | float | None):
        return []
    if depth > _DEEPEST:
        return [True]
    if isinstance(value, Mapping):
        own = [inner for key, inner in value.items() if key in _MARKS and inner]
        rest = (inner for key, inner in value.items() if key not in _MARKS)
        return own + [mark for inner in rest for mark in _marks_in(inner, depth + 1)]
    if isinstance(value, list | tuple):
        return [mark for inner in value for mark in _marks_in(inner, depth + 1)]
    return []


def _lasts_an_hour(mark: Any) -> bool:
    """Whether a mark asks for more than five minutes, or might."""
    return not isinstance(mark, Mapping) or mark.get("ttl", "5m") != "5m"


# Media

_WORDS: Final = frozenset(
    {
        *("text", "input_text", "output_text", "reasoning", "thinking", "redacted_thinking"),
        *("tool_use", "tool_call", "tool_result", "function_call", "invalid_tool_call"),
        *("refusal", "server_tool_use", "server_tool_call"),
    }
)
"""Types of content blocks that hold no media."""


def _block_types(content: Any) -> Iterable[str]:
    """Yield the types of blocks, those inside of a tool's result included."""
    if isinstance(content, str):
        return
    for block in content or ():
        if not isinstance(block, Mapping):
            continue
        kind = str(block.get("type", "text" if "text" in block else "unknown"))
        yield kind
        if isinstance(block.get("content"), list):
            yield from _block_types(block["content"])
