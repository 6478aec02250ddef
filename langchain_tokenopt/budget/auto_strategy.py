"""The strategy ``"auto"``: whichever would have done best in earlier runs.

A backtest divides the total of each earlier run as each strategy would have done then, from what it
knew before that run; what an agent did not need flows on to the others, as it does in a run. An
agent that would have got less than it has used loses quality: by the slope of its quality against
the logarithm of tokens (``performance.py``), which verdicts tell, or what is believed of it before
there are any, and never more than all. Losses count by priority.

A run that fits into the total may have been made to fit by it: what its agents have used is then no
more than a lower bound of what they needed. As soon as enough runs are known that did not fit,
these alone are divided again, and some older ones are kept for that. An agent that is known to have
been cut counts as it is expected to have needed, given that it needed more than it has used.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median, stdev
from threading import Lock
from typing import Final, NamedTuple, Self

from langchain_tokenopt.budget.allocation import Claim, Equal, Priority, allocate
from langchain_tokenopt.budget.forecast_need import (
    ForecastNeed,
    History,
    Need,
    PastRun,
    need_weights,
    runs_of,
)
from langchain_tokenopt.budget.performance import UNKNOWN, Performance, Returns
from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.forecast import CUT_FACTOR

__all__ = ["DEFAULT", "Auto", "Choice"]

DEFAULT: Final = "priority"
"""What a plan follows unless it says otherwise."""
_ENOUGH_RUNS: Final = 8
"""Runs that a choice needs: fewer favour whoever was lucky."""
_KEPT_RUNS: Final = 40
_KEPT_LARGER: Final = 20
"""Older runs above the total that are kept: those since may have been cut."""
_FEWEST_LARGER: Final = 12
"""Runs above the total from which on these alone count: the first three only teach needs."""
_USED_UP: Final = 0.7
"""Part of the total from which on a run may have been cut, though what is left flows on: some is
kept to the end for who may still come."""
_OTHERS_RUNS: Final = 4
"""Runs of each other user that count while a user has too few of his own."""
_KEPT_USERS: Final = 1_000
_SURE: Final = 0.5
"""Standard errors by which a strategy must be better than the default."""


class Choice(NamedTuple):
    """Which strategy was picked, and why."""

    strategy: str
    runs: int
    """That were divided again."""
    kept: Mapping[str, float]
    """By strategy: what part of their quality these runs would have kept, from 0 to 1."""

    @property
    def gain(self) -> float:
        """How much more of it than with the default; 0.03 is three hundredths."""
        return self.kept.get(self.strategy, 0.0) - self.kept.get(DEFAULT, 0.0)


class _RunsOfUser:
    """The latest runs of a user, with their numbers, and older ones that exceed the total."""

    def __init__(self) -> None:
        self._latest: deque[tuple[int, PastRun]] = deque()
        self._larger: deque[tuple[int, PastRun]] = deque(maxlen=_KEPT_LARGER)

    def add(self, number: int, run: PastRun, total: int | None) -> None:
        self._latest.append((number, run))
        if len(self._latest) > _KEPT_RUNS:
            oldest = self._latest.popleft()
            if total is not None and _size(oldest[1]) > total:
                self._larger.append(oldest)

    def all(self) -> list[tuple[int, PastRun]]:
        """Return them, the oldest first."""
        return [*self._larger, *self._latest]


class _Past:
    """Earlier runs, the latest of each user; shared by all who ask for one."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str | None, _RunsOfUser] = OrderedDict()
        self._lock = Lock()
        self.count = 0

    def add(self, run: PastRun, total: int | None) -> None:
        with self._lock:
            self.count += 1
            self._runs.setdefault(run.user, _RunsOfUser()).add(self.count, run, total)
            self._runs.move_to_end(run.user)
            if len(self._runs) > _KEPT_USERS:
                self._runs.popitem(last=False)

    def forget(self, user: str | None) -> None:
        with self._lock:
            self._runs.pop(user, None)
            self.count += 1

    def of(self, user: str | None) -> list[tuple[int, PastRun]]:
        """Return the runs by which those of *user* are judged, with their numbers, in order.

        The first may be such as are kept because they exceed the total.
        """
        with self._lock:
            own = self._runs[user].all() if user in self._runs else []
            if len(own) >= _ENOUGH_RUNS:
                return own
            others = [
                run
                for other, runs in self._runs.items()
                if other != user
                for run in (runs.all() if other is None else runs.all()[-_OTHERS_RUNS:])
            ]
        latest = sorted([*own, *others], key=lambda numbered: numbered[0])
        return latest[-_KEPT_RUNS - _KEPT_LARGER :]


class Auto:
    """Picks the strategy that would have done best in earlier runs: ``"auto"`` in a plan.

    It picks among priority, equal, proportional, forecast and performance.

    A backtest over earlier runs says which of them would have kept most of their quality, with the
    total of the plan. It is picked if it is better than ``"priority"`` by more than half a standard
    error; with fewer than eight runs nothing is picked, and a warning says so once. It is asked
    again as runs end.

    Runs of a user are judged by his own if there are eight. Before that the runs that are nobody's
    count, and four of each other user.

    Args:
        history: Of earlier runs: a ``Ledger``, records of calls, or what each agent used in each.
        performance: Learns from verdicts; by default it is one of its own, with none.
        total_tokens: What a run may spend; by default four fifths of what the middle one has spent.
        flows_on: Whether what an agent does not need is given to the others, as in ``plan.run``;
            else each has its share, and no more.
        user: Whose runs they are.

    Raises:
        ValueError: *total_tokens* is not above 0.
        TypeError: *history* is none.

    Example:
        >>> auto = Auto([{"news": 900, "judge": 90}] * 12)
        >>> auto.weights([Claim("news"), Claim("judge")])
        {'news': 900.0, 'judge': 90.0}
        >>> print(auto.explain())
        'forecast': it would have kept 5.2% more than 'priority', in 9 runs with 792 tokens each. \
Of their quality would have been kept: equal 88.5%, forecast 93.8%, priority 88.5%, \
proportional 93.8%.
    """

    def __init__(
        self,
        history: History = (),
        *,
        performance: Performance | None = None,
        total_tokens: int | None = None,
        flows_on: bool = False,
        user: str | None = None,
    ) -> None:
        if total_tokens is not None:
            check_whole("total_tokens", total_tokens)
        self.performance: Final = Performance(user=user) if performance is None else performance
        self.total_tokens: Final = total_tokens
        self.flows_on: Final = flows_on
        self.user: Final = user
        self._past = _Past()
        self._backtest: _Backtest | None = None
        self._said: set[str] = set()
        for run in runs_of(history):
            self._past.add(run, total_tokens)

    def for_user(
        self, user: str | None, *, total_tokens: int | None = None, flows_on: bool | None = None
    ) -> Self:
        """Return the same for runs of *user*; both learn from the same runs.

        Args:
            user: Whose runs they are.
            total_tokens: What a run may spend; by default what it is here.
            flows_on: As for the class; by default what it is here.
        """
        other = type(self)(
            performance=self.performance.for_user(user),
            total_tokens=total_tokens or self.total_tokens,
            flows_on=self.flows_on if flows_on is None else flows_on,
            user=user,
        )
        other._past, other._said = self._past, self._said
        return other

    def observe(
        self, tokens: Mapping[str, int], *, user: str | None = None, cut: Collection[str] = ()
    ) -> None:
        """Learn from one run what each agent has used; those in *cut* would have used more."""
        used = {agent: number for agent, number in tokens.items() if number > 0}
        self._past.add(PastRun(used, user, frozenset(cut)), self.total_tokens)

    def forget(self, user: str | None) -> None:
        """Forget all runs of a user; his verdicts are forgotten by ``performance.forget``."""
        self._past.forget(user)

    @property
    def of_whole_runs(self) -> bool:
        """Whether the latest weights are for all calls of a run, not for one each."""
        return self.choice in ("proportional", "forecast")

    def need(self, agent: str, spent: int = 0) -> Need | None:
        """Return what *agent* still needs in a run, as :meth:`ForecastNeed.need`."""
        return None if self._backtest is None else self._backtest.needs.need(agent, spent)

    @property
    def choice(self) -> str:
        """The strategy that is picked: for the claims that were divided last.

        Before any were, for the agents of the history, of equal priority.
        """
        return self._tested().choice().strategy

    def explain(self, claims: Sequence[Claim] = ()) -> str:
        """Say which strategy is picked, by how much it is better, and on how many runs.

        Args:
            claims: Of the agents that are to share; by default those of :attr:`choice`.
        """
        return self._tested(claims).explain()

    def _tested(self, claims: Sequence[Claim] = ()) -> _Backtest:
        if not claims:
            if self._backtest is not None:
                return self._backtest
            runs = self._past.of(self.user)
            claims = [Claim(name) for name in dict.fromkeys(a for _, r in runs for a in r.tokens)]
        return self._test(claims, self.performance.returns())

    def _test(self, claims: Sequence[Claim], returns: Mapping[str, Returns]) -> _Backtest:
        """Go on with the backtest, or begin one where agents, total or user are others."""
        runs = self._past.of(self.user)
        total = self.total_tokens or _usual_total(runs)
        larger = sum(_size(run) > total for _, run in runs)
        only_larger = self.total_tokens is not None and larger >= _FEWEST_LARGER
        if not only_larger:
            runs = runs[-_KEPT_RUNS:]
        test = self._backtest
        if test is None or not test.goes_on(claims, total, only_larger, runs):
            test = _Backtest(claims, total, self.user, self.flows_on, only_larger)
        test.replay(runs, returns)
        return test

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        """Return what the strategy gives that would have done best."""
        returns = self.performance.returns()
        test = self._backtest = self._test(claims, returns)
        picked = test.choice()
        if picked.runs < _ENOUGH_RUNS:
            self._say_unknown(picked.runs)
        return test.candidates(returns)[picked.strategy]

    def _say_unknown(self, runs: int) -> None:
        if "unknown" not in self._said:
            self._said.add("unknown")
            warnings.warn(
                f"The strategy 'auto' needs {_ENOUGH_RUNS} runs to choose by, and knows "
                f"{runs}: agents weigh by priority. Give plan.run(history=Ledger(...)), or the "
                f"same Auto() to each run.",
                TokenOptWarning,
                stacklevel=4,
            )


class _Backtest:
    """Earlier runs, divided again by each strategy."""

    def __init__(
        self,
        claims: Sequence[Claim],
        total: int,
        user: str | None,
        flows_on: bool,
        only_larger: bool,
    ) -> None:
        self._claims, self._total, self._flows_on = [*claims], total, flows_on
        self._only_larger = only_larger
        """Whether runs that may have been cut are left out."""
        self.needs = ForecastNeed(user=user)
        self._kept: deque[Mapping[str, float]] = deque(maxlen=_KEPT_RUNS)
        self._seen = 0

    def goes_on(
        self,
        claims: Sequence[Claim],
        total: int,
        only_larger: bool,
        runs: Sequence[tuple[int, PastRun]],
    ) -> bool:
        """Whether it can go on with these runs, where it has left off."""
        known = self._claims, self._total, self._only_larger
        same = known == ([*claims], total, only_larger)
        numbers = {number for number, _ in runs}
        return same and (not self._seen or self._seen in numbers)

    def replay(self, runs: Sequence[tuple[int, PastRun]], returns: Mapping[str, Returns]) -> None:
        """Divide the runs again that came since, each by what was known before it."""
        for number, run in runs:
            if number <= self._seen:
                continue
            self._seen = number
            whole = self._whole(run)
            size = _size(whole)
            fits = self._only_larger and size <= self._total
            if not fits:
                self._score(whole, returns)
            if run.cut or not fits or (self._flows_on and size < _USED_UP * self._total):
                self.needs.observe(run.tokens, user=run.user, cut=run.cut)

    def _whole(self, run: PastRun) -> PastRun:
        """Return a run as it is expected to have been, had nobody been cut."""
        tokens = dict(run.tokens)
        for agent in run.cut & tokens.keys():
            more = self.needs.need(agent, tokens[agent])
            guess = round((CUT_FACTOR - 1) * tokens[agent])
            tokens[agent] += guess if more is None else more.expected_tokens
        return replace(run, tokens=tokens)

    def candidates(self, returns: Mapping[str, Returns]) -> dict[str, Mapping[str, float]]:
        """Return the weights of each strategy that has any, by what is known now."""
        claims = self._claims
        found: dict[str, Mapping[str, float]] = {
            DEFAULT: Priority().weights(claims),
            "equal": Equal().weights(claims),
        }
        needs = self.needs.known_needs(claims)
        if needs is not None:
            expected = {a: n.expected_tokens for a, n in needs.items()}
            upper = {a: n.upper_tokens for a, n in needs.items()}
            found["proportional"] = need_weights(claims, needs, expected)
            found["forecast"] = need_weights(claims, needs, upper)
        by_return = Performance.known_weights(claims, returns)
        if by_return is not None:
            found["performance"] = by_return
        return found

    def _score(self, run: PastRun, returns: Mapping[str, Returns]) -> None:
        planned = {claim.agent for claim in self._claims}
        used = {agent: tokens for agent, tokens in run.tokens.items() if agent in planned}
        candidates = self.candidates(returns)
        if not used or "forecast" not in candidates:
            return
        total = max(self._total - sum(run.tokens.values()) + sum(used.values()), 1)
        there = [claim for claim in self._claims if claim.agent in used]
        divided = _given if self._flows_on else _shares
        self._kept.append(
            {
                name: _kept(divided(total, self._claims, weights, used), used, there, returns)
                for name, weights in candidates.items()
            }
        )

    def choice(self) -> Choice:
        """Return what is picked."""
        names = {name for kept in self._kept for name in kept}
        means = {
            name: fmean(kept.get(name, kept[DEFAULT]) for kept in self._kept) for name in names
        }
        picked = DEFAULT
        if len(self._kept) >= _ENOUGH_RUNS:
            best = max(sorted(means), key=lambda name: (means[name], name == DEFAULT))
            ahead = [kept.get(best, kept[DEFAULT]) - kept[DEFAULT] for kept in self._kept]
            if fmean(ahead) > _SURE * stdev(ahead) / math.sqrt(len(ahead)):
                picked = best
        return Choice(picked, len(self._kept), dict(sorted(means.items())))

    def explain(self) -> str:
        picked = self.choice()
        if picked.runs < _ENOUGH_RUNS:
            return (
                f"{DEFAULT!r}, the default: {counted(picked.runs, 'run')} could be divided again, "
                f"and a choice needs {_ENOUGH_RUNS}."
            )
        others = ", ".join(f"{name} {kept:.1%}" for name, kept in picked.kept.items())
        why = (
            f"it would have kept {picked.gain:.1%} more than {DEFAULT!r}"
            if picked.strategy != DEFAULT
            else "nothing else would surely have kept more"
        )
        return (
            f"{picked.strategy!r}: {why}, in {counted(picked.runs, 'run')} with {self._total:,} "
            f"tokens each. Of their quality would have been kept: {others}."
        )


def _shares(
    total: int, claims: Sequence[Claim], weights: Mapping[str, float], used: Mapping[str, int]
) -> dict[str, int]:
    """Divide a total as a plan does, whatever is used."""
    promised = {claim.agent: claim.tokens for claim in claims if claim.tokens is not None}
    open_claims = [claim for claim in claims if claim.tokens is None]
    floors = {claim.agent: claim.floor for claim in open_claims}
    rest = allocate(
        max(total - sum(promised.values()), sum(floors.values())),
        {claim.agent: weights[claim.agent] for claim in open_claims},
        floors=floors,
        caps={claim.agent: claim.cap for claim in open_claims},
    )
    return {**promised, **rest}


def _given(
    total: int, claims: Sequence[Claim], weights: Mapping[str, float], used: Mapping[str, int]
) -> dict[str, int]:
    """Divide a total as a run does: nobody takes more than it has used, others have the rest."""
    wanting = [
        replace(
            claim,
            tokens=None if claim.tokens is None else min(claim.tokens, used[claim.agent]),
            floor=min(claim.floor, used[claim.agent]),
            cap=min(used[claim.agent], used[claim.agent] if claim.cap is None else claim.cap),
        )
        for claim in claims
        if claim.agent in used
    ]
    return _shares(total, wanting, weights, used)


def _kept(
    shares: Mapping[str, int],
    used: Mapping[str, int],
    claims: Sequence[Claim],
    returns: Mapping[str, Returns],
) -> float:
    """Return what part of the quality of a run is kept with these shares."""
    whole = lost = 0.0
    for claim in claims:
        known, needed = returns.get(claim.agent, UNKNOWN), used[claim.agent]
        share = max(shares[claim.agent], 1)
        loss = known.slope * math.log(needed / share) if share < needed else 0.0
        whole += claim.priority * known.quality
        lost += claim.priority * min(loss, known.quality)
    return 1 - lost / whole if whole else 1.0


def _usual_total(runs: Sequence[tuple[int, PastRun]]) -> int:
    totals = [_size(run) for _, run in runs]
    return max(round(0.8 * median(totals)), 1) if totals else 1


def _size(run: PastRun) -> int:
    return sum(run.tokens.values())
