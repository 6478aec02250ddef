"""Runs of a plan that begin and end with an agent, and outlive interrupts in between.

Each node of an agent is executed in a context of its own, so a run cannot be a ``with`` block
around them. Its key stands in the agent's state; the run itself, here. Where it is not here (the
agent was resumed in another process), it is opened anew: on its account in the store, or, without
one, from what the state says was spent.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from langchain_core.runnables.config import ensure_config

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.refusals import AGENT_KEY
from langchain_tokenopt.budget.run import BudgetRun, current_run
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.graph.state import mirror_of, restore

__all__ = ["KEY", "AgentRuns"]

KEY: Final = AGENT_KEY
"""Of the state: ``{"run": its key, "agents": what was spent}``."""
_KEPT: Final = 1_000
"""Runs that have begun and not ended: interrupted, or ended by an error."""


class AgentRuns:
    """The runs of a plan that are under way.

    Args:
        plan: Of which they are.
        options: For ``plan.run``.
    """

    def __init__(self, plan: BudgetPlan, options: Mapping[str, Any]) -> None:
        self._plan = plan
        self._options = options
        self._live: OrderedDict[str, BudgetRun] = OrderedDict()
        self._lock = threading.Lock()
        self.blocking = not {"path", "store"}.isdisjoint(options)
        """Whether they wait for a disk or a server."""
        self._in_state = (
            not self.blocking and plan.per in ("run", "thread") and plan.window == "run"
        )
        """Whether the state says what was spent: it is that of a thread, and knows no dates."""

    def begin(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a run, unless the agent is part of one; return the update of the state."""
        if current_run() is not None:
            return {KEY: None}
        said = state.get(KEY) or {}
        goes_on = self._plan.per == "thread"
        run, key = self._opened({"agents": said.get("agents")} if goes_on else {})
        return {KEY: self._noted(run, key)}

    def here(self, state: Mapping[str, Any]) -> tuple[BudgetRun, str]:
        """Return the run of an agent in this state, and its key."""
        said = state.get(KEY) or {}
        with self._lock:
            run = self._live.get(said.get("run", ""))
        return self._opened(said) if run is None else (run, said["run"])

    def end(self, state: Mapping[str, Any]) -> tuple[BudgetRun | None, dict[str, Any]]:
        """End the run of an agent; return it, and the update of the state."""
        said = state.get(KEY) or {}
        with self._lock:
            run = self._live.pop(said.get("run", ""), None)
        if run is None and (said.get("run") is None or current_run() is not None):
            return current_run(), {}
        if run is None:  # ended by another turn of the thread, or begun in another process
            run, key = self._opened(said)
            with self._lock:
                self._live.pop(key, None)
        run.close()
        return run, {KEY: self._noted(run, None)}

    def update(self, run: BudgetRun, key: str) -> dict[str, Any]:
        """Return the update of the state after a call."""
        return {KEY: self._noted(run, key)}

    def _noted(self, run: BudgetRun, key: str | None) -> dict[str, Any]:
        spent = mirror_of(run) if self._in_state else {}
        return {"run": key, "agents": spent.get("agents") or {}}

    def _opened(self, said: Mapping[str, Any]) -> tuple[BudgetRun, str]:
        """Open a run, anew or again; two tools that go on at once open the same one."""
        thread = attribution_of(ensure_config().get("metadata") or {}).thread_id
        key = said.get("run") or self._new_key(thread)
        with self._lock:
            run = self._live.get(key)
            if run is None:
                run = self._plan.run(key, **self._options)
                run.thread_id = thread
                if self._in_state and said.get("agents"):
                    restore(run, said, KEY)
                run.open()
            self._live[key] = run
            over = [self._live.popitem(last=False)[1] for _ in range(len(self._live) - _KEPT)]
        for forgotten in over:
            forgotten.close(InterruptedError())
        return run, key

    def _new_key(self, thread: str | None) -> str:
        if thread is None:
            return uuid4().hex
        return thread if self._plan.per == "thread" else f"{thread}-{uuid4().hex}"
