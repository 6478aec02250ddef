"""Where a graph stands, and which of its nodes can still come.

LangGraph works in steps: one begins when all nodes of the one before have ended. So when the first
node of a step begins, it is known where every node of the last one has led, and whatever cannot be
reached from there will not run again.

What cannot be known is taken to be possible. Where destinations are not declared, a node may lead
anywhere: a branch without a path map or ``Literal``; a node annotated to return a ``Command`` to
anywhere; and where a node cannot be reached by any edge, those that do not say what they return. A
node without any edge ends the graph, as an edge to ``END`` does.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from langchain_tokenopt.budget.outlook import Coming
from langchain_tokenopt.budget.run import BudgetRun
from langchain_tokenopt.graph.host_compat import (
    contains_graph,
    enclosing_graph,
    function_of,
    is_cached,
    step_of,
)

__all__ = ["GraphEdges", "GraphStep", "Reachability"]

Names = frozenset[str]

_STEPS = 24
"""How far ahead chances are followed: loops bring them close to their limits."""


@dataclass(frozen=True)
class GraphEdges:
    """Which nodes of a graph can come after which, as far as its builder says."""

    possible: Mapping[str, Names]
    """Where each node can lead."""
    certain: Mapping[str, Names]
    """Where each node leads whatever it returns and a branch decides."""
    deferred: Names
    """Nodes that can come at any time."""
    unwatched: Names
    """Nodes that may run without our knowing: graphs, and those that a cache answers."""
    joins: tuple[tuple[Names, str], ...] = ()
    """Nodes that begin only when several others have ended, and these."""

    @classmethod
    def of(cls, builder: StateGraph[Any, Any, Any, Any]) -> GraphEdges:
        """Read a graph's edges."""
        specs = builder.nodes
        certain: defaultdict[str, set[str]] = defaultdict(set)  # LangGraph refuses unknown names
        certain.update({name: set() for name in (*specs, START)})
        for start, end in builder.edges:
            certain[start].add(end)
        for starts, end in builder.waiting_edges:
            for start in starts:
                certain[start].add(end)
        possible = defaultdict(set, {name: set(ends) for name, ends in certain.items()})
        alone = {end for _, end in builder.edges}
        for start, branches in builder.branches.items():
            for branch in branches.values():
                ends = set(branch.ends.values()) if branch.ends else {*specs, END}
                possible[start] |= ends
                alone |= ends
        for name, spec in specs.items():
            possible[name] |= set(spec.ends or ())
            alone |= set(spec.ends or ())
            if spec.error_handler_node is not None:
                possible[name].add(spec.error_handler_node)
        unwatched = {
            name
            for name, spec in specs.items()
            if is_cached(builder, spec) or contains_graph(spec.runnable)
        }
        for name in unwatched:  # what they return is not seen
            certain[name] |= set(specs[name].ends or ())
        for name in list(_undeclared(specs, possible)):
            possible[name] |= set(specs)
            alone |= set(specs)
            if name in unwatched:
                certain[name] |= set(specs)
        return cls(
            {name: frozenset(ends) for name, ends in possible.items()},
            {name: frozenset(ends) for name, ends in certain.items()},
            frozenset(name for name, spec in specs.items() if spec.defer),
            frozenset(unwatched),
            tuple((frozenset(starts), e) for starts, e in builder.waiting_edges if e not in alone),
        )

    def waiting(self, nodes: Names, ended: Names) -> Names:
        """Return which of *nodes* do not begin before others have ended that have not yet."""
        open_ = {end for starts, end in self.joins if starts <= ended}
        return frozenset(end for starts, end in self.joins if end in nodes and end not in open_)

    def sure(self, here: Names, ended: Names) -> Names:
        """Return the nodes that come after those *here* whatever is decided, by edges alone."""
        found: set[str] = set()
        while True:
            begun = here | found
            joined = {end for starts, end in self.joins if starts <= begun | ended}
            joined &= {end for starts, end in self.joins if starts & begun}
            led = {end for name in begun for end in self.certain.get(name, ())}
            new = (led - {end for _, end in self.joins}) | joined
            if new <= found:
                return frozenset(found - {END})
            found |= new


@dataclass
class GraphStep:
    """One step of one invocation of a graph."""

    number: int
    expected: Names | None
    """The nodes of this step, and maybe more; ``None``: unknown."""
    is_whole: bool
    """False for the first step that was seen: of a resumed run, nodes may have ended before."""
    began: set[str] = field(default_factory=set)
    led_to: dict[str, set[str]] = field(default_factory=dict)
    """Where nodes of this step have led, as far as they have ended."""
    sent: Counter[str] = field(default_factory=Counter)
    """How often nodes were sent for, each time with a state of its own. Those that several others
    lead to come once."""
    ended: Names | None = None
    """The nodes that have run before this step; ``None``: unknown."""


class Reachability:
    """Which agents of a graph can still come; the accounts of the others are finished.

    Shared by all invocations of the graph; where each of them stands is kept with its budget's run.

    Args:
        edges: Of the graph.
        agents: Who pays for each node.
        own_calls: How many of a node's inner nodes the node itself pays for, where it is a graph.
        perhaps: Agents of whom nobody knows whether they call a model.
    """

    def __init__(
        self,
        edges: GraphEdges,
        agents: Mapping[str, Sequence[str]],
        own_calls: Mapping[str, int] | None = None,
        perhaps: Names = frozenset(),
    ) -> None:
        self._edges = edges
        self._possible = dict(edges.possible)
        self._agents = agents
        self._own_calls = own_calls or {}
        self._perhaps = perhaps
        self._returns: dict[str, float] = {}
        """How often a node comes again once it has come, in a mean."""
        self._everybody = {agent for names in agents.values() for agent in names}
        self._lock = threading.RLock()

    # Events of nodes and branches

    def node_began(
        self, name: str, run: BudgetRun, metadata: Mapping[str, Any], *, came_back: bool = False
    ) -> GraphStep | None:
        """Take note that a node begins; finish the accounts of those that cannot come any more.

        Args:
            name: The node.
            run: Whose budget it is.
            metadata: Of the node's run.
            came_back: Its agent had finished: another turn, or a fork. So others may come back.
        """
        number = step_of(metadata)
        if number is None:
            return None
        where = self._where(metadata)
        with self._lock:
            before: GraphStep | None = run.graph_positions.get(where)
            step = before
            if step is None or number != step.number:
                step = run.graph_positions[where] = self._begun(before, number, name)
            elif step.expected is not None and name not in step.expected | self._edges.deferred:
                step.expected = None  # a fork, or another invocation of the same thread
            step.began.add(name)
            if step is not before or came_back:
                coming = self._coming(step)
                if came_back:
                    run.reopen(sorted(coming))
                run.finish_idle(sorted(self._everybody - coming))
            if step.expected is None:  # nobody knows who else runs now, but who follows is known
                run.outlook.foresee(where, self._foreseen_from(name, step.began))
            elif step is not before:
                times = before.sent if before is not None else {}
                run.outlook.foresee(where, self._foreseen(step.expected, times, ended=step.ended))
        return step

    def node_returned(self, name: str, step: GraphStep, returned: Any) -> None:
        """Take note of what a node has returned."""
        ends = [end for end in _jumps(returned) if _node_of(end) in self._possible]
        jumps = set(map(_node_of, ends))
        with self._lock:
            step.sent.update(_sent_for(ends))
            if not jumps <= self._possible[name]:  # undeclared: from now on it may go anywhere
                self._possible[name] |= frozenset(self._agents)
                self._returns.clear()
            step.led_to.setdefault(name, set()).update(self._edges.certain[name], jumps)

    def node_failed(self, name: str, step: GraphStep) -> None:
        """Take note that a node has failed: if that is handled, it may lead anywhere it can."""
        with self._lock:
            step.led_to.setdefault(name, set()).update(self._possible[name])

    def branch_decided(
        self, name: str, run: BudgetRun, metadata: Mapping[str, Any], ends: Iterable[Any]
    ) -> None:
        """Take note of what a branch after the node *name* has decided: names and packets."""
        step = run.graph_positions.get(self._where(metadata))
        number = step_of(metadata)
        if name == START and (step is None or step.number != number):
            step = self.node_began(START, run, metadata)
        if step is not None and step.number == number:
            ends = list(ends)
            with self._lock:
                step.sent.update(_sent_for(ends))
                led_to = step.led_to.setdefault(name, set())
                led_to.update(self._edges.certain[name], map(_node_of, ends))

    def _where(self, metadata: Mapping[str, Any]) -> tuple[Any, ...]:
        return self, metadata.get("thread_id"), enclosing_graph(metadata)

    # From step to step

    def _coming(self, step: GraphStep) -> set[str]:
        """Return the agents that can still come."""
        if step.expected is None:
            return self._everybody
        possible = _reached_from(step.expected | self._edges.deferred, self._possible)
        return {agent for node in possible for agent in self._agents.get(node, ())}

    def coming_first(self) -> Coming:
        """Say who comes when the graph begins, and after that."""
        return self._foreseen(self._possible[START], {}, ended=frozenset())

    def _foreseen_from(self, name: str, began: Iterable[str]) -> Coming:
        """Say who comes when a node has begun in a step of which nothing else is known.

        As it is when a run is resumed, or a thread has another turn: those that begin with it are
        taken to be those that the same nodes lead to.
        """
        beside = {name}
        for start, ends in self._edges.certain.items():
            if name in ends or (start == START and name in self._possible[START]):
                beside |= ends | (self._possible[START] if start == START else frozenset())
        return self._foreseen(frozenset({*began, *beside}), {}, set(began) - {name})

    def _foreseen(
        self,
        expected: Names,
        sent: Mapping[str, int],
        began: Iterable[str] = (),
        ended: Names | None = None,
    ) -> Coming:
        """Say who comes in a step, and after it.

        Args:
            expected: The nodes of the step, and maybe more.
            sent: How often nodes were sent for.
            began: Who has come in it already.
            ended: Who has run before it; ``None``: unknown.
        """
        here = expected - {START, END}
        waiting = frozenset() if ended is None else self._edges.waiting(here, ended)
        after = _ends_of(here, self._possible) | waiting
        here -= waiting
        later = _reached_from(after | (self._edges.deferred - here), self._possible)
        sure = self._edges.sure(here, ended or frozenset())
        sure |= {node for node in later - sure if self._is_certain(node, here)}
        now = Counter({node: max(1, sent.get(node, 1)) for node in here - set(began)})
        chances = self._chances(here)
        return Coming(
            self._calls_in(now),
            self._calls_in(Counter(sure)),
            self._calls_in({node: chances.get(node, 1.0) for node in later - sure}),
            self._sent_by({*here, *later} - sure),
            self._perhaps,
            self._waits_for(later | sure),
        )

    def _chances(self, here: Names) -> dict[str, float]:
        """Return how likely nodes come after these, where each end of a branch is as likely.

        A node is likely to come at all by how often it does, in a mean, over how often it does once
        it has come.
        """
        chances = {}
        for node, times in self._visits(here).items():
            if node not in self._returns:
                self._returns[node] = self._visits([node]).get(node, 0.0)
            chances[node] = min(1.0, times / (1 + self._returns[node]))
        return chances

    def _visits(self, here: Iterable[str]) -> dict[str, float]:
        """Return how often nodes come after these, in a mean."""
        visits: defaultdict[str, float] = defaultdict(float)
        flow = dict.fromkeys(here, 1.0)
        for _ in range(_STEPS):
            following: defaultdict[str, float] = defaultdict(float)
            for start, chance in flow.items():
                certain = self._edges.certain.get(start, frozenset())
                chosen = self._possible.get(start, frozenset()) - certain
                for end in certain:
                    following[end] += chance
                for end in chosen:
                    following[end] += chance / len(chosen)
            flow = {node: min(chance, 1.0) for node, chance in following.items() if node != END}
            for node, chance in flow.items():
                visits[node] += chance
        return visits

    def _sent_by(self, nodes: Iterable[str]) -> dict[str, str]:
        """Return who sends for each agent that comes back only through one that chooses among many.

        As a supervisor's workers do, of which it has several. Speakers in a debate do not, nor does
        a writer whose critic sends the text back.
        """
        workers: defaultdict[str, set[str]] = defaultdict(set)
        for node in nodes:
            ways = self._possible.get(node, frozenset()) - {END}
            for hub in ways - {node}:
                sent = self._possible.get(hub, frozenset()) - {hub, END}
                without = {name: ends - {hub} for name, ends in self._possible.items()}
                if (
                    node in sent
                    and hub in self._agents
                    and node not in _reached_from(ways - {hub}, without)
                ):
                    workers[hub].add(node)
        return {
            agent: self._agents[hub][0]
            for hub, sent in workers.items()
            if len(sent) > 1
            for node in sent
            for agent in self._agents.get(node, ())
        }

    def _waits_for(self, nodes: Iterable[str]) -> dict[str, int]:
        """Return of how many others each agent comes after all, where these are several.

        Edges say so. Who comes after one alone may read what all before that one have said.
        """
        before = Counter(
            end for start, ends in self._edges.certain.items() if start != START for end in ends
        )
        return {
            agent: before[node]
            for node in nodes
            if before[node] > 1
            for agent in self._agents.get(node, ())
        }

    def _calls_in(self, nodes: Mapping[str, float]) -> dict[str, float]:
        """Return how often each agent calls in these nodes: each once, as far as one can see."""
        calls: defaultdict[str, float] = defaultdict(int)
        for node, times in nodes.items():
            own, *inner = self._agents.get(node) or (None,)
            for agent in inner:
                calls[agent] += times
            if own is not None:
                calls[own] += times * self._own_calls.get(node, 1)
        return {agent: times for agent, times in calls.items() if times > 0}

    def _is_certain(self, node: str, here: Names) -> bool:
        """Whether from somewhere here all ways to an end lead through a node that comes later."""
        without = {name: ends - {node} for name, ends in self._possible.items()}
        return any(
            node != start and not self._ends(start, without) and self._ends(start, self._possible)
            for start in here
        )

    def _ends(self, start: str, edges: Mapping[str, Names]) -> bool:
        """Whether the graph may end after a node, by these edges."""
        return any(
            END in edges.get(name, ()) or not self._possible.get(name)
            for name in _reached_from([start], edges)
        )

    def _begun(self, before: GraphStep | None, number: int, name: str) -> GraphStep:
        """Return a step, with what follows from the one before, if it does follow."""
        if name == START:
            return GraphStep(number, frozenset({START}), is_whole=True, ended=frozenset())
        if number == 1 and before is not None and before.number != 0:  # another invocation's
            before = None
        if before is None:  # at the start, or resumed anywhere
            expected: Names | None = self._possible[START]
            last = 1
        elif number > before.number:
            expected, last = self._after(before), before.number + 1
        else:
            expected, last = None, number
        unwatched = self._edges.unwatched
        for _ in range(last, number):  # steps in which nobody was seen
            if expected is None or (before is None and not expected <= unwatched):
                expected = None
                break
            expected = _ends_of(expected & unwatched, self._possible)
        if expected is not None and name not in expected | self._edges.deferred:
            expected = None
        is_whole = before is not None and number == before.number + 1
        ended: Names | None = frozenset() if before is None and number == 1 else None
        if before is not None and before.ended is not None and number > before.number:
            ended = before.ended | before.began | (before.expected or frozenset()) & unwatched
        return GraphStep(number, expected, is_whole=is_whole, ended=ended)

    def _after(self, step: GraphStep) -> Names | None:
        """Return the nodes of the next step; ``None``: unknown."""
        if step.expected is None and not step.is_whole:
            return None
        ran = step.began | (self._edges.unwatched if step.expected is None else step.expected)
        return _ends_of(ran, {**self._possible, **step.led_to})


def _ends_of(names: Iterable[str], edges: Mapping[str, Iterable[str]]) -> Names:
    return frozenset(end for name in names for end in edges.get(name, ()))


def _reached_from(names: Iterable[str], edges: Mapping[str, Iterable[str]]) -> Names:
    found = set(names) - {END}
    waiting = list(found)
    while waiting:
        for name in edges.get(waiting.pop(), ()):
            if name not in found and name != END:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _undeclared(specs: Mapping[str, Any], edges: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield nodes that may go where no edge shows.

    A node that says nothing of commands is taken at its edges' word, as long as every node
    can be reached by somebody's: else somebody goes there without notice.
    """
    handlers = {name for name, spec in specs.items() if spec.is_error_handler}
    is_doubtful = not set(specs) - handlers <= _reached_from([START], edges)
    for name, spec in specs.items():
        jumps = _declares_jumps(spec.runnable)
        if name in handlers or (not spec.ends and (jumps or (jumps is None and is_doubtful))):
            yield name


def _declares_jumps(runnable: Any) -> bool | None:
    """Read from a node's annotation whether it returns commands; ``None``: it does not say."""
    node = function_of(runnable)
    node = getattr(node, "func", node)  # a partial
    hints = getattr(node, "__annotations__", None) or {}
    if "return" not in hints:
        hints = getattr(getattr(node, "__call__", None), "__annotations__", None) or {}  # noqa: B004
    if "return" not in hints:
        return None
    text = hints["return"] if isinstance(hints["return"], str) else repr(hints["return"])
    if "Command" in text or "Send" in text:
        return True
    return None if text in ("Any", "typing.Any", "object", "<class 'object'>") else False


def _node_of(end: Any) -> Any:
    return end.node if isinstance(end, Send) else end


def _sent_for(ends: Iterable[Any]) -> Iterator[str]:
    return (end.node for end in ends if isinstance(end, Send))


def _jumps(returned: Any) -> Iterator[str | Send]:
    """Yield the nodes to which a return value leads by itself, and packets for nodes."""
    if isinstance(returned, Send):
        yield returned
    elif isinstance(returned, Command):
        if returned.graph is None:
            goto = returned.goto
            yield from [goto] if isinstance(goto, str | Send) else goto
    elif isinstance(returned, list | tuple):
        for part in returned:
            yield from _jumps(part)
