"""What is decided at a call: by what it costs, or by what still fits into a window."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.context.descent import Descent, Making, Summarize
from langchain_tokenopt.context.epochs import ContextPolicy, Moment, Step
from langchain_tokenopt.core.argument_checks import refuse_class, shown

__all__ = ["SlidingWindow", "Stepped", "checked_policy"]


def checked_policy(policy: ContextPolicy) -> ContextPolicy:
    """Return what decides about views.

    Raises:
        TypeError: It cannot.

    Example:
        >>> checked_policy("sliding window")
        Traceback (most recent call last):
        ...
        TypeError: policy is SlidingWindow(), or an object with a text fingerprint and \
decide(moment); got 'sliding window'.
    """
    refuse_class("a policy", policy)
    has_name = isinstance(getattr(policy, "fingerprint", None), str)
    if not has_name or not callable(getattr(policy, "decide", None)):
        raise TypeError(
            f"policy is SlidingWindow(), or an object with a text fingerprint and decide(moment); "
            f"got {shown(policy)}."
        )
    return policy


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
        pays = _pays(moment)
        if moment.is_forced:
            return Descent(moment, self._summarize).step(pays=pays)
        if _could_tell_more(moment):
            return Descent(moment, self._summarize).retold()
        if not pays:
            return None
        made = Making(moment)
        made.pending()
        return made.step()


def _could_tell_more(moment: Moment) -> bool:
    """Whether a note has much more room than it had, and writing it anew costs nothing."""
    terms = moment.terms
    is_free = moment.is_cold or not terms.price.rewriting(1)
    if terms.target is None or not is_free or not moment.state.handles:
        return False
    return terms.target - moment.tokens >= _MUCH_ROOM * terms.target and not moment.removable


_MUCH_ROOM: Final = 0.25


def _pays(moment: Moment) -> bool:
    """Whether a step has been waited for long enough, and will be paid for."""
    removed, terms, state = moment.removable, moment.terms, moment.state
    if removed <= 0:
        return False
    price = terms.price
    if price.read < 1 and moment.tokens - removed < price.min_tokens:
        return False  # nothing of so short a prompt would be known the next time
    gain_of = moment.conversation.gain
    results = (at for group in moment.pending for at in group.results)
    first = next(at for at in results if gain_of(at) and at not in state.decisions)
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
