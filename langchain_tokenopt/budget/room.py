"""What a call may have: the one answer to that question, as a pure function.

A call may take what leaves the others their shares and floors, and a short answer to each call that
is surely to come: that is the *most* it is granted. What it should do with is less: what leaves
them their likely need as well. Where that is more than there is, everybody gets the same, or as
much as they need where that is less (max-min fairness), by weight. What nobody needs is the call's,
so that late agents use what early ones have left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from langchain_tokenopt.budget.account_changes import Change
from langchain_tokenopt.budget.allocation import water_level
from langchain_tokenopt.budget.arithmetic import room_for
from langchain_tokenopt.budget.records import AgentAccount

__all__ = [
    "NO_DEMAND",
    "NO_DEMANDS",
    "Demand",
    "Demands",
    "MayHave",
    "Room",
    "Stake",
    "granted",
    "may_have",
    "of_level",
    "room_of",
]


@dataclass(frozen=True, slots=True)
class Demand:
    """What calls that are still to come need, in tokens."""

    least: int = 0
    """For a short answer to each that surely comes."""
    likely: int = 0
    """For what they will probably ask, the doubtful ones included."""
    hoped: int = 0
    """For a short answer to each that may come, or not, on top of *least*."""

    def __add__(self, other: Demand) -> Demand:
        """Return what both need together."""
        return Demand(
            self.least + other.least, self.likely + other.likely, self.hoped + other.hoped
        )


NO_DEMAND: Final = Demand()


@dataclass(frozen=True, slots=True)
class Demands:
    """What is known of the calls to come when one is about to be made."""

    own: Demand = NO_DEMAND
    """Of this call."""
    later: Demand = NO_DEMAND
    """Of the same agent's calls after it."""
    others: Mapping[str, Demand] = field(default_factory=dict)
    """Of every other agent that is still to come."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """What agents weigh where not everybody's need can be met, with the number of calls that they
    are to make; others weigh 1."""
    foreseen: bool = False
    """Whether a graph says who is to come; else another call may follow at any time."""
    before: int = 0
    """What is for calls of the same agent that have asked before, and have no answer yet."""
    beside: int = 0
    """How many other calls may be under way together with this one."""
    returning: int = 0
    """What calls under way hold beyond what they will likely use: it comes back with them."""

    def at_least(self) -> Demands:
        """Return them where what the others need in short, which is a guess, is less."""
        others = {
            name: replace(demand, least=round(_AT_LEAST * demand.least))
            for name, demand in self.others.items()
        }
        return replace(self, others=others)


_AT_LEAST: Final = 0.75
"""What a short answer of others surely needs, of what it is taken to need."""
NO_DEMANDS: Final = Demands()


class Stake(NamedTuple):
    """What an agent has of its own, and what it still needs."""

    share: int
    demand: Demand
    weight: float = 1.0


class MayHave(NamedTuple):
    """What a call may have, in tokens."""

    fair: int
    """What leaves the others their likely need; but a short answer before that, also to calls that
    may come or not."""
    most: int
    """What leaves the others their shares, and a short answer to each call that surely comes; never
    less than what the agent has of its own, as far as no other call of it has asked before."""


def may_have(
    left: int,
    own: Stake,
    others: Sequence[Stake] = (),
    later: Demand = NO_DEMAND,
    before: int = 0,
) -> MayHave:
    """Return what a call may have.

    Where not even short answers to all fit, a call is given its part of what no share covers, in
    proportion to what a short answer to it needs: so either it is answered, or those after it are.

    Args:
        left: Tokens that are neither spent nor held. Shares sum to no more, except for debts.
        own: Of the agent that calls: the rest of its share, and the need of this call.
        others: Of the agents that are still to come.
        later: What the agent's own calls after this one need.
        before: What is for calls of the agent that have asked before this one, of its own share.

    Example:
        >>> writer = Stake(0, Demand(100, 600))
        >>> may_have(2_000, Stake(0, Demand(100, 5_000)), [writer, writer])
        MayHave(fair=800, most=1800)
        >>> may_have(600, Stake(0, Demand(100, 5_000)), [writer, writer])
        MayHave(fair=200, most=400)
        >>> may_have(240, Stake(0, Demand(100, 5_000)), [writer, writer])
        MayHave(fair=80, most=80)
    """
    room = max(left - sum(other.share for other in others), 0)
    share = min(own.share, room)
    pool = room - share
    wanted = max(own.demand.least + later.least - share, 0)
    surely = sum(max(other.demand.least - other.share, 0) for other in others)
    most = max(pool - surely, _part(pool, wanted, surely))
    bounds = [_bounds(other) for other in others]
    needed = sum(low for low, _ in bounds)
    hoped = max(own.demand.least + later.least + later.hoped - share, 0)
    fair = part = _part(pool, hoped, needed)
    if pool > needed:
        floor = min(hoped, pool - needed)
        level = _level(pool, (floor, own.weight), bounds, [other.weight for other in others])
        fair = max(level, min(part, hoped))
    # What is for the agent's own later calls makes this one shorter, but never refuses it.
    now = max(_now(share + most, own.demand.least, later.least), share - before)
    now = max(now, min(share + most - before, own.demand.least))
    # Where others would be left without a short answer, a share shrinks before they are silenced.
    lacking = min(max(needed + fair - pool, 0), share)
    tokens = share + fair - lacking
    likely = _now(tokens, own.demand.likely, later.likely)
    likely = min(likely, tokens - later.least - later.hoped)
    return MayHave(min(max(likely, own.demand.least), now), now)


def _part(pool: int, wanted: int, needed: int) -> int:
    """Return the part of a call that wants so much, beside others who need so much."""
    return pool * wanted // (wanted + needed) if needed else pool


def _bounds(stake: Stake) -> tuple[int, int]:
    """Return what an agent needs in short answers, and what it likely needs, beside its share."""
    least = max(stake.demand.least + stake.demand.hoped - stake.share, 0)
    return least, max(stake.demand.likely - stake.share, least)


def _level(
    pool: int,
    own: tuple[int, float],
    bounds: Sequence[tuple[int, int]],
    weights: Sequence[float],
) -> int:
    """Return the caller's part of *pool* where the others want no more than they likely need."""
    wanting = [each for each in zip(bounds, weights, strict=True) if each[0][1]]
    rest = pool - sum(most for (_, most), _ in wanting)
    if rest >= own[0] and all(most * own[1] <= rest * weight for (_, most), weight in wanting):
        return rest  # everybody has all that they want: nothing is to be divided
    names = {str(number): each for number, each in enumerate(wanting)}
    exact = water_level(
        pool,
        {"": own[1], **{name: weight for name, (_, weight) in names.items()}},
        {"": (own[0], pool), **{name: bound for name, (bound, _) in names.items()}},
    )
    return math.floor(exact[""])


def _now(tokens: int, now: int, later: int) -> int:
    """Return what is for this call of what is for all calls of its agent."""
    return max(tokens - later, tokens * now // (now + later) if later else tokens)


# In an account


@dataclass(frozen=True, slots=True)
class Room:
    """What an agent may use for its next call, in tokens."""

    own: int
    """What it should do with: it leaves the others their likely need."""
    available: int
    """What would be granted: it leaves the others their shares, and a short answer each."""
    beside: int
    """How many other calls may be under way at the same time: each may hold as much beyond its
    likely need."""
    left: int
    """What the nearest hard bound has left: the agent's cap, the total, or that of a level."""
    used_ratio: float
    """Spent and held of the total, by all; of several accounts, that of the fullest."""
    left_nano_usd: int | None = None
    """What all of them together have left, in billionths of a US dollar; ``None``: no limit."""
    foreseen: bool = False
    """Whether a graph says who is to come; else another call may follow at any time."""


def granted(change: Change, agent: str, demands: Demands) -> MayHave:
    """Return what a call of *agent* may have of the account of its run."""
    totals, account = change.totals, change.transaction.agent(agent)
    if demands is NO_DEMANDS:
        room = room_for(totals, account)
        return MayHave(room, room)
    stakes, waiting = [], dict(demands.others)
    for other in change.transaction.agents():
        demand = waiting.pop(other.agent, NO_DEMAND)
        if other is not account:
            weight = demands.weights.get(other.agent, 1.0)
            if other.cap is not None:
                most = max(other.cap - other.used, 0)
                least = min(demand.least, most)
                hoped = min(demand.hoped, most - least)
                demand = Demand(least, min(demand.likely, most), hoped)
            stakes.append(Stake(other.claim - other.used, demand, weight))
    stakes += [Stake(0, demand, demands.weights.get(name, 1.0)) for name, demand in waiting.items()]
    own = Stake(account.claim - account.used, demands.own, demands.weights.get(agent, 1.0))
    found = may_have(totals.left, own, stakes, demands.later, demands.before)
    if demands.returning and found.fair < demands.own.likely:
        soon = totals.left + demands.returning
        fair = may_have(soon, own, stakes, demands.later, demands.before).fair
        found = MayHave(min(max(found.fair, min(fair, demands.own.likely)), found.most), found.most)
    return found if account.cap is None else _under_cap(found, account, demands)


def _under_cap(found: MayHave, account: AgentAccount, demands: Demands) -> MayHave:
    """Return what a call may have of its agent's cap, which is to pay for its later calls, too."""
    rest, own, later = max((account.cap or 0) - account.used, 0), demands.own, demands.later
    most = min(found.most, max(_now(rest, own.least, later.least), min(rest, own.least)))
    return MayHave(min(found.fair, most, _now(rest, own.likely, later.likely)), most)


def _is_shared(outer: int, own: int) -> bool:
    """Whether a run that holds all of its *own* would leave other runs less than that of *outer*.

    They may call at the same time out of an account around it, and nobody knows of them.
    """
    return outer < 2 * own


def of_level(left: int, own_left: int, demands: Demands) -> int:
    """Return what a call may hold of an account around that of its run.

    What it will likely need, and half of the rest where other runs need the account as well.

    Args:
        left: What the call may use of that account.
        own_left: What the account of its run has left.
        demands: What is known of the calls to come.
    """
    if demands is NO_DEMANDS or not _is_shared(left, own_left):
        return left
    likely = min(demands.own.likely, left)
    return likely + (left - likely) // 2


def room_of(changes: Sequence[Change], agent: str, demands: Demands) -> Room:
    """Return what *agent* may use for its next call: never more than any of the accounts has."""
    own, *around = changes
    found = MayHave(0, 0) if own.totals.stopped else granted(own, agent, demands)
    lefts = [max(outer.totals.left, 0) for outer in around]
    most = min([found.most, *lefts])
    account = own.transaction.agent(agent)
    capped = [] if account.cap is None else [account.cap - account.used]
    nearest = max(min([own.totals.left, *lefts, *capped]), 0)
    moneys = [left for each in changes if (left := each.totals.left_nano) is not None]
    fair = min(found.fair, most)
    return Room(
        fair,
        most,
        max(
            demands.beside,
            own.totals.held > 0,
            any(_is_shared(left, own.totals.left) for left in lefts),
        ),
        nearest,
        max(
            (own.totals.spent + own.totals.held) / own.totals.total_tokens,
            *(outer.totals.used_ratio for outer in around),
            0.0,
        ),
        min(moneys, default=None),
        demands.foreseen,
    )
