"""Changes that reserve for a call, and that settle what it has used."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from langchain_tokenopt.budget import leases
from langchain_tokenopt.budget.arithmetic import (
    Charge,
    Outcome,
    charge_for,
    limit_of,
    reason_against,
    room_for,
)
from langchain_tokenopt.budget.exclusive_account import Change
from langchain_tokenopt.budget.holds import Denial, Hold, Settlement
from langchain_tokenopt.budget.records import AccountTotals, Lease
from langchain_tokenopt.budget.shares import pay_debts
from langchain_tokenopt.core.usage import Usage

__all__ = ["CallEnd", "end_of", "new_id", "release", "reserve", "settle", "usage_of"]


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


def reserve(
    change: Change,
    agent: str,
    input_tokens: int,
    max_output_tokens: int,
    min_output_tokens: int,
    run_id: str | None,
    cost_nano_usd: int | None,
) -> Hold | Denial:
    """Hold what a call can use at most, or as much as there is, if that will do."""
    transaction, totals = change.transaction, change.totals
    if run_id is not None and (held := transaction.lease_of_run(run_id)) is not None:
        return _hold(held, totals, input_tokens, held.nano_usd)
    account = transaction.agent(agent)
    room = room_for(totals, account)
    least = input_tokens + min_output_tokens
    reason = reason_against(totals, account, room, least, cost_nano_usd)
    if reason is not None:
        account.denied += 1
        change.note("denied", agent, f"{reason}: needed {least:,}, available {room:,}")
        limit = limit_of(totals, account, reason)
        name, left = change.account.name, totals.left_nano
        return Denial(agent, least, room, limit, reason, name, cost_nano_usd, left)
    tokens = min(input_tokens + max_output_tokens, room)
    ends = totals.ticks + change.account.lease_seconds
    lease = Lease(new_id(), agent, tokens, cost_nano_usd or 0, ends, run_id)
    leases.grant_lease(transaction, account, lease)
    change.alert_if_crossed(agent)
    return _hold(lease, totals, input_tokens, cost_nano_usd)


def _hold(lease: Lease, totals: AccountTotals, input_tokens: int, cost: int | None) -> Hold:
    return Hold(
        lease.id,
        lease.agent,
        lease.tokens,
        input_tokens,
        lease.tokens - input_tokens,
        (totals.spent + totals.held) / totals.total_tokens,
        lease.run_id,
        cost,
    )


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
    cost_nano_usd: int | None,
    most_tokens: int | None,
    *,
    cancellation_charge: Literal["margin", "reservation"],
) -> CallEnd:
    """Work out what the end of a call costs; without the account."""
    used, is_cached = usage_of(usage), outcome == "cached"
    most = hold.tokens if most_tokens is None else min(most_tokens, hold.tokens)
    cost = hold.cost_nano_usd if cost_nano_usd is None else cost_nano_usd
    return CallEnd(
        charge_for(used, most, outcome, cancellation_charge=cancellation_charge),
        0 if is_cached else cost,
        used.total_tokens if is_cached and used is not None else 0,
        is_cached,
    )


def settle(change: Change, hold: Hold, end: CallEnd, unrecorded: set[str]) -> Settlement:
    """Charge what a call has used and free the rest of its reservation.

    Args:
        change: The account.
        hold: The reservation.
        end: How the call has ended.
        unrecorded: Holds that the account does not know, and that have not been settled; this one
            is taken out.
    """
    transaction, totals = change.transaction, change.totals
    lease = transaction.lease(hold.id)
    if lease is None:
        if hold.id not in unrecorded:
            return Settlement(0, repeated=True)
        unrecorded.discard(hold.id)
        lease = Lease(hold.id, hold.agent, 0, 0, 0.0, charged=0)
    charge, account = end.charge, transaction.agent(hold.agent)
    covered = leases.settle(transaction, account, lease, charge, end.cost_nano_usd or 0)
    totals.unpriced += end.cost_nano_usd is None
    account.calls += not end.is_cached
    account.saved += end.saved_tokens
    totals.saved += end.saved_tokens
    if totals.claimed > totals.total_tokens:
        pay_debts(change, hold.agent)
    change.alert_if_crossed(hold.agent)
    return Settlement(
        charge.tokens,
        max(charge.tokens - covered, 0),
        max(covered - charge.tokens, 0),
        charge.possible,
        charge.estimated,
    )


def release(change: Change, hold: Hold) -> bool:
    """Free a reservation; whether there was anything to free."""
    lease = change.transaction.lease(hold.id)
    seconds = change.account.lease_seconds
    return lease is not None and leases.release(change.transaction, lease, seconds)


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
