"""Reservations: granted as leases, then settled, released, or expired.

A reservation that is neither settled nor released when its lease ends counts as a call that was
sent: it is charged in full, so that the account is never below the bill. That is also what becomes
of the reservations of a process that was killed. An end that is reported late corrects the charge,
as long as the lease is remembered: four times as long as it ran.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from langchain_tokenopt.budget.account_changes import Change
from langchain_tokenopt.budget.arithmetic import (
    Charge,
    Outcome,
    Reason,
    charge_for,
    limit_of,
    move,
    reason_against,
    room_for,
)
from langchain_tokenopt.budget.holds import Denial, Hold, Settlement
from langchain_tokenopt.budget.records import AccountTotals, AgentAccount, Lease
from langchain_tokenopt.budget.room import Demands, granted, of_level
from langchain_tokenopt.budget.shares import pay_debts
from langchain_tokenopt.core.usage import Usage

__all__ = ["CallEnd", "advance", "end_of", "new_id", "release", "reserve", "settle", "usage_of"]

CallCost = int | Callable[[int], int | None] | None
"""What a call can cost at most, in nano-USD: a number, or what it is for so many output tokens;
``None``: nobody knows."""

_REMEMBERED_LEASES: Final = 4
"""How long an ended lease is remembered, in durations of a lease."""

_process_name = secrets.token_hex(8)
_numbers = itertools.count(1)


def new_id() -> str:
    """Return a name for a reservation that nobody else uses, in any process."""
    return f"{_process_name}-{next(_numbers)}"


def _after_fork_in_child() -> None:
    global _process_name
    _process_name = secrets.token_hex(8)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# Time


def advance(change: Change, clock: float) -> None:
    """Let the time of the account pass, and end the leases that are over.

    A clock that was set back counts as no time at all, one that was set forward as one lease at
    most. So no lease is prolonged by a jump; it may only end early, which costs nothing: the call
    is charged at its reservation, and corrected when it is settled.
    """
    totals = change.totals
    if totals.clock_at is not None:
        totals.ticks += min(max(clock - totals.clock_at, 0.0), change.settings.lease_seconds)
    totals.clock_at = clock
    if totals.earliest is not None and totals.ticks >= totals.earliest:
        _expire(change)


def _expire(change: Change) -> None:
    """Charge what is held beyond its time, and forget what ended long ago."""
    transaction, totals = change.transaction, change.totals
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
        _remember(change, lease, charged, nano)
    totals.earliest = min((lease.expires for lease in transaction.leases()), default=None)


# Before the call


def reserve(
    changes: Sequence[Change],
    agent: str,
    input_tokens: int,
    max_output_tokens: int,
    min_output_tokens: int,
    run_id: str | None,
    cost: CallCost,
    demands: Demands,
    tentative: bool,
) -> Hold | Denial:
    """Hold what a call can use at most, or as much as there is, if that will do.

    It is held by all accounts or by none. Of those that refuse, the outermost is named: what the
    others still had would be of no use. Where the money does not reach for the longest answer, and
    the price of a shorter one is known, as much is held as it reaches for.
    """
    own = changes[0]
    if run_id is not None and (held := own.transaction.lease_of_run(run_id)) is not None:
        return _hold(changes, held, input_tokens, held.nano_usd)
    tokens, least = input_tokens + max_output_tokens, input_tokens + min_output_tokens
    lowest = cost(min_output_tokens) if callable(cost) else cost
    refused: tuple[Change, int, Reason] | None = None
    accounts = [change.transaction.agent(agent) for change in changes]
    for change, account in zip(changes, accounts, strict=True):
        totals = change.totals
        room = granted(change, agent, demands).most if change is own else room_for(totals, account)
        reason = reason_against(totals, account, room, least, lowest)
        if reason is not None:
            refused = change, room, reason
        if change is not own:
            room = max(least, of_level(room, own.totals.left, demands))
        tokens = min(tokens, room)
    if refused is not None:
        if not tentative:
            _note_denial(*refused, own, agent, least)
        return _denied(*refused, agent, least, lowest)
    nano_usd = lowest
    if callable(cost):
        lefts = (change.totals.left_nano for change in changes)
        left = min((left for left in lefts if left is not None), default=None)
        longest = tokens - input_tokens
        if left is not None:
            longest = largest_output(cost, min_output_tokens, longest, left) or min_output_tokens
        tokens, nano_usd = input_tokens + longest, cost(longest)
    lease_id = new_id()
    for change, account in zip(changes, accounts, strict=True):
        totals = change.totals
        ends = totals.ticks + change.settings.lease_seconds
        lease = Lease(lease_id, agent, tokens, nano_usd or 0, ends, run_id)
        change.transaction.save(lease)
        move(totals, account, held=tokens, held_nano=lease.nano_usd)
        _note_end(totals, lease)
        change.alert_if_crossed(agent)
    return _hold(changes, lease, input_tokens, nano_usd)


def largest_output(
    cost: Callable[[int], int | None], least: int, most: int, left_nano_usd: int
) -> int | None:
    """Return the longest answer that can be paid; ``None``: not even the shortest.

    Args:
        cost: What an answer of so many tokens can cost, which grows with them.
        least: The shortest answer that is of use.
        most: The longest that is wanted.
        left_nano_usd: What there is.

    Example:
        >>> largest_output(lambda tokens: 100 + 10 * tokens, 5, 50, 330)
        23
    """

    def fits(tokens: int) -> bool:
        price = cost(tokens)
        return price is not None and price <= left_nano_usd

    if fits(most):
        return most
    if not fits(least):
        return None
    low, high = least, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _note_denial(
    change: Change, room: int, reason: Reason, own: Change, agent: str, least: int
) -> None:
    """Count a refused call, in the account of the run and in the one that refuses."""
    own.transaction.agent(agent).denied += 1
    if change is not own:
        change.transaction.agent(agent).denied += 1
    change.note("denied", agent, f"{reason}: needed {least:,}, available {room:,}")


def _denied(
    change: Change, room: int, reason: Reason, agent: str, least: int, cost: int | None
) -> Denial:
    """Say which account it is that refuses, and why."""
    totals = change.totals
    limit = limit_of(totals, change.transaction.agent(agent), reason)
    return Denial(
        agent,
        least,
        room,
        limit,
        reason,
        budget=change.key.budget,
        cost_nano_usd=cost,
        left_nano_usd=totals.left_nano,
        account=change.key,
        left_tokens=max(totals.left, 0),
        limit_nano_usd=totals.total_nano_usd,
        shares_tokens=_shares_of_others(totals, change.transaction.agent(agent), room),
        held_tokens=totals.held,
    )


def _shares_of_others(totals: AccountTotals, own: AgentAccount, room: int) -> int:
    """Return what of the tokens that are left, and not for *own*, is set apart for other agents."""
    apart = totals.claimed - totals.spent - totals.held - max(own.claim - own.used, 0)
    return min(max(apart, 0), max(totals.left - room, 0))


def _hold(changes: Sequence[Change], lease: Lease, input_tokens: int, cost: int | None) -> Hold:
    totals = changes[0].totals
    return Hold(
        lease.id,
        lease.agent,
        lease.tokens,
        input_tokens,
        lease.tokens - input_tokens,
        (totals.spent + totals.held) / totals.total_tokens,
        lease.run_id,
        cost,
        accounts=tuple([change.key for change in changes]),
    )


# After the call


class CallEnd(NamedTuple):
    """How a call has ended, and what that costs."""

    charge: Charge
    cost_nano_usd: int | None
    """``None``: unknown."""
    saved_tokens: int
    is_cached: bool

    def expected(self) -> Settlement:
        """Return what settling will do, where it could not be done yet."""
        return Settlement(
            self.charge.tokens,
            possible_surplus_tokens=self.charge.possible,
            estimated=self.charge.estimated,
        )


def end_of(
    hold: Hold,
    usage: Usage | Mapping[str, Any] | None,
    outcome: Outcome,
    cost: CallCost,
    most_tokens: int | None,
    *,
    cancellation_charge: Literal["margin", "reservation"],
) -> CallEnd:
    """Work out what the end of a call costs; without the account."""
    used, is_cached = usage_of(usage), outcome == "cached"
    most = hold.tokens if most_tokens is None else min(most_tokens, hold.tokens)
    charge = charge_for(used, most, outcome, cancellation_charge=cancellation_charge)
    if callable(cost):
        cost = cost(max(charge.tokens - hold.input_tokens, 0))
    if cost is None:
        cost = hold.cost_nano_usd
    return CallEnd(
        charge,
        0 if is_cached else cost,
        used.total_tokens if is_cached and used is not None else 0,
        is_cached,
    )


def settle(changes: Sequence[Change], hold: Hold, end: CallEnd, unrecorded: set[str]) -> Settlement:
    """Charge what a call has used and free the rest of its reservation, in every account.

    Args:
        changes: The accounts that hold it.
        hold: The reservation.
        end: How the call has ended.
        unrecorded: Holds that no account knows, and that have not been settled; this one is taken
            out.

    Returns:
        What the first account says that knows of the hold.
    """
    is_unrecorded = hold.id in unrecorded
    unrecorded.discard(hold.id)
    settled = [_settle(change, hold, end, is_unrecorded=is_unrecorded) for change in changes]
    known = [settlement for settlement in settled if not settlement.repeated]
    return known[0] if known else Settlement(0, repeated=True)


def _settle(change: Change, hold: Hold, end: CallEnd, *, is_unrecorded: bool) -> Settlement:
    transaction, totals, charge = change.transaction, change.totals, end.charge
    lease = transaction.lease(hold.id)
    if lease is None:
        if not is_unrecorded:
            return Settlement(0, repeated=True)
        lease = Lease(hold.id, hold.agent, 0, 0, 0.0, charged=0)
    transaction.delete(lease)
    account = transaction.agent(hold.agent)
    covered = _replace(totals, account, lease, charge.tokens, end.cost_nano_usd or 0)
    surplus = max(charge.tokens - covered, 0)
    if surplus or charge.possible or end.saved_tokens:
        for sums in (totals, account):
            sums.surplus += surplus
            sums.possible += charge.possible
            sums.saved += end.saved_tokens
    totals.unpriced += end.cost_nano_usd is None
    account.calls += not end.is_cached
    account.estimated += charge.estimated
    if totals.claimed > totals.total_tokens:
        pay_debts(change, hold.agent)
    if surplus or totals.total_nano_usd is not None:  # nothing else exceeds what was held
        change.alert_if_crossed(hold.agent)
    freed = max(covered - charge.tokens, 0)
    return Settlement(charge.tokens, surplus, freed, charge.possible, charge.estimated)


def release(changes: Sequence[Change], hold: Hold) -> bool:
    """Free what is held, or was charged when the lease expired; whether there was anything."""
    freed = False
    for change in changes:
        lease = change.transaction.lease(hold.id)
        if lease is None or lease.charged == 0:
            continue
        _replace(change.totals, change.transaction.agent(lease.agent), lease, 0, 0)
        _remember(change, lease, 0, 0)
        freed = True
    return freed


def _replace(
    totals: AccountTotals, account: AgentAccount, lease: Lease, charge: int, nano_usd: int
) -> int:
    """Put a charge in the place of what *lease* holds or was charged; return how much that was."""
    if lease.charged is None:
        held, held_nano = -lease.tokens, -lease.nano_usd
        move(totals, account, spent=charge, held=held, nano=nano_usd, held_nano=held_nano)
        return lease.tokens
    if lease.charged:  # it had expired: that counted as a call without known usage
        account.calls -= 1
        account.estimated -= 1
    move(totals, account, spent=charge - lease.charged, nano=nano_usd - lease.charged_nano)
    return lease.charged


def _remember(change: Change, lease: Lease, charged: int, nano_usd: int) -> None:
    """Keep what was charged, should the end of the call be reported late."""
    lease.charged, lease.charged_nano = charged, nano_usd
    lease.expires = change.totals.ticks + _REMEMBERED_LEASES * change.settings.lease_seconds
    change.transaction.save(lease)
    _note_end(change.totals, lease)


def _note_end(totals: AccountTotals, lease: Lease) -> None:
    """See that the end of this lease is not missed."""
    if totals.earliest is None or lease.expires < totals.earliest:
        totals.earliest = lease.expires


def usage_of(usage: Usage | Mapping[str, Any] | None) -> Usage | None:
    """Return a usage that can be charged; ``None`` where nothing is known or it cannot be true.

    Example:
        >>> usage_of({"input_tokens": 300, "output_tokens": 50, "total_tokens": 350}).total_tokens
        350
    """
    if not usage:
        return None
    known = usage if isinstance(usage, Usage) else Usage.from_metadata(usage)
    return None if min(known.input_tokens, known.output_tokens) < 0 else known
