"""A plan in words: who gets what, who may starve, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from langchain_tokenopt.budget.graph_shape import AgentShape
from langchain_tokenopt.budget.plan_proposal import SHORTEST_WORDS, AgentNeed, needs_of
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.core.records import CallRecord

__all__ = ["plan_in_words"]

_ENOUGH: Final = 0.9
"""Part of what an agent is likely to need that does: nobody knows it to the token."""


def plan_in_words(
    plan: PlanSettings, shapes: Mapping[str, AgentShape], history: Iterable[CallRecord] = ()
) -> str:
    """Say what *plan* gives to the agents of a graph, a line each, and what may go wrong."""
    needs = needs_of(shapes, history)
    shares = plan.shares()
    pool = plan.total_tokens - sum(shares.values())
    words = {name: plan.limits_of(name).words or need.words for name, need in needs.items()}
    lines = [_head(plan, shares, pool)]
    lines += [
        f"{name}: {_gets(plan, name, shares)}. {_needs(need, words)}"
        for name, need in needs.items()
    ]
    lines += [
        f"{name} has a part in the plan, and the graph has no such agent: its "
        f"{shares[name]:,} tokens stay unused."
        for name in plan.agents
        if name not in shapes
    ]
    doubts = list(_doubts(plan, needs, words, shares, pool))
    lines.append("Who may starve: " + ("nobody, as far as the graph shows." if not doubts else ""))
    return "\n".join(line.rstrip() for line in [*lines, *doubts])


def _head(plan: PlanSettings, shares: Mapping[str, int], pool: int) -> str:
    named = f"{sum(shares.values()):,} are shared out among {counted(len(shares), 'agent')}"
    return (
        f"{plan.name}: {plan.total_tokens:,} tokens for a run; "
        f"{named if shares else 'no agent has a part of its own'}, {pool:,} belong to nobody."
    )


def _gets(plan: PlanSettings, name: str, shares: Mapping[str, int]) -> str:
    if name not in shares:
        return "not in the plan, so it lives from what nobody claims"
    limits = plan.limits_of(name)
    said = [f"{shares[name]:,} tokens ({shares[name] / plan.total_tokens:.0%})"]
    if limits.floor:
        said.append(f"{limits.floor:,} of them whatever the others do")
    if limits.cap is not None:
        said.append(f"never more than {limits.cap:,}")
    if limits.words is not None:
        said.append(f"answers in {limits.words:,} words")
    return ", ".join(said)


def _needs(need: AgentNeed, words: Mapping[str, int]) -> str:
    shape = need.shape
    turns = f"{need.calls:,} calls" if need.calls > 1 else "one call"
    why = " (it stands in a loop)" if shape.comes_again else ""
    source = "as before" if need.is_known else _reading(shape)
    return f"It needs about {need.tokens(words):,} for {turns}{why}, {source}."


def _reading(shape: AgentShape) -> str:
    if not shape.reads:
        return "and whatever documents it is given"
    some = ", ".join(sorted(shape.reads)[:3])
    more = len(shape.reads) - 3
    return f"if it reads {some}" + (f" and {more} more" if more > 0 else "")


def _doubts(
    plan: PlanSettings,
    needs: Mapping[str, AgentNeed],
    words: Mapping[str, int],
    shares: Mapping[str, int],
    pool: int,
) -> Iterator[str]:
    """Say who may be left without a real answer, and what would help."""
    least = {name: min(words[name], SHORTEST_WORDS) for name in needs}
    whole = sum(need.tokens(least) for need in needs.values())
    if whole > plan.total_tokens:
        yield (
            f"- all: a paragraph from each needs about {whole:,} tokens, and there are "
            f"{plan.total_tokens:,}. Raise total_tokens to {whole:,}, or leave agents out."
        )
    strangers = [name for name in needs if name not in shares]
    asked = sum(needs[name].tokens(words) for name in strangers)
    if strangers and asked > pool:
        yield (
            f"- {', '.join(strangers)}: {'they' if len(strangers) > 1 else 'it'} may take what "
            f"nobody claims, {pool:,} tokens, and about {asked:,} are needed. Name them in agents, "
            f"or lower the others' shares."
        )
    for name, need in needs.items():
        share, wanted = shares.get(name), need.tokens(words)
        limits = plan.limits_of(name)
        if limits.cap is not None and limits.cap < need.tokens(least):
            yield (
                f"- {name}: its cap of {limits.cap:,} does not hold a paragraph and what it reads, "
                f"about {need.tokens(least):,}. Raise the cap."
            )
        elif share is not None and share < _ENOUGH * wanted:
            helps = share + pool >= wanted
            yield (
                f"- {name}: its share of {share:,} is {wanted - share:,} short of what it needs. "
                + (
                    f"The {pool:,} of nobody help as long as others leave them."
                    if helps
                    else f"With the {pool:,} of nobody it is short, too: its prompts will be "
                    f"shortened. Raise its share, or let those that it reads answer in fewer words."
                )
            )
