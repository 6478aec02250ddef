"""What one request needs of a budget, in tokens: its input, and the output that makes it useful."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from langchain_tokenopt.budget.input_margin import InputMargin, input_margin_of
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.budget.structured_answer import asked_schema, object_size, schema_name
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.request.form_tools import are_forms, forms_among
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = [
    "AnswerBounds",
    "RequestBudget",
    "answer_bounds",
    "answer_forms",
    "charged_tokens",
    "counted_within",
    "reads_calls",
    "reads_object",
    "request_budget",
    "sent_tokens",
]

UNBOUNDED_ANSWER: Final = 4_096
"""What hardly any answer exceeds when nobody has set a limit. Every model takes it as a cap."""
LONGEST_ANSWER: Final = 32_768
"""What a model of which nothing is known is taken to write at most."""
USUAL_ANSWER: Final = 240
"""What most answers of unknown length do not exceed: 150 words."""
SHORT_ANSWER: Final = 80
"""A paragraph, of some 50 words: an answer shorter than that is of no use."""
SHORT_TEXT: Final = 12
USUAL_TEXT: Final = 40
"""One free text in an object, in tokens: a short sentence; two of them."""
TOKENS_PER_WORD: Final = 1.6
"""Prose takes 1.35 tokens a word in English (``limits/words.py``); with names, figures and markup
up to this. The model is stopped by words; this only decides what is held."""
EXPECTED: Final = 0.7
"""What an answer takes of what it will hardly exceed, as a rule."""
MARKUP_TOKENS: Final = 16
KNOWN_ANSWERS: Final = 30
"""Answers of an agent from which on their lengths, rather than the plan's words, are trusted."""
_TASK_TOKENS: Final = 96
"""What a prompt says beside its system message and its documents: a question, a role, rules."""
_CALL_TOKENS: Final = 48
"""A call of a tool, which is written once and read once."""
READ_AGAIN: Final = 0.5
"""Part of what a call reads that the answer after its tools reads again: it may be shortened."""
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
    usual_output: int
    """What its answer will hardly exceed; of unknown length, what most answers do not exceed."""
    most_output: int
    """What no answer exceeds, so far as anybody knows."""
    is_known: bool
    """Whether the answer will hardly exceed ``usual_output``; else nobody knows its length."""
    shortest: int = 0
    """Input and output of the shortest request like it that would still be answered: without
    documents and free tools, in a paragraph. An estimate."""
    last_answer: int = 0
    """What must be left after this call's input so that the model can answer, should it call tools
    now: for that call, and for the shortest request that has its results."""
    unsaid_input: int = 0
    """What a provider that never says what it counts may count on top of the input: a guess."""
    expected_output: int = 0
    """What its answer takes as a rule; an object, of no use where it is cut, the usual output."""

    def without_line(self) -> RequestBudget:
        """Return the needs of the same request where it does not ask for a length."""
        return replace(
            self,
            counted_input=self.counted_input - _LIMIT_LINE_TOKENS,
            input=self.input - _LIMIT_LINE_TOKENS,
        )

    @property
    def to_the_end(self) -> int:
        """What must be left after the input for an answer, be it now or after a round of tools."""
        return max(self.expected_output, self.last_answer)


def request_budget(
    request: ModelRequest,
    plan: PlanSettings,
    forecaster: UsageForecaster,
    agent: str,
    words: int | None = None,
    tokens_per_word: float = TOKENS_PER_WORD,
    usual_answer: int | None = None,
    expected_answer: int | None = None,
) -> RequestBudget:
    """Measure a request.

    Args:
        request: As it would be sent.
        plan: Whose limits hold for it.
        forecaster: Knows how long the agent's answers are.
        agent: Who asks.
        words: The word limit that will be asked for.
        tokens_per_word: What a word takes, in the language of the answer.
        usual_answer: What an answer hardly exceeds by the few that were seen.
        expected_answer: What it takes as a rule, by those.
    """
    facts, is_object = request.facts, reads_object(request)
    # The line that asks for a length may still be needed.
    tokens = facts.input_tokens.tokens + _LIMIT_LINE_TOKENS
    tokens += _REMAINING_LINE_TOKENS * plan.show_remaining
    sent = sent_tokens(request, tokens)
    limits = (facts.output_cap, plan.max_output_tokens_per_call)
    ceiling = min((limit for limit in limits if limit is not None), default=UNBOUNDED_ANSWER)
    if is_object:
        least, usual, is_known = _object_lengths(request, forecaster, words, tokens_per_word)
    else:
        known = _expected(request, forecaster, agent, words, tokens_per_word)
        guess = max(SHORT_ANSWER, min(usual_answer or USUAL_ANSWER, USUAL_ANSWER))
        usual, is_known = known or guess, known is not None
        if known is not None and usual_answer is not None and guess < known:  # shorter than told
            usual, is_known, ceiling = guess, False, min(ceiling, known)
        least = min(usual, SHORT_ANSWER)
    expected = usual
    if not is_object:
        rule = round(EXPECTED * usual)
        if not is_known and expected_answer is not None:
            rule = min(usual, expected_answer)
        expected = max(least, rule)
    thinking = facts.thinking_tokens or 0
    least, usual, expected = (min(ceiling, n + thinking) for n in (least, usual, expected))
    times = facts.generations
    return RequestBudget(
        tokens,
        sent,
        least * times,
        usual * times,
        max(usual, ceiling) * times,
        is_known,
        _shortest(request, sent, least),
        _last_answer(request, sent, least),
        _margin_of(request)[0].unsaid(tokens),
        expected * times,
    )


class AnswerBounds(NamedTuple):
    """What bounds one answer where the budget does not, in tokens."""

    longest: int
    """What it may take at all."""
    safe_cap: int
    """The greatest cap that its provider takes for certain."""


def answer_bounds(request: ModelRequest, sent: int) -> AnswerBounds:
    """Return what bounds an answer beside an input of *sent* tokens.

    A provider refuses a cap beyond what its model can write, or has room for, so that a greater one
    than any model takes is only sent where the model's profile has its limits
    (https://docs.langchain.com/oss/python/langchain/models#model-profiles, 2026-11-30).
    """
    facts, profile = request.facts, getattr(request.model, "profile", None)
    profile = profile if isinstance(profile, dict) else {}
    hardly_more = UNBOUNDED_ANSWER + facts.thinking_tokens
    most = profile.get("max_output_tokens") or 0
    beside_input = (profile.get("max_input_tokens") or sent + most) - sent
    longest = facts.output_cap or most or LONGEST_ANSWER
    return AnswerBounds(max(longest, hardly_more), max(min(most, beside_input), hardly_more))


def _shortest(request: ModelRequest, sent: int, least: int) -> int:
    facts, frame = request.facts, _frame_tokens(request) + _LIMIT_LINE_TOKENS
    if reads_object(request):
        return min(sent, frame) + least
    return min(sent, frame - facts.tool_tokens.tokens) + min(least, SHORT_ANSWER)


def sent_tokens(request: ModelRequest, counted: int) -> int:
    """Return what the provider may count of a request that we count as *counted* tokens."""
    margin, about = _margin_of(request)
    return margin.applied(counted, **about)


def charged_tokens(request: ModelRequest, counted: int, held: int) -> int:
    """Return what to charge for a request's *counted* tokens, where the provider reports none.

    Args:
        request: What was sent.
        counted: Its input as we count it.
        held: What is held for the input and was not used for the answer.
    """
    margin, about = _margin_of(request)
    return margin.charged(counted, held, messages=about["messages"], tools=about["tools"])


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


def answer_forms(request: ModelRequest) -> list[Any]:
    """Return the forms of which one is the answer, where the model may call other tools before.

    As in a loop of ``create_agent`` with a response format: some tool must be called at each turn,
    and the loop ends when it is a form.
    """
    form, tools = request.facts.answer_form, request.facts.tools
    if not form.must_call_tool or form.tool is not None:
        return []
    forms = forms_among(tools)
    return forms if len(forms) < len(tools) else []


def reads_calls(request: ModelRequest) -> bool:
    """Whether the calls themselves are what is asked for: all tools are forms, none was answered.

    As where a chain reads objects from the calls that a model was free to make.
    """
    tools = request.facts.tools
    if not tools or request.facts.answer_form.is_structured:
        return False
    was_told = any(message.type == "tool" for message in request.messages)
    return not was_told and are_forms(tools)


def reads_object(request: ModelRequest) -> bool:
    """Whether an object is read from the answer."""
    return request.facts.answer_form.is_structured or reads_calls(request)


def _last_answer(request: ModelRequest, sent: int, object_tokens: int) -> int:
    """Return what the answer after a round of tools needs; 0 where none is to be expected.

    Args:
        request: What is asked.
        sent: Its input.
        object_tokens: What the answer takes if it is an object.
    """
    facts, forms = request.facts, answer_forms(request)
    if not facts.tools or (facts.answer_form.is_structured and not forms):
        return 0
    answer = object_tokens if forms else SHORT_ANSWER
    tools = facts.tool_tokens.tokens
    if forms:
        tools -= tools * len(str(forms)) // len(str(facts.tools))
    results = [len(m.text) for m in request.messages if m.type == "tool"]
    whole = sum(len(m.text) for m in request.messages)
    result = _RESULT_TOKENS
    if results and whole:
        mean = facts.message_tokens.tokens * sum(results) // (whole * len(results))
        result = min(mean, _RESULT_TOKENS)
    frame = _frame_tokens(request) + _LIMIT_LINE_TOKENS
    read = int(READ_AGAIN * max(0, sent - frame))
    return frame - tools + read + 2 * _CALL_TOKENS + result + answer


def _object_lengths(
    request: ModelRequest,
    forecaster: UsageForecaster,
    words: int | None,
    tokens_per_word: float,
) -> tuple[int, int, bool]:
    """Return the least and the usual length of an object, and whether objects of it are known.

    The least is that of the smallest one that its schema allows. What others were like is what is
    hoped for: it decides what a call is made to fit into, and never that it is refused.
    """
    schema = asked_schema(request)
    frame, texts = object_size(schema)
    least = frame + MARKUP_TOKENS + SHORT_TEXT * texts
    usual = max(SHORT_ANSWER, least, frame + USUAL_TEXT * texts)
    known = forecaster.longest_object(schema_name(schema), model=request.facts.model_name)
    if known is not None:
        usual = max(least, known)
    if words is not None:
        usual = max(least, min(usual, frame + math.ceil(words * tokens_per_word)))
    return least, usual, known is not None


def _expected(
    request: ModelRequest,
    forecaster: UsageForecaster,
    agent: str,
    words: int | None,
    tokens_per_word: float,
) -> int | None:
    """Return the output tokens that the answer will hardly exceed; ``None``: nobody knows."""
    by_words = None if words is None else math.ceil(words * tokens_per_word) + MARKUP_TOKENS
    if forecaster.observations(agent, limited=words is not None) < KNOWN_ANSWERS:
        return by_words
    known = forecaster.quantile(0.99, agent, model=request.facts.model_name, max_words=words)
    if known is None or by_words is None:
        return known or by_words
    return min(known, by_words)
