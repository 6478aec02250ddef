"""The runs above a model call: its tool, and who has given it a name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.runnables import Runnable

from langchain_tokenopt.core.attribution import agent_names_in

__all__ = ["NO_ANCESTRY", "Ancestry", "Lineage"]


class Ancestry(NamedTuple):
    """The runs above a call, as far as they matter."""

    root: UUID | None = None
    """The outermost run."""
    tool: str | None = None
    """The nearest tool."""
    chain: str | None = None
    """The nearest chain or graph that somebody gave a name."""
    agent: str | None = None
    """The innermost name that somebody gave to an agent."""


NO_ANCESTRY = Ancestry()


class _Ancestor(NamedTuple):
    parent: UUID | None
    tool: str | None
    """Its name, if the run is a tool."""
    chain: str | None
    """Its name, if the run is a chain."""
    agents: tuple[str | None, str | None] | None
    """Names of agents that hold here; ``None`` where the run does not say."""


class Lineage:
    """The chains and tools in flight."""

    def __init__(self) -> None:
        self._runs: dict[int, _Ancestor] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def add_chain(
        self,
        run_id: UUID,
        parent: UUID | None,
        name: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        """Remember where a chain, graph or node stands."""
        agents = None if metadata is None else agent_names_in(metadata)
        self._runs[run_id.int] = _Ancestor(parent, None, name, agents)

    def add_tool(self, run_id: UUID, parent: UUID | None, name: str) -> None:
        """Remember where a tool stands."""
        self._runs[run_id.int] = _Ancestor(parent, name, None, None)

    def remove(self, run_id: UUID) -> None:
        """Forget a run that has ended."""
        self._runs.pop(run_id.int, None)

    def above(self, parent: UUID, metadata: Mapping[str, Any] | None) -> Ancestry:
        """Walk up from a call.

        Names of agents are handed down from run to run. The innermost is the one that the run
        above does not have yet; of two that come together, the explicit one counts.
        """
        root, tool, chain, agent = parent, None, None, None
        explicit, own = agent_names_in(metadata or {})
        current: UUID | None = parent
        while current is not None:
            root = current
            ancestor = self._runs.get(current.int)
            if ancestor is None:
                break
            current = ancestor.parent
            tool = tool or ancestor.tool
            if chain is None and ancestor.chain and not _is_default_name(ancestor.chain):
                chain = ancestor.chain
            if agent is None and ancestor.agents is not None:
                outer_explicit, outer_own = ancestor.agents
                if explicit != outer_explicit:
                    agent = explicit
                elif own != outer_own:
                    agent = own
        return Ancestry(root, tool, chain, agent or explicit or own)


@lru_cache(maxsize=4_096)
def _is_default_name(name: str) -> bool:
    """Whether a run is called after its class or its plumbing rather than by its author."""
    return name.startswith(_PLUMBING) or (name[:1].isupper() and name in _names_below(Runnable))


_PLUMBING = ("Runnable", "LangGraph", "ChannelWrite", "_")


def _names_below(kind: type) -> set[str]:
    """Return the names of all classes that derive from *kind*."""
    names, waiting = set(), [kind]
    while waiting:
        found = waiting.pop()
        names.add(found.__name__)
        waiting += found.__subclasses__()
    return names
