"""Runs of a plan that begin and end with the runs of a graph, and outlive interrupts in between.

A graph that waits for somebody goes on under the key with which it was begun. The key stands in
the metadata of the run, and LangGraph keeps those in its checkpoints: a graph that is resumed in
another process goes on with the same account, if that is in a store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

from langchain_core.runnables.config import ensure_config, merge_configs
from langgraph.types import Command

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.plan_settings import PlanSettings
from langchain_tokenopt.budget.run import BudgetRun, current_run
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.event_loop import done_beside_loop
from langchain_tokenopt.tools.named_tools import accounts_of_tools

__all__ = ["GraphRuns"]

Result = TypeVar("Result")
KEY: Final = "tokenopt_run"
"""Of the metadata of a graph's run, and so of its checkpoints."""


class GraphRuns:
    """The runs of one plan around one graph.

    Args:
        plan: Of which they are.
        options: For ``plan.run``.
    """

    def __init__(self, plan: BudgetPlan, options: Mapping[str, Any]) -> None:
        self._plan = plan
        self._options = dict(options)
        self._waits = not {"path", "store"}.isdisjoint(options)

    @contextmanager
    def around(self, graph: Any, input: Any, config: Any) -> Iterator[Any]:
        """Run what is inside under the plan, unless it is part of a run; give its config."""
        around = current_run()
        if around is not None:
            with _accounts_of_tools(around.plan):
                yield config
            return
        config = _own(graph, config)
        known = graph.get_state(config) if _goes_on(graph, input, config) else None
        run, config = self._run(config, known)
        with run, _accounts_of_tools(self._plan):
            yield config

    @asynccontextmanager
    async def aaround(self, graph: Any, input: Any, config: Any) -> AsyncIterator[Any]:
        """As :meth:`around`; the event loop does not wait for a store."""
        around = current_run()
        if around is not None:
            with _accounts_of_tools(around.plan):
                yield config
            return
        config = _own(graph, config)
        known = await graph.aget_state(config) if _goes_on(graph, input, config) else None
        run, config = await self._done(lambda: self._run(config, known))
        await self._done(run.open)
        try:
            with run.inside(), _accounts_of_tools(self._plan):
                yield config
        except BaseException as error:
            await self._done(partial(run.close, error))
            raise
        await self._done(run.close)

    async def _done(self, work: Callable[[], Result]) -> Result:
        return await done_beside_loop(work) if self._waits else work()

    def _run(self, config: Any, known: Any) -> tuple[BudgetRun, Any]:
        """Return the run of a graph that begins, or goes on, and the config that says so."""
        metadata = config.get("metadata") or {}
        made_by = attribution_of({**config.get("configurable", {}), **metadata})
        key = (getattr(known, "metadata", None) or {}).get(KEY)
        if key is None:
            key = uuid4().hex
            if made_by.thread_id is not None:
                lasts = self._plan.per == "thread"
                key = made_by.thread_id if lasts else f"{made_by.thread_id}-{key}"
        options = {"user": made_by.user, "organization": made_by.organization, **self._options}
        run = self._plan.run(key, **options)
        run.thread_id = made_by.thread_id
        return run, {**config, "metadata": {**metadata, KEY: key}}


def _accounts_of_tools(plan: PlanSettings) -> AbstractContextManager[object]:
    """Return a block in which tools have the accounts that the plan names."""
    names = frozenset(plan.agents)
    return accounts_of_tools(names) if names else nullcontext()


def _own(graph: Any, config: Any) -> Any:
    """Return the config of a run with what the graph has itself."""
    return merge_configs(getattr(graph, "config", None), ensure_config(config))


def _goes_on(graph: Any, input: Any, config: Any) -> bool:
    """Whether a run continues an earlier one, which its checkpoints tell of."""
    if input is not None and not (isinstance(input, Command) and input.resume is not None):
        return False
    return bool(graph.checkpointer) and "thread_id" in config.get("configurable", {})
