"""The arithmetic of an account: pure functions on its records, without locks, files or clocks.

The rule that keeps a budget: every agent *claims* what it has used, or its share where that is
more. Claims never sum to more than the total, so whoever stays within its claim plus what nobody
claims (the pool) takes nothing from anybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from langchain_tokenopt.budget.records import AccountTotals, AgentAccount, Lease
from langchain_tokenopt.core.usage import Usage

__all__ = [
    "Charge",
    "Outcome",
    "Reason",
    "charge_for",
    "finish",
    "flaws",
    "grant",
    "limit_of",
    "move",
    "pay_debts",
    "reason_against",
    "reopen",
    "restore",
    "room_for",
]

CANCELLED_MARGIN: Final = 0.25
"""What a provider is taken to have written beyond what arrived of a stream that was cancelled."""
CANCELLED_LEAST_TOKENS: Final = 64
"""Least margin, in tokens. A provider notices a closed connection when it next writes to it, a
network's way later (0.1 to 0.2 s); a model that writes 150 tokens a second may then take twice as
long."""

Outcome = Literal["answered", "counted", "cancelled", "cached"]
Reason = Literal["total", "share", "cap", "money", "unpriced", "stopped", "store"]


# One call


def room_for(totals: AccountTotals, account: AgentAccount) -> int:
    """Return how many tokens an agent may still reserve: its own share, and what nobody claims."""
    room = totals.total_tokens - totals.claimed + account.claim - account.used
    if account.cap is not None:
        room = min(room, account.cap - account.used)
    return max(room, 0)


def reason_against(
    totals: AccountTotals, account: AgentAccount, room: int, least: int, cost: int | None
) -> Reason | None:
    """Return why *least* tokens, at this *cost*, cannot be reserved; ``None``: they can."""
    if totals.stopped:
        return "stopped"
    left = totals.left_nano
    if left is not None and cost is None:
        return "unpriced"
    if left is not None and cost is not None and cost > left:
        return "money"
    if room >= least:
        return None
    if totals.left < least:
        return "total"
    if account.cap is not None and account.cap - account.used < least:
        return "cap"
    return "share"


def limit_of(totals: AccountTotals, account: AgentAccount, reason: Reason) -> int:
    """Return the limit, in tokens, that a refusal for *reason* is about."""
    if reason == "cap" and account.cap is not None:
        return account.cap
    if reason == "share" and account.allocated > account.returned:
        return account.allocated - account.returned
    return totals.total_tokens


def move(
    totals: AccountTotals,
    account: AgentAccount,
    *,
    spent: int = 0,
    held: int = 0,
    nano: int = 0,
    held_nano: int = 0,
) -> None:
    """Add to what an agent has spent and holds; everything that follows from it is kept right."""
    before = account.claim
    account.spent += spent
    account.held += held
    account.spent_nano += nano
    account.held_nano += held_nano
    totals.spent += spent
    totals.held += held
    totals.spent_nano += nano
    totals.held_nano += held_nano
    totals.claimed += account.claim - before
    if account.finished:
        account.returned = max(account.returned, account.allocated - account.used)


class Charge(NamedTuple):
    """What a call is charged."""

    tokens: int
    possible: int = 0
    """What may have been billed on top."""
    estimated: bool = False


def charge_for(
    usage: Usage | None,
    most: int,
    outcome: Outcome,
    *,
    cancellation_charge: Literal["margin", "reservation"],
) -> Charge:
    """Return what to charge for a call that has ended.

    Args:
        usage: What is known of its use.
        most: The most that the provider was allowed to bill.
        outcome: How the call ended.
        cancellation_charge: What a stream costs that was cut off.

    Example:
        >>> charge_for(Usage(300, 400), 1_000, "cancelled", cancellation_charge="margin")
        Charge(tokens=800, possible=200, estimated=True)
    """
    if outcome == "cached":
        return Charge(0)
    if usage is None:
        return Charge(most, estimated=True)
    if outcome in ("answered", "counted"):
        return Charge(usage.total_tokens, estimated=outcome == "counted")
    most = max(most, usage.total_tokens)
    if cancellation_charge == "reservation":
        return Charge(most, estimated=True)
    margin = max(math.ceil(usage.output_tokens * CANCELLED_MARGIN), CANCELLED_LEAST_TOKENS)
    tokens = min(usage.total_tokens + margin, most)
    return Charge(tokens, most - tokens, estimated=True)


# Shares


def grant(totals: AccountTotals, account: AgentAccount, tokens: int) -> None:
    """Change the share of an agent by *tokens*."""
    before = account.claim
    account.allocated += tokens
    totals.claimed += account.claim - before


def finish(totals: AccountTotals, account: AgentAccount) -> int:
    """End the account of an agent; return what it had left of its share, which is the pool's now.

    From the pool others take what they need (``budget/room.py``).
    """
    if account.finished:
        return 0
    before = account.claim
    account.finished = True
    totals.claimed += account.claim - before
    rest = max(account.allocated - account.used, 0)
    account.returned += rest
    return rest


def reopen(totals: AccountTotals, account: AgentAccount, share: int) -> int:
    """Begin an account again; return what it took back, as far as nobody has used it."""
    account.finished = False
    account.returned = 0
    account.allocated = account.used  # its claim while it was finished
    due = max(share, account.floor) - account.used
    given = max(min(due, totals.total_tokens - totals.claimed), 0)
    grant(totals, account, given)
    return given


def pay_debts(totals: AccountTotals, accounts: Iterable[AgentAccount]) -> dict[str, int]:
    """Cut shares until claims fit into the total again; return who lost how much.

    A debt is what a provider charged beyond its reservation. The pool has paid what it could; the
    rest is taken from the lowest weight upwards, first what exceeds floors, then floors.
    """
    lost: dict[str, int] = {}
    debt = totals.claimed - totals.total_tokens
    payers = sorted(
        (account for account in accounts if not account.finished),
        key=lambda account: (account.weight or 0.0, account.agent),
    )
    for keep_floors in (True, False):
        for account in payers:
            kept = max(account.used, account.floor if keep_floors else 0)
            cut = min(debt, account.allocated - kept)
            if cut > 0:
                grant(totals, account, -cut)
                lost[account.agent] = lost.get(account.agent, 0) + cut
                debt -= cut
    return lost


# Whole accounts


def restore(
    totals: AccountTotals, account: AgentAccount, *, used: int, surplus: int, nano: int
) -> None:
    """See that an agent has spent no less than a checkpoint says; what exceeds its room is surplus.

    Args:
        totals: The sums of the account.
        account: The agent's part of it.
        used: Tokens that it had spent and held.
        surplus: Tokens of these that no reservation covered.
        nano: Billionths of a US dollar that it had spent.
    """
    missing = used - account.used
    if missing <= 0:
        return
    room = totals.total_tokens - totals.claimed + account.claim - account.used
    beyond = max(missing - max(room, 0), surplus - account.surplus, 0)
    move(totals, account, spent=missing, nano=max(nano - account.spent_nano, 0))
    account.surplus += beyond
    totals.surplus += beyond


def flaws(
    totals: AccountTotals, accounts: Iterable[AgentAccount], leases: Iterable[Lease]
) -> list[str]:
    """Return what does not add up; empty when all is well."""
    accounts = list(accounts)
    held = [lease for lease in leases if lease.charged is None]
    checks = {
        "spent": (totals.spent, sum(account.spent for account in accounts)),
        "held": (totals.held, sum(account.held for account in accounts)),
        "held by leases": (totals.held, sum(lease.tokens for lease in held)),
        "claimed": (totals.claimed, sum(account.claim for account in accounts)),
        "surplus": (totals.surplus, sum(account.surplus for account in accounts)),
        "possible surplus": (totals.possible, sum(account.possible for account in accounts)),
        "saved": (totals.saved, sum(account.saved for account in accounts)),
        "spent_nano": (totals.spent_nano, sum(account.spent_nano for account in accounts)),
        "held_nano": (totals.held_nano, sum(account.held_nano for account in accounts)),
        "held_nano by leases": (totals.held_nano, sum(lease.nano_usd for lease in held)),
    }
    found = [
        f"{name}: the account says {whole:,}, its parts sum to {parts:,}"
        for name, (whole, parts) in checks.items()
        if whole != parts
    ]
    if totals.spent + totals.held > totals.total_tokens + totals.surplus:
        found.append(
            f"spent and held are {totals.spent + totals.held:,} tokens of "
            f"{totals.total_tokens:,}, and providers' surplus explains only {totals.surplus:,}"
        )
    return found
