"""What is decided at a call: by what it costs, or by what still fits into a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.context.changes import Making
from langchain_tokenopt.context.decisions import ContextPolicy, Moment, Step
from langchain_tokenopt.context.descent import Descent, Summarize
from langchain_tokenopt.context.worth import worth_reducing
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
        if not moment.is_forced and _could_tell_more(moment):
            return _optional(Descent(moment, self._summarize).retold())
        made = Making(moment)
        chosen = worth_reducing(moment, made.gain)
        if moment.is_forced:
            return Descent(moment, self._summarize).step(chosen)
        made.results(chosen)
        return _optional(made.step({*chosen}), seen=chosen)


def _optional(step: Step | None, seen: Sequence[int] = ()) -> Step | None:
    if step is None:
        return None
    return Step(step.decisions, step.handles, is_partial=True, seen=seen, is_optional=True)


def _could_tell_more(moment: Moment) -> bool:
    """Whether a note has much more room than it had, and writing it anew costs nothing."""
    terms = moment.terms
    is_free = moment.is_cold or not terms.price.rewriting(1)
    if terms.target is None or not is_free or not moment.state.handles:
        return False
    return terms.target - moment.tokens >= _MUCH_ROOM * terms.target and not moment.pending


_MUCH_ROOM: Final = 0.25


class SlidingWindow:
    """Sets aside the oldest turns and calls with every call that is too long: the simplest policy.

    Its view begins with other bytes each time, so providers charge it as new; use it for models
    whose provider keeps nothing.
    """

    fingerprint = "sliding window"

    def decide(self, moment: Moment) -> Step | None:
        """Set aside what is oldest, until the rest fits."""
        return Descent(moment, None).window() if moment.is_forced else None
