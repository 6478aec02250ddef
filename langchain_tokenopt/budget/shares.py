"""Changes that move shares between agents, and what a checkpoint keeps of them all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.budget import arithmetic
from langchain_tokenopt.budget.account_changes import Change
from langchain_tokenopt.budget.allocation import AllocationStrategy, Claim, divide

__all__ = ["Room", "allocate", "finish", "pay_debts", "reopen", "restore", "room_of", "snapshot"]

OVERBOOKING: Final = 3
"""How many times its part of the pool an agent may count on: most agents need none of theirs, and
those that come later inherit what others leave. Of 1, 3 and 6, chosen with the trading desk's
benchmark on seeds 100 to 103, which are not among those it reports: with 6 the last agents were
refused."""


@dataclass(frozen=True, slots=True)
class Room:
    """What an agent may use for its next call, in tokens."""

    own: int
    """What it should do with: the rest of its share, and its part of the pool."""
    available: int
    """What would be granted: the rest of its share and the whole pool, if all accounts have it."""
    used_ratio: float
    """Spent and held of the total, by all; of several accounts, that of the fullest."""
    left_nano_usd: int | None = None
    """What all of them together have left, in billionths of a US dollar; ``None``: no limit."""


def room_of(changes: Sequence[Change], agent: str, priorities: Mapping[str, float]) -> Room:
    """Return what an agent may use for its next call.

    Its own are the rest of its share, and :data:`OVERBOOKING` times its part of the pool: the pool
    divided among those of *priorities* who have not finished, by priority. What others of them have
    borrowed still counts as the pool, so agents that start together get the same part, whoever is
    first. It is never more than what accounts around the run's have left.
    """
    change, *around = changes
    totals = change.totals
    account = change.transaction.agent(agent)
    available = 0 if totals.stopped else arithmetic.room_for(totals, account)
    pool = max(totals.total_tokens - totals.claimed, 0)
    borrowed = 0
    waiting = dict(priorities)
    weight = waiting.setdefault(agent, 1.0)
    for other in change.transaction.agents():
        if other is account:
            continue
        if other.finished:
            waiting.pop(other.agent, None)
        else:
            borrowed += max(0, other.used - other.allocated)
    part = OVERBOOKING * (pool + borrowed) * weight / sum(waiting.values())
    own = max(0, available - pool) + math.floor(part)
    used_ratio = (totals.spent + totals.held) / totals.total_tokens
    for outer in around:
        available = min(available, max(outer.totals.left, 0))
        used_ratio = max(used_ratio, outer.totals.used_ratio)
    lefts = [left for each in changes if (left := each.totals.left_nano) is not None]
    return Room(min(available, own), available, used_ratio, min(lefts, default=None))


def allocate(
    change: Change, claims: Sequence[Claim], strategy: AllocationStrategy, buffer: int
) -> dict[str, int]:
    """Divide the total among agents, unless that has been done; return their shares."""
    transaction, totals = change.transaction, change.totals
    given = {
        account.agent: account.allocated
        for account in transaction.agents()
        if account.weight is not None
    }
    if given:
        return given
    weights = strategy.weights(claims)
    shares = divide(totals.total_tokens - totals.claimed - buffer, claims, strategy)
    for claim in claims:
        account = transaction.agent(claim.agent)
        account.weight = float(weights[claim.agent])
        account.floor, account.cap = claim.floor, claim.cap
        arithmetic.grant(totals, account, account.used + shares[claim.agent])
    return {claim.agent: transaction.agent(claim.agent).allocated for claim in claims}


def finish(change: Change, agent: str) -> dict[str, int]:
    """Give the rest of an agent to the others; return who got how much."""
    account = change.transaction.agent(agent)
    before = account.returned
    gifts = arithmetic.finish(change.totals, change.transaction.agents(), agent)
    if account.returned > before:
        gave = f"returned {account.returned - before:,}"
        change.note("rebalanced", agent, f"{gave}; {_listed(gifts) or 'to the pool'}")
    return gifts


def reopen(change: Change, agent: str, shares: Mapping[str, int]) -> bool:
    """Take a finished agent's share back for it; whether it had finished."""
    if not change.transaction.agent(agent).finished:
        return False
    given = arithmetic.reopen(change.totals, change.transaction.agents(), agent, shares)
    change.note("rebalanced", agent, f"came back; took {given:,} back")
    return True


def pay_debts(change: Change, agent: str) -> None:
    """Cut shares until claims fit into the total again; *agent* is whose charge has exceeded it."""
    lost = arithmetic.pay_debts(change.totals, change.transaction.agents())
    if lost:
        detail = f"paid what providers charged beyond reservations: {_listed(lost)}"
        change.note("rebalanced", agent, detail)


def _listed(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {amount:,}" for name, amount in sorted(amounts.items()))


# Checkpoints


def snapshot(change: Change) -> dict[str, dict[str, int]]:
    """Return what every agent has spent and holds, as plain values."""
    return {
        account.agent: {
            "spent": account.spent,
            "held": account.held,
            "surplus": account.surplus,
            "spent_nano_usd": account.spent_nano,
        }
        for account in change.transaction.agents()
        if account.used
    }


def restore(change: Change, agents: Mapping[str, Mapping[str, Any]]) -> None:
    """See that nobody has spent less than a snapshot says."""
    totals = change.totals
    for agent, kept in sorted(agents.items()):
        arithmetic.restore(
            totals,
            change.transaction.agent(agent),
            used=kept["spent"] + kept["held"],
            surplus=kept["surplus"],
            nano=kept["spent_nano_usd"],
        )
    if totals.claimed > totals.total_tokens:
        arithmetic.pay_debts(totals, change.transaction.agents())
