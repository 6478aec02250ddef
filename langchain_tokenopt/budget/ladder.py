"""What becomes of a call that does not fit into its budget: it is made smaller, rung by rung.

In order: old tool results are shortened, then the prompt; then the answer is asked for in fewer
words; a cheaper model is asked; tools are taken away, so that the agent answers now; in the end
the answer is made up, of the right type. A rung is taken only when the ones above do not suffice.

Shortening is done by other stages, which a stage may not import: a socket lends them
(:class:`Shortening`). Without it the ladder has only its lower rungs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from langchain_tokenopt.budget.account import Denial, Hold
from langchain_tokenopt.budget.demand import (
    Form,
    cap_of,
    correction_for,
    form_of,
    input_tokens_of,
    thinking_tokens,
)
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.core.messages import append_to_last_user
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Stage

__all__ = ["Demand", "Draft", "Shortening", "climb"]

UNBOUNDED_ANSWER: Final = 4_096
"""Most that is held for an answer when nobody has set a limit."""
LEAST_ANSWER: Final = 64
"""An answer shorter than that is of no use: about two sentences."""
TOKENS_PER_WORD: Final = 1.6
"""Prose takes 1.35 tokens a word in English (``limits/words.py``); with names, figures and markup
up to this. The model is stopped by words; this only decides what is held."""
MARKUP_TOKENS: Final = 48
ASKING_TOKENS: Final = 24
"""Most that the line takes which asks for a length, in any language that it is asked in."""
TELLING_TOKENS: Final = 40
"""Most that the line takes which tells what is left."""
SHORTEST: Final = 0.5
"""Words are asked for no less than this part of the plan's: too small a limit is overrun further
than a larger one (arXiv 2412.18547, "token elasticity")."""
SOFT_KEEP: Final = 0.7
"""Part of a prompt that is kept when the soft limit is reached: the level ``"balanced"``."""
KNOWN_ANSWERS: Final = 30
"""Answers of an agent from which on their lengths, rather than the plan's words, are trusted."""
ANSWER_NOW: Final = "Answer now with what you have; no tools can be called any more."

TOOL_RESULTS = "shortened old tool results"
PROMPT = "shortened the prompt"
WORDS = "asked for fewer words"
CHEAPER = "asked a cheaper model"
NO_TOOLS = "took away the tools"
FINAL = "answered in the model's place"


class Shortening(Protocol):
    """What a socket lends to a budget."""

    def shorten(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        """Return *request* with messages of *max_tokens* where that can be; never longer."""
        ...

    def shorten_tool_results(self, request: ModelRequest) -> ModelRequest:
        """Return *request* with older tool results shortened; the latest stay."""
        ...

    def word_limit(self, words: int, max_tokens: int) -> Stage:
        """Return a stage that keeps answers within *words* and *max_tokens*."""
        ...

    def count_words(self, text: str) -> int:
        """Count words as the limit does."""
        ...

    def thinking_room(self, request: ModelRequest) -> int | None:
        """Return the tokens that the model may think, which nobody sees; ``None``: unknown."""
        ...


@dataclass(frozen=True)
class Draft:
    """A request on its way down the ladder."""

    request: ModelRequest
    words: int | None = None
    """The word limit that will be asked for."""
    rungs: tuple[str, ...] = field(default=())
    """What was done to it so far."""

    def made(self, request: ModelRequest, rung: str) -> Draft:
        """Return the draft after one more rung."""
        rungs = self.rungs if rung in self.rungs else (*self.rungs, rung)
        return replace(self, request=request, rungs=rungs)


@dataclass(frozen=True)
class Demand:
    """What a draft needs, in tokens."""

    counted: int
    """Its input as we count it."""
    input: int
    """Its input as the provider may count it."""
    least: int
    """Output below which it is not worth sending."""
    most: int
    """Output that it will be capped at when there is plenty."""
    is_known: bool
    """Whether ``least`` is what the answer will hardly exceed; else nobody knows its length."""


def demand_of(draft: Draft, run: BudgetRun, agent: str) -> Demand:
    """Measure a draft."""
    request, plan = draft.request, run.plan
    counted, exact = input_tokens_of(request)
    counted += (ASKING_TOKENS if draft.words is not None else 0) + (TELLING_TOKENS * plan.tell)
    sent = correction_for(request.model).applied(counted, exact=exact)
    form, thinking = form_of(request), thinking_tokens(request)
    times = _generations(request)
    limits = (cap_of(request), plan.max_output_tokens_per_call)
    ceiling = min((limit for limit in limits if limit is not None), default=UNBOUNDED_ANSWER)
    expected = _expected(draft, run, agent, form)
    least = min(ceiling, expected if expected is not None else LEAST_ANSWER)
    if thinking:
        least = min(ceiling, least + thinking)
    most = max(least, ceiling)
    return Demand(counted, sent, least * times, most * times, expected is not None)


def _expected(draft: Draft, run: BudgetRun, agent: str, form: Form | None) -> int | None:
    """Return the output tokens that the answer will hardly exceed; ``None``: nobody knows."""
    if form is not None:
        return form.floor_tokens + round((draft.words or 0) * TOKENS_PER_WORD)
    by_words = None
    if draft.words is not None:
        by_words = math.ceil(draft.words * TOKENS_PER_WORD) + MARKUP_TOKENS
    limited = draft.words is not None
    if run.forecaster.observations(agent, limited=limited) < KNOWN_ANSWERS:
        return by_words
    known = run.forecaster.quantile(
        0.99, agent, model=model_name_of(draft.request.model), max_words=draft.words
    )
    if known is None or by_words is None:
        return known or by_words
    return min(known, by_words)


def _generations(request: ModelRequest) -> int:
    return request.kwargs.get("n") or getattr(request.model, "n", None) or 1


# --- down the ladder -----------------------------------------------------------------------------


def climb(
    request: ModelRequest, run: BudgetRun, agent: str, lent: Shortening | None
) -> tuple[Draft, Demand, Hold] | Denial:
    """Find the first draft of *request* that its budget grants, and reserve it.

    Returns:
        The draft, what it needs and the hold, or the denial of the smallest draft.
    """
    denial: Denial | None = None
    for draft, room in _drafts(request, run, agent, lent):
        demand = demand_of(draft, run, agent)
        if not _fits(demand, run, room):
            continue
        answer = _reserve(draft, demand, run, agent, room)
        if isinstance(answer, Hold):
            return draft, demand, answer
        denial = answer  # somebody else was faster, or it is a matter of money
    if denial is not None:
        return denial
    demand = demand_of(draft, run, agent)
    refused = run.account.reserve(agent, demand.input, demand.least)
    if isinstance(refused, Hold):  # freed by somebody else in this moment
        return draft, demand, refused
    return refused


def _fits(demand: Demand, run: BudgetRun, room: int) -> bool:
    largest = run.plan.max_input_tokens_per_call
    return demand.input + demand.least <= room and (largest is None or demand.input <= largest)


def _reserve(draft: Draft, demand: Demand, run: BudgetRun, agent: str, room: int) -> Hold | Denial:
    """Reserve a draft: the need that is foretold, and more of it while there is plenty.

    A model that is stopped may have written up to its cap, so a cap is no more generous than the
    agent can afford four times over. Of an answer of unknown length, half of the room is taken, so
    that another turn is left.
    """
    generous = room // 4 - demand.input if demand.is_known else (room - demand.input) // 2
    most = max(demand.least, min(demand.most, generous))
    model = draft.request.model
    cost = run.cost_of(model_name_of(model), provider_of(model), demand.input, most)
    return run.account.reserve(
        agent, demand.input, most, min_output_tokens=demand.least, cost_nano_usd=cost
    )


def _drafts(
    request: ModelRequest, run: BudgetRun, agent: str, lent: Shortening | None
) -> Iterator[tuple[Draft, int]]:
    """Yield drafts, each smaller than the one before, with the room that each may take.

    A draft is first tried within what belongs to the agent, its part of the pool included, and
    once its prompt is as short as that asks for, within all that the account would give it.
    """
    words = run.plan.limits_of(agent).words if lent is not None else None
    draft = Draft(request, words if form_of(request) is None else None)
    own = run.target_for(agent)
    if run.plan.on_exceed == "raise":
        yield draft, run.account.available(agent)
        return
    if run.is_soft:
        draft = _softened(draft, run, lent)
    yield draft, own
    if lent is not None:
        draft = _shortened_results(draft, lent)
        yield draft, own
        draft = _shortened(draft, run, agent, lent, own)
        yield draft, own
        yield draft, run.account.available(agent)
        shorter = _fewer_words(draft, run, agent, own)
        if shorter is not draft:
            draft = _shortened(replace(shorter, request=draft.request), run, agent, lent, own)
            yield draft, own
        draft = _shortened(draft, run, agent, lent, run.account.available(agent))
        yield draft, run.account.available(agent)
    cheaper = _cheaper(draft, run)
    if cheaper is not None:
        draft = cheaper
        yield draft, run.account.available(agent)
    if draft.request.tools and form_of(draft.request) is None:
        draft = draft.made(_without_tools(draft.request), NO_TOOLS)
        yield draft, run.account.available(agent)
        if lent is not None:
            draft = _shortened(draft, run, agent, lent, run.account.available(agent))
            yield draft, run.account.available(agent)


def _softened(draft: Draft, run: BudgetRun, lent: Shortening | None) -> Draft:
    """Take the first rung that does anything: the soft limit has been reached."""
    if (cheaper := _cheaper(draft, run)) is not None:
        return cheaper
    if lent is None:
        return draft
    made = _shortened_results(draft, lent)
    if made is not draft:
        return made
    counted, _ = input_tokens_of(draft.request)
    request = lent.shorten(draft.request, max(1, round(counted * SOFT_KEEP)))
    return draft if request is draft.request else draft.made(request, PROMPT)


def _shortened_results(draft: Draft, lent: Shortening) -> Draft:
    request = lent.shorten_tool_results(draft.request)
    return draft if request is draft.request else draft.made(request, TOOL_RESULTS)


def _shortened(draft: Draft, run: BudgetRun, agent: str, lent: Shortening, room: int) -> Draft:
    """Shorten the prompt so that it and the answer fit into *room*."""
    demand = demand_of(draft, run, agent)
    if _fits(demand, run, room):
        return draft
    goal = room - demand.least
    if run.plan.max_input_tokens_per_call is not None:
        goal = min(goal, run.plan.max_input_tokens_per_call)
    # What the provider may count on top, and tools and schemas, are not for the messages.
    messages = input_tokens_of(draft.request.override(kwargs={}))[0]
    beside = demand.counted - messages
    allowed = math.floor(goal * demand.counted / max(1, demand.input)) - beside
    if allowed < 1:
        return draft
    request = lent.shorten(draft.request, allowed)
    return draft if request is draft.request else draft.made(request, PROMPT)


def _fewer_words(draft: Draft, run: BudgetRun, agent: str, room: int) -> Draft:
    """Ask for as many words as there is room for, but not under the floor."""
    if draft.words is None:
        return draft
    floor = max(1, math.ceil(draft.words * SHORTEST))
    demand = demand_of(draft, run, agent)
    words = math.floor((room - demand.input - MARKUP_TOKENS) / TOKENS_PER_WORD)
    words = max(floor, min(draft.words, words))
    if words == draft.words:
        return draft
    return replace(draft.made(draft.request, WORDS), words=words)


def _cheaper(draft: Draft, run: BudgetRun) -> Draft | None:
    """Ask the plan's cheaper model: of the same class, so tools and schemas stay as they are."""
    name, model = run.plan.cheaper_model, draft.request.model
    if name is None or name == model_name_of(model) or CHEAPER in draft.rungs:
        return None
    made = _renamed(model, name)
    return None if made is None else draft.made(draft.request.override(model=made), CHEAPER)


def _renamed(model: BaseChatModel, name: str) -> BaseChatModel | None:
    for attribute in ("model_name", "model"):
        if attribute in type(model).model_fields:
            return model.model_copy(update={attribute: name})
    return None


def _without_tools(request: ModelRequest) -> ModelRequest:
    messages = append_to_last_user(request.messages, ANSWER_NOW)
    if provider_of(request.model) == "anthropic" and _has_called(request):
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


def provider_of(model: BaseChatModel) -> str | None:
    """Return the provider under the name that LangChain's tracing gives it."""
    return model._get_ls_params().get("ls_provider")
