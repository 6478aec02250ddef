"""The state channel in which a graph mirrors the account of its budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from langgraph.channels import BinaryOperatorAggregate
from langgraph.graph import StateGraph

from langchain_tokenopt.budget.run import BudgetRun

__all__ = ["BudgetState", "merge_budget", "mirror_key", "mirror_of", "read_mirror", "restore"]

_COUNTERS: Final = ("spent", "held", "surplus", "spent_nano_usd")


def merge_budget(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mirrors of one account: counters only rise, so the larger one is the later.

    Merging twice, or in another order, gives the same; so replays and parallel branches do no harm.

    Example:
        >>> early = {"agents": {"news": {"spent": 100}}}
        >>> late = {"agents": {"news": {"spent": 150}, "judge": {"spent": 20}}}
        >>> merge_budget(merge_budget(early, late), early) == late
        True
    """
    agents: dict[str, dict[str, int]] = {}
    for side in (left, right):
        for agent, counters in (side.get("agents") or {}).items():
            merged_counters = agents.setdefault(agent, {})
            for name, count in counters.items():
                merged_counters[name] = max(merged_counters.get(name, count), count)
    merged = {**left, **right}
    if agents:
        merged["agents"] = agents
    return merged


BudgetState = Annotated[dict[str, Any], merge_budget]
"""A state channel that mirrors the account, for checkpoints: ``class State(TypedDict): budget:
BudgetState``. The account alone decides what is spent. A run in another process that has no store
goes on from what the mirror says.

Replaying or forking from an older checkpoint is paid again, and what the abandoned branch has spent
stays spent: an account never goes back. Only a new account (another process, or a run without a
``thread_id``) that begins at an older checkpoint knows no more than that checkpoint says; give
``plan.run`` a *path* where that matters."""


def mirror_key(workflow: StateGraph[Any, Any, Any, Any]) -> str | None:
    """Return the state key of a graph's :data:`BudgetState` channel; ``None`` without one."""
    for key, channel in workflow.channels.items():
        if isinstance(channel, BinaryOperatorAggregate) and channel.operator is merge_budget:
            return key
    return None


def mirror_of(run: BudgetRun) -> dict[str, Any]:
    """Return what was spent. What is held belongs to nodes that will be run again on resuming."""
    snapshot = run.account.snapshot()
    for counters in snapshot["agents"].values():
        counters["held"] = 0
    return snapshot


def read_mirror(state: Any, key: str) -> Mapping[str, Any] | None:
    """Return the mirror in a graph's state, whatever the state is made of."""
    value = state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)
    return value if isinstance(value, Mapping) else None


def restore(run: BudgetRun, mirror: Mapping[str, Any], key: str) -> None:
    """Let *run* go on from a mirror; one that was made by hand may say less than ours.

    Raises:
        ValueError: It holds something that is no number of tokens.
    """
    agents = {}
    for agent, said in (mirror.get("agents") or {}).items():
        counters = {name: said.get(name, 0) for name in _COUNTERS}
        for name, count in counters.items():
            if not isinstance(count, int) or count < 0:
                raise ValueError(
                    f"the state's {key!r} says that {agent!r} has {name} {count!r}; it must be a "
                    f"whole number of at least 0. Leave it to budget_graph() to write it."
                )
        agents[agent] = counters
    run.restore({"agents": agents})
