"""Reservations in an account: granted as leases, then settled, released, or expired.

A reservation that is neither settled nor released when its lease ends counts as a call that was
sent: it is charged in full, so that the account is never below the bill. That is also what becomes
of the reservations of a process that was killed. An end that is reported late corrects the charge,
as long as the lease is remembered: four times as long as it ran.
"""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.budget.arithmetic import Charge, move
from langchain_tokenopt.budget.records import AccountTotals, AccountTransaction, AgentAccount, Lease

__all__ = ["advance", "grant_lease", "release", "settle"]

_REMEMBERED_LEASES: Final = 4
"""How long an ended lease is remembered, in durations of a lease."""


def advance(transaction: AccountTransaction, clock: float, lease_seconds: float) -> None:
    """Let the time of the account pass, and end the leases that are over.

    A clock that was set back counts as no time at all, one that was set forward as *lease_seconds*
    at most. So no lease is prolonged by a jump; it may only end early, which costs nothing: the
    call is charged at its reservation, and corrected when it is settled.
    """
    totals = transaction.totals
    if totals.clock_at is not None:
        totals.ticks += min(max(clock - totals.clock_at, 0.0), lease_seconds)
    totals.clock_at = clock
    if totals.earliest is not None and totals.ticks >= totals.earliest:
        _expire(transaction, lease_seconds)


def _expire(transaction: AccountTransaction, lease_seconds: float) -> None:
    """Charge what is held beyond its time, and forget what ended long ago."""
    totals = transaction.totals
    for lease in transaction.leases():
        if lease.expires > totals.ticks:
            continue
        if lease.charged is not None:
            transaction.delete(lease)
            continue
        account = transaction.agent(lease.agent)
        charged, nano = lease.tokens, lease.nano_usd
        _replace(totals, account, lease, charged, nano)
        account.calls += charged > 0
        account.estimated += charged > 0
        _remember(transaction, lease, charged, nano, lease_seconds)
    totals.earliest = min((lease.expires for lease in transaction.leases()), default=None)


def grant_lease(transaction: AccountTransaction, account: AgentAccount, lease: Lease) -> None:
    """Hold what *lease* says for the agent of *account*."""
    transaction.save(lease)
    totals = transaction.totals
    move(totals, account, held=lease.tokens, held_nano=lease.nano_usd)
    _note_end(totals, lease)


def settle(
    transaction: AccountTransaction,
    account: AgentAccount,
    lease: Lease,
    charge: Charge,
    nano_usd: int,
) -> int:
    """Put *charge* in the place of what *lease* holds, and forget the lease.

    Args:
        transaction: The whole account.
        account: The agent's part of it.
        lease: One that is held or remembered; a blank one, with ``charged=0``, for a call that
            nothing was reserved for.
        charge: What the call has cost.
        nano_usd: The same in billionths of a US dollar.

    Returns:
        How much of the charge was reserved before; the rest is surplus.
    """
    transaction.delete(lease)
    totals = transaction.totals
    covered = _replace(totals, account, lease, charge.tokens, nano_usd)
    surplus = max(charge.tokens - covered, 0)
    account.surplus += surplus
    totals.surplus += surplus
    account.possible += charge.possible
    totals.possible += charge.possible
    account.estimated += charge.estimated
    return covered


def release(transaction: AccountTransaction, lease: Lease, lease_seconds: float) -> bool:
    """Free what *lease* holds, or was charged when it expired; whether there was anything."""
    if lease.charged == 0:
        return False
    _replace(transaction.totals, transaction.agent(lease.agent), lease, 0, 0)
    _remember(transaction, lease, 0, 0, lease_seconds)
    return True


def _replace(
    totals: AccountTotals, account: AgentAccount, lease: Lease, charge: int, nano_usd: int
) -> int:
    """Put a charge in the place of what *lease* holds or was charged; return how much that was."""
    if lease.charged is None:
        move(
            totals,
            account,
            spent=charge,
            held=-lease.tokens,
            nano=nano_usd,
            held_nano=-lease.nano_usd,
        )
        return lease.tokens
    if lease.charged:  # it had expired: that counted as a call without known usage
        account.calls -= 1
        account.estimated -= 1
    move(totals, account, spent=charge - lease.charged, nano=nano_usd - lease.charged_nano)
    return lease.charged


def _remember(
    transaction: AccountTransaction, lease: Lease, charged: int, nano_usd: int, lease_seconds: float
) -> None:
    """Keep what was charged, should the end of the call be reported late."""
    lease.charged, lease.charged_nano = charged, nano_usd
    lease.expires = transaction.totals.ticks + _REMEMBERED_LEASES * lease_seconds
    transaction.save(lease)
    _note_end(transaction.totals, lease)


def _note_end(totals: AccountTotals, lease: Lease) -> None:
    """See that the end of this lease is not missed."""
    if totals.earliest is None or lease.expires < totals.earliest:
        totals.earliest = lease.expires
