"""Agents that were answered in the model's place: what graphs make of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import BudgetExceededError, TokenOptError

__all__ = ["StandIns"]

_MOST_STEPS: Final = 10
"""More than the rounds of a debate, and far below LangGraph's limits of steps."""


@dataclass(frozen=True, slots=True)
class _StandIn:
    """That an agent was answered in the model's place."""

    calls: int
    """Calls of the run until then."""
    places: frozenset[tuple[Any, ...]]
    """Steps and nodes of graphs in which it was, since the latest of those calls."""
    refusal: BudgetExceededError


class StandIns:
    """Which agents of a run were answered in the model's place, and where."""

    def __init__(self) -> None:
        self._latest: dict[str, _StandIn] = {}

    def add(
        self,
        agent: str,
        metadata: Mapping[str, Any],
        refusal: TokenOptError,
        calls_so_far: Callable[[], int],
    ) -> None:
        """Take note of one; raise where that would not end.

        A graph that goes on until a model says so, and is told the same for ever, ends only at the
        limit of its steps, which may be thousands away.

        Args:
            agent: Who is answered.
            metadata: Of the call's run.
            refusal: Why no model is asked.
            calls_so_far: Counts the calls of models in the run; not asked while a store is away.

        Raises:
            BudgetExceededError: It was answered so in ten steps of a graph, and nobody in the run
                had an answer of a model in between.
        """
        place = _place_of(metadata)
        if place is None or not isinstance(refusal, BudgetExceededError):
            return  # no graph, so whoever calls can count; or a store that may be back
        before, calls = self._latest.get(agent), calls_so_far()
        places = before.places if before is not None and before.calls == calls else frozenset()
        latest = self._latest[agent] = _StandIn(calls, places | {place}, refusal)
        if len(latest.places) >= _MOST_STEPS:
            raise _with_reason(
                refusal,
                f"This was the answer in {len(latest.places)} steps of a graph, and no model had "
                f"another in between: it would go on for ever.",
            )

    def refuse_instead(self, error: BaseException, metadata: Mapping[str, Any]) -> None:
        """Raise a refusal instead of what a node raises that was answered in the model's place.

        Its code expects what a model would have said: words of a list, JSON, a field that is
        filled. What it raises says nothing of the budget, which is the reason.

        Args:
            error: What it has raised, while it is being handled.
            metadata: Of the node's run.

        Raises:
            BudgetExceededError: It was answered so in this step.
        """
        if not isinstance(error, Exception) or isinstance(error, TokenOptError):
            return
        place = _place_of(metadata)
        for latest in list(self._latest.values()):
            if place in latest.places:
                name = type(error).__name__
                reason = f"The graph could not go on with that: {name}: {error}"
                raise _with_reason(latest.refusal, reason) from error


def _place_of(metadata: Mapping[str, Any]) -> tuple[Any, ...] | None:
    step = metadata.get("langgraph_step")
    return None if step is None else (step, attribution_of(metadata).node)


def _with_reason(refusal: BudgetExceededError, reason: str) -> BudgetExceededError:
    return BudgetExceededError(
        account=refusal.account,
        needed_tokens=refusal.needed_tokens,
        left_tokens=refusal.left_tokens,
        limit_tokens=refusal.limit_tokens,
        because=f"{refusal} {reason}",
    )
