"""Whether a step pays: what a provider charges for a prefix that it knows, and one that changed.

Providers keep the beginning of a prompt. Where a later prompt begins with the same bytes, these
cost a tenth to a half; where it was changed, everything behind the change is charged anew. To
remove D tokens so that S tokens behind them are written again costs (w - r) S, and saves r D with
each further call: it pays after n* = (w - r) S / (r D) calls.

When a step pays follows from a rule that needs no forecast: as soon as what the removable tokens
have cost since the last step is as much as the step. For one step, nobody who knows how the
conversation ends pays less than half of that (Karlin et al., Competitive Snoopy Caching,
Algorithmica 3, 1988). It is taken only from what was saved (:mod:`~langchain_tokenopt.context
.worth`): no call makes the conversation dearer than as it came, so it may end at any time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_tokenopt.core.argument_checks import check_amount, did_you_mean, shown
from langchain_tokenopt.pricing.rate_card import default_rate_card

if TYPE_CHECKING:
    from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["PROFILES", "Horizon", "PriceProfile", "profile_by_name", "profile_named", "profile_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceProfile:
    """What tokens of the input cost, in units of the model's plain input price.

    Example:
        >>> price = PriceProfile(write=1.25, read=0.1)
        >>> price.break_even(rewritten=1_000, removed=1_000)
        11.5
    """

    write: float = 1.0
    """What was not known to the provider before."""
    read: float = 1.0
    """What it knows from the beginning of an earlier prompt; 1: it keeps nothing."""
    min_tokens: int = 1_024
    """The shortest prompt of which a provider keeps the beginning."""
    lifetime_seconds: float = 300.0
    """How long it is kept after it was read or written last."""

    def __post_init__(self) -> None:
        for name in ("write", "read", "min_tokens", "lifetime_seconds"):
            check_amount(name, getattr(self, name))

    def charge(self, whole: float, known: float) -> float:
        """Return what a prompt costs that begins with so many known tokens.

        Example:
            >>> PriceProfile(write=1.25, read=0.1).charge(3_000, known=2_000)
            1450.0
        """
        if whole < self.min_tokens:
            return whole  # of so short a prompt nothing is kept
        known = known if known >= self.min_tokens else 0.0
        return self.read * known + self.write * (whole - known)

    def rewriting(self, tokens: float) -> float:
        """Return what it costs that so many known tokens are not known any more."""
        return max(0.0, self.write - self.read) * max(0.0, tokens)

    def break_even(self, rewritten: float, removed: float) -> float:
        """Return the further calls after which a step has paid for itself."""
        saved = self.read * removed
        return self.rewriting(rewritten) / saved if saved > 0 else math.inf


PROFILES: Final[Mapping[str, PriceProfile]] = {
    "anthropic": PriceProfile(write=1.25, read=0.1),
    "openai": PriceProfile(read=0.5),
    "gemini": PriceProfile(read=0.25, min_tokens=2_048),
    "none": PriceProfile(),
}
"""By name, for who does not want the price list's own numbers.

Sources: https://docs.claude.com/en/docs/build-with-claude/prompt-caching,
https://platform.openai.com/docs/guides/prompt-caching (gpt-4o; later models read at a tenth or a
quarter), https://ai.google.dev/gemini-api/docs/caching (2026-11-30).
"""


def profile_named(name: object) -> PriceProfile | None:
    """Return the profile that a user asks for; ``None``: that of the model that is called.

    Raises:
        ValueError: There is no such profile.
    """
    if isinstance(name, PriceProfile):
        return name
    if name == "auto":
        return None
    if isinstance(name, str) and name in PROFILES:
        return PROFILES[name]
    raise ValueError(
        f"price_profile is 'auto', {', '.join(map(repr, PROFILES))} or a PriceProfile(...); got "
        f"{shown(name)}.{did_you_mean(name, PROFILES)}"
    )


def profile_of(request: ModelRequest) -> PriceProfile:
    """Return what the model of a request charges, by the price list.

    Anthropic keeps only what a ``cache_control`` mark asks it to: without one nothing is known
    beforehand. A model whose price nobody knows is taken for one that reads at half of the price.
    """
    facts = request.facts
    if facts.provider == "anthropic" and not _has_marks(request):
        return PROFILES["none"]
    return profile_by_name(facts.billed_name, facts.billed_by)


def profile_by_name(model: str, provider: str | None = None) -> PriceProfile:
    """Return what a model charges, by the price list.

    Example:
        >>> profile_by_name("claude-sonnet-4-5").write
        1.25
    """
    rates = default_rate_card().rates(model, provider)
    if rates is None or not rates.input:
        return PROFILES["openai"]
    return PriceProfile(
        write=(rates.rate_of("cache_write") or rates.input) / rates.input,
        read=(rates.rate_of("cache_read") or rates.input) / rates.input,
        min_tokens=PROFILES["gemini" if "gemini" in model else "openai"].min_tokens,
    )


_MARK: Final = "cache_control"


def _has_marks(request: ModelRequest) -> bool:
    if _MARK in request.kwargs or any(_is_marked(tool) for tool in request.tools):
        return True
    return any(
        _is_marked(block)
        for message in request.messages
        if isinstance(message.content, list)
        for block in message.content
    )


def _is_marked(block: Any) -> bool:
    return isinstance(block, dict) and _MARK in block


_SURE: Final = 0.9
"""Share of conversations that must go on for so long: a step too early costs money, one too late
only what it would have saved."""
_FEWEST: Final = 20
"""Calls at the same point of conversations from which what was seen decides alone."""
_MOST: Final = 512


class Horizon:
    """How many more calls nine of ten conversations have, learned by agent.

    Where nothing is known, the law of Lindy says it: of conversations that have had n calls, nine
    of ten have a ninth of n more.

    Example:
        >>> horizon = Horizon()
        >>> horizon.expected("support", 18)
        2.0
        >>> for _ in range(50):
        ...     for calls in range(24):
        ...         horizon.saw("support", calls)
        >>> horizon.expected("support", 18)
        5.0
    """

    def __init__(self) -> None:
        self._reached: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def saw(self, agent: str, calls: int) -> None:
        """Take note of a call that has *calls* before it in its conversation."""
        with self._lock:
            reached = self._reached.setdefault(agent, [])
            at = min(calls, _MOST)
            reached.extend([0] * (at + 1 - len(reached)))
            reached[at] += 1

    def expected(self, agent: str, calls: int) -> float:
        """Return the calls that will almost surely follow one that has *calls* before it."""
        prior = calls * (1 - _SURE) / _SURE
        reached = self._reached.get(agent, [])
        if calls >= len(reached) or reached[calls] < 1:
            return round(prior, 9)
        here, later = reached[calls], reached[calls + 1 :]
        sure = next((n for n, seen in enumerate(later) if seen < _SURE * here), len(later))
        weight = min(1.0, here / _FEWEST)
        return round(weight * sure + (1 - weight) * prior, 9)
