"""What agents are likely to need in a whole run, by what they have used in earlier ones.

Of each agent the totals of its latest runs are kept, calls times tokens. What it is likely to need
is a quantile of these, and what it *still* needs a quantile of those that were larger than what it
has spent so far: a run that has outspent its forecast is compared with its like.

What was used by an agent that was cut is less than it needed, nobody knows by how much: a censored
observation. Quantiles are therefore those of the product-limit estimator (Kaplan and Meier,
Nonparametric Estimation from Incomplete Observations, 1958, https://doi.org/10.2307/2281868), and
where they lie beyond all that is known, a guess: :data:`CUT_FACTOR` times the largest seen.

Users are kept apart. A user's own runs count one each; those of others count together as
:data:`_OTHERS` runs of a typical user: at each level the median of what each other user's runs
come to at that level, so that no one of them can move it beyond the rest. Each other user has one
vote on it, and so has each run that is nobody's. Where a user has runs enough of his own, fewer
than three votes count for nothing: one of them could decide.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import Any, Final, NamedTuple, Protocol, Self, runtime_checkable

from langchain_tokenopt.budget.allocation import Claim
from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.forecast import CUT_FACTOR

__all__ = [
    "CallHistory",
    "ForecastNeed",
    "History",
    "Need",
    "NeedForecast",
    "PastRun",
    "RunLearner",
    "calls_of",
    "runs_of",
]

_KEPT_RUNS: Final = 20
"""Of one user and agent: as many as show a 90 % quantile, and few enough to follow a shift."""
_ENOUGH_RUNS: Final = 3
"""From which on the need of an agent is known."""
_OTHERS: Final = 4.0
"""Runs that all other users together count as, beside a user's own."""
_FEWEST_VOTES: Final = 3
"""Below which one user decides what is typical."""
_KEPT_USERS: Final = 1_000
_KEPT_AGENTS: Final = 256
_MOST_CALLS: Final = 5_000
"""Calls that are read of a ledger, the latest: a run that begins must not wait for more."""


@runtime_checkable
class CallHistory(Protocol):
    """What keeps records of calls: a ``Ledger``."""

    def calls(self) -> Iterable[CallRecord]:
        """Return them."""
        ...


History = CallHistory | Iterable[CallRecord | Mapping[str, int]]
"""A ``Ledger``, records of calls, or what each agent has used in each run, the oldest first."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """What each agent has used in one run."""

    tokens: Mapping[str, int]
    user: str | None = None
    cut: frozenset[str] = field(default=frozenset(), repr=False)
    """Agents that would have used more."""


class _Used(NamedTuple):
    """What an agent has used in one run."""

    tokens: int
    is_cut: bool = False
    """Whether it would have used more."""


def runs_of(history: History) -> list[PastRun]:
    """Return the runs of a history, the oldest first; calls belong to one by their ``run``.

    Calls that were refused, have failed, or were answered from a cache say nothing of a need.

    Raises:
        TypeError: It is no history.

    Example:
        >>> runs_of([{"news": 300, "judge": 50}])
        [PastRun(tokens={'news': 300, 'judge': 50}, user=None)]
    """
    found: dict[Any, PastRun] = {}
    for number, each in enumerate(_entries(history)):
        if isinstance(each, CallRecord):
            if each.status == "ok" and not each.cached:
                place = each.run or each.run_id
                run = found.setdefault(place, PastRun({}, each.attribution.user))
                _add(run.tokens, each.agent, each.usage.total_tokens)
        elif isinstance(each, Mapping):
            found[number] = PastRun({str(n): _tokens(used) for n, used in each.items() if used})
        else:
            raise _no_history(each)
    return list(found.values())


def _tokens(used: object) -> int:
    if isinstance(used, bool) or not isinstance(used, int) or used < 0:
        raise _no_history(used)
    return used


def _no_history(found: object) -> TypeError:
    return TypeError(
        f"history is a Ledger, records of calls, or the tokens that each agent has used in each "
        f"run, such as [{{'news': 300, 'judge': 50}}]; it has {shown(found)}."
    )


def calls_of(history: History) -> list[CallRecord]:
    """Return the calls of a history; what each agent has used in a run is none."""
    return [each for each in _entries(history) if isinstance(each, CallRecord)]


def _add(tokens: Any, agent: str, more: int) -> None:
    tokens[agent] = tokens.get(agent, 0) + more


def _entries(history: Any) -> Iterator[Any]:
    if not isinstance(history, CallHistory):
        yield from history
    elif "newest_first" in inspect.signature(history.calls).parameters:
        latest: Any = history.calls
        found = [*islice(latest(newest_first=True), _MOST_CALLS)]
        if len(found) == _MOST_CALLS:  # of the oldest run some calls may be missing
            found = [call for call in found if call.run != found[-1].run]
        yield from reversed(found)
    else:
        yield from deque(history.calls(), maxlen=_MOST_CALLS)


@runtime_checkable
class RunLearner(Protocol):
    """A strategy that learns from each run as it ends."""

    def observe(
        self, tokens: Mapping[str, int], *, user: str | None = None, cut: Collection[str] = ()
    ) -> None:
        """Learn what each agent has used; those in *cut* would have used more."""
        ...


@dataclass(frozen=True, slots=True)
class Need:
    """Tokens that an agent is likely to need for the rest of a run."""

    expected_tokens: int
    """As many runs need less as need more."""
    upper_tokens: int
    """What most runs do not exceed: the quantile that was asked for."""
    runs: int
    """That it was learned from, other users' included."""
    is_guess: bool = field(default=False, repr=False)
    """Whether so few runs were whole that it lies beyond what is known."""


@runtime_checkable
class NeedForecast(Protocol):
    """A strategy that knows what agents need."""

    def need(self, agent: str, spent: int = 0) -> Need | None:
        """Return what *agent* still needs in a run in which it has spent so much."""
        ...


class ForecastNeed:
    """Agents weigh what they are likely to need in a whole run: ``"forecast"`` in a plan.

    The need of an agent is an upper quantile of what it has used in earlier runs. One of which
    fewer than three are known counts as the mean of the others; where nobody is known, agents
    weigh by priority, and a warning says so once. So they do while runs have cut somebody so often
    that only a lower bound of its need is known.

    As the strategy of a plan it learns from each of the plan's runs as it ends.

    Args:
        history: Of earlier runs: a ``Ledger``, records of calls, or what each agent used in each.
        quantile: Above 0 and below 1: which part of the runs needs no more.
        user: Whose need it is; what others have used counts as four runs of his at most, those
            of a typical user.

    Raises:
        ValueError: *quantile* is not above 0 and below 1.
        TypeError: *history* is none.

    Example:
        >>> needs = ForecastNeed([{"news": 900, "judge": 90}] * 5)
        >>> needs.weights([Claim("news"), Claim("judge")])
        {'news': 900.0, 'judge': 90.0}
        >>> needs.need("news", spent=200)
        Need(expected_tokens=700, upper_tokens=700, runs=5)
    """

    of_whole_runs: Final = True
    """Its weights are for all calls of a run, not for one each."""

    def __init__(
        self, history: History = (), *, quantile: float = 0.9, user: str | None = None
    ) -> None:
        if not 0 < quantile < 1:
            raise ValueError(f"quantile must be above 0 and below 1; got {quantile}.")
        self.quantile: Final = quantile
        self.user: Final = user
        self._past: OrderedDict[str | None, dict[str, deque[_Used]]] = OrderedDict()
        self._lock = Lock()
        self._said: set[str] = set()
        for run in runs_of(history):
            self.observe(run.tokens, user=run.user)

    def for_user(self, user: str | None) -> Self:
        """Return the same needs as *user* has them; both learn from the same runs."""
        other = type(self)(quantile=self.quantile, user=user)
        other._past, other._lock, other._said = self._past, self._lock, self._said
        return other

    def observe(
        self, tokens: Mapping[str, int], *, user: str | None = None, cut: Collection[str] = ()
    ) -> None:
        """Learn from one run what each agent has used; 0 teaches nothing.

        Args:
            tokens: What each agent has used.
            user: Whose run it was.
            cut: Agents that would have used more: what they have used is a lower bound.
        """
        with self._lock:
            past = self._past.setdefault(user, {})
            self._past.move_to_end(user)
            for agent, used in tokens.items():
                if used > 0 and (agent in past or len(past) < _KEPT_AGENTS):
                    past.setdefault(agent, deque(maxlen=_KEPT_RUNS)).append(
                        _Used(used, agent in cut)
                    )
            if len(self._past) > _KEPT_USERS:
                self._past.popitem(last=False)

    def forget(self, user: str | None) -> None:
        """Forget all runs of a user."""
        with self._lock:
            self._past.pop(user, None)

    def need(self, agent: str, spent: int = 0) -> Need | None:
        """Return what *agent* still needs in a run in which it has spent so much.

        Returns:
            ``None`` when fewer than three runs are known, or none that has spent more.
        """
        weighted, runs = self._weighted(agent)
        if runs < _ENOUGH_RUNS:
            return None
        longer = [each for each in weighted if each[0].tokens > spent]
        if not longer:
            return None
        expected, upper = (_product_limit(longer, share) for share in (0.5, self.quantile))
        return Need(expected.tokens - spent, upper.tokens - spent, runs, upper.is_cut)

    def _weighted(self, agent: str) -> tuple[list[tuple[_Used, float]], int]:
        """Return the totals of an agent's runs, with what each counts; and how many these are."""
        with self._lock:
            by_user = {user: [*past[agent]] for user, past in self._past.items() if agent in past}
        own = by_user.pop(self.user, [])
        weighted = [(used, 1.0) for used in own]
        votes = sum(len(runs) if user is None else 1 for user, runs in by_user.items())
        if not votes or (votes < _FEWEST_VOTES and len(own) >= _ENOUGH_RUNS):
            return weighted, len(own)
        others = sum(map(len, by_user.values()))
        each = min(_OTHERS, others) / _KEPT_RUNS
        weighted += [(used, each) for used in _typical(by_user)]
        return weighted, len(own) + others

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        """Return the upper need of each agent, or priorities where nobody's need is known."""
        known = self.known_needs(claims)
        if known is None:
            self._say_unknown()
            return {claim.agent: claim.priority for claim in claims}
        upper = {agent: need.upper_tokens for agent, need in known.items()}
        return need_weights(claims, known, upper)

    def known_needs(self, claims: Sequence[Claim]) -> Mapping[str, Need] | None:
        """Return the need of each agent, or ``None`` where nobody's is known."""
        known = {claim.agent: self.need(claim.agent) for claim in claims}
        sure = [need for need in known.values() if need is not None]
        if not sure:
            return None
        expected = round(sum(need.expected_tokens for need in sure) / len(sure))
        upper = round(sum(need.upper_tokens for need in sure) / len(sure))
        mean = Need(expected, upper, 0)
        return {agent: need or mean for agent, need in known.items()}

    def _say_unknown(self) -> None:
        if "unknown" not in self._said:
            self._said.add("unknown")
            warnings.warn(
                f"The strategy 'forecast' knows {counted(_ENOUGH_RUNS, 'run')} or more of no agent "
                f"of the plan: agents weigh by priority. Give plan.run(history=Ledger(...)), or "
                f"the same ForecastNeed() to each run.",
                TokenOptWarning,
                stacklevel=4,
            )

    def explain(self) -> str:
        """Say what each agent is likely to need, a line each."""
        with self._lock:
            agents = sorted({agent for past in self._past.values() for agent in past})
        needs = {agent: self.need(agent) for agent in agents}
        return "\n".join(
            f"{agent}: usually {need.expected_tokens:,} tokens a run, {need.upper_tokens:,} in "
            f"{1 - self.quantile:.0%} or less ({counted(need.runs, 'run')})."
            for agent, need in needs.items()
            if need is not None
        )


def need_weights(
    claims: Sequence[Claim], needs: Mapping[str, Need], tokens: Mapping[str, int]
) -> Mapping[str, float]:
    """Return *tokens*, the needs, as weights; or priorities where the need of one is a guess.

    A guess grows with what its agent was given: weighing so much, who has much would keep it. With
    the weights of priorities, and no more for anybody than a run expects it to need, those who
    need little are whole.

    Example:
        >>> known, guess = Need(300, 300, 5), Need(900, 900, 5, is_guess=True)
        >>> claims, needs = [Claim("typist"), Claim("poet")], {"typist": known, "poet": guess}
        >>> need_weights(claims, needs, {"typist": 300, "poet": 900})
        {'typist': 1.0, 'poet': 1.0}
    """
    if any(need.is_guess for need in needs.values()):
        return {claim.agent: claim.priority for claim in claims}
    return {agent: float(need) for agent, need in tokens.items()}


def _typical(by_user: Mapping[str | None, Sequence[_Used]]) -> list[_Used]:
    """Return as many runs as are kept of a user: those of a user in the middle.

    Example:
        >>> _typical({"ann": [_Used(100)], "bob": [_Used(110)], "odd": [_Used(90_000)] * 2})[0]
        _Used(tokens=110, is_cut=False)
    """
    voters = [(sorted(r), len(r) if user is None else 1) for user, r in by_user.items()]
    levels = [(number + 0.5) / _KEPT_RUNS for number in range(_KEPT_RUNS)]
    return [
        _quantile([(runs[int(level * len(runs))], votes) for runs, votes in voters], 0.5)
        for level in levels
    ]


def _product_limit(weighted: Sequence[tuple[_Used, float]], share: float) -> _Used:
    """Return the least need that *share* of all weight does not exceed, by Kaplan and Meier.

    Example:
        >>> whole, cut = [(_Used(n), 1.0) for n in (10, 30)], [(_Used(20, is_cut=True), 1.0)]
        >>> _product_limit(whole + cut, 0.5), _product_limit(cut, 0.5)
        (_Used(tokens=30, is_cut=False), _Used(tokens=30, is_cut=True))
    """
    at_risk, beyond = math.fsum(weight for _, weight in weighted), 1.0
    for used, weight in sorted(weighted):  # of equals, those that are whole come first
        if not used.is_cut:
            beyond *= max(1 - weight / at_risk, 0.0)
            if beyond <= 1 - share * (1 - 1e-12):
                return used
        at_risk = max(at_risk - weight, weight)  # sums of floats may miss
    largest = max(weighted)[0]
    return largest._replace(tokens=math.ceil(CUT_FACTOR * largest.tokens), is_cut=True)


def _quantile(weighted: Sequence[tuple[_Used, float]], share: float) -> _Used:
    """Return the least that *share* of all weight does not exceed."""
    ordered = sorted(weighted)
    bound = share * math.fsum(weight for _, weight in ordered) * (1 - 1e-12)
    passed = 0.0
    for value, weight in ordered:
        passed += weight
        if passed >= bound:
            return value
    return ordered[-1][0]
