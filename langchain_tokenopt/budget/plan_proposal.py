"""A plan for a graph: what its agents are likely to need, and what a total leaves of that.

What an agent needs is taken from what it has used before, where there is a history; else from the
graph: a prompt of its own and the answers of those before it, as often as it is likely to call.
Where a total does not reach for all of that, nothing is set apart: a run sees what agents really
ask, and divides at each call what is left. What was set apart by a guess would lie unused with one
while others are cut short.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from langchain_tokenopt.budget.allocation import Claim
from langchain_tokenopt.budget.graph_shape import AgentShape
from langchain_tokenopt.budget.strategies import divide
from langchain_tokenopt.core.records import CallRecord

__all__ = ["USUAL_WORDS", "AgentNeed", "answer_tokens", "needs_of", "proposal"]

USUAL_WORDS: Final = 250
"""Of an answer that nobody has bounded: about the mean of the roles in ``examples``."""
SHORTEST_WORDS: Final = 40
"""Of an answer that still says something: a paragraph."""
SHORTEST_CALL: Final = 200
"""Tokens of a call with a system message, a question, and a paragraph for an answer."""
TOKENS_PER_WORD: Final = 1.35
"""Of English prose (``limits/words.py``)."""
PROMPT_TOKENS: Final = 200
"""What a prompt has beside the answers of others: a system message, a role, a question, rules."""
MATERIAL_TOKENS: Final = 3_000
"""What is added to the prompt of an agent that reads no others, or that comes again: documents, or
results of tools, of which the graph says nothing."""
BUFFER: Final = 0.125
"""Part of the total that belongs to nobody, for surprises."""
_LEAST_WEIGHT: Final = 0.01
READ: Final = 0.6
"""Part of the answers of others that is enough: prompts are shortened by what they are about."""
ELASTIC: Final = 0.5
"""Part of a known prompt that gets shorter when the answers of others do."""


def answer_tokens(words: float) -> int:
    """Return how many tokens an answer of so many words is likely to take."""
    return round(words * TOKENS_PER_WORD)


@dataclass(frozen=True, slots=True)
class AgentNeed:
    """What one agent is likely to need in a run."""

    shape: AgentShape
    calls: int
    words: int
    """Of an answer, where nothing is scarce."""
    prompt: int
    """Tokens of a prompt, without the answers of others where *reads* says who they are."""
    is_known: bool
    """From what it has used before."""

    def prompt_tokens(self, words: Mapping[str, int]) -> int:
        """Return the tokens of a prompt when all answer in so many words."""
        if not self.is_known:
            read = sum(answer_tokens(words[name]) for name in self.shape.reads)
            return self.prompt + round(READ * read)
        part = words[self.shape.name] / self.words
        return round(self.prompt * (1 - ELASTIC + ELASTIC * part))

    @property
    def material(self) -> int:
        """Tokens for documents and results of tools, of which the graph says nothing.

        A history has them among the prompts.
        """
        reads_others = self.shape.reads and not self.shape.comes_again
        return 0 if self.is_known or reads_others else MATERIAL_TOKENS * self.calls

    @property
    def shortest(self) -> int:
        """Tokens of a run in which each call is answered in a paragraph, and reads no others."""
        return self.calls * SHORTEST_CALL

    def tokens(self, words: Mapping[str, int]) -> int:
        """Return the tokens of a run when all answer in so many words."""
        return self.calls * (self.prompt_tokens(words) + answer_tokens(words[self.shape.name]))


def needs_of(
    shapes: Mapping[str, AgentShape],
    history: Iterable[CallRecord] = (),
    words: Mapping[str, int] = {},
) -> dict[str, AgentNeed]:
    """Return what each agent is likely to need: the 90th percentile of what it has used before.

    Calls that were refused, have failed, or were answered from a cache say nothing. Nodes of which
    nothing shows that they call a model are left out, as long as there are others.

    Args:
        shapes: Of a graph.
        history: Calls of earlier runs.
        words: Of an answer, by the agents of which that is known.
    """
    runs: defaultdict[str, defaultdict[Any, list[CallRecord]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for call in history:
        if call.status == "ok" and not call.cached:
            runs[call.attribution.agent][call.run or call.run_id].append(call)
    callers = {name for name, shape in shapes.items() if shape.calls_model or name in runs}
    callers = callers | (shapes.keys() & words.keys()) if callers else {*shapes}
    return {
        name: _need(
            replace(shape, reads=shape.reads & callers), runs.get(name, {}), words.get(name)
        )
        for name, shape in shapes.items()
        if name in callers
    }


def _need(shape: AgentShape, runs: Mapping[Any, list[CallRecord]], asked: int | None) -> AgentNeed:
    if not runs:
        words = asked or USUAL_WORDS
        return AgentNeed(shape, shape.calls, words, PROMPT_TOKENS, is_known=False)
    calls = [call for of_run in runs.values() for call in of_run]
    output = _high(call.usage.output_tokens for call in calls)
    words = asked or max(SHORTEST_WORDS, round(output / TOKENS_PER_WORD))
    prompt = _high(call.usage.input_tokens for call in calls)
    return AgentNeed(shape, _high(map(len, runs.values())), words, prompt, is_known=True)


def _high(values: Iterable[int]) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]


def proposal(needs: Mapping[str, AgentNeed], total_tokens: int) -> dict[str, Any]:
    """Return the values of a plan."""
    buffer = int(total_tokens * BUFFER)
    shared = total_tokens - buffer
    words = {name: need.words for name, need in needs.items()}
    wanted = {name: need.tokens(words) + need.material for name, need in needs.items()}
    if sum(wanted.values()) > shared:
        return {"total_tokens": total_tokens, "agents": _weighted(needs)}
    unsure = [name for name, need in needs.items() if need.material]
    rest = shared - sum(wanted.values())
    for name in unsure:  # how much that is nobody knows
        wanted[name] += rest // len(unsure)
    claims = [Claim(name, priority=float(tokens)) for name, tokens in wanted.items()]
    shares = divide(shared, claims)
    agents: dict[str, Any] = {}
    for name, need in needs.items():
        floor = min(_least(need), shares[name])
        agents[name] = {"tokens": shares[name], "floor": floor, "words": need.words}
        if need.shape.is_last and need.shape.is_sure:
            agents[name]["priority"] = 2.0  # what it says is what the run was for
    return {"total_tokens": total_tokens, "buffer": buffer, "agents": agents}


def _weighted(needs: Mapping[str, AgentNeed]) -> dict[str, dict[str, Any]]:
    """Return what is said of agents where nothing is set apart: words, and weights that are known.

    A weight is what a call needs, beside the mean of all.
    """
    agents: dict[str, dict[str, Any]] = {name: {"words": n.words} for name, n in needs.items()}
    if any(need.is_known for need in needs.values()):
        calls = {name: n.prompt + answer_tokens(n.words) for name, n in needs.items()}
        mean = sum(calls.values()) / len(calls)
        for name, tokens in calls.items():
            agents[name]["priority"] = round(max(tokens / mean, _LEAST_WEIGHT), 2)
    return agents


def _least(need: AgentNeed) -> int:
    """Return the tokens of one call that answers in a paragraph and reads a paragraph of each."""
    paragraph = answer_tokens(SHORTEST_WORDS)
    return PROMPT_TOKENS + paragraph * (1 + len(need.shape.reads))
