"""Why tokens are left of a run in which calls were made smaller: for whom they were kept.

When a call is made smaller, the rest is kept for calls that are under way or may come. Whether they
come, and how long answers are, shows later. So what is left at the end is what the last call that
was made smaller left to others, and they did not use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from langchain_tokenopt.budget.account_reports import BudgetReport

__all__ = ["Reserve", "Shortage", "shortage_of", "told"]

_NAMED = 4
"""Agents that a sentence names."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """What was kept for an agent when a call was made smaller for the last time. Tokens."""

    agent: str
    kept_tokens: int
    """Held for its calls under way, or left for those that might come."""
    used_tokens: int
    """What it has used since."""

    @property
    def left_tokens(self) -> int:
        """What it did not use; below 0: it has used what others did not."""
        return self.kept_tokens - self.used_tokens


@dataclass(frozen=True, slots=True)
class Shortage:
    """That a call was made smaller: whose, and how all that was left was divided."""

    agent: str
    kept: Mapping[str, int]
    spent: Mapping[str, int]
    """What everybody had spent until then."""

    def reserves(self, now: BudgetReport) -> tuple[Reserve, ...]:
        """Return what became of it, by agent; what is left of them is all that is left."""
        spent = {name: agent.spent_tokens for name, agent in now.agents.items()}
        used = {name: spent.get(name, 0) - self.spent.get(name, 0) for name in spent}
        names = dict.fromkeys((*self.kept, *(name for name, tokens in used.items() if tokens)))
        return tuple(Reserve(n, self.kept.get(n, 0), used.get(n, 0)) for n in names)


def shortage_of(agent: str, account: BudgetReport, likely: Mapping[str, int]) -> Shortage:
    """Note that a call of *agent* was made smaller.

    Args:
        agent: Whose call it is.
        account: The account while all that the call may use is held.
        likely: What everybody who may still come will probably need.
    """
    kept = {name: line.held_tokens for name, line in account.agents.items() if line.held_tokens}
    waiting = {name: tokens for name, tokens in likely.items() if tokens > 0} or {agent: 1}
    rest, whole = account.left_tokens, sum(waiting.values())
    for name, tokens in waiting.items():
        part = rest * tokens // whole
        kept[name] = kept.get(name, 0) + part
        rest, whole = rest - part, whole - tokens
    return Shortage(agent, kept, {n: line.spent_tokens for n, line in account.agents.items()})


def told(agent: str, reserves: Sequence[Reserve]) -> Iterator[str]:
    """Say why tokens are left."""
    unused = [reserve for reserve in reserves if reserve.left_tokens > 0]
    unused.sort(key=lambda reserve: -reserve.left_tokens)
    if not unused:
        return
    parts = [_kept(reserve) for reserve in unused[:_NAMED]]
    more = f", and more for {len(unused) - _NAMED:,} others" if len(unused) > _NAMED else ""
    yield (
        f"When a call was made smaller or refused for the last time, one of {agent}'s, the rest "
        f"was kept for answers under way and calls that might come: {', '.join(parts)}{more}."
    )


def _kept(reserve: Reserve) -> str:
    used = f"{reserve.used_tokens:,} of them" if reserve.used_tokens else "none"
    return f"{reserve.kept_tokens:,} for {reserve.agent}, who used {used}"
