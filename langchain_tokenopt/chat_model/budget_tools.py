"""The tools of a budget at a model: the compressor, handing over, and the word limit.

Stages do not import each other. A budget has to shorten prompts and answers all the same, so the
socket, which may know them all, makes the budget's stage with these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from langchain_core.messages import BaseMessage, SystemMessage, ToolMessage

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.budget.tools import MADE_UP
from langchain_tokenopt.chat_model.caller_frame import frame_of, holds_all, lines_within
from langchain_tokenopt.core.conversation import begin_of_last_results
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.core.messages import (
    append_to_last_user,
    last_user_text,
    text_of,
    with_text,
)
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import StageCall
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.text.words import count_words

if TYPE_CHECKING:
    from langchain_tokenopt.compress import PromptCompressor
    from langchain_tokenopt.limits import WordLimit

__all__ = ["TOOLS", "budget_stage", "with_tools"]

_Made = TypeVar("_Made")

_SHORT_RESULT: Final = 100
"""Tool results of fewer tokens are left alone."""
_LEAST: Final = 0.1
_SENTENCE: Final = 0.0
_HANDED_OVER: Final = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, _LEAST)
"""Parts of a report that are handed over, at first of what is said in it for the first time. They
are few, so that all readers get the same bytes."""
_SHORTEST_REPORT: Final = 24
_REPEATED: Final = 20
"""Characters from which on a sentence of a report that another has said before need not be read
again."""
_TRIES: Final = 5
_ON_THE_SAFE_SIDE: Final = 1.2
"""Tokens of a word with names and figures, to one of prose."""


class _Tools:
    """Shortens with the compressor, and limits answers with the word limit."""

    @cached_property
    def _compressor(self) -> PromptCompressor:
        return _compressor_for(())

    # Prompts

    @staticmethod
    def frame(request: ModelRequest, reports: Sequence[str]) -> list[str]:
        """Return what a request asks, sentence by sentence: the rest of it is material."""
        masked = [_replaced(m, {r: "x" * len(r) for r in reports}) for m in request.messages]
        return frame_of(masked)

    def shorten(
        self,
        request: ModelRequest,
        max_tokens: int,
        frame: Sequence[str],
        known: Sequence[str] = (),
    ) -> ModelRequest:
        """Shorten documents and tool results to *max_tokens*, or as far as that goes.

        System messages are not given to the compressor, and what frames the material is protected;
        where it is lost all the same, the prompt stays as it is.
        """
        model, messages = request.facts.model_name, request.messages
        others = [m for m in messages if not isinstance(m, SystemMessage)]
        before = request.facts.message_tokens.tokens
        allowed = max_tokens - (before - count_messages(others, model=model).tokens)
        kept = lines_within(frame, others)
        made = _compressed(others, max(1, allowed), kept, model, known)
        if made is None:
            return request
        if not holds_all(kept, made) or not all(text_of(m).strip() for m in made if m.type != "ai"):
            return request
        rest = iter(made)
        if len(made) == len(others):
            made = [m if isinstance(m, SystemMessage) else next(rest) for m in messages]
        else:  # turns are gone, and system messages stand in front of them
            made = [*(m for m in messages if isinstance(m, SystemMessage)), *made]
        return _changed(request, made)

    def shorten_tool_results(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        """Shorten older tool results, all by the same part; the latest stay as they are."""
        count, last = request.facts.counter.count, begin_of_last_results(request.messages)
        sizes = {
            index: count(message.text).tokens
            for index, message in enumerate(request.messages[:last])
            if isinstance(message, ToolMessage)
        }
        long = {index: tokens for index, tokens in sizes.items() if tokens > _SHORT_RESULT}
        whole = sum(long.values())
        excess = request.facts.message_tokens.tokens - max_tokens
        if not long or excess <= 0:
            return request
        keep, query = max(0.0, 1 - excess / whole), last_user_text(request.messages)
        made = [
            self._shorter(message, query, max(_SHORTEST_REPORT, int(long[index] * keep)), request)
            if index in long
            else message
            for index, message in enumerate(request.messages)
        ]
        return _changed(request, made)

    def _shorter(
        self, message: BaseMessage, query: str | None, target: int, request: ModelRequest
    ) -> BaseMessage:
        try:
            result = self._compressor.compress(
                message.text, query, target, model=request.facts.model_name
            )
        except BudgetInfeasibleError:
            return message
        is_shorter = result.saved_tokens > 0 and result.content.strip()
        return with_text(message, result.content) if is_shorter else message

    def hand_over(
        self, request: ModelRequest, reports: Sequence[str], max_tokens: int, frame: Sequence[str]
    ) -> ModelRequest:
        """Shorten *reports* where they stand in the prompt, for all who read them alike."""
        everything = "\n".join(text_of(m) for m in request.messages)
        found = _said_once(tuple(r for r in dict.fromkeys(reports) if r in everything))
        made, question = request, "\n".join(lines_within(frame, request.messages))
        for keep in _HANDED_OVER if found else ():
            shorter = {report: _handed_over(new, question, keep) for report, new in found}
            made = _changed(request, [_replaced(m, shorter) for m in request.messages])
            if made.facts.message_tokens.tokens <= max_tokens:
                break
        return made

    def leave_out(
        self, request: ModelRequest, reports: Sequence[str], max_tokens: int, frame: Sequence[str]
    ) -> ModelRequest:
        """Leave a sentence of what was handed over of each of *reports*, or nothing."""
        kept = lines_within(frame, request.messages)
        question, found = "\n".join(kept), _said_once(tuple(dict.fromkeys(reports)))
        made = request
        least = {new: _handed_over(new, question, _LEAST) for _, new in found}
        sentences = {short: _handed_over(new, question, _SENTENCE) for new, short in least.items()}
        for left in (sentences, dict.fromkeys(sentences, "[...]")):
            made = _changed(request, [_replaced(m, left) for m in request.messages])
            if made.facts.message_tokens.tokens <= max_tokens:
                break
        return made if holds_all(kept, made.messages) else request

    # Answers

    def word_limit(
        self, request: ModelRequest, words: int | None, cap: int | None
    ) -> StageCall | None:
        """Keep the answer within *words*, and end it at a whole sentence where *cap* cuts it."""
        from langchain_tokenopt.limits.stage_call import LimitCall

        if words is None and cap is None:
            return None
        call = _word_limit(words, cap if words is None else None).open(request)
        if isinstance(call, LimitCall):
            call.cap = cap if call.cap is None else call.cap
            call.may_stop = call.may_stop and words is not None
        return call

    @staticmethod
    def ask_for(request: ModelRequest, words: int) -> ModelRequest:
        """Ask for *words* in the last line of the prompt, in its language."""
        from langchain_tokenopt.limits.request_line import request_line

        line = request_line(_language_of(request), words=words, sentences=None)
        return request.override(messages=append_to_last_user(request.messages, line))

    @staticmethod
    def tokens_per_word(request: ModelRequest) -> float:
        """Return what a word takes in the language of the prompt, on the safe side."""
        from langchain_tokenopt.limits.request_line import languages

        known = languages.get(_language_of(request)) or languages["en"]
        return known.prose_tokens_per_word * _ON_THE_SAFE_SIDE

    @staticmethod
    def count_words(text: str) -> int:
        """Count words as the limit does."""
        return count_words(text)


def _language_of(request: ModelRequest) -> str:
    return _language_in(last_user_text(request.messages) or "")


@lru_cache(maxsize=64)
def _language_in(text: str) -> str:
    from langchain_tokenopt.limits.request_line import language_asked_in

    return language_asked_in(text)


@lru_cache(maxsize=256)
def _compressor_for(frame: tuple[str, ...]) -> PromptCompressor:
    from langchain_tokenopt.compress import PromptCompressor

    # The compressor may take a label before a colon for a unit of its own.
    parts = dict.fromkeys(part for line in frame for part in (line, *_LABELS.split(line)))
    protect = [re.escape(part.strip()) for part in parts if len(part.strip()) > 1]
    return PromptCompressor(max_tokens=1, tool_results="select", protect=protect)


def _compressed(
    messages: Sequence[BaseMessage],
    tokens: int,
    frame: tuple[str, ...],
    model: str,
    known: Sequence[str],
) -> list[BaseMessage] | None:
    """Compress to *tokens*, or as near as can be; ``None``: it cannot be compressed."""
    compressor = _compressor_for(frame)
    return _within(
        tokens,
        lambda n: list(
            compressor.compress(messages, max_tokens=n, model=model, known=known).content
        ),
    )


def _within(tokens: int, shortened: Callable[[int], _Made]) -> _Made | None:
    """Return what was shortened to *tokens*, or as near as can be; ``None``: it cannot be.

    What must be kept is not known in advance: with more room other passages are kept, and with them
    what announces them.
    """
    for _ in range(_TRIES):
        try:
            return shortened(tokens)
        except BudgetInfeasibleError as error:
            tokens = max(error.required_tokens, tokens + 1)
    return None


_BLANK: Final = re.compile(r"\n\s*\n")
_REPORT_TOKENS: Final = steady_counter_of_name("o200k_base")
_LABELS: Final = re.compile(r"(?<=[:：])")


@lru_cache(maxsize=256)
def _said_once(reports: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return each report with what it says that none before it has said; the longest first."""
    said: set[str] = set()
    found = []
    for report in reports:
        lines = []
        for line in report.splitlines():
            sentences = [s.strip() for s in sentences_of(line)]
            new = " ".join(s for s in sentences if s not in said or len(s) < _REPEATED)
            lines.append(line if new == line.strip() else new)
            said.update(sentences)
        new = _BLANK.sub("\n\n", "\n".join(lines)).strip()
        found.append((report, new or report))
    return sorted(found, key=lambda each: -len(each[0]))


@lru_cache(maxsize=1_024)
def _handed_over(report: str, question: str, keep: float) -> str:
    """Return the part of a report that concludes, decides and counts, or bears on *question*."""
    from langchain_tokenopt.compress import Handover

    if report.startswith(MADE_UP):
        return f"{MADE_UP}.]"
    if keep >= 1:
        return report
    tokens = max(_SHORTEST_REPORT, int(_REPORT_TOKENS.count(report).tokens * keep))
    concludes = _within(tokens, lambda n: Handover(n, remember=0).invoke(report))
    query, compressor = question or None, _compressor_for(())
    answers = _within(tokens, lambda n: compressor.compress(report, query, n).content)
    if concludes is None or answers is None:
        return report
    if keep == _SENTENCE:
        sentences = [s.strip() for line in report.splitlines() for s in sentences_of(line)]
        return max(sentences, key=lambda s: (s in answers) + (s in concludes), default=report)
    kept = f"{concludes}\n{answers}"
    lines = []
    for line in report.splitlines():
        rest = " ".join(s for s in sentences_of(line) if s in kept)
        if rest or not line.strip():
            lines.append(rest if rest != line.strip() else line)
    return _BLANK.sub("\n\n", "\n".join(lines)).strip()


def _replaced(message: BaseMessage, shorter: dict[str, str]) -> BaseMessage:
    if isinstance(message, SystemMessage) or not isinstance(message.content, str):
        return message
    text = message.content
    for report, short in shorter.items():
        text = text.replace(report, short)
    return message if text == message.content else with_text(message, text)


@lru_cache(maxsize=256)
def _word_limit(words: int | None, max_tokens: int | None) -> WordLimit:
    from langchain_tokenopt.limits import WordLimit

    return WordLimit(words, max_tokens=max_tokens, ask=False)


def _changed(request: ModelRequest, messages: Sequence[BaseMessage]) -> ModelRequest:
    """Return the request with *messages*, if they are fewer tokens."""
    made = request.override(messages=list(messages))
    shorter = made.facts.message_tokens.tokens < request.facts.message_tokens.tokens
    return made if shorter else request


TOOLS: Final[Any] = _Tools()
"""Of every budget that is plugged in at a model."""


def budget_stage(plan: BudgetPlan) -> BudgetStage:
    """Return the stage of a plan at a model."""
    return BudgetStage(plan, TOOLS)


@lru_cache(maxsize=128)
def with_tools(stage: BudgetStage) -> BudgetStage:
    """Return the stage of a running plan with tools; for the same one, the same."""
    return stage if stage.tools is not None else BudgetStage(stage.plan, TOOLS)
