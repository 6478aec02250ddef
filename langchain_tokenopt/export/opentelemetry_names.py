"""What OpenTelemetry calls what we record: one table, in its old names and in its new ones.

All of these conventions are in development. *Old* are those up to semantic-conventions v1.36.0
(2025-07) and, for metrics, v1.41.0, which most back ends read; *new* are those of the repository
that they have moved to, as of 2026-11.

Source:
    https://github.com/open-telemetry/semantic-conventions/tree/v1.36.0/docs/gen-ai,
    https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md,
    gen-ai-token-metrics.md and non-normative/migration.md (read 2026-11-30)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

__all__ = [
    "ATTRIBUTES",
    "DURATION",
    "OWN_METRICS",
    "PROVIDERS",
    "TOKEN_BUCKETS",
    "TOKEN_COUNTERS",
    "TOKEN_HISTOGRAM",
    "TOKEN_TYPE",
    "Names",
    "OldAndNew",
]

Names = Literal["both", "old", "new"]
"""Under which names telemetry is sent."""


class OldAndNew(NamedTuple):
    """The names of one thing; ``None`` where there is none."""

    old: str | None
    new: str | None

    def chosen(self, names: Names) -> tuple[str, ...]:
        """Return the names to send, each once.

        Example:
            >>> OldAndNew("gen_ai.system", "gen_ai.provider.name").chosen("new")
            ('gen_ai.provider.name',)
        """
        wanted = {"old": [self.old], "new": [self.new]}.get(names, [self.old, self.new])
        return tuple(dict.fromkeys(name for name in wanted if name))


def _always(name: str) -> OldAndNew:
    return OldAndNew(name, name)


ATTRIBUTES: Final[Mapping[str, OldAndNew]] = {
    "operation": _always("gen_ai.operation.name"),
    "provider": OldAndNew("gen_ai.system", "gen_ai.provider.name"),
    "model": _always("gen_ai.request.model"),
    "response_model": _always("gen_ai.response.model"),
    "attribution.agent": _always("gen_ai.agent.name"),
    "attribution.thread_id": _always("gen_ai.conversation.id"),
    "first_chunk_seconds": OldAndNew(None, "gen_ai.response.time_to_first_chunk"),
    "usage.input_tokens": OldAndNew("gen_ai.usage.prompt_tokens", "gen_ai.usage.input_tokens"),
    "usage.output_tokens": OldAndNew(
        "gen_ai.usage.completion_tokens", "gen_ai.usage.output_tokens"
    ),
    "usage.cache_read_tokens": _always("gen_ai.usage.cache_read.input_tokens"),
    "usage.cache_write_tokens": OldAndNew(
        "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"
    ),
    "usage.reasoning_tokens": _always("gen_ai.usage.reasoning.output_tokens"),
    "usage.input_audio_tokens": OldAndNew(None, "gen_ai.usage.audio.input_tokens"),
    "usage.output_audio_tokens": OldAndNew(None, "gen_ai.usage.audio.output_tokens"),
    "usage.input_image_tokens": OldAndNew(None, "gen_ai.usage.image.input_tokens"),
    "usage.output_image_tokens": OldAndNew(None, "gen_ai.usage.image.output_tokens"),
    "error": _always("error.type"),
    # Nobody has agreed on names for these.
    "cost_usd": _always("tokenopt.cost_usd"),
    "saved_tokens": _always("tokenopt.saved_tokens"),
    "cached": _always("tokenopt.cached"),
    "source": _always("tokenopt.usage_source"),
    "run_id": _always("tokenopt.run_id"),
    "run": _always("tokenopt.run"),
    "attribution.node": _always("tokenopt.node"),
    "attribution.tool": _always("tokenopt.tool"),
    "attribution.tag": _always("tokenopt.tag"),
    "attribution.organization": _always("tokenopt.organization"),
    "stages": _always("tokenopt.stages"),
}
"""Field of a call (or what is made of several) to the attribute of its span.

The user is not among them: it is a person.
"""

TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"

TOKEN_HISTOGRAM: Final = OldAndNew("gen_ai.client.token.usage", None)
"""Of the old names, by ``gen_ai.token.type``; replaced by the counters."""

TOKEN_COUNTERS: Final[Mapping[str, OldAndNew]] = {
    f"usage.{field}_tokens": OldAndNew(None, f"gen_ai.client.inference.usage.{name}")
    for field, name in (
        ("input", "input_tokens"),
        ("output", "output_tokens"),
        ("cache_read", "cache_read.input_tokens"),
        ("cache_write", "cache_write.input_tokens"),
        ("reasoning", "reasoning.output_tokens"),
    )
}

DURATION: Final = OldAndNew("gen_ai.client.operation.duration", "gen_ai.client.inference.duration")

OWN_METRICS: Final[Mapping[str, tuple[str, str, str]]] = {
    "cost": ("tokenopt.cost", "USD", "What calls cost, where a price is known."),
    "unpriced": ("tokenopt.unpriced_calls", "{call}", "Calls with a part of unknown price."),
    "saved_tokens": ("tokenopt.saved_tokens", "{token}", "What stages and caches saved, net."),
    "saved_usd": ("tokenopt.saved_cost", "USD", "The same in money, where a price is known."),
    "events": ("tokenopt.budget.events", "{event}", "What budgets did, by kind."),
    "used": ("tokenopt.budget.used_ratio", "1", "Share spent or held, when told of last."),
}
"""Name, unit and description of what has no convention."""

TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
"""1 to 67,108,864, as the conventions advise."""

DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""0.01 s to 81.92 s, as the conventions advise."""

PROVIDERS: Final[Mapping[str, str]] = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gen_ai",
    "ibm": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "x-ai": "x_ai",
}
"""Providers that the conventions call otherwise; the others keep their names."""
