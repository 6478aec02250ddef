"""The word limit as a stage around a model and as a runnable behind one."""

from __future__ import annotations

import threading
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)

from langchain_tokenopt.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.forecast import CUT_FACTOR, UsageForecaster
from langchain_tokenopt.limits.caps import is_structured, may_call_tools, with_cap
from langchain_tokenopt.limits.excerpt import Excerpt, Limit
from langchain_tokenopt.limits.pieces import MessagePieces, TextPieces
from langchain_tokenopt.limits.words import (
    language_of,
    request_line,
    room_for,
    words_in,
)
from langchain_tokenopt.messages import append_to_last_user, last_user_text
from langchain_tokenopt.stage import Answer, ModelRequest, Phase, StopStream, Trip
from langchain_tokenopt.tokens import count_messages, counter_for, model_name_of
from langchain_tokenopt.usage import Saving, attribution_of

__all__ = ["Compliance", "OnExceed", "WordLimit", "WordLimitExceededError"]

OnExceed = Literal["trim", "raise", "warn"]

STAGE = "WordLimit"
"""The name under which savings are recorded."""
STOPPED = f"{STAGE}:stopped"
"""Also among a call's stages when the model was stopped."""
TRIMMED = f"{STAGE}:trimmed"
"""Also among a call's stages when a whole answer was trimmed."""

_KNOWN_ANSWERS = 30
"""Answers of an agent from which on its own lengths decide about ``max_tokens``."""
_CAP_REACHED = {"length", "max_tokens", "MAX_TOKENS", "max_output_tokens"}


class WordLimitExceededError(TokenOptError, ValueError):
    """An answer is longer than allowed, and the limit was told to raise.

    Args:
        limit: What was allowed.
        agent: Whose answer it was.
    """

    def __init__(self, limit: Limit, agent: str) -> None:
        self.max_words = limit.words
        self.max_tokens = limit.tokens
        self.max_sentences = limit.sentences
        self.agent = agent
        super().__init__(
            f"The answer of {agent!r} is longer than the {_described(limit)} allowed, and was "
            f"stopped there. Raise the limit, or use on_exceed='trim' to get the part that fits."
        )


@dataclass(frozen=True, slots=True)
class Compliance:
    """How well an agent kept to its limit."""

    answers: int = 0
    asked: int = 0
    """Answers for which the prompt asked for the length."""
    obeyed: int = 0
    """Of those asked for, how many came within the limit by themselves."""
    obeyed_unasked: int = 0
    """Came within the limit although nobody had asked."""
    trimmed: int = 0
    """Written to the end, billed, and shown in part."""
    stopped: int = 0
    """Ended by cancelling the model's stream."""
    saved_tokens: int = 0
    """Output not written because the model was stopped, less the tokens spent on asking."""
    estimated: bool = False
    """True when ``saved_tokens`` holds an estimate: nobody knows how a stopped answer ends."""

    @property
    def obeyed_ratio(self) -> float | None:
        """Fraction of answers within the limit by themselves; ``None`` without answers."""
        if not self.answers:
            return None
        return (self.obeyed + self.obeyed_unasked) / self.answers

    def __add__(self, other: Compliance) -> Compliance:
        """Sum the counts."""
        return Compliance(
            answers=self.answers + other.answers,
            asked=self.asked + other.asked,
            obeyed=self.obeyed + other.obeyed,
            obeyed_unasked=self.obeyed_unasked + other.obeyed_unasked,
            trimmed=self.trimmed + other.trimmed,
            stopped=self.stopped + other.stopped,
            saved_tokens=self.saved_tokens + other.saved_tokens,
            estimated=self.estimated or other.estimated,
        )


class WordLimit(Runnable[Any, Any]):
    """Keep answers within a length, ending at a sentence, and stop the model there.

    Around a model (``optimize(model, WordLimit(150))``) it asks for the length in the last line of
    the prompt, sets ``max_tokens`` with room to spare, watches the answer, and cancels the request
    when the limit is reached: with ``invoke`` and ``batch`` too, which it streams inside.

    Behind a model (``model | WordLimit(150)``) it can do what LangChain allows there: a stream is
    stopped, also behind parsers; with ``invoke`` the answer has been written and paid for, and is
    trimmed. It does not see whether tools are bound, so a tool call that follows after more text
    than the limit is lost with the rest of the stream; around the model it waits for tool calls.

    Shown are whole sentences, list items, table rows and lines of code, and open markup is closed.
    Only when the very first of them is too long by itself it is cut after a word and ends in "…".
    A text that fits is not changed by a byte. Tool calls, reasoning, images and structured output
    (a schema, a forced tool, text that begins as a JSON object) are never touched.

    Words are what word processors count; in Chinese and Japanese, characters.

    - An empty answer, or one of tool calls only: unchanged.
    - A run without spaces: counts once more for every 100 characters.
    - A model that ignores ``max_tokens``: stopped in the stream, otherwise trimmed.
    - A reader who stops reading: the request is cancelled; nothing is counted.
    - Tools are bound: the text is trimmed, but the model is not stopped or capped, since a tool
      call may follow.
    - Models that think for an unknown length: no ``max_tokens`` is set, it would cut the thinking.

    Args:
        max_words: Most words to show.
        max_tokens: Most tokens to show, counted for the model (as gpt-4o does, behind one).
        max_sentences: Most sentences, list items, table rows and lines of code to show.
        on_exceed: ``"trim"``; ``"raise"`` :class:`WordLimitExceededError` as soon as it shows;
            ``"warn"``, which shows everything.
        ask: Ask for the length in the last line of the last user message, in its language.
        predict: Set ``max_tokens`` from the longest 1 % of what the agent answered before, once 30
            answers are known. Give a :class:`UsageForecaster` to share one.

    Raises:
        TypeError: If a limit is not a whole number.
        ValueError: If there is no limit, one below 1, or two that contradict.

    Example:
        >>> WordLimit(4).invoke("One two three. Four five six.")
        'One two three.'
        >>> WordLimit(4).invoke("One two three four five.")
        'One two three four…'
    """

    phase = Phase.LIMIT
    blocking = False

    def __init__(
        self,
        max_words: int | None = None,
        *,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        on_exceed: OnExceed = "trim",
        ask: bool = True,
        predict: bool | UsageForecaster = False,
    ) -> None:
        _check_limits(max_words, max_tokens, max_sentences)
        if on_exceed not in ("trim", "raise", "warn"):
            raise ValueError(f"on_exceed must be 'trim', 'raise' or 'warn', got {on_exceed!r}.")
        if predict and on_exceed == "warn":
            raise ValueError(
                "predict sets max_tokens, which can cut an answer, and on_exceed='warn' promises "
                "whole ones. Leave one of them out."
            )
        self.limit = Limit(max_words, max_tokens, max_sentences)
        self.on_exceed = on_exceed
        self.ask = ask
        self.forecaster = predict if isinstance(predict, UsageForecaster) else UsageForecaster()
        self.predict = predict is not False
        self._compliance: dict[str, Compliance] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Show the limits."""
        limits = {
            "max_words": self.limit.words,
            "max_tokens": self.limit.tokens,
            "max_sentences": self.limit.sentences,
        }
        given = ", ".join(f"{name}={value}" for name, value in limits.items() if value is not None)
        return f"WordLimit({given}, on_exceed={self.on_exceed!r})"

    @property
    def fingerprint(self) -> str:
        """Name every setting that changes answers."""
        return f"{self!r}:{self.ask}:{self.predict}"

    def compliance(self) -> dict[str, Compliance]:
        """Return, per agent, how well the limit was kept.

        Example:
            >>> limit = WordLimit(2)
            >>> _ = limit.invoke("Far too long."), limit.invoke("Fine.")
            >>> limit.compliance()["default"].trimmed
            1
        """
        with self._lock:
            return dict(self._compliance)

    def count(self, agent: str, change: Compliance) -> None:
        """Add *change* to what is known of *agent*."""
        with self._lock:
            self._compliance[agent] = self._compliance.get(agent, Compliance()) + change

    # A stage around a model

    def open(self, request: ModelRequest) -> Trip | None:
        """Ask for the length, cap the answer, and watch it."""
        if is_structured(request):
            return None
        agent = attribution_of(request.run.metadata).agent
        if request.observe:
            return _ObservedTrip(request, self, agent)
        question = last_user_text(request.messages) or ""
        language = language_of(question)
        messages = self._asked(request.messages, language) if self.ask else request.messages
        kwargs, cap = request.kwargs, None
        tokens = self._cap(request, agent, language)
        if tokens is not None and not may_call_tools(request):
            kwargs, cap = with_cap(request, tokens)
        if STAGE not in request.run.stages:
            request.run.stages.append(STAGE)
        sent = request.override(messages=messages, kwargs=kwargs)
        return _LimitTrip(sent, self, agent, before=request, cap=cap)

    def excerpt(self, model: Any = None) -> Excerpt:
        """Return an empty excerpt under this limit.

        Args:
            model: Whose tokens to count; those of gpt-4o where it is not known.
        """
        counter = counter_for("gpt-4o" if model is None else model)
        return Excerpt(self.limit, lambda text: counter.count(text).tokens)

    def _asked(self, messages: list[BaseMessage], language: str | None) -> list[BaseMessage]:
        limit = self.limit
        words = limit.words
        if words is None and limit.tokens is not None:
            words = words_in(limit.tokens, language)
        line = request_line(language, words=words, sentences=limit.sentences)
        return append_to_last_user(messages, line)

    def _cap(self, request: ModelRequest, agent: str, language: str | None) -> int | None:
        """Return the ``max_tokens`` that no answer within the limit can need."""
        if self.on_exceed == "warn":
            return None
        caps = []
        if self.limit.words is not None:
            caps.append(room_for(self.limit.words, language))
        if self.limit.tokens is not None:
            # To raise, one has to see that the answer goes on.
            caps.append(self.limit.tokens + (8 if self.on_exceed == "raise" else 0))
        if self.predict and (expected := self._longest(request, agent)) is not None:
            caps.append(expected)
        return min(caps, default=None)

    def _longest(self, request: ModelRequest, agent: str) -> int | None:
        model, limited = model_name_of(request.model), self.limit.words is not None
        if self.forecaster.observations(agent, limited=limited) < _KNOWN_ANSWERS:
            return None
        return self.forecaster.quantile(0.99, agent, model=model, max_words=self.limit.words)

    # A runnable behind a model

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Trim a text or a message; return anything else as it is."""
        return self._call_with_config(self._whole, input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Trim a text or a message; return anything else as it is."""

        async def whole(value: Any, run_manager: Any, config: RunnableConfig) -> Any:
            return self._whole(value, run_manager, config)

        return await self._acall_with_config(whole, input, config)

    def _whole(self, value: Any, run_manager: Any, config: RunnableConfig) -> Any:
        reading = _Reading(self, config)
        shown = reading.take(value, last=True)
        reading.close()
        return value if shown is None else shown

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Show a stream as far as it fits, then stop whatever writes it.

        LangChain's own way of writing this method reads a stream to its end for the sake of
        tracing, which costs every token that is not shown.
        """
        config = ensure_config(config)
        run = get_callback_manager_for_config(config).on_chain_start(
            None,
            {"input": ""},
            name=config.get("run_name") or self.get_name(),
            run_id=config.pop("run_id", None),
        )
        reading = _Reading(self, config)
        try:
            for chunk in input:
                shown = reading.take(chunk)
                if shown is not None:
                    yield shown
                if reading.is_over:
                    _stop(input)
                    reading.stopped = True
                    break
            rest = reading.rest()
            if rest is not None:
                yield rest
        except GeneratorExit:
            _stop(input)
            run.on_chain_end(reading.shown)
            raise
        except BaseException as error:
            _stop(input)
            run.on_chain_error(error)
            raise
        reading.close()
        run.on_chain_end(reading.shown)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Show a stream as far as it fits, then stop whatever writes it."""
        config = ensure_config(config)
        run = await get_async_callback_manager_for_config(config).on_chain_start(
            None,
            {"input": ""},
            name=config.get("run_name") or self.get_name(),
            run_id=config.pop("run_id", None),
        )
        reading = _Reading(self, config)
        try:
            async for chunk in input:
                shown = reading.take(chunk)
                if shown is not None:
                    yield shown
                if reading.is_over:
                    await _astop(input)
                    reading.stopped = True
                    break
            rest = reading.rest()
            if rest is not None:
                yield rest
        except GeneratorExit:
            await _astop(input)
            await run.on_chain_end(reading.shown)
            raise
        except BaseException as error:
            await _astop(input)
            await run.on_chain_error(error)
            raise
        reading.close()
        await run.on_chain_end(reading.shown)


def _check_limits(max_words: int | None, max_tokens: int | None, max_sentences: int | None) -> None:
    limits = {"max_words": max_words, "max_tokens": max_tokens, "max_sentences": max_sentences}
    given = {name: value for name, value in limits.items() if value is not None}
    if not given:
        raise ValueError("WordLimit needs a limit: max_words, max_tokens or max_sentences.")
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}.")
        if value < 1:
            raise ValueError(
                f"{name} must be 1 or more, got {value:,}. To ask no model at all, leave it out."
            )
    if max_words is not None and max_tokens is not None and max_tokens < max_words:
        raise ValueError(
            f"max_tokens={max_tokens:,} cannot hold max_words={max_words:,}: a word takes a token "
            f"or more. Give one of them, or at least {max_words:,} tokens."
        )
    if max_words is not None and max_sentences is not None and max_sentences > max_words:
        raise ValueError(
            f"max_sentences={max_sentences:,} can never be reached within max_words={max_words:,}: "
            f"a sentence has a word or more. Give one of them."
        )


def _described(limit: Limit) -> str:
    parts = (("words", limit.words), ("tokens", limit.tokens), ("sentences", limit.sentences))
    return " and ".join(f"{number:,} {name}" for name, number in parts if number is not None)


# --- around a model ------------------------------------------------------------------------------


class _LimitTrip(Trip):
    """One answer under a limit."""

    def __init__(
        self,
        request: ModelRequest,
        stage: WordLimit,
        agent: str,
        *,
        before: ModelRequest,
        cap: int | None,
    ) -> None:
        super().__init__(request)
        self._stage = stage
        self._agent = agent
        self._is_asked = request.messages is not before.messages
        self._asked_at = before.messages
        self._cap = cap
        self._may_stop = not may_call_tools(request)
        self._shows_all = stage.on_exceed == "warn"
        self._excerpt = stage.excerpt(request.model)
        self._pieces = MessagePieces(self._excerpt)
        self._received_before = len(request.run.received)
        self._is_over = False
        self._stopped = False
        self._cap_reached = False

    def chunk(self, chunk: AIMessageChunk) -> Iterable[AIMessageChunk]:
        """Show what fits; end the stream when nothing more can."""
        if _says_cap_reached(chunk):
            self._cap_reached = True
        last = chunk.chunk_position == "last"
        shown = self._pieces.show(chunk, last=last, broken_off=last and self._is_broken_off())
        self._is_over = self._is_over or last
        if self._shows_all:
            yield chunk
            return
        self._refuse_excess()
        if shown is not None:
            yield shown
        can_stop = self._may_stop and not self._pieces.calls_tools and not last
        if can_stop and self._pieces.text.is_full:
            self._stopped = True
            raise StopStream

    def finish(self) -> Iterable[AIMessageChunk]:
        """Show what was held back and fits."""
        if self._is_over:
            return ()
        self._is_over = True
        rest = self._pieces.rest(broken_off=not self._stopped and self._is_broken_off())
        if self._shows_all:
            return ()
        self._refuse_excess()
        return () if rest is None else (rest,)

    def _refuse_excess(self) -> None:
        exceeded = self._excerpt.has_exceeded or self._excerpt.is_cut
        if exceeded and self._stage.on_exceed == "raise":
            raise WordLimitExceededError(self._stage.limit, self._agent)

    def close(self, answer: Answer) -> Answer:
        """Take note of how it went."""
        if len(answer.result.generations) > 1:
            return self._close_several(answer)
        is_cut = self._excerpt.is_cut
        if is_cut and self._shows_all:
            warnings.warn(
                f"The answer of {self._agent!r} is longer than the "
                f"{_described(self._stage.limit)} allowed.",
                TokenOptWarning,
                stacklevel=2,
            )
        is_trimmed = is_cut and not self._stopped
        self._note(answer, is_trimmed=is_trimmed)
        if not is_cut or self._shows_all:
            return answer
        return answer.override(storable=False)

    def _close_several(self, answer: Answer) -> Answer:
        """Trim each of several generations, which do not come as a stream."""
        if self._shows_all:
            return answer
        generations, is_cut = [], False
        for generation in answer.result.generations:
            excerpt = self._stage.excerpt(self.request.model)
            shown = MessagePieces(excerpt).show(generation.message, last=True)  # type: ignore[type-var]
            self._excerpt = excerpt
            self._refuse_excess()
            is_cut = is_cut or excerpt.is_cut
            generations.append(
                ChatGeneration(
                    message=generation.message if shown is None else shown,
                    generation_info=generation.generation_info,
                )
            )
        self._note(answer, is_trimmed=is_cut)
        if not is_cut:
            return answer
        result = ChatResult(generations=generations, llm_output=answer.result.llm_output)
        return answer.override(result=result, storable=False)

    def _note(self, answer: Answer, *, is_trimmed: bool) -> None:
        """Record the saving, count the answer, learn its length."""
        run, model = self.request.run, self.request.model
        counter = counter_for(model)
        reported = answer.message.usage_metadata
        if self._stopped or not reported or "output_tokens" not in reported:
            text = "".join(run.received[self._received_before :]) or answer.message.text
            counted = counter.count(text)
            written, exact = counted.tokens, counted.exact
        else:
            written, exact = reported["output_tokens"], True
        whole = self._whole_length(written) if self._stopped else written
        spent = self._asking_tokens() if self._is_asked else 0
        saving = Saving(
            stage=STAGE,
            side="output",
            tokens_before=whole,
            tokens_after=written,
            spent_tokens=spent,
            exact=exact and not self._stopped,
        )
        run.savings.append(saving)
        if self._stopped or is_trimmed:
            run.stages.append(STOPPED if self._stopped else TRIMMED)
        obeyed = not (self._stopped or is_trimmed)
        self._stage.count(
            self._agent,
            Compliance(
                answers=1,
                asked=int(self._is_asked),
                obeyed=int(obeyed and self._is_asked),
                obeyed_unasked=int(obeyed and not self._is_asked),
                trimmed=int(is_trimmed),
                stopped=int(self._stopped),
                saved_tokens=saving.saved_tokens,
                estimated=not saving.exact,
            ),
        )
        self._stage.forecaster.observe(
            self._agent,
            written,
            model=model_name_of(model),
            max_words=self._stage.limit.words,
            cut=not self._stopped and self._is_broken_off(),
            run_id=run.run_id,
        )

    def _whole_length(self, written: int) -> int:
        """Estimate how long a stopped answer would have become."""
        usual = self._stage.forecaster.quantile(
            0.5, self._agent, model=model_name_of(self.request.model)
        )
        return max(usual or 0, round(written * CUT_FACTOR))

    def _asking_tokens(self) -> int:
        """Return how many tokens the line that asks has cost."""
        model = self.request.model
        asked, plain = (
            count_messages(messages, model=model).tokens
            for messages in (self.request.messages, self._asked_at)
        )
        return asked - plain

    def _is_broken_off(self) -> bool:
        """Whether our own ``max_tokens`` has ended the answer.

        Streams tell why they ended only after their last piece, so what came is counted too.
        """
        if self._cap is None:
            return False
        if self._cap_reached:
            return True
        text = "".join(self.request.run.received[self._received_before :])
        counted = counter_for(self.request.model).count(text)
        return counted.tokens >= (self._cap if counted.exact else 0.9 * self._cap)


class _ObservedTrip(Trip):
    """Sees what a limit would have done."""

    def __init__(self, request: ModelRequest, stage: WordLimit, agent: str) -> None:
        super().__init__(request)
        self._stage = stage
        self._agent = agent

    def close(self, answer: Answer) -> Answer:
        """Record what would have been saved, and learn how long answers are without a limit."""
        model, run = self.request.model, self.request.run
        counter = counter_for(model)
        pieces = MessagePieces(self._stage.excerpt(model))
        shown = pieces.show(answer.message, last=True)
        before = counter.count(answer.message.text)
        after = counter.count(shown.text) if shown is not None else before
        run.savings.append(
            Saving(
                stage=STAGE,
                side="output",
                tokens_before=before.tokens,
                tokens_after=after.tokens,
                exact=before.exact,
                observed=True,
            )
        )
        name = model_name_of(model)
        self._stage.forecaster.observe(self._agent, before.tokens, model=name, run_id=run.run_id)
        return answer


def _says_cap_reached(message: AIMessage) -> bool:
    said = message.response_metadata
    return bool({said.get("finish_reason"), said.get("stop_reason")} & _CAP_REACHED)


# --- behind a model ------------------------------------------------------------------------------


class _Reading:
    """One stream or value behind a model: texts, messages, or anything else, which passes."""

    def __init__(self, limit: WordLimit, config: RunnableConfig) -> None:
        self._limit = limit
        self._agent = attribution_of(config.get("metadata") or {}).agent
        self._excerpt = limit.excerpt()
        self._pieces: MessagePieces | TextPieces | None = None
        self._is_done = False
        self.stopped = False
        self.shown: Any = None
        """Everything shown so far, for tracing."""

    @property
    def is_over(self) -> bool:
        """Whether the rest of the stream is of no use."""
        if self._limit.on_exceed == "warn" or self._pieces is None:
            return False
        if isinstance(self._pieces, MessagePieces):
            return self._pieces.text.is_full and not self._pieces.calls_tools
        return self._pieces.is_full

    def take(self, value: Any, *, last: bool = False) -> Any:
        """Return what may be shown of *value*; ``None`` when that is nothing."""
        shown = self._fitting(value, last)
        self._is_done = self._is_done or last
        return self._checked(value if self._limit.on_exceed == "warn" else shown)

    def _fitting(self, value: Any, last: bool) -> Any:
        if isinstance(value, str):
            texts = self._pieces
            if not isinstance(texts, TextPieces):
                texts = self._pieces = TextPieces(self._excerpt)
            shown = texts.feed(value) + (texts.finish() if last else "")
            return shown if shown or not value or last else None
        if isinstance(value, AIMessage):
            messages = self._pieces
            if not isinstance(messages, MessagePieces):
                messages = self._pieces = MessagePieces(self._excerpt)
            last = last or getattr(value, "chunk_position", None) == "last"
            self._is_done = self._is_done or last
            return messages.show(value, last=last)
        return value

    def rest(self) -> Any:
        """Return what was held back, at the end of a stream."""
        if self._is_done or self._pieces is None:
            return None
        self._is_done = True
        if isinstance(self._pieces, TextPieces):
            rest: Any = self._pieces.finish() or None
        else:
            rest = self._pieces.rest()
        return self._checked(None if self._limit.on_exceed == "warn" else rest)

    def _checked(self, shown: Any) -> Any:
        exceeded = self._excerpt.has_exceeded or self._excerpt.is_cut
        if exceeded and self._limit.on_exceed == "raise":
            raise WordLimitExceededError(self._limit.limit, self._agent)
        if shown is not None:
            try:
                self.shown = shown if self.shown is None else self.shown + shown
            except TypeError:  # what passes need not be addable
                self.shown = shown
        return shown

    def close(self) -> None:
        """Count the answer."""
        if self._pieces is None:
            return
        is_cut = self._excerpt.is_cut
        if is_cut and self._limit.on_exceed == "warn":
            warnings.warn(
                f"The answer of {self._agent!r} is longer than the "
                f"{_described(self._limit.limit)} allowed.",
                TokenOptWarning,
                stacklevel=2,
            )
        self._limit.count(
            self._agent,
            Compliance(
                answers=1,
                obeyed_unasked=int(not is_cut),
                trimmed=int(is_cut and not self.stopped),
                stopped=int(is_cut and self.stopped),
            ),
        )


def _stop(stream: Iterator[Any]) -> None:
    """Stop whatever writes *stream*, through every step between.

    LangChain's own steps answer ``close()`` by reading on to the end; an exception thrown into
    them makes them let go.
    """
    throw = getattr(stream, "throw", None)
    if throw is not None:
        with suppress(StopStream, StopIteration):
            throw(StopStream())
    close = getattr(stream, "close", None)
    if close is not None:
        close()


async def _astop(stream: AsyncIterator[Any]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
