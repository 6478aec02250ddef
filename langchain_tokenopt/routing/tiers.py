"""The models of a router, cheapest first, and what each of them can do."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, ToolMessage

from langchain_tokenopt.core.argument_checks import refuse_class, shown
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.media import IMAGE_BLOCKS, MEDIA_BLOCKS
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.money import format_usd
from langchain_tokenopt.pricing.rate_card import default_rate_card
from langchain_tokenopt.request.facts import RequestFacts
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["Needs", "Tier", "needs_of", "tiers_of"]

_SHARE: Final = Usage(1_000, 500)
"""A call by whose price tiers are compared: two thirds of the tokens are read."""
_SURELY_HELD: Final = 4_000
"""Tokens that the window of every chat model holds: the smallest on sale have 4,096."""
_ROOM: Final = 1_024
"""Tokens of the window that are left for an answer."""


@dataclass(frozen=True)
class Tier:
    """One of a router's models."""

    name: str
    model: BaseChatModel
    at: int
    """0: the cheapest."""
    nano_usd: int | None
    """Of a call that reads 1,000 tokens and writes 500; ``None``: no price is known."""
    presumed_window: int | None = None
    """Of a model of which nobody has said it, beside others of which somebody has."""

    @cached_property
    def facts(self) -> RequestFacts:
        """The model's names."""
        return RequestFacts(self.model, (), {}, {})

    @cached_property
    def profile(self) -> Mapping[str, Any]:
        """What the model's integration, or its user, says that it can do."""
        said = getattr(self.model, "profile", None)
        return said if isinstance(said, Mapping) else {}

    @property
    def window(self) -> int | None:
        """Tokens that it can read; ``None``: nobody has said, of any of the models."""
        return _whole(self.profile.get("max_input_tokens")) or self.presumed_window

    @property
    def most_output(self) -> int | None:
        """Tokens that it can write; ``None``: nobody has said."""
        return _whole(self.profile.get("max_output_tokens"))

    @cached_property
    def calls_tools(self) -> bool:
        """Whether tools can be bound to it."""
        binds = type(self.model).bind_tools is not BaseChatModel.bind_tools
        return binds and self.profile.get("tool_calling") is not False

    def lacks(self, needs: Needs) -> str | None:
        """Say what a request needs that the model lacks, or is not known to have; else ``None``."""
        if needs.tools and not self.calls_tools:
            return "tools"
        if needs.forced and self.profile.get("tool_choice") is False:
            return "a choice of the tool"
        if needs.structured and not self.profile.get("structured_output"):
            return "structured output"
        for kind in needs.media:
            if not self.profile.get(kind):
                return kind.replace("_", " ")
        if not self._holds(needs):
            return "a window that is large enough"
        return None

    def _holds(self, needs: Needs) -> bool:
        """Whether the request fits into the window; it is only counted where that is near."""
        window, most = self.window, needs.most_tokens
        if window is None:
            return True
        return most + _ROOM <= window or needs.tokens + min(_ROOM, window // 4) <= window


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


class Needs:
    """What a model must be able to do to answer a request.

    Args:
        request: As it would be sent.
    """

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        facts = request.facts
        form = facts.answer_form
        self.tools = bool(facts.tools) or _has_tool_calls(request.messages)
        self.forced = form.must_call_tool
        self.structured = form.is_structured and not form.must_call_tool
        self.media = media_in(request.messages)

    @cached_property
    def most_tokens(self) -> int:
        """What the request cannot exceed: no tokenizer makes more tokens than there are bytes."""
        texts = (message.content for message in self._request.messages)
        sizes = (len(text if isinstance(text, str) else str(text)) for text in texts)
        return 3 * (sum(sizes) + len(str(self._request.facts.tools or "")))

    @cached_property
    def tokens(self) -> int:
        """What the request has, counted."""
        return self._request.facts.input_tokens.tokens


def needs_of(request: ModelRequest) -> Needs:
    """Return what a model must be able to do to answer *request*."""
    return Needs(request)


def _has_tool_calls(messages: Iterable[BaseMessage]) -> bool:
    return any(isinstance(m, ToolMessage) or getattr(m, "tool_calls", None) for m in messages)


def media_in(messages: Iterable[BaseMessage]) -> Collection[str]:
    """Return the keys of profiles for what stands in messages beside text."""
    found: dict[str, None] = {}
    for message in messages:
        if isinstance(message.content, str):
            continue
        for block in message.content:
            kind = block.get("type") if isinstance(block, Mapping) else None
            if kind in IMAGE_BLOCKS:
                found["image_inputs"] = None
            elif kind in MEDIA_BLOCKS:
                found[_key_of(str(kind), block)] = None
    return tuple(found)


def _key_of(kind: str, block: Any) -> str:
    said = f"{kind} {block.get('mime_type', '')}".lower() if isinstance(block, Mapping) else kind
    for word, key in (
        ("audio", "audio_inputs"),
        ("video", "video_inputs"),
        ("image", "image_inputs"),
    ):
        if word in said:
            return key
    return "text_inputs" if kind == "text-plain" else "pdf_inputs"


# --- made


def tiers_of(models: Any) -> tuple[Tier, ...]:
    """Return the tiers of a router, cheapest first.

    A mapping is sorted by price where all prices are known; a sequence stands as it was given.

    Raises:
        TypeError: They are none, or one of them is no chat model.
        ValueError: There are fewer than two, or two are the same.
    """
    named = _named(models)
    if len(named) < 2:
        raise ValueError(
            f"A ModelRouter needs at least two models to choose among; got {len(named)}. With one, "
            f"call that model: optimize(model, ...)."
        )
    seen: dict[int, str] = {}
    for name, model in named.items():
        _check_model(name, model)
        if seen.setdefault(id(model), name) != name:
            raise ValueError(
                f"The tiers {seen[id(model)]!r} and {name!r} are the same model: there is nothing "
                f"to choose."
            )
    prices = {name: _price_of(model) for name, model in named.items()}
    known = [price for price in prices.values() if price is not None]
    order = list(named)
    if len(known) == len(order) and isinstance(models, Mapping):
        order.sort(key=lambda name: prices[name] or 0)
    elif len(known) == len(order):
        _warn_of_order(order, prices)
    elif known:
        unpriced = ", ".join(repr(name) for name in order if prices[name] is None)
        warnings.warn(
            f"No price is known for {unpriced}: the tiers stand in the order in which they were "
            f"given, {' < '.join(order)}. Add prices in TOKENOPT_PRICES.",
            TokenOptWarning,
            stacklevel=5,
        )
    tiers = [Tier(name, named[name], at, prices[name]) for at, name in enumerate(order)]
    if any(tier.window for tier in tiers):
        tiers = [replace(tier, presumed_window=_SURELY_HELD) for tier in tiers]
    return tuple(tiers)


def _named(models: Any) -> dict[str, Any]:
    refuse_class("a mapping or a list of models", models)
    if isinstance(models, Mapping):
        for name in models:
            if not isinstance(name, str) or not name:
                raise TypeError(f"Tiers have names, such as 'cheap'; got {shown(name)}.")
        return dict(models)
    if isinstance(models, BaseChatModel) or not isinstance(models, Sequence | set | frozenset):
        raise TypeError(
            f"ModelRouter takes a mapping of names to chat models, or a list of models, cheapest "
            f"first; got {shown(models)}."
        )
    if isinstance(models, str):
        raise TypeError(f"ModelRouter takes chat models, not their names; got {models!r}.")
    names = [_own_name(model) for model in models]
    return {
        name if names.count(name) == 1 else f"{name} {at + 1}": model
        for at, (name, model) in enumerate(zip(names, models, strict=True))
    }


def _own_name(model: Any) -> str:
    if not isinstance(model, BaseChatModel):
        return shown(model)
    return RequestFacts(model, (), {}, {}).model_name or type(model).__name__


def _check_model(name: str, model: Any) -> None:
    if isinstance(model, str):
        raise TypeError(
            f"The tier {name!r} needs a chat model, and {model!r} is a name: "
            f"init_chat_model({model!r})."
        )
    refuse_class(f"The tier {name!r}: a chat model", model)
    if not isinstance(model, BaseChatModel):
        raise TypeError(
            f"The tier {name!r} needs a chat model, not {shown(model)}. Bind tools and retries to "
            f"the model that is called: optimize(model, ModelRouter(...)).bind_tools(...)."
        )
    if "_tokenopt_seam" in type(model).__private_attributes__:
        raise TypeError(
            f"The model of the tier {name!r} has stages already, which would act twice. Give it "
            f"without, and the stages beside the router: optimize(model, ModelRouter(...), ...)."
        )


def _price_of(model: BaseChatModel) -> int | None:
    facts = RequestFacts(model, (), {}, {})
    return default_rate_card().price(_SHARE, facts.billed_name, facts.billed_by).cost_nano_usd


def _warn_of_order(order: Sequence[str], prices: Mapping[str, int | None]) -> None:
    for first, second in pairwise(order):
        if (prices[first] or 0) > (prices[second] or 0):
            warnings.warn(
                f"The tiers are to be given cheapest first, but a call of {first!r} costs "
                f"{format_usd(prices[first] or 0)} and one of {second!r} "
                f"{format_usd(prices[second] or 0)}. They stand as given.",
                TokenOptWarning,
                stacklevel=6,
            )
            return
