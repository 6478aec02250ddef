"""How usage trackers are put to the test: scenarios, what each has really spent, and the judging.

A scenario makes real calls with a handler or tracker that it is given and returns the truth, known
from the scripts of the fake provider. The same scenario can so be run with any tracker.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from langchain_core._api import LangChainBetaWarning
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import RunnableConfig

from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.calibration import reset_calibration
from tests.support.model_server import ModelServer

__all__ = [
    "Bench",
    "Contestant",
    "Finding",
    "Scenario",
    "Truth",
    "findings_of",
    "spent",
    "this_package",
]

Facts = Mapping[str, Any]
Verdict = Literal["right", "wrong", "blind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a scenario has really spent, as far as the scenario is about it."""

    input_tokens: int = 0
    output_tokens: int | None = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0
    cached_calls: int = 0
    failed_calls: int | None = 0
    """``None`` here and below: not asked, since several answers would be right."""
    abandoned_calls: int | None = 0
    estimated_calls: int | None = 0
    flawed_calls: int | None = 0
    doubtful_calls: int | None = None
    """Calls that are estimated, repaired, read from an exception or flawed: whoever reads the bill
    sees that it is not certain."""
    cost_nano_usd: int | None = None
    by: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Per dimension and key the tokens spent, input and output together."""
    others: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Further promises, as expected and actual value."""
    tolerance: float = 0.0
    """Share of the tokens by which an estimate may be off; never less than two tokens."""

    def facts(self) -> dict[str, Any]:
        """Return everything a tracker should know by its name."""
        plain = {
            f.name: getattr(self, f.name) for f in fields(self) if str(f.type).startswith("int")
        }
        asked = {name: value for name, value in plain.items() if value is not None}
        return asked | {f"by {dimension}": dict(keys) for dimension, keys in self.by.items()}


def spent(*usages: Usage, **facts: Any) -> Truth:
    """Return the truth about calls that were billed with *usages*.

    Args:
        usages: One per billed call.
        facts: Fields of :class:`Truth`; ``calls`` is the number of usages unless given.
    """
    total = sum(usages, Usage())
    details = {
        name: getattr(total, name)
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "cache_write_1h_tokens",
            "reasoning_tokens",
        )
    }
    return Truth(**({"calls": len(usages)} | details | facts))


@dataclass(frozen=True, slots=True)
class Contestant:
    """A usage tracker on trial."""

    name: str
    handler: Callable[[], BaseCallbackHandler]
    """Makes a handler to be passed in ``callbacks``."""
    track: Callable[[], AbstractContextManager[Any]]
    """Makes the context manager that tracks everything inside it."""
    read: Callable[[Any], Facts]
    """Says what a handler or tracker has counted; facts that it cannot know are left out."""


class Bench:
    """What a scenario works with: a provider, and the tracker on trial."""

    def __init__(self, server: ModelServer, contestant: Contestant) -> None:
        server.reset()
        self.server = server
        self.handler = contestant.handler()
        self.track = contestant.track

    @property
    def config(self) -> RunnableConfig:
        """A configuration with the handler on trial."""
        return {"callbacks": [self.handler]}


Outcome = Truth | Sequence[tuple[Any, Truth]]
"""The truth about the bench's handler, or about each of several observers."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way in which LangChain applications call models."""

    group: str
    run: Callable[[Bench], Outcome | Awaitable[Outcome]]
    only_ours: bool = False
    """True when it is about something that other trackers do not offer at all."""

    @property
    def id(self) -> str:
        """A readable name."""
        return f"{self.group}-{self.run.__name__}".replace("_", "-").replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a tracker said about one fact."""

    fact: str
    expected: Any
    actual: Any
    verdict: Verdict


def findings_of(scenario: Scenario, server: ModelServer, contestant: Contestant) -> list[Finding]:
    """Run *scenario* with *contestant* and compare what it counted with the truth."""
    bench = Bench(server, contestant)
    reset_calibration()  # scenarios teach it bills that are not true
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LangChainBetaWarning)
            warnings.filterwarnings("ignore", "Pydantic serializer warnings")  # of OpenAI's client
            outcome = scenario.run(bench)
            if inspect.isawaitable(outcome):
                outcome = asyncio.run(_result(outcome))
    finally:
        set_llm_cache(None)
    truths = [(bench.handler, outcome)] if isinstance(outcome, Truth) else outcome
    return [
        finding
        for observer, truth in truths
        for finding in _compare(truth, contestant.read(observer))
    ]


async def _result(outcome: Awaitable[Outcome]) -> Outcome:
    """Await it, and close what providers' clients leave open behind a stream that was left.

    That is up to them. Otherwise it would happen when the garbage collector comes by, with a
    warning in whichever test runs then.
    """
    try:
        return await outcome
    finally:
        generators = list(asyncio.get_running_loop()._asyncgens)  # type: ignore[attr-defined]
        left = [each.__qualname__ for each in generators if _is_ours(each)]
        # One after the other: asyncio would close all at once, also those that others are closing.
        for generator in generators:
            await _last_turns()
            with contextlib.suppress(Exception):
                await generator.aclose()
        await _last_turns()
        assert not left, f"generators of this package that nobody closes: {left}"


def _is_ours(generator: AsyncGenerator[Any, Any]) -> bool:
    return (
        generator.ag_frame is not None and "/langchain_tokenopt/" in generator.ag_code.co_filename
    )


async def _last_turns() -> None:
    """Let the event loop close transports, and generators that nobody holds any more."""
    for _ in range(5):
        await asyncio.sleep(0)


def _compare(truth: Truth, said: Facts) -> list[Finding]:
    findings = [
        Finding(fact, expected, said.get(fact), _verdict(fact, expected, said, truth.tolerance))
        for fact, expected in truth.facts().items()
    ]
    return findings + [
        Finding(name, expected, actual, "right" if expected == actual else "wrong")
        for name, (expected, actual) in truth.others.items()
    ]


def _verdict(fact: str, expected: Any, said: Facts, tolerance: float) -> Verdict:
    actual = said.get(fact)
    if actual is None or (expected and not actual):
        return "blind"
    if fact.startswith("by "):
        keys = {key for key, tokens in (expected | actual).items() if tokens}
        same = all(_near(expected.get(k, 0), actual.get(k, 0), tolerance) for k in keys)
        return "right" if same else "wrong"
    if fact == "cost_nano_usd":
        return "right" if abs(expected - actual) <= 1 else "wrong"
    near = _near(expected, actual, tolerance if fact in _ESTIMATED else 0.0)
    return "right" if near else "wrong"


_ESTIMATED = ("input_tokens", "output_tokens")


def _near(expected: int, actual: int, tolerance: float) -> bool:
    return abs(expected - actual) <= (max(2, tolerance * expected) if tolerance else 0)


def this_package() -> Contestant:
    """Return this package's own tracker as a contestant."""
    from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler, track_usage

    return Contestant("langchain-tokenopt", TokenUsageCallbackHandler, track_usage, _our_facts)


def _our_facts(observer: Any) -> Facts:
    totals, records = observer.totals(), observer.records
    facts = {
        name: getattr(totals, name) for name in Truth(calls=0).facts() if hasattr(totals, name)
    }
    facts["cache_write_1h_tokens"] = sum(
        r.usage.cache_write_1h_tokens for r in records if not r.cached
    )
    facts["abandoned_calls"] = sum(r.status == "abandoned" for r in records)
    facts["flawed_calls"] = sum(bool(r.flaws) for r in records)
    facts["doubtful_calls"] = sum(
        bool(r.flaws) or r.source not in ("reported", "unbilled") for r in records
    )
    facts["cost_nano_usd"] = sum(r.cost_nano_usd or 0 for r in records if not r.cached)
    facts["by service_tier"] = {
        tier: sum(r.usage.total_tokens for r in records if (r.service_tier or "(none)") == tier)
        for tier in {r.service_tier or "(none)" for r in records}
    }
    # What results of tools weigh in later calls is no call of a tool: scenarios ask for those.
    tools = {r.attribution.tool or "(none)" for r in records}
    facts["by tool"] = {
        tool: sum(r.spent_tokens for r in records if (r.attribution.tool or "(none)") == tool)
        for tool in tools
    }
    for dimension in ("agent", "model", "response_model", "node", "user", "thread_id"):
        facts[f"by {dimension}"] = {
            key: group.total_tokens for key, group in observer.by(dimension).items()
        }
    return facts
