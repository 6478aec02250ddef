"""Where the calls of a run stand: under which agent, node and tool, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_tokenopt.core.records import CallRecord

__all__ = ["notes_of", "path_of"]


def path_of(call: CallRecord) -> list[str]:
    """Return under what a call stands: nodes from the outermost in, or the agent; then the tool."""
    made_by = call.attribution
    path = made_by.node.split("/") if made_by.node else []
    if made_by.agent not in path:
        path.insert(0, made_by.agent)
    return [*path, *([f"tool {made_by.tool}"] if made_by.tool else [])]


def notes_of(call: CallRecord) -> list[str]:
    """Return what is not ordinary about a call."""
    notes: list[str] = [call.status] if call.status != "ok" else []
    notes += ["from a cache"] if call.cached else []
    return notes + (["estimated"] if call.source == "estimated" else [])
