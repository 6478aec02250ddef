"""A plan in words: who gets what, who may starve, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from langchain_tokenopt.budget.graph_shape import AgentShape
from langchain_tokenopt.budget.plan_proposal import AgentNeed, needs_of
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.core.records import CallRecord

__all__ = ["plan_in_words"]

_NARROW: Final = 2
"""So many times what a paragraph from each takes: below, the instructions that no shortening takes
away may be more than there is."""
_LITTLE: Final = 0.1
"""Part of what an agent is likely to need that may lack: nobody knows it to the token."""


def plan_in_words(
    plan: PlanSettings, shapes: Mapping[str, AgentShape], history: Iterable[CallRecord] = ()
) -> str:
    """Say what *plan* gives to the agents of a graph, a line each, and what may go wrong."""
    needs = needs_of(shapes, history)
    apart = {name: max(own.tokens or 0, own.floor) for name, own in plan.agents.items()}
    apart = {name: tokens for name, tokens in apart.items() if tokens}
    words = {name: plan.limits_of(name).words or need.words for name, need in needs.items()}
    lines = [_head(plan, apart)]
    lines += [
        f"{name}: {_gets(plan, name, apart)}. {_needs(need, words)}" for name, need in needs.items()
    ]
    lines += [
        f"{name} has a part in the plan, and the graph has no such agent: its "
        f"{apart.get(name, 0):,} tokens stay unused."
        for name in plan.agents
        if name not in shapes
    ]
    doubts = list(_doubts(plan, needs, words, apart))
    lines.append("Who may starve: " + ("nobody, as far as the graph shows." if not doubts else ""))
    return "\n".join(line.rstrip() for line in [*lines, *doubts])


def _head(plan: PlanSettings, apart: Mapping[str, int]) -> str:
    whole = sum(apart.values())
    named = f"{whole:,} are set apart for {counted(len(apart), 'agent')}"
    return (
        f"{plan.name}: {plan.total_tokens:,} tokens for a run; "
        f"{named if apart else 'no agent has tokens of its own'}, "
        f"{plan.total_tokens - whole:,} are everybody's."
    )


def _gets(plan: PlanSettings, name: str, apart: Mapping[str, int]) -> str:
    limits = plan.limits_of(name)
    said = ["its part of what is everybody's"]
    if name in apart:
        part = f"{apart[name]:,} tokens ({apart[name] / plan.total_tokens:.0%}) of its own"
        said = [part, "and its part of what is everybody's"]
    if limits.priority != 1:
        said.append(f"with a weight of {limits.priority:g}")
    if limits.cap is not None:
        said.append(f"never more than {limits.cap:,}")
    if limits.words is not None:
        said.append(f"answers in {limits.words:,} words")
    return ", ".join(said)


def _needs(need: AgentNeed, words: Mapping[str, int]) -> str:
    shape = need.shape
    turns = f"{need.calls:,} calls" if need.calls > 1 else "one call"
    why = " (it stands in a loop)" if shape.comes_again else ""
    if shape.is_sent and not need.is_known:
        turns, why = f"each {turns}".replace("one ", ""), ", as often as it is sent to"
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
    apart: Mapping[str, int],
) -> Iterator[str]:
    """Say who may be left without a real answer, and what would help."""
    free = plan.total_tokens - sum(apart.values())
    least = {name: need.shortest for name, need in needs.items()}
    wanted = {name: need.tokens(words) for name, need in needs.items()}
    whole = sum(least.values())
    if whole > plan.total_tokens:
        yield (
            f"- all: a paragraph from each needs about {whole:,} tokens, and there are "
            f"{plan.total_tokens:,}. Raise total_tokens to {whole:,}, or leave agents out."
        )
    others = [name for name in needs if name not in apart]
    asked, needed = (sum(need[name] for name in others) for need in (wanted, least))
    missing = {
        n: tokens - apart[n] for n, tokens in wanted.items() if apart.get(n, tokens) < tokens
    }
    is_short = asked + sum(missing.values()) > free
    if is_short and others and (apart or whole <= plan.total_tokens):
        each = "what is everybody's" if len(others) == 1 else "what is everybody's together"
        effect = "prompts and answers will be shortened"
        if plan.total_tokens < _NARROW * whole:
            effect += ", and a call whose prompt cannot be is answered in the model's place"
        if needed > free:
            effect = f"a paragraph takes {needed:,}, so not all of them may answer"
        rich = [f"{n} ({apart[n]:,})" for n in apart if apart[n] > wanted.get(n, 0)]
        helps = f"Lower the share of {' and '.join(rich)}" if rich else "Raise total_tokens"
        yield (
            f"- {', '.join(others)}: {free:,} tokens are {each}, and about {asked:,} are needed: "
            f"{effect}. {helps}{', or name them in agents' if apart else ''}."
        )
    yield from _sent(plan, needs, wanted, least)
    for name, lacking in missing.items():
        if is_short and lacking > _LITTLE * wanted[name]:
            helps = (
                f"The {free:,} that are everybody's help as long as others leave them."
                if lacking <= free
                else f"With the {free:,} that are everybody's it is short, too: its prompts will "
                f"be shortened. Raise its share, or let those that it reads answer in fewer words."
            )
            yield (
                f"- {name}: its share of {apart[name]:,} is {lacking:,} short of what it needs. "
                f"{helps}"
            )
    for name in needs:
        cap = plan.limits_of(name).cap
        if cap is not None and cap < least[name]:
            yield (
                f"- {name}: its cap of {cap:,} does not hold a paragraph from each of its calls, "
                f"about {least[name]:,}. Raise the cap."
            )


def _sent(
    plan: PlanSettings,
    needs: Mapping[str, AgentNeed],
    wanted: Mapping[str, int],
    least: Mapping[str, int],
) -> Iterator[str]:
    """Say how often agents may be sent to: the graph does not."""
    for name, need in needs.items():
        if not need.shape.is_sent or need.is_known:
            continue
        whole, some = (
            max(0, plan.total_tokens - sum(of[n] for n in needs if n != name)) // of[name]
            for of in (wanted, least)
        )
        others = sorted(other for other, its in needs.items() if name in its.shape.reads)
        too = f", also those of {' and '.join(others)}" if others else ""
        beyond = f"Beyond about {counted(whole, 'time')}" if whole else "Even then"
        yield (
            f"- {name}: it is called as often as it is sent to, which nobody knows before. "
            f"{beyond} prompts and answers will be shortened{too}; beyond {some:,} not all may "
            f"answer."
        )
