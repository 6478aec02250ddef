"""Tokens of one model call.

The arithmetic follows LangChain's ``UsageMetadata``, which is also that of OpenTelemetry's GenAI
conventions: ``input_tokens`` and ``output_tokens`` are totals; cached, media and reasoning tokens
are parts of them and are never added on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from langchain_tokenopt.core.usage_numbers import (
    ABSURD_TOKENS,
    ReportedNumbers,
    contradictions,
    made_consistent,
    numbers_in,
)

__all__ = ["TOKEN_COUNTS", "Usage", "UsageReport", "judged", "read_report"]


@dataclass(frozen=True, slots=True, repr=False)
class Usage:
    """Tokens of one model call, as LangChain counts them.

    :func:`read_report` makes numbers that can be true of what a provider reports. Of others,
    :meth:`flaws` says what is wrong with them.

    Example:
        >>> Usage.from_metadata({"input_tokens": 9, "output_tokens": 2, "total_tokens": 11})
        Usage(input_tokens=9, output_tokens=2)
    """

    input_tokens: int = 0
    """Everything the model read, cached tokens included."""
    output_tokens: int = 0
    """Everything the model wrote, reasoning included."""
    cache_read_tokens: int = 0
    """Part of the input that the provider took from its prompt cache."""
    cache_write_tokens: int = 0
    """Part of the input that the provider wrote to its prompt cache."""
    cache_write_1h_tokens: int = 0
    """Part of ``cache_write_tokens`` kept for an hour (Anthropic charges it higher)."""
    reasoning_tokens: int = 0
    """Part of the output that was thinking."""
    input_audio_tokens: int = 0
    """Part of the input that was audio."""
    output_audio_tokens: int = 0
    """Part of the output that was audio."""
    input_image_tokens: int = 0
    """Part of the input that was images, where the provider says so."""
    output_image_tokens: int = 0
    """Part of the output that was images."""
    input_video_tokens: int = 0
    """Part of the input that was video, where the provider says so."""
    output_video_tokens: int = 0
    """Part of the output that was video."""

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Usage:
        """Read LangChain's ``UsageMetadata``, or what a provider itself has sent.

        As :func:`read_report` does; what the report does not say counts as 0.
        """
        report = read_report(metadata)
        return cls() if report is None else report.usage

    def flaws(self) -> tuple[str, ...]:
        """Say what cannot be true about these numbers; empty when all is well."""
        counts = {name.removesuffix("_tokens"): getattr(self, name) for name in TOKEN_COUNTS}
        found = [
            f"{name}_tokens is negative ({count:,})" for name, count in counts.items() if count < 0
        ]
        found += contradictions(counts, self.input_tokens, self.output_tokens)
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            found.append(
                f"cache_write_1h_tokens ({self.cache_write_1h_tokens:,}) exceed "
                f"cache_write_tokens ({self.cache_write_tokens:,})"
            )
        if max(self.input_tokens, self.output_tokens) > ABSURD_TOKENS:
            found.append(
                f"{max(self.input_tokens, self.output_tokens):,} tokens in one call "
                f"are more than any model takes ({ABSURD_TOKENS:,})"
            )
        return tuple(found)

    def __repr__(self) -> str:
        told = ((f.name, getattr(self, f.name)) for f in fields(self))
        return f"Usage({', '.join(f'{name}={value}' for name, value in told if value)})"

    def __add__(self, other: Usage) -> Usage:
        """Sum two usages field by field."""
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


TOKEN_COUNTS: Final = tuple(field.name for field in fields(Usage))
"""Names of the counts of a usage, in order."""

_FIELD_OF: Final = {name.removesuffix("_tokens"): name for name in TOKEN_COUNTS}


class UsageReport(NamedTuple):
    """What a provider says that a call has used, as far as it can be true."""

    usage: Usage
    """A side that the report does not tell is 0."""
    flaws: tuple[str, ...] = ()
    """What cannot be true about the report, in the words of :meth:`Usage.flaws`."""
    is_repaired: bool = False
    """True where the numbers contradict each other, and others were put in the place of some."""
    has_input: bool = True
    """False where the report does not tell the input, or not as a number that can be true."""
    has_output: bool = True
    undivided_tokens: int = 0
    """A total of which the report does not tell what is input and what output."""


def read_report(report: Any) -> UsageReport | None:
    """Read one usage report, in any form; ``None`` where it tells nothing.

    The names and rules are those of :mod:`langchain_tokenopt.core.usage_numbers`.

    Example:
        >>> read_report({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}).usage
        Usage(input_tokens=9, output_tokens=2)
        >>> report = read_report({"input_tokens": 9, "output_tokens": -2, "total_tokens": 7})
        >>> report.flaws, report.has_output
        (('output_tokens is negative (-2)',), False)
    """
    if type(report) is dict and not (
        report.get("input_token_details") or report.get("output_token_details")
    ):
        read, written = report.get("input_tokens"), report.get("output_tokens")
        if (
            type(read) is int
            and type(written) is int
            and 0 < read <= ABSURD_TOKENS
            and 0 < written <= ABSURD_TOKENS
            and report.get("total_tokens") == read + written
            and report.keys() <= _PLAIN_FIELDS
        ):
            return UsageReport(Usage(read, written))
    numbers = numbers_in(report)
    return None if numbers is None else judged(numbers)


_PLAIN_FIELDS: Final = {
    *("input_tokens", "output_tokens", "total_tokens"),
    *("input_token_details", "output_token_details"),
}
"""Those of LangChain's ``UsageMetadata``."""


def judged(numbers: ReportedNumbers) -> UsageReport:
    """Return what is believed of *numbers*."""
    counts, flaws, is_repaired = made_consistent(numbers)
    undivided = counts.pop("total", 0)
    usage = Usage(**{_FIELD_OF[name]: n for name, n in counts.items() if n and name in _FIELD_OF})
    return UsageReport(usage, flaws, is_repaired, "input" in counts, "output" in counts, undivided)
