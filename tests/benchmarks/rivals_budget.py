"""The schedules of ``bench_budget`` through guards that look at the bill after the call.

Run:     PYTHON -m tests.benchmarks.rivals_budget SCHEDULES
         with a Python that has requirements-rivals-budget.txt; ``bench_budget --rivals PYTHON``
         runs it.
Output:  one JSON object on stdout: per guard, what the provider billed beyond the total.
Rule:    every caller is a task and every call awaits once before the provider bills it; a caller
         that is refused goes on to its next call. Each guard gets the same schedules.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.budget_schedules import Call, Provider, Schedule, draw_schedule

Sender = Callable[[Call], Awaitable[None]]


async def _drive(schedule: Schedule, send: Sender) -> None:
    async def work(calls: tuple[Call, ...]) -> None:
        for call in calls:
            if call.end not in ("refused", "cached"):
                for _ in range(2 if call.end == "retried" else 1):
                    await send(call)
            if call.end == "lost":
                return

    await asyncio.gather(*(work(calls) for calls in schedule.callers))


def checked_after(schedule: Schedule) -> Provider:
    """Add up usage in a callback after each call; refuse when the limit has been reached."""
    provider, spent = Provider(), 0

    async def send(call: Call) -> None:
        nonlocal spent
        if spent >= schedule.total_tokens:
            return
        await asyncio.sleep(0)
        spent += sum(provider.answer(call, call.max_output_tokens))

    asyncio.run(_drive(schedule, send))
    return provider


def usage_limits(schedule: Schedule, *, count_first: bool) -> Provider:
    """pydantic-ai: agents that share one ``RunUsage`` under ``UsageLimits``."""
    from pydantic_ai import Agent
    from pydantic_ai.exceptions import UsageLimitExceeded
    from pydantic_ai.messages import ModelResponse, TextPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.usage import RequestUsage, RunUsage, UsageLimits

    provider, shared = Provider(), RunUsage()
    limits = UsageLimits(
        total_tokens_limit=schedule.total_tokens,
        request_limit=None,
        count_tokens_before_request=count_first,
    )

    async def send(call: Call) -> None:
        async def answer(messages: Any, info: Any) -> ModelResponse:
            await asyncio.sleep(0)
            read, written = provider.answer(call, call.max_output_tokens)
            return ModelResponse(
                parts=[TextPart("x")],
                usage=RequestUsage(input_tokens=read, output_tokens=written),
            )

        class Counting(FunctionModel):
            async def count_tokens(self, *_: Any) -> RequestUsage:
                return RequestUsage(input_tokens=call.input_tokens)

        try:
            await Agent(Counting(answer)).run("x", usage=shared, usage_limits=limits)
        except UsageLimitExceeded:
            return

    asyncio.run(_drive(schedule, send))
    return provider


def summary(guard: Callable[[Schedule], Provider], schedules: list[Schedule]) -> dict[str, Any]:
    """Return how far the bills went beyond the totals."""
    over = []
    for schedule in schedules:
        provider = guard(schedule)
        over.append(max(provider.billed - provider.surplus - schedule.total_tokens, 0))
    ratios = [tokens / s.total_tokens for tokens, s in zip(over, schedules, strict=True)]
    return {
        "schedules": len(schedules),
        "demand_exceeds_total": sum(s.demand > s.total_tokens for s in schedules),
        "overshot": sum(tokens > 0 for tokens in over),
        "overshoot_tokens": sum(over),
        "worst_overshoot_ratio": round(max(ratios), 4),
    }


def main(count: int) -> None:
    """Print the figures of every guard."""
    from importlib.metadata import version

    schedules = [draw_schedule(seed, callers=4 + seed % 5) for seed in range(count)]
    figures = {
        "a callback that adds up usage after the call": summary(checked_after, schedules),
        "pydantic-ai UsageLimits": summary(
            lambda schedule: usage_limits(schedule, count_first=False), schedules
        ),
        "pydantic-ai UsageLimits, counting input first": summary(
            lambda schedule: usage_limits(schedule, count_first=True), schedules
        ),
        "version": version("pydantic-ai-slim"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]))
