"""Where more tokens buy more quality, by verdicts on what agents have answered.

What counts is not how good an agent is, nor how good it is for its tokens, but what *more* tokens
would add: where quality is high anyway they add nothing. Quality is taken to follow the logarithm
of tokens near what an agent uses now. The slope of that line is what its tokens times its marginal
return come to; and shares at which that ratio is the same for all cannot be bettered by moving a
token (the condition of Karush, Kuhn and Tucker for the sum of qualities under a total). So that
slope is an agent's weight: shares move towards that point from run to run, as in the algorithm of
T. M. Cover, "An algorithm for maximizing expected log investment return", IEEE Transactions on
Information Theory 30(2), 1984.

The slope is that of a ridge regression, which is the mean of a normal posterior (A. E. Hoerl and
R. W. Kennard, "Ridge regression", Technometrics 12(1), 1970): evidence moves it away from what is
believed before. Believed is that slopes follow quality, ``0.4 q (1 - q / 2)``: half-way between a
constant elasticity (a slope of ``b q``) and a dose-response curve that ends at a quality of 1 (a
slope of ``k q (1 - q)``; A. V. Hill, 1910); and what was learned of other users, each of whom has
one vote beside four for that.

Where nobody says what was wanted, tokens follow the task, and of an agent that is held to a share
only easy tasks, which take few, end well: quality seems to fall with tokens where more of them are
needed most. Such verdicts may raise a slope, since that bias is downwards, but never lower it. And
as far as tokens vary, quality and tokens are those of the tasks, and say nothing of the agent:
agents then weigh the same, but for those that lack too little for more tokens to add much.
Constants were chosen on the families ``FITTED`` of ``tests/benchmarks/learn_strategies.py``, and
its results are about those of ``JUDGED``; those for verdicts without ``wanted`` on teams of two to
four with such shapes, a staircase among them.
"""

from __future__ import annotations

import math
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, Final, NamedTuple, Self

from langchain_tokenopt.budget.allocation import Claim
from langchain_tokenopt.core.argument_checks import check_whole, is_number, names_what, shown
from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore, user_key

__all__ = ["UNKNOWN", "Performance", "Returns"]

_KIND: Final = "performance"
_FADE: Final = 0.95
"""What is left of the evidence at each new verdict: the latest twenty count."""
_MOST_VERDICTS: Final = 1 / (1 - _FADE)
"""What all that count come to."""
_LONGEST: Final = 50.0
"""Of a logarithm of tokens."""
_RIDGE: Final = 1.0
"""Variance of a verdict beside that of slopes: both have a standard deviation of about 0.15."""
_CONFOUNDED: Final = 0.3
"""What evidence counts where nobody knows what was wanted: tokens follow the task, too."""
_MISSING: Final = 2.0
"""Part of what a quality lacks that e times the tokens may add at most."""
_STEADY: Final = 0.2
"""Spread of all that counts, as a sum of squares, at which half of what an agent has used is put
down to its tasks, where nobody knows what was wanted; a deviation of a tenth."""
_SLOPE: Final = 0.4
_QUALITY: Final = 0.6
"""Of an answer that nobody has judged."""
_FEW: Final = 3.0
"""Verdicts that a prior quality counts as."""
_PRIOR_VOTES: Final = 4.0
_FEWEST: Final = 5.0
"""Verdicts below which priorities alone count."""
_MOST_RATIO: Final = 3.0
"""How much more, or less, than the mean a return may count: nobody starves."""
_DEAR: Final = 0.1
"""How far agents that need many tokens are put behind, as a power of these."""
_STEPS: Final = 30
"""In which evidence fades within its half-life: in between, weights stay what they are."""
_MONTH: Final = 30 * 86_400.0


class Returns(NamedTuple):
    """What is known of one agent."""

    verdicts: float
    """How many there were; older ones count less."""
    quality: float
    """From 0 to 1; shrunk towards the mean of all agents."""
    slope: float
    """What e times (2.7 times) the tokens would add to its quality."""
    log_tokens: float
    """Mean of the natural logarithm of tokens."""
    own_part: float = 1.0
    """What part of its quality and its tokens is put down to the agent, not to its tasks."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over verdicts: x is a logarithm of tokens, y is quality."""

    n: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    @classmethod
    def read(cls, value: object) -> _Sums:
        """Read stored sums; blank for what this release does not write."""
        if not isinstance(value, list) or len(value) != len(fields(cls)):
            return cls()
        if not all(is_number(each) and math.isfinite(each) for each in value):
            return cls()
        found = cls(*map(float, value))
        is_true = 0 < found.n <= _MOST_VERDICTS + 1 and 0 <= found.y <= found.n + 1e-9
        return found if is_true and abs(found.x) <= _LONGEST * found.n else cls()

    def scaled(self, part: float) -> _Sums:
        return _Sums(*(part * getattr(self, each.name) for each in fields(self)))

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, e.name) + getattr(other, e.name) for e in fields(self)))

    @property
    def spread(self) -> float:
        """Sum of squares of x about its mean."""
        return max(self.xx - self.x * self.x / self.n, 0.0) if self.n else 0.0

    @property
    def together(self) -> float:
        """Sum of products of x and y about their means."""
        return self.xy - self.x * self.y / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """What was said of one agent of one user."""

    absolute: _Sums = _Sums()
    """Where x is the logarithm of the tokens."""
    relative: _Sums = _Sums()
    """Where x is that of their part of what the agent wanted."""
    log_tokens: float = 0.0
    """Mean of the logarithm of tokens."""
    at: float = 0.0

    @classmethod
    def read(cls, value: object) -> _Verdicts:
        """Read a stored value; blank for what this release does not write."""
        if not isinstance(value, dict) or value.keys() != {"absolute", "relative", "tokens", "at"}:
            return cls()
        level, at = value["tokens"], value["at"]
        if not all(is_number(each) and math.isfinite(each) for each in (level, at)):
            return cls()
        level = min(max(level, 0.0), _LONGEST)
        return cls(_Sums.read(value["absolute"]), _Sums.read(value["relative"]), level, at)

    def stored(self) -> dict[str, Any]:
        return {
            "absolute": [*astuple(self.absolute)],
            "relative": [*astuple(self.relative)],
            "tokens": self.log_tokens,
            "at": self.at,
        }

    def faded(self, now: float, half_life_seconds: float) -> _Verdicts:
        """Return what is left of them. A clock that was set back counts as no time at all."""
        steps = max(now - self.at, 0.0) // (half_life_seconds / _STEPS)
        left = 0.5 ** (steps / _STEPS)
        return replace(
            self, absolute=self.absolute.scaled(left), relative=self.relative.scaled(left)
        )

    def with_verdict(self, tokens: int, wanted: int | None, y: float, now: float) -> _Verdicts:
        x = math.log(tokens) if wanted is None else math.log(min(tokens / wanted, 1.0))
        one = _Sums(1.0, x, y, x * x, x * y)
        absolute, relative = self.absolute.scaled(_FADE), self.relative.scaled(_FADE)
        n = absolute.n + relative.n
        level = (n * self.log_tokens + math.log(tokens)) / (n + 1)
        if wanted is None:
            return _Verdicts(absolute + one, relative, level, now)
        return _Verdicts(absolute, relative + one, level, now)

    @property
    def n(self) -> float:
        """How many there are."""
        return self.absolute.n + self.relative.n

    @property
    def y(self) -> float:
        """Sum of their qualities."""
        return self.absolute.y + self.relative.y


class Performance:
    """Agents weigh what more tokens would add to their quality: ``"performance"`` in a plan.

    It learns from verdicts on answers, of a ``QualityGuard``, of users (``run.rate``), or any
    other. An agent whose quality rises with its tokens gets more of them, one whose quality does
    not rise gets less, but nobody's return counts for less than a third of the mean of all, or more
    than three times that. A plan's priorities say what quality is worth, and multiply it.
    Until there are five verdicts they count alone, and a warning says so once.

    Verdicts fade, with later ones and with time. Users are kept apart: to others all verdicts of a
    user are one vote on what is believed before there is evidence.

    Args:
        store: Keeps what was learned, for all processes; by default it is kept in memory.
        namespace: Application, in the store.
        user: Whose agents weigh; ``None``: of nobody in particular.
        half_life_seconds: After which time a verdict counts half.
        clock: Seconds since 1970.

    Raises:
        ValueError: *half_life_seconds* is not above 0.

    Example:
        >>> performance = Performance()
        >>> for tokens in (500, 1_000, 2_000) * 5:
        ...     performance.record("writer", quality=min(tokens / 2_000, 1.0), tokens=tokens)
        ...     performance.record("clerk", quality=0.9, tokens=tokens)
        >>> weights = performance.weights([Claim("writer"), Claim("clerk")])
        >>> weights["writer"] > 1 > weights["clerk"]
        True
    """

    def __init__(
        self,
        store: LearnedStore | None = None,
        *,
        namespace: str = "",
        user: str | None = None,
        half_life_seconds: float = _MONTH,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < half_life_seconds < math.inf:
            raise ValueError(
                f"half_life_seconds must be a number above 0; got {half_life_seconds}."
            )
        self.store: Final = LearnedStore() if store is None else store
        self.namespace: Final = namespace
        self.user: Final = user
        self._half_life = half_life_seconds
        self._clock = clock
        self._said: set[str] = set()

    def for_user(self, user: str | None) -> Self:
        """Return the same, for the agents of *user*; both learn into the same store."""
        other = type(self)(
            self.store,
            namespace=self.namespace,
            user=user,
            half_life_seconds=self._half_life,
            clock=self._clock,
        )
        other._said = self._said
        return other

    def record(
        self,
        agent: str,
        quality: float,
        tokens: int,
        *,
        wanted: int | None = None,
        user: str | None = None,
    ) -> None:
        """Learn from one verdict.

        Args:
            agent: Who has answered.
            quality: From 0 to 1, as judges say.
            tokens: What the answer took, input and output: of a call, or of a whole run, the same
                each time.
            wanted: What it would have taken had nothing been made smaller, where that is known:
                then no hard task, which takes many tokens and ends badly, can be mistaken for
                tokens that do harm.
            user: Whose agents they are; by default whose this is.

        Raises:
            ValueError: *quality* is not from 0 to 1, or *tokens* is not above 0.
        """
        if not is_number(quality) or not 0 <= quality <= 1:
            raise ValueError(
                f"quality must be a number from 0 to 1; got {shown(quality)}. Divide marks by the "
                f"best one."
            )
        check_whole("tokens", tokens)
        if wanted is not None:
            check_whole("wanted", wanted)
        now = self._clock()

        def learn(value: object) -> dict[str, Any]:
            known = _Verdicts.read(value).faded(now, self._half_life)
            return known.with_verdict(tokens, wanted, float(quality), now).stored()

        self.store.update(self._key(agent, self.user if user is None else user), learn)

    def _key(self, agent: str, user: str | None) -> LearnedKey:
        return LearnedKey(_KIND, self.namespace, user, agent)

    @names_what("store.clear()")
    def forget(self, user: str) -> int:
        """Forget all verdicts of a user; return of how many agents there were any."""
        return self.store.forget(kind=_KIND, namespace=self.namespace, user=user)

    def returns(self) -> dict[str, Returns]:
        """Return what is known of each agent, by name; nothing while the store cannot be read."""
        try:
            rows = self.store.values(_KIND, self.namespace)
        except (sqlite3.Error, OSError) as error:
            self._say(
                "unread", f"What the strategy 'performance' has learned cannot be read: {error}"
            )
            return {}
        now, own_key = self._clock(), user_key(self.user) or None
        own: dict[str, _Verdicts] = {}
        others: dict[str, list[_Verdicts]] = {}
        for row in rows:
            found = _Verdicts.read(row.value).faded(now, self._half_life)
            if row.namespace != self.namespace or not found.n:
                continue
            if row.user == own_key:
                own[row.key] = found
            else:
                others.setdefault(row.key, []).append(found)
        known = [*own.values(), *(found for votes in others.values() for found in votes)]
        mean = sum(each.y / each.n for each in known) / len(known) if known else _QUALITY
        spread = max((each.absolute.spread for each in known), default=0.0)
        part = 1 / (1 + (spread / _STEADY) ** 2)
        return {
            agent: _returns(own.get(agent, _Verdicts()), others.get(agent, []), mean, part)
            for agent in sorted({*own, *others})
        }

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        """Return the priority of each agent, times what its return is beside the mean of all."""
        weights = self.known_weights(claims, self.returns())
        if weights is None:
            self._say(
                "unknown",
                f"The strategy 'performance' knows fewer than {_FEWEST:.0f} verdicts on agents of "
                f"the plan: agents weigh by priority. Give plan.run(performance=...) the same "
                f"Performance() each time, and verdicts to it: run.rate(agent, quality).",
            )
            return {claim.agent: claim.priority for claim in claims}
        return weights

    @staticmethod
    def known_weights(
        claims: Sequence[Claim], known: Mapping[str, Returns]
    ) -> Mapping[str, float] | None:
        """Return the weights that follow from *known* returns; ``None``: these are too few."""
        priorities = {claim.agent: claim.priority for claim in claims}
        returns = {name: found for name, found in known.items() if name in priorities}
        if sum(found.verdicts for found in returns.values()) < _FEWEST:
            return None
        level = sum(found.log_tokens for found in returns.values()) / len(returns)
        part = _mean(found.own_part for found in returns.values())
        blank = _returns(_Verdicts(), [], _mean(found.quality for found in returns.values()), part)
        worth = {
            name: found.slope * math.exp(found.own_part * _DEAR * (level - found.log_tokens))
            for name in priorities
            for found in [returns.get(name, blank._replace(log_tokens=level))]
        }
        mean = max(_mean(worth.values()), 1e-9)
        return {
            name: priorities[name] * min(max(value / mean, 1 / _MOST_RATIO), _MOST_RATIO)
            for name, value in worth.items()
        }

    def _say(self, what: str, message: str) -> None:
        """Say it once."""
        if what not in self._said:
            self._said.add(what)
            warnings.warn(message, TokenOptWarning, stacklevel=4)

    def explain(self) -> str:
        """Say what is known of each agent, a line each."""
        return "\n".join(
            f"{agent}: quality {found.quality:.2f}, and {found.slope * math.log(2):+.2f} with "
            f"twice its tokens ({counted(round(found.verdicts), 'verdict')})."
            for agent, found in self.returns().items()
        )


def _returns(own: _Verdicts, others: Sequence[_Verdicts], mean: float, part: float) -> Returns:
    """Return what is known of an agent: its own verdicts, beside one vote of each other user."""

    def believed(quality: float, most: float = 1.0) -> float:
        return part * _believed(quality) + (1 - part) * min(_believed(mean), most)

    votes = [_posterior(each, mean, believed(_shrunk(each, mean))) for each in others]
    prior_quality = (_FEW * mean + sum(vote.quality for vote in votes)) / (_FEW + len(votes))
    quality = _shrunk(own, prior_quality)
    own_slope = believed(quality, most=_MISSING * (1 - quality))
    slopes = _PRIOR_VOTES * own_slope + sum(vote.slope for vote in votes)
    found = _posterior(own, prior_quality, slopes / (_PRIOR_VOTES + len(votes)))
    if not own.n and votes:
        verdicts = sum(min(vote.verdicts, 1.0) for vote in votes)
        log_tokens = _mean(vote.log_tokens for vote in votes)
        found = found._replace(verdicts=verdicts, log_tokens=log_tokens)
    return found._replace(own_part=part)


def _posterior(own: _Verdicts, prior_quality: float, prior_slope: float) -> Returns:
    if not own.n:
        return Returns(0.0, prior_quality, prior_slope, 0.0)
    slope = max(_ridge(own.relative, 1.0, prior_slope), 0.0)
    slope = max(_ridge(own.absolute, _CONFOUNDED, slope), slope)
    return Returns(own.n, _shrunk(own, prior_quality), slope, own.log_tokens)


def _ridge(found: _Sums, counts: float, prior: float) -> float:
    return (counts * found.together + _RIDGE * prior) / (counts * found.spread + _RIDGE)


def _shrunk(own: _Verdicts, prior_quality: float) -> float:
    return (own.y + _FEW * prior_quality) / (own.n + _FEW)


def _believed(quality: float) -> float:
    """Return the slope that goes with a quality while there is no evidence of it."""
    return _SLOPE * quality * (1 - quality / 2)


UNKNOWN: Final = Returns(0.0, _QUALITY, _believed(_QUALITY), 0.0)
"""An agent of which there are no verdicts."""


def _mean(values: Iterable[float]) -> float:
    found = [*values]
    return sum(found) / len(found)
