"""Which old tool results are worth being reduced with a call.

All behind the first that changes is written anew, so there is one choice: from which result on. No
way is taken by which the conversation would, up to this call, have cost more than as it came: what
earlier steps have saved is all that is ever put at stake, so it may end at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_tokenopt.context.decisions import Moment, Pending

__all__ = ["worth_reducing"]


def worth_reducing(moment: Moment, pending: Sequence[Pending]) -> Sequence[Pending]:
    """Return the results to reduce, in their order: those from one on, or none.

    Args:
        moment: What is known at this call.
        pending: All results that could be reduced, with what that gains.
    """
    state, price = moment.state, moment.terms.price
    total = sum(one.gain for one in pending)
    to_come = moment.terms.expected(state.calls)
    removed = behind = 0
    waste, best, best_worth = 0.0, len(pending), 0.0
    position = moment.boundary
    for n in range(len(pending) - 1, -1, -1):
        one = pending[n]
        removed += one.gain
        waste += price.read * one.gain * (state.calls - one.since)
        behind += sum(moment.less[one.at : position])
        position = one.at
        now = moment.saving(one.at, removed, behind)
        most = now + price.write * (total - removed)
        if not moment.tool_tokens and moment.account + most < min(0.0, moment.account):
            break  # further in front it costs more still
        if waste + now < 0 or not moment.is_allowed(removed, now):
            continue
        worth = now + price.read * (removed - moment.tool_tokens) * to_come
        if worth > best_worth:
            best, best_worth = n, worth
    return pending[best:]
