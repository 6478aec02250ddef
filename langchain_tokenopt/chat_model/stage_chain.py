"""One call's way through the stages and back. Knows nothing of sync or async, nor of any stage.

``model.py`` drives it: what may block is handed out as a :data:`Step` for the sync or async half
to perform, and pieces of the answer are fed to it as they come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_tokenopt.core.errors import StopStream
from langchain_tokenopt.core.host_compat import would_stream
from langchain_tokenopt.core.messages import as_chunk, as_message
from langchain_tokenopt.core.staged_runs import ESTIMATED_USAGE, STOPPED_BY, Attempt
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.request.finish_reasons import REASON_KEYS, is_whole, says_cap_reached
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Again, Phase, Stage, StageCall
from langchain_tokenopt.tracking.provider_usage import usage_of
from langchain_tokenopt.tracking.written_text import written

Step = tuple[bool, Callable[[], Any], Callable[[], Awaitable[Any]] | None]
"""Work for a stage: whether it blocks, what to do, and the same as a coroutine if there is one."""

Shown = TypeVar("Shown", bound=ChatGeneration)

MAX_REPEATS = 5
"""How often stages may ask the model again before the last answer stands."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """An attempt after which a stage wants the model asked again."""

    used: Usage
    reports: Sequence[UsageMetadata]
    billed: tuple[str, str | None]
    seconds: float
    otherwise: Answer | None


class StageChain:
    """One call's way through the stages and back; knows nothing of sync or async.

    What may block is handed out as :data:`Step`, for the sync or async half to perform. As a
    context manager it tells the open stages when the call fails.

    Args:
        stages: In the order in which they open.
        request: As the caller made it.
        host_cache: The one of *stages* that acts even when the others only observe.
        rate_limiter: The model's own; the calls wait for it before they ask the model.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        request: ModelRequest,
        host_cache: Stage | None = None,
        rate_limiter: BaseRateLimiter | None = None,
    ) -> None:
        self.request = request
        self.rate_limiter = rate_limiter
        self.run = request.run
        self._callers_model = request.model
        self.answer: Answer | None = None
        self.stopped = False
        self.has_arrived = False
        """Whether the model has sent anything; a stream of nothing is an error of its own."""
        self._stopped_by = ""
        self.shown: list[ChatGenerationChunk] = []
        self._stages = stages
        self._host_cache = host_cache
        self._next = 0
        self._open: list[tuple[int, StageCall]] = []
        self._savings_before: dict[int, int] = {}
        """By position, how many savings there were when the stage had opened."""
        self._spent: dict[int, Usage] = {}
        """By position, what the answers have used that the stage has given up."""
        self._watching: list[tuple[Stage, StageCall]] = []
        self._level = -1
        self._held_info: dict[str, Any] = {}
        self._repeats = 0
        self._earlier: UsageMetadata | None = None
        self._uncharged: _Tried | None = None
        self._asked_at = perf_counter()
        self._shown_in_time = 0
        """How many pieces were shown before the end of the answer."""

    def __enter__(self) -> StageChain:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and self._uncharged is not None:
            self._bill(self._uncharged, *self._uncharged.billed)
        while error is not None and self._open:
            _, call = self._open.pop()
            call.failed(error)

    # Outward

    def opening(self) -> Generator[Step, Any, None]:
        """Open the stages that are not open yet, outermost first, until one has the answer."""
        while self._next < len(self._stages) and self.answer is None:
            stage, position = self._stages[self._next], self._next
            self._next += 1
            request = self.request
            observing = request.observe and stage is not self._host_cache
            if request.observe and not observing:
                request = request.override(observe=False)
            aopen = getattr(stage, "aopen", None)
            call: StageCall | None = yield (
                stage.blocking,
                partial(stage.open, request),
                aopen and partial(aopen, request),
            )
            if call is None:
                continue
            self._open.append((position, call))
            self._savings_before[position] = len(self.run.savings)
            if not observing:
                self.answer = call.answer
                if call.request is not request:
                    self.request = call.request.override(observe=self.request.observe)
                    self._note_route(stage, request.model)
        self._watching = [
            (self._stages[position], call)
            for position, call in self._open
            if type(call).chunk is not StageCall.chunk
        ]
        self._level = len(self._watching) - 1
        if self.answer is None:
            self.run.sent, self.run.sent_kwargs = self.request.messages, self.request.kwargs
            if self._uncharged is not None:
                self._bill(self._uncharged, *self._billed)
            if self.request.model is not self._callers_model or self.run.sent_model:
                self.run.sent_model, self.run.sent_provider = self._billed
            self._asked_at = perf_counter()

    @property
    def _billed(self) -> tuple[str, str | None]:
        """By which names the model that is asked, and who bills it, are known."""
        facts = self.request.facts
        return facts.billed_name, facts.billed_by

    def _note_route(self, stage: Stage, before: BaseChatModel) -> None:
        """Wait for the limiter of the model that a stage has chosen, not for the caller's."""
        model = self.request.model
        if stage.phase == Phase.ROUTE and model is not before:
            self.rate_limiter = model.rate_limiter

    def streams(self, *, async_api: bool) -> bool:
        """Whether the model may stream; of the caller's own, LangChain has decided that."""
        request = self.request
        return request.model is self._callers_model or would_stream(
            request.model, request.kwargs, async_api=async_api
        )

    @property
    def has_stages(self) -> bool:
        """Whether any stage may act."""
        return bool(self._stages)

    @property
    def wants_stream(self) -> bool:
        """Whether to stream the model although the caller does not: a stage may stop it."""
        return (
            any(call.may_stop for _, call in self._watching)
            and not self.request.observe
            and self.request.facts.generations == 1
        )

    # Back: pieces of the answer

    @property
    def passes_pieces(self) -> bool:
        """Whether pieces are shown as the model sends them."""
        return self.answer is None and (self.request.observe or not self._watching)

    def feed(self, chunk: ChatGenerationChunk) -> list[ChatGenerationChunk]:
        """Take a piece from the model through the stages; return what may be shown now."""
        self.has_arrived = True
        if not self._watching or not isinstance(chunk.message, AIMessageChunk):
            self.shown.append(chunk)
            return [chunk]
        message = chunk.message
        self.run.received.append(written(message))
        self.run.at_cap |= _is_at_cap(chunk)
        if message.usage_metadata:
            self.run.pieces.append(message)
        pieces = self._push([message], self._level)
        if self.request.observe or (len(pieces) == 1 and pieces[0] is message):
            self.shown.append(chunk)
            return [chunk]
        self._held_info.update(chunk.generation_info or {})
        return self._show(pieces)

    def rescued(self, error: Exception) -> ChatResult:
        """Return the answer that the model has given and its own class could not read.

        Raises:
            Exception: *error*, where no stage can read it either.
        """
        for _, call in reversed(self._open):
            result = call.rescued(error)
            if result is not None:
                return result
        raise error

    def rescued_end(self, error: Exception) -> ChatGenerationChunk:
        """Return the piece that is missing of a stream whose end could not be read.

        Raises:
            Exception: *error*, as :meth:`rescued`.
        """
        last = as_one_chunk(Answer(self.rescued(error)))
        if self.has_arrived:  # all but how it ended, and what was used
            nothing = {"content": "", "tool_call_chunks": []}
            last.message = last.message.model_copy(update=nothing)
        return last

    def resting(self) -> Generator[Step, Any, list[ChatGenerationChunk]]:
        """Return what the stages held back, at the end of the answer."""
        pieces: list[AIMessageChunk] = []
        self._shown_in_time = len(self.shown)
        while self._level >= 0:
            level, self._level = self._level, self._level - 1
            stage, call = self._watching[level]
            afinish = getattr(call, "afinish", None)
            held = yield stage.blocking, call.finish, afinish
            pieces += self._push(list(held), level - 1)
        if self.request.observe:
            return []
        if not pieces and self.has_arrived and (self._held_info or not self.shown):
            pieces = [
                AIMessageChunk(content="")
            ]  # LangChain takes a stream of nothing for an error
        return self._show(pieces)

    def refuse_nothing(self) -> None:
        """Fail on a stream of nothing as LangChain does, so that fallbacks act.

        Raises:
            ValueError: The model has ended its stream without a piece.
        """
        if not self.shown and not self.has_arrived:
            raise ValueError("No generation chunks were returned")

    def _push(self, pieces: list[AIMessageChunk], level: int) -> list[AIMessageChunk]:
        """Pass *pieces* from the stage at *level* on to the outermost."""
        for position in range(level, -1, -1):
            (stage, call), passed = self._watching[position], []
            try:
                for piece in pieces:
                    for out in call.chunk(piece):
                        passed.append(out)  # noqa: PERF402  what came before StopStream counts
            except StopStream:
                passed += call.finish()
                self._level = position - 1
                self.stopped = self.run.stopped = not self.request.observe
                self._stopped_by = type(stage).__name__
            pieces = passed
        return pieces

    def _show(self, pieces: list[AIMessageChunk]) -> list[ChatGenerationChunk]:
        chunks = [ChatGenerationChunk(message=piece) for piece in pieces]
        if chunks and self._held_info:
            chunks[-1].generation_info, self._held_info = self._held_info, {}
        self.shown += chunks
        return chunks

    # Back: the whole answer

    def whole(self, result: ChatResult) -> Generator[Step, Any, Answer]:
        """Take an answer that came in one piece through the stages."""
        result = _saying_its_end(result)
        if self.answer is not None:
            answer = self.answer
        elif self.wants_answer:
            answer = Answer(result, storable=is_whole(result.generations))
        else:  # nobody will ask whether it may be kept
            answer = Answer(result)
        if not self._watching or len(result.generations) != 1:
            return answer
        (generation,) = result.generations
        if not isinstance(generation.message, AIMessage):  # some hosts answer with other messages
            return answer
        said = generation.generation_info or {}
        metadata = {**said, **generation.message.response_metadata}
        message = generation.message.model_copy(update={"response_metadata": metadata})
        piece = as_chunk(message)
        shown = self.feed(ChatGenerationChunk(message=piece, generation_info=said or None))
        shown += yield from self.resting()
        if self.request.observe or (len(shown) == 1 and shown[0].message is piece):
            return answer
        changed = self.shown_answer()
        return changed.override(
            result=ChatResult(generations=changed.result.generations, llm_output=result.llm_output)
        )

    def shown_answer(self) -> Answer:
        """Put together what was shown."""
        if self.answer is not None and not self._watching:
            return self.answer
        first, *others = self.shown
        merged = first + others if others else first
        message = as_message(merged.message)
        generation = ChatGeneration(message=message, generation_info=merged.generation_info)
        result = ChatResult(generations=[generation])
        storable = self.answer is None or self.answer.storable
        return (self.answer or Answer(result)).override(
            result=result,
            complete=not self.stopped,
            storable=storable and not self.stopped and is_whole(result.generations),
        )

    def mark_of_stop(self) -> AIMessageChunk | None:
        """Return what an answer that a stage has cut says of itself; ``None``: it was not cut.

        The provider's own end never came, and with it neither the usage nor the model's name.
        Stages are shown the answer without this mark: a budget has to know what was reported.
        """
        if not self.stopped:
            return None
        facts, said = self.request.facts, self.shown[-1].message.response_metadata
        marks: dict[str, Any] = {STOPPED_BY: self._stopped_by}
        if not any("model_name" in chunk.message.response_metadata for chunk in self.shown):
            marks["model_name"] = facts.model_name
        if not said.get("finish_reason") and not said.get("stop_reason"):
            marks["finish_reason"] = "length"
        usage = None
        if not any(getattr(chunk.message, "usage_metadata", None) for chunk in self.shown):
            read = facts.input_tokens.tokens
            wrote = facts.counter.count("".join(self.run.received)).tokens
            usage = UsageMetadata(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)
            marks[ESTIMATED_USAGE] = True
        return AIMessageChunk(content="", response_metadata=marks, usage_metadata=usage)

    def with_earlier(self, generation: Shown) -> Shown:
        """Return an answer, or a piece of one, whose usage has that of earlier attempts in it.

        Whoever adds up what messages report then has what the run was billed. Only those outside
        are told: stages have the earlier usage apart from the answer's.
        """
        usage = getattr(generation.message, "usage_metadata", None)
        if not usage or self._earlier is None or self.stopped or self.run.reports_earlier:
            return generation
        self.run.reports_earlier = True
        changes = {"usage_metadata": add_usage(self._earlier, usage)}
        message = generation.message.model_copy(update=changes)
        return generation.model_copy(update={"message": message})

    def whole_bill(self, result: ChatResult) -> ChatResult:
        """Return a result whose usage has that of earlier attempts in it."""
        if self._earlier is None or len(result.generations) != 1:
            return result
        (generation,) = result.generations
        return ChatResult(generations=[self.with_earlier(generation)], llm_output=result.llm_output)

    @property
    def wants_answer(self) -> bool:
        """Whether any open stage looks at the whole answer."""
        return any(type(call).close is not StageCall.close for _, call in self._open)

    def closing(self, answer: Answer, repeatable: bool) -> Generator[Step, Any, Answer | None]:
        """Close the stages, innermost first; ``None`` when the model is to be asked again."""
        self.run.repeats_left = MAX_REPEATS - self._repeats
        answer = next((call.held for _, call in self._open if call.held is not None), answer)
        tried, is_kept = self._uncharged, False
        while self._open:
            position, call = self._open.pop()
            blocking = self._stages[position].blocking
            outcome: Answer | Again = yield blocking, partial(call.close, answer), None
            is_kept = is_kept or (tried is not None and outcome is tried.otherwise)
            if not isinstance(outcome, Again):
                answer = answer if self.request.observe else outcome
            elif self.request.observe:
                pass
            elif (repeatable or outcome.continues) and self._repeats < MAX_REPEATS:
                if tried is not None and not is_kept:
                    self._bill(tried, *tried.billed)
                self._open.append((position, call))
                self._repeat_from(position, outcome, answer, keeps_shown=not repeatable)
                return None
            else:
                answer = outcome.otherwise or answer
        if tried is not None and not is_kept:
            self._bill(tried, *tried.billed)
        return answer

    def _charge(self, position: int, used: Usage) -> None:
        """Have the stage at *position* pay for an answer that it has given up.

        What stages further in have saved of it and spent on it is part of that.
        """
        for inner in [other for other in self._spent if other > position]:
            used += self._spent.pop(inner)
        self._spent[position] = self._spent.get(position, Usage()) + used
        _, call = self._open[-1]
        call.spent = self._spent[position]
        del self.run.savings[self._savings_before[position] :]

    def _bill(self, tried: _Tried, model: str, provider: str | None) -> None:
        """Add an attempt to the run's bill, for which now *model* is asked."""
        run, self._uncharged = self.run, None
        run.earlier = (run.earlier or Usage()) + tried.used
        for report in tried.reports:
            self._earlier = add_usage(self._earlier, report)
        if (model, provider) != tried.billed:
            tokens, is_told = run.earlier, bool(tried.reports)
            run.elsewhere.append(Attempt(*tried.billed, tokens, tried.seconds, is_told))
            run.earlier = self._earlier = None

    def _repeat_from(
        self, position: int, again: Again, answer: Answer, *, keeps_shown: bool
    ) -> None:
        """Make ready to open the stages behind *position* once more.

        This attempt is charged when the model is asked again; or at the end, if a stage has
        answered then and the attempt is not what the caller gets after all.
        """
        before = self.request.model
        used = usage_of(answer, self.request, self.run.pieces, self.run.received)
        self._charge(position, used)
        told = [message for message in self.run.pieces if isinstance(message, AIMessage)]
        reports = [m.usage_metadata for m in told or [answer.message] if m.usage_metadata]
        seconds = perf_counter() - self._asked_at
        self._uncharged = _Tried(used, reports, self._billed, seconds, again.otherwise)
        self.run.received.clear()
        self.run.pieces.clear()
        self.run.stopped = self.stopped = self.has_arrived = self.run.at_cap = False
        self.request, self.answer = again.request, None
        self.shown = self.shown[: self._shown_in_time] if keeps_shown else []
        self._held_info = {}
        self._note_route(self._stages[position], before)
        self._next = position + 1
        self._repeats += 1


def as_one_chunk(answer: Answer) -> ChatGenerationChunk:
    """Return a whole answer as the only piece of a stream."""
    info = answer.result.generations[0].generation_info
    return ChatGenerationChunk(message=as_chunk(answer.message), generation_info=info)


def _is_at_cap(chunk: ChatGenerationChunk) -> bool:
    said = chunk.generation_info or {}
    return says_cap_reached(said) or says_cap_reached(chunk.message.response_metadata)


def _saying_its_end(result: ChatResult) -> ChatResult:
    """Return *result* with the reason of its end on its message.

    Some integrations put it beside the message, as Anthropic's does. LangChain itself adds it to
    the message later: stages are to see why the answer ended.
    """
    beside = result.llm_output or {}
    told = {key: beside[key] for key in REASON_KEYS if beside.get(key) is not None}
    if not told or len(result.generations) != 1:
        return result
    (generation,) = result.generations
    metadata = {**told, **generation.message.response_metadata}
    message = generation.message.model_copy(update={"response_metadata": metadata})
    said = generation.model_copy(update={"message": message})
    return ChatResult(generations=[said], llm_output=result.llm_output)
