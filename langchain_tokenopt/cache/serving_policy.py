"""Serve the stored answer, or ask the model?

From the neighbours of a question comes the probability that the stored answer is the right one:
how near the best neighbour is, how far behind the best one with *another* answer is, how crowded
the neighbourhood of both is, whether the next neighbours agree, what the words have in common.
A probability alone keeps no promise, so the threshold on it is set by evidence: a stored answer is
served only where the share of wrong answers per request, with a one-sided confidence bound, stays
within ``max_wrong_per_request``.

Evidence is free. Whenever the model is asked although there was a near neighbour, the true answer
arrives and says whether the stored one would have been right. Served answers are not checked that
way, so a small random share of them is asked anyway. Whether a request is asked depends on its
score alone, so within a narrow band of scores the checked requests stand for the others; the bound
is stratified over such bands (post-stratification), with the exact binomial bound of Clopper and
Pearson (1934) at the effective sample size. A label is scored by a model that has not seen it
(cross-fitting). Until a band has evidence of its own, a prior stands in for it. Thresholds are
tried from the safest down and the first that fails ends the search, so trying many costs no
confidence (fixed-sequence testing; Angelopoulos et al., Learn then Test, 2021).

Where several processes share a cache, each tells the others what it was asked as well as what came
out (:meth:`ServingPolicy.take_asked`), so the shares of traffic on which the bound stands are those
of all of them. What has not been told yet is missing from both, the requests and their bands.

One policy knows one field (``fields.py``). The prior may be wrong there, so the field starts with
nothing served; how much more often the prior is wrong here than it says is counted on all labels
and multiplies what it says where no label is. Each kind of difference needs labels of its own, and
labels where it stood alone before it is served alone.

What is bounded is the rate of wrong answers as ``same_answer`` judges them, on traffic
like that of the last few thousand requests, as far as the prior is right where evidence is thin.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from langchain_tokenopt.cache.evidence import EvidenceWindow
from langchain_tokenopt.cache.features import FEATURES
from langchain_tokenopt.cache.probability import AnswerModel
from langchain_tokenopt.cache.score_bands import (
    EDGES,
    PRIOR_REQUESTS,
    Band,
    Estimate,
    band_of,
    estimate_of,
    lowest_safe,
    prior_share,
    prior_wrong,
    sigmoid,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Judgement", "ServingPolicy"]

WINDOW = 4_000
"""Requests and labels that evidence is taken from."""
LOOK_EVERY = 10
"""Requests after which the shares of traffic are counted anew; labels count at once."""
MIN_LABELS = 8
"""Labels, of pairs that the model takes to be right, before anything is served in a field."""
STRANGE = 1.5, 0.1
"""Wrong labels, and such as were to be expected, that every field starts with: before it shows how
it is, a field is taken to be wrong fifteen times as often as the model says."""
FIT_EVERY = 50
"""New labels, at least, between two fits of the model; a tenth of all labels when that is more."""
DRIFT_LABELS = 150
DRIFT_SIGMAS = 4.0
KIND_LABELS = 3
"""Labels of a kind of difference before one is served in spite of it."""
KIND_STRANGE = 2.0
"""A kind is wrong at most so many times as often as the model expects, and once more."""
_ANY_WORDS = frozenset(["word"])
_EARLY_AUDITS = 30
_EARLY_FACTOR = 2.0
"""So many audits are made this much more often, to learn soon whether the prior can be trusted."""


_FRAME = frozenset(["question", "person", "tense", "relation", "modal", "quantifier", "negation"])
"""Kinds of words that say nothing of what a question is about."""
_TELLING = frozenset(["modal", "quantifier", "negation"])
"""Those that say what is asked about it."""
_ALONE = "only "


def _evidence_of(kinds: frozenset[str]) -> list[str]:
    """Return the kinds that need evidence; where one is all the difference, evidence of that.

    "May I?" and "Must I?" say the same in questions that are put in other words altogether; where
    all other words are equal, they are what is asked.
    """
    alone = kinds if len(kinds) == 1 else kinds & _TELLING if kinds <= _FRAME else frozenset()
    return [*sorted(kinds), *(_ALONE + kind for kind in sorted(alone))]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do about one request with a near neighbour."""

    probability: float
    """That the stored answer is right, as the model sees it."""
    threshold: float
    """The same, from which on stored answers are served at present."""
    serve: bool
    audit: bool
    """Would be served, but is asked to check."""
    closed: str = ""
    """A kind of difference that has not been seen to be harmless here."""


class ServingPolicy:
    """Decides by evidence, and gathers it. Called under the cache's lock.

    Args:
        max_wrong_per_request: The promise: wrong answers per request, at most.
        audit_share: Share of hits that are asked anyway.
        rng: Draws the audits.
        confidence: Of the bound, one-sided.

    Raises:
        ValueError: If a share is not between 0 and 1.
    """

    def __init__(
        self,
        *,
        max_wrong_per_request: float = 0.01,
        audit_share: float = 0.02,
        rng: random.Random | None = None,
        confidence: float = 0.95,
    ) -> None:
        for name, share in (
            ("max_wrong_per_request", max_wrong_per_request),
            ("audit_share", audit_share),
        ):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"{name} must be from 0 to below 1, got {share}")
        self.max_wrong_per_request = max_wrong_per_request
        self.audit_share = audit_share
        self.confidence = confidence
        self._forget_evidence()
        self.drifts = 0
        """How often drift has made earlier evidence count no more."""
        self._rng = rng or random.Random()

    def _forget_evidence(self) -> None:
        self.model = AnswerModel()
        self._halves = (AnswerModel(), AnswerModel())
        self._asked = EvidenceWindow(WINDOW)
        self._labels = EvidenceWindow(WINDOW)
        self._learned = self._fitted_at = 0
        self.requests = 0
        self._told_requests = self._untold_rows = 0
        self._audits = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=DRIFT_LABELS)
        self._seen: deque[tuple[Sequence[str], float]] = deque()
        self._kinds: dict[str, tuple[int, float]] = {}
        self._due = 0
        self._is_stale = True
        self._bands: list[Band] = []
        self._threshold = 0.0

    # Deciding

    def count(self) -> None:
        """Count a request of the field, whether or not there is something to decide."""
        self.requests += 1

    def judge(self, features: NDArray[np.float64], kinds: frozenset[str] = _ANY_WORDS) -> Judgement:
        """Decide about a request with a near neighbour, which has been counted."""
        logit = self._logit(features)
        self._take_asked(features, logit, is_ours=True)
        judgement = self._judgement(logit, kinds)
        if judgement.serve and self._rng.random() < self._present_audit_share():
            self._audits += 1
            return replace(judgement, serve=False, audit=True)
        return judgement

    def _take_asked(self, features: NDArray[np.float64], logit: float, *, is_ours: bool) -> None:
        self._asked.add(features, logit, self.requests, right=is_ours)
        self._untold_rows += 1
        self._is_stale = self._is_stale or self.requests >= self._due

    def _present_audit_share(self) -> float:
        early = self._audits < _EARLY_AUDITS
        return self.audit_share * _EARLY_FACTOR if early else self.audit_share

    def peek(self, features: NDArray[np.float64], kinds: frozenset[str] = _ANY_WORDS) -> Judgement:
        """Say what :meth:`judge` would decide, without taking note of it or auditing it."""
        return self._judgement(self._logit(features), kinds)

    def _logit(self, features: NDArray[np.float64]) -> float:
        return float(self.model.logits(features[None])[0])

    def _judgement(self, logit: float, kinds: frozenset[str]) -> Judgement:
        if self._is_stale:
            self._calibrate()
        serve = logit >= self._threshold
        shut = (kind for kind in _evidence_of(kinds) if not self._is_open(kind))
        closed = next(shut, "") if serve else ""
        serve = serve and not closed
        return Judgement(sigmoid(logit), sigmoid(self._threshold), serve, False, closed)

    def learn(
        self,
        features: NDArray[np.float64],
        right: bool,
        kinds: frozenset[str] = _ANY_WORDS,
        *,
        audit: bool = False,
    ) -> None:
        """Take in whether the stored answer would have been right.

        Args:
            features: As they were judged.
            right: What came out.
            kinds: Of the differences between both questions.
            audit: Whether it would have been served, and was asked by chance.
        """
        logit = self._logit(features)
        self._recent.append((self._calibrated(logit), right))
        self._learned += 1
        if logit >= 0:
            self._see_kinds(_evidence_of(kinds), (not right) - KIND_STRANGE * sigmoid(-logit))
        self._labels.add(features, logit, self._learned, right=right, audit=audit)
        self._is_stale = True
        if self._has_drifted():
            self._give_up_evidence()

    def estimate(self) -> Estimate:
        """Return what the evidence says about the present threshold."""
        if self._is_stale:
            self._calibrate()
        served = [band for band in self._bands if band.floor >= self._threshold]
        return estimate_of(served, self._threshold, self.confidence)

    @property
    def labels(self) -> int:
        """Checked requests in the window."""
        return len(self._labels)

    @property
    def wrong_labels(self) -> int:
        """Those of them whose stored answer was wrong."""
        return int((~self._labels.right).sum())

    # Evidence

    def take_asked(self) -> tuple[int, NDArray[np.float64]]:
        """Return, once, how many requests came to this process, and the features of those judged.

        Those that came while nobody could be told for a whole window are passed over.
        """
        rows = self._asked.last(self._untold_rows)
        requests, is_whole = self.requests - self._told_requests, self._untold_rows <= WINDOW
        self._told_requests, self._untold_rows = self.requests, 0
        return (
            (requests, self._asked.features[rows][self._asked.right[rows]])
            if is_whole
            else (
                0,
                np.empty((0, len(FEATURES))),
            )
        )

    def restore_asked(self, requests: int, rows: Sequence[Sequence[float]]) -> None:
        """Count requests that came to another process, as :meth:`take_asked` has returned them.

        Raises:
            ValueError: If they are none.
        """
        judged = np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES))
        if type(requests) is not int or len(judged) > requests or not np.isfinite(judged).all():
            raise ValueError("no requests")
        self.requests += requests
        self._told_requests += requests
        for features, logit in zip(judged, self.model.logits(judged), strict=True):
            self._take_asked(features, float(logit), is_ours=False)
        self._is_stale = self._is_stale or self.requests >= self._due

    def restore(
        self, features: Sequence[float], right: bool, audit: bool, kinds: Sequence[str]
    ) -> None:
        """Learn from a label that was written to a file.

        Raises:
            ValueError: If it is none.
        """
        row = np.array(features, dtype=np.float64)
        if row.shape != (len(FEATURES),) or not np.isfinite(row).all():
            raise ValueError("no label")
        self.learn(row, bool(right), frozenset(map(str, kinds)), audit=bool(audit))
        self._audits += bool(audit)

    def _refit(self) -> None:
        """Fit the model to the labels, and score every label by one that has not seen it.

        Two models are fitted to every other label each. The mean of both decides; a label is
        scored by the one that it was kept from. A model that is judged by what it was fitted to
        finds itself better than it is.
        """
        labels = self._labels
        self._fitted_at = self._learned
        odd = labels.number % 2 == 1
        for half, seen in zip(self._halves, (odd, ~odd), strict=True):
            half.fit(labels.features[seen], labels.right[seen])
        self.model.weights = np.mean([half.weights for half in self._halves], axis=0)
        on_odd, on_even = self._halves
        labels.logits = np.where(
            odd, on_even.logits(labels.features), on_odd.logits(labels.features)
        )
        self._asked.logits = self.model.logits(self._asked.features)

    def _calibrate(self) -> None:
        """Find the lowest threshold that keeps the promise, from what is known in this field.

        How often the prior is wrong here, as a multiple of what it says, is counted on all labels
        that it takes to be more right than wrong. Before there are enough nothing is served.
        """
        self._is_stale = False
        self._due = self.requests + LOOK_EVERY
        if self._learned - self._fitted_at >= max(FIT_EVERY, len(self._labels) // 10):
            self._refit()
        right = self._labels.right
        bands = band_of(self._labels.logits)
        size = len(EDGES) + 1
        counts = np.bincount(band_of(self._asked.logits), minlength=size)
        checked = np.bincount(bands, minlength=size)
        wrong = np.bincount(bands[~right], minlength=size)
        caution = self._caution()
        requests = self.requests - (self._asked.oldest if self._asked.is_full else 0)
        self._bands = [
            Band(
                floor=float(EDGES[band - 1]) if band else -math.inf,
                share=(int(counts[band]) + PRIOR_REQUESTS * prior_share(band))
                / (requests + PRIOR_REQUESTS),
                checked=int(checked[band]),
                wrong=int(wrong[band]),
                prior=min(1.0, caution * prior_wrong(band)),
            )
            for band in range(size - 1, -1, -1)
        ]
        self._threshold = lowest_safe(self._bands, self.max_wrong_per_request, self.confidence)
        if int((self._labels.logits >= 0).sum()) < MIN_LABELS:
            self._threshold = math.inf

    def _is_open(self, kind: str) -> bool:
        """Say whether a kind of differences has been seen to be harmless here."""
        seen, surplus = self._kinds.get(kind, (0, 0.0))
        needed = MIN_LABELS if kind.startswith(_ALONE) else KIND_LABELS
        return seen >= needed and surplus <= 1

    def _see_kinds(self, kinds: Sequence[str], surplus: float) -> None:
        """Take in how much more wrong than expected differences of some kinds were."""
        self._seen.append((kinds, surplus))
        self._add_to_kinds(kinds, 1, surplus)
        if len(self._seen) > WINDOW:
            kinds, surplus = self._seen.popleft()
            self._add_to_kinds(kinds, -1, -surplus)

    def _add_to_kinds(self, kinds: Sequence[str], seen: int, surplus: float) -> None:
        for kind in kinds:
            before = self._kinds.get(kind, (0, 0.0))
            self._kinds[kind] = before[0] + seen, before[1] + surplus

    def _caution(self) -> float:
        """Return how many times as often as the model says it is wrong in this field."""
        likely = self._labels.logits >= 0
        predicted = float((1 / (1 + np.exp(self._labels.logits[likely]))).sum())
        return max(
            1.0, (int((~self._labels.right[likely]).sum()) + STRANGE[0]) / (predicted + STRANGE[1])
        )

    def _calibrated(self, logit: float) -> float:
        """Return the probability of being right in the band of *logit*."""
        if not self._bands:
            self._calibrate()
        band = self._bands[len(EDGES) - int(band_of(logit))]
        return 1.0 - band.wrong_share

    def _has_drifted(self) -> bool:
        """Compare what was predicted with what came, over the last labels."""
        if len(self._recent) < DRIFT_LABELS:
            return False
        expected = sum(1.0 - p for p, _ in self._recent)
        variance = sum(p * (1.0 - p) for p, _ in self._recent)
        wrong = sum(not right for _, right in self._recent)
        return wrong - expected > DRIFT_SIGMAS * math.sqrt(variance + 1.0)

    def _give_up_evidence(self) -> None:
        self.drifts += 1
        self._labels.keep_last(DRIFT_LABELS)
        self._recent.clear()
        self._refit()
        self._calibrate()
