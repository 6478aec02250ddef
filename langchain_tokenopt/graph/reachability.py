"""Where a graph stands, and which of its nodes can still come.

LangGraph works in steps: one begins when all nodes of the one before have ended. So when the first
node of a step begins, it is known where every node of the last one has led, and whatever cannot be
reached from there will not run again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, Send

if TYPE_CHECKING:
    from langchain_tokenopt.budget.run import BudgetRun

__all__ = ["Course", "Paths", "has_graph"]

Names = frozenset[str]


@dataclass
class Course:
    """One step of one invocation of a graph."""

    step: int
    tasks: Names | None
    """The nodes of this step, and maybe more; ``None``: unknown."""
    is_whole: bool
    """False for the first step that was seen: of a resumed run, nodes may have ended before."""
    seen: set[str] = field(default_factory=set)
    led: dict[str, set[str]] = field(default_factory=dict)
    """Where nodes of this step have led, as far as they have told."""


class Paths:
    """Which nodes can come after which.

    Args:
        agents: Agents by node.
        direct: Where each node can lead.
        fixed: Where each node leads whatever it returns and a branch decides.
        late: Nodes that can come at any time: deferred ones.
        unseen: Nodes that may run without telling.
    """

    def __init__(
        self,
        agents: Mapping[str, Sequence[str]],
        direct: Mapping[str, Names],
        fixed: Mapping[str, Names],
        late: Names,
        unseen: Names,
    ) -> None:
        self._agents = agents
        self._everybody = {agent for names in agents.values() for agent in names}
        self._direct = dict(direct)
        self._fixed = fixed
        self._late = late
        self._unseen = unseen
        self._lock = threading.RLock()

    @classmethod
    def of(
        cls, workflow: StateGraph[Any, Any, Any, Any], agents: Mapping[str, Sequence[str]]
    ) -> Paths:
        """Read a graph's edges."""
        specs = workflow.nodes
        fixed: dict[str, set[str]] = {name: set() for name in (*specs, START)}
        for start, end in workflow.edges:
            fixed[start].add(end)
        for starts, end in workflow.waiting_edges:
            for start in starts:
                fixed[start].add(end)
        direct = {name: set(ends) for name, ends in fixed.items()}
        for start, branches in workflow.branches.items():
            for branch in branches.values():
                direct[start] |= set(branch.ends.values()) if branch.ends else set(specs)
        for name, spec in specs.items():
            direct[name] |= set(spec.ends or ())
            if spec.error_handler_node is not None:
                direct[name].add(spec.error_handler_node)
        unseen = {name for name, spec in specs.items() if _may_be_unseen(workflow, spec)}
        for name in unseen:  # they do not tell of commands
            fixed[name] |= set(specs[name].ends or ())
        for name in list(_undeclared(specs, direct)):
            direct[name] |= set(specs)
            if name in unseen:
                fixed[name] |= set(specs)
        return cls(
            agents,
            {name: frozenset(ends) for name, ends in direct.items()},
            {name: frozenset(ends) for name, ends in fixed.items()},
            frozenset(name for name, spec in specs.items() if spec.defer),
            frozenset(unseen),
        )

    # What nodes tell

    def entered(
        self, name: str, run: BudgetRun, metadata: Mapping[str, Any], *, came_back: bool = False
    ) -> Course | None:
        """Take note that a node begins; end the accounts of those that cannot come any more.

        Args:
            name: The node.
            run: Whose budget it is.
            metadata: Of the node's run.
            came_back: Its agent had finished: another turn, or a fork. So others may come back.
        """
        step = metadata.get("langgraph_step")
        if not isinstance(step, int):
            return None
        where = self._where(metadata)
        with self._lock:
            before = run.graph_positions.get(where)
            course = before
            if course is None or step != course.step:
                course = run.graph_positions[where] = self._begun(before, step, name)
            elif course.tasks is not None and name not in course.tasks | self._late:
                course.tasks = None  # a fork, or another invocation of the same thread
            course.seen.add(name)
            if course is not before or came_back:
                coming = self._coming(course)
                if came_back:
                    run.reopen(sorted(coming))
                run.finish_idle(sorted(self._everybody - coming))
        return course

    def _coming(self, course: Course) -> set[str]:
        """Return the agents that can still come."""
        if course.tasks is None:
            return self._everybody
        possible = _reach(course.tasks | self._late, self._direct)
        return {agent for node in possible for agent in self._agents.get(node, ())}

    def left(self, name: str, course: Course, returned: Any) -> None:
        """Take note of what a node has returned."""
        jumps = {end for end in _jumps(returned) if end in self._direct}
        with self._lock:
            if not jumps <= self._direct[name]:  # undeclared: from now on it may go anywhere
                self._direct[name] |= frozenset(self._agents)
            course.led.setdefault(name, set()).update(self._fixed[name], jumps)

    def failed(self, name: str, course: Course) -> None:
        """Take note that a node has failed: if that is handled, it may lead anywhere it can."""
        with self._lock:
            course.led.setdefault(name, set()).update(self._direct[name])

    def decided(
        self, name: str, run: BudgetRun, metadata: Mapping[str, Any], ends: Iterable[Any]
    ) -> None:
        """Take note of what a branch after a node has decided."""
        course = run.graph_positions.get(self._where(metadata))
        if name == START and (course is None or course.step != metadata.get("langgraph_step")):
            course = self.entered(START, run, metadata)
        if course is not None and course.step == metadata.get("langgraph_step"):
            with self._lock:
                course.led.setdefault(name, set()).update(self._fixed[name], ends)

    def _where(self, metadata: Mapping[str, Any]) -> tuple[Any, ...]:
        outer = str(metadata.get("langgraph_checkpoint_ns") or "").rpartition("|")[0]
        return self, metadata.get("thread_id"), outer

    # From step to step

    def _begun(self, before: Course | None, step: int, name: str) -> Course:
        """Return a step, with what follows from the one before, if it does follow."""
        if name == START:
            return Course(step, frozenset({START}), is_whole=True)
        if step == 1 and before is not None and before.step != 0:  # another invocation's
            before = None
        if before is None:  # at the start, or resumed anywhere
            tasks: Names | None = self._direct[START]
            last = 1
        elif step > before.step:
            tasks, last = self._next(before), before.step + 1
        else:
            tasks, last = None, step
        for _ in range(last, step):  # steps in which nobody was seen
            if tasks is None or (before is None and not tasks <= self._unseen):
                tasks = None
                break
            tasks = frozenset(end for name in tasks & self._unseen for end in self._direct[name])
        if tasks is not None and name not in tasks | self._late:
            tasks = None
        return Course(step, tasks, is_whole=before is not None and step == before.step + 1)

    def _next(self, course: Course) -> Names | None:
        if course.tasks is None and not course.is_whole:
            return None
        ran = course.seen | (self._unseen if course.tasks is None else course.tasks)
        ends = (course.led.get(name, self._direct.get(name, ())) for name in ran)
        return frozenset(end for names in ends for end in names)


def has_graph(runnable: Any) -> bool:
    """Whether a node is a graph, or something of which LangGraph sees that it runs one."""
    inside = (*(getattr(runnable, "steps", None) or ()), *(getattr(runnable, "deps", None) or ()))
    bound = getattr(runnable, "bound", None)
    return (
        isinstance(runnable, Pregel)
        or any(map(has_graph, inside))
        or (bound is not None and has_graph(bound))
    )


def _reach(names: Iterable[str], direct: Mapping[str, Iterable[str]]) -> Names:
    found = set(names) - {END}
    waiting = list(found)
    while waiting:
        for name in direct.get(waiting.pop(), ()):
            if name not in found and name != END:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _may_be_unseen(workflow: StateGraph[Any, Any, Any, Any], spec: Any) -> bool:
    """Whether a node may run untold: as a graph, or not at all, when its result is cached."""
    defaults = getattr(workflow, "_node_defaults", None)
    cached = spec.cache_policy is not None or getattr(defaults, "cache_policy", None) is not None
    return cached or has_graph(spec.runnable)


def _undeclared(specs: Mapping[str, Any], direct: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield nodes that may go where no edge shows.

    A node that has edges and says nothing of commands is taken at its word, as long as every node
    can be reached by somebody's: else somebody goes there without notice.
    """
    handlers = {name for name, spec in specs.items() if spec.is_error_handler}
    is_doubtful = not set(specs) - handlers <= _reach([START], direct)
    for name, spec in specs.items():
        jumps = _says_that_it_jumps(spec.runnable)
        if name in handlers or (
            not spec.ends and (jumps or (jumps is None and (is_doubtful or not direct[name])))
        ):
            yield name


def _says_that_it_jumps(runnable: Any) -> bool | None:
    """Read from a node's annotation whether it returns commands; ``None``: it does not say."""
    node = getattr(runnable, "func", None) or getattr(runnable, "afunc", None)
    node = getattr(node, "func", node)  # a partial
    told = getattr(node, "__annotations__", None) or {}
    if "return" not in told:
        told = getattr(getattr(node, "__call__", None), "__annotations__", None) or {}  # noqa: B004
    if "return" not in told:
        return None
    text = told["return"] if isinstance(told["return"], str) else repr(told["return"])
    if "Command" in text or "Send" in text:
        return True
    return None if text in ("Any", "typing.Any", "object", "<class 'object'>") else False


def _jumps(returned: Any) -> Iterator[str]:
    """Yield the nodes to which a return value leads by itself."""
    if isinstance(returned, Send):
        yield returned.node
    elif isinstance(returned, Command):
        if returned.graph is None:
            goto = returned.goto
            for end in [goto] if isinstance(goto, str | Send) else goto:
                yield end.node if isinstance(end, Send) else end
    elif isinstance(returned, list | tuple):
        for part in returned:
            yield from _jumps(part)
