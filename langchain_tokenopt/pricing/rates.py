"""What one model charges for each kind of token, and what a call costs at these rates."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.money import (
    HALF_NANO_USD,
    PER_MILLION,
    UNITS_PER_NANO_USD,
    UNITS_PER_USD,
    plain_decimal,
)

__all__ = ["INPUT_KINDS", "OUTPUT_KINDS", "TOKEN_RATES", "Rates"]

_INSTEAD: Final[Mapping[str, tuple[str, ...]]] = {
    "input": (),
    "cache_read": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "input_audio": ("input",),
    "cache_audio_read": ("cache_read", "input_audio", "input"),
    "input_image": ("input",),
    "cache_image_read": ("cache_read", "input_image", "input"),
    "input_video": ("input",),
    "output": (),
    "reasoning": ("output",),
    "output_audio": ("output",),
    "output_image": ("output",),
    "output_video": ("output",),
}
"""Kinds of tokens, and at which other rates those are charged that have none of their own."""

INPUT_KINDS: Final = tuple(
    kind for kind in _INSTEAD if kind == "input" or "input" in _INSTEAD[kind]
)
OUTPUT_KINDS: Final = tuple(kind for kind in _INSTEAD if kind not in INPUT_KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one model charges, at one time, in one service tier.

    Every rate is an integer in 10**-24 US dollars per token (dollars per million times 10**18).
    ``None`` means that the provider does not charge these tokens apart: they cost what the total
    costs that they are part of.

    Example:
        >>> from langchain_tokenopt.core.usage import Usage
        >>> from langchain_tokenopt.pricing.money import format_usd
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
    input_image: int | None = None
    output_image: int | None = None
    cache_image_read: int | None = None
    """Images read from the prompt cache."""
    input_video: int | None = None
    output_video: int | None = None
    reasoning: int | None = None
    request: int = 0
    """For each request, whatever its length; in 10**-24 US dollars."""
    unpriced: tuple[str, ...] = ()
    """Kinds of tokens that the provider charges apart, at a rate that is not known: what they cost
    is in no sum. Every one of them is ``None``."""
    above: tuple[tuple[int, Rates], ...] = ()
    """Long-context rates ``(start, rates)``, ascending: a request with more than *start* input
    tokens is charged at *rates* as a whole, not only for what exceeds *start*."""

    @classmethod
    def from_usd_per_million(
        cls,
        *,
        above: Mapping[int, Rates] | None = None,
        request: Decimal | str | int = 0,
        unpriced: Collection[str] = (),
        **prices: Decimal | str | int | None,
    ) -> Rates:
        """Make rates from US dollars per million tokens; *request* is dollars per request.

        A price with more than 18 decimals is rounded to 18, half to even.
        """
        rates: dict[str, Any] = {
            name: None if price is None else round(Fraction(price) * PER_MILLION)
            for name, price in prices.items()
        }
        rates["request"] = round(Fraction(request) * UNITS_PER_USD)
        rates["above"] = tuple(sorted((above or {}).items(), key=lambda tier: tier[0]))
        return cls(**rates, unpriced=tuple(unpriced))

    def usd_per_million(self) -> dict[str, Decimal]:
        """Return the prices in US dollars per million tokens, without those that do not exist.

        Example:
            >>> Rates.from_usd_per_million(input="0.25", output=2).usd_per_million()
            {'input': Decimal('0.25'), 'output': Decimal('2')}
        """
        return {
            name: plain_decimal(rate)
            for name in TOKEN_RATES
            if (rate := getattr(self, name)) is not None
        }

    def cost(self, usage: Usage) -> int:
        """Return what *usage* costs in nano-USD (billionths of a dollar), rounded half up once.

        It is the sum of :meth:`lines`, without those that have no known rate, and never negative.
        """
        if usage.total_tokens == usage.input_tokens + usage.output_tokens and not (
            usage.cache_read_tokens
            or usage.cache_write_tokens
            or usage.cache_write_1h_tokens
            or usage.reasoning_tokens
            or usage.input_audio_tokens
            or usage.output_audio_tokens
            or usage.input_image_tokens
            or usage.output_image_tokens
            or usage.input_video_tokens
            or usage.output_video_tokens
        ):  # the quick way to the same sum
            rates = self.at(usage.input_tokens) if self.above else self
            units = max(usage.input_tokens, 0) * rates.input + rates.request
            units += max(usage.output_tokens, 0) * rates.output
        else:
            units = sum(tokens * (rate or 0) for _, tokens, rate in self.lines(usage))
        return (units + HALF_NANO_USD) // UNITS_PER_NANO_USD

    def input_cost(self, usage: Usage) -> int:
        """Return the part of :meth:`cost` that is charged for the input, in nano-USD."""
        units = sum(
            tokens * (rate or 0)
            for kind, tokens, rate in self.lines(usage)
            if kind.startswith(("input", "cache"))
        )
        return max(0, units) // UNITS_PER_NANO_USD

    def lines(self, usage: Usage) -> Iterator[tuple[str, int, int | None]]:
        """Yield the parts of *usage* that are charged: kind, tokens, and rate.

        No token is in two of them. The rate is that of the kind, or of what it is part of, in the
        long-context tier of the whole request; ``None``: not known. The last line is the price per
        request, where there is one.

        ``Usage`` does not say how much of what was read from the cache was audio or images; it is
        taken to be as little as the numbers allow. Where they cannot be true (more cached tokens
        than input), the parts are charged as they are and the rest as 0: that is the safe side,
        and ``Usage.flaws`` tells.
        """
        rates = self.at(usage.input_tokens) if self.above else self
        for kind, tokens in _split(usage):
            if tokens > 0:
                yield kind, tokens, rates.rate_of(kind)
        if rates.request:
            yield "request", 1, rates.request

    def rate_of(self, kind: str) -> int | None:
        """Return what a token of *kind* costs: its own rate, else that of what it is part of.

        ``None``: it is charged apart, at a rate that is not known.
        """
        rate: int | None = getattr(self, kind)
        if rate is not None or kind in self.unpriced:
            return rate
        return next(
            (rate for name in _INSTEAD[kind] if (rate := getattr(self, name)) is not None), None
        )

    def unpriced_in(self, usage: Usage) -> tuple[str, ...]:
        """Name the parts of *usage* whose rate is not known, such as ``"output audio"``."""
        if not self.unpriced:
            return ()
        missing = (kind for kind, _, rate in self.lines(usage) if rate is None)
        return tuple(kind.replace("_", " ") for kind in missing)

    def most(
        self,
        input_tokens: int,
        output_tokens: int,
        impossible: Collection[str] = (),
        asked: Collection[str] = (),
    ) -> int | None:
        """Return the most that a request can cost, in nano-USD, whatever its tokens turn out to be.

        Args:
            input_tokens: Most that the provider may count.
            output_tokens: Most that it may write.
            impossible: Kinds of tokens that this request certainly does not have.
            asked: Kinds that it has, or asks for.

        Returns:
            An upper bound of :meth:`cost`, in every long-context tier that the input can reach;
            ``None`` if a kind that was asked for has no known rate.
        """
        if any(kind in self.unpriced for kind in asked):
            return None
        dearest = 0
        for start, rates in ((-1, self), *self.above):
            if input_tokens <= start:
                break
            units = rates.request
            for kinds, tokens in ((INPUT_KINDS, input_tokens), (OUTPUT_KINDS, output_tokens)):
                each = (rates.rate_of(kind) for kind in kinds if kind not in impossible)
                units += tokens * max(rate or 0 for rate in each)
            dearest = max(dearest, units)
        return -(-dearest // UNITS_PER_NANO_USD)

    def at(self, input_tokens: int) -> Rates:
        """Return the rates of the highest long-context tier that *input_tokens* reaches."""
        for start, rates in reversed(self.above):
            if input_tokens > start:
                return rates
        return self


def _split(usage: Usage) -> Iterator[tuple[str, int]]:
    """Yield how many tokens of each kind there are; some may be 0, or less if *usage* is untrue."""
    read, hour = max(usage.cache_read_tokens, 0), max(usage.cache_write_1h_tokens, 0)
    written = max(usage.cache_write_tokens, hour)
    audio, image, video = (
        max(tokens, 0)
        for tokens in (
            usage.input_audio_tokens,
            usage.input_image_tokens,
            usage.input_video_tokens,
        )
    )
    rest = usage.input_tokens - read - written - audio - image - video
    shared = max(0, -rest)  # counted as cached and as a medium
    cached_audio = min(audio, read, shared)
    cached_image = min(image, read - cached_audio, shared - cached_audio)
    cached_video = min(
        video, read - cached_audio - cached_image, shared - cached_audio - cached_image
    )
    yield "input", rest
    yield "cache_read", read - cached_audio - cached_image
    yield "cache_write", written - hour
    yield "cache_write_1h", hour
    yield "input_audio", audio - cached_audio
    yield "cache_audio_read", cached_audio
    yield "input_image", image - cached_image
    yield "cache_image_read", cached_image
    yield "input_video", video - cached_video
    thought, sound, drawn, filmed = (
        max(tokens, 0)
        for tokens in (
            usage.reasoning_tokens,
            usage.output_audio_tokens,
            usage.output_image_tokens,
            usage.output_video_tokens,
        )
    )
    media = sound + drawn + filmed
    rest = usage.output_tokens - thought - media
    yield "output", rest
    yield "reasoning", thought - min(max(0, -rest), thought, media)  # not counted twice
    yield "output_audio", sound
    yield "output_image", drawn
    yield "output_video", filmed


TOKEN_RATES = tuple(f.name for f in fields(Rates) if f.name not in ("request", "unpriced", "above"))
"""Names of the rates that are charged per token."""
