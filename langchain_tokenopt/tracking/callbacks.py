"""Turn LangChain runs into ``CallRecord``s: who spent what, to the token.

LangChain tells a callback handler about every run. This one remembers, for the runs in flight,
which tool or chain stands above which call, reads the usage that the provider reported when a call
ends, and counts by itself, flagged as estimated, where nothing was reported.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Any
from uuid import UUID

from langchain_core.outputs import LLMResult

from langchain_tokenopt.core.argument_checks import check_whole, takes_names
from langchain_tokenopt.core.attribution import names_of, said_around, saying
from langchain_tokenopt.core.context_blocks import ContextBlock
from langchain_tokenopt.core.dimensions import DIMENSIONS, Dimension, totals_by, value_of
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.event_loop import RunWatch
from langchain_tokenopt.core.model_runs import calling_run, note_start
from langchain_tokenopt.core.records import CallRecord, Status, UsageSink, UsageTotals
from langchain_tokenopt.core.sinks import checked_sinks, notify
from langchain_tokenopt.core.staged_runs import TRACKER, add_run_listener, register_hooks
from langchain_tokenopt.pricing.rate_card import RateCard, default_rate_card
from langchain_tokenopt.tracking.call_starts import CallStart, ModelStartHandler
from langchain_tokenopt.tracking.call_tracker import CallInFlight
from langchain_tokenopt.tracking.failed_calls import is_given_up
from langchain_tokenopt.tracking.lineage import NO_ANCESTRY, Ancestry, Lineage

__all__ = ["TokenUsageCallbackHandler", "track_usage"]

_LASTING: tuple[Dimension, ...] = tuple(d for d in DIMENSIONS if d not in ("run", "thread_id"))
"""Dimensions with few values: their sums outlive the records. Runs and threads never end coming."""

_BATCH = 1_000
"""Calls whose records are made, or summed up and forgotten, at once: it costs each of them less."""


class TokenUsageCallbackHandler(ModelStartHandler):
    """Record every model call below the place where it is attached.

    Attach it to anything that takes ``callbacks``: a chain, a graph, a model. The same handler
    attached twice counts once. Embedding models have no callbacks in LangChain and are not seen;
    completion models answered from a cache emit none and are not seen either. LangChain does not
    tell of a cancelled ``ainvoke`` that stands in no chain: it is counted when its task ends.

    Args:
        sinks: Told about every call as it ends, and about every saving of a stage. A sink that
            raises is warned about once and never breaks a call.
        user: Whose account calls go on, unless a run's metadata has a ``user_id``.
        organization: The same for ``organization_id``, ``org_id`` or ``tenant_id``.
        rate_card: Prices. By default those of the installed ``genai-prices``.
        max_records: How many of the latest records to keep in memory. Totals by agent, tool, model,
            node, user and organization stay exact beyond it; runs, threads and percentiles look
            only at the records that are kept.

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

    @takes_names
    def __init__(
        self,
        sinks: Sequence[UsageSink] = (),
        user: str | None = None,
        *,
        organization: str | None = None,
        rate_card: RateCard | None = None,
        max_records: int = 100_000,
    ) -> None:
        self.sinks = checked_sinks(sinks)
        check_whole("max_records", max_records, least=0)
        self.user = user
        self.organization = organization
        self.max_records = max_records
        self._rate_card = rate_card or default_rate_card()
        self._lineage = Lineage()
        self._settled: deque[CallInFlight] = deque()
        self._calls: dict[int, CallInFlight] = {}
        self._records: dict[int, CallRecord] = {}
        self._forgotten: dict[tuple[Dimension, str], UsageTotals] = {}
        self._forgotten_total = UsageTotals()
        self._lock = threading.RLock()
        self._watch = RunWatch(self._give_up)
        add_run_listener(self)

    # What was spent

    @property
    def records(self) -> list[CallRecord]:
        """The latest records, oldest first."""
        self._read()
        with self._lock:
            kept = list(self._records.values())
        return kept[max(0, len(kept) - self.max_records) :]

    def totals(self) -> UsageTotals:
        """Sum over all calls since the handler was made."""
        self._read()
        with self._lock:
            kept = list(self._records.values())
            forgotten = self._forgotten_total
        return UsageTotals.of(kept).with_counts_of(forgotten)

    def by(self, dimension: Dimension) -> dict[str, UsageTotals]:
        """Sum per agent, tool, model, node, user, organization, run, thread..., largest first.

        Calls without a value in the dimension stand under ``"(none)"``, so that the parts always
        add up to :meth:`totals`.

        Raises:
            ValueError: If *dimension* is none of those.
        """
        value_of(dimension)  # refuse an unknown one before anything is read
        self._read()
        with self._lock:
            kept = list(self._records.values())
            sums = {key: sum_ for (dim, key), sum_ in self._forgotten.items() if dim == dimension}
        present = totals_by(kept, dimension)
        totals = {
            key: present.get(key, UsageTotals()).with_counts_of(sums.get(key, UsageTotals()))
            for key in (*sums, *(key for key in present if key not in sums))
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
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember where a chain, graph or node stands."""
        self._lineage.add_chain(run_id, parent_run_id, kwargs.get("name"), metadata)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the chain."""
        self._lineage.remove(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the chain."""
        self._lineage.remove(run_id)

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
        self._lineage.add_tool(run_id, parent_run_id, name)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the tool."""
        self._lineage.remove(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the tool."""
        self._lineage.remove(run_id)

    # What LangChain tells: the model

    def on_start(self, start: CallStart) -> None:
        """Begin a call."""
        ancestry = self._above(start.parent_run_id, start.metadata)
        self._add(CallInFlight(start, ancestry), start.parent_run_id)
        if start.messages is not None:  # text models report the end of a cancelled call
            self._watch.begin(start.run_id)

    def on_llm_new_token(
        self, token: str | list[Any], *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> None:
        """Take note of a piece of the answer: a stream may end before any usage is reported."""
        call = self._calls.get(run_id.int)
        if call is not None:
            call.add_piece(token if chunk is None else getattr(chunk, "message", token))

    def on_stream_event(self, event: Mapping[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """Take note of a piece of the answer in LangChain's event protocol."""
        if event.get("event") == "content-block-delta":
            call = self._calls.get(run_id.int)
            delta = event.get("delta") or {}
            if call is not None:
                call.add_delta(delta.get("text") or delta.get("reasoning") or "")

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """End a call: read what the provider reported."""
        call = self._ended(run_id)
        if call is not None:
            call.settle(response)
            self._take(call)

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        **kwargs: Any,
    ) -> None:
        """End a call that brought no whole answer. What was received was billed all the same."""
        call = self._ended(run_id)
        if call is not None:
            if isinstance(error, BudgetExceededError) and not call.has_begun:
                call.settle_refused()
            else:
                status: Status = "abandoned" if is_given_up(error) else "failed"
                call.settle_failed(error, response, status)
            self._take(call)

    def on_refused(self, run_id: UUID) -> None:
        """End a call that a budget has refused at its start: LangChain does not tell of it."""
        call = self._ended(run_id)
        if call is not None:
            call.settle_refused()
            self._take(call)

    def __copy__(self) -> TokenUsageCallbackHandler:
        """Return this handler: a copy of a configuration is to be counted where the original is."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenUsageCallbackHandler:
        """Return this handler, as :meth:`__copy__` does."""
        return self

    def on_cancelled(self, run_id: UUID) -> None:
        """End a call of a staged model that was cancelled: LangChain does not tell of it."""
        self._watch.end(run_id.int)
        self._give_up(run_id.int, True)

    def _ended(self, run_id: UUID) -> CallInFlight | None:
        self._watch.end(run_id.int)
        return self._calls.pop(run_id.int, None)

    # From run to record

    def _add(self, call: CallInFlight, parent_run_id: UUID | None) -> None:
        """Begin a call; where a model makes it, that one may report the same bill."""
        if self._calls:
            caller = None if parent_run_id is None else self._calls.get(parent_run_id.int)
            if caller is None:
                key = calling_run(self._calls)
                caller = None if key is None else self._calls.get(key)
            if caller is not None:
                caller.add_inner(call)
        self._calls[call.key] = call
        note_start(call.key)

    def _above(self, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None) -> Ancestry:
        if parent_run_id is None:
            return NO_ANCESTRY
        return self._lineage.above(parent_run_id, metadata)

    def _give_up(self, key: int, is_over: bool) -> None:
        """Count a call that has ended without anybody saying so.

        A stream may go on in another task than the one in which it began, but then its first piece
        has come.
        """
        call = self._calls.get(key)
        if call is not None and (is_over or not call.has_begun):
            del self._calls[key]
            call.settle_failed(None, None, "abandoned")
            self._take(call)

    def _take(self, call: CallInFlight) -> None:
        """Accept a settled call. Without sinks its record waits until somebody reads it."""
        if call.inner and call.only_hands_on():
            return
        self._settled.append(call)
        if self.sinks or len(self._settled) >= _BATCH:
            self._read()

    def _read(self) -> None:
        """Make records of the settled calls, once for each run, and notify the sinks.

        The garbage collector may close a stream that somebody has left, in here: that call is then
        settled by the same thread, within the lock. So the lock can be taken again, and no line of
        its block needs what a line before it has seen.
        """
        fresh: list[tuple[CallRecord, Context]] = []
        with self._lock:
            while self._settled:
                call = self._settled.popleft()
                key = call.key
                if key not in self._records:
                    record = self._record_of(call)
                    for one in (*call.elsewhere(self._rate_card, record), record):
                        self._records[one.run_id.int] = one
                        fresh.append((one, call.context))
            if len(self._records) >= self.max_records + _BATCH:
                self._forget(len(self._records) - self.max_records)
        if self.sinks:
            for record, context in fresh:
                choice = record.tool_choice
                by_stage = () if choice is None or choice.id == record.run_id else (choice,)
                # Not this context: it may be another thread that settles, or a finalizer.
                context.run(notify, self.sinks, record, *record.savings, *by_stage)

    def _record_of(self, call: CallInFlight) -> CallRecord:
        try:
            return call.record(self._rate_card, self._whose(call))
        except Exception as error:  # noqa: BLE001  names and metadata are anybody's: totals go on
            return call.plain_record(error)

    def _whose(self, call: CallInFlight) -> dict[str, str]:
        """Return on whose account a call goes that does not say so itself."""
        return {**dict(said_around(call.context)), **names_of(self.user, self.organization)}

    def _forget(self, count: int) -> None:
        """Drop the oldest records from memory, but not from the sums."""
        oldest = [self._records.pop(key) for key in list(self._records)[:count]]
        self._forgotten_total += UsageTotals.of(oldest)
        for dimension in _LASTING:
            for key, totals in totals_by(oldest, dimension).items():
                sum_ = self._forgotten.get((dimension, key), UsageTotals())
                self._forgotten[dimension, key] = sum_.with_counts_of(totals)


class _Tracker(TokenUsageCallbackHandler):
    """The handler behind ``track_usage``; hands its records on to the tracker around it."""

    def __init__(
        self, outer: _Tracker | None, sinks: Sequence[UsageSink], user: str | None, **options: Any
    ) -> None:
        super().__init__(sinks, user, **options)
        self._outer = outer
        if outer is not None:
            self._lineage = outer._lineage  # runs above the inner scope began in the outer one
            self._lock = outer._lock  # both make a record of the same call

    def _whose(self, call: CallInFlight) -> dict[str, str]:
        """Return what the innermost block says: for every tracker around it is the same."""
        return {**names_of(self.user, self.organization), **dict(said_around(call.context))}

    @property
    def sinks_around(self) -> tuple[UsageSink, ...]:
        """The sinks of this tracker and of those around it."""
        outer = () if self._outer is None else self._outer.sinks_around
        return (*self.sinks, *outer)

    def _take(self, call: CallInFlight) -> None:
        super()._take(call)
        if self._outer is not None:
            self._outer._take(call)


@takes_names
@contextmanager
def track_usage(
    sinks: Sequence[UsageSink] = (),
    user: str | None = None,
    *,
    organization: str | None = None,
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
        organization: As for :class:`TokenUsageCallbackHandler`.
        rate_card: As for :class:`TokenUsageCallbackHandler`.
        max_records: As for :class:`TokenUsageCallbackHandler`.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> with track_usage() as usage:
        ...     answer = FakeListChatModel(responses=["four"]).invoke("What is 2 + 2?")
        >>> usage.totals().calls
        1
    """
    register_hooks()
    outer: _Tracker | None = TRACKER.get()
    tracker = _Tracker(
        outer,
        sinks,
        user,
        organization=organization,
        rate_card=rate_card,
        max_records=max_records,
    )
    with ContextBlock({TRACKER: tracker, **saying(user, organization)}):
        yield tracker
