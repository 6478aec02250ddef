"""One model call between its start and its record: what was used, who answered, what it costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from time import perf_counter, time
from typing import Any
from uuid import UUID, uuid5

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.model_runs import ModelRun
from langchain_tokenopt.core.records import CallRecord, OfferedTool, Saving, Status, ToolChoice
from langchain_tokenopt.core.staged_runs import StagedRun, published_run
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.core.usage_numbers import ABSURD_TOKENS
from langchain_tokenopt.counting.calibration import calibrate
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.pricing.providers import base_url_in, billing_provider
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.pricing.rates import Rates
from langchain_tokenopt.tracking.call_starts import CallStart
from langchain_tokenopt.tracking.lineage import Ancestry
from langchain_tokenopt.tracking.provider_usage import (
    AnswerNames,
    CallAnswer,
    OwnCount,
    UsageReading,
    asked_model,
    is_estimated,
    is_marked_hit,
    names_of,
    read_answer,
    read_failure,
)
from langchain_tokenopt.tracking.tool_offers import called_in, offered_in
from langchain_tokenopt.tracking.tool_results import ResultTokens, shares_of, tokens_of_results

__all__ = ["CallInFlight"]

_EMPTY: Mapping[str, Any] = {}


class CallInFlight:
    """What is known about a call so far.

    A call lives through three steps: it is made when the model is asked, *settled* when the answer
    (or the failure) is in, and turned into a *record* when somebody wants to know.
    """

    __slots__ = (
        "_ancestry",
        "_answer",
        "_batch_size",
        "_cached",
        "_called",
        "_deltas",
        "_duration",
        "_first_chunk_at",
        "_handled",
        "_messages",
        "_metadata",
        "_names",
        "_offered",
        "_params",
        "_pieces",
        "_prompt",
        "_reading",
        "_serialized",
        "_staged",
        "_started_at",
        "_started_clock",
        "_status",
        "_tool_results",
        "_unread",
        "context",
        "inner",
        "key",
    )

    def __init__(self, start: CallStart, ancestry: Ancestry) -> None:
        self.key = start.run_id.int  # the id itself is kept by nobody who waits for its end
        self._serialized = start.serialized
        self.context = copy_context()
        """Where it was made: in a trace, for a user."""
        self.inner: Sequence[CallInFlight] = _NO_CALLS
        self._batch_size = start.batch_size
        self._metadata = start.metadata
        self._params = start.params
        self._messages = start.messages
        self._prompt = start.prompt
        self._ancestry = ancestry
        self._pieces: list[Any] | None = None
        self._deltas: list[str] | None = None
        self._unread: LLMResult | None = None
        self._answer: BaseMessage | None = None
        self._names = _UNNAMED
        self._tool_results: ResultTokens = ()
        self._offered: tuple[OfferedTool, ...] = ()
        self._called: tuple[str, ...] = ()
        self._handled = sys.exception()
        self._first_chunk_at: float | None = None
        self._staged = published_run(start.run_id)
        self._started_at = time()
        self._started_clock = perf_counter()

    def add_piece(self, piece: Any) -> None:
        """Take note of a piece of the answer: a message chunk, its content, or a string."""
        if self._pieces is None:
            self._pieces = []
            self._first_chunk_at = self._first_chunk_at or perf_counter()
        self._pieces.append(piece)

    def add_delta(self, text: str) -> None:
        """Take note of a piece told in the event protocol; some models tell it both ways."""
        if self._deltas is None:
            self._deltas = []
            self._first_chunk_at = self._first_chunk_at or perf_counter()
        self._deltas.append(text)

    @property
    def has_begun(self) -> bool:
        """Whether a piece of the answer has come."""
        return self._first_chunk_at is not None

    @property
    def _model(self) -> str | None:
        """The model that was asked, by the best name known."""
        return asked_model(self._metadata, self._params) or self._names.model

    # What was used

    def settle(self, response: LLMResult) -> None:
        """End a finished call.

        An answer that reports its usage is read when somebody asks for the record: between two
        model calls every microsecond counts. Only the answer waits; the prompt is let go.
        """
        self._end("ok")
        if self._staged is not None and self._staged.refused:  # answered in the model's place
            self.settle_refused()
            return
        if self._offered:
            self._called = called_in(chain.from_iterable(response.generations))
        answer = _answer_with_usage(response)
        if answer is None or self._pieces is not None:
            self._read(response)
            return
        self._unread, self._answer = response, answer
        if self._metadata.get("ls_provider") == "openai":  # no estimate that could learn from it
            self._messages = None

    def _read(self, response: LLMResult) -> None:
        """Read the usage of a finished call, or count it."""
        self._unread = None
        try:
            answer = self._come_back(response)
            self._cached = self._is_cache_hit(answer.generations)
            self._reading = read_answer(answer, _NO_COUNT if self._cached else self._own_count)
            if not self._cached and self._reading.source == "reported":
                self._calibrate(self._reading.usage)
        except Exception as error:  # noqa: BLE001  whatever a foreign object raises when it is read
            self._guess(error)
        self._forget_content()

    def _guess(self, error: Exception) -> None:
        """Count the request of a call whose answer cannot be read."""
        self._cached, sent = False, 0
        with suppress(Exception):  # the request may be what cannot be read
            sent = self._count_request()
        flaw = f"the answer cannot be read ({type(error).__name__}: {error})"
        self._reading = UsageReading(Usage(sent, 0), "estimated", (flaw,))

    def settle_refused(self) -> None:
        """End a call that was never sent: nothing is billed for it."""
        self._end("refused")
        self._cached, self._reading = False, UsageReading(Usage(), "unbilled")
        self._forget_content()

    def settle_failed(
        self, error: BaseException | None, response: LLMResult | None, status: Status
    ) -> None:
        """Read what a broken call used: what its exception says, its input, what had arrived."""
        self._end(status)
        self._cached = False
        try:
            self._reading = read_failure(
                error,
                self._come_back(response),
                self._own_count,
                handled=self._handled,
                was_sent=self._staged is None or not self._staged.waiting,
            )
        except Exception as unreadable:  # noqa: BLE001  as in _read
            self._guess(unreadable)
        self._forget_content()

    def _end(self, status: Status) -> None:
        self._duration = perf_counter() - self._started_clock
        self._status: Status = status
        if self._staged is None:  # the seam may have announced the run after we heard of it
            self._staged = published_run(self.key)
        with suppress(Exception):  # foreign messages; the call is counted whatever they hold
            self._tool_results = tokens_of_results(self._sent_messages or (), self._model or "")
        with suppress(Exception):  # foreign schemas
            if self._staged is None or self._staged.tool_choice is None:
                self._offered = offered_in(self._sent_tools)

    def _come_back(self, response: LLMResult | None) -> CallAnswer:
        """Return what came back, and take note of who has answered."""
        prompts = response.generations if response is not None else ()
        generations: Sequence[Generation] = (
            prompts[0] if len(prompts) == 1 else [g for of_prompt in prompts for g in of_prompt]
        )
        message = self._answer
        if message is not None and getattr(generations[0], "message", None) is not message:
            # LangChain's in-memory cache keeps this very generation, and a hit since then has put
            # another message into it.
            generations = [ChatGeneration(message=message)]
        answer = CallAnswer(
            generations,
            response.llm_output if response is not None else None,
            self._pieces or self._deltas or (),
            "" if self._staged is None else "".join(self._staged.received),
            self._batch_size,
        )
        self._names = names_of(answer)
        return answer

    def _forget_content(self) -> None:
        """Keep no prompts and answers alive for the sake of a record that has none."""
        self._messages = self._pieces = self._deltas = self._answer = None
        self._prompt = ""
        self._handled = None
        self._params = _EMPTY if self._metadata.get("ls_model_name") else self._params

    @property
    def _own_count(self) -> OwnCount:
        return OwnCount(self._count_request, self._count)

    def _count_request(self) -> int:
        """Count the request as it was sent."""
        messages = self._sent_messages
        if messages is None:
            return self._count(self._prompt)
        return count_messages(messages, self._sent_tools, self._model or "").tokens

    @property
    def _sent_tools(self) -> Any:
        """The tools as they were sent."""
        if self._staged is not None and self._staged.sent is not None:
            return self._staged.sent_kwargs.get("tools")
        return self._params.get("tools")

    @property
    def _sent_messages(self) -> list[BaseMessage] | None:
        """The messages as they were sent; ``None`` for a text model."""
        if self._staged is not None and self._staged.sent is not None:
            return list(self._staged.sent)
        return self._messages

    def _count(self, text: str) -> int:
        return counter_for(self._model or "").count(text).tokens

    def _is_cache_hit(self, generations: Sequence[Generation]) -> bool:
        """Whether a response cache answered, by the seam's word or by the marks of a hit."""
        if self._staged is not None:
            return self._staged.answered_by is not None
        if self._pieces is not None or not generations:
            return False
        return is_marked_hit(generations[0], UUID(int=self.key))

    def _calibrate(self, reported: Usage) -> None:
        """Compare our count of the request with the provider's, if we can only estimate it."""
        model, messages = self._model or "", self._messages
        if self._staged is not None or messages is None or reported.input_tokens <= 0:
            return
        if _calibrated.get(model, 0) >= _CALIBRATION_CALLS:
            return
        if sum(len(str(message.content)) for message in messages) > _CALIBRATION_CHARS:
            return
        _calibrated[model] = _calibrated.get(model, 0) + 1
        counted = count_messages(messages, self._params.get("tools"), model)
        if not counted.exact:
            calibrate(model, counted.tokens, reported.input_tokens)

    def add_inner(self, call: CallInFlight) -> None:
        """Take note of a call that this one's model makes itself."""
        self.inner = [*self.inner, call]

    def only_hands_on(self) -> bool:
        """Whether the model has only handed on what the models that it asked were billed."""
        made, self.inner = self.inner, _NO_CALLS
        run = ModelRun(inner=[usage for call in made if (usage := call.usage) is not None])
        run.delegates = True
        is_told = self._is_told
        return run.explains(self.usage if is_told else None)

    @property
    def usage(self) -> Usage | None:
        """What the call has used; ``None`` while it lasts."""
        if self._unread is not None:
            self._read(self._unread)
        reading: UsageReading | None = getattr(self, "_reading", None)
        return None if reading is None else reading.usage

    @property
    def _is_told(self) -> bool:
        """Whether the provider says what the call has used."""
        usage = self.usage
        return usage is not None and self._reading.source not in ("estimated", "unbilled")

    # The record

    def record(self, rate_card: RateCard, whose: Mapping[str, str]) -> CallRecord:
        """Price the call and put it on somebody's account.

        Args:
            rate_card: Prices.
            whose: ``user`` and ``organization``, unless its metadata names them.
        """
        if self._unread is not None:
            self._read(self._unread)
        root, tool, chain, agent = self._ancestry
        attribution = attribution_of(
            self._metadata,
            agent=agent,
            fallback_agent=chain,
            fallback_user=whose.get("user"),
            fallback_organization=whose.get("organization"),
            tool=tool,
        )
        run_id, reading = UUID(int=self.key), self._reading
        provider, model, usage = self._provider, self._model, reading.usage
        stages: tuple[str, ...] = ()
        savings: tuple[Saving, ...] = ()
        choice: ToolChoice | None = None
        staged = self._staged
        if staged is not None:
            model = staged.sent_model or model
            provider = staged.sent_provider or provider
            if staged.earlier is not None and not staged.reports_earlier:
                usage += staged.earlier
            if self._cached and staged.saved_usage is not None:
                usage = staged.saved_usage
        started_at = datetime.fromtimestamp(self._started_at, UTC)
        price = rate_card.price(
            usage,
            model,
            provider,
            started_at,
            self._names.service_tier,
            response_model=self._names.model,
            answered=reading.source != "unbilled",
        )
        if staged is not None:
            stages = tuple(staged.stages)
            savings = self._priced_savings(
                staged, run_id, price.rates, attribution.agent, model, started_at
            )
            choice = staged.tool_choice
        if choice is None and self._offered and not self._cached:
            choice = self._shown(run_id)
        return CallRecord(
            run_id=run_id,
            model=model,
            provider=provider,
            usage=usage,
            started_at=started_at,
            duration_seconds=max(0.0, self._duration - self._seconds_elsewhere),
            cost_nano_usd=0 if self._cached else price.cost_nano_usd,
            source=reading.source,
            status=self._status,
            cached=self._cached,
            attribution=attribution,
            run=str(root or run_id),
            saved_nano_usd=price.cost_nano_usd if self._cached else 0,
            first_chunk_seconds=None
            if self._first_chunk_at is None
            else self._first_chunk_at - self._started_clock,
            response_model=self._names.model,
            service_tier=self._names.service_tier,
            stages=stages,
            savings=savings,
            tool_choice=_completed(choice, run_id, attribution.agent, model, started_at),
            flaws=reading.flaws,
            unpriced=() if self._cached else price.unpriced,
            rates_version=None if price.rates is None else rate_card.version,
            tool_results=()
            if self._cached or reading.source == "unbilled"
            else shares_of(self._tool_results, usage, price.rates),
        )

    @property
    def _seconds_elsewhere(self) -> float:
        tried = () if self._staged is None else self._staged.elsewhere
        return sum(attempt.seconds for attempt in tried)

    def elsewhere(self, rate_card: RateCard, record: CallRecord) -> Iterator[CallRecord]:
        """Yield a record of each other model that was asked before the one that has answered."""
        for number, tried in enumerate(() if self._staged is None else self._staged.elsewhere):
            price = rate_card.price(tried.usage, tried.model, tried.provider, record.started_at)
            yield CallRecord(
                run_id=uuid5(record.run_id, f"attempt {number}"),
                model=tried.model,
                provider=tried.provider,
                usage=tried.usage,
                started_at=record.started_at,
                duration_seconds=tried.seconds,
                cost_nano_usd=price.cost_nano_usd,
                source="reported" if tried.is_told else "estimated",
                attribution=record.attribution,
                run=record.run,
                stages=record.stages,
                unpriced=price.unpriced,
                rates_version=None if price.rates is None else rate_card.version,
            )

    def _shown(self, run_id: UUID) -> ToolChoice:
        """Return what a request has shown among whose tools no stage has chosen: all of them."""
        tokens = sum(tool.tokens for tool in self._offered)
        return ToolChoice(
            offered=self._offered,
            left_out=0,
            tokens_before=tokens,
            tokens_after=tokens,
            called=self._called,
            id=run_id,  # several trackers may hear of the call
        )

    @property
    def _provider(self) -> str | None:
        """Who sends the bill."""
        provider: str | None = self._metadata.get("ls_provider")
        settings = self._serialized.get("kwargs") or _EMPTY
        return billing_provider(provider, base_url_in(settings, provider))

    def plain_record(self, error: Exception) -> CallRecord:
        """Return a record of what is certain, where the whole one cannot be made."""
        reading: UsageReading | None = getattr(self, "_reading", None)
        run_id = UUID(int=self.key)
        flaw = f"the record could not be completed ({type(error).__name__}: {error})"
        return CallRecord(
            run_id=run_id,
            model=None,
            provider=None,
            usage=Usage() if reading is None else reading.usage,
            started_at=datetime.fromtimestamp(self._started_at, UTC),
            duration_seconds=self._duration,
            cost_nano_usd=None,
            source="estimated" if reading is None else reading.source,
            status=self._status,
            run=str(run_id),
            flaws=(*(() if reading is None else reading.flaws), flaw),
        )

    def _priced_savings(
        self,
        staged: StagedRun,
        run_id: UUID,
        rates: Rates | None,
        agent: str,
        model: str | None,
        at: datetime,
    ) -> tuple[Saving, ...]:
        """Complete the savings of the stages with what only the end of the call knows."""
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


def _completed(
    choice: ToolChoice | None, run_id: UUID, agent: str, model: str | None, at: datetime
) -> ToolChoice | None:
    """Complete what a stage has chosen with what only the end of the call knows."""
    if choice is None:
        return None
    return replace(
        choice,
        run_id=choice.run_id or run_id,
        agent=agent,
        model=choice.model or model,
        at=choice.at or at,
    )


_UNNAMED = AnswerNames()

_NO_CALLS: Sequence[CallInFlight] = ()

_NO_COUNT = OwnCount(lambda: 0, lambda text: 0)
"""Of an answer from a cache: what it once cost, as it was reported then."""


def _answer_with_usage(response: LLMResult) -> BaseMessage | None:
    """Return the only answer, if it says what it cost, and nothing has to be counted for it."""
    if len(response.generations) == 1 and len(response.generations[0]) == 1:
        message: BaseMessage | None = getattr(response.generations[0][0], "message", None)
        usage = getattr(message, "usage_metadata", None)
        if not isinstance(usage, dict):
            return None
        read, wrote = usage.get("input_tokens"), usage.get("output_tokens")
        if (
            (type(read) is int and 0 < read <= ABSURD_TOKENS)
            and (type(wrote) is int and 0 < wrote <= ABSURD_TOKENS)
            and not is_estimated(message)
        ):
            return message
    return None


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
"""Longer requests are not counted a second time for its sake: that would take milliseconds."""
_calibrated: dict[str, int] = {}
