"""What each user has needed before: which tiers were enough, and from which more was asked for.

A use after which nobody asks for more says that no more than that tier was needed, not how much
less would have done; one that ends after some asking says what was needed. So needs are estimated
as those of observations that are known within bounds, by expectation and maximization (B. W.
Turnbull, "The empirical distribution function with arbitrarily grouped, censored and truncated
data", Journal of the Royal Statistical Society B 38(3), 1976), beginning at what is believed of
strangers, which counts as much as :data:`_BELIEF` uses. Without that a user to whom much was sent
once would be sent much for ever. Older uses count less, and all half after a month.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from langchain_tokenopt.core.argument_checks import is_amount
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore

__all__ = ["KIND", "TierHistory", "Uses"]

KIND: Final = "tiers"
_BELIEF: Final = 8.0
"""Uses that what is believed of strangers counts as. Chosen, as :data:`_FADE`, by cases that are
not among those of ``tests/benchmarks/context_tiers.py``."""
_FADE: Final = 0.97
"""What is left of earlier uses at each new one: the latest 33 count."""
_HALF_LIFE_SECONDS: Final = 30 * 86_400.0
_MOST: Final = 1 / (1 - _FADE) + 1
"""What all uses count at most."""
_ROUNDS: Final = 20
"""Of the estimate."""


class Uses(NamedTuple):
    """What is known of a user and a kind of task. Older uses count less."""

    within: tuple[float, ...]
    """Uses that began with each tier, and in which nobody asked for more."""
    exact: tuple[float, ...]
    """Uses in which each tier was asked for, and was enough then."""
    at: float = 0.0

    @property
    def number(self) -> float:
        """How many there were."""
        return sum(self.within) + sum(self.exact)

    @classmethod
    def read(cls, value: object, tiers: Sequence[str]) -> Uses:
        """Read a stored value; none for what this release does not write, or of other tiers."""
        none = cls((0.0,) * len(tiers), (0.0,) * len(tiers))
        if not isinstance(value, dict) or value.get("tiers") != [*tiers]:
            return none
        found = [value.get("within"), value.get("exact")]
        if not is_amount(value.get("at")) or not all(
            isinstance(each, list)
            and len(each) == len(tiers)
            and all(is_amount(n) and n <= _MOST for n in each)
            for each in found
        ):
            return none
        return cls(tuple(value["within"]), tuple(value["exact"]), float(value["at"]))

    def faded(self, now: float, left: float = 1.0) -> Uses:
        """Return what is left of them. A clock that was set back counts as no time at all."""
        left *= math.pow(0.5, max(0.0, now - self.at) / _HALF_LIFE_SECONDS)
        return Uses(tuple(n * left for n in self.within), tuple(n * left for n in self.exact), now)

    def with_use(self, tier: int) -> Uses:
        """Return them with one more, that begins with *tier*."""
        return self._replace(within=_added(self.within, tier, 1.0))

    def with_more(self, tier: int, then: int, *, is_first: bool) -> Uses:
        """Return them once more was asked for than *tier*, and *then* was sent."""
        if is_first:
            within, exact = _added(self.within, tier, -1.0), self.exact
        else:
            within, exact = self.within, _added(self.exact, tier, -1.0)
        return self._replace(within=within, exact=_added(exact, then, 1.0))

    def chances(self, believed: Sequence[float]) -> list[float]:
        """Return with what chance each tier is enough.

        Args:
            believed: The same, of strangers; they rise to 1.
        """
        before = [high - low for low, high in pairwise([0.0, *believed])]
        needs, number = before, _BELIEF + self.number
        for _ in range(_ROUNDS if self.number else 0):
            enough = [*accumulate(needs)]
            of_each = [
                n / chance if chance else 0.0 for n, chance in zip(self.within, enough, strict=True)
            ]
            needs = [
                (_BELIEF * before[at] + self.exact[at] + need * sum(of_each[at:])) / number
                for at, need in enumerate(needs)
            ]
        return [min(1.0, chance) for chance in accumulate(needs)]


def _added(counts: tuple[float, ...], at: int, amount: float) -> tuple[float, ...]:
    return (*counts[:at], max(0.0, counts[at] + amount), *counts[at + 1 :])


class TierHistory:
    """What was needed, by user and kind of task; names of users are hashed, contents are not kept.

    Args:
        store: Keeps it.
        namespace: Application, in the store.
        tiers: Names of the tiers, smallest first.
        clock: Seconds since 1970.

    Example:
        >>> history = TierHistory(LearnedStore(), "", ("short", "whole"))
        >>> [round(chance, 1) for chance in history.uses("ann", "facts").chances([0.8, 1.0])]
        [0.8, 1.0]
        >>> for _ in range(20):
        ...     history.sent("ann", "facts", 0)
        ...     history.asked_for_more("ann", "facts", 0, 1, is_first=True)
        >>> [round(chance, 1) for chance in history.uses("ann", "facts").chances([0.8, 1.0])]
        [0.3, 1.0]
        >>> [round(chance, 1) for chance in history.uses("bob", "facts").chances([0.8, 1.0])]
        [0.8, 1.0]
    """

    def __init__(
        self,
        store: LearnedStore,
        namespace: str,
        tiers: Sequence[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._namespace, self._tiers, self._clock = namespace, (*tiers,), clock

    def uses(self, user: str | None, task: str) -> Uses:
        """Return what is known."""
        found = Uses.read(self.store.get(self._key(user, f"task {task}")), self._tiers)
        return found.faded(self._clock())

    def sent(self, user: str | None, task: str, tier: int) -> None:
        """Take note of a use: *tier* was sent first, and is enough as long as nobody asks."""
        self._update(user, task, lambda uses: uses.with_use(tier), _FADE)

    def asked_for_more(
        self, user: str | None, task: str, tier: int, then: int, *, is_first: bool
    ) -> None:
        """Take note that *tier*, with which a use began or not, was not enough, but *then*."""
        self._update(user, task, lambda uses: uses.with_more(tier, then, is_first=is_first))

    def reached(self, user: str | None, use: str) -> int | None:
        """Return the tier that the same content needed for the same question; ``None``: unknown."""
        found = self.store.get(self._key(user, f"use {use}"))
        return self._tiers.index(found) if found in self._tiers else None

    def reach(self, user: str | None, use: str, tier: int) -> None:
        """Remember that.

        Args:
            user: Whose it is.
            use: A hash of the content and the question.
            tier: Which was needed.
        """
        self.store.update(self._key(user, f"use {use}"), lambda _: self._tiers[tier])

    def forget(self, user: str) -> int:
        """Forget a user; return how many values there were."""
        return self.store.forget(kind=KIND, namespace=self._namespace, user=user)

    def clear(self) -> int:
        """Forget all users."""
        return self.store.forget(kind=KIND, namespace=self._namespace)

    def _key(self, user: str | None, key: str) -> LearnedKey:
        return LearnedKey(KIND, self._namespace, user or None, key)

    def _update(
        self, user: str | None, task: str, change: Callable[[Uses], Uses], left: float = 1.0
    ) -> None:
        now = self._clock()

        def changed(value: object) -> dict[str, object]:
            made = change(Uses.read(value, self._tiers).faded(now, left))
            return {
                "tiers": [*self._tiers],
                "within": [round(n, 4) for n in made.within],
                "exact": [round(n, 4) for n in made.exact],
                "at": round(now),
            }

        self.store.update(self._key(user, f"task {task}"), changed)
