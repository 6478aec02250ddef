"""Tokens of one model call.

The arithmetic follows LangChain's ``UsageMetadata``, which is also that of OpenTelemetry's GenAI
conventions: ``input_tokens`` and ``output_tokens`` are totals; cached, media and reasoning tokens
are parts of them and are never added on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

__all__ = ["TOKEN_COUNTS", "Usage"]


@dataclass(frozen=True, slots=True, repr=False)
class Usage:
    """Tokens of one model call, as LangChain counts them.

    The numbers are kept as the provider gave them, also when they cannot be true;
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
        """Read LangChain's ``UsageMetadata``; keys that are absent count as 0.

        langchain-anthropic reports cache writes either as ``cache_creation`` or split by
        lifetime as ``ephemeral_5m_input_tokens`` and ``ephemeral_1h_input_tokens``; where both
        stand, the larger of the two views is the number of tokens written.
        langchain-openai prefixes details with the service tier (``priority_cache_read``).
        """
        read = metadata.get("input_token_details") or _NOTHING
        wrote = metadata.get("output_token_details") or _NOTHING
        if not read and not wrote:
            return cls(metadata.get("input_tokens") or 0, metadata.get("output_tokens") or 0)
        hour = read.get("ephemeral_1h_input_tokens") or 0
        split = (read.get("ephemeral_5m_input_tokens") or 0) + hour
        return cls(
            input_tokens=metadata.get("input_tokens") or 0,
            output_tokens=metadata.get("output_tokens") or 0,
            cache_read_tokens=_detail(read, "cache_read"),
            cache_write_tokens=max(read.get("cache_creation") or 0, split),
            cache_write_1h_tokens=hour,
            reasoning_tokens=_detail(wrote, "reasoning"),
            input_audio_tokens=read.get("audio") or 0,
            output_audio_tokens=wrote.get("audio") or 0,
            input_image_tokens=read.get("image") or 0,
            output_image_tokens=wrote.get("image") or 0,
            input_video_tokens=read.get("video") or 0,
            output_video_tokens=wrote.get("video") or 0,
        )

    def flaws(self) -> tuple[str, ...]:
        """Say what cannot be true about these numbers; empty when all is well."""
        if (
            0 <= self.cache_write_1h_tokens <= self.cache_write_tokens
            and self.cache_read_tokens >= 0
            and self.cache_read_tokens + self.cache_write_tokens <= self.input_tokens
            and 0 <= self.reasoning_tokens <= self.output_tokens <= ABSURD_TOKENS
            and 0 <= self.input_audio_tokens <= self.input_tokens <= ABSURD_TOKENS
            and 0 <= self.output_audio_tokens <= self.output_tokens
            and 0 <= self.input_image_tokens <= self.input_tokens
            and 0 <= self.output_image_tokens <= self.output_tokens
            and 0 <= self.input_video_tokens <= self.input_tokens
            and 0 <= self.output_video_tokens <= self.output_tokens
        ):  # nearly always; the rest of this method is for finding the words
            return ()
        found = [
            f"{name} is negative ({value:,})"
            for name, value in ((f.name, getattr(self, f.name)) for f in fields(self))
            if value < 0
        ]
        cached = self.cache_read_tokens + self.cache_write_tokens
        if cached > self.input_tokens:
            found.append(f"cached tokens ({cached:,}) exceed input_tokens ({self.input_tokens:,})")
        if self.reasoning_tokens > self.output_tokens:
            found.append(
                f"reasoning_tokens ({self.reasoning_tokens:,}) exceed "
                f"output_tokens ({self.output_tokens:,})"
            )
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            found.append(
                f"cache_write_1h_tokens ({self.cache_write_1h_tokens:,}) exceed "
                f"cache_write_tokens ({self.cache_write_tokens:,})"
            )
        for side in ("input", "output"):
            whole = getattr(self, f"{side}_tokens")
            for medium in ("audio", "image", "video"):
                part = getattr(self, f"{side}_{medium}_tokens")
                if part > whole:
                    found.append(
                        f"{side}_{medium}_tokens ({part:,}) exceed {side}_tokens ({whole:,})"
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

ABSURD_TOKENS = 20_000_000
"""Above this a count is flagged: twice the largest context window on sale in 2026."""


_NOTHING: Mapping[str, Any] = {}


_SERVICE_TIERS = ("priority", "flex")


def _detail(details: Mapping[str, Any], name: str) -> int:
    """Return a token detail, wherever the service tier put it."""
    value: int = details.get(name) or 0
    for tier in _SERVICE_TIERS:
        value += details.get(f"{tier}_{name}") or 0
    return value
