"""What scenarios are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from langchain_core.tools import tool

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Scenario, Truth, spent
from tests.support.fakes import FakeAnswer
from tests.support.model_server import Reply

SCENARIOS: list[Scenario] = []

A = Usage(1_000, 200)
B = Usage(300, 40)
C = Usage(50, 7)
PIECES = "One two three four five six seven eight nine ten."
TIGHT = 0.05
"""Tolerance where the tokenizer is public."""
LOOSE = 0.5
"""Tolerance where it is not: the server counts in o200k_base, whatever the provider."""


def scenario(group: str, *, only_ours: bool = False) -> Callable[[Any], Any]:
    """Register a function as a scenario of *group*."""

    def register(run: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
        SCENARIOS.append(Scenario(group, run, only_ours))
        return run

    return register


def reports(*usages: Usage) -> list[Reply]:
    """Return one reply per usage."""
    return [Reply(usage=usage) for usage in usages]


def answers(*usages: Usage) -> list[FakeAnswer]:
    """Return one fake answer per usage."""
    return [FakeAnswer(usage=usage) for usage in usages]


def total(*usages: Usage) -> int:
    """Return input and output of all *usages*."""
    return sum(usage.total_tokens for usage in usages)


def drain(stream: Iterable[Any]) -> None:
    """Read a stream to its end."""
    for _ in stream:
        pass


async def adrain(stream: Any) -> None:
    """Read an asynchronous stream to its end."""
    async for _ in stream:
        pass


@tool
def weather(city: str) -> str:
    """Say how the weather is in a city."""
    return f"Sunny in {city}."


def estimated(bench: Bench, calls: int = 1, tolerance: float = TIGHT) -> Truth:
    """Return the truth about calls that the server has billed but not reported."""
    return spent(*bench.server.billed[:calls], estimated_calls=calls, tolerance=tolerance)
