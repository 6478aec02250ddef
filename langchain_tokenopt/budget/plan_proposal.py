"""A plan for a graph: what its agents are likely to need, and what a total leaves of that.

What an agent needs is taken from what it has used before, where there is a history; else from the
graph: a prompt of its own and the answers of those before it, as often as it is likely to call.
Where a total does not reach, shares are reckoned as if all answered in fewer words, which makes the
prompts of all shorter that read them. The words themselves are proposed as they would be with
plenty: a run asks for fewer by itself, and only where it must.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.budget.allocation import Claim, divide
from langchain_tokenopt.budget.graph_shape import AgentShape
from langchain_tokenopt.core.records import CallRecord

__all__ = ["USUAL_WORDS", "AgentNeed", "answer_tokens", "needs_of", "proposal"]

USUAL_WORDS: Final = 250
"""Of an answer that nobody has bounded: about the mean of the roles in ``examples``."""
SHORTEST_WORDS: Final = 40
"""Of an answer that still says something: a paragraph."""
TOKENS_PER_WORD: Final = 1.35
"""Of English prose (``limits/words.py``)."""
PROMPT_TOKENS: Final = 200
"""What a prompt has beside the answers of others: a system message, a role, a question, rules."""
MATERIAL_TOKENS: Final = 3_000
"""What is added to the prompt of an agent that reads no others, or that comes again: documents, or
results of tools, of which the graph says nothing."""
MATERIAL_PART: Final = 0.4
"""Part of a total that all of that may take where tokens are scarce."""
BUFFER: Final = 0.125
"""Part of the total that belongs to nobody, for surprises."""
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

    def tokens(self, words: Mapping[str, int]) -> int:
        """Return the tokens of a run when all answer in so many words."""
        return self.calls * (self.prompt_tokens(words) + answer_tokens(words[self.shape.name]))


def needs_of(
    shapes: Mapping[str, AgentShape],
    history: Iterable[CallRecord] = (),
    words: Mapping[str, int] = {},
) -> dict[str, AgentNeed]:
    """Return what each agent is likely to need: the 90th percentile of what it has used before.

    Calls that were refused, have failed, or were answered from a cache say nothing.

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
    return {
        name: _need(shape, runs.get(name, {}), words.get(name)) for name, shape in shapes.items()
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
    material = _material(needs, int(MATERIAL_PART * shared))
    words = _words_within(needs, shared - sum(material.values()))
    wanted = {name: need.tokens(words) + material.get(name, 0) for name, need in needs.items()}
    rest = max(0, shared - sum(wanted.values()))
    for name in material:  # how much that is nobody knows
        wanted[name] += rest // len(material)
    least = {name: _least(need) for name, need in needs.items()}
    part = min(1.0, shared / max(1, sum(least.values())))
    claims = [
        Claim(name, floor=int(part * least[name]), priority=float(wanted[name])) for name in needs
    ]
    shares = divide(shared, claims)
    agents: dict[str, Any] = {}
    for name, need in needs.items():
        floor = int(part * least[name])
        agents[name] = {"tokens": shares[name], "floor": floor, "words": need.words}
        if need.shape.is_last and need.shape.is_sure:
            agents[name]["priority"] = 2.0  # what it says is what the run was for
    return {"total_tokens": total_tokens, "buffer": buffer, "agents": agents}


def _material(needs: Mapping[str, AgentNeed], most: int) -> dict[str, int]:
    """Return what agents may need for documents and results of tools, at *most* so much together.

    A history says it already.
    """
    calls = {
        name: need.calls
        for name, need in needs.items()
        if not need.is_known and (need.shape.comes_again or not need.shape.reads)
    }
    each = min(MATERIAL_TOKENS, most // max(1, sum(calls.values())))
    return {name: each * count for name, count in calls.items()}


def _least(need: AgentNeed) -> int:
    """Return the tokens of one call that answers in a paragraph and reads a paragraph of each."""
    paragraph = answer_tokens(SHORTEST_WORDS)
    return PROMPT_TOKENS + paragraph * (1 + len(need.shape.reads))


def _words_within(needs: Mapping[str, AgentNeed], tokens: int) -> dict[str, int]:
    """Return the words for each agent with which all fit; the shortest where none do."""

    def words_at(part: float) -> dict[str, int]:
        return {
            name: max(min(need.words, SHORTEST_WORDS), int(part * need.words))
            for name, need in needs.items()
        }

    def fits(part: float) -> bool:
        return sum(need.tokens(words_at(part)) for need in needs.values()) <= tokens

    if fits(1.0):
        return words_at(1.0)
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return {name: words // 10 * 10 for name, words in words_at(low).items()}
