"""Which old tool results are worth being reduced with a call.

All behind the first that changes is written anew, so there is one choice: from which result on. No
way is taken by which the conversation would, up to this call, have cost more than as it came, or
than the caller allows: what earlier steps have saved is put at stake, so it may end at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langchain_tokenopt.context.decisions import Moment, Pending

__all__ = ["worth_reducing"]


def worth_reducing(moment: Moment, gain: Callable[[int], int]) -> Sequence[int]:
    """Return the results to reduce, in their order: those from one on, or none.

    Args:
        moment: What is known at this call.
        gain: Says what a result will have less. It is asked of those that would be worth it if
            lines were in their places, and of what lies as near.
    """
    pending = moment.pending
    best, reach = _best(moment, pending)
    if best < len(pending):
        real = [Pending(one.at, gain(one.at), one.since) for one in pending[reach:]]
        if real != [*pending[reach:]]:
            pending, (best, _) = real, _best(moment, real)
    return [one.at for one in pending[best:]]


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
        if most < moment.least_account and not moment.tool_tokens:
            return best, n  # further in front it costs more still
    return best, 0
