"""Four made-up weeks of a small company: a ledger to ask before there is one of your own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import (
    CallRecord,
    OfferedTool,
    Saving,
    ToolChoice,
    ToolResult,
)
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.rate_card import RateCard

__all__ = ["sample_calls"]

_RUNS: Final = 420
_LENGTH: Final = timedelta(days=28)
_USERS: Final = {"ada": 12, "ben": 6, "cleo": 3, "dan": 1}
_TAGS: Final = {"digest": 6, "chat": 3, "search": 2}
_AGENTS: Final = (
    ("planner", "gpt-5.4-mini", "openai", 700, 150),
    ("researcher", "gpt-5.4-mini", "openai", 5_200, 420),
    ("researcher", "gpt-5.4-mini", "openai", 7_400, 380),
    ("writer", "claude-sonnet-4-5", "anthropic", 3_800, 900),
    ("reviewer", "gpt-4o", "openai", 2_100, 260),
)
"""Who is asked in a run, in this order; of which model; input and output tokens, about."""
_PRICES: Final = {
    "models": {
        "gpt-5.4-mini": {"input": "0.75", "output": "4.50", "cache_read": "0.075"},
        "gpt-4o": {"input": "2.50", "output": "10.00", "cache_read": "1.25"},
        "claude-sonnet-4-5": {"input": "3.00", "output": "15.00", "cache_read": "0.30"},
    }
}
"""Of their own, so that the sums are the same with every release of genai-prices."""
_OFFERED: Final = (
    OfferedTool("search_web", 210),
    OfferedTool("read_page", 180),
    OfferedTool("get_weather", 240),  # which nobody ever needs
)


def sample_calls(*, until: datetime | None = None) -> Iterator[CallRecord]:
    """Yield the calls of four weeks, always the same but for the time at which they end.

    Args:
        until: Their end; by default now.

    Example:
        >>> calls = list(sample_calls())
        >>> len(calls), sorted({call.attribution.agent for call in calls})
        (2100, ['planner', 'researcher', 'reviewer', 'writer'])
    """
    chance, card = random.Random(20), RateCard(_PRICES)
    until = until or datetime.now(UTC)
    for number in range(_RUNS):
        began = until - _LENGTH + _LENGTH * (number + 0.5) / _RUNS
        run = str(UUID(int=chance.getrandbits(128), version=4))
        user, tag = _one_of(chance, _USERS), _one_of(chance, _TAGS)
        thread = f"{user}-{number // 7}"
        is_known = tag == "chat" and chance.random() < 0.4
        read: tuple[ToolResult, ...] = ()
        for place, (agent, model, provider, about_in, about_out) in enumerate(_AGENTS):
            sent = int(about_in * chance.uniform(0.8, 1.3))
            call = CallRecord(
                run_id=UUID(int=chance.getrandbits(128), version=4),
                model=model,
                provider=provider,
                usage=Usage(
                    sent,
                    int(about_out * chance.uniform(0.7, 1.4)),
                    cache_read_tokens=sent // 3 if provider == "openai" and sent > 3_000 else 0,
                ),
                started_at=began + timedelta(seconds=7 * place),
                duration_seconds=about_out / 90 + chance.random(),
                cost_nano_usd=None,
                attribution=Attribution(
                    agent=agent, node=f"{agent}/model", user=user, thread_id=thread, tag=tag,
                    organization="acme",
                ),
                run=run,
                first_chunk_seconds=chance.uniform(0.3, 0.9),
                rates_version=card.version,
                tool_results=read,
            )  # fmt: skip
            yield _charged(call, card, chance, is_known=is_known and agent == "writer")
            if agent == "researcher":
                tool = "search_web" if place == 1 else "read_page"
                read = (*read, ToolResult(tool, int(sent * 0.3), None))


def _one_of(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices([*weights], [*weights.values()])[0]


def _charged(
    call: CallRecord, card: RateCard, chance: random.Random, *, is_known: bool
) -> CallRecord:
    """Give a call its price, and what stages have done to it."""
    cost = card.price(call.usage, call.model, call.provider, call.started_at).cost_nano_usd
    if is_known:  # answered by a cache
        return replace(
            call, cached=True, cost_nano_usd=0, saved_nano_usd=cost or 0, duration_seconds=0.004,
            first_chunk_seconds=None, stages=("SemanticCache",),
        )  # fmt: skip
    agent, sent, wrote = call.attribution.agent, call.usage.input_tokens, call.usage.output_tokens

    def price(usage: Usage) -> int:
        return card.price(usage, call.model, call.provider, call.started_at).cost_nano_usd or 0

    results = tuple(
        replace(each, cost_nano_usd=price(Usage(each.tokens, 0))) for each in call.tool_results
    )
    call = replace(call, cost_nano_usd=cost, tool_results=results)
    if agent == "researcher":
        cut = int(sent * 0.45)
        saving = _saving("PromptCompressor", call, sent + cut, sent, price(Usage(cut, 0)))
        choice = ToolChoice(
            offered=_OFFERED, left_out=4, tokens_before=1_500, tokens_after=630,
            called=("search_web",) if chance.random() < 0.8 else ("read_page",),
        )  # fmt: skip
        return replace(call, stages=("PromptCompressor",), savings=(saving,), tool_choice=choice)
    if agent == "writer":
        over = int(wrote * 0.2) if chance.random() < 0.3 else 0
        saving = _saving("WordLimit", call, wrote + over, wrote, price(Usage(0, over)), "output")
        return replace(call, stages=("WordLimit",), savings=(saving,))
    if chance.random() < 0.02:
        return replace(call, status="failed")
    return call


def _saving(
    stage: str, call: CallRecord, before: int, after: int, saved: int, side: str = "input"
) -> Saving:
    return Saving(
        stage=stage,
        tokens_before=before,
        tokens_after=after,
        side="output" if side == "output" else "input",
        saved_nano_usd=saved,
        run_id=call.run_id,
        agent=call.attribution.agent,
        model=call.model,
        at=call.started_at,
    )
