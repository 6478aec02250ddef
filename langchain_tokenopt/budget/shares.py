"""Changes that move shares between agents, and what a checkpoint keeps of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_tokenopt.budget import arithmetic
from langchain_tokenopt.budget.account_changes import Change
from langchain_tokenopt.budget.allocation import AllocationStrategy, Claim
from langchain_tokenopt.budget.strategies import divide

__all__ = ["allocate", "finish", "pay_debts", "reopen", "restore", "snapshot"]


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


def finish(change: Change, agent: str) -> int:
    """Give the rest of an agent to the pool; return how much that is."""
    rest = arithmetic.finish(change.totals, change.transaction.agent(agent))
    if rest:
        change.note("rebalanced", agent, f"returned {rest:,} to the pool")
    return rest


def reopen(change: Change, agent: str, share: int) -> bool:
    """Take a finished agent's share back for it; whether it had finished."""
    account = change.transaction.agent(agent)
    if not account.finished:
        return False
    given = arithmetic.reopen(change.totals, account, share)
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
