"""Which old tool results are worth being reduced with a call.

All behind the first that changes is written anew, so there is one choice: from which result on. No
way is taken by which the conversation would, up to this call, have cost more than as it came: what
earlier steps have saved is all that is ever put at stake, so it may end at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_tokenopt.context.decisions import Moment, Pending

__all__ = ["in_reach", "worth_reducing"]


def in_reach(moment: Moment) -> Sequence[Pending]:
    """Return the results that may be worth it, if a line in their place is: the rest is too far."""
    best, reach = _best(moment, moment.pending)
    return moment.pending[reach:] if best < len(moment.pending) else ()


def worth_reducing(moment: Moment, pending: Sequence[Pending]) -> Sequence[Pending]:
    """Return the results to reduce, in their order: those from one on, or none.

    Args:
        moment: What is known at this call.
        pending: The results in reach, with what they would have less.
    """
    return pending[_best(moment, pending)[0] :]


def _best(moment: Moment, pending: Sequence[Pending]) -> tuple[int, int]:
    """Return from which result on it is best to reduce them, and which is the first in reach."""
    state, price = moment.state, moment.terms.price
    to_come: float | None = None
    left = sum([one.gain for one in pending])
    removed = behind = 0
    waste, best, best_worth = 0.0, len(pending), 0.0
    position = moment.boundary
    for n in range(len(pending) - 1, -1, -1):
        one = pending[n]
        left -= one.gain
        removed += one.gain
        waste += price.read * one.gain * (state.calls - one.since)
        behind += sum(moment.less[one.at : position])
        position = one.at
        now = moment.saving(one.at, removed, behind)
        if now + waste >= 0 and moment.is_allowed(removed, now):
            if to_come is None:
                to_come = moment.terms.expected(state.calls)
            worth = now + price.read * (removed - moment.tool_tokens) * to_come
            if worth > best_worth:
                best, best_worth = n, worth
        most = moment.account + now + price.write * left
        if most < min(0.0, moment.account) and not moment.tool_tokens:
            return best, n  # further in front it costs more still
    return best, 0
