"""What a run remembers of its agents beside their accounts."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["AgentNotes", "RunNotes"]


@dataclass(slots=True)
class AgentNotes:
    """What was noted of one agent."""

    degraded: Counter[str] = field(default_factory=Counter)
    limited: int = 0
    """Answers under a word limit."""
    kept: int = 0
    """Of those, how many were within it."""
    unstaged: set[str] = field(default_factory=set)
    failed: int = 0
    """Calls that brought no answer."""


class RunNotes:
    """Notes on agents, taken by any thread.

    The garbage collector may close an abandoned stream at any moment, on a thread that is just
    taking a note; the end of that call is noted, too. So notes are queued first, which cannot be
    interrupted, and applied by whoever is not kept from it.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[str, Callable[[AgentNotes], None]]] = deque()
        self._applying = threading.Lock()
        self._agents: dict[str, AgentNotes] = {}

    def add(self, agent: str, note: Callable[[AgentNotes], None]) -> None:
        """Change what is noted of *agent*."""
        self._queue.append((agent, note))
        self._apply()

    def of(self, agent: str) -> AgentNotes:
        """Return what has been noted of *agent*."""
        self._apply()
        return self._agents.get(agent, AgentNotes())

    @property
    def failed_calls(self) -> int:
        """Calls of all agents that brought no answer."""
        self._apply()
        return sum(notes.failed for notes in list(self._agents.values()))

    def _apply(self) -> None:
        """Apply what is queued; whoever is doing so already, this thread included, goes on."""
        while self._queue and self._applying.acquire(blocking=False):
            try:
                while self._queue:
                    agent, note = self._queue.popleft()
                    note(self._agents.setdefault(agent, AgentNotes()))
            finally:
                self._applying.release()
