"""Outcomes of earlier requests: kept, bounded, deleted, and turned into estimates.

Kept are numbers (``routing/vectors.py``), the tier, and how good its answer was; never a text.
Outcomes belong to one organization and agent, and are used for nobody else.
"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_tokenopt.routing.estimate import (
    NOTHING_KNOWN,
    Expected,
    Rows,
    Space,
    TierModel,
)
from langchain_tokenopt.routing.vectors import Vector
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedStore

__all__ = ["Knowledge", "Outcome", "Outcomes", "Owner"]

KIND: Final = "routing"
_MOST: Final = 2_000
"""Outcomes of one owner that are learned from: the latest."""
_OWNERS: Final = 64
"""Owners whose outcomes are in memory."""
_LEAST: Final = 16
"""Outcomes of a tier from which on it is estimated."""


class Owner(NamedTuple):
    """Whose outcomes they are."""

    namespace: str
    user: str | None = None


class Outcome(NamedTuple):
    """How good one tier's answer to one request was."""

    tier: str
    good: float
    vector: Vector


class Knowledge:
    """What is known of the tiers by one owner's outcomes, at one time."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.size = len(outcomes)
        counts: dict[str, int] = {}
        for outcome in outcomes:
            counts[outcome.tier] = counts.get(outcome.tier, 0) + 1
        known = {tier for tier, count in counts.items() if count >= _LEAST}
        sizes = [len(outcome.vector.features) for outcome in outcomes[-1:]]
        used = [  # those of an earlier release have other numbers
            one for one in outcomes if one.tier in known and [len(one.vector.features)] == sizes
        ]
        self._space = Space([outcome.vector for outcome in used]) if used else None
        self._models: dict[str, TierModel] = {}
        for tier in known if self._space else ():
            rows = [n for n, outcome in enumerate(used) if outcome.tier == tier]
            if len(rows) < _LEAST:
                continue
            good = np.array([used[n].good for n in rows], np.float64)
            assert self._space is not None
            self._models[tier] = TierModel(self._space.rows[rows], good)
        self.counts: Mapping[str, int] = counts
        self._gains: dict[tuple[str, str], NDArray[np.float64]] = {}

    def gains(
        self, vectors: Sequence[Vector], cheap: str, strong: str
    ) -> NDArray[np.float64] | None:
        """Return how much likelier the strong tier's answers are good; ``None``: not known."""
        if self._space is None or not {cheap, strong} <= self._models.keys():
            return None
        return self._gains_at(self._space.place(vectors), cheap, strong)

    def _gains_at(self, rows: Rows, cheap: str, strong: str) -> NDArray[np.float64]:
        return self._models[strong].means(rows) - self._models[cheap].means(rows)

    def rank(self, vector: Vector, cheap: str, strong: str) -> float | None:
        """Return which share of the known requests gain less by the strong tier."""
        gain = self.gains([vector], cheap, strong)
        if gain is None or self._space is None:
            return None
        known = self._gains.get((cheap, strong))
        if known is None:
            known = np.sort(self._gains_at(self._space.rows, cheap, strong))
            self._gains[cheap, strong] = known
        return float(np.searchsorted(known, gain[0])) / len(known)

    def expected(self, vector: Vector, tiers: Sequence[str]) -> dict[str, Expected]:
        """Return how likely each tier's answer to a request is good."""
        nothing = {
            tier: NOTHING_KNOWN._replace(outcomes=self.counts.get(tier, 0)) for tier in tiers
        }
        if self._space is None or len(vector.features) != self._space.size:
            return nothing
        row = self._space.place([vector])
        models = self._models
        return {t: models[t].expected(row) if t in models else nothing[t] for t in tiers}


class Outcomes:
    """The outcomes of a router, shared by threads.

    Args:
        path: A file; ``None`` keeps them in memory.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.store = LearnedStore(path)
        self._known: OrderedDict[str, OrderedDict[str, Outcome]] = OrderedDict()
        self._knowledge: dict[str, Knowledge] = {}
        self._told: dict[str, int] = {}
        """Outcomes since the last estimate; corrections count, and what pushes others out."""
        self._version: object = None
        self._is_empty = path is None
        self._lock = threading.RLock()

    @property
    def waits(self) -> bool:
        """Whether a file is read and written."""
        return self.store.path is not None

    def add(self, owner: Owner, call: str, tier: str, good: float, vector: Vector) -> None:
        """Take in one outcome; a later one of the same call and tier replaces it."""
        outcome = Outcome(tier, good, vector)
        key = hashlib.blake2b(f"{call} {tier}".encode(), digest_size=12).hexdigest()
        with self._lock:
            self._is_empty = False
            self._refresh()
            known = self._of(owner.namespace)
            known[key] = outcome
            known.move_to_end(key)
            while len(known) > _MOST:
                known.popitem(last=False)
            self.store.update(
                LearnedKey(KIND, owner.namespace, owner.user, key), lambda _: _written(outcome)
            )
            self._version = self.store.version()
            self._told[owner.namespace] = self._told.get(owner.namespace, 0) + 1
            self._fit(owner.namespace, known)

    def knowledge(self, namespace: str) -> Knowledge:
        """Return what is known by the outcomes of a namespace."""
        found = self._knowledge.get(namespace)
        if found is not None and not self.waits:
            return found
        with self._lock:
            if self._is_empty:  # nothing is opened for it: agents ask on event loops
                return self._knowledge.setdefault(namespace, Knowledge([]))
            self._refresh()
            self._fit(namespace, self._of(namespace))
            return self._knowledge[namespace]

    def forget(self, namespace: str, user: str) -> int:
        """Forget a user's, in the file as well; return how many outcomes."""
        return self._forgotten(self.store.forget(kind=KIND, namespace=namespace, user=user))

    def clear(self, namespace: str) -> int:
        """Forget everything in a namespace and those within."""
        return self._forgotten(self.store.forget(kind=KIND, namespace=namespace))

    def _forgotten(self, count: int) -> int:
        with self._lock:
            self._known.clear()
            self._knowledge.clear()
            self._version = self.store.version()
        return count

    def _refresh(self) -> None:
        """Read anew what another process has added or deleted."""
        version = self.store.version()
        if version != self._version:
            self._known.clear()
            self._knowledge.clear()
            self._version = version

    def _of(self, namespace: str) -> OrderedDict[str, Outcome]:
        known = self._known.get(namespace)
        if known is None:
            found = [v for v in self.store.values(KIND, namespace) if v.namespace == namespace]
            read = {value.key: _read(value.value) for value in found[-_MOST:]}
            known = OrderedDict((key, one) for key, one in read.items() if one is not None)
            self._known[namespace] = known
        self._known.move_to_end(namespace)
        while len(self._known) > _OWNERS:
            gone, _ = self._known.popitem(last=False)
            self._knowledge.pop(gone, None)
        return known

    def _fit(self, namespace: str, known: Mapping[str, Outcome]) -> None:
        """Estimate anew where that could change something: after a twentieth more outcomes."""
        fitted = self._knowledge.get(namespace)
        if fitted is None or self._told.get(namespace, 0) >= max(4, fitted.size // 20):
            self._told.pop(namespace, None)
            self._knowledge[namespace] = Knowledge([*known.values()])


def _written(outcome: Outcome) -> list[Any]:
    features = [round(float(value), 3) for value in outcome.vector.features]
    meaning = outcome.vector.meaning
    means = None if meaning is None else b64encode(meaning.astype("<f2").tobytes()).decode()
    return [outcome.tier, outcome.good, features, outcome.vector.words.tolist(), means]


def _read(value: Any) -> Outcome | None:
    """Read what :func:`_written` wrote; ``None`` for anything else."""
    try:
        tier, good, features, words, means = value
        meaning = None if means is None else np.frombuffer(b64decode(means), "<f2")
        vector = Vector(np.array(features, np.float32), np.array(words, np.int16), meaning)
        is_sound = isinstance(tier, str) and 0 <= good <= 1 and np.isfinite(vector.features).all()
    except (TypeError, ValueError, OverflowError):
        return None
    return Outcome(tier, float(good), vector) if is_sound else None
