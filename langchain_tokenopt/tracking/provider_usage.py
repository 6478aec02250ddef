"""What a call has used: the one reader of provider usage, for trackers, plans and stages alike.

Usage comes on messages, on their chunks, beside them and inside of exceptions, whole or in part.
Where it is missing or cannot be true, the call is counted by ourselves. Every reading says how it
was found. The names and numbers of the reports themselves are read in ``core/usage.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokenopt.core.host_compat import core_marks_cache_hits
from langchain_tokenopt.core.records import Source
from langchain_tokenopt.core.staged_runs import ESTIMATED_USAGE, CacheHit, StagedRun
from langchain_tokenopt.core.usage import Usage, UsageReport, judged, read_report
from langchain_tokenopt.core.usage_numbers import combined, fields_of, numbers_in
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.tracking.answer_media import with_media
from langchain_tokenopt.tracking.failed_calls import may_have_been_billed, report_in, text_in
from langchain_tokenopt.tracking.written_text import written

__all__ = [
    "CallAnswer",
    "OwnCount",
    "UsageReading",
    "as_kept",
    "asked_model",
    "avoided_by",
    "is_estimated",
    "is_marked_hit",
    "names_of",
    "read_answer",
    "read_failure",
    "usage_of",
]


@dataclass(frozen=True, slots=True)
class UsageReading:
    """What a call has used, and how that was found."""

    usage: Usage
    source: Source
    flaws: tuple[str, ...] = ()
    """What cannot be true about the report."""


class OwnCount(NamedTuple):
    """How to count a call of which the provider does not say, or not believably, what it used."""

    sent: Callable[[], int]
    """Counts the request."""
    written: Callable[[str], int]
    """Counts a text of the model."""


class CallAnswer(NamedTuple):
    """What came back for a call, as far as it came."""

    generations: Sequence[Generation] = ()
    llm_output: Mapping[str, Any] | None = None
    pieces: Sequence[Any] = ()
    """The chunks of a stream as they came: messages, or texts."""
    received: str = ""
    """What the model wrote, where a stage has changed it since."""
    batch_size: int = 1
    """How many prompts were sent together: text models report on all of them at once."""

    @property
    def text(self) -> str:
        """Everything the model wrote."""
        if self.received:
            return self.received
        shown = "".join(written(getattr(g, "message", g.text)) for g in self.generations)
        return shown or "".join(map(written, self.pieces))


def read_answer(answer: CallAnswer, own: OwnCount, *, is_whole: bool = True) -> UsageReading:
    """Read what a finished call has used.

    A prompt that was answered, and an answer that is not empty, cannot have cost nothing: where
    the report says so or says nothing, that side is counted and the reading is an estimate.

    Args:
        answer: What came back.
        own: Counts what is not reported.
        is_whole: False where the answer was cut off: what was reported by then may be too little.

    Example:
        >>> said = {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9}
        >>> message = AIMessage("two words", usage_metadata=said)
        >>> reading = read_answer(
        ...     CallAnswer([ChatGeneration(message=message)]), OwnCount(lambda: 8, len)
        ... )
        >>> reading.usage, reading.source
        (Usage(input_tokens=9, output_tokens=9), 'estimated')
    """
    if answer.batch_size > 1 and _is_reported_with_first(answer):
        return UsageReading(Usage(), "reported")
    report = _report_on(answer, own)
    if report is None:
        return UsageReading(Usage(own.sent(), own.written(answer.text)), "estimated")
    reading = _completed(report, answer.text, own, "reported", is_whole=is_whole)
    messages = (each for g in answer.generations if (each := getattr(g, "message", None)))
    usage = with_media(reading.usage, messages, lambda: own.written(answer.text))
    return reading if usage is reading.usage else replace(reading, usage=usage)


def read_failure(
    error: BaseException | None,
    answer: CallAnswer,
    own: OwnCount,
    *,
    handled: BaseException | None = None,
    was_sent: bool = True,
) -> UsageReading:
    """Read what a call has used that brought no whole answer.

    Its provider has billed what had arrived, and what the exception says; all of the request where
    it was under way when its client gave up; nothing where it was refused or never got through
    (:func:`~langchain_tokenopt.tracking.failed_calls.may_have_been_billed`).

    Args:
        error: What has ended the call.
        answer: What had arrived by then.
        own: Counts what is not reported.
        handled: An exception that was being handled when the call began; it is not about this call.
        was_sent: False where the call still waited for its turn.
    """
    report = None if error is None else report_in(error, handled)
    if report is not None:
        return _completed(report, answer.text, own, "exception", is_whole=True)
    text = answer.text or ("" if error is None else text_in(error, handled))
    if text or answer.pieces:
        report = _report_on(answer, own)
        if report is None:
            return UsageReading(Usage(own.sent(), own.written(text)), "estimated")
        return replace(
            _completed(report, text, own, "reported", is_whole=False), source="estimated"
        )
    if was_sent and (error is None or may_have_been_billed(error, handled)):
        return UsageReading(Usage(own.sent(), 0), "estimated")
    return UsageReading(Usage(), "unbilled")


def usage_of(
    answer: Answer,
    request: ModelRequest,
    pieces: Sequence[BaseMessage] = (),
    received: Sequence[str] = (),
) -> Usage:
    """Return what *answer* to *request* has used.

    Args:
        answer: As it is shown.
        request: As it was sent.
        pieces: Those of the model's own pieces that report usage, where stages have seen them.
        received: What the model wrote, where stages have seen it.
    """
    facts = request.facts
    own = OwnCount(lambda: facts.input_tokens.tokens, lambda text: facts.counter.count(text).tokens)
    generations: Sequence[Generation] = answer.result.generations
    if pieces:
        generations = [ChatGeneration(message=pieces[0])]
    found = CallAnswer(generations, answer.result.llm_output, pieces, "".join(received))
    return read_answer(found, own).usage


_SAVED_INPUT: Final = "tokenopt_saved_input"
"""In ``response_metadata`` of an answer in a cache: input that stages saved when it was made."""


def as_kept(generations: Sequence[Generation], run: StagedRun) -> list[Generation]:
    """Return an answer for a cache, which says what its request was without any stage.

    A hit saves all of that, whatever the stages further in had saved of it already.
    """
    input_ = [s.saved_tokens if s.side == "input" else -s.spent_tokens for s in run.savings]
    saved = sum(input_) + (run.earlier.total_tokens if run.earlier else 0)
    if not saved or any(s.observed for s in run.savings):
        return list(generations)
    return [_noting(generation, saved) for generation in generations]


def _noting(generation: Generation, saved: int) -> Generation:
    message = getattr(generation, "message", None)
    if not isinstance(message, AIMessage):
        return generation
    said = {**message.response_metadata, _SAVED_INPUT: saved}
    noted = message.model_copy(update={"response_metadata": said})
    return generation.model_copy(update={"message": noted})


def avoided_by(answer: Answer, request: ModelRequest) -> Usage:
    """Return what *request* would have used; its answer is a cache's own copy, to be served."""
    used = usage_of(answer, request)
    for generation in answer.result.generations:
        said = generation.message.response_metadata.pop(_SAVED_INPUT, None)
        if isinstance(said, int):
            used = replace(used, input_tokens=max(0, used.input_tokens + said))
    return used


def _completed(
    report: UsageReport, text: str, own: OwnCount, source: Source, *, is_whole: bool
) -> UsageReading:
    """Count what the report does not tell."""
    usage = report.usage
    read, wrote = usage.input_tokens, usage.output_tokens
    if not read:
        read = max(own.sent(), usage.cache_read_tokens + usage.cache_write_tokens)
    if (not wrote or not is_whole) and text:
        wrote = max(wrote, own.written(text), usage.reasoning_tokens)
    wrote = max(wrote, report.undivided_tokens - read)
    if (read, wrote) != (usage.input_tokens, usage.output_tokens):
        usage, source = replace(usage, input_tokens=read, output_tokens=wrote), "estimated"
    elif report.is_repaired and source == "reported":
        source = "repaired"
    return UsageReading(usage, source, report.flaws)


def _is_reported_with_first(answer: CallAnswer) -> bool:
    """Whether LangChain has left the report on a batch with its first prompt."""
    return (answer.llm_output or {}).get("token_usage") == {} and not any(
        isinstance(generation, ChatGeneration) for generation in answer.generations
    )


# --- where reports stand


def _report_on(answer: CallAnswer, own: OwnCount) -> UsageReport | None:
    """Find the report of the whole call; ``None`` where the provider was silent."""
    report = _report_of_chunks(answer, own) or _report_of_messages(answer.generations)
    if _lists_iterations(answer):
        return _report_beside(answer) or report
    if report is not None and report.usage.total_tokens and _has_parts(report.usage):
        return report
    beside = _report_beside(answer)
    if report is None or beside is None:
        return report or beside
    if not report.usage.total_tokens or _same_sides(report.usage, beside.usage):
        return beside  # the message has lost the parts
    return report


def _lists_iterations(answer: CallAnswer) -> bool:
    """Whether the provider lists turns, whose sum is more than what the message says."""
    return any(
        isinstance(usage := fields.get("usage"), Mapping) and usage.get("iterations")
        for fields in _beside(answer)
    )


def _has_parts(usage: Usage) -> bool:
    return usage != Usage(usage.input_tokens, usage.output_tokens)


def _same_sides(one: Usage, other: Usage) -> bool:
    return (one.input_tokens, one.output_tokens) == (other.input_tokens, other.output_tokens)


def _report_of_chunks(answer: CallAnswer, own: OwnCount) -> UsageReport | None:
    """Read the reports of a stream's chunks, which LangChain adds up whatever they mean."""
    told = [
        numbers
        for piece in answer.pieces
        if isinstance(piece, AIMessage)
        and piece.usage_metadata
        and not is_estimated(piece)
        and (numbers := numbers_in(piece.usage_metadata)) is not None
    ]
    if len(told) < 2:
        return None
    return judged(combined(told, lambda: own.written(answer.text)))


def _report_of_messages(generations: Sequence[Generation]) -> UsageReport | None:
    """Read the usage of the messages.

    With several generations, providers put the usage of the whole call on each message, or on the
    first alone; where messages carry different numbers each has its own output.
    """
    told = [
        report
        for generation in generations
        if (message := getattr(generation, "message", None)) is not None
        and not is_estimated(message)
        and (report := read_report(getattr(message, "usage_metadata", None))) is not None
    ]
    if len(told) < 2:
        return told[0] if told else None
    largest = max(told, key=lambda report: report.usage.total_tokens)
    if all(report.usage in (largest.usage, Usage()) for report in told):
        return largest
    each = sum(report.usage.output_tokens for report in told)
    return largest._replace(usage=replace(largest.usage, output_tokens=each))


_REPORTS: Final = ("token_usage", "usage", "usage_metadata", "usageMetadata")
"""Where providers' own reports stand, beside the message or in its metadata."""


def _report_beside(answer: CallAnswer) -> UsageReport | None:
    """Read what the provider's own answer says, which integrations keep beside the message."""
    for fields in _beside(answer):
        for name in _REPORTS:
            report = read_report(fields.get(name))
            if report is not None:
                return report
        report = read_report(fields)  # Ollama: prompt_eval_count, eval_count
        if report is not None and report.has_input and report.has_output:
            return report
    return None


def _beside(answer: CallAnswer) -> list[Mapping[str, Any]]:
    found = [answer.llm_output or {}]
    for generation in answer.generations:
        message = getattr(generation, "message", None)
        if message is not None and not is_estimated(message):
            found.append(message.response_metadata)
        found.append(generation.generation_info or {})
    return found


def is_estimated(message: BaseMessage | None) -> bool:
    """Whether the usage on *message* was counted by the seam."""
    return message is not None and ESTIMATED_USAGE in message.response_metadata


# --- names


def asked_model(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    """Return the name of the model that a run asks, as LangChain tells handlers of it.

    Args:
        metadata: Of the run; chat models name themselves there.
        params: The run's invocation parameters, where all others do.
    """
    return metadata.get("ls_model_name") or params.get("model") or params.get("model_name")


class AnswerNames(NamedTuple):
    """Who has answered, and in which service tier."""

    model: str | None = None
    service_tier: str | None = None
    """``None`` for the ordinary one."""


def names_of(answer: CallAnswer) -> AnswerNames:
    """Return what the provider says of its answer.

    Merging chunks appends a name that stands on two of them to itself: an exact repetition is
    undone. Anthropic and Bedrock tell the tier inside of the usage.

    Example:
        >>> message = AIMessage("", response_metadata={"service_tier": "flexflex"})
        >>> names_of(CallAnswer([ChatGeneration(message=message)])).service_tier
        'flex'
    """
    said: Mapping[str, Any] = answer.llm_output or {}
    for generation in answer.generations:
        if isinstance(generation, ChatGeneration) and generation.message.response_metadata:
            own = generation.message.response_metadata
            said = {**said, **own} if said else own
    model = said.get("model_name") or said.get("model")
    tier = next((tier for tier in _tiers_in(said) if tier not in _ORDINARY_TIERS), None)
    return AnswerNames(_once(model), _once(tier))


_ORDINARY_TIERS: Final = ("", "auto", "default", "on_demand", "standard", "unspecified")


def _tiers_in(said: Mapping[str, Any]) -> list[str]:
    """Return what is said about the tier, the most telling first."""
    usage = next((fields for name in _REPORTS if (fields := fields_of(said.get(name)))), {})
    found = [
        *(said.get("service_tier"), usage.get("speed"), usage.get("service_tier")),
        *(fields_of(where.get("serviceTier")).get("type") for where in (said, usage)),
        *(where.get("serviceTier") for where in (said, usage)),
    ]
    return [_once(str(tier)).lower() for tier in found if isinstance(tier, str)]


def _once(name: Any) -> Any:
    """Undo an exact repetition of two letters or more."""
    if not isinstance(name, str):
        return None if name is None else str(name)
    period = (name + name).find(name, 1)
    return name[:period] if 2 <= period < len(name) else name


# --- cache hits


def is_marked_hit(generation: Generation, run_id: UUID) -> bool:
    """Recognise an answer that LangChain took from a response cache.

    Our own cache marks its ``generation_info``. For others: langchain-core sets ``total_cost`` to 0
    in the usage of a hit (it plans to stop that), and the message keeps the id of the run that once
    produced it.
    """
    if isinstance(generation.generation_info, CacheHit):
        return True
    message = getattr(generation, "message", None)
    if message is None:
        return False
    if core_marks_cache_hits():
        return fields_of(getattr(message, "usage_metadata", None)).get("total_cost") == 0
    prefix, _, rest = (message.id or "").partition("lc_run--")
    return bool(prefix == "" and rest and not rest.startswith(str(run_id)))
