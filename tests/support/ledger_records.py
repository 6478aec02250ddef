"""Records of a made-up week at a trading desk, for tests and benchmarks of the ledger."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import CallRecord, Saving
from langchain_tokenopt.core.usage import Usage

START = datetime(2026, 11, 2, tzinfo=UTC)

_AGENTS = (
    ("market", "gpt-4o-mini", ("get_prices", "get_indicators")),
    ("news", "gpt-4o-mini", ("search_news",)),
    ("fundamentals", "gpt-4o-mini", ("get_filings", "get_ratios")),
    ("sentiment", "gpt-4o-mini", ()),
    ("bull", "gpt-4o", ()),
    ("bear", "gpt-4o", ()),
    ("manager", "gpt-4o", ()),
    ("trader", "gpt-4o", ()),
    ("risk", "claude-sonnet-4-5", ()),
    ("judge", "claude-sonnet-4-5", ()),
)
_CALLS_PER_RUN = 12
_RUNS_PER_THREAD = 2


def record(**changes: Any) -> CallRecord:
    """Return a plain call; *changes* replace its fields."""
    fields: dict[str, Any] = {
        "run_id": uuid4(),
        "model": "gpt-4o",
        "provider": "openai",
        "usage": Usage(1_000, 200),
        "started_at": START + timedelta(hours=9),
        "duration_seconds": 1.5,
        "cost_nano_usd": 4_500_000,
    }
    return CallRecord(**(fields | changes))


def desk_calls(
    count: int, *, days: float = 30, seed: int = 7, saved_every: int = 10, cached_share: float = 0.1
) -> Iterator[CallRecord]:
    """Yield *count* calls spread evenly over *days*, in runs of twelve calls.

    Every *saved_every*-th call has been shortened by a stage; a share was answered by a cache.
    Ids are made as langchain-core makes them, ordered by time (UUID version 7).
    """
    chance = random.Random(seed)
    step = timedelta(days=days) / max(count, 1)
    run = thread = ""
    user = 0
    for number in range(count):
        at = START + number * step
        if number % _CALLS_PER_RUN == 0:
            run = str(uuid7(at, chance))
            user = int(chance.paretovariate(1.2)) % 500
        if number % (_CALLS_PER_RUN * _RUNS_PER_THREAD) == 0:
            thread = str(UUID(int=chance.getrandbits(128), version=4))
        cached = chance.random() < cached_share
        shortened = not cached and number % saved_every == 0
        yield _desk_call(chance, at, run, thread, user, shortened, cached)


def uuid7(at: datetime, chance: random.Random) -> UUID:
    """Return an id that begins with the time, as langchain-core's do."""
    milliseconds = int(at.timestamp() * 1_000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | chance.getrandbits(60))


def _desk_call(
    chance: random.Random,
    at: datetime,
    run: str,
    thread: str,
    user: int,
    shortened: bool,
    cached: bool,
) -> CallRecord:
    agent, model, tools = chance.choice(_AGENTS)
    tool = chance.choice(tools) if tools and chance.random() < 0.3 else None
    read = int(chance.lognormvariate(7.3, 0.8))
    wrote = int(chance.lognormvariate(5.5, 0.6))
    from_cache = read // 2 if chance.random() < 0.4 else 0
    cost = (read - from_cache) * 2_500 + from_cache * 1_250 + wrote * 10_000
    run_id = uuid7(at, chance)
    saving = Saving(
        stage="PromptCompressor",
        tokens_before=read + 900,
        tokens_after=read,
        saved_nano_usd=900 * 2_500,
        run_id=run_id,
        agent=agent,
        model=model,
        at=at,
        id=UUID(int=chance.getrandbits(128), version=4),
    )
    return CallRecord(
        run_id=run_id,
        model=model,
        provider="anthropic" if model.startswith("claude") else "openai",
        usage=Usage(read, wrote, cache_read_tokens=from_cache),
        started_at=at,
        duration_seconds=round(wrote / 80 + chance.random(), 6),
        cost_nano_usd=0 if cached else cost,
        status="failed" if chance.random() < 0.01 else "ok",
        cached=cached,
        attribution=Attribution(
            agent=agent, node=f"{agent}/model", tool=tool, user=f"user-{user}", thread_id=thread
        ),
        run=run,
        saved_nano_usd=cost if cached else 0,
        first_chunk_seconds=round(chance.random(), 6),
        response_model=f"{model}-2026-08-06",
        stages=("PromptCompressor",) if shortened else ("SemanticCache",) if cached else (),
        savings=(saving,) if shortened else (),
        rates_version="genai-prices 0.2.3",
    )
