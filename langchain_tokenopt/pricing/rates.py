"""What one model charges for each kind of token, and what a call costs at these rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.money import (
    HALF_NANO_USD,
    PER_MILLION,
    UNITS_PER_NANO_USD,
    UNITS_PER_USD,
    plain_decimal,
)

__all__ = ["Rates"]


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
            name: None if price is None else round(Fraction(price) * PER_MILLION)
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
            name: plain_decimal(rate)
            for name in TOKEN_RATES
            if (rate := getattr(self, name)) is not None
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
        return (units + HALF_NANO_USD) // UNITS_PER_NANO_USD

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
