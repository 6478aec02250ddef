"""The word limit as a stage around a model and as a runnable behind one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from copy import copy
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)

from langchain_tokenopt.core.argument_checks import check_whole, takes_names
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.messages import append_to_last_user, last_user_text
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.limits.compliance import STAGE, Compliance, ComplianceLog
from langchain_tokenopt.limits.excerpt import Limit
from langchain_tokenopt.limits.on_exceed import LimitRule, OnExceed
from langchain_tokenopt.limits.piped_answer import PipedAnswer, astop, stop
from langchain_tokenopt.limits.request_line import (
    language_asked_in,
    request_line,
    room_for,
    words_in,
)
from langchain_tokenopt.limits.stage_call import AnswerHistory, LimitCall, ObservedCall
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall, TunableSetting

__all__ = ["WordLimit"]

_KNOWN_ANSWERS = 30
"""Answers of an agent from which on its own lengths decide about ``max_tokens``."""


class WordLimit(Runnable[Any, Any]):
    """Keep answers within a length, ending at a sentence, and stop the model there.

    Around a model (``optimize(model, WordLimit(150))``) it asks for the length in the last line of
    the prompt, sets ``max_tokens`` with room to spare, watches the answer, and cancels the request
    when the limit is reached: with ``invoke`` and ``batch`` too, which it streams inside.

    Behind a model (``model | WordLimit(150)``) it can do what LangChain allows there: a stream is
    stopped, also behind parsers; with ``invoke`` the answer has been written and paid for, and is
    trimmed. It does not see whether tools are bound, so a tool call that follows after more text
    than the limit is lost with the rest of the stream; around the model it waits for tool calls.

    Shown are whole sentences, list items, table rows and lines of code; open Markdown and HTML is
    closed, formulas are shown whole or not at all.
    Only when the very first of them is too long by itself it is cut after a word and ends in "…".
    An answer of which something was left out says so in its ``response_metadata``:
    ``tokenopt_stopped_by`` or ``tokenopt_trimmed_by``. A text that
    fits is not changed by a byte. Tool calls, reasoning, images and structured output
    (a schema, a forced tool, text that begins as JSON does, or with a code block of JSON after at
    most one unit) are never touched.

    Words are what word processors count; in Chinese and Japanese, characters.

    - An empty answer, or one of tool calls only: unchanged.
    - A run without spaces: counts once more for every 100 characters.
    - A model that ignores ``max_tokens``: stopped in the stream, otherwise trimmed.
    - A reader who stops reading: the request is cancelled; nothing is counted.
    - Tools are bound: the text is trimmed, but the model is not stopped or capped, since a tool
      call may follow.
    - Models that think for an unknown length: no ``max_tokens`` is set, it would cut the thinking.
    - ``ChatGoogleGenerativeAI``, asynchronously: google-genai 2 does not close the connection of a
      stream that is given up, so the caller waits no longer, but Gemini writes on, up to
      ``max_tokens``.

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
        ValueError: If there is no limit, one that is not a whole number of at least 1, or two that
            contradict.

    Example:
        >>> WordLimit(4).invoke("One two three. Four five six.")
        'One two three.'
        >>> WordLimit(4).invoke("One two three four five.")
        'One two three four…'
    """

    phase = Phase.LIMIT
    blocking = False

    @takes_names
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
        self._rule = LimitRule(self.limit, on_exceed)
        self._compliance = ComplianceLog()
        self._history = AnswerHistory(self._compliance, self.forecaster)

    def __repr__(self) -> str:
        """Show the limits."""
        given = ", ".join(f"{name}={value}" for name, value in self._limits().items())
        return f"WordLimit({given}, on_exceed={self.on_exceed!r})"

    def _limits(self) -> dict[str, int]:
        """Return the limits that are set, by the names of their arguments."""
        limits = {
            "max_words": self.limit.words,
            "max_tokens": self.limit.tokens,
            "max_sentences": self.limit.sentences,
        }
        return {name: value for name, value in limits.items() if value is not None}

    @property
    def fingerprint(self) -> str:
        """Name every setting that changes answers."""
        return f"{self!r}:{self.ask}:{self.predict}"

    @property
    def tunable(self) -> Mapping[str, TunableSetting]:
        """The limits that are set; none where a longer answer would be an error."""
        if self.on_exceed == "raise":
            return {}
        limits = self._limits()
        return {name: TunableSetting(limits[name], least=1) for name in limits}

    def with_settings(self, settings: Mapping[str, float]) -> WordLimit:
        """Return a limit with other numbers, which counts and learns together with this one."""
        limits = {**self._limits(), **{name: int(value) for name, value in settings.items()}}
        made = copy(self)
        made.limit = Limit(
            limits.get("max_words"), limits.get("max_tokens"), limits.get("max_sentences")
        )
        made._rule = LimitRule(made.limit, self.on_exceed)
        return made

    def compliance(self) -> dict[str, Compliance]:
        """Return, per agent, how well the limit was kept.

        Example:
            >>> limit = WordLimit(2)
            >>> _ = limit.invoke("Far too long."), limit.invoke("Fine.")
            >>> limit.compliance()["default"].trimmed
            1
        """
        return self._compliance.by_agent()

    # A stage around a model

    def open(self, request: ModelRequest) -> StageCall | None:
        """Ask for the length, cap the answer, and watch it."""
        if request.facts.answer_form.is_structured:
            return None
        if request.observe:
            return ObservedCall(request, self._rule, self._history)
        language = language_asked_in(last_user_text(request.messages) or "")
        sent, cap = self._capped(request, language)
        if self.ask:
            sent = sent.override(messages=self._asked(request.messages, language))
        if STAGE not in request.run.stages:
            request.run.stages.append(STAGE)
        return LimitCall(sent, self._rule, self._history, before=request, cap=cap)

    def _asked(self, messages: list[BaseMessage], language: str) -> list[BaseMessage]:
        limit = self.limit
        words = limit.words
        if words is None and limit.tokens is not None:
            words = words_in(limit.tokens, language)
        line = request_line(language, words=words, sentences=limit.sentences)
        return append_to_last_user(messages, line)

    def _capped(self, request: ModelRequest, language: str) -> tuple[ModelRequest, int | None]:
        """Return the request with a cap that no answer within the limit reaches, and the cap.

        There is none, and the request is the same, where the caller's own is as low, where nobody
        knows its name, where thinking of unknown length would use it up, and where a call of a tool
        may follow the text.
        """
        facts = request.facts
        tokens, room = self._longest_answer(request, language), facts.thinking_room
        if tokens is None or room is None or facts.answer_form.may_call_tools:
            return request, None
        capped = request.with_output_cap(tokens + room)
        return capped, None if capped is request else tokens + room

    def _longest_answer(self, request: ModelRequest, language: str) -> int | None:
        """Return the tokens that no answer within the limit can need; ``None``: no bound."""
        if self._rule.shows_all:
            return None
        bounds = []
        if self.limit.words is not None:
            bounds.append(room_for(self.limit.words, language))
        if self.limit.tokens is not None:
            # To raise, one has to see that the answer goes on.
            bounds.append(self.limit.tokens + (8 if self.on_exceed == "raise" else 0))
        if self.predict and (expected := self._expected_longest(request)) is not None:
            bounds.append(expected)
        return min(bounds, default=None)

    def _expected_longest(self, request: ModelRequest) -> int | None:
        """Return what the longest 1 % of the agent's answers take, once enough are known."""
        agent, model = request.facts.attribution.agent, request.facts.model_name
        limited = self.limit.words is not None
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
        answer = self._piped_answer(config)
        shown = answer.take(value, last=True)
        answer.close()
        return value if shown is None else shown

    def _piped_answer(self, config: RunnableConfig) -> PipedAnswer:
        agent = attribution_of(config.get("metadata") or {}).agent
        return PipedAnswer(self._rule, self._compliance, agent)

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
        answer = self._piped_answer(config)
        try:
            for chunk in input:
                shown = answer.take(chunk)
                if shown is not None:
                    yield shown
                if answer.is_over:
                    stop(input)
                    answer.stopped = True
                    break
            rest = answer.rest()
            if rest is not None:
                yield rest
        except GeneratorExit:
            stop(input)
            run.on_chain_end(answer.shown)
            raise
        except BaseException as error:
            stop(input)
            run.on_chain_error(error)
            raise
        answer.close()
        run.on_chain_end(answer.shown)

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
        answer = self._piped_answer(config)
        try:
            async for chunk in input:
                shown = answer.take(chunk)
                if shown is not None:
                    yield shown
                if answer.is_over:
                    await astop(input)
                    answer.stopped = True
                    break
            rest = answer.rest()
            if rest is not None:
                yield rest
        except GeneratorExit:
            await astop(input)
            await run.on_chain_end(answer.shown)
            raise
        except BaseException as error:
            await astop(input)
            await run.on_chain_error(error)
            raise
        answer.close()
        await run.on_chain_end(answer.shown)


def _check_limits(max_words: int | None, max_tokens: int | None, max_sentences: int | None) -> None:
    limits = {"max_words": max_words, "max_tokens": max_tokens, "max_sentences": max_sentences}
    given = {name: value for name, value in limits.items() if value is not None}
    if not given:
        raise ValueError("WordLimit needs a limit: max_words, max_tokens or max_sentences.")
    for name, value in given.items():
        check_whole(name, value)
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
