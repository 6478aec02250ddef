"""What is recorded about a call, a saving or a budget, and the protocol of who receives it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, Protocol, runtime_checkable
from uuid import UUID, uuid4

from langchain_tokenopt.core.attribution import NOBODY, Attribution
from langchain_tokenopt.core.money import usd
from langchain_tokenopt.core.usage import Usage

__all__ = [
    "COUNTS",
    "BudgetEvent",
    "CallRecord",
    "OfferedTool",
    "Saving",
    "ToolChoice",
    "ToolResult",
    "TuningStep",
    "UsageEvent",
    "UsageSink",
    "UsageTotals",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What one stage did to one call: tokens before, tokens after, tokens it spent itself.

    It can be negative, and is shown as such.
    """

    stage: str
    """Name of the stage, for instance ``PromptCompressor``."""
    tokens_before: int
    tokens_after: int
    side: Literal["input", "output"] = "input"
    """Which side of the bill shrank; it decides the rate that prices the saving."""
    spent_tokens: int = 0
    """Tokens the stage itself paid for, for instance by asking a model."""
    saved_nano_usd: int | None = None
    """Money saved; ``None`` where no price is known."""
    exact: bool = True
    """False when a count is an estimate."""
    observed: bool = False
    """True when the stage only watched: this would have been saved."""
    run_id: UUID | None = None
    agent: str = "default"
    model: str | None = None
    at: datetime | None = None
    id: UUID = field(default_factory=uuid4)

    @property
    def saved_tokens(self) -> int:
        """Tokens before, minus after, minus what the stage spent."""
        return self.tokens_before - self.tokens_after - self.spent_tokens

    @property
    def saved_usd(self) -> Decimal | None:
        """Money saved in US dollars; ``None`` where no price is known."""
        return None if self.saved_nano_usd is None else usd(self.saved_nano_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetEvent:
    """Something a budget did: refused, degraded, moved tokens, crossed a threshold."""

    kind: Literal["denied", "degraded", "rebalanced", "alert"]
    budget: str
    """Name of the budget or plan."""
    agent: str
    spent_tokens: int
    held_tokens: int
    limit_tokens: int
    detail: str = ""
    """Which step, threshold or agents; a short phrase without any content of prompts."""
    run: str | None = None
    run_id: UUID | None = None
    thread_id: str | None = None
    user: str | None = None
    """Whose budget it is; ``None``: of several, or nobody has said. The ledger does not keep it."""
    organization: str | None = None
    at: datetime | None = None
    id: UUID = field(default_factory=uuid4)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types, for whoever sends or stores it.

        Example:
            >>> event = BudgetEvent(
            ...     kind="alert", budget="plan", agent="news", spent_tokens=5, held_tokens=0,
            ...     limit_tokens=9,
            ... )
            >>> event.as_dict()["kind"], type(event.as_dict()["id"])
            ('alert', <class 'str'>)
        """
        found: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("run_id", "id"):
            found[name] = found[name] and str(found[name])
        found["at"] = self.at and self.at.isoformat()
        return found


Status = Literal["ok", "failed", "abandoned", "refused"]
"""``refused``: a budget has stopped the call before it was sent, so that nothing was billed."""


Source = Literal["reported", "repaired", "exception", "estimated", "unbilled"]
"""How the usage of a call was found.

- ``reported``: the provider's own numbers.
- ``repaired``: the provider's numbers, of which some had to be changed because they contradict each
  other; ``flaws`` says how.
- ``exception``: the provider's numbers, from the exception with which the client has ended a call
  that was answered.
- ``estimated``: counted by ourselves, in whole or in part.
- ``unbilled``: the call was refused, or never got through: nothing was used.
"""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the results of one tool, from earlier in the conversation, weighed in one request."""

    tool: str
    tokens: int
    """Part of the call's input tokens; counted, since no provider reports it."""
    cost_nano_usd: int | None
    """Its share of what the input cost; ``None`` when the model has no known price."""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """One tool that a request has shown to the model."""

    tool: str
    tokens: int
    """What its schema weighed in the request; counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Which tools one call was shown, and which of them it asked for.

    Names and counts only: never what was asked, searched for or passed to a tool.
    """

    offered: tuple[OfferedTool, ...]
    """What the model was shown in the end, in order."""
    left_out: int
    """How many tools it was not shown."""
    tokens_before: int
    """Tokens of the schemas of all tools."""
    tokens_after: int
    """Tokens of those that were shown, that of ``find_more_tools`` among them."""
    called: tuple[str, ...] = ()
    """Tools that the answer calls, once each."""
    missed: tuple[str, ...] = ()
    """Tools that the model called although it was not shown them."""
    found: tuple[str, ...] = ()
    """Tools that were added because the model searched for more."""
    searches: int = 0
    """How often it searched."""
    observed: bool = False
    """True when the stage only watched: all tools were shown, and these would have been."""
    run_id: UUID | None = None
    agent: str = "default"
    model: str | None = None
    at: datetime | None = None
    id: UUID = field(default_factory=uuid4)

    @property
    def saved_tokens(self) -> int:
        """Tokens of schemas that were not sent."""
        return self.tokens_before - self.tokens_after


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One model call, as billed.

    A call that was answered from a response cache has ``cached=True``: its ``usage`` is what the
    answer once cost, nothing of it was spent again, and it counts as saved.
    """

    run_id: UUID
    model: str | None
    """The model that was asked for; the response's own name where nothing was asked for."""
    provider: str | None
    usage: Usage
    started_at: datetime
    """In UTC."""
    duration_seconds: float
    cost_nano_usd: int | None
    """What it cost in billionths of a US dollar; ``None`` when the model has no known price."""
    source: Source = "reported"
    """How the usage was found, and so how far it is to be trusted."""
    status: Status = "ok"
    cached: bool = False
    attribution: Attribution = NOBODY
    run: str | None = None
    """Id of the outermost run that this call belongs to."""
    saved_nano_usd: int | None = 0
    """What a cache hit would have cost; 0 for a billed call."""
    first_chunk_seconds: float | None = None
    response_model: str | None = None
    """The model that the provider says has answered."""
    service_tier: str | None = None
    stages: tuple[str, ...] = ()
    """Names of the stages that acted on this call, in order."""
    savings: tuple[Saving, ...] = ()
    flaws: tuple[str, ...] = ()
    """What cannot be true about what the provider reported. ``usage`` holds numbers that can be."""
    unpriced: tuple[str, ...] = ()
    """Parts of the usage whose price is not known, such as ``"output audio"``:
    ``cost_nano_usd`` does not contain them."""
    rates_version: str | None = None
    """Which rate card priced it."""
    tool_results: tuple[ToolResult, ...] = ()
    """What results of tools, from earlier calls, were sent along with this one."""
    tool_choice: ToolChoice | None = None
    """Which tools it was shown: what a stage has chosen, or all; ``None``: it had none."""

    @property
    def agent(self) -> str:
        """The agent that made the call."""
        return self.attribution.agent

    @property
    def cost_usd(self) -> Decimal | None:
        """What it cost in US dollars; ``None`` when the model has no known price."""
        return None if self.cost_nano_usd is None else usd(self.cost_nano_usd)

    @property
    def spent_tokens(self) -> int:
        """Input plus output tokens that were really billed."""
        return 0 if self.cached else self.usage.total_tokens

    @property
    def saved_tokens(self) -> int:
        """Tokens that the cache and the stages avoided."""
        avoided = self.usage.total_tokens if self.cached else 0
        return avoided + sum(s.saved_tokens for s in self.savings if not s.observed)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningStep:
    """A setting that was moved, and why. Ledgers do not keep it: the tuner itself does."""

    stage: str
    """Name of the tuned stage, for instance ``WordLimit``."""
    agent: str
    before: dict[str, float]
    """The settings before, by name."""
    after: dict[str, float]
    reason: str
    calls: int
    """How many calls the owner of the settings had made."""
    user: str | None = None
    """Whose calls use them; in a history a key that stands for the user."""
    organization: str | None = None
    id: UUID = field(default_factory=uuid4)


UsageEvent = CallRecord | Saving | BudgetEvent | ToolChoice | TuningStep


@runtime_checkable
class UsageSink(Protocol):
    """Hears of every event: the ledger, alerts, a forecaster, your own metrics."""

    def record(self, event: UsageEvent) -> None:
        """Take note of *event*. Called inline: be quick, and expect several threads."""
        ...


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Sums over calls.

    ``calls`` counts all of them; token and cost fields hold only what was really billed; the saved
    fields hold what cache hits and stages avoided. Percentiles are ``None`` without data.
    """

    calls: int = 0
    cached_calls: int = 0
    estimated_calls: int = 0
    """Billed calls whose tokens we had to count ourselves."""
    failed_calls: int = 0
    unpriced_calls: int = 0
    """Billed calls whose price is not known, as a whole or in part: ``cost_nano_usd`` does not
    contain what is not."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    saved_tokens: int = 0
    saved_nano_usd: int = 0
    duration_p50_seconds: float | None = None
    duration_p95_seconds: float | None = None
    first_chunk_p50_seconds: float | None = None
    first_chunk_p95_seconds: float | None = None

    @property
    def total_tokens(self) -> int:
        """Billed input plus output tokens."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> Decimal:
        """What the calls with a known price cost, in US dollars, exactly.

        Example:
            >>> UsageTotals(cost_nano_usd=2_500_000).cost_usd
            Decimal('0.002500000')
        """
        return usd(self.cost_nano_usd)

    @property
    def saved_usd(self) -> Decimal:
        """What cache hits and stages avoided, in US dollars, where a price is known."""
        return usd(self.saved_nano_usd)

    @property
    def billed_calls(self) -> int:
        """Calls that a cache did not answer."""
        return self.calls - self.cached_calls

    @classmethod
    def of(cls, records: Iterable[CallRecord]) -> UsageTotals:
        """Add up *records*.

        Example:
            >>> UsageTotals.of([]).total_tokens
            0
        """
        counts = dict.fromkeys(COUNTS, 0)
        durations: list[float] = []
        first_chunks: list[float] = []
        for record in records:
            _add(counts, record)
            if not record.cached and record.status == "ok":
                durations.append(record.duration_seconds)
                if record.first_chunk_seconds is not None:
                    first_chunks.append(record.first_chunk_seconds)
        return cls(
            **counts,
            duration_p50_seconds=percentile(durations, 0.50),
            duration_p95_seconds=percentile(durations, 0.95),
            first_chunk_p50_seconds=percentile(first_chunks, 0.50),
            first_chunk_p95_seconds=percentile(first_chunks, 0.95),
        )

    def __add__(self, other: UsageTotals) -> UsageTotals:
        """Sum the counts.

        Percentiles cannot be added: they are ``None``, unless one side has no billed calls, which
        leaves those of the other side true.

        Example:
            >>> both = UsageTotals(calls=1, duration_p50_seconds=2.0) + UsageTotals(calls=1)
            >>> both.calls, both.duration_p50_seconds
            (2, None)
        """
        if not other.billed_calls:
            return self.with_counts_of(other)
        if not self.billed_calls:
            return other.with_counts_of(self)
        return UsageTotals(**self._added(other))

    def with_counts_of(self, other: UsageTotals) -> UsageTotals:
        """Add the counts of *other*; percentiles stay those of these calls alone."""
        return replace(self, **self._added(other))

    def _added(self, other: UsageTotals) -> dict[str, Any]:
        return {name: getattr(self, name) + getattr(other, name) for name in COUNTS}


COUNTS: Final = tuple(f.name for f in fields(UsageTotals) if not f.name.endswith("_seconds"))
"""Names of the counts of totals, in order."""


def _add(counts: dict[str, int], record: CallRecord) -> None:
    """Add one record to the running counts."""
    counts["calls"] += 1
    counts["saved_tokens"] += record.saved_tokens
    counts["saved_nano_usd"] += record.saved_nano_usd or 0
    for saving in record.savings:
        if not saving.observed:
            counts["saved_nano_usd"] += saving.saved_nano_usd or 0
    if record.cached:
        counts["cached_calls"] += 1
        return
    usage = record.usage
    counts["estimated_calls"] += record.source == "estimated"
    counts["failed_calls"] += record.status == "failed"
    counts["input_tokens"] += usage.input_tokens
    counts["output_tokens"] += usage.output_tokens
    counts["cache_read_tokens"] += usage.cache_read_tokens
    counts["cache_write_tokens"] += usage.cache_write_tokens
    counts["reasoning_tokens"] += usage.reasoning_tokens
    counts["unpriced_calls"] += record.cost_nano_usd is None or bool(record.unpriced)
    counts["cost_nano_usd"] += record.cost_nano_usd or 0


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of *values*; ``None`` without values.

    Args:
        values: In any order.
        share: From 0 (smallest) to 1 (largest).

    Example:
        >>> percentile([3.0, 1.0, 2.0], 0.5)
        2.0
    """
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
