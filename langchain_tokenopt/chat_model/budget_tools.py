"""The tools of a budget at a model: the compressor and the word limit.

Stages do not import each other. A budget has to shorten prompts and answers all the same, so the
socket, which may know both, makes the budget's stage with these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.core.messages import last_user_text, with_text
from langchain_tokenopt.core.records import Saving
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.text.words import count_words

if TYPE_CHECKING:
    from langchain_tokenopt.compress import PromptCompressor
    from langchain_tokenopt.limits import WordLimit

__all__ = ["TOOLS", "budget_stage", "with_tools"]

_RESULT_KEEP: Final = 0.3
"""Part of an old tool result that is kept: the level ``"maximum"``."""
_SHORT_RESULT: Final = 100
"""Tool results of fewer tokens are left alone."""


class _Tools:
    """Shortens with the compressor, and limits answers with the word limit."""

    @cached_property
    def _compressor(self) -> PromptCompressor:
        from langchain_tokenopt.compress import PromptCompressor

        # The target is given with each call.
        return PromptCompressor(max_tokens=1, tool_results="select", on_infeasible="drop_lowest")

    def shorten(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        """Return *request* with messages of *max_tokens* where that can be; never longer."""
        model = request.facts.model_name
        try:
            result = self._compressor.compress(
                list(request.messages), max_tokens=max_tokens, model=model
            )
        except BudgetInfeasibleError:  # what must stay is more than that; later steps will do
            return request
        if result.saved_tokens <= 0:
            return request
        return _changed(request, result.content, result.tokens_before, result.tokens_after)

    def shorten_tool_results(self, request: ModelRequest) -> ModelRequest:
        """Return *request* with older tool results shortened; the latest stay as they are."""
        last = _begin_of_last_results(request.messages)
        query = last_user_text(request.messages)
        made = [
            self._shorter(message, query, request)
            if index < last and isinstance(message, ToolMessage)
            else message
            for index, message in enumerate(request.messages)
        ]
        if all(new is old for new, old in zip(made, request.messages, strict=True)):
            return request
        before = request.facts.message_tokens.tokens
        after = count_messages(made, model=request.facts.model_name).tokens
        return request if after >= before else _changed(request, made, before, after)

    def _shorter(
        self, message: ToolMessage, query: str | None, request: ModelRequest
    ) -> ToolMessage:
        tokens = request.facts.counter.count(message.text).tokens
        if tokens <= _SHORT_RESULT:
            return message
        target, model = round(tokens * _RESULT_KEEP), request.facts.model_name
        try:
            result = self._compressor.compress(message.text, query, target, model=model)
        except BudgetInfeasibleError:
            return message
        return with_text(message, result.content) if result.saved_tokens > 0 else message

    @staticmethod
    def word_limit(words: int, max_tokens: int) -> WordLimit:
        """Return a stage that keeps answers within *words* and *max_tokens*."""
        return _word_limit(words, max_tokens if max_tokens >= words else None)

    @staticmethod
    def count_words(text: str) -> int:
        """Count words as the limit does."""
        return count_words(text)


@lru_cache(maxsize=256)
def _word_limit(words: int, max_tokens: int | None) -> WordLimit:
    from langchain_tokenopt.limits import WordLimit

    return WordLimit(words, max_tokens=max_tokens)


def _begin_of_last_results(messages: Sequence[BaseMessage]) -> int:
    """Return where the latest tool results begin."""
    index = len(messages)
    while index > 0 and not isinstance(messages[index - 1], ToolMessage):
        index -= 1
    while index > 0 and isinstance(messages[index - 1], ToolMessage):
        index -= 1
    return index


def _changed(
    request: ModelRequest, messages: Sequence[BaseMessage], before: int, after: int
) -> ModelRequest:
    request.run.savings.append(
        Saving(
            stage="BudgetPlan",
            tokens_before=before,
            tokens_after=after,
            run_id=request.run.run_id,
            agent=request.facts.attribution.agent,
            model=request.facts.model_name,
        )
    )
    return request.override(messages=list(messages))


TOOLS: Final = _Tools()
"""Of every budget that is plugged in at a model."""


def budget_stage(plan: BudgetPlan) -> BudgetStage:
    """Return the stage of a plan at a model."""
    return BudgetStage(plan, TOOLS)


@lru_cache(maxsize=128)
def with_tools(stage: BudgetStage) -> BudgetStage:
    """Return the stage of a running plan with tools; for the same one, the same."""
    return stage if stage.tools is not None else BudgetStage(stage.plan, TOOLS)
