"""What is still to come in a run: who will call, how often, and what it will need.

Known from the graph (:mod:`langchain_tokenopt.graph.reachability` says who can still come), from
the plan where there is no graph, and from the requests of this run. What nobody has seen yet is
taken to be like the others.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from langchain_tokenopt.budget.forecast_need import Need
from langchain_tokenopt.budget.request_budget import EXPECTED, RequestBudget
from langchain_tokenopt.budget.room import NO_DEMAND, Demand, Demands
from langchain_tokenopt.budget.tools import TakesTimeError
from langchain_tokenopt.core.usage import Usage

__all__ = ["Coming", "Outlook", "note_graph", "noted_graph"]

_Method = TypeVar("_Method", bound=Callable[..., Any])

_UNSEEN: Final = 0.7
"""What an agent that was not seen yet needs, of what the others have needed on average."""
_FEW: Final = 3
"""Answers from which on those of others say something of an agent's own."""
_LATEST: Final = 20
_LONGER: Final = 1.3
"""How much longer the next answer may be than the longest so far."""
_DOCUMENTS: Final = 0.05
"""What one that reads the others' answers has to read besides, of what these have needed."""
_MOST_REPORTS: Final = 12
_ROUNDS: Final = 3
"""How often an agent in a loop is taken to come: so many short answers are kept for it."""
_AGAIN: Final = 0.5
"""Part of its likely need that is kept for another turn of one that has had one, which may not come
at all: what is kept for it makes turns shorter that do."""
_PERHAPS: Final = 0.05
"""How likely a node calls of which nothing shows that it does."""
_TYPICAL_ANSWER: Final = 120
"""Tokens of an answer, until this run has seen some."""


@dataclass(frozen=True)
class Coming:
    """How often who can still come in a graph, by agent."""

    now: Mapping[str, float]
    """In the step that begins."""
    surely: Mapping[str, float] = field(default_factory=dict)
    """After that, whatever branches decide."""
    maybe: Mapping[str, float] = field(default_factory=dict)
    """After that, or not: how likely it is."""
    sent_by: Mapping[str, str] = field(default_factory=dict)
    """By whom, of agents that come only when they are sent for, and once as a rule."""
    perhaps: frozenset[str] = frozenset()
    """Of whom nobody knows whether they call a model at all."""
    after: Mapping[str, int] = field(default_factory=dict)
    """How many others an agent waits for, where it waits for several: their answers it reads."""

    def knows(self, agent: str) -> bool:
        """Whether *agent* is one of those that can come."""
        return agent in self.now or agent in self.surely or agent in self.maybe


@dataclass
class _Seen:
    """What was seen of one agent."""

    calls: int = 0
    latest: Demand = NO_DEMAND
    """Of its latest request."""
    shortest: int = 0
    """What a short answer to the shortest of its requests needs."""
    width: int = 1
    """How many calls one execution of its nodes makes side by side, at most."""
    reads: bool = False
    """Whether it came after others, so that it may read what they have written."""
    open: int = 0
    """Executions of its nodes that are under way."""
    silent: int = 0
    """Of those, how many have not called yet."""
    is_quiet: bool = False
    """Its nodes have run without calling anybody."""
    loops: bool = False
    """Whether its latest request may call tools."""
    longest: int = 0
    """Output of its longest answer."""
    answers: int = 0
    written: int = 0
    """Output of all its answers."""
    owed: Demand = NO_DEMAND
    """What is kept for the answer after the tools that it has called."""
    spent: int = 0
    asked: int = 0
    """Input of its latest request as it was before anything made it smaller."""
    needed: int = 0
    """Spent, and what was left out of its requests."""
    is_cut: bool = False
    """Whether it would have needed more, nobody knows how much."""


class _Typical(NamedTuple):
    """What is to be expected of agents that were not seen."""

    least: int
    likely: int
    """Of one that is like those that were."""
    reports: float
    """Answers that one may read which comes after them."""
    beside: int
    """What it needs beside these."""
    seen: int
    """What others have needed that came after somebody."""

    def reading(self, reports: float, answer: int) -> int:
        """Return what one needs that reads so many answers of so many tokens."""
        return max(round(self.beside + reports * answer), self.seen)


@dataclass(eq=False)
class _Request:
    """A request that is being made to fit."""

    agent: str
    demand: Demand
    loops: bool
    """Whether it may call tools and come back: its last answer is kept back by itself."""
    place: str | None
    """The execution of a node that makes it; ``None``: unknown."""
    input: int = 0
    unsaid: int = 0
    """What a silent provider may count on top: nobody else keeps it, as it mostly does not."""

    @property
    def own(self) -> Demand:
        """What it needs itself."""
        return replace(self.demand, likely=self.demand.likely + self.unsaid)


_GRAPHS: Final[OrderedDict[str, Coming]] = OrderedDict()
"""Who can come in the latest graph under a plan, by the plan's fingerprint."""
_KEPT_GRAPHS: Final = 1_000


def note_graph(plan: str, coming: Coming) -> None:
    """Take note of who can come in a graph, before any run of it."""
    _GRAPHS[plan] = coming
    _GRAPHS.move_to_end(plan)
    while len(_GRAPHS) > _KEPT_GRAPHS:
        _GRAPHS.popitem(last=False)


def noted_graph(plan: str) -> Coming | None:
    """Return who can come in the latest graph under a plan."""
    return _GRAPHS.get(plan)


def _alone(method: _Method) -> _Method:
    """Let one thread at a time do this; the garbage collector may end a call in the midst of it."""

    @wraps(method)
    def locked(self: Outlook, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked  # type: ignore[return-value]


class Outlook:
    """Who is still to come in one run, and what they will need.

    Args:
        weights: Of the agents that the plan names.
        promised: Their shares: what their users expect them to need.
        prior: Says who can come before any node of a graph was seen.
        most_calls: Says how often an agent has called in earlier runs, at most.
        needs: Forecasts what an agent still needs, from what it has spent in this run.
        of_whole_runs: Whether *weights* are for all calls of a run, not for one each.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        promised: Mapping[str, int],
        prior: Callable[[], Coming | None] = lambda: None,
        most_calls: Callable[[str], int | None] = lambda agent: None,
        needs: Callable[[str, int], Need | None] = lambda agent, spent: None,
        *,
        of_whole_runs: bool = False,
    ) -> None:
        self._promised = promised
        self._prior = prior
        self._most_calls = most_calls
        self._needs = needs
        self._of_whole_runs = of_whole_runs
        self._weights = dict(weights)
        mean = sum(weights.values()) / len(weights) if weights else 1.0
        self._weight = mean
        """Of agents that the plan does not name."""
        self._coming: dict[Hashable, Coming] = {}
        self._now: dict[Hashable, dict[str, float]] = {}
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)
        self._asking: dict[UUID, _Request] = {}
        self._returning: dict[UUID, int] = {}
        """What calls under way hold beyond what they will likely use."""
        self._is_later = False
        """Whether somebody had answered when the step began that is under way."""
        self._announced = 0
        self._outputs: list[int] = []
        self._told: deque[int] = deque(maxlen=_LATEST)
        """What answers of known lengths will hardly exceed."""
        self._lock = threading.RLock()

    # What is heard of a run

    @_alone
    def foresee(self, where: Hashable, coming: Coming) -> None:
        """Take note of who can come in a graph, as a step of it begins."""
        if where is not None:
            self._coming.pop(None, None)
            self._now.pop(None, None)
        self._is_later = bool(self._outputs)
        self._coming[where] = coming
        self._now[where] = dict(coming.now)

    @_alone
    def begin(self, agent: str) -> None:
        """Take note that a node of *agent* begins."""
        seen = self._seen[agent]
        seen.open += 1
        seen.silent += 1

    @_alone
    def end(self, agent: str) -> None:
        """Take note that a node of *agent* has ended."""
        seen = self._seen[agent]
        seen.open = max(0, seen.open - 1)
        if seen.silent > seen.open:
            seen.silent -= 1
            seen.is_quiet = not seen.calls
            self._came(agent)

    @contextmanager
    def announced(
        self, agent: str, needs: RequestBudget, run_id: UUID, place: str | None = None
    ) -> Iterator[_Request]:
        """While a request is to be made to fit: it counts for the others.

        Args:
            agent: Who asks.
            needs: What the request needs as it is.
            run_id: Of the request: one that is announced already stays so.
            place: The execution of a node that makes it.
        """
        if needs.is_known:
            self._told.append(needs.usual_output)
        answer = max(self._answer(), needs.least_output, needs.expected_output)
        likely = needs.input + answer
        demand = Demand(needs.shortest, max(likely, needs.shortest))
        with self._lock:
            request = self._asking.get(run_id)
            is_new = request is None
            if request is None:
                request = _Request(
                    agent, demand, needs.last_answer > 0, place, needs.input, needs.unsaid_input
                )
                self._announced += 1
                self._asked(request)
                self._asking[run_id] = request
        try:
            yield request
        finally:
            if is_new:
                self._asking.pop(run_id, None)

    @contextmanager
    def asking(
        self, agent: str, needs: RequestBudget, run_id: UUID
    ) -> Iterator[Callable[[], Demands]]:
        """While a request is made to fit, yield what returns the demands beside it, at any time.

        What it was granted then is held, so that it counts no more.
        """
        with self.announced(agent, needs, run_id) as request:
            try:
                yield partial(self._demands, request)
            except TakesTimeError:
                raise
            except BaseException:
                self._asking.pop(run_id, None)
                raise
            self._asking.pop(run_id, None)

    @contextmanager
    def holding(self, run_id: UUID, spare: int) -> Iterator[Callable[[int], None]]:
        """While a request reserves as much as *spare* beyond its likely use: it will come back.

        Yields what is to be told, when it is granted, how much that is.
        """
        self._returning[run_id] = max(spare, 0)
        is_granted = False

        def granted(spare: int) -> None:
            nonlocal is_granted
            is_granted = True
            self._asking.pop(run_id, None)
            self._returning[run_id] = max(spare, 0)

        try:
            yield granted
        finally:
            if not is_granted:
                self._returning.pop(run_id, None)

    def ended(self, run_id: UUID) -> None:
        """Take note that a call has ended, however it has."""
        self._returning.pop(run_id, None)

    def is_announced(self, run_id: UUID) -> bool:
        """Whether a request is being made to fit."""
        return run_id in self._asking

    def announced_so_far(self) -> int:
        """Return how many requests there were."""
        return self._announced

    def _asked(self, request: _Request) -> None:
        prior = None if self._coming else self._prior()
        if prior is not None and prior.knows(request.agent):  # else it is made outside of the graph
            self.foresee(None, prior)
        seen, demand = self._seen[request.agent], request.demand
        width = 1
        if request.place is not None:
            width += sum(other.place == request.place for other in self._asking.values())
        if not seen.calls:
            seen.reads = self._is_later
        seen.calls += 1
        seen.width = max(seen.width, width)
        seen.loops = request.loops
        seen.is_quiet = False
        seen.owed = NO_DEMAND
        seen.latest, seen.asked = demand, request.input
        seen.shortest = min(seen.shortest or demand.least, demand.least)
        if width == 1:  # else its node was counted with the first of them
            seen.silent = max(0, seen.silent - 1)
            self._came(request.agent)

    @_alone
    def answered(
        self,
        agent: str,
        usage: Usage,
        owed: Demand = NO_DEMAND,
        *,
        shortened: bool = False,
        cut: bool = False,
    ) -> None:
        """Take note of an answer.

        Args:
            agent: Whose it is.
            usage: What it took.
            owed: What the agent still needs because it has called tools.
            shortened: Whether the request was made smaller: it would have read more.
            cut: Whether the answer was, or might have been longer.
        """
        seen = self._seen[agent]
        seen.owed = owed
        seen.spent += usage.total_tokens
        seen.needed += usage.output_tokens
        seen.needed += max(usage.input_tokens, seen.asked if shortened else 0)
        seen.is_cut |= cut
        if not owed.likely:  # an answer, and no call of tools
            self._outputs.append(usage.output_tokens)
            seen.longest = max(seen.longest, usage.output_tokens)
            seen.answers += 1
            seen.written += usage.output_tokens

    @_alone
    def refused(self, agent: str) -> None:
        """Take note that a call of *agent* was not made, though it was needed."""
        self._seen[agent].is_cut = True

    def spent(self, agent: str) -> int:
        """Return what an agent's answers have taken in this run."""
        return self._seen[agent].spent if agent in self._seen else 0

    @_alone
    def needed(self) -> dict[str, int]:
        """Return what everybody has used, with what was left out of requests."""
        return {name: seen.needed for name, seen in self._seen.items() if seen.needed}

    @_alone
    def cut(self) -> frozenset[str]:
        """Return who would have needed more than that, nobody knows how much."""
        return frozenset(name for name, seen in self._seen.items() if seen.is_cut)

    def usual_answer(self, agent: str) -> int | None:
        """Return what an answer of *agent* hardly exceeds, by the few that this run has seen.

        By its own, if it has given any; ``None``: nobody knows.
        """
        longest = self._seen[agent].longest if agent in self._seen else 0
        if not longest and len(self._outputs) >= _FEW:
            longest = max(self._outputs[-_LATEST:])
        return round(_LONGER * longest) or None

    @_alone
    def expected_answer(self, agent: str) -> int:
        """Return what an answer of *agent* takes as a rule, by those that this run has seen.

        By its own, if it has given any; else by all, beside a typical one.
        """
        seen = self._seen.get(agent)
        if seen is not None and seen.answers:
            return seen.written // seen.answers
        latest = self._outputs[-_LATEST:]
        return (_TYPICAL_ANSWER + sum(latest)) // (1 + len(latest))

    @_alone
    def calls(self) -> dict[str, int]:
        """Return how often everybody has called so far; 0 for those that ran and did not call."""
        return {n: seen.calls for n, seen in self._seen.items() if seen.calls or seen.is_quiet}

    def _came(self, agent: str) -> None:
        for now in self._now.values():
            if now.get(agent, 0) > 0:
                now[agent] -= 1
                return

    # What is to come

    @_alone
    def _demands(self, request: _Request) -> Demands:
        agent, typical = request.agent, self._typical()
        coming = {name: self._demand(name, typical) for name in self._names()}
        before, is_before = 0, True
        for other in list(self._asking.values()):
            is_before &= other is not request
            if other is not request:
                coming[other.agent] = coming.get(other.agent, NO_DEMAND) + other.demand
                before += other.demand.least * (is_before and other.agent == agent)
        later = coming.pop(agent, NO_DEMAND)
        if request.loops:
            later = Demand(later.least, later.least)
        others = {name: demand for name, demand in coming.items() if demand.likely}
        asking = Counter(other.agent for other in list(self._asking.values()))
        weights = {
            name: self._weights.get(name, self._weight)
            * (self._chance_to_call(name) or 1)
            * (1 if self._of_whole_runs else max(1, self._times(name) + asking[name]))
            for name in (agent, *others)
        }
        return Demands(
            request.own,
            later,
            others,
            weights,
            foreseen=bool(self._coming),
            before=before,
            beside=self._beside(request),
            returning=sum(list(self._returning.values())),
        )

    def _beside(self, request: _Request) -> int:
        """Return how many other calls may be under way together with this one."""
        now = sum(
            times * self._seen[name].width * self._chance_to_call(name)
            for counts in self._now.values()
            for name, times in counts.items()
        )
        others = [other for other in list(self._asking.values()) if other is not request]
        # Where a node makes calls side by side, nobody knows how many: as many again may follow.
        asking = len(others) + sum(other.place == request.place is not None for other in others)
        owed = [name for name, seen in self._seen.items() if seen.owed.likely > 0]
        return math.ceil(now) + asking + sum(name != request.agent for name in owed)

    def _names(self) -> set[str]:
        """Return everybody who may still come."""
        names = {name for name, seen in self._seen.items() if seen.owed.likely}
        if not self._coming:  # no graph is known: everybody in the plan comes once
            return names | {name for name in self._weights if not self._seen[name].calls}
        for where, coming in self._coming.items():
            names |= {name for name, times in self._now[where].items() if times > 0}
            names |= {*coming.surely, *coming.maybe}
        return names

    def _typical(self) -> _Typical:
        """Return what is to be expected of agents that were not seen."""
        known = [seen for seen in self._seen.values() if seen.calls]
        readers = [seen for seen in known if seen.reads]
        mean = _mean(seen.latest.likely for seen in readers or known)
        short = [seen.shortest for seen in known if seen.shortest]  # others cannot be short
        least = sum(short) // len(short) if short else 0
        reports: float = len(self._outputs) + len(self._asking)
        reports += sum(times for now in self._now.values() for times in now.values())
        later = {name for each in self._coming.values() for name in (*each.surely, *each.maybe)}
        reports += max(sum(not self._seen[name].calls for name in later) - 1, 0) / 2
        likely = max(least, round(_UNSEEN * mean))
        beside = least + round(_DOCUMENTS * mean)
        return _Typical(
            least, likely, min(reports, _MOST_REPORTS), beside, likely if readers else least
        )

    def _demand(self, name: str, typical: _Typical) -> Demand:
        """Return what an agent still needs."""
        seen = self._seen[name]
        if seen.is_quiet:
            return NO_DEMAND
        now = seen.width * sum(counts.get(name, 0) for counts in self._now.values())
        surely: float = sum(coming.surely.get(name, 0) for coming in self._coming.values())
        maybe = max((c.maybe.get(name, 0) for c in self._coming.values()), default=0)
        if not self._coming:
            surely = float(not seen.calls)
        hub = self._hub_of(name)
        if not seen.calls and hub is not None and self._seen[hub].loops:
            return seen.owed  # a node that runs the tools
        if seen.calls:
            one, later = seen.latest, seen.latest.likely
            again = round(_AGAIN * maybe * one.likely) if hub is None else 0
            again = max(again, one.likely * self._still_sent_for(name))
            rounds: float = max(1, _ROUNDS - seen.calls) if hub is None else 0.5
            rounds = max(rounds, self._still_sent_for(name))
            if seen.loops:  # what it still needs is owed to it
                again = 0
        else:  # who comes at the same time is taken to be alike
            one = Demand(typical.least, typical.likely)
            reads = max((c.after.get(name, 0) for c in self._coming.values()), default=0)
            reading = typical.reading(reads or typical.reports, self._answer())
            later = max(self._promised.get(name, 0), reading, typical.least)
            again = round(maybe * later)
            rounds = maybe if hub is None else 1
        most = self._most_calls(name)
        if most is not None:
            rounds = min(rounds, most - seen.calls - now - surely)
        least = round((now + surely) * one.least)
        hoped = 0
        if maybe and again and rounds > 0:
            again = max(again, round(min(rounds, 1) * one.least))
            if hub is None or self._seen[hub].calls:
                hoped = round(rounds * one.least)
        else:
            again = 0
        likely = round(now * one.likely + surely * later + again)
        need = self._needs(name, seen.spent)
        if need is not None:
            is_due = now + surely > 0 or not seen.calls
            likely = need.upper_tokens if is_due else min(likely, need.upper_tokens)
        likely = max(likely, least + hoped)
        chance = self._chance_to_call(name)
        if chance < 1:  # what may come shortens the others' answers, and refuses nobody
            least, hoped = 0, round(chance * (least + hoped))
            likely = hoped
        if seen.owed.likely:  # the call that is owed is one of those that are due
            due = min(now + surely, 1)
            least -= round(due * min(one.least, seen.owed.least))
            likely -= round(due * min(one.likely, seen.owed.likely))
        return Demand(max(least, 0), max(likely, 0), hoped) + seen.owed

    def _chance_to_call(self, name: str) -> float:
        """Return how likely an agent calls when it comes: known once it or an earlier run has."""
        most = self._most_calls(name)
        if self._seen[name].calls or most:
            return 1.0
        is_doubtful = any(name in coming.perhaps for coming in self._coming.values())
        if most is None:
            return _PERHAPS if is_doubtful else 1.0
        return 0.0 if is_doubtful else _PERHAPS

    def _times(self, name: str) -> float:
        """Return how many calls of an agent are to be expected: each counts for itself."""
        now = sum(counts.get(name, 0) for counts in self._now.values())
        surely = sum(coming.surely.get(name, 0) for coming in self._coming.values())
        maybe = any(coming.maybe.get(name, 0) for coming in self._coming.values())
        return now + surely + maybe

    def _hub_of(self, name: str) -> str | None:
        """Return who sends for an agent that comes only then; ``None``: nobody."""
        hubs = (coming.sent_by.get(name) for coming in self._coming.values())
        return next((hub for hub in hubs if hub is not None), None)

    def _still_sent_for(self, name: str) -> int:
        """Return how many agents have not come yet that *name* sends for."""
        return sum(
            by == name and not self._seen[sent].calls
            for coming in self._coming.values()
            for sent, by in coming.sent_by.items()
        )

    def _answer(self) -> int:
        """Return the tokens of an answer, by those of this run."""
        if not self._outputs:
            return round(EXPECTED * _mean(self._told)) if self._told else _TYPICAL_ANSWER
        latest = self._outputs[-_LATEST:]
        return sum(latest) // len(latest)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
