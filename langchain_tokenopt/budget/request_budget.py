"""What one request needs of a budget, in tokens: its input, and the output that makes it useful."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.budget.input_margin import InputMargin, input_margin_of
from langchain_tokenopt.budget.minimal_answer import least_object_tokens
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["RequestBudget", "counted_within", "request_budget", "sent_tokens"]

UNBOUNDED_ANSWER: Final = 4_096
"""Most that is held for an answer when nobody has set a limit."""
LEAST_ANSWER: Final = 64
"""An answer shorter than that is of no use: about two sentences."""
TOKENS_PER_WORD: Final = 1.6
"""Prose takes 1.35 tokens a word in English (``limits/words.py``); with names, figures and markup
up to this. The model is stopped by words; this only decides what is held."""
MARKUP_TOKENS: Final = 48
KNOWN_ANSWERS: Final = 30
"""Answers of an agent from which on their lengths, rather than the plan's words, are trusted."""
_TASK_TOKENS: Final = 96
"""What a prompt says beside its system message and its documents: a question, a role, rules."""
_CALL_TOKENS: Final = 48
"""A call of a tool, and the line which says that there are no tools any more."""
_RESULT_TOKENS: Final = 32
"""What is kept of a tool's result, which is shortened where it is longer."""
_LIMIT_LINE_TOKENS: Final = 24
"""Most that the line takes which asks for a length, in any language that it is asked in."""
_REMAINING_LINE_TOKENS: Final = 40
"""Most that the line takes which says what is left."""


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """What a request needs, in tokens."""

    counted_input: int
    """Its input as we count it."""
    input: int
    """Its input as the provider may count it."""
    least_output: int
    """Output below which it is not worth sending."""
    most_output: int
    """Output that it will be capped at when there is plenty."""
    is_known: bool
    """Whether the answer will hardly exceed ``least_output``; else nobody knows its length."""
    shortest: int = 0
    """Input and output of the shortest request like it that would still be answered: without
    documents and free tools, in a paragraph. An estimate."""
    last_answer: int = 0
    """What must be left after this call so that the model can answer, should it call tools now."""


def request_budget(
    request: ModelRequest,
    plan: PlanSettings,
    forecaster: UsageForecaster,
    agent: str,
    words: int | None = None,
) -> RequestBudget:
    """Measure a request.

    Args:
        request: As it would be sent.
        plan: Whose limits hold for it.
        forecaster: Knows how long the agent's answers are.
        agent: Who asks.
        words: The word limit that will be asked for.
    """
    facts = request.facts
    tokens = facts.input_tokens.tokens
    tokens += (_LIMIT_LINE_TOKENS * (words is not None)) + (
        _REMAINING_LINE_TOKENS * plan.show_remaining
    )
    sent = sent_tokens(request, tokens)
    limits = (facts.output_cap, plan.max_output_tokens_per_call)
    ceiling = min((limit for limit in limits if limit is not None), default=UNBOUNDED_ANSWER)
    expected = _expected(request, forecaster, agent, words)
    least = min(ceiling, LEAST_ANSWER if expected is None else expected)
    if facts.thinking_tokens:
        least = min(ceiling, least + facts.thinking_tokens)
    most = max(least, ceiling)
    times = facts.generations
    return RequestBudget(
        tokens,
        sent,
        least * times,
        most * times,
        expected is not None,
        _shortest(request, sent, least),
        _last_answer(request, sent),
    )


def _shortest(request: ModelRequest, sent: int, least: int) -> int:
    facts, frame = request.facts, _frame_tokens(request)
    if facts.answer_form.is_structured:
        return min(sent, frame) + least
    return min(sent, frame - facts.tool_tokens.tokens) + min(least, LEAST_ANSWER)


def sent_tokens(request: ModelRequest, counted: int) -> int:
    """Return what the provider may count of a request that we count as *counted* tokens."""
    margin, about = _margin_of(request)
    return margin.applied(counted, **about)


def counted_within(request: ModelRequest, tokens: int) -> int:
    """Return the largest count of *request* with which the provider's will not exceed *tokens*."""
    margin, about = _margin_of(request)
    return margin.within(tokens, **about)


def _margin_of(request: ModelRequest) -> tuple[InputMargin, dict[str, Any]]:
    """Return what is known of the model's counts, and what of a request they depend on."""
    facts = request.facts
    about = {"messages": len(request.messages), "tools": facts.tool_json_surplus}
    return input_margin_of(facts.model_name), {**about, "exact": facts.input_tokens.exact}


def _frame_tokens(request: ModelRequest) -> int:
    """Return what no shortening takes away, as far as one can say without reading the prompt."""
    facts = request.facts
    system = sum(len(m.text) for m in request.messages if m.type == "system")
    whole = sum(len(m.text) for m in request.messages)
    messages = facts.message_tokens.tokens
    fixed = messages * system // whole if whole else messages
    return facts.input_tokens.tokens - messages + min(messages, fixed + _TASK_TOKENS)


def _last_answer(request: ModelRequest, sent: int) -> int:
    """Return what the answer after a round of tools needs; 0 where none is to be expected."""
    facts = request.facts
    if not facts.tools or facts.answer_form.is_structured:
        return 0
    results = [len(m.text) for m in request.messages if m.type == "tool"]
    whole = sum(len(m.text) for m in request.messages)
    result = _RESULT_TOKENS
    if results and whole:
        mean = facts.message_tokens.tokens * sum(results) // (whole * len(results))
        result = min(mean, _RESULT_TOKENS)
    frame = _frame_tokens(request)
    read = max(0, sent - frame) // 2  # it may be shortened
    return frame - facts.tool_tokens.tokens + read + _CALL_TOKENS + result + LEAST_ANSWER


def _expected(
    request: ModelRequest, forecaster: UsageForecaster, agent: str, words: int | None
) -> int | None:
    """Return the output tokens that the answer will hardly exceed; ``None``: nobody knows."""
    form = request.facts.answer_form
    if form.is_structured:
        return least_object_tokens(form.schema) + round((words or 0) * TOKENS_PER_WORD)
    by_words = None if words is None else math.ceil(words * TOKENS_PER_WORD) + MARKUP_TOKENS
    if forecaster.observations(agent, limited=words is not None) < KNOWN_ANSWERS:
        return by_words
    known = forecaster.quantile(0.99, agent, model=request.facts.model_name, max_words=words)
    if known is None or by_words is None:
        return known or by_words
    return min(known, by_words)
