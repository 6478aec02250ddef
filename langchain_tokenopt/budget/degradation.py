"""What becomes of a call that does not fit into its budget: it is made smaller, step by step.

In order: old tool results are shortened, then the prompt; then the answer is asked for in fewer
words; a cheaper model is asked; tools are taken away, so that the agent answers now; in the end
an answer of the right type is given in the model's place. A step is taken only when those before it
do not suffice. Without :class:`~langchain_tokenopt.budget.tools.BudgetTools` only the steps that
need none are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.leases import CallCost
from langchain_tokenopt.budget.money import terms_of, with_standard_tier
from langchain_tokenopt.budget.request_budget import (
    MARKUP_TOKENS,
    TOKENS_PER_WORD,
    RequestBudget,
    counted_within,
    request_budget,
)
from langchain_tokenopt.budget.room import NO_DEMANDS, Demands, Room
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.budget.tools import BudgetTools
from langchain_tokenopt.core.messages import append_to_last_user
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["Candidate", "Degradation", "Granted", "Step"]

SHORTEST: Final = 0.5
"""Words are asked for no less than this part of the plan's: too small a limit is overrun further
than a larger one (arXiv 2412.18547, "token elasticity")."""
SOFT_KEEP: Final = 0.7
"""Part of a prompt that is kept when the soft limit is reached: the level ``"balanced"``."""
ANSWER_NOW: Final = "Answer now with what you have; no tools can be called any more."


class Step:
    """Names of the steps, in events, reports and ``response_metadata``."""

    TOOL_RESULTS: Final = "shortened old tool results"
    PROMPT: Final = "shortened the prompt"
    WORDS: Final = "asked for fewer words"
    TIER: Final = "asked for the standard service tier"
    CHEAPER: Final = "asked a cheaper model"
    NO_TOOLS: Final = "took away the tools"
    FINAL: Final = "answered in the model's place"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request as it may be sent."""

    request: ModelRequest
    words: int | None = None
    """The word limit that will be asked for."""
    steps: tuple[str, ...] = ()
    """What was done to it so far."""

    def after(self, request: ModelRequest, step: str) -> Candidate:
        """Return the candidate after one more step; itself where *request* has not changed."""
        if request is self.request:
            return self
        return self._with_step(request, step)

    def _with_step(self, request: ModelRequest, step: str) -> Candidate:
        steps = self.steps if step in self.steps else (*self.steps, step)
        return replace(self, request=request, steps=steps)

    def with_words(self, words: int) -> Candidate:
        """Return the candidate with a smaller word limit."""
        return replace(self._with_step(self.request, Step.WORDS), words=words)


@dataclass(frozen=True, slots=True)
class Granted:
    """A candidate that its budget has granted."""

    candidate: Candidate
    needs: RequestBudget
    hold: Hold


class Degradation:
    """The ways to make one request smaller.

    Args:
        request: As the caller made it.
        run: Whose account pays.
        agent: Who asks.
        tools: Ways to shorten, where a socket has given any.
    """

    def __init__(
        self, request: ModelRequest, run: BudgetRun, agent: str, tools: BudgetTools | None
    ) -> None:
        self._run = run
        self._agent = agent
        self._tools = tools
        self.owners = run.owners_of(request.facts.attribution)
        """On whose account the call goes."""
        self._demands: Callable[[], Demands] = lambda: NO_DEMANDS
        """What is to come beside it."""
        self._left_nano_usd: int | None = None
        words = run.plan.limits_of(agent).words if tools is not None else None
        structured = words is not None and request.facts.answer_form.is_structured
        self.first = Candidate(request, None if structured else words)
        """The request as it is."""

    def needs(self, candidate: Candidate) -> RequestBudget:
        """Return what a candidate needs."""
        run = self._run
        return request_budget(
            candidate.request, run.plan, run.forecaster, self._agent, candidate.words
        )

    def first_affordable(self) -> Granted | Denial:
        """Find the first candidate that the budget grants, and reserve for it.

        Returns:
            What was granted, or the denial of the smallest candidate.
        """
        request, outlook = self.first.request, self._run.outlook
        needs = self.needs(self.first)
        with outlook.asking(self._agent, needs, request.run.run_id) as self._demands:
            return self._first_affordable()

    def _first_affordable(self) -> Granted | Denial:
        candidate = self.first
        for candidate, room in self._candidates():
            needs = self.needs(candidate)
            if not self._fits(needs, room):
                continue
            most = self._most(needs, room)
            affordable = self._with_certain_tier(candidate, needs, most)
            answer = self._reserve(affordable, needs, most, tentative=True)
            if isinstance(answer, Hold):
                return Granted(affordable, needs, answer)
        needs = self.needs(candidate)
        refused = self._reserve(candidate, needs, needs.least_output)
        if isinstance(refused, Hold):  # freed by somebody else in this moment
            return Granted(candidate, needs, refused)
        return refused

    def _fits(self, needs: RequestBudget, room: int) -> bool:
        largest = self._run.plan.max_input_tokens_per_call
        if largest is not None and needs.input > largest:
            return False
        return needs.input + needs.least_output + needs.last_answer <= room

    def _most(self, needs: RequestBudget, room: int) -> int:
        """Return the output to ask for: what is needed, and more of it while there is plenty.

        A model that is stopped may have written up to its cap, so a cap is no more generous than
        the agent can afford four times over, where the length of its answers is known. Of an answer
        of unknown length, half of the room is taken where another turn may follow that nobody
        foresees.
        """
        room -= needs.last_answer
        generous = (room // 4 if needs.is_known else room) - needs.input
        if not (needs.is_known or self._demands().foreseen):
            generous //= 2
        return max(needs.least_output, min(needs.most_output, generous))

    def _reserve(
        self, candidate: Candidate, needs: RequestBudget, most: int, *, tentative: bool = False
    ) -> Hold | Denial:
        """Reserve at most *most* output, and less where tokens or money do not reach."""
        return self._run.account.reserve(
            self._agent,
            needs.input,
            most,
            min_output_tokens=needs.least_output,
            cost_nano_usd=self._cost(candidate, needs),
            owners=self.owners,
            demands=self._demands(),
            tentative=tentative,
        )

    def _cost(self, candidate: Candidate, needs: RequestBudget) -> CallCost:
        """Return what a candidate can cost, by the length of its answer."""
        prices = self._run.prices
        if prices is None:
            return None
        priced = prices.of(terms_of(candidate.request))
        return lambda output: priced.most(needs.input, output)

    def _with_certain_tier(
        self, candidate: Candidate, needs: RequestBudget, most: int
    ) -> Candidate:
        """Rule out a dearer service tier, where the money does not reach for it."""
        cost, left = self._cost(candidate, needs), self._left_nano_usd
        if left is None or not callable(cost) or (cost(most) or 0) <= left:
            return candidate
        return candidate.after(with_standard_tier(candidate.request), Step.TIER)

    def _candidates(self) -> Iterator[tuple[Candidate, int]]:
        """Yield candidates, each smaller than the one before, with the room that each may take.

        A candidate is first tried within what belongs to the agent, its part of the pool included,
        and once its prompt is as short as that asks for, within all that the account would grant.
        """
        candidate, room = self.first, self._room()
        self._left_nano_usd = room.left_nano_usd
        if self._run.plan.on_exceed == "raise":
            yield candidate, room.available
            return
        own = room.own
        if room.used_ratio >= self._run.plan.soft_limit:
            candidate = self._softened(candidate)
        yield candidate, own
        if self._tools is not None:
            candidate = candidate.after(
                self._tools.shorten_tool_results(candidate.request), Step.TOOL_RESULTS
            )
            yield candidate, own
            candidate = self._shortened(candidate, own)
            yield candidate, own
            yield candidate, self._available()
            shorter = self._with_fewer_words(candidate, own)
            if shorter is not candidate:
                candidate = self._shortened(shorter, own)
                yield candidate, own
            candidate = self._shortened(candidate, self._available())
            yield candidate, self._available()
        cheaper = self._with_cheaper_model(candidate)
        if cheaper is not candidate:
            candidate = cheaper
            yield candidate, self._available()
        facts = candidate.request.facts
        if facts.tools and not facts.answer_form.is_structured:
            candidate = candidate.after(_without_tools(candidate.request), Step.NO_TOOLS)
            yield candidate, self._available()
            if self._tools is not None:
                candidate = self._shortened(candidate, self._available())
                yield candidate, self._available()

    def _room(self) -> Room:
        return self._run.room_of(self._agent, self._demands(), self.owners)

    def _available(self) -> int:
        return self._room().available

    # Steps

    def _softened(self, candidate: Candidate) -> Candidate:
        """Take the first step that does anything: the soft limit has been reached."""
        cheaper = self._with_cheaper_model(candidate)
        if cheaper is not candidate or self._tools is None:
            return cheaper
        request = candidate.request
        softened = candidate.after(self._tools.shorten_tool_results(request), Step.TOOL_RESULTS)
        if softened is not candidate:
            return softened
        goal = max(1, round(request.facts.input_tokens.tokens * SOFT_KEEP))
        return candidate.after(self._tools.shorten(request, goal), Step.PROMPT)

    def _shortened(self, candidate: Candidate, room: int) -> Candidate:
        """Shorten the prompt so that it and the answer fit into *room*."""
        needs = self.needs(candidate)
        if self._tools is None or self._fits(needs, room):
            return candidate
        goal = room - needs.least_output - needs.last_answer
        if self._run.plan.max_input_tokens_per_call is not None:
            goal = min(goal, self._run.plan.max_input_tokens_per_call)
        # What the provider may count on top, and tools and schemas, are not for the messages.
        others = needs.counted_input - candidate.request.facts.message_tokens.tokens
        allowed = counted_within(candidate.request, goal) - others
        if allowed < 1:
            return candidate
        return candidate.after(self._tools.shorten(candidate.request, allowed), Step.PROMPT)

    def _with_fewer_words(self, candidate: Candidate, room: int) -> Candidate:
        """Ask for as many words as there is room for, but not under the floor."""
        if candidate.words is None:
            return candidate
        floor = max(1, math.ceil(candidate.words * SHORTEST))
        needs = self.needs(candidate)
        words = math.floor((room - needs.input - MARKUP_TOKENS) / TOKENS_PER_WORD)
        words = max(floor, min(candidate.words, words))
        return candidate if words == candidate.words else candidate.with_words(words)

    def _with_cheaper_model(self, candidate: Candidate) -> Candidate:
        """Ask the plan's cheaper model: of the same class, so that tools and schemas stay."""
        name, request = self._run.plan.cheaper_model, candidate.request
        if name is None or name == request.facts.model_name or Step.CHEAPER in candidate.steps:
            return candidate
        model = _renamed(request.model, name)
        if model is None:
            return candidate
        return candidate.after(request.override(model=model), Step.CHEAPER)


def _renamed(model: BaseChatModel, name: str) -> BaseChatModel | None:
    for attribute in ("model_name", "model"):
        if attribute in type(model).model_fields:
            return model.model_copy(update={attribute: name})
    return None


def _without_tools(request: ModelRequest) -> ModelRequest:
    messages = append_to_last_user(request.messages, ANSWER_NOW)
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
