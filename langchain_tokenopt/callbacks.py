"""Turn LangChain runs into ``CallRecord``s: who spent what, to the token.

LangChain tells a callback handler about every run. This one remembers, for the runs in flight,
which tool or chain stands above which call, reads the usage that the provider reported when a call
ends, and counts by itself, flagged as estimated, where nothing was reported.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from time import perf_counter
from typing import Any, Literal
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_core.tracers.context import register_configure_hook

from langchain_tokenopt.errors import TokenOptWarning
from langchain_tokenopt.prices import RateCard, Rates, default_rate_card
from langchain_tokenopt.reported import (
    is_marked_hit,
    reported_usage,
    without_repetition,
    written,
)
from langchain_tokenopt.tokens import calibrate, count_messages, counter_for
from langchain_tokenopt.usage import (
    CallRecord,
    Saving,
    Source,
    StagedRun,
    Status,
    Usage,
    UsageEvent,
    UsageSink,
    UsageTotals,
    attribution_of,
    published_run,
)

__all__ = ["TokenUsageCallbackHandler", "track_usage"]

Dimension = Literal["agent", "tool", "model", "node", "user", "run", "thread"]

UNATTRIBUTED = "(none)"
"""Key of the calls that have no value in a dimension, such as calls outside any tool."""

_KEY: dict[Dimension, Callable[[CallRecord], str | None]] = {
    "agent": lambda r: r.attribution.agent,
    "tool": lambda r: r.attribution.tool,
    "model": lambda r: r.model,
    "node": lambda r: r.attribution.node,
    "user": lambda r: r.attribution.user,
    "run": lambda r: r.run,
    "thread": lambda r: r.attribution.thread,
}
_LASTING: tuple[Dimension, ...] = ("agent", "tool", "model", "node", "user")
"""Dimensions with few values: their sums outlive the records. Runs and threads never end coming."""


class TokenUsageCallbackHandler(BaseCallbackHandler):
    """Record every model call below the place where it is attached.

    Attach it to anything that takes ``callbacks``: a chain, a graph, a model. The same handler
    attached twice counts once. Embedding models have no callbacks in LangChain and are not seen;
    completion models answered from a cache emit none and are not seen either.

    Args:
        sinks: Told about every call as it ends, and about every saving of a stage. A sink that
            raises is warned about once and never breaks a call.
        user: Whose account calls go on, unless a run's metadata has a ``user_id``.
        rate_card: Prices. By default those of the installed ``genai-prices``.
        max_records: How many of the latest records to keep in memory. Totals by agent, tool, model,
            node and user stay exact beyond it; runs, threads and percentiles look only at the
            records that are kept.

    Raises:
        TypeError: If a sink has no ``record`` method.
        ValueError: If *max_records* is negative.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> usage = TokenUsageCallbackHandler()
        >>> model = FakeListChatModel(responses=["four"])
        >>> answer = model.invoke("What is 2 + 2?", config={"callbacks": [usage]})
        >>> usage.totals().calls, usage.totals().estimated_calls
        (1, 1)
    """

    run_inline = True
    """In async code LangChain would otherwise run a sync handler in a thread, out of order."""

    def __init__(
        self,
        sinks: Sequence[UsageSink] = (),
        user: str | None = None,
        *,
        rate_card: RateCard | None = None,
        max_records: int = 100_000,
    ) -> None:
        for sink in sinks:
            if not isinstance(sink, UsageSink):
                raise TypeError(f"sinks must have a record(event) method; {sink!r} has none.")
        if max_records < 0:
            raise ValueError(f"max_records must be 0 or more, got {max_records:,}.")
        self.sinks = tuple(sinks)
        self.user = user
        self.max_records = max_records
        self._rate_card = rate_card or default_rate_card()
        self._lineage: dict[UUID, _Ancestor] = {}
        self._calls: dict[UUID, _CallInFlight] = {}
        self._records: dict[UUID, CallRecord] = {}
        self._forgotten: dict[tuple[Dimension, str], UsageTotals] = {}
        self._forgotten_total = UsageTotals()
        self._lock = threading.Lock()
        self._broken_sinks: set[int] = set()

    # What was spent

    @property
    def records(self) -> list[CallRecord]:
        """The latest records, oldest first."""
        with self._lock:
            return list(self._records.values())

    def totals(self) -> UsageTotals:
        """Sum over all calls since the handler was made."""
        with self._lock:
            kept = list(self._records.values())
            forgotten = self._forgotten_total
        return forgotten + UsageTotals.of(kept)

    def by(self, dimension: Dimension) -> dict[str, UsageTotals]:
        """Sum per agent, tool, model, node, user, run or thread, largest spender first.

        Calls without a value in the dimension stand under ``"(none)"``, so that the parts always
        add up to :meth:`totals`.

        Raises:
            ValueError: If *dimension* is none of those.
        """
        if dimension not in _KEY:
            raise ValueError(f"cannot group by {dimension!r}; choose one of {', '.join(_KEY)}.")
        with self._lock:
            kept = list(self._records.values())
            sums = {key: sum_ for (dim, key), sum_ in self._forgotten.items() if dim == dimension}
        groups: dict[str, list[CallRecord]] = {key: [] for key in sums}
        for record in kept:
            groups.setdefault(_KEY[dimension](record) or UNATTRIBUTED, []).append(record)
        totals = {
            key: sums.get(key, UsageTotals()) + UsageTotals.of(group)
            for key, group in groups.items()
        }
        return dict(sorted(totals.items(), key=lambda item: -item[1].total_tokens))

    def __repr__(self) -> str:
        totals = self.totals()
        return (
            f"<Token usage: {totals.calls:,} calls, "
            f"{totals.input_tokens:,} input and {totals.output_tokens:,} output tokens>"
        )

    # What LangChain tells: runs above the model

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember where a chain, graph or node stands."""
        self._lineage[run_id] = (parent_run_id, None, kwargs.get("name"))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the chain."""
        self._lineage.pop(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the chain."""
        self._lineage.pop(run_id, None)

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember where a tool stands: model calls below it are its own."""
        name = (serialized or {}).get("name") or kwargs.get("name") or "tool"
        self._lineage[run_id] = (parent_run_id, name, None)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the tool."""
        self._lineage.pop(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the tool."""
        self._lineage.pop(run_id, None)

    # What LangChain tells: the model

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call. Without this method LangChain would render the whole prompt as a string."""
        self._begin(run_id, parent_run_id, metadata, kwargs, messages=messages[0])

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call of a completion model."""
        self._begin(run_id, parent_run_id, metadata, kwargs, prompt=prompts[0])

    def on_llm_new_token(
        self, token: str | list[Any], *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> None:
        """Take note of a piece of the answer: a stream may end before any usage is reported."""
        call = self._calls.get(run_id)
        if call is not None:
            if call.first_chunk_at is None:
                call.first_chunk_at = perf_counter()
            call.chunks.append(token if chunk is None else getattr(chunk, "message", token))

    def on_stream_event(self, event: Mapping[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """Take note of a piece of the answer in LangChain's event protocol."""
        call = self._calls.get(run_id)
        if call is not None and event.get("event") == "content-block-delta":
            if call.first_chunk_at is None:
                call.first_chunk_at = perf_counter()
            delta = event.get("delta") or {}
            call.deltas.append(delta.get("text") or delta.get("reasoning") or "")

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """End a call: read what the provider reported."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            call.settle(response)
            self._end(call, "ok", cached=call.is_cache_hit(response))

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        **kwargs: Any,
    ) -> None:
        """End a call that brought no whole answer. What was received was billed all the same."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            status: Status = "abandoned" if isinstance(error, _NOT_A_FAILURE) else "failed"
            call.settle_partial(response, billed=status == "abandoned")
            self._end(call, status, cached=False)

    # From run to record

    def _begin(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: dict[str, Any] | None,
        kwargs: dict[str, Any],
        messages: list[BaseMessage] | None = None,
        prompt: str | None = None,
    ) -> None:
        if run_id in self._calls:  # the same event told twice
            return
        ancestry = self._ancestry(parent_run_id)
        self._calls[run_id] = _CallInFlight(
            run_id,
            metadata or {},
            kwargs.get("invocation_params") or {},
            messages,
            prompt,
            ancestry,
        )

    def _ancestry(self, parent_run_id: UUID | None) -> _Ancestry:
        """Walk up from a call: its outermost run, the nearest tool, the nearest named chain."""
        root, tool, chain = parent_run_id, None, None
        current = parent_run_id
        while current is not None:
            root = current
            ancestor = self._lineage.get(current)
            if ancestor is None:
                break
            current, tool_name, chain_name = ancestor
            tool = tool or tool_name
            if chain is None and chain_name and not _is_default_name(chain_name):
                chain = chain_name
        return root, tool, chain

    def _end(self, call: _CallInFlight, status: Status, *, cached: bool) -> None:
        record, savings = call.record(status, cached, self._rate_card, self.user)
        if self._keep(record):
            self._tell(record, *savings)

    def _keep(self, record: CallRecord) -> bool:
        """Add *record*; False when this run is already known."""
        with self._lock:
            if record.run_id in self._records:
                return False
            self._records[record.run_id] = record
            if len(self._records) > self.max_records:
                self._forget(self._records.pop(next(iter(self._records))))
        return True

    def _forget(self, record: CallRecord) -> None:
        """Drop a record from memory, but not from the sums."""
        one = UsageTotals.of([record])
        self._forgotten_total += one
        for dimension in _LASTING:
            key = (dimension, _KEY[dimension](record) or UNATTRIBUTED)
            self._forgotten[key] = self._forgotten.get(key, UsageTotals()) + one

    def _tell(self, *events: UsageEvent) -> None:
        for sink in self.sinks:
            try:
                for event in events:
                    sink.record(event)
            except Exception as error:  # noqa: BLE001  a sink is foreign code; the call must go on
                self._warn_about(sink, error)

    def _warn_about(self, sink: UsageSink, error: Exception) -> None:
        if id(sink) not in self._broken_sinks:
            self._broken_sinks.add(id(sink))
            warnings.warn(
                f"{type(sink).__name__}.record raised {type(error).__name__}: {error}. Usage is "
                f"still counted, but this sink misses events; it is not mentioned again.",
                TokenOptWarning,
                stacklevel=2,
            )


_Ancestor = tuple[UUID | None, str | None, str | None]
"""Parent run, tool name if the run is a tool, run name if it is a chain."""
_Ancestry = tuple[UUID | None, str | None, str | None]
"""Outermost run, nearest tool, nearest chain with a name of its own."""

_NOT_A_FAILURE = (GeneratorExit, asyncio.CancelledError)
"""How LangChain reports a caller who stopped reading or waiting."""


@cache
def _is_default_name(name: str) -> bool:
    """Whether a run is called after its class or its plumbing rather than by its author."""
    return name.startswith(("Runnable", "LangGraph", "ChannelWrite", "ChatPromptTemplate", "_"))


class _CallInFlight:
    """One model call between its start and its end."""

    __slots__ = (
        "ancestry",
        "chunks",
        "deltas",
        "first_chunk_at",
        "messages",
        "metadata",
        "params",
        "prompt",
        "response_model",
        "run_id",
        "service_tier",
        "source",
        "staged",
        "started_at",
        "started_clock",
        "usage",
    )

    def __init__(
        self,
        run_id: UUID,
        metadata: dict[str, Any],
        params: dict[str, Any],
        messages: list[BaseMessage] | None,
        prompt: str | None,
        ancestry: _Ancestry,
    ) -> None:
        self.run_id = run_id
        self.metadata = metadata
        self.params = params
        self.messages = messages
        self.prompt = prompt
        self.ancestry = ancestry
        self.chunks: list[Any] = []
        self.deltas: list[str] = []
        self.first_chunk_at: float | None = None
        self.response_model: str | None = None
        self.service_tier: str | None = None
        self.usage = Usage()
        self.source: Source = "reported"
        self.staged = published_run(run_id)
        self.started_at = datetime.now(UTC)
        self.started_clock = perf_counter()

    @property
    def model(self) -> str | None:
        """The model that was asked, by the best name known."""
        asked = self.metadata.get("ls_model_name") or self.params.get("model")
        return asked or self.params.get("model_name") or self.response_model

    # What was used

    def settle(self, response: LLMResult) -> None:
        """Read the usage of a finished call, or count it."""
        self._find_staged()
        generations = [g for of_prompt in response.generations for g in of_prompt]
        self._read_names(response, generations)
        reported = reported_usage(response, generations)
        if reported is None:
            self.usage = self._estimate(self._answer_text(generations))
            self.source = "estimated"
        else:
            pieces = [chunk for chunk in self.chunks if isinstance(chunk, AIMessage)]
            self.usage = without_repetition(reported, pieces, self._count)
            if self.messages and not self.staged:
                _calibrate(self.model, self.messages, self.params, self.usage)

    def settle_partial(self, response: LLMResult | None, *, billed: bool) -> None:
        """Count what a broken call used: its input, and the pieces that arrived.

        A call that failed before anything arrived was refused (or never got through) and is not
        charged; one that the caller cancelled was under way.
        """
        self._find_staged()
        generations = (
            [g for of_prompt in response.generations for g in of_prompt] if response else []
        )
        self._read_names(response, generations)
        received = self._answer_text(generations)
        if not (received or billed or self.chunks):
            return
        estimate = self._estimate(received)
        reported = reported_usage(response, generations) if response else None
        if reported is not None:  # Anthropic reports the input with the first chunk
            estimate = replace(
                reported,
                input_tokens=reported.input_tokens or estimate.input_tokens,
                output_tokens=max(reported.output_tokens, estimate.output_tokens),
            )
        self.usage = estimate
        self.source = "estimated"

    def _find_staged(self) -> None:
        """The seam announces a run when it starts, maybe after this handler was told of it."""
        if self.staged is None:
            self.staged = published_run(self.run_id)

    def _read_names(self, response: LLMResult | None, generations: list[Generation]) -> None:
        said: Mapping[str, Any] = (response and response.llm_output) or {}
        for generation in generations:
            if isinstance(generation, ChatGeneration):
                said = {**said, **generation.message.response_metadata}
        self.response_model = said.get("model_name") or said.get("model")
        tier = said.get("service_tier")
        self.service_tier = None if tier in _ORDINARY_TIERS else tier

    def _answer_text(self, generations: list[Generation]) -> str:
        """Everything the model wrote, as far as it is known."""
        if self.staged is not None and self.staged.received:
            return "".join(self.staged.received)
        if generations:
            return "".join(written(getattr(g, "message", g.text)) for g in generations)
        if self.chunks:
            return "".join(map(written, self.chunks))
        return "".join(self.deltas)

    def _estimate(self, answer: str) -> Usage:
        """Count the request as it was sent, and *answer*."""
        messages, tools = self.messages, self.params.get("tools")
        if self.staged is not None and self.staged.sent is not None:
            messages, tools = list(self.staged.sent), self.staged.sent_kwargs.get("tools")
        if messages is None:
            sent = self._count(self.prompt or "")
        else:
            sent = count_messages(messages, tools, self.model or "").tokens
        return Usage(sent, self._count(answer))

    def _count(self, text: str) -> int:
        return counter_for(self.model or "").count(text).tokens

    # Who answered

    def is_cache_hit(self, response: LLMResult) -> bool:
        """Whether a response cache answered, by the seam's word or by the marks of a hit."""
        if self.staged is not None:
            return self.staged.answered_by is not None
        if self.first_chunk_at is not None and self.chunks:
            return False
        return any(
            is_marked_hit(generation, self.run_id)
            for of_prompt in response.generations
            for generation in of_prompt
        )

    # The record

    def record(
        self, status: Status, cached: bool, rate_card: RateCard, user: str | None
    ) -> tuple[CallRecord, tuple[Saving, ...]]:
        """Price the call and put it on somebody's account."""
        duration = perf_counter() - self.started_clock
        root, tool, chain = self.ancestry
        attribution = attribution_of(self.metadata, fallback_agent=chain)
        if tool is not None or (attribution.user is None and user is not None):
            attribution = replace(attribution, tool=tool, user=attribution.user or user)
        provider, model, staged = self.metadata.get("ls_provider"), self.model, self.staged
        usage = self.usage
        if staged is not None:
            model = staged.sent_model or model
            if staged.earlier is not None:
                usage += staged.earlier
            if cached and staged.saved_usage is not None:
                usage = staged.saved_usage
        rates = self._rates(rate_card, provider, model)
        cost = None if rates is None else rates.cost(usage)
        savings = _priced(staged, rates, self.run_id, attribution.agent, model, self.started_at)
        record = CallRecord(
            run_id=self.run_id,
            model=model,
            provider=provider,
            usage=usage,
            started_at=self.started_at,
            duration_seconds=duration,
            cost_nano_usd=0 if cached else cost,
            source=self.source,
            status=status,
            cached=cached,
            attribution=attribution,
            run=str(root or self.run_id),
            saved_nano_usd=cost if cached else 0,
            first_chunk_seconds=(
                None if self.first_chunk_at is None else self.first_chunk_at - self.started_clock
            ),
            response_model=self.response_model,
            service_tier=self.service_tier,
            stages=() if staged is None else tuple(staged.stages),
            savings=savings,
            flaws=usage.flaws(),
            rates_version=rate_card.version if rates is not None else None,
        )
        return record, savings

    def _rates(self, rate_card: RateCard, provider: str | None, model: str | None) -> Rates | None:
        """Price by the name that answered, else by the name that was asked for."""
        for name in (self.response_model, model):
            if name:
                rates = rate_card.rates(
                    name, provider, at=self.started_at, service_tier=self.service_tier
                )
                if rates is not None:
                    return rates
        return None


_ORDINARY_TIERS = (None, "", "auto", "default", "standard")


def _priced(
    staged: StagedRun | None,
    rates: Rates | None,
    run_id: UUID,
    agent: str,
    model: str | None,
    at: datetime,
) -> tuple[Saving, ...]:
    """Complete the savings of the stages with what only the end of the call knows."""
    if staged is None or not staged.savings:
        return ()
    return tuple(
        replace(
            saving,
            run_id=saving.run_id or run_id,
            agent=agent,
            model=saving.model or model,
            at=saving.at or at,
            saved_nano_usd=_value(saving, rates)
            if saving.saved_nano_usd is None
            else saving.saved_nano_usd,
        )
        for saving in staged.savings
    )


def _value(saving: Saving, rates: Rates | None) -> int | None:
    """What the saved tokens would have cost at the plain rate of their side."""
    if rates is None:
        return None
    tokens = abs(saving.saved_tokens)
    usage = Usage(tokens, 0) if saving.side == "input" else Usage(0, tokens)
    return rates.cost(usage) * (1 if saving.saved_tokens >= 0 else -1)


_CALIBRATION_CALLS = 8
"""Calls per model that teach the estimate for a tokenizer that is not public."""
_CALIBRATION_CHARS = 20_000
_calibrated: dict[str, int] = {}


def _calibrate(
    model: str | None, messages: list[BaseMessage], params: Mapping[str, Any], usage: Usage
) -> None:
    """Compare our count of a request with the provider's, for models we can only estimate."""
    name = model or ""
    seen = _calibrated.get(name, 0)
    if seen >= _CALIBRATION_CALLS or usage.input_tokens <= 0:
        return
    if sum(len(str(message.content)) for message in messages) > _CALIBRATION_CHARS:
        return
    _calibrated[name] = seen + 1
    counted = count_messages(messages, params.get("tools"), name)
    if not counted.exact:
        calibrate(name, counted.tokens, usage.input_tokens)


class _Tracker(TokenUsageCallbackHandler):
    """The handler behind ``track_usage``; hands its records on to the tracker around it."""

    def __init__(
        self, outer: _Tracker | None, sinks: Sequence[UsageSink], user: str | None, **options: Any
    ) -> None:
        super().__init__(sinks, user, **options)
        self._outer = outer
        if outer is not None:
            self._lineage = outer._lineage  # runs above the inner scope were told to the outer one

    def _keep(self, record: CallRecord) -> bool:
        is_new = super()._keep(record)
        if is_new and self._outer is not None and self._outer._keep(record):
            self._outer._tell(record, *record.savings)
        return is_new


_TRACKER: ContextVar[_Tracker | None] = ContextVar("langchain_tokenopt_tracker", default=None)
register_configure_hook(_TRACKER, inheritable=True)


@contextmanager
def track_usage(
    sinks: Sequence[UsageSink] = (),
    user: str | None = None,
    *,
    rate_card: RateCard | None = None,
    max_records: int = 100_000,
) -> Iterator[TokenUsageCallbackHandler]:
    """Record every model call made inside the ``with`` block, sync or async.

    Nested blocks each count the calls below them, and every call once. A thread that you start
    yourself is covered if it runs in a copy of the context
    (``contextvars.copy_context().run``); LangChain's own threads are.

    Args:
        sinks: As for :class:`TokenUsageCallbackHandler`.
        user: As for :class:`TokenUsageCallbackHandler`.
        rate_card: As for :class:`TokenUsageCallbackHandler`.
        max_records: As for :class:`TokenUsageCallbackHandler`.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> with track_usage() as usage:
        ...     answer = FakeListChatModel(responses=["four"]).invoke("What is 2 + 2?")
        >>> usage.totals().calls
        1
    """
    outer = _TRACKER.get()
    tracker = _Tracker(outer, sinks, user, rate_card=rate_card, max_records=max_records)
    _TRACKER.set(tracker)
    try:
        yield tracker
    finally:
        _TRACKER.set(outer)
