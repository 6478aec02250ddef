"""Events of a budget in the custom stream of the graph that is at work."""

from __future__ import annotations

import sys

from langchain_tokenopt.core.records import BudgetEvent

__all__ = ["write_to_graph"]


def write_to_graph(event: BudgetEvent) -> None:
    """Write *event* into the custom stream of the graph in which the caller runs, if any."""
    if "langgraph.config" not in sys.modules:
        return
    from langgraph.config import get_stream_writer

    try:
        write = get_stream_writer()
    except (RuntimeError, KeyError):  # not inside of a node
        return
    write(
        {
            "budget": event.budget,
            "kind": event.kind,
            "agent": event.agent,
            "detail": event.detail,
            "spent_tokens": event.spent_tokens,
            "held_tokens": event.held_tokens,
            "limit_tokens": event.limit_tokens,
        }
    )
