"""What becomes of a call that does not fit into its budget: it is made smaller, rung by rung.

The rungs are data (:mod:`langchain_tokenopt.budget.rungs`), the climb is one loop: first within
what leaves the others their likely need, then, if not even a short answer fits there, within all
that the account would grant. What fits nowhere is answered in the model's place, or refused.
Without :class:`~langchain_tokenopt.budget.tools.BudgetTools` only rungs that need none are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from langchain_tokenopt.budget.holds import Denial, Hold
from langchain_tokenopt.budget.leases import CallCost
from langchain_tokenopt.budget.money import terms_of, with_standard_tier
from langchain_tokenopt.budget.request_budget import (
    UNBOUNDED_ANSWER,
    RequestBudget,
    answer_bounds,
    reads_object,
)
from langchain_tokenopt.budget.room import NO_DEMANDS, Demands, Room
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.budget.rungs import (
    BRIEF,
    LADDER,
    NO_TOOLS,
    WITH_TOOLS,
    Candidate,
    Climb,
    Rung,
    Step,
    asked_words,
    brief_output,
)
from langchain_tokenopt.budget.tools import BudgetTools
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.request.form_tools import name_and_schema
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["Degradation", "Granted"]

_CHEAPER: Final = tuple(rung for rung in LADDER if rung.name == Step.CHEAPER)


_PARTS: Final = 4
"""Of what is left, an answer that may be very long is given one of so many parts: others may call
while it is written, and of a process that is killed meanwhile all that it held counts as spent."""
_A_LITTLE_MORE: Final = 1.3
"""What a short answer is tried with where its estimate did not do, before all there is."""
_TRIES: Final = 4
"""How often a call is made to fit anew because others have taken what it was to have."""
_UNSURE: Final = 5
"""One token of so many that a schema has may be counted otherwise by the provider."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A candidate that its budget has granted."""

    candidate: Candidate
    needs: RequestBudget
    hold: Hold
    is_capped: bool = True
    """Whether the answer must be bounded by what is held: not while there is plenty."""
    is_foreseen: bool = False
    """Whether it is known who else will call; else another turn may follow."""
    asks: bool = True
    """Whether there is room for a line that asks for a length."""


class Degradation:
    """The climb of one request.

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
        others = [text for name, text in list(run.shortened.items()) if name != agent]
        self.climb = Climb(
            request,
            run.plan,
            run.forecaster,
            agent,
            tools,
            run.outlook.usual_answer(agent),
            run.outlook.expected_answer(agent),
            tuple(run.answers),
            others,
        )
        self.owners = run.owners.of(request.facts.attribution)
        """On whose account the call goes."""
        self._demands: Callable[[], Demands] = lambda: NO_DEMANDS
        """What is to come beside it."""
        words = run.plan.limits_of(agent).words if tools is not None else None
        is_free = not request.facts.answer_form.is_structured
        self.first = Candidate(request, words if is_free else None)
        """The request as it is."""

    def likely(self) -> dict[str, int]:
        """Return what everybody who may still come will probably need, this agent included."""
        demands = self._demands()
        found = {name: demand.likely for name, demand in demands.others.items()}
        return {**found, self._agent: demands.later.likely}

    def first_affordable(self) -> Granted | Denial:
        """Find the first candidate that the budget grants, and reserve for it.

        Returns:
            What was granted, or the denial of the smallest candidate.
        """
        request, outlook = self.first.request, self._run.outlook
        needs = self.climb.needs(self.first)
        with outlook.asking(self._agent, needs, request.run.run_id) as self._demands:
            return self._first_affordable()

    def again(self, outdated: Granted) -> Granted | Denial:
        """Find another one: a provider has said meanwhile that it counts more than was thought."""
        self._run.account.release(outdated.hold)
        self._run.outlook.ended(outdated.candidate.request.run.run_id)
        self.climb.forget()
        return self.first_affordable()

    def _first_affordable(self) -> Granted | Denial:
        room = self._room()
        if self._run.plan.on_exceed == "raise":
            return self._granted(self.first, room, room.available) or self._smallest(self.first)
        for _ in range(_TRIES):
            found = self._climbed(room)
            before, room = room, self._room()
            if isinstance(found, Granted) or room.available >= before.available:
                break  # else others have taken of it, and what was made to fit does not any more
        return found if isinstance(found, Granted) else self._smallest(found)

    def _room(self) -> Room:
        return self._run.room_of(self._agent, self._demands(), self.owners)

    def _climbed(self, room: Room) -> Granted | Candidate:
        """Return what was granted, or the smallest candidate if nothing was."""
        first = candidate = self._within_a_turn(room)
        short = round(_A_LITTLE_MORE * self.climb.needs(first).shortest)
        halfway = (room.own + room.available) // 2
        tries = [(tokens, LADDER) for tokens in sorted({room.own, halfway, room.available, short})]
        if self._hands_over():
            # Without its tools nobody comes who is waited for.
            tries = [*((tokens, WITH_TOOLS) for tokens, _ in tries), (room.available, LADDER)]
        elif self._begins_with_tools(first):
            tries = [(room.own, WITH_TOOLS), (halfway, WITH_TOOLS), *tries]
        for tokens, ladder in tries:
            if not room.own <= tokens <= room.available:
                continue
            candidate = first
            rungs: tuple[Rung | None, ...] = (None, *ladder)
            if room.used_ratio >= self._run.plan.soft_limit:
                rungs = (*_CHEAPER, *rungs)
            for rung in rungs:
                if rung is not None and rung.applies(candidate, self.climb):
                    candidate = rung.shrink(candidate, self.climb, tokens)
                granted = self._granted(candidate, room, tokens)
                if granted is not None:
                    return granted
        if BRIEF.applies(candidate, self.climb):
            candidate = BRIEF.shrink(candidate, self.climb, room.available)
        return candidate

    def _begins_with_tools(self, first: Candidate) -> bool:
        """Whether tools have found nothing so far: without them there is nothing to answer from."""
        has_results = any(m.type == "tool" for m in first.request.messages)
        return NO_TOOLS.applies(first, self.climb) and not has_results

    def _within_a_turn(self, room: Room) -> Candidate:
        """Return the request, without tools where there is no room for a turn and the answer.

        What the tools have found so far is worth more than another turn that reads less of it; but
        old results may be shortened.
        """
        first, climb = self.first, self.climb
        if self._begins_with_tools(first) or not NO_TOOLS.applies(first, climb):
            return first
        tokens = room.available if self._hands_over() else room.own
        if climb.fits(first, tokens):
            return first
        gentle, *_ = LADDER
        shorter = gentle.shrink(first, climb, tokens) if gentle.applies(first, climb) else first
        return first if climb.fits(shorter, tokens) else NO_TOOLS.shrink(first, climb, 0)

    def _hands_over(self) -> bool:
        """Whether a tool bears the name of an agent that is still to come, and so leads to it.

        Without it that agent does not come, and what is kept for it is of no use to anybody.
        """
        tools = [name_and_schema(tool)[0] or "" for tool in self.first.request.facts.tools]
        return any(tool.endswith(other) for tool in tools for other in self._demands().others)

    def _granted(self, candidate: Candidate, room: Room, tokens: int) -> Granted | None:
        """Reserve for a candidate, if it fits into *tokens* and the account has them."""
        if not self.climb.fits(candidate, tokens):
            return None
        needs = self.climb.needs(candidate)
        bounds = answer_bounds(candidate.request, needs.input)
        is_capped = not self._is_ample(candidate, needs, room, bounds.longest)
        if self._is_ample(candidate, needs, room, UNBOUNDED_ANSWER):
            most = self._long_output(candidate, needs, room, bounds.safe_cap)
        else:
            most = self._output(candidate, needs, room, tokens)
        affordable = self._with_certain_tier(candidate, needs, most, room)
        answer = self._reserve(affordable, needs, most, tentative=True, unsaid=True)
        if not isinstance(answer, Hold):
            return None
        told = self._told(affordable, needs, answer)
        if told.whole is not None:
            sent = "\n".join(map(text_of, told.request.messages))
            self._run.shortened[self._agent] = sent
        return Granted(told, needs, answer, is_capped, room.foreseen)

    def _told(self, at: Candidate, needs: RequestBudget, hold: Hold) -> Candidate:
        """Return a candidate with no more words than are held for, where it has a limit."""
        if at.length is None or hold.max_output_tokens >= needs.usual_output:
            return at
        words = asked_words(at, self.climb, hold.max_output_tokens)
        if words >= at.length:
            return at
        return self.climb.fewer_words(at, words, at.length, Step.WORDS)

    @staticmethod
    def _output(candidate: Candidate, needs: RequestBudget, room: Room, tokens: int) -> int:
        """Return the longest answer to hold for: what is likely, and a part of what is to spare.

        As much is for each of the calls that may be under way at the same time.
        """
        limit, facts = tokens - needs.last_answer, candidate.request.facts
        if needs.is_known:  # stopped by a limit, a model may have written up to its cap
            limit = tokens // 4
        if reads_object(candidate.request):  # cut off, it is of no use
            unsure = (facts.tool_tokens.tokens + facts.schema_tokens.tokens) // _UNSURE
            limit = max(limit, room.available - unsure)
        spare = max(limit - needs.input - needs.usual_output, 0) // (1 + room.beside)
        return max(needs.usual_output, min(needs.most_output, needs.usual_output + spare))

    @staticmethod
    def _long_output(candidate: Candidate, needs: RequestBudget, room: Room, safe_cap: int) -> int:
        """Return the longest answer to hold for where there is room for what hardly any exceeds."""
        facts = candidate.request.facts
        most = needs.most_output
        if facts.output_cap is None:
            thinking = facts.thinking_tokens * facts.generations
            part = min(room.left // _PARTS, safe_cap * facts.generations)
            most = max(most + thinking, part)
        spare = room.available - needs.input - needs.last_answer
        return max(needs.usual_output, min(most, spare))

    def _is_ample(
        self, candidate: Candidate, needs: RequestBudget, room: Room, answer: int
    ) -> bool:
        """Whether answers of *answer* tokens fit into what every hard bound has left.

        Such bounds are the agent's cap, the total, and the totals of all levels around it. Where
        the longest answers fit, there is no need for a cap.

        An answer with a word limit has a cap in any case; the nearer it is to what is held, the
        less can a provider write on when the answer is stopped.
        """
        plan, facts = self._run.plan, candidate.request.facts
        if candidate.steps or candidate.length or plan.max_output_tokens_per_call or plan.in_money:
            return False
        return room.left >= (1 + room.beside) * (needs.input + answer * facts.generations)

    def _smallest(self, candidate: Candidate) -> Granted | Denial:
        """Ask for the least that would do: at last without a line that asks for a length.

        Before it is refused, the answer may be two sentences, and others, of whom one only knows
        what they are taken to need, are taken to need less.
        """
        needs = self.climb.needs(candidate)
        answer = self._reserve(candidate, needs, needs.least_output, tentative=True)
        if isinstance(answer, Hold):  # less than usual will do, or it was freed in this moment
            return Granted(candidate, needs, answer)
        needs, demands = needs.without_line(), self._demands
        least = brief_output(candidate, needs)
        answer = self._reserve(candidate, needs, needs.least_output, least, tentative=True)
        if not isinstance(answer, Hold):
            self._demands = lambda: demands().at_least()
            answer = self._reserve(candidate, needs, needs.least_output, least)
            self._demands = demands
        if isinstance(answer, Hold):
            return Granted(candidate, needs, answer, asks=False)
        return answer

    def _reserve(
        self,
        candidate: Candidate,
        needs: RequestBudget,
        most: int,
        least: int | None = None,
        *,
        tentative: bool = False,
        unsaid: bool = False,
    ) -> Hold | Denial:
        """Reserve at most *most* output, and less where tokens or money do not reach."""
        least = needs.least_output if least is None else least
        run_id, read = candidate.request.run.run_id, needs.input + unsaid * needs.unsaid_input
        likely = needs.input + needs.usual_output
        demands = self._demands()
        with self._run.outlook.holding(run_id, read + most - likely) as granted:
            answer = self._run.account.reserve(
                self._agent,
                read,
                most,
                min_output_tokens=min(most, least),
                cost_nano_usd=self._cost(candidate, needs),
                owners=self.owners,
                demands=demands,
                tentative=tentative,
            )
            if isinstance(answer, Hold):
                granted(answer.tokens - likely)
        return answer

    def _cost(self, candidate: Candidate, needs: RequestBudget) -> CallCost:
        """Return what a candidate can cost, by the length of its answer."""
        prices = self._run.prices
        if prices is None:
            return None
        priced = prices.of(terms_of(candidate.request))
        return lambda output: priced.most(needs.input, output)

    def _with_certain_tier(
        self, candidate: Candidate, needs: RequestBudget, most: int, room: Room
    ) -> Candidate:
        """Rule out a dearer service tier, where the money does not reach for it."""
        cost, left = self._cost(candidate, needs), room.left_nano_usd
        if left is None or not callable(cost) or (cost(most) or 0) <= left:
            return candidate
        request = with_standard_tier(candidate.request)
        if request is candidate.request:
            return candidate
        return self.climb.taken(candidate, replace(candidate, request=request), Step.TIER)
