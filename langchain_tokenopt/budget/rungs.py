"""The rungs of the ladder on which a call is made smaller, in the order of what they cost.

A rung is data: a name, whether it applies, and what it makes of a call that is to fit into a number
of tokens. None of them touches a system message, an instruction or a question. Each does no more
than is needed; what the gentle rungs leave over, later ones of the same kind take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.budget.request_budget import (
    MARKUP_TOKENS,
    READ_AGAIN,
    SHORT_ANSWER,
    TOKENS_PER_WORD,
    RequestBudget,
    answer_forms,
    counted_within,
    reads_calls,
    reads_object,
    request_budget,
)
from langchain_tokenopt.budget.run_notes import StepTaken, with_step
from langchain_tokenopt.budget.structured_answer import asked_schema, object_size
from langchain_tokenopt.budget.tools import BudgetTools
from langchain_tokenopt.core.conversation import answered_turns, first_turn
from langchain_tokenopt.core.messages import append_to_last_user, text_of
from langchain_tokenopt.forecast import UsageForecaster
from langchain_tokenopt.request.form_tools import are_forms
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = [
    "BRIEF",
    "LADDER",
    "NO_TOOLS",
    "WITH_TOOLS",
    "Candidate",
    "Climb",
    "Rung",
    "Step",
    "asked_words",
    "brief_output",
]

_HALF: Final = 0.5
"""Part of the words that is left while anything else can go: too small a limit is overrun further
than a larger one (arXiv 2412.18547, "token elasticity")."""
_PROMPT: Final = 2.0
"""Length of a prompt, in answers, that its documents are left while the answer can be shorter."""
_BRIEF: Final = 48
"""Tokens of the shortest answer that still says something: two sentences."""
_ANSWER_NOW: Final = "Answer now with what you have; no tools can be called any more."
_FILL_IN_NOW: Final = "Answer now with what you have; no other tools can be called any more."


class Step:
    """Names of the steps, in events, reports and ``response_metadata``."""

    TOOL_RESULTS: Final = "shortened old tool results"
    TURNS: Final = "left out old turns"
    REPORTS: Final = "handed over shorter reports"
    PROMPT: Final = "shortened the documents"
    WORDS: Final = "asked for fewer words"
    TIER: Final = "asked for the standard service tier"
    CHEAPER: Final = "asked a cheaper model"
    NO_TOOLS: Final = "took away the tools"
    SHORT: Final = "asked for a short answer"
    CUT: Final = "ended a cut answer at a whole sentence"
    COMPLETED: Final = "completed an object that was cut off"
    NO_CALL: Final = "left out a call of a tool that was cut off"
    FINAL: Final = "answered in the model's place"

    OF_THE_REQUEST: Final = frozenset({TOOL_RESULTS, TURNS, REPORTS, PROMPT, TIER, CHEAPER})
    """After these an answer is as long as it would have been."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request as it may be sent."""

    request: ModelRequest
    limit: int | None = None
    """The plan's limit in words."""
    words: int | None = None
    """Words that are asked for, where they are fewer than the plan's limit, or it has none."""
    steps: tuple[StepTaken, ...] = ()
    """What was done to it so far."""
    whole: ModelRequest | None = None
    """The request with all of its documents, where they were shortened: to be shortened anew, since
    what was cut once reads worse."""
    is_last: bool = False
    """Nothing is kept for a turn after it: its calls are what is asked for."""

    def has_taken(self, name: str) -> bool:
        """Whether a step of this name was taken."""
        return any(step.name == name for step in self.steps)

    @property
    def length(self) -> int | None:
        """The words that the answer may have; ``None``: nobody has said."""
        return self.limit if self.words is None else self.words


@dataclass(frozen=True)
class Climb:
    """What all rungs need to know."""

    first: ModelRequest
    """The request as its caller made it."""
    plan: PlanSettings
    forecaster: UsageForecaster
    agent: str
    tools: BudgetTools | None
    usual_answer: int | None = None
    """What its answers hardly exceed, by the few that this run has seen."""
    expected_answer: int | None = None
    """What they take as a rule, by those."""
    reports: Sequence[str] = ()
    """Earlier answers of the run, which may stand in the prompt."""
    others_read: Sequence[str] = ()
    """What others have been given of their documents, where these were shortened."""
    _known: dict[tuple[int, int | None, bool], tuple[ModelRequest, RequestBudget]] = field(
        default_factory=dict, repr=False
    )

    @cached_property
    def frame(self) -> Sequence[str]:
        """What of the prompt is no material: what the caller asks, and what rungs have added."""
        return (*self.given_tools.frame(self.first, self.reports), _ANSWER_NOW, _FILL_IN_NOW)

    @property
    def given_tools(self) -> BudgetTools:
        """The tools, for rungs that only apply where there are any."""
        assert self.tools is not None
        return self.tools

    def needs(self, at: Candidate) -> RequestBudget:
        """Return what a candidate needs; every rung asks."""
        key = id(at.request), at.length, at.is_last
        if key not in self._known:
            found = request_budget(
                at.request,
                self.plan,
                self.forecaster,
                self.agent,
                at.length,
                self.per_word(at),
                self.usual_answer,
                self.expected_answer,
            )
            found = replace(found, last_answer=0) if at.is_last else found
            self._known[key] = at.request, found  # kept, so that no other has its id
        return self._known[key][1]

    def forget(self) -> None:
        """Measure all candidates anew."""
        self._known.clear()

    def per_word(self, at: Candidate) -> float:
        """Return what a word of the answer takes."""
        return TOKENS_PER_WORD if self.tools is None else self.tools.tokens_per_word(at.request)

    def fits(self, at: Candidate, room: int) -> bool:
        """Whether a candidate fits into *room* tokens."""
        needs, most = self.needs(at), self.plan.max_input_tokens_per_call
        whole = needs.input + needs.unsaid_input + needs.to_the_end
        return whole <= room and (most is None or needs.input <= most)

    def for_messages(self, at: Candidate, room: int) -> int:
        """Return the tokens that a candidate's messages may have, as we count them."""
        needs = self.needs(at)
        goal = room - needs.expected_output
        if needs.last_answer:  # it reads half of what this call reads
            excess = needs.input + needs.last_answer - room
            goal = min(goal, needs.input - math.ceil(excess / (1 + READ_AGAIN)))
        if needs.unsaid_input:
            goal = goal * needs.input // (needs.input + needs.unsaid_input)
        if self.plan.max_input_tokens_per_call is not None:
            goal = min(goal, self.plan.max_input_tokens_per_call)
        # What the provider may count on top, and tools and schemas, are not for the messages.
        others = needs.counted_input - at.request.facts.message_tokens.tokens
        return counted_within(at.request, goal) - others

    def taken(
        self,
        at: Candidate,
        made: Candidate,
        name: str,
        lost: str = "",
        words: int | None = None,
    ) -> Candidate:
        """Return *made* with the step that led to it from *at*."""
        before, after = (
            needs.counted_input + needs.usual_output for needs in (self.needs(at), self.needs(made))
        )
        step = StepTaken(name, before, after, lost, words)
        return replace(made, steps=with_step(at.steps, step))

    def fewer_words(self, at: Candidate, words: int, before: int, name: str) -> Candidate:
        """Return a candidate that asks for *words*, where it could have *before*."""
        earlier = (step.words_before for step in at.steps if step.name == name)
        first = next(earlier, None) or before
        made = replace(at, words=words)
        return self.taken(at, made, name, f"{first - words:,} of {first:,} words", first)


class Rung(Protocol):
    """One way to make a call smaller."""

    @property
    def name(self) -> str:
        """Under which name it is recorded."""
        ...

    def applies(self, at: Candidate, climb: Climb) -> bool:
        """Whether there is anything to gain."""
        ...

    def shrink(self, at: Candidate, climb: Climb, room: int) -> Candidate:
        """Return a smaller candidate, for *room* tokens if that can be; else *at* itself."""
        ...


# --- the prompt


@dataclass(frozen=True)
class _Prompt:
    """Shortens the messages by one of the budget's tools."""

    name: str
    lost: str
    shorten: Callable[[Climb, ModelRequest, int], ModelRequest]

    def applies(self, at: Candidate, climb: Climb) -> bool:
        return climb.tools is not None

    def shrink(self, at: Candidate, climb: Climb, room: int) -> Candidate:
        return self.shortened(at, climb, at.request, max(1, climb.for_messages(at, room)))

    def shortened(self, at: Candidate, climb: Climb, source: ModelRequest, goal: int) -> Candidate:
        """Shorten the messages of *source* to *goal* tokens, if those of *at* are more."""
        if goal >= at.request.facts.message_tokens.tokens:
            return at
        request = self.shorten(climb, source, goal)
        if request is source:
            return at
        lost = source.facts.message_tokens.tokens - request.facts.message_tokens.tokens
        made = replace(at, request=request)
        return climb.taken(at, made, self.name, f"{lost:,} tokens of {self.lost}")


@dataclass(frozen=True)
class _Documents(_Prompt):
    """Shortens documents by what the question needs, from their full texts each time."""

    keep: float | None = None
    """Of a prompt it leaves so many times the length of the answer; ``None``: what the call can
    have."""
    wholly: bool = False
    """Only if the call then fits; else the documents are left to later rungs."""

    def shrink(self, at: Candidate, climb: Climb, room: int) -> Candidate:
        goal, source = climb.for_messages(at, room), at.whole or at.request
        if self.keep is not None:
            goal = max(goal, round(self.keep * climb.needs(at).usual_output))
        made = self.shortened(at, climb, source, max(1, goal))
        if made is at or (self.wholly and not climb.fits(made, room)):
            return at
        return replace(made, whole=source)


def _old_results(climb: Climb, request: ModelRequest, goal: int) -> ModelRequest:
    return climb.given_tools.shorten_tool_results(request, goal)


def _reports(climb: Climb, request: ModelRequest, goal: int) -> ModelRequest:
    if not climb.reports:
        return request
    return climb.given_tools.hand_over(request, climb.reports, goal, climb.frame)


def _no_reports(climb: Climb, request: ModelRequest, goal: int) -> ModelRequest:
    text = "\n".join(text_of(message) for message in climb.first.messages)
    read = [report for report in climb.reports if report in text]
    return climb.given_tools.leave_out(request, read, goal, climb.frame) if read else request


def _documents(climb: Climb, request: ModelRequest, goal: int) -> ModelRequest:
    return climb.given_tools.shorten(request, goal, climb.frame, climb.others_read)


def _old_turns(climb: Climb, request: ModelRequest, goal: int) -> ModelRequest:
    """Leave out answered turns, oldest first; the first message may say what it is all about."""
    messages = request.messages
    made = request
    for begin, end in answered_turns(messages):
        kept = [*messages[: first_turn(messages)], *messages[end:]]
        if begin < end:
            made = request.override(messages=kept)
        if made.facts.message_tokens.tokens <= goal:
            break
    return made


# --- the answer


def asked_words(at: Candidate, climb: Climb, output: int) -> int:
    """Return the words to ask for, so that the answer has no more than *output* tokens."""
    frame = MARKUP_TOKENS
    if reads_object(at.request):
        frame = object_size(asked_schema(at.request))[0]
    return max(1, math.floor((output / at.request.facts.generations - frame) / climb.per_word(at)))


@dataclass(frozen=True)
class _Words:
    """Asks for as many words as there is room for, but not under a floor."""

    name: str
    keep: float | None
    """Part of the words that it leaves; ``None``: a paragraph will do."""

    def applies(self, at: Candidate, climb: Climb) -> bool:
        return climb.tools is not None

    def shrink(self, at: Candidate, climb: Climb, room: int) -> Candidate:
        needs, times = climb.needs(at), at.request.facts.generations
        if self.keep is None:
            least, usual = needs.least_output, needs.usual_output
            least += MARKUP_TOKENS * times
        else:
            least, usual = max(needs.least_output, round(self.keep * needs.usual_output)), 0
        output = max(least, room - needs.input - needs.last_answer)
        if output >= (usual or needs.usual_output):
            return at
        words, before = asked_words(at, climb, output), at.length
        if before is None:
            before = asked_words(at, climb, needs.usual_output)
        if words >= before:
            return at
        return climb.fewer_words(at, words, before, self.name)


def brief_output(at: Candidate, needs: RequestBudget) -> int:
    """Return the tokens of the shortest answer that still says something.

    An object that is cut off there is completed by its schema: part of an answer is better than
    none.
    """
    facts = at.request.facts
    if facts.thinking_tokens:
        return needs.least_output
    if not reads_object(at.request):
        return min(_BRIEF * facts.generations, needs.least_output)
    # A call of a tool that does something is never completed.
    return needs.least_output * (_BRIEF if are_forms(facts.tools) else SHORT_ANSWER) // SHORT_ANSWER


@dataclass(frozen=True)
class _Brief:
    """Asks for two sentences, where nothing else is left but to answer in the model's place."""

    name: str = Step.SHORT

    def applies(self, at: Candidate, climb: Climb) -> bool:
        return climb.tools is not None and not reads_object(at.request)

    def shrink(self, at: Candidate, climb: Climb, room: int) -> Candidate:
        needs = climb.needs(at)
        output = room - needs.input - needs.last_answer
        if not brief_output(at, needs) <= output < needs.least_output:
            return at
        before = at.length or asked_words(at, climb, needs.usual_output)
        return climb.fewer_words(at, min(before, asked_words(at, climb, output)), before, self.name)


BRIEF: Final = _Brief()


# --- the model and its tools


@dataclass(frozen=True)
class _Cheaper:
    """Asks the plan's cheaper model: of the same class, so that tools and schemas stay."""

    name: str = Step.CHEAPER

    def applies(self, at: Candidate, climb: Climb) -> bool:
        cheaper = climb.plan.cheaper_model
        return cheaper is not None and cheaper != at.request.facts.model_name

    def shrink(self, at: Candidate, climb: Climb, room: int) -> Candidate:
        assert climb.plan.cheaper_model is not None
        model = _renamed(at.request.model, climb.plan.cheaper_model)
        if model is None:
            return at
        made = replace(at, request=at.request.override(model=model))
        return climb.taken(at, made, self.name)


def _renamed(model: BaseChatModel, name: str) -> BaseChatModel | None:
    for attribute in ("model_name", "model"):
        if attribute in type(model).model_fields:
            return model.model_copy(update={attribute: name})
    return None


@dataclass(frozen=True)
class _NoTools:
    """Takes the tools away, and tells the model so.

    Where the answer is one of them, a form to be filled in, it stays. Where all are forms, nothing
    else would be read, so they stay, too: only the turn after them goes.
    """

    name: str = Step.NO_TOOLS

    def applies(self, at: Candidate, climb: Climb) -> bool:
        facts = at.request.facts
        is_free = bool(facts.tools) and not facts.answer_form.is_structured
        return is_free or bool(answer_forms(at.request))

    def shrink(self, at: Candidate, climb: Climb, room: int) -> Candidate:
        if reads_calls(at.request):
            return replace(at, is_last=True)
        whole = None if at.whole is None else _without_tools(at.whole)
        made = replace(at, request=_without_tools(at.request), whole=whole)
        lost = len(at.request.facts.tools) - len(made.request.facts.tools)
        return climb.taken(at, made, self.name, f"{lost} tools")


def _without_tools(request: ModelRequest) -> ModelRequest:
    if forms := answer_forms(request):
        messages = append_to_last_user(request.messages, _FILL_IN_NOW)
        return request.override(kwargs={**request.kwargs, "tools": forms}, messages=messages)
    messages = append_to_last_user(request.messages, _ANSWER_NOW)
    if request.facts.provider == "anthropic" and _has_called(request):
        # Anthropic refuses past tool calls in a request that does not name the tools.
        kwargs = {**request.kwargs, "tool_choice": {"type": "none"}}
        return request.override(kwargs=kwargs, messages=messages)
    kept = {
        key: value
        for key, value in request.kwargs.items()
        if key not in ("tools", "tool_choice", "parallel_tool_calls", "functions")
    }
    return request.override(kwargs=kept, messages=messages)


def _has_called(request: ModelRequest) -> bool:
    return any(isinstance(m, AIMessage) and m.tool_calls for m in request.messages)


NO_TOOLS: Final = _NoTools()

LADDER: Final[tuple[Rung, ...]] = (
    _Prompt(Step.TOOL_RESULTS, "old tool results", _old_results),
    _Prompt(Step.TURNS, "old turns", _old_turns),
    _Prompt(Step.REPORTS, "reports", _reports),
    _Documents(Step.PROMPT, "documents", _documents, keep=_PROMPT),
    _Words(Step.WORDS, _HALF),
    _Cheaper(),
    _Documents(Step.PROMPT, "documents", _documents, wholly=True),
    NO_TOOLS,
    _Documents(Step.PROMPT, "documents", _documents, wholly=True),
    _Words(Step.SHORT, None),
    _Documents(Step.PROMPT, "documents", _documents),
    _Prompt(Step.REPORTS, "reports", _no_reports),
)
"""All rungs, from the first that is tried to the last before a call is refused."""
WITH_TOOLS: Final = LADDER[: LADDER.index(NO_TOOLS)]
"""Those that leave the tools: for a first turn they are tried with more than its fair part, too."""
