"""What is decided at a call: by what it costs, or by what still fits into a window."""

from __future__ import annotations

from langchain_tokenopt.context.descent import Descent, Making, Summarize
from langchain_tokenopt.context.epochs import Moment, Step

__all__ = ["SlidingWindow", "Stepped"]


class Stepped:
    """Shortens old tool results when that pays; all else only where the request is too long.

    Args:
        summarize: Writes what stands for the turns that are set aside; by default their own
            sentences do.
    """

    def __init__(self, summarize: Summarize | None = None) -> None:
        self._summarize = summarize

    @property
    def fingerprint(self) -> str:
        """Every setting that changes views."""
        return "stepped" if self._summarize is None else f"stepped, {self._summarize!r}"

    def decide(self, moment: Moment) -> Step | None:
        """Take a step where it pays, or where the request is too long."""
        if moment.is_forced:
            return Descent(moment, self._summarize).step()
        if not _pays(moment):
            return None
        made = Making(moment)
        for group in moment.pending:
            for at in group.results:
                made.result(at)
        return made.step()


def _pays(moment: Moment) -> bool:
    """Whether a step has been waited for long enough, and will be paid for."""
    removed, terms, state = moment.removable, moment.terms, moment.state
    if removed <= 0:
        return False
    price = terms.price
    if price.read < 1 and moment.tokens - removed < price.min_tokens:
        return False  # nothing of so short a prompt would be known the next time
    gain_of = moment.conversation.gain
    first = next(at for g in moment.pending for at in g.results if gain_of(at))
    cost = price.rewriting(moment.rewritten(first, removed))
    gain = price.read * removed
    if moment.is_first:
        cost += price.write * terms.tool_tokens
        gain -= price.read * terms.tool_tokens
    # What earlier steps have lost is not known where their view comes in: it must not count.
    to_come = gain * (1 + terms.expected(state.calls))
    return state.waste >= cost and cost <= max(0.0, state.bank) + to_come


class SlidingWindow:
    """Sets aside the oldest turns and calls with every call that is too long: the simplest policy.

    Its view begins with other bytes each time, so providers charge it as new; use it for models
    whose provider keeps nothing.
    """

    fingerprint = "sliding window"

    def decide(self, moment: Moment) -> Step | None:
        """Set aside what is oldest, until the rest fits."""
        return Descent(moment, None).window() if moment.is_forced else None
