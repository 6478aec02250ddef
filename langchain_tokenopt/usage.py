"""What is recorded about a model call, a saving or a budget, and who hears of it.

Token arithmetic follows LangChain's ``UsageMetadata``, which is also that of OpenTelemetry's GenAI
conventions: ``input_tokens`` and ``output_tokens`` are totals; cached, audio and reasoning tokens
are parts of them and are never added on top.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = [
    "Attribution",
    "BudgetEvent",
    "CacheHit",
    "CallRecord",
    "Saving",
    "StagedRun",
    "Usage",
    "UsageEvent",
    "UsageSink",
    "UsageTotals",
    "attribution_of",
    "hear_refusals",
    "publish_run",
    "published_run",
    "register_tracker",
    "tell_refused",
    "withdraw_run",
]


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
            audio, whole = getattr(self, f"{side}_audio_tokens"), getattr(self, f"{side}_tokens")
            if audio > whole:
                found.append(f"{side}_audio_tokens ({audio:,}) exceed {side}_tokens ({whole:,})")
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


@dataclass(frozen=True, slots=True)
class Attribution:
    """On whose account a call goes."""

    agent: str = "default"
    node: str | None = None
    """Path of LangGraph nodes, outermost first, joined by ``/``."""
    tool: str | None = None
    """The tool inside which the call was made."""
    user: str | None = None
    thread: str | None = None
    purpose: str | None = None
    """LangChain's ``lc_source``: which middleware made the call for its own ends."""
    organization: str | None = None
    """The user's organization, or tenant."""


def attribution_of(
    metadata: Mapping[str, Any],
    *,
    fallback_agent: str | None = None,
    fallback_user: str | None = None,
    fallback_organization: str | None = None,
    tool: str | None = None,
) -> Attribution:
    """Read from a run's metadata who made the call.

    The agent is the first of: ``tokenopt_agent`` in the metadata (set it with
    ``add_node(..., metadata={"tokenopt_agent": "news"})``), the name of the ``create_agent`` agent
    (``lc_agent_name``), the outermost LangGraph node, *fallback_agent*, ``"default"``.
    ``langgraph_node`` alone is no agent: inside agents it reads "model" or "tools". The user is
    ``user_id``, the organization ``organization_id``, ``org_id`` or ``tenant_id``.

    Example:
        >>> made_by = attribution_of({"langgraph_checkpoint_ns": "docs:4f1a|model:77b0"})
        >>> made_by.agent, made_by.node
        ('docs', 'docs/model')
    """
    get = metadata.get
    namespace, node, outermost = get("langgraph_checkpoint_ns"), None, None
    if namespace:
        path = [part.partition(":")[0] for part in namespace.split("|")]
        node, outermost = "/".join(path), path[0]
    agent = get("tokenopt_agent") or get("lc_agent_name") or outermost or fallback_agent
    user, thread = get("user_id", fallback_user), get("thread_id")
    organization = fallback_organization
    for key in _ORGANIZATION_KEYS:
        organization = get(key, organization)
    return Attribution(
        agent=str(agent or "default"),
        node=node,
        tool=tool,
        user=None if user is None else str(user),
        thread=None if thread is None else str(thread),
        purpose=get("lc_source"),
        organization=None if organization is None else str(organization),
    )


_ORGANIZATION_KEYS = ("tenant_id", "org_id", "organization_id")
"""Of several, the last counts."""


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
    """Which rung, threshold or agents; a short phrase without any content of prompts."""
    run: str | None = None
    run_id: UUID | None = None
    thread: str | None = None
    at: datetime | None = None
    id: UUID = field(default_factory=uuid4)


Status = Literal["ok", "failed", "abandoned", "refused"]
"""``refused``: a budget has stopped the call before it was sent, so that nothing was billed."""
Source = Literal["reported", "estimated"]


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
    """Whether the provider counted the tokens or we did."""
    status: Status = "ok"
    cached: bool = False
    attribution: Attribution = Attribution()
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
    """What cannot be true about the reported usage. The numbers are kept as they came."""
    rates_version: str | None = None
    """Which rate card priced it."""

    @property
    def agent(self) -> str:
        """The agent that made the call."""
        return self.attribution.agent

    @property
    def spent_tokens(self) -> int:
        """Input plus output tokens that were really billed."""
        return 0 if self.cached else self.usage.total_tokens

    @property
    def saved_tokens(self) -> int:
        """Tokens that the cache and the stages avoided."""
        avoided = self.usage.total_tokens if self.cached else 0
        return avoided + sum(s.saved_tokens for s in self.savings if not s.observed)


UsageEvent = CallRecord | Saving | BudgetEvent


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
    """Billed calls without a known price: ``cost_nano_usd`` does not contain them."""
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
        counts = dict.fromkeys(_COUNTS, 0)
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
        """Sum the counts; percentiles cannot be added and become those of *other*."""
        return UsageTotals(
            **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS},
            duration_p50_seconds=other.duration_p50_seconds,
            duration_p95_seconds=other.duration_p95_seconds,
            first_chunk_p50_seconds=other.first_chunk_p50_seconds,
            first_chunk_p95_seconds=other.first_chunk_p95_seconds,
        )


_COUNTS = tuple(f.name for f in fields(UsageTotals) if not f.name.endswith("_seconds"))


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
    if record.cost_nano_usd is None:
        counts["unpriced_calls"] += 1
    else:
        counts["cost_nano_usd"] += record.cost_nano_usd


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


class CacheHit(dict[str, Any]):
    """``generation_info`` of an answer that came from a cache.

    It equals the plain dict it was made from, so a cache that marks its hits with it stays equal to
    what was stored, and usage tracking still recognises the hit. Assign it to a generation that
    exists: pydantic makes a plain dict of what it is given at construction.
    """


@dataclass(slots=True, kw_only=True)
class StagedRun:
    """What the seam publishes about one run: what was really sent, who acted, who answered.

    Callbacks are told the caller's original messages; the provider bills those in ``sent``.
    """

    run_id: UUID
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    sent: Sequence[BaseMessage] | None = None
    """The messages that went to the model; ``None`` until it was asked."""
    sent_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """The keyword arguments that went with them: tools, limits, response format."""
    sent_model: str | None = None
    """The model that was asked, where a stage chose another one than the caller."""
    stages: list[str] = field(default_factory=list)
    """Names of the stages that acted, in order."""
    savings: list[Saving] = field(default_factory=list)
    answered_by: str | None = None
    """Name of the cache or stage that answered instead of the model."""
    saved_usage: Usage | None = None
    """What the answer of a cache once cost."""
    received: list[str] = field(default_factory=list)
    """Text that the model sent, before any stage cut it; only for streamed calls."""
    stopped: bool = False
    """True when a stage stopped the model: the provider will not report any usage."""
    closed: bool = False
    """True when the model's stream was closed: its provider can notice and stop writing."""
    refused: bool = False
    """True when a stage has refused the call: nothing was sent."""
    earlier: Usage | None = None
    """Usage of earlier attempts of the same run, when a stage asked the model again."""


_MOST_PUBLISHED = 10_000
"""A run that another handler refuses at its start is never ended: the oldest are dropped."""
_published: dict[int, StagedRun] = {}
"""By the integer of the run id, whose hash costs a tenth of the id's own."""


def publish_run(run: StagedRun) -> None:
    """Make *run* known by its id, until :func:`withdraw_run`."""
    _published[run.run_id.int] = run
    if len(_published) > _MOST_PUBLISHED:
        _published.pop(next(iter(_published)), None)


class _HearsRefusals(Protocol):
    def on_refused(self, run_id: UUID) -> None: ...


_refusal_listeners: weakref.WeakSet[_HearsRefusals] = weakref.WeakSet()
_refusal_lock = threading.Lock()


def hear_refusals(listener: _HearsRefusals) -> None:
    """Have *listener* told of runs that are refused at their start, as long as it lives.

    LangChain tells nobody of the end of a run whose start a handler has refused, and the handlers
    before that one wait for it.
    """
    with _refusal_lock:
        _refusal_listeners.add(listener)


def tell_refused(run_id: UUID) -> None:
    """Tell all who listen that this run has been refused: nothing was sent, nothing will follow."""
    with _refusal_lock:
        listeners = list(_refusal_listeners)
    for listener in listeners:
        listener.on_refused(run_id)


TRACKER: ContextVar[Any] = ContextVar("langchain_tokenopt_tracker", default=None)
"""The handler that ``track_usage`` adds to every run here."""


@cache
def register_tracker() -> None:
    """Have LangChain add :data:`TRACKER` to every run; once in a process.

    Not at import: the module that registers hooks brings langsmith with it, a quarter of a second
    that LangChain itself puts off until the first call. Handlers hear of a run in the order in
    which their hooks were registered; a handler that refuses runs registers its own after this one,
    so that the tracker has heard of them. (In async code LangChain would also leave the coroutines
    of handlers behind the refusing one unawaited.)
    """
    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(TRACKER, inheritable=True)


def withdraw_run(run_id: UUID) -> None:
    """Forget a run that has ended."""
    _published.pop(run_id.int, None)


def published_run(run_id: UUID) -> StagedRun | None:
    """Return what the seam has published about *run_id*, if it is a staged run in flight."""
    return _published.get(run_id.int) if _published else None
